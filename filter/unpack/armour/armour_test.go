package armour

import (
	"bytes"
	"slices"
	"testing"

	"postern/filter/unpack/specimen"
)

func TestArmour(t *testing.T) {
	t.Parallel()
	type file struct{ name, data string }
	for _, tt := range []struct {
		what string
		find func([]byte) []File
		in   string
		want []file
	}{
		{"uuencode", FindUU, "x\r\nbegin 644 a b.txt\r\n#0V%T\r\n`\r\nend\r\n", []file{{"a b.txt", "Cat"}}},
		{"uuencode without end", FindUU, "begin 0644 a\n#0V%T", []file{{"a", "Cat"}}},
		{"uuencode, blanks cut off", FindUU, "begin 644 a\n!80\n \nend\n", []file{{"a", "a"}}},
		{"two files", FindUU, "begin 644 a\n#0V%T\nend\nbegin 644 b\n#0V%T\nend\n", []file{{"a", "Cat"}, {"b", "Cat"}}},
		{"odd mode", FindUU, "begin 999 x\n#0V%T\nbegin rw-r--r-- y\n#0V%T\n", []file{{"x", "Cat"}, {"y", "Cat"}}},
		{"no mode", FindUU, "BEGIN x\n#0V%T\n", []file{{"x", "Cat"}}},
		{"lines between", FindUU, "begin 644 x\n#0V%T\nhello\n#0V%T\nend\n", []file{{"x", "CatCat"}}},
		{"name in base64", FindUU, "begin-base64-encoded 644 YQ==\nQ2F0\n====\n", []file{{"a", "Cat"}}},
		{"no file", FindUU, "begin at the beginning\nNOT HERE.\nbegin 644 x\nhello world, this is text\n", nil},
		{"base64 form", FindUU, "begin-base64 644 a\nQ2F0\n====\n", []file{{"a", "Cat"}}},
		{"yEnc", FindYEnc, "x\n=ybegin line=128 size=3 name=a b\nm\x8b\x9e\n=yend size=3\n", []file{{"a b", "Cat"}}},
		{"yEnc escape", FindYEnc, "=ybegin part=1 line=128 size=2 name=a\n=ypart begin=1 end=2\n=\x7dk\n=yend\n", []file{{"a", "\x13A"}}},
	} {
		var got []file
		for _, f := range tt.find([]byte(tt.in)) {
			got = append(got, file{f.Name, string(f.Data)})
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

func FuzzArmour(f *testing.F) {
	f.Add([]byte(specimen.UU("a")))
	f.Add([]byte(specimen.YEnc("a")))
	f.Add([]byte(specimen.BinHex("a")))
	f.Add([]byte(specimen.Apple(0x51600, "a", 1)))
	f.Add([]byte(specimen.YEncPart(1, specimen.Payload[:50]) + specimen.YEncPart(2, specimen.Payload[50:])))
	f.Add([]byte("begin-base64 644 a\nQ2F0\n====\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		binhex, _ := FindBinHex(text, 1000)
		for _, list := range [][]File{FindUU(text), FindYEnc(text), FindApple(text), binhex} {
			total := 0
			for _, h := range list {
				total += len(h.Data)
			}
			if total > 2*len(text)+1000 {
				t.Errorf("%d octets from %d", total, len(text))
			}
		}
	})
}

func TestBinHex(t *testing.T) {
	t.Parallel()
	got, over := FindBinHex([]byte(specimen.BinHex("evil.exe")), 1000)
	if over || len(got) != 1 || got[0].Name != "evil.exe" || !bytes.Equal(got[0].Data, specimen.Payload) {
		t.Errorf("got %v", got)
	}
	for cut := range len(specimen.BinHex("x")) {
		FindBinHex([]byte(specimen.BinHex("x")[:cut]), 1000) // must not panic
	}
}
