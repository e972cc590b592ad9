package archive

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"slices"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func TestZip(t *testing.T) {
	t.Parallel()
	exe := specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipDeflate}
	txt := specimen.ZipFile{Name: "good.txt", Data: []byte("nothing to see here, move along"), Method: specimen.ZipDeflate}
	stored := exe
	stored.Method = specimen.ZipStore
	with := func(f specimen.ZipFile, set func(*specimen.ZipFile)) specimen.ZipFile { set(&f); return f }
	plain := specimen.Zip(exe)
	jpeg := append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01"), bytes.Repeat([]byte{7}, 500)...)
	wrongComment := bytes.Clone(plain)
	wrongComment[len(wrongComment)-2] = 200
	noDirectory, _ := specimen.ZipBody(nil, []specimen.ZipFile{exe})
	claim := uint32(100)

	for name, c := range map[string]struct {
		data  []byte
		clean bool // nothing but the members
		why   func(budget.Outcome) bool
		names []string
	}{
		"plain":             {data: plain, clean: true},
		"stored":            {data: specimen.Zip(stored), clean: true},
		"two members":       {data: specimen.Zip(txt, exe), clean: true, names: []string{"good.txt", "evil.exe"}},
		"behind a JPEG":     {data: specimen.ZipAfter(jpeg, false, exe), clean: true},
		"behind, shifted":   {data: specimen.ZipAfter(jpeg, true, exe), clean: true},
		"junk after":        {data: specimen.Concat(plain, bytes.Repeat([]byte("junk "), 14000)), clean: true},
		"comment length":    {data: wrongComment, clean: true},
		"data descriptor":   {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Descriptor = true })), clean: true},
		"stored descriptor": {data: specimen.Zip(with(stored, func(f *specimen.ZipFile) { f.Descriptor = true })), clean: true},
		"sizes zero": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.CentralZero = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"stored sizes zero": {data: specimen.Zip(with(stored, func(f *specimen.ZipFile) { f.CentralZero = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"size too small": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Claim = &claim })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"other name in the directory": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.CentralName = "good.txt" })),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"other name in the local header": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.LocalName = "good.txt" })),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"no directory": {data: noDirectory, why: func(o budget.Outcome) bool { return o.Damaged }},
		"no directory, descriptor": {data: specimen.ZipWithoutDirectory(with(exe, func(f *specimen.ZipFile) { f.Descriptor = true })),
			why: func(o budget.Outcome) bool { return o.Damaged }},
		"no directory, stored descriptor": {data: specimen.ZipWithoutDirectory(with(stored, func(f *specimen.ZipFile) { f.Descriptor = true })),
			why: func(o budget.Outcome) bool { return o.Damaged }},
		"not in the directory": {data: specimen.Zip(txt, with(exe, func(f *specimen.ZipFile) { f.Hidden = true })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"joined, evil last": {data: specimen.Concat(specimen.Zip(txt), plain), names: []string{"good.txt", "evil.exe"},
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"joined, evil first": {data: specimen.Concat(plain, specimen.Zip(txt)), names: []string{"good.txt", "evil.exe"},
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"encryption flag, not encrypted": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Flags = 1 })),
			why: func(o budget.Outcome) bool { return o.Encrypted }},
		"method 99, not encrypted": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Raw = exe.Packed(); f.Method = 99 })),
			why: func(o budget.Outcome) bool { return o.Encrypted }},
		"Unicode path differs": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) {
			f.Name = "good.txt"
			f.CentralExtra = specimen.UnicodePath("good.txt", "evil.exe")
		})),
			names: []string{"good.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"Unicode path agrees": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) {
			f.Name = "\x81bel.exe"
			f.CentralExtra = specimen.UnicodePath("\x81bel.exe", "übel.exe")
		})),
			names: []string{"übel.exe"}, clean: true},
		"NUL in the name": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Name = "evil.exe\x00.txt" })),
			names: []string{"evil.exe\x00.txt", "evil.exe"}, why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"path upwards":      {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Name = `..\..\evil.exe` })), names: []string{`..\..\evil.exe`}, clean: true},
		"directory before":  {data: specimen.Zip(specimen.ZipFile{Name: "evil.exe/"}, exe), names: []string{"evil.exe/", "evil.exe"}, clean: true},
		"directory content": {data: specimen.Zip(with(exe, func(f *specimen.ZipFile) { f.Name = "evil.exe/" })), why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"hidden in slack": {data: specimen.Zip(with(txt, func(f *specimen.ZipFile) { f.Raw = specimen.Concat(txt.Packed(), noDirectory) })),
			why: func(o budget.Outcome) bool { return o.Disagreement != "" }},
		"cut": {data: specimen.Zip(exe, txt)[:len(noDirectory)+20], why: func(o budget.Outcome) bool { return o.Damaged }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := specimen.Look(t, expand, c.data, "x.zip")
			if !got.HasData(specimen.Evil) {
				t.Errorf("payload not found among %q", got.Names())
			}
			if got.Clean() != c.clean {
				t.Errorf("outcome %+v", got.Outcome)
			}
			if c.why != nil && !c.why(got.Outcome) {
				t.Errorf("outcome %+v", got.Outcome)
			}
			for _, n := range c.names {
				if !slices.Contains(got.Names(), n) {
					t.Errorf("name %q missing in %q", n, got.Names())
				}
			}
		})
	}
}

func TestZipEncrypted(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("\x93\x1c\xe7\x42\xfd"), 80)
	for name, f := range map[string]specimen.ZipFile{
		"ZipCrypto": {Name: "secret.exe", Data: specimen.Evil, Method: specimen.ZipDeflate, Raw: garbage, Flags: 1},
		"AES":       {Name: "secret.exe", Data: specimen.Evil, Method: specimen.ZipAES, Raw: garbage, Flags: 1, CentralExtra: []byte("\x01\x99\x07\x00\x02\x00AE\x03\x08\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := specimen.Look(t, expand, specimen.Zip(f))
			if !got.Encrypted || len(got.Members) != 1 || got.Members[0].Data != nil || !got.Members[0].Encrypted || got.Members[0].Names[0] != "secret.exe" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestZipCutInTheMiddle(t *testing.T) {
	t.Parallel()
	data := specimen.Zip(specimen.ZipFile{Name: "a.txt", Data: []byte("first"), Method: specimen.ZipStore}, specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipStore})
	got := specimen.Look(t, expand, data[:200], "a.zip")
	if !got.Damaged || !slices.Equal(got.Names(), []string{"a.txt", "evil.exe"}) {
		t.Errorf("names %q, outcome %+v", got.Names(), got.Outcome)
	}
	if last := got.Members[1]; !bytes.HasPrefix(specimen.Evil, last.Data) || len(last.Data) == 0 {
		t.Errorf("last member has %q", last.Data)
	}
}

func TestZipLink(t *testing.T) {
	t.Parallel()
	got := specimen.Look(t, expand, specimen.Zip(specimen.ZipFile{Name: "l", Data: []byte("/etc/passwd"), Method: specimen.ZipStore, Mode: 0o120777},
		specimen.ZipFile{Name: "d", Method: specimen.ZipStore, Mode: 0o020666}))
	if len(got.Members) != 2 || !got.Members[0].Link || !got.Members[1].Special {
		t.Errorf("got %+v", got.Members)
	}
}

// TestZipStoredZip checks that a zip stored in a zip is a member and no second
// reading of the outer one.
func TestZipStoredZip(t *testing.T) {
	t.Parallel()
	inner := specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipDeflate})
	got := specimen.Look(t, expand, specimen.Zip(specimen.ZipFile{Name: "photo.jpg", Data: inner, Method: specimen.ZipStore}))
	if !got.Clean() || !slices.Equal(got.Names(), []string{"photo.jpg"}) {
		t.Errorf("names %q, outcome %+v", got.Names(), got.Outcome)
	}
	all := specimen.Look(t, expand, got.Members[0].Data)
	if !all.HasData(specimen.Evil) {
		t.Error("payload not found")
	}
}

func TestZipManyMembers(t *testing.T) {
	t.Parallel()
	var files []specimen.ZipFile
	for range budget.DefaultLimits.Entries {
		files = append(files, specimen.ZipFile{Name: "small.txt", Data: []byte("x")})
	}
	got := specimen.Look(t, expand, specimen.Zip(append(files, specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil})...))
	if !got.OverLimits || len(got.Members) != budget.DefaultLimits.Entries {
		t.Errorf("%d members, outcome %+v", len(got.Members), got.Outcome)
	}
}

// TestZipOverlap has many entries share one large member.
func TestZipOverlap(t *testing.T) {
	t.Parallel()
	kernel := specimen.ZipFile{Name: "0", Data: make([]byte, 8<<20), Method: specimen.ZipDeflate}
	kernel.Raw = kernel.Packed()
	var all []specimen.ZipFile
	var at []int
	for range 200 {
		all, at = append(all, kernel), append(at, 0)
		all[len(all)-1].Name += string(rune('a' + len(all)%26))
	}
	one, _ := specimen.ZipBody(nil, []specimen.ZipFile{kernel})
	got := specimen.Look(t, expand, append(one, specimen.ZipTail(len(one), 0, all, at)...))
	if got.Disagreement == "" || len(got.Members) != 1 {
		t.Errorf("%d members, outcome %+v", len(got.Members), got.Outcome)
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
	f, _ := w.CreateRaw(&zip.FileHeader{Name: "evil.exe", Method: zip.Store, CRC32: crc32.ChecksumIEEE(specimen.Evil), CompressedSize64: 400, UncompressedSize64: 400})
	f.Write(specimen.Evil)
	w.Close()
	data := b.Bytes()
	// write the end record again as zip64
	end := bytes.Clone(data[len(data)-filetype.ZipEndLen:])
	dirSize, dirAt := binary.LittleEndian.Uint32(end[12:]), binary.LittleEndian.Uint32(end[16:])
	data = data[:len(data)-filetype.ZipEndLen]
	at := len(data)
	data = append(data, filetype.ZipEnd64...)
	data = specimen.AppendLE(data, 44, 8, 45, 2, 45, 2, 0, 4, 0, 4, 1, 8, 1, 8, int(dirSize), 8, int(dirAt), 8)
	data = append(data, filetype.ZipLoc64...)
	data = specimen.AppendLE(data, 0, 4, at, 8, 1, 4)
	data = append(data, filetype.ZipEnd...)
	data = specimen.AppendLE(data, 0xffff, 2, 0xffff, 2, 0xffff, 2, 0xffff, 2, 0xffffffff, 4, 0xffffffff, 4, 0, 2)
	if r, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err != nil || len(r.File) != 1 {
		t.Fatalf("test file: %v", err)
	}
	got := specimen.Look(t, expand, data)
	if !got.Clean() || !got.HasData(specimen.Evil) {
		t.Errorf("names %q, outcome %+v", got.Names(), got.Outcome)
	}
}

func BenchmarkZipList(b *testing.B) {
	var files []specimen.ZipFile
	for range 100 {
		files = append(files, specimen.ZipFile{Name: "dir/some-name.txt", Data: []byte("some text that is stored"), Method: specimen.ZipStore})
	}
	data := specimen.Zip(files...)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := expand(data, []string{"zip"}, specimen.Budget(len(data)), func(budget.Member) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzZip(f *testing.F) {
	exe := specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil, Method: specimen.ZipDeflate}
	f.Add(specimen.Zip(exe))
	f.Add(specimen.Zip(specimen.ZipFile{Name: "a/"}, exe, specimen.ZipFile{Name: "b", Data: specimen.Evil, Flags: 1, CentralExtra: specimen.UnicodePath("b", "c")}))
	f.Add(specimen.Concat(specimen.Zip(exe), specimen.Zip(exe)))
	f.Add(specimen.ZipLocked(exe, "infected"))
	f.Add(specimen.Must(os.ReadFile("../testdata/locked/aes128.zip")))
	f.Fuzz(func(t *testing.T, data []byte) {
		specimen.Fuzz(t, Readers["zip"], search, data)
	})
}
