package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/archive"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/document"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func TestContainers(t *testing.T) {
	t.Parallel()
	files := map[string]struct {
		data  []byte
		kind  string // last short type
		names []string
	}{
		"gzip":           {specimen.Gzip(specimen.Evil), "gz", nil},
		"gzip with name": {specimen.Pack(specimen.Evil, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); z.Name = "evil.exe"; return z }), "gz", []string{"evil.exe"}},
		"gzip, second":   {specimen.Concat(specimen.Gzip([]byte("some text")), specimen.Gzip(specimen.Evil)), "gz", nil},
		"xz":             {specimen.XZ(specimen.Evil), "xz", nil},
		"xz, second":     {specimen.Concat(specimen.XZ(nil), specimen.XZ(specimen.Evil)), "xz", nil},
		"lzma":           {specimen.LZMA(specimen.Evil), "lzma", nil},
		"zstd":           {specimen.Zstd(specimen.Evil), "zst", nil},
		"compress":       {specimen.Compress(specimen.Evil), "Z", nil},
		"tar":            {specimen.Tar(tar.Header{Name: "evil.exe"}), "tar", []string{"evil.exe"}},
		"tar, pax name":  {specimen.Concat(specimen.Pax("path=evil.exe"), specimen.TarHeader("ok.txt", '0', len(specimen.Evil)), specimen.Padded(specimen.Evil, filetype.TarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"tar, GNU name":  {specimen.Concat(specimen.TarHeader("././@LongLink", 'L', 9), specimen.Padded([]byte("evil.exe\x00"), filetype.TarBlock), specimen.TarHeader("ok.txt", '0', len(specimen.Evil)), specimen.Padded(specimen.Evil, filetype.TarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"newc":           {specimen.Concat(specimen.Newc("evil.exe", 0o100644, specimen.Evil), specimen.Newc("TRAILER!!!", 0, nil)), "cpio", []string{"evil.exe"}},
		"odc":            {specimen.Concat(specimen.ODC("evil.exe", specimen.Evil), specimen.ODC("TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio":       {specimen.Concat(specimen.OldCpio(binary.LittleEndian, "evil.exe", specimen.Evil), specimen.OldCpio(binary.LittleEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio, big":  {specimen.Concat(specimen.OldCpio(binary.BigEndian, "evil.exe", specimen.Evil), specimen.OldCpio(binary.BigEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"ar":             {specimen.Ar("evil.exe/", specimen.Evil), "a", []string{"evil.exe"}},
		"ar, BSD name":   {specimen.Ar("#1/8", append([]byte("evil.exe"), specimen.Evil...)), "a", []string{"evil.exe"}},
		"rpm":            {specimen.RPM(specimen.Evil), "rpm", nil},
		"7z":             {specimen.SevenZip("evil.exe", specimen.Evil, false, false), "7z", []string{"evil.exe"}},
		"rar5":           {specimen.RAR5("evil.exe", specimen.Evil, false), "rar", []string{"evil.exe"}},
		"cab":            {specimen.Cab("evil.exe", specimen.Evil, specimen.CabStored), "cab", []string{"evil.exe"}},
		"cab, MSZIP":     {specimen.Cab("evil.exe", specimen.Evil, specimen.CabMSZip), "cab", []string{"evil.exe"}},
		"cab, LZX":       {specimen.Cab("evil.exe", specimen.Evil, specimen.CabLZX|15<<8), "cab", []string{"evil.exe"}},
		"lha":            {specimen.LHA("evil.exe", "-lh0-", specimen.Evil, len(specimen.Evil)), "lha", []string{"evil.exe"}},
		"lha -lh5-":      {specimen.LHA("evil.exe", "-lh5-", specimen.LH5(specimen.Evil), len(specimen.Evil)), "lha", []string{"evil.exe"}},
		"arj":            {specimen.ARJ("evil.exe", 0, 0, specimen.Evil, len(specimen.Evil)), "arj", []string{"evil.exe"}},
		"iso":            {specimen.ISO("EVIL.EXE", "", specimen.Evil), "iso", []string{"EVIL.EXE"}},
		"iso, Joliet":    {specimen.ISO("OK.TXT", "evil.exe", specimen.Evil), "iso", []string{"OK.TXT", "evil.exe"}},
		"ole package":    {specimen.OLE("\x01Ole10Native", append(specimen.AppendLE(nil, 500, 4), specimen.Package("evil.exe", specimen.Evil)...)), "cdf-ms", []string{"evil.exe", `C:\evil.exe`}},
		"rtf":            {specimen.RTF(specimen.Package("evil.exe", specimen.Evil)), "rtf", []string{"evil.exe", `C:\evil.exe`}},
		"pdf":            {specimen.PDF("evil.exe", specimen.Evil), "pdf", []string{"evil.exe"}},
		"onenote":        {specimen.OneNote(specimen.Evil), "one", nil},
		"zip bzip2":      {specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Hello, Raw: specimen.Bzip2Hello, Method: specimen.ZipBzip2}), "zip", []string{"evil.exe"}},
		"zip zstd":       {specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Raw: specimen.Zstd(specimen.Evil), Method: specimen.ZipZstd}), "zip", []string{"evil.exe"}},
		"zip xz":         {specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Raw: specimen.XZ(specimen.Evil), Method: specimen.ZipXZ}), "zip", []string{"evil.exe"}},
		"zip lzma":       {specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Raw: specimen.ZipLZMAData(specimen.Evil), Method: specimen.ZipLZMA, Flags: 2}), "zip", []string{"evil.exe"}},
		"zip deflate64":  {specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Raw: specimen.HuffmanOnly(specimen.Evil), Method: specimen.ZipDeflate64}), "zip", []string{"evil.exe"}},
		"bzip2":          {specimen.Bzip2Hello, "bz2", nil},
		"exe with zip":   {specimen.ZipAfter(specimen.Program, false, specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipDeflate}), "exe-ms", []string{"evil.exe"}},
		"exe with 7z":    {specimen.Concat(specimen.Program, specimen.SevenZip("evil.exe", specimen.Evil, false, false)), "exe-ms", []string{"evil.exe"}},
		"exe with rar":   {specimen.Concat(specimen.Program, specimen.RAR5("evil.exe", specimen.Evil, false)), "exe-ms", []string{"evil.exe"}},
		"exe with cab":   {specimen.Concat(specimen.Program, specimen.Cab("evil.exe", specimen.Evil, specimen.CabMSZip)), "exe-ms", []string{"evil.exe"}},
		"setup":          {specimen.SetupProgram(specimen.SetupFiles("evil.exe", specimen.Evil)), "exe-ms", []string{"evil.exe", `Disk1\evil.exe`}},
		"NSIS":           {specimen.SetupProgram(specimen.NSIS(specimen.Evil)), "exe-ms", nil},
		"chm":            {specimen.CHM("/evil.exe", specimen.Evil), "chm", []string{"/evil.exe"}},
		"gif with rar":   {specimen.Concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), specimen.RAR5("evil.exe", specimen.Evil, false)), "rar", []string{"evil.exe"}},
		"text with 7z":   {specimen.Concat([]byte(strings.Repeat("plain text\n", 900)), specimen.SevenZip("evil.exe", specimen.Evil, false, false)), "7z", []string{"evil.exe"}},
	}
	for name, c := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short, _ := filetype.Of(c.data, nil)
			if short[len(short)-1] != c.kind {
				t.Errorf("types %q, want %q", short, c.kind)
			}
			got := specimen.Look(t, expand, c.data)
			if !got.HasPrefix(specimen.Evil) && !got.HasPrefix(specimen.Hello) {
				t.Errorf("payload not found among %q", got.Names())
			}
			if !got.Clean() {
				t.Errorf("outcome %+v", got.Outcome)
			}
			if c.names != nil && !slices.Equal(slices.Compact(got.Names()), c.names) {
				t.Errorf("names %q, want %q", got.Names(), c.names)
			}
			cut := specimen.LookAs(t, expand, c.data[:len(c.data)*9/10], specimen.Budget(len(c.data)), short...)
			if cut.Clean() && !slices.Contains(uncut, name) {
				t.Errorf("cut file: nothing said, names %q", cut.Names())
			}
		})
	}
}

// uncut are the cases where nine tenths of the file are whole: the end is
// padding, or the payload lies in the open and is seen without the container.
var uncut = []string{"setup", "tar", "tar, pax name", "tar, GNU name", "iso", "iso, Joliet", "exe with zip", "rpm", "rtf", "compress", "text with 7z", "lha", "lha -lh5-"}

func TestDoubt(t *testing.T) {
	t.Parallel()
	tarFile := specimen.Tar(tar.Header{Name: "a.txt"})
	for name, c := range map[string]struct {
		data []byte
		want func(budget.Outcome) bool
	}{
		"7z content encrypted": {specimen.SevenZip("a.exe", specimen.Evil, true, false), func(o budget.Outcome) bool { return o.Encrypted }},
		"7z header encrypted":  {specimen.SevenZip("a.exe", specimen.Evil, false, true), func(o budget.Outcome) bool { return o.Encrypted }},
		"rar5 names encrypted": {specimen.RAR5("a.exe", specimen.Evil, true), func(o budget.Outcome) bool { return o.Encrypted }},
		"arj encrypted":        {specimen.ARJ("a.exe", 1, 1, specimen.Evil, 400), func(o budget.Outcome) bool { return o.Encrypted }},
		"ole encrypted":        {specimen.OLE("EncryptedPackage", specimen.Evil), func(o budget.Outcome) bool { return o.Encrypted }},
		"pgp":                  {[]byte("-----BEGIN PGP MESSAGE-----\n\nabcd\n"), func(o budget.Outcome) bool { return o.Encrypted }},
		"arj method 4":         {specimen.ARJ("a.exe", 4, 0, specimen.Evil, 400), func(o budget.Outcome) bool { return o.Damaged }},
		"cab quantum":          {specimen.Cab("a.exe", specimen.Evil, 2), func(o budget.Outcome) bool { return o.Damaged }},
		"lha -lh1-":            {specimen.LHA("a.exe", "-lh1-", specimen.Evil, 400), func(o budget.Outcome) bool { return o.Damaged }},
		"tar behind the end":   {specimen.Concat(tarFile, tarFile), func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar two pax names": {specimen.Concat(specimen.Pax("path=a", "path=b"), specimen.TarHeader("c", '0', 0), make([]byte, 1024)),
			func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar two sizes": {specimen.Concat(specimen.Pax("size=400"), specimen.TarHeader("c", '0', 10), specimen.Padded(specimen.Evil, filetype.TarBlock), make([]byte, 1024)),
			func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"tar sum":                     {specimen.Concat(tarFile[:1024], bytes.Repeat([]byte("x"), 512), tarFile), func(o budget.Outcome) bool { return o.Damaged }},
		"vhd":                         {append([]byte("conectix"), make([]byte, 512)...), func(o budget.Outcome) bool { return o.Damaged }},
		"second volume":               {[]byte{1, 2, 3, 4}, func(o budget.Outcome) bool { return o.Damaged }},
		"7z header asks for too much": {specimen.SevenZipHuge(), func(o budget.Outcome) bool { return o.Damaged || o.OverLimits }},
		"xz asks for too much":        {specimen.XZHuge(), func(o budget.Outcome) bool { return isClean(o) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := specimen.Look(t, expand, c.data, "x.7z.002")
			if !c.want(got.Outcome) {
				t.Errorf("names %q, outcome %+v", got.Names(), got.Outcome)
			}
		})
	}
}

// TestOldFormats has the formats that are known and not decoded.
func TestOldFormats(t *testing.T) {
	t.Parallel()
	const implode = 6
	for name, data := range map[string][]byte{
		"evil.ex_":  append(specimen.AppendLE([]byte("SZDD\x88\xf0\x27\x33A\x00"), len(specimen.Evil), 4), specimen.Evil...),
		"evil.sis":  specimen.Concat([]byte("\x00\x00\x00\x01\x12\x3a\x00\x10\x19\x04\x00\x10"), make([]byte, 99), specimen.Zlib(specimen.Evil)),
		"setup.exe": specimen.SetupProgram(specimen.Concat([]byte("InstallShield\x00"), specimen.Evil)),
		"evil.zip":  specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Raw: specimen.Evil[:200], Method: implode}),
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

func isClean(o budget.Outcome) bool { return specimen.Seen{Outcome: o}.Clean() }

func TestTarKinds(t *testing.T) {
	t.Parallel()
	got := specimen.Look(t, expand, specimen.Tar(tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		tar.Header{Name: "c", Typeflag: tar.TypeChar}, tar.Header{Name: "f", Typeflag: tar.TypeFifo}))
	m := got.Members
	if len(m) != 4 || !m[0].Dir || !m[1].Link || !m[2].Special || !m[3].Special {
		t.Errorf("got %+v", m)
	}
}

// TestNested checks that a container in a container is found at every level.
func TestNested(t *testing.T) {
	t.Parallel()
	data := specimen.Evil
	for range 4 {
		data = specimen.Zip(specimen.ZipFile{Name: "x.zip", Data: data, Method: specimen.ZipDeflate})
		data = specimen.Gzip(specimen.TarFile("y.tar", data))
	}
	got := deep(t, data, nil, specimen.Budget(1<<20), 14)
	if !got.HasData(specimen.Evil) || !got.Clean() {
		t.Errorf("%d members, outcome %+v", len(got.Members), got.Outcome)
	}
	got = deep(t, data, nil, specimen.Budget(1<<20), 8)
	if got.Clean() {
		t.Error("too deep, and nothing said")
	}
}

// TestBehindTheEnd puts an archive behind one of another kind.
func TestBehindTheEnd(t *testing.T) {
	t.Parallel()
	hidden := specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipDeflate})
	for name, front := range map[string][]byte{
		"tar": specimen.TarFile("ok.txt", []byte("text")), "gzip": specimen.Gzip([]byte("text")), "xz": specimen.XZ([]byte("text")), "bzip2": specimen.Bzip2Hello,
		"7z": specimen.SevenZip("ok.txt", []byte("text"), false, false), "cab": specimen.Cab("ok.txt", []byte("text"), specimen.CabMSZip),
		"rar": specimen.RAR5("ok.txt", []byte("text"), false), "iso": specimen.ISO("OK.TXT", "", []byte("text")),
		"cpio": specimen.Newc("TRAILER!!!", 0, nil), "ar": specimen.Ar("ok.txt", []byte("text")), "pdf": specimen.PDF("ok.txt", []byte("text")),
		"ole": specimen.OLE("WordDocument", []byte("text")), "zstd": specimen.Zstd([]byte("text")), "lha": specimen.LHA("ok.txt", "-lh0-", []byte("text"), 4),
	} {
		data := specimen.Concat(front, hidden)
		if got := deep(t, data, nil, specimen.Budget(len(data)), 5); !got.HasData(specimen.Evil) {
			t.Errorf("%s: names %q, outcome %+v", name, got.Names(), got.Outcome)
		}
	}
}

// TestGzipBomb is 34 MB of zeros before the program, in 34 kB.
func TestGzipBomb(t *testing.T) {
	t.Parallel()
	data := specimen.Gzip(append(make([]byte, 34<<20), specimen.Evil...))
	if got := specimen.LookAs(t, expand, data, specimen.Budget(len(data)), "gz"); !got.OverLimits {
		t.Errorf("outcome %+v", got.Outcome)
	}
}

// TestPDFBomb is a stream of 40 MB of empty blocks, deflated again: nothing
// comes out of it, but it must be paid for.
func TestPDFBomb(t *testing.T) {
	t.Parallel()
	inner := append([]byte("\x78\x9c"), bytes.Repeat([]byte("\x00\x00\x00\xff\xff"), 8<<20)...)
	data := specimen.Concat([]byte("%PDF-1.4\n2 0 obj\n<</Type/EmbeddedFile/Filter[/FlateDecode/FlateDecode]>>\nstream\n"), specimen.Zlib(inner), []byte("\nendstream\nendobj\n"))
	if got := specimen.LookAs(t, expand, data, specimen.Budget(len(data)), "pdf"); !got.OverLimits {
		t.Errorf("outcome %+v", got.Outcome)
	}
}

// TestCallerStops checks that an error of the caller comes back as it is
// and that no member follows it.
func TestCallerStops(t *testing.T) {
	t.Parallel()
	data := specimen.Zip(specimen.ZipFile{Name: "a", Data: specimen.Evil}, specimen.ZipFile{Name: "b", Data: specimen.Evil})
	n := 0
	_, err := expand(data, []string{"zip"}, specimen.Budget(len(data)), func(budget.Member) error { n++; return io.ErrClosedPipe })
	if err != io.ErrClosedPipe || n != 1 {
		t.Errorf("error %v after %d members", err, n)
	}
}

// TestReaders checks that whatever has a reader is called a container.
func TestReaders(t *testing.T) {
	for _, table := range []map[string]budget.Reader{archive.Readers, document.Readers} {
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
	x := budget.NewOpener(specimen.Budget(1), nil, nil)
	if err := x.Run("test", func(*budget.Opener, []byte) error { panic("boom") }, nil); err != nil || !x.Damaged() {
		t.Errorf("error %v, outcome %+v", err, x.Outcome())
	}
}
