package unpack

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

func TestContainers(t *testing.T) {
	t.Parallel()
	files := map[string]struct {
		data  []byte
		kind  string // last short type
		names []string
	}{
		"gzip":           {gz(evil), "gz", nil},
		"gzip with name": {pack(evil, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); z.Name = "evil.exe"; return z }), "gz", []string{"evil.exe"}},
		"gzip, second":   {concat(gz([]byte("some text")), gz(evil)), "gz", nil},
		"xz":             {xzOf(evil), "xz", nil},
		"xz, second":     {concat(xzOf(nil), xzOf(evil)), "xz", nil},
		"lzma":           {lzmaOf(evil), "lzma", nil},
		"zstd":           {zstdOf(evil), "zst", nil},
		"compress":       {compressOf(evil), "Z", nil},
		"tar":            {tarOf(tar.Header{Name: "evil.exe"}), "tar", []string{"evil.exe"}},
		"tar, pax name":  {concat(paxOf("path=evil.exe"), tarBlockOf("ok.txt", '0', len(evil)), padded(evil, filetype.TarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"tar, GNU name":  {concat(tarBlockOf("././@LongLink", 'L', 9), padded([]byte("evil.exe\x00"), filetype.TarBlock), tarBlockOf("ok.txt", '0', len(evil)), padded(evil, filetype.TarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"newc":           {concat(newcOf("evil.exe", 0o100644, evil), newcOf("TRAILER!!!", 0, nil)), "cpio", []string{"evil.exe"}},
		"odc":            {concat(odcOf("evil.exe", evil), odcOf("TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio":       {concat(oldCpioOf(binary.LittleEndian, "evil.exe", evil), oldCpioOf(binary.LittleEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio, big":  {concat(oldCpioOf(binary.BigEndian, "evil.exe", evil), oldCpioOf(binary.BigEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"ar":             {arOf("evil.exe/", evil), "a", []string{"evil.exe"}},
		"ar, BSD name":   {arOf("#1/8", append([]byte("evil.exe"), evil...)), "a", []string{"evil.exe"}},
		"rpm":            {rpmOf(evil), "rpm", nil},
		"7z":             {sevenOf("evil.exe", evil, false, false), "7z", []string{"evil.exe"}},
		"rar5":           {rar5Of("evil.exe", evil, false), "rar", []string{"evil.exe"}},
		"cab":            {cabOf("evil.exe", evil, cabStored), "cab", []string{"evil.exe"}},
		"cab, MSZIP":     {cabOf("evil.exe", evil, cabMSZip), "cab", []string{"evil.exe"}},
		"cab, LZX":       {cabOf("evil.exe", evil, cabLZX|15<<8), "cab", []string{"evil.exe"}},
		"lha":            {lhaOf("evil.exe", "-lh0-", evil, len(evil)), "lha", []string{"evil.exe"}},
		"lha -lh5-":      {lhaOf("evil.exe", "-lh5-", lh5Of(evil), len(evil)), "lha", []string{"evil.exe"}},
		"arj":            {arjOf("evil.exe", 0, 0, evil, len(evil)), "arj", []string{"evil.exe"}},
		"iso":            {isoOf("EVIL.EXE", "", evil), "iso", []string{"EVIL.EXE"}},
		"iso, Joliet":    {isoOf("OK.TXT", "evil.exe", evil), "iso", []string{"OK.TXT", "evil.exe"}},
		"ole package":    {oleOf("\x01Ole10Native", append(appendLE(nil, 500, 4), packageOf("evil.exe", evil)...)), "cdf-ms", []string{"evil.exe", `C:\evil.exe`}},
		"rtf":            {rtfOf(packageOf("evil.exe", evil)), "rtf", []string{"evil.exe", `C:\evil.exe`}},
		"pdf":            {pdfOf("evil.exe", evil), "pdf", []string{"evil.exe"}},
		"onenote":        {oneOf(evil), "one", nil},
		"zip bzip2":      {zipOf(zipFile{name: "evil.exe", data: hello, raw: bzip2Hello, method: zipBzip2}), "zip", []string{"evil.exe"}},
		"zip zstd":       {zipOf(zipFile{name: "evil.exe", data: evil, raw: zstdOf(evil), method: zipZstd}), "zip", []string{"evil.exe"}},
		"zip xz":         {zipOf(zipFile{name: "evil.exe", data: evil, raw: xzOf(evil), method: zipXZ}), "zip", []string{"evil.exe"}},
		"zip lzma":       {zipOf(zipFile{name: "evil.exe", data: evil, raw: zipLZMAOf(evil), method: zipLZMA, flags: 2}), "zip", []string{"evil.exe"}},
		"zip deflate64":  {zipOf(zipFile{name: "evil.exe", data: evil, raw: huffmanOnly(evil), method: zipDeflate64}), "zip", []string{"evil.exe"}},
		"bzip2":          {bzip2Hello, "bz2", nil},
		"exe with zip":   {zipAfter(program, false, zipFile{name: "evil.exe", data: evil, method: zipDeflate}), "exe-ms", []string{"evil.exe"}},
		"exe with 7z":    {concat(program, sevenOf("evil.exe", evil, false, false)), "exe-ms", []string{"evil.exe"}},
		"exe with rar":   {concat(program, rar5Of("evil.exe", evil, false)), "exe-ms", []string{"evil.exe"}},
		"exe with cab":   {concat(program, cabOf("evil.exe", evil, cabMSZip)), "exe-ms", []string{"evil.exe"}},
		"setup":          {setupProgram(setupFilesOf("evil.exe", evil)), "exe-ms", []string{"evil.exe", `Disk1\evil.exe`}},
		"NSIS":           {setupProgram(nsisOf(evil)), "exe-ms", nil},
		"chm":            {chmOf("/evil.exe", evil), "chm", []string{"/evil.exe"}},
		"gif with rar":   {concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), rar5Of("evil.exe", evil, false)), "rar", []string{"evil.exe"}},
		"text with 7z":   {concat([]byte(strings.Repeat("plain text\n", 900)), sevenOf("evil.exe", evil, false, false)), "7z", []string{"evil.exe"}},
	}
	for name, c := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short, _ := filetype.Of(c.data, nil)
			if short[len(short)-1] != c.kind {
				t.Errorf("types %q, want %q", short, c.kind)
			}
			got := look(t, c.data)
			if !got.hasPrefix(evil) && !got.hasPrefix(hello) {
				t.Errorf("payload not found among %q", got.names())
			}
			if !got.clean() {
				t.Errorf("outcome %+v", got.Outcome)
			}
			if c.names != nil && !slices.Equal(slices.Compact(got.names()), c.names) {
				t.Errorf("names %q, want %q", got.names(), c.names)
			}
			cut := lookAs(t, c.data[:len(c.data)*9/10], testBudget(len(c.data)), short...)
			if cut.clean() && !slices.Contains(uncut, name) {
				t.Errorf("cut file: nothing said, names %q", cut.names())
			}
		})
	}
}

// uncut are the cases where nine tenths of the file are whole: the end is
// padding, or the payload lies in the open and is seen without the container.
var uncut = []string{"setup", "tar", "tar, pax name", "tar, GNU name", "iso", "iso, Joliet", "exe with zip", "rpm", "rtf", "compress", "text with 7z", "lha", "lha -lh5-"}

func (s seen) hasPrefix(want []byte) bool {
	return slices.ContainsFunc(s.members, func(m budget.Member) bool { return bytes.HasPrefix(m.Data, want) })
}

func huffmanOnly(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, flate.HuffmanOnly)) })
}

func zipLZMAOf(data []byte) []byte {
	b := lzmaOf(data)
	return concat([]byte{9, 20, 5, 0}, b[:5], b[13:])
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	tarFile := tarOf(tar.Header{Name: "a.txt"})
	for name, c := range map[string]struct {
		data []byte
		want func(budget.Outcome) bool
	}{
		"7z content encrypted": {sevenOf("a.exe", evil, true, false), func(o budget.Outcome) bool { return o.Encrypted }},
		"7z header encrypted":  {sevenOf("a.exe", evil, false, true), func(o budget.Outcome) bool { return o.Encrypted }},
		"rar5 names encrypted": {rar5Of("a.exe", evil, true), func(o budget.Outcome) bool { return o.Encrypted }},
		"arj encrypted":        {arjOf("a.exe", 1, 1, evil, 400), func(o budget.Outcome) bool { return o.Encrypted }},
		"ole encrypted":        {oleOf("EncryptedPackage", evil), func(o budget.Outcome) bool { return o.Encrypted }},
		"pgp":                  {[]byte("-----BEGIN PGP MESSAGE-----\n\nabcd\n"), func(o budget.Outcome) bool { return o.Encrypted }},
		"arj method 4":         {arjOf("a.exe", 4, 0, evil, 400), func(o budget.Outcome) bool { return o.Damaged }},
		"cab quantum":          {cabOf("a.exe", evil, 2), func(o budget.Outcome) bool { return o.Damaged }},
		"lha -lh1-":            {lhaOf("a.exe", "-lh1-", evil, 400), func(o budget.Outcome) bool { return o.Damaged }},
		"tar behind the end":   {concat(tarFile, tarFile), func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar two pax names": {concat(paxOf("path=a", "path=b"), tarBlockOf("c", '0', 0), make([]byte, 1024)),
			func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar two sizes": {concat(paxOf("size=400"), tarBlockOf("c", '0', 10), padded(evil, filetype.TarBlock), make([]byte, 1024)),
			func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar sum":                     {concat(tarFile[:1024], bytes.Repeat([]byte("x"), 512), tarFile), func(o budget.Outcome) bool { return o.Damaged }},
		"vhd":                         {append([]byte("conectix"), make([]byte, 512)...), func(o budget.Outcome) bool { return o.Damaged }},
		"second volume":               {[]byte{1, 2, 3, 4}, func(o budget.Outcome) bool { return o.Damaged }},
		"7z header asks for too much": {sevenHuge(), func(o budget.Outcome) bool { return o.Damaged || o.OverLimits }},
		"xz asks for too much":        {xzHuge(), func(o budget.Outcome) bool { return isClean(o) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := look(t, c.data, "x.7z.002")
			if !c.want(got.Outcome) {
				t.Errorf("names %q, outcome %+v", got.names(), got.Outcome)
			}
		})
	}
}

// TestOldFormats has the formats that are known and not decoded.
func TestOldFormats(t *testing.T) {
	t.Parallel()
	const implode = 6
	for name, data := range map[string][]byte{
		"evil.ex_":  append(appendLE([]byte("SZDD\x88\xf0\x27\x33A\x00"), len(evil), 4), evil...),
		"evil.sis":  concat([]byte("\x00\x00\x00\x01\x12\x3a\x00\x10\x19\x04\x00\x10"), make([]byte, 99), zlibOf(evil)),
		"setup.exe": setupProgram(concat([]byte("InstallShield\x00"), evil)),
		"evil.zip":  zipOf(zipFile{name: "evil.exe", data: evil, raw: evil[:200], method: implode}),
	} {
		r := attach(name, data)
		if p := partNamed(r, name); p == nil || !p.Flags.Is(mail.PartUndecipherable) || p.Flags.Is(mail.PartEncrypted) {
			t.Errorf("%s: %s", name, describeTree(r))
		}
		if len(r.Findings) != 1 || r.Findings[0].Minor != mail.Ambiguous || !strings.Contains(r.Findings[0].Detail, "not supported") && !strings.Contains(r.Findings[0].Detail, "cannot be opened") {
			t.Errorf("%s: findings %+v", name, r.Findings)
		}
	}
}

func isClean(o budget.Outcome) bool { return seen{Outcome: o}.clean() }

// sevenHuge says that it has four billion files.
func sevenHuge() []byte {
	header := []byte{1, 4, 6, 0, 1, 9, 0, 0, 7, 0x0b, 1, 0, 1, 1, 0, 0x0c, 0, 0, 0, 5, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0}
	start := appendLE(nil, 0, 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	return slices.Concat(magic7z, []byte{0, 4}, appendLE(nil, int(crc32.ChecksumIEEE(start)), 4), start, header)
}

// xzHuge asks for a dictionary of 4 GiB in each of many small blocks; it gets
// what the blocks need.
func xzHuge() []byte {
	one := xzOf([]byte("small"))
	const property = 12 + 4 // header, then: size, flags, filter, its size, property
	head := bytes.Clone(one)
	head[property] = 40
	n := 12 + (int(head[12])+1)*4
	binary.LittleEndian.PutUint32(head[n-4:], crc32.ChecksumIEEE(head[12:n-4]))
	return bytes.Repeat(head, 2000)
}

func TestTarKinds(t *testing.T) {
	t.Parallel()
	got := look(t, tarOf(tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		tar.Header{Name: "c", Typeflag: tar.TypeChar}, tar.Header{Name: "f", Typeflag: tar.TypeFifo}))
	m := got.members
	if len(m) != 4 || !m[0].Dir || !m[1].Link || !m[2].Special || !m[3].Special {
		t.Errorf("got %+v", m)
	}
}

// TestNested checks that a container in a container is found at every level.
func TestNested(t *testing.T) {
	t.Parallel()
	data := evil
	for range 4 {
		data = zipOf(zipFile{name: "x.zip", data: data, method: zipDeflate})
		data = gz(tarOf2("y.tar", data))
	}
	got := deep(t, data, nil, testBudget(1<<20), 14)
	if !got.hasData(evil) || !got.clean() {
		t.Errorf("%d members, outcome %+v", len(got.members), got.Outcome)
	}
	got = deep(t, data, nil, testBudget(1<<20), 8)
	if got.clean() {
		t.Error("too deep, and nothing said")
	}
}

func tarOf2(name string, data []byte) []byte {
	return concat(tarBlockOf(name, '0', len(data)), padded(data, filetype.TarBlock), make([]byte, 1024))
}

// TestBehindTheEnd puts an archive behind one of another kind.
func TestBehindTheEnd(t *testing.T) {
	t.Parallel()
	hidden := zipOf(zipFile{name: "evil.exe", data: evil, method: zipDeflate})
	for name, front := range map[string][]byte{
		"tar": tarOf2("ok.txt", []byte("text")), "gzip": gz([]byte("text")), "xz": xzOf([]byte("text")), "bzip2": bzip2Hello,
		"7z": sevenOf("ok.txt", []byte("text"), false, false), "cab": cabOf("ok.txt", []byte("text"), cabMSZip),
		"rar": rar5Of("ok.txt", []byte("text"), false), "iso": isoOf("OK.TXT", "", []byte("text")),
		"cpio": newcOf("TRAILER!!!", 0, nil), "ar": arOf("ok.txt", []byte("text")), "pdf": pdfOf("ok.txt", []byte("text")),
		"ole": oleOf("WordDocument", []byte("text")), "zstd": zstdOf([]byte("text")), "lha": lhaOf("ok.txt", "-lh0-", []byte("text"), 4),
	} {
		data := concat(front, hidden)
		if got := deep(t, data, nil, testBudget(len(data)), 5); !got.hasData(evil) {
			t.Errorf("%s: names %q, outcome %+v", name, got.names(), got.Outcome)
		}
	}
}

// TestGzipBomb is 34 MB of zeros before the program, in 34 kB.
func TestGzipBomb(t *testing.T) {
	t.Parallel()
	data := gz(append(make([]byte, 34<<20), evil...))
	if got := lookAs(t, data, testBudget(len(data)), "gz"); !got.OverLimits {
		t.Errorf("outcome %+v", got.Outcome)
	}
}

// TestPDFBomb is a stream of 40 MB of empty blocks, deflated again: nothing
// comes out of it, but it must be paid for.
func TestPDFBomb(t *testing.T) {
	t.Parallel()
	inner := append([]byte("\x78\x9c"), bytes.Repeat([]byte("\x00\x00\x00\xff\xff"), 8<<20)...)
	data := concat([]byte("%PDF-1.4\n2 0 obj\n<</Type/EmbeddedFile/Filter[/FlateDecode/FlateDecode]>>\nstream\n"), zlibOf(inner), []byte("\nendstream\nendobj\n"))
	if got := lookAs(t, data, testBudget(len(data)), "pdf"); !got.OverLimits {
		t.Errorf("outcome %+v", got.Outcome)
	}
}

// TestCallerStops checks that an error of the caller comes back as it is
// and that no member follows it.
func TestCallerStops(t *testing.T) {
	t.Parallel()
	data := zipOf(zipFile{name: "a", data: evil}, zipFile{name: "b", data: evil})
	n := 0
	_, err := expand(data, []string{"zip"}, testBudget(len(data)), func(budget.Member) error { n++; return io.ErrClosedPipe })
	if err != io.ErrClosedPipe || n != 1 {
		t.Errorf("error %v after %d members", err, n)
	}
}

// TestReaders checks that whatever has a reader is called a container.
func TestReaders(t *testing.T) {
	for _, table := range []map[string]func(*budget.Opener, []byte) error{archives, documents} {
		for kind := range table {
			if !filetype.IsContainer([]string{kind}) {
				t.Errorf("%s has a reader and is no container", kind)
			}
		}
	}
}

// TestPanic checks that a panic in a reader is an outcome.
func TestPanic(t *testing.T) {
	t.Parallel()
	x := budget.NewOpener(testBudget(1), nil, nil)
	if err := x.Run("test", func(*budget.Opener, []byte) error { panic("boom") }, nil); err != nil || !x.Damaged() {
		t.Errorf("error %v, outcome %+v", err, x.Outcome())
	}
}

func fuzzReader(f *testing.F, short string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzExpand(t, data, short) })
}

func FuzzTar(f *testing.F) {
	fuzzReader(f, "tar", tarOf(tar.Header{Name: "evil.exe"}), concat(paxOf("path=a", "GNU.sparse.major=1", "GNU.sparse.minor=0"), tarBlockOf("b", 'S', 400), padded(evil, 512)))
}

func FuzzGzip(f *testing.F)     { fuzzReader(f, "gz", concat(gz(evil), gz(evil))) }
func FuzzBzip2(f *testing.F)    { fuzzReader(f, "bz2", bzip2Hello, concat(bzip2Hello, bzip2Hello, evil)) }
func FuzzXZ(f *testing.F)       { fuzzReader(f, "xz", concat(xzOf(evil), xzOf(evil)), xzHuge()[:400]) }
func FuzzLZMA(f *testing.F)     { fuzzReader(f, "lzma", lzmaOf(evil)) }
func FuzzZstd(f *testing.F)     { fuzzReader(f, "zst", zstdOf(evil)) }
func FuzzCompress(f *testing.F) { fuzzReader(f, "Z", compressOf(evil)) }
func Fuzz7z(f *testing.F) {
	fuzzReader(f, "7z", sevenOf("evil.exe", evil, false, false), sevenOf("e", evil, true, false), sevenOf("e", evil, false, true), sevenHuge())
}
func FuzzRar(f *testing.F) {
	fuzzReader(f, "rar", rar5Of("evil.exe", evil, false), rar5Of("e", evil, true), rar5Locked("e", evil, "infected", 5, false), rar5Locked("e", evil, "infected", 5, true))
}
func FuzzCab(f *testing.F) {
	fuzzReader(f, "cab", cabOf("evil.exe", evil, cabMSZip), cabOf("evil.exe", evil, cabLZX|15<<8))
}
func FuzzLHA(f *testing.F) { fuzzReader(f, "lha", lhaOf("evil.exe", "-lh5-", lh5Of(evil), len(evil))) }
func FuzzARJ(f *testing.F) { fuzzReader(f, "arj", arjOf("evil.exe", 1, 0, lh5Of(evil), len(evil))) }

// FuzzISO gets the beginnings of the sectors behind the empty ones, since a
// fuzzer finds nothing in tens of kilobytes of zeros.
func FuzzISO(f *testing.F) {
	const empty, begin = 16, 256
	for _, img := range [][]byte{isoOf("OK.TXT", "evil.exe", evil), isoOf("OK.TXT", "", evil), isoWithRockRidge("OK.TXT", "evil.exe", evil)} {
		var seed []byte
		for s := range slices.Chunk(img[empty*isoSector:], isoSector) {
			seed = append(seed, s[:begin]...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		img := make([]byte, empty*isoSector)
		for s := range slices.Chunk(data[:min(len(data), 64*begin)], begin) {
			img = append(img, padded(s, isoSector)...)
		}
		fuzzExpand(t, img, "iso")
	})
}

func FuzzCard(f *testing.F) {
	fuzzReader(f, "ics", []byte("BEGIN:VCALENDAR\r\nATTACH;ENCODING=BASE64;X-FILENAME=\"a\":TVqQ\r\n AAA=\r\nX:y\r\n"), []byte("BEGIN:VCARD\nPHOTO;ENCODING=b:TVo=\n"))
}

func FuzzXML(f *testing.F) {
	fuzzReader(f, "xml", []byte("<?xml?><w:binData w:name=\"a\">TVqQ</w:binData><pkg:binaryData>TVqQ"), []byte("<office:binary-data>TVo=<bin"))
}

func FuzzScript(f *testing.F) { fuzzReader(f, "sh", concat([]byte("#!/bin/sh\n"), gz(evil))) }

func FuzzCpio(f *testing.F) {
	fuzzReader(f, "cpio", newcOf("evil.exe", 0o100644, evil), odcOf("evil.exe", evil), oldCpioOf(binary.BigEndian, "evil.exe", evil))
}
func FuzzAr(f *testing.F)  { fuzzReader(f, "a", arOf("#1/8", append([]byte("evil.exe"), evil...))) }
func FuzzRPM(f *testing.F) { fuzzReader(f, "rpm", rpmOf(evil)) }
func FuzzOLE(f *testing.F) {
	fuzzReader(f, "cdf-ms", oleOf("\x01Ole10Native", append(appendLE(nil, 500, 4), packageOf("evil.exe", evil)...)), oleOf("PowerPoint Document", evil))
}
func FuzzRTF(f *testing.F) { fuzzReader(f, "rtf", rtfOf(packageOf("evil.exe", evil))) }
func FuzzPDF(f *testing.F) {
	fuzzReader(f, "pdf", append(slices.Collect(maps.Values(openPDFs(f))), pdfOf("evil.exe", evil))...)
}
func FuzzOneNote(f *testing.F) { fuzzReader(f, "one", oneOf(evil)) }
func FuzzCHM(f *testing.F)     { fuzzReader(f, "chm", chmOf("/evil.exe", evil)) }
func FuzzProgram(f *testing.F) {
	fuzzReader(f, "exe", setupProgram(setupFilesOf("evil.exe", evil)), setupProgram([]byte("InstallShield\x00")), setupProgram(nsisOf(evil)), concat(program, cabOf("evil.exe", evil, cabMSZip)))
}
