package unpack

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"

	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func tarCorners() []trick {
	as := fileTrick
	header := func(change func([]byte)) []byte {
		b := specimen.TarHeader("a.dat", '0', len(specimen.Payload))
		change(b)
		copy(b[148:], "        ")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return specimen.Concat(b, specimen.Padded(specimen.Payload, filetype.TarBlock), make([]byte, 1024))
	}
	sparse := func() []byte { // GNU 1.0: the map stands before the data
		m := specimen.Padded(fmt.Appendf(nil, "1\n0\n%d\n", len(specimen.Payload)), filetype.TarBlock)
		pax := specimen.Pax("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=a.dat", fmt.Sprintf("GNU.sparse.realsize=%d", len(specimen.Payload)))
		return specimen.Concat(pax, specimen.TarHeader("GNUSparseFile.0/a.dat", '0', len(m)+len(specimen.Payload)), m, specimen.Padded(specimen.Payload, filetype.TarBlock), make([]byte, 1024))
	}
	linked := func(flag byte) []byte {
		return header(func(b []byte) { b[156] = flag; copy(b[157:], "/etc/passwd") })
	}
	return []trick{
		as("E50", "tar of Unix V7", found, "a.tar", header(func(b []byte) { clear(b[257:]) })),
		as("E51", "tar, size in base 256", found, "a.tar", header(func(b []byte) { clear(b[124:136]); b[124] = 0x80; copy(b[132:], []byte{0, 0, 1, 0x90}) })),
		as("E52", "tar, size of blanks", either, "a.tar", header(func(b []byte) { copy(b[124:136], "            ") })),
		as("E53", "tar, size negative", either, "a.tar", header(func(b []byte) { copy(b[124:136], bytes.Repeat([]byte{0xff}, 12)) })),
		as("E54", "tar, hard link with content", either, "a.tar", linked('1')),
		as("E55", "tar, symbolic link with content", either, "a.tar", linked('2')),
		as("E56", "tar, device with content", either, "a.tar", linked('3')),
		as("E57", "tar, directory with content", either, "a.tar", linked('5')),
		as("E58", "tar, kind that nobody knows", found, "a.tar", linked('Z')),
		as("E59", "tar, kind of the next volume", found, "a.tar", linked('M')),
		as("E60", "tar, kind of a volume name with content", either, "a.tar", linked('V')),
		as("E61", "tar, GNU sparse 1.0", found, "a.tar", sparse()),
		as("E62", "tar, header sum of signed octets", found, "a.tar", func() []byte {
			return header(func(b []byte) { b[0] = 'a' })
		}()),
		as("E63", "tar behind an empty block", either, "a.tar", specimen.Concat(make([]byte, 512), tarPayload("a.dat"))),
		as("E64", "tar, global header of another name", either, "a.tar", func() []byte {
			p := specimen.Pax("path=ok.txt")
			p[156] = 'g'
			copy(p[148:], "        ")
			sum := 0
			for _, c := range p[:512] {
				sum += int(c)
			}
			copy(p[148:], fmt.Sprintf("%06o\x00 ", sum))
			return specimen.Concat(p, tarPayload("a.dat"))
		}()),
	}
}

func streamCorners() []trick {
	as := fileTrick
	gzWith := func(change func(*gzip.Writer)) []byte {
		return specimen.Pack(specimen.Payload, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); change(z); return z })
	}
	headerSum := func(data []byte) []byte { // FHCRC
		h := append(bytes.Clone(data[:10]), 0, 0)
		h[3] |= 2
		binary.LittleEndian.PutUint16(h[10:], uint16(crc32.ChecksumIEEE(h[:10])))
		return append(h, data[10:]...)
	}
	table := func() []byte {
		names := []byte("a-name-of-more-than-sixteen.dat/\n")
		return specimen.Concat([]byte("!<arch>\n"), fmt.Appendf(nil, "%-48s%-10d`\n%s ", "//", len(names), names)[:60+len(names)+1], fmt.Appendf(nil, "%-48s%-10d`\n", "/0", len(specimen.Payload)), specimen.Payload)
	}
	lzip := func() []byte {
		l := specimen.LZMA(specimen.Payload)
		return specimen.Concat([]byte("LZIP\x01\x0c"), l[13:], specimen.AppendLE(nil, int(crc32.ChecksumIEEE(specimen.Payload)), 4, len(specimen.Payload), 8, len(l)+13, 8))
	}
	return []trick{
		as("E65", "gzip with all header fields", found, "a.gz", gzWith(func(z *gzip.Writer) { z.Name, z.Comment, z.Extra = "a.dat", "x", make([]byte, 1000) })),
		as("E66", "gzip with a sum of its header", found, "a.gz", headerSum(specimen.Gzip(specimen.Payload))),
		as("E67", "gzip with a wrong sum of its header", either, "a.gz", func() []byte { b := headerSum(specimen.Gzip(specimen.Payload)); b[10] ^= 1; return b }()),
		as("E68", "gzip with junk behind", found, "a.gz", specimen.Concat(specimen.Gzip(specimen.Payload), []byte("some junk"))),
		as("E69", "gzip with zeros and another gzip behind", found, "a.gz", specimen.Concat(specimen.Gzip([]byte("x")), make([]byte, 512), specimen.Gzip(specimen.Payload))),
		as("E70", "gzip cut", either, "a.gz", specimen.Gzip(append(bytes.Clone(specimen.Payload), bytes.Repeat([]byte("x"), 5000)...))[:200]),
		as("E71", "gzip, wrong checksum", either, "a.gz", func() []byte { b := specimen.Gzip(specimen.Payload); b[len(b)-5] ^= 1; return b }()),
		as("E72", "gzip, reserved flags", either, "a.gz", func() []byte { b := specimen.Gzip(specimen.Payload); b[3] = 0xe0; return b }()),
		as("E73", "gzip, other method", either, "a.gz", func() []byte { b := specimen.Gzip(specimen.Payload); b[2] = 7; return b }()),
		as("E74", "cpio odc", found, "a.cpio", specimen.Concat(specimen.ODC("a.dat", specimen.Payload), specimen.ODC("TRAILER!!!", nil))),
		as("E75", "cpio crc", found, "a.cpio", bytes.Replace(specimen.Concat(specimen.Newc("a.dat", 0o100644, specimen.Payload), specimen.Newc("TRAILER!!!", 0, nil)), []byte("070701"), []byte("070702"), 2)),
		as("E76", "cpio of PDP-11", found, "a.cpio", specimen.Concat(specimen.OldCpio(binary.LittleEndian, "a.dat", specimen.Payload), specimen.OldCpio(binary.LittleEndian, "TRAILER!!!", nil))),
		as("E77", "cpio big endian", found, "a.cpio", specimen.Concat(specimen.OldCpio(binary.BigEndian, "a.dat", specimen.Payload), specimen.OldCpio(binary.BigEndian, "TRAILER!!!", nil))),
		as("E78", "cpio, trailer first", either, "a.cpio", specimen.Concat(specimen.Newc("TRAILER!!!", 0, nil), specimen.Newc("a.dat", 0o100644, specimen.Payload))),
		as("E79", "ar with long names of BSD", found, "a.a", specimen.Ar("#1/5", append([]byte("a.dat"), specimen.Payload...))),
		as("E80", "ar with long names of GNU", found, "a.a", table()),
		as("E81", "Debian package", found, "a.deb", specimen.Concat(specimen.Ar("debian-binary", []byte("2.0\n")), specimen.Ar("data.tar.xz", specimen.XZ(tarPayload("a.dat")))[8:])),
		as("E82", "xz of two streams with padding", found, "a.xz", specimen.Concat(specimen.XZ(nil), make([]byte, 8), specimen.XZ(specimen.Payload))),
		as("E83", "xz with odd padding", either, "a.xz", specimen.Concat(specimen.XZ([]byte("x")), make([]byte, 7), specimen.XZ(specimen.Payload))),
		as("E84", "xz behind an empty stream", found, "a.xz", specimen.Concat(specimen.XZ(nil), specimen.XZ(specimen.Payload))),
		as("E85", "zstd behind a skippable frame", found, "a.zst", specimen.Concat([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), specimen.Zstd(specimen.Payload))),
		as("E86", "zstd with a skippable frame between", found, "a.zst", specimen.Concat(specimen.Zstd(nil), []byte("\x5f\x2a\x4d\x18\x00\x00\x00\x00"), specimen.Zstd(specimen.Payload))),
		as("E87", "zstd of version 0.7", either, "a.zst", specimen.Concat([]byte("\x27\xb5\x2f\xfd"), specimen.Zstd(specimen.Payload)[4:])),
		as("E88", "lz4 behind a skippable frame", either, "a.lz4", specimen.Concat([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), specimen.Must(os.ReadFile("testdata/archives/a.lz4")))),
		as("E89", "lzip", either, "a.lz", lzip()),
		as("E90", "zlib stream", either, "a.zz", specimen.Pack(specimen.Payload, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })),
		as("E91", "bare deflate stream named .zip", either, "a.zip", specimen.Pack(specimen.Payload, func(w io.Writer) io.WriteCloser { return specimen.Must(flate.NewWriter(w, 9)) })),
		as("E92", "pack of Unix", either, "a.z", specimen.Concat([]byte("\x1f\x1e"), specimen.Payload)),
		as("E93", "brotli", either, "a.br", specimen.Concat([]byte("\x0b\xc7\x80"), specimen.Payload, []byte{3})),
		as("E94", "snappy", either, "a.sz", specimen.Concat([]byte("\xff\x06\x00\x00sNaPpY\x01\x94\x01\x00\x00\x00\x00"), specimen.Payload)),
		as("E95", "lzma with unusual properties", either, "a.lzma", func() []byte { b := specimen.LZMA(specimen.Payload); b[0] = 0x66; return b }()),
		as("E96", "lzma of known size", found, "a.lzma", func() []byte {
			b := specimen.LZMA(specimen.Payload)
			binary.LittleEndian.PutUint64(b[5:], uint64(len(specimen.Payload)))
			return b
		}()),
		as("E97", "compress in compress", found, "a.Z", specimen.Compress(specimen.Compress(specimen.Payload))),
		as("E98", "tar, uuencoded twice in a text", found, "a.txt", []byte("text\n"+specimen.UU(strings.ReplaceAll(specimen.UU("a.dat"), "\r", "")))),
		as("E99", "self-extracting script with a tar.gz", either, "a.run", specimen.Concat([]byte("#!/bin/sh\ntail -n +3 $0 | tar xz\nexit 0\n"), specimen.Gzip(tarPayload("a.dat")))),
	}
}

func packerCorners() []trick {
	as := fileTrick
	rar5 := specimen.RAR5("a.dat", specimen.Payload, false)
	comment := func() []byte { // a service block before the file
		text := []byte("a comment")
		fields := slices.Concat([]byte{3, 2, byte(len(text)), 4, byte(len(text)), 0}, specimen.AppendLE(nil, int(crc32.ChecksumIEEE(text)), 4), []byte{0, 0, 3}, []byte("CMT"))
		h := append([]byte{byte(len(fields))}, fields...)
		b := append(specimen.AppendLE(nil, int(crc32.ChecksumIEEE(h)), 4), h...)
		at := 8 + 4 + 4
		return specimen.Concat(rar5[:at], b, text, rar5[at:])
	}
	volume := func() []byte { // the main header says that others come first
		b := bytes.Clone(rar5)
		b[8+4+3] = 3
		h := []byte{4, 1, 0, 3, 7}
		return specimen.Concat(b[:8], specimen.AppendLE(nil, int(crc32.ChecksumIEEE(h)), 4), h, b[16:])
	}
	blocks := func() []byte { // one block for each half
		c := specimen.Cab("a.dat", specimen.Payload, specimen.CabStored)
		at := binary.LittleEndian.Uint32(c[specimen.CabHeader:])
		c[specimen.CabHeader+4] = 2
		block := func(b []byte) []byte { return append(specimen.AppendLE(nil, 0, 4, len(b), 2, len(b), 2), b...) }
		out := specimen.Concat(c[:at], block(specimen.Payload[:200]), block(specimen.Payload[200:]))
		binary.LittleEndian.PutUint32(out[8:], uint32(len(out)))
		return out
	}
	continued := func() []byte {
		c := specimen.Cab("a.dat", specimen.Payload, specimen.CabStored)
		c[specimen.CabHeader+8+8], c[specimen.CabHeader+8+9] = 0xfd, 0xff
		return c
	}
	return []trick{
		as("E100", "RAR 4, stored", found, "a.rar", specimen.RAR4(0, 0, 0x30)),
		as("E101", "RAR 4, continued in the next volume", either, "a.rar", specimen.RAR4(2, 1, 0x30)),
		as("E102", "RAR 4, begun in another volume", either, "a.rar", specimen.RAR4(1, 1, 0x30)),
		as("E103", "RAR 4, method that nobody knows", either, "a.rar", specimen.RAR4(0, 0, 0x39)),
		as("E104", "RAR 5 with a comment", found, "a.rar", comment()),
		as("E105", "RAR 5, second volume", either, "a.part2.rar", volume()),
		as("E106", "RAR behind a picture", found, "a.gif", specimen.Concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), specimen.RAR4(0, 0, 0x30))),
		as("E107", "RAR in the format of version 1.4", either, "a.rar", specimen.Concat([]byte("RE~^\x07\x00\x00"), specimen.Payload)),
		as("E108", "7-Zip behind a text", found, "a.txt", specimen.Concat([]byte(strings.Repeat("text\n", 50)), specimen.SevenZip("a.dat", specimen.Payload, false, false))),
		as("E109", "7-Zip, first of several files", either, "a.7z.001", specimen.SevenZip("a.dat", specimen.Payload, false, false)[:300]),
		as("E110", "7-Zip, start header broken", either, "a.7z", func() []byte { b := specimen.SevenZip("a.dat", specimen.Payload, false, false); b[9] ^= 1; return b }()),
		as("E111", "cabinet of two folders", found, "a.cab", specimen.CabFolders(specimen.CabMSZip)),
		as("E112", "cabinet, LZX", found, "a.cab", specimen.Cab("a.dat", specimen.Payload, specimen.CabLZX|15<<8)),
		as("E113", "cabinet, Quantum", either, "a.cab", specimen.Cab("a.dat", specimen.Payload, 2)),
		as("E114", "cabinet, two blocks", found, "a.cab", blocks()),
		as("E115", "cabinet, begun in another one", either, "a.cab", continued()),
		as("E116", "cabinet in a picture", found, "a.jpg", specimen.Concat([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\xff\xd9"), specimen.Cab("a.dat", specimen.Payload, specimen.CabStored))),
	}
}

func imageCorners() []trick {
	as := fileTrick
	udf := func() []byte {
		img := make([]byte, 300*specimen.IsoSector)
		for i, id := range []string{"BEA01", "NSR02", "TEA01"} {
			copy(img[(16+i)*specimen.IsoSector+1:], id+"\x01")
		}
		return append(img, specimen.Padded(specimen.Payload, specimen.IsoSector)...)
	}
	bridge := func() []byte { // the UDF marks where the ISO descriptors end
		img := specimen.ISO("OK.TXT", "", []byte("text"))
		var marks []byte
		for _, id := range []string{"BEA01", "NSR02", "TEA01"} {
			marks = append(marks, specimen.Padded([]byte("\x00"+id+"\x01"), specimen.IsoSector)...)
		}
		return slices.Concat(img[:17*specimen.IsoSector], marks, img[17*specimen.IsoSector:], specimen.Padded(specimen.Payload, specimen.IsoSector))
	}
	raw := func() []byte {
		img := specimen.ISO("A.DAT", "", specimen.Payload)
		var out []byte
		for s := range slices.Chunk(img, specimen.IsoSector) {
			out = slices.Concat(out, []byte("\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x01"), s, make([]byte, 288))
		}
		return out
	}
	vhd := append(specimen.Padded(specimen.Payload, 4096), specimen.Padded([]byte("conectix"), 512)...)
	fat := specimen.Padded([]byte("\xeb\x3c\x90MSDOS5.0\x00\x02\x01\x01\x00"), 8192)
	fat[510], fat[511] = 0x55, 0xaa
	copy(fat[4096:], specimen.Payload)
	return []trick{
		as("E117", "ISO image with a name of Rock Ridge", found, "a.dat", specimen.ISOWithRockRidge("OK.TXT", "a.exe", specimen.Payload)),
		as("E118", "ISO image, UDF only", either, "a.dat", udf()),
		as("E119", "ISO image and UDF", either, "a.dat", bridge()),
		as("E120", "ISO image of raw sectors", found, "a.bin", raw()),
		as("E121", "disk image for Windows", either, "a.dat", vhd),
		as("E122", "dynamic disk image for Windows", either, "a.dat", specimen.Concat([]byte("conectix"), make([]byte, 1000), specimen.Payload)),
		as("E123", "disk image of Hyper-V", either, "a.dat", specimen.Concat([]byte("vhdxfile"), make([]byte, 1000), specimen.Payload)),
		as("E124", "floppy image", either, "a.dat", fat),
		as("E125", "disk image of VirtualBox", either, "a.vdi", specimen.Concat(specimen.Padded([]byte("<<< Oracle VM VirtualBox Disk Image >>>\n"), 64), []byte("\x7f\x10\xda\xbe"), make([]byte, 500), specimen.Payload)),
		as("E126", "disk image of VMware", either, "a.dat", specimen.Concat([]byte("KDMV\x01\x00\x00\x00"), make([]byte, 500), specimen.Payload)),
	}
}

func otherCorners() []trick {
	as := fileTrick
	return []trick{
		as("E127", "DLL under another name", found, "a.dat", specimen.DLLPayload),
		as("E128", "DLL in a zip", found, "a.zip", specimen.Zip(specimen.ZipFile{Name: "a.ocx", Data: specimen.DLLPayload})),
		as("E129", "program of DOS with ZM", either, "a.dat", specimen.DosPayload),
		as("E130", "ARC", either, "a.arc", specimen.Concat([]byte("\x1a\x02a.dat\x00\x00\x00\x00\x00\x00\x00\x00"), specimen.AppendLE(nil, len(specimen.Payload), 4, 0, 4, 0, 2, len(specimen.Payload), 4), specimen.Payload, []byte("\x1a\x00"))),
		as("E131", "ACE", either, "a.ace", specimen.Concat([]byte("\x00\x00\x31\x00\x00\x00\x00**ACE**"), make([]byte, 30), specimen.Payload)),
		as("E132", "ZOO", either, "a.zoo", specimen.Concat([]byte("ZOO 2.10 Archive.\x1a"), make([]byte, 50), specimen.Payload)),
		as("E133", "LHA -lh1-", either, "a.lzh", specimen.LHA("a.dat", "-lh1-", specimen.Payload, 400)),
		as("E134", "LHA -lh0- behind a program", found, "a.dat", specimen.LHA("a.dat", "-lh0-", specimen.Payload, 400)),
		as("E135", "ARJ, encrypted", either, "a.arj", specimen.ARJ("a.dat", 0, 1, specimen.Payload, 400)),
		as("E136", "StuffIt X", either, "a.sitx", specimen.Concat([]byte("StuffIt!"), make([]byte, 50), specimen.Payload)),
		as("E137", "FreeArc", either, "a.arc", specimen.Concat([]byte("ArC\x01"), make([]byte, 50), specimen.Payload)),
		as("E138", "ZPAQ", either, "a.zpaq", specimen.Concat([]byte("7kSt\xa01\x83\xd3\x8c\xb2\x28\xb0\xd3zPQ"), make([]byte, 50), specimen.Payload)),
		as("E139", "UHARC", either, "a.uha", specimen.Concat([]byte("UHA\x06"), make([]byte, 50), specimen.Payload)),
		as("E141", "squashfs", either, "a.dat", specimen.Concat([]byte("hsqs"), make([]byte, 500), specimen.Payload)),
		as("E144", "xar", either, "a.pkg", specimen.Concat([]byte("xar!\x00\x1c\x00\x01"), make([]byte, 500), specimen.Payload)),
		as("E145", "Apple disk image", either, "a.dat", specimen.Concat(make([]byte, 500), specimen.Payload, specimen.Padded([]byte("koly\x00\x00\x00\x04\x00\x00\x02\x00"), 512))),
		as("E146", "file of MS-DOS COMPRESS, KWAJ", either, "a.dat", specimen.Concat([]byte("KWAJ\x88\xf0\x27\xd1\x00\x00\x0e\x00\x00\x00"), specimen.Payload)),
		as("E147", "multi-volume name without a mark", either, "a.zip.002", specimen.Payload[100:]),
	}
}

func rtfCorners() []trick {
	as := fileTrick
	object := func() string {
		native := specimen.Package("a.dat", specimen.Payload)
		o := append(specimen.AppendLE(nil, 0x501, 4, 2, 4, 8, 4), "Package\x00"...)
		return hex.EncodeToString(append(specimen.AppendLE(o, 0, 4, 0, 4, len(native), 4), native...))
	}()
	rtf := func(data string) []byte { return []byte(`{\rtf1 text {\object\objemb{\*\objdata ` + data + `}}}`) }
	spread := func(by string) string {
		var b strings.Builder
		for i, c := range []byte(object) {
			if b.WriteByte(c); i%7 == 3 {
				b.WriteString(by)
			}
		}
		return b.String()
	}
	return []trick{
		as("E150", "RTF, groups inside the object", found, "a.rtf", rtf(spread(`{\*\x}`))),
		as("E151", "RTF, control words inside the object", found, "a.rtf", rtf(spread(`\par `))),
		as("E152", "RTF, escaped octets inside the object", either, "a.rtf", rtf(spread(`\'41`))),
		as("E153", "RTF, white space inside the object", found, "a.rtf", rtf(spread("\r\n\t "))),
		as("E154", "RTF, object as binary", found, "a.rtf", rtf(`\bin`+fmt.Sprint(len(object)/2)+" "+string(specimen.Must(hex.DecodeString(object))))),
		as("E155", "RTF with a short head", found, "a.doc", bytes.Replace(rtf(object), []byte(`{\rtf1`), []byte(`{\rt`), 1)),
		as("E156", "RTF without the end of the group", found, "a.rtf", []byte(`{\rtf1{\object\objdata `+object)),
		as("E157", "RTF, upper case hexadecimal", found, "a.rtf", rtf(strings.ToUpper(object))),
		as("E158", "RTF behind white space", found, "a.doc", append([]byte("\r\n\t "), rtf(object)...)),
		as("E159", "RTF, object of another class", either, "a.rtf", rtf(strings.Replace(object, hex.EncodeToString([]byte("Package")), hex.EncodeToString([]byte("Pack4ge")), 1))),
	}
}

func pdfCorners() []trick {
	as := fileTrick
	pdf := func(dict string, content []byte) []byte {
		return fmt.Appendf(nil, "%%PDF-1.7\n1 0 obj\n<</Type/Filespec/F(a.dat)/EF<</F 2 0 R>>>>\nendobj\n2 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n", dict, len(content), content)
	}
	deflated := specimen.Pack(specimen.Payload, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	hexed := []byte(hex.EncodeToString(specimen.Payload) + ">")
	a85 := specimen.ASCII85(deflated)
	scrambled := bytes.Clone(specimen.Payload)
	for i := range scrambled {
		scrambled[i] ^= 0x5c
	}
	return []trick{
		as("E160", "PDF, stored without a type", found, "a.pdf", pdf("", specimen.Payload)),
		as("E161", "PDF, hexadecimal", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter/ASCIIHexDecode", hexed)),
		as("E162", "PDF, hexadecimal without a type", either, "a.pdf", pdf("/Filter/ASCIIHexDecode", hexed)),
		as("E163", "PDF, base 85 around deflate", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter[/ASCII85Decode/FlateDecode]", a85)),
		as("E164", "PDF, filter with an escaped name", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter/Fl#61teDecode", deflated)),
		as("E165", "PDF, abbreviated filter", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter/Fl", deflated)),
		as("E166", "PDF, type with an escaped name", found, "a.pdf", pdf("/Type/Embedded#46ile/Filter/FlateDecode", deflated)),
		as("E167", "PDF, deflated twice", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter[/FlateDecode/FlateDecode]", specimen.Pack(deflated, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }))),
		as("E168", "PDF, LZW", either, "a.pdf", pdf("/Type/EmbeddedFile/Filter/LZWDecode", scrambled)),
		as("E169", "PDF, encrypted", either, "a.pdf", bytes.Replace(pdf("/Type/EmbeddedFile/Filter/FlateDecode", scrambled), []byte("trailer<<"), []byte("trailer<</Encrypt 9 0 R"), 1)),
		as("E170", "PDF, encrypted, objects in streams", either, "a.pdf", fmt.Appendf(nil, "%%PDF-1.7\n2 0 obj\n<</Filter/FlateDecode/Length 400>>\nstream\n%s\nendstream\nendobj\n3 0 obj\n<</Type/ObjStm/N 1/First 4>>\nstream\n%s\nendstream\nendobj\n4 0 obj\n<</Type/XRef/Encrypt 9 0 R>>\nstream\nx\nendstream\nendobj\n%%%%EOF\n", scrambled, scrambled)),
		as("E171", "PDF behind other octets", found, "a.dat", append([]byte(strings.Repeat("\x01", 900)), pdf("/Type/EmbeddedFile/Filter/FlateDecode", deflated)...)),
		as("E172", "PDF, dictionary of 2,000 octets", found, "a.pdf", pdf("/Type/EmbeddedFile/Filter/FlateDecode/X("+strings.Repeat("x", 2000)+")", deflated)),
	}
}

func documentCorners() []trick {
	as := fileTrick
	docx := func(member string, data []byte) []byte {
		return specimen.Zip(specimen.ZipFile{Name: "[Content_Types].xml", Data: []byte("<Types/>")}, specimen.ZipFile{Name: "word/document.xml", Data: []byte("<w/>")}, specimen.ZipFile{Name: member, Data: data, Method: specimen.ZipDeflate})
	}
	ole := specimen.OLE("\x01Ole10Native", append(specimen.AppendLE(nil, len(specimen.Package("a.dat", specimen.Payload)), 4), specimen.Package("a.dat", specimen.Payload)...))
	return []trick{
		as("E173", "object in a docx", found, "a.docx", docx("word/embeddings/oleObject1.bin", ole)),
		as("E174", "file in a docx", found, "a.docx", docx("word/media/image1.png", specimen.Payload)),
		as("E175", "object in an odt", found, "a.odt", specimen.Zip(specimen.ZipFile{Name: "mimetype", Data: []byte("application/vnd.oasis.opendocument.text")}, specimen.ZipFile{Name: "Object 1", Data: ole, Method: specimen.ZipDeflate})),
		as("E176", "Outlook message with an attachment", found, "a.msg", specimen.OLE("__substg1.0_37010102", specimen.Payload)),
		as("E177", "Outlook message in an Outlook message", found, "a.msg", specimen.OLE("__substg1.0_37010102", specimen.OLE("__substg1.0_37010102", specimen.Payload))),
		as("E178", "winmail.dat in winmail.dat", found, "winmail.dat", specimen.TNEF("winmail.dat", specimen.TNEF("a.dat", specimen.Payload))),
		as("E179", "installer with a cabinet", found, "a.dat", specimen.OLE("Data.cab", specimen.Cab("a.dat", specimen.Payload, specimen.CabMSZip))),
		as("E180", "compound file of a version 4 with a wrong sector size", either, "a.doc", func() []byte { b := bytes.Clone(ole); b[30] = 10; return b }()),
		as("E181", "compound file, broken directory", either, "a.doc", func() []byte { b := bytes.Clone(ole); b[48] = 0x77; return b }()),
		as("E182", "slides with an object", found, "a.ppt", specimen.OLE("PowerPoint Document", specimen.Concat(specimen.AppendLE(nil, 0x10, 2, 0x1011, 2, 4+len(specimen.Zlib(ole)), 4, len(ole), 4), specimen.Zlib(ole)))),
		as("E183", "OneNote with a cabinet", found, "a.dat", specimen.OneNote(specimen.Cab("a.dat", specimen.Payload, specimen.CabStored))),
		as("E184", "help file", found, "a.dat", specimen.CHM("/a.dat", specimen.Payload)),
		as("E185", "XPS with a program", found, "a.xps", specimen.Zip(specimen.ZipFile{Name: "FixedDocSeq.fdseq", Data: []byte("<x/>")}, specimen.ZipFile{Name: "r.odttf", Data: specimen.Payload})),
		as("E186", "zip inside a stream of a compound file", found, "a.xls", specimen.OLE("Stuff", specimen.Zip(specimen.ZipFile{Name: "a.dat", Data: specimen.Payload, Method: specimen.ZipDeflate}))),
		as("E187", "shortcut under another name", found, "a.dat", specimen.LinkPayload),
		as("E188", "zip behind a picture", either, "a.png", specimen.Concat([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"), specimen.Zip(specimen.ZipFile{Name: "a.dat", Data: specimen.Payload}))),
	}
}

func textCorners() []trick {
	as := func(id, what string, want want, name, text string) trick {
		return trick{id, what, want, attachedAs(name, []byte(text))}
	}
	b64 := base64.StdEncoding.EncodeToString(specimen.Payload)
	return []trick{
		as("E190", "web archive", found, "a.mht", "From: <Saved by x>\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=\"q\"\r\n\r\n--q\r\nContent-Type: image/png\r\nContent-Location: a.png\r\nContent-Transfer-Encoding: base64\r\n\r\n"+specimen.Wrap64(specimen.Payload)+"--q--\r\n"),
		as("E191", "web archive with two fields", found, "a.mhtml", "MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=\"q\"\r\n\r\n--q\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"+specimen.Wrap64(specimen.Payload)+"--q--\r\n"),
		as("E193", "shell archive", found, "a.shar", "#!/bin/sh\n# This is a shell archive\nsed 's/^X//' << 'SHAR_EOF' | uudecode\n"+strings.ReplaceAll(specimen.UU("a.dat"), "\r", "")+"SHAR_EOF\n"),
		as("E195", "page with a program in a script", fact, "a.html", "<html><script>var b=atob('"+b64+"');var f=new Blob([b]);a.href=URL.createObjectURL(f);a.download='x'</script></html>"),
		as("E196", "SVG with a script", fact, "a.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>var f=new Blob([atob('"+b64+"')]);a.href=URL.createObjectURL(f)</script></svg>"),
		as("E197", "SVG with a data: URI", found, "a.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"><a href=\"data:application/octet-stream;base64,"+b64+"\"/></svg>"),
		as("E198", "vCard with a program", either, "a.vcf", "BEGIN:VCARD\r\nVERSION:3.0\r\nPHOTO;ENCODING=b;TYPE=JPEG:"+b64+"\r\nEND:VCARD\r\n"),
		as("E199", "calendar with a program", either, "a.ics", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nATTACH;FMTTYPE=image/png;ENCODING=BASE64;VALUE=BINARY:"+b64+"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"),
		as("E200", "Office document in one XML file", either, "a.xml", "<?xml version=\"1.0\"?><pkg:package xmlns:pkg=\"http://schemas.microsoft.com/office/2006/xmlPackage\"><pkg:part pkg:name=\"/a.dat\"><pkg:binaryData>"+specimen.Wrap64(specimen.Payload)+"</pkg:binaryData></pkg:part></pkg:package>"),
	}
}
