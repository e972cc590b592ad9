package archive

import (
	"archive/tar"
	"encoding/binary"
	"slices"
	"testing"

	"postern/filter/unpack/specimen"
)

func fuzzReader(f *testing.F, kind string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { specimen.Fuzz(t, Readers[kind], search, data) })
}

func FuzzTar(f *testing.F) {
	fuzzReader(f, "tar", specimen.Tar(tar.Header{Name: "evil.exe"}), specimen.Concat(specimen.Pax("path=a", "GNU.sparse.major=1", "GNU.sparse.minor=0"), specimen.TarHeader("b", 'S', 400), specimen.Padded(specimen.Evil, 512)))
}

func FuzzGzip(f *testing.F) {
	fuzzReader(f, "gz", specimen.Concat(specimen.Gzip(specimen.Evil), specimen.Gzip(specimen.Evil)))
}

func FuzzBzip2(f *testing.F) {
	fuzzReader(f, "bz2", specimen.Bzip2Hello, specimen.Concat(specimen.Bzip2Hello, specimen.Bzip2Hello, specimen.Evil))
}

func FuzzXZ(f *testing.F) {
	fuzzReader(f, "xz", specimen.Concat(specimen.XZ(specimen.Evil), specimen.XZ(specimen.Evil)), specimen.XZHuge()[:400])
}

func FuzzLZMA(f *testing.F) { fuzzReader(f, "lzma", specimen.LZMA(specimen.Evil)) }

func FuzzZstd(f *testing.F) { fuzzReader(f, "zst", specimen.Zstd(specimen.Evil)) }

func FuzzCompress(f *testing.F) { fuzzReader(f, "Z", specimen.Compress(specimen.Evil)) }

func Fuzz7z(f *testing.F) {
	fuzzReader(f, "7z", specimen.SevenZip("evil.exe", specimen.Evil, false, false), specimen.SevenZip("e", specimen.Evil, true, false), specimen.SevenZip("e", specimen.Evil, false, true), specimen.SevenZipHuge())
}

func FuzzRar(f *testing.F) {
	fuzzReader(f, "rar", specimen.RAR5("evil.exe", specimen.Evil, false), specimen.RAR5("e", specimen.Evil, true), specimen.RAR5Locked("e", specimen.Evil, "infected", 5, false), specimen.RAR5Locked("e", specimen.Evil, "infected", 5, true))
}

func FuzzCab(f *testing.F) {
	fuzzReader(f, "cab", specimen.Cab("evil.exe", specimen.Evil, specimen.CabMSZip), specimen.Cab("evil.exe", specimen.Evil, specimen.CabLZX|15<<8))
}

func FuzzLHA(f *testing.F) {
	fuzzReader(f, "lha", specimen.LHA("evil.exe", "-lh5-", specimen.LH5(specimen.Evil), len(specimen.Evil)))
}

func FuzzARJ(f *testing.F) {
	fuzzReader(f, "arj", specimen.ARJ("evil.exe", 1, 0, specimen.LH5(specimen.Evil), len(specimen.Evil)))
}

// FuzzISO gets the beginnings of the sectors behind the empty ones, since a
// fuzzer finds nothing in tens of kilobytes of zeros.
func FuzzISO(f *testing.F) {
	const empty, begin = 16, 256
	for _, img := range [][]byte{specimen.ISO("OK.TXT", "evil.exe", specimen.Evil), specimen.ISO("OK.TXT", "", specimen.Evil), specimen.ISOWithRockRidge("OK.TXT", "evil.exe", specimen.Evil)} {
		var seed []byte
		for s := range slices.Chunk(img[empty*specimen.IsoSector:], specimen.IsoSector) {
			seed = append(seed, s[:begin]...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		img := make([]byte, empty*specimen.IsoSector)
		for s := range slices.Chunk(data[:min(len(data), 64*begin)], begin) {
			img = append(img, specimen.Padded(s, specimen.IsoSector)...)
		}
		specimen.Fuzz(t, Readers["iso"], search, img)
	})
}

func FuzzScript(f *testing.F) {
	fuzzReader(f, "sh", specimen.Concat([]byte("#!/bin/sh\n"), specimen.Gzip(specimen.Evil)))
}

func FuzzCpio(f *testing.F) {
	fuzzReader(f, "cpio", specimen.Newc("evil.exe", 0o100644, specimen.Evil), specimen.ODC("evil.exe", specimen.Evil), specimen.OldCpio(binary.BigEndian, "evil.exe", specimen.Evil))
}

func FuzzAr(f *testing.F) {
	fuzzReader(f, "a", specimen.Ar("#1/8", append([]byte("evil.exe"), specimen.Evil...)))
}

func FuzzRPM(f *testing.F) { fuzzReader(f, "rpm", specimen.RPM(specimen.Evil)) }

func FuzzCHM(f *testing.F) { fuzzReader(f, "chm", specimen.CHM("/evil.exe", specimen.Evil)) }

func FuzzProgram(f *testing.F) {
	fuzzReader(f, "exe", specimen.SetupProgram(specimen.SetupFiles("evil.exe", specimen.Evil)), specimen.SetupProgram([]byte("InstallShield\x00")), specimen.SetupProgram(specimen.NSIS(specimen.Evil)), specimen.Concat(specimen.Program, specimen.Cab("evil.exe", specimen.Evil, specimen.CabMSZip)))
}
