package unpack

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"os"
	"slices"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// zipFile is one member as the test wants it written, true or not. What
// starts with central or local is written in that place only.
type zipFile struct {
	name, centralName, localName string
	data                         []byte
	method                       uint16
	raw                          []byte // compressed data, if not made from data
	flags                        uint16
	centralExtra, localExtra     []byte
	mode                         uint32
	descriptor                   bool // sizes only after the data
	centralZero                  bool // sizes 0 in the directory
	hidden                       bool // not in the directory
	claim                        *uint32
}

func (f zipFile) packed() []byte {
	if f.raw != nil {
		return f.raw
	}
	if f.method == zipStore {
		return f.data
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write(f.data)
	w.Close()
	return b.Bytes()
}

// zipBody writes the local part; zipTail the directory and end record for it.
func zipBody(prefix []byte, files []zipFile) (body []byte, offsets []int) {
	body = append(body, prefix...)
	for _, f := range files {
		offsets = append(offsets, len(body))
		name := f.name
		if f.localName != "" {
			name = f.localName
		}
		packed := f.packed()
		flags, crc, psize, size := f.flags, crc32.ChecksumIEEE(f.data), len(packed), len(f.data)
		if f.descriptor {
			flags |= filetype.ZipFlagDescriptor
			crc, psize, size = 0, 0, 0
		}
		body = append(body, filetype.ZipLocal...)
		body = appendLE(body, 20, 2, int(flags), 2, int(f.method), 2, 0, 4, int(crc), 4, psize, 4, size, 4, len(name), 2, len(f.localExtra), 2)
		body = append(append(body, name...), f.localExtra...)
		body = append(body, packed...)
		if f.descriptor {
			body = append(body, "PK\x07\x08"...)
			body = appendLE(body, int(crc32.ChecksumIEEE(f.data)), 4, len(packed), 4, len(f.data), 4)
		}
	}
	return body, offsets
}

func zipTail(start, shift int, files []zipFile, offsets []int) (tail []byte) {
	n := 0
	for i, f := range files {
		if f.hidden {
			continue
		}
		n++
		name := f.name
		if f.centralName != "" {
			name = f.centralName
		}
		psize, size := len(f.packed()), len(f.data)
		if f.centralZero {
			psize, size = 0, 0
		}
		if f.claim != nil {
			size = int(*f.claim)
		}
		flags := f.flags
		if f.descriptor {
			flags |= filetype.ZipFlagDescriptor
		}
		tail = append(tail, filetype.ZipCentral...)
		tail = appendLE(tail, 3<<8|20, 2, 20, 2, int(flags), 2, int(f.method), 2, 0, 4, int(crc32.ChecksumIEEE(f.data)), 4, psize, 4, size, 4,
			len(name), 2, len(f.centralExtra), 2, 0, 2, 0, 2, 0, 2, int(f.mode<<16), 4, offsets[i]-shift, 4)
		tail = append(append(tail, name...), f.centralExtra...)
	}
	length := len(tail)
	tail = append(tail, filetype.ZipEnd...)
	return appendLE(tail, 0, 2, 0, 2, n, 2, n, 2, length, 4, start-shift, 4, 0, 2)
}

// appendLE appends pairs of value and width, little endian.
func appendLE(b []byte, pairs ...int) []byte {
	var v [8]byte
	for i := 0; i < len(pairs); i += 2 {
		binary.LittleEndian.PutUint64(v[:], uint64(pairs[i]))
		b = append(b, v[:pairs[i+1]]...)
	}
	return b
}

func zipOf(files ...zipFile) []byte { return zipAfter(nil, false, files...) }

// zipAfter puts a zip behind prefix. With shifted, the offsets in it do not
// count the prefix.
func zipAfter(prefix []byte, shifted bool, files ...zipFile) []byte {
	body, offsets := zipBody(prefix, files)
	shift := 0
	if shifted {
		shift = len(prefix)
	}
	return append(body, zipTail(len(body), shift, files, offsets)...)
}

func unicodePath(name, path string) []byte {
	b := appendLE(nil, 0x7075, 2, 5+len(path), 2, 1, 1, int(crc32.ChecksumIEEE([]byte(name))), 4)
	return append(b, path...)
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestZip(t *testing.T) {
	t.Parallel()
	exe := zipFile{name: "evil.exe", data: evil, method: zipDeflate}
	txt := zipFile{name: "good.txt", data: []byte("nothing to see here, move along"), method: zipDeflate}
	stored := exe
	stored.method = zipStore
	with := func(f zipFile, set func(*zipFile)) zipFile { set(&f); return f }
	plain := zipOf(exe)
	jpeg := append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01"), bytes.Repeat([]byte{7}, 500)...)
	wrongComment := bytes.Clone(plain)
	wrongComment[len(wrongComment)-2] = 200
	noDirectory, _ := zipBody(nil, []zipFile{exe})
	claim := uint32(100)

	for name, c := range map[string]struct {
		data  []byte
		clean bool // nothing but the members
		why   func(budget.Outcome) bool
		names []string
	}{
		"plain":             {data: plain, clean: true},
		"stored":            {data: zipOf(stored), clean: true},
		"two members":       {data: zipOf(txt, exe), clean: true, names: []string{"good.txt", "evil.exe"}},
		"behind a JPEG":     {data: zipAfter(jpeg, false, exe), clean: true},
		"behind, shifted":   {data: zipAfter(jpeg, true, exe), clean: true},
		"junk after":        {data: concat(plain, bytes.Repeat([]byte("junk "), 14000)), clean: true},
		"comment length":    {data: wrongComment, clean: true},
		"data descriptor":   {data: zipOf(with(exe, func(f *zipFile) { f.descriptor = true })), clean: true},
		"stored descriptor": {data: zipOf(with(stored, func(f *zipFile) { f.descriptor = true })), clean: true},
		"sizes zero": {data: zipOf(with(exe, func(f *zipFile) { f.centralZero = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"stored sizes zero": {data: zipOf(with(stored, func(f *zipFile) { f.centralZero = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"size too small": {data: zipOf(with(exe, func(f *zipFile) { f.claim = &claim })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"other name in the directory": {data: zipOf(with(exe, func(f *zipFile) { f.centralName = "good.txt" })),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"other name in the local header": {data: zipOf(with(exe, func(f *zipFile) { f.localName = "good.txt" })),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"no directory": {data: noDirectory, why: func(o budget.Outcome) bool { return o.Damaged }},
		"no directory, descriptor": {data: noDirectoryOf(with(exe, func(f *zipFile) { f.descriptor = true })),
			why: func(o budget.Outcome) bool { return o.Damaged }},
		"no directory, stored descriptor": {data: noDirectoryOf(with(stored, func(f *zipFile) { f.descriptor = true })),
			why: func(o budget.Outcome) bool { return o.Damaged }},
		"not in the directory": {data: zipOf(txt, with(exe, func(f *zipFile) { f.hidden = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"joined, evil last": {data: concat(zipOf(txt), plain), names: []string{"good.txt", "evil.exe"},
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"joined, evil first": {data: concat(plain, zipOf(txt)), names: []string{"good.txt", "evil.exe"},
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"encryption flag, not encrypted": {data: zipOf(with(exe, func(f *zipFile) { f.flags = 1 })),
			why: func(o budget.Outcome) bool { return o.Encrypted }},
		"method 99, not encrypted": {data: zipOf(with(exe, func(f *zipFile) { f.raw = exe.packed(); f.method = 99 })),
			why: func(o budget.Outcome) bool { return o.Encrypted }},
		"Unicode path differs": {data: zipOf(with(exe, func(f *zipFile) { f.name = "good.txt"; f.centralExtra = unicodePath("good.txt", "evil.exe") })),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"Unicode path agrees": {data: zipOf(with(exe, func(f *zipFile) { f.name = "\x81bel.exe"; f.centralExtra = unicodePath("\x81bel.exe", "übel.exe") })),
			names: []string{"übel.exe"}, clean: true},
		"NUL in the name": {data: zipOf(with(exe, func(f *zipFile) { f.name = "evil.exe\x00.txt" })),
			names: []string{"evil.exe\x00.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"path upwards":      {data: zipOf(with(exe, func(f *zipFile) { f.name = `..\..\evil.exe` })), names: []string{`..\..\evil.exe`}, clean: true},
		"directory before":  {data: zipOf(zipFile{name: "evil.exe/"}, exe), names: []string{"evil.exe/", "evil.exe"}, clean: true},
		"directory content": {data: zipOf(with(exe, func(f *zipFile) { f.name = "evil.exe/" })), why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"hidden in slack": {data: zipOf(with(txt, func(f *zipFile) { f.raw = concat(txt.packed(), noDirectory) })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"cut": {data: zipOf(exe, txt)[:len(noDirectory)+20], why: func(o budget.Outcome) bool { return o.Damaged }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := look(t, c.data, "x.zip")
			if !got.hasData(evil) {
				t.Errorf("payload not found among %q", got.names())
			}
			if got.clean() != c.clean {
				t.Errorf("outcome %+v", got.Outcome)
			}
			if c.why != nil && !c.why(got.Outcome) {
				t.Errorf("outcome %+v", got.Outcome)
			}
			for _, n := range c.names {
				if !slices.Contains(got.names(), n) {
					t.Errorf("name %q missing in %q", n, got.names())
				}
			}
		})
	}
}

func noDirectoryOf(files ...zipFile) []byte {
	body, _ := zipBody(nil, files)
	return body
}

func TestZipEncrypted(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("\x93\x1c\xe7\x42\xfd"), 80)
	for name, f := range map[string]zipFile{
		"ZipCrypto": {name: "secret.exe", data: evil, method: zipDeflate, raw: garbage, flags: 1},
		"AES":       {name: "secret.exe", data: evil, method: zipAES, raw: garbage, flags: 1, centralExtra: []byte("\x01\x99\x07\x00\x02\x00AE\x03\x08\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := look(t, zipOf(f))
			if !got.Encrypted || len(got.members) != 1 || got.members[0].Data != nil || !got.members[0].Encrypted || first(got.names()) != "secret.exe" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestZipCutInTheMiddle(t *testing.T) {
	t.Parallel()
	data := zipOf(zipFile{name: "a.txt", data: []byte("first"), method: zipStore}, zipFile{name: "evil.exe", data: evil, method: zipStore})
	got := look(t, data[:200], "a.zip")
	if !got.Damaged || !slices.Equal(got.names(), []string{"a.txt", "evil.exe"}) {
		t.Errorf("names %q, outcome %+v", got.names(), got.Outcome)
	}
	if last := got.members[1]; !bytes.HasPrefix(evil, last.Data) || len(last.Data) == 0 {
		t.Errorf("last member has %q", last.Data)
	}
}

func TestZipLink(t *testing.T) {
	t.Parallel()
	got := look(t, zipOf(zipFile{name: "l", data: []byte("/etc/passwd"), method: zipStore, mode: 0o120777},
		zipFile{name: "d", method: zipStore, mode: 0o020666}))
	if len(got.members) != 2 || !got.members[0].Link || !got.members[1].Special {
		t.Errorf("got %+v", got.members)
	}
}

// TestZipStoredZip checks that a zip stored in a zip is a member and no second
// reading of the outer one.
func TestZipStoredZip(t *testing.T) {
	t.Parallel()
	inner := zipOf(zipFile{name: "evil.exe", data: evil, method: zipDeflate})
	got := look(t, zipOf(zipFile{name: "photo.jpg", data: inner, method: zipStore}))
	if !got.clean() || !slices.Equal(got.names(), []string{"photo.jpg"}) {
		t.Errorf("names %q, outcome %+v", got.names(), got.Outcome)
	}
	all := deep(t, zipOf(zipFile{name: "photo.jpg", data: inner, method: zipStore}), nil, testBudget(1000), 5)
	if !all.hasData(evil) {
		t.Error("payload not found")
	}
}

func TestZipManyMembers(t *testing.T) {
	t.Parallel()
	var files []zipFile
	for range 2000 {
		files = append(files, zipFile{name: "small.txt", data: []byte("x")})
	}
	got := look(t, zipOf(append(files, zipFile{name: "evil.exe", data: evil})...))
	if !got.OverLimits || len(got.members) != budget.DefaultLimits.Entries {
		t.Errorf("%d members, outcome %+v", len(got.members), got.Outcome)
	}
}

// TestZipOverlap has many entries share one large member.
func TestZipOverlap(t *testing.T) {
	t.Parallel()
	kernel := zipFile{name: "0", data: make([]byte, 8<<20), method: zipDeflate}
	kernel.raw = kernel.packed()
	var all []zipFile
	var at []int
	for range 200 {
		all, at = append(all, kernel), append(at, 0)
		all[len(all)-1].name += string(rune('a' + len(all)%26))
	}
	one, _ := zipBody(nil, []zipFile{kernel})
	got := look(t, append(one, zipTail(len(one), 0, all, at)...))
	if got.Disagreement == "" || len(got.members) != 1 {
		t.Errorf("%d members, outcome %+v", len(got.members), got.Outcome)
	}
}

func TestZipBomb(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, _ := w.Create("zeros")
	f.Write(make([]byte, 24<<20))
	w.Close()
	limits := budget.DefaultLimits
	limits.Bytes = 18 << 20
	left := budget.New(t.Context(), limits, int64(b.Len()))
	var largest int
	out, err := expand(b.Bytes(), []string{"zip"}, left, func(m budget.Member) error { largest = max(largest, len(m.Data)); return nil })
	if err != nil || !out.OverLimits || int64(largest) > limits.Bytes+64<<10 {
		t.Errorf("largest %d, outcome %+v, error %v", largest, out, err)
	}
}

func TestZip64(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, _ := w.CreateRaw(&zip.FileHeader{Name: "evil.exe", Method: zip.Store, CRC32: crc32.ChecksumIEEE(evil), CompressedSize64: 400, UncompressedSize64: 400})
	f.Write(evil)
	w.Close()
	data := b.Bytes()
	// write the end record again as zip64
	end := bytes.Clone(data[len(data)-filetype.ZipEndLen:])
	dirSize, dirAt := binary.LittleEndian.Uint32(end[12:]), binary.LittleEndian.Uint32(end[16:])
	data = data[:len(data)-filetype.ZipEndLen]
	at := len(data)
	data = append(data, filetype.ZipEnd64...)
	data = appendLE(data, 44, 8, 45, 2, 45, 2, 0, 4, 0, 4, 1, 8, 1, 8, int(dirSize), 8, int(dirAt), 8)
	data = append(data, filetype.ZipLoc64...)
	data = appendLE(data, 0, 4, at, 8, 1, 4)
	data = append(data, filetype.ZipEnd...)
	data = appendLE(data, 0xffff, 2, 0xffff, 2, 0xffff, 2, 0xffff, 2, 0xffffffff, 4, 0xffffffff, 4, 0, 2)
	if r, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err != nil || len(r.File) != 1 {
		t.Fatalf("test file: %v", err)
	}
	got := look(t, data)
	if !got.clean() || !got.hasData(evil) {
		t.Errorf("names %q, outcome %+v", got.names(), got.Outcome)
	}
}

func BenchmarkZipList(b *testing.B) {
	var files []zipFile
	for range 100 {
		files = append(files, zipFile{name: "dir/some-name.txt", data: []byte("some text that is stored"), method: zipStore})
	}
	data := zipOf(files...)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := expand(data, []string{"zip"}, testBudget(len(data)), func(budget.Member) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzZip(f *testing.F) {
	exe := zipFile{name: "evil.exe", data: evil, method: zipDeflate}
	f.Add(zipOf(exe))
	f.Add(zipOf(zipFile{name: "a/"}, exe, zipFile{name: "b", data: evil, flags: 1, centralExtra: unicodePath("b", "c")}))
	f.Add(concat(zipOf(exe), zipOf(exe)))
	f.Add(zipLocked(exe, "infected"))
	f.Add(must(os.ReadFile("testdata/locked/aes128.zip")))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzExpand(t, data, "zip")
	})
}

// spend leaves so many rounds of hashing to b, which has passwords.
func spend(b *budget.Budget, rounds int64) {
	for range b.Tries(b.RoundsLeft() - rounds) {
		break
	}
}

// fuzzExpand runs a reader on anything: no panic (a recovered one fails the
// test), no more than the budget.
func fuzzExpand(t *testing.T, data []byte, short string) {
	limits := budget.DefaultLimits
	limits.Bytes, limits.Entries = 4<<20, 200
	b := budget.New(t.Context(), limits, int64(len(data)))
	b.SetPasswords([]string{"wrong", "infected"})
	spend(b, 1<<16)
	members := 0
	x := budget.NewOpener(b, func(m budget.Member) error {
		members++
		for _, n := range m.Names {
			if len(n) > 2*filetype.MaxName+2 {
				t.Errorf("name of %d octets", len(n))
			}
		}
		return nil
	}, readInside)
	defer x.Free()
	_ = reader(short)(x, data) // damaged is what most of it is
	if members > limits.Entries+16 {
		t.Errorf("%d members", members)
	}
}
