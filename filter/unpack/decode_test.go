package unpack

import (
	"bytes"
	"slices"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/armour"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

func TestArmour(t *testing.T) {
	t.Parallel()
	type file struct{ name, data string }
	for _, tt := range []struct {
		what string
		find func([]byte) []armour.File
		in   string
		want []file
	}{
		{"uuencode", armour.FindUU, "x\r\nbegin 644 a b.txt\r\n#0V%T\r\n`\r\nend\r\n", []file{{"a b.txt", "Cat"}}},
		{"uuencode without end", armour.FindUU, "begin 0644 a\n#0V%T", []file{{"a", "Cat"}}},
		{"uuencode, blanks cut off", armour.FindUU, "begin 644 a\n!80\n \nend\n", []file{{"a", "a"}}},
		{"two files", armour.FindUU, "begin 644 a\n#0V%T\nend\nbegin 644 b\n#0V%T\nend\n", []file{{"a", "Cat"}, {"b", "Cat"}}},
		{"odd mode", armour.FindUU, "begin 999 x\n#0V%T\nbegin rw-r--r-- y\n#0V%T\n", []file{{"x", "Cat"}, {"y", "Cat"}}},
		{"no mode", armour.FindUU, "BEGIN x\n#0V%T\n", []file{{"x", "Cat"}}},
		{"lines between", armour.FindUU, "begin 644 x\n#0V%T\nhello\n#0V%T\nend\n", []file{{"x", "CatCat"}}},
		{"name in base64", armour.FindUU, "begin-base64-encoded 644 YQ==\nQ2F0\n====\n", []file{{"a", "Cat"}}},
		{"no file", armour.FindUU, "begin at the beginning\nNOT HERE.\nbegin 644 x\nhello world, this is text\n", nil},
		{"base64 form", armour.FindUU, "begin-base64 644 a\nQ2F0\n====\n", []file{{"a", "Cat"}}},
		{"yEnc", armour.FindYEnc, "x\n=ybegin line=128 size=3 name=a b\nm\x8b\x9e\n=yend size=3\n", []file{{"a b", "Cat"}}},
		{"yEnc escape", armour.FindYEnc, "=ybegin part=1 line=128 size=2 name=a\n=ypart begin=1 end=2\n=\x7dk\n=yend\n", []file{{"a", "\x13A"}}},
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

func TestBinHex(t *testing.T) {
	t.Parallel()
	got, over := armour.FindBinHex([]byte(specimen.BinHex("evil.exe")), 1000)
	if over || len(got) != 1 || got[0].Name != "evil.exe" || !bytes.Equal(got[0].Data, specimen.Payload) {
		t.Errorf("got %v", got)
	}
	for cut := range len(specimen.BinHex("x")) {
		armour.FindBinHex([]byte(specimen.BinHex("x")[:cut]), 1000) // must not panic
	}
	// 0x90 0xff repeats the octet before it 254 times
	bomb := mailHead + "\r\n" + specimen.BinHexText(append([]byte("\x01x\x00APPLxxxx\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00a"), bytes.Repeat([]byte{0x90, 0xff}, 100_000)...))
	r := unpackWith(budget.DefaultLimits, bomb)
	if !hasMinor(r, mail.OverLimits) {
		t.Errorf("bomb is quiet\n%s", describeTree(r))
	}
}
