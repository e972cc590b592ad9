package filetype_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"postern/filter/unpack/entity"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func TestFileTypes(t *testing.T) {
	t.Parallel()
	dll := bytes.Clone(specimen.Evil)
	binary.LittleEndian.PutUint16(dll[0x80+22:], 0x2102)
	docx := func(extra ...specimen.ZipFile) []byte {
		return specimen.Zip(append([]specimen.ZipFile{{Name: "[Content_Types].xml"}, {Name: "word/document.xml"}}, extra...)...)
	}
	wide := append([]byte("\xff\xfe"), bytes.ReplaceAll([]byte("<html><body>hidden</body></html>"), nil, []byte{0})[1:]...)
	boot := make([]byte, 1024)
	copy(boot, "\xeb\x3c\x90MSDOS5.0\x00\x02")
	boot[510], boot[511] = 0x55, 0xaa
	jpeg := append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01"), make([]byte, 100)...)
	for _, c := range []struct {
		data  string
		names []string
		want  string
	}{
		{"", nil, "empty"},
		{"hello\r\nworld\r\n", nil, "asc"},
		{"grüße\n", nil, "txt"},
		{"gr\xfc\xdfe\n", nil, "txt"},
		{"\xff\xfeh\x00i\x00", nil, "txt"},
		{"\x01\x02\x03\x00\xff", nil, "dat"},
		{string(specimen.Evil), nil, "exe exe-ms"},
		{string(specimen.Evil), []string{"photo.jpg"}, "exe exe-ms"},
		{"MZ" + strings.Repeat("\x00", 100), nil, "exe exe-ms"},
		{"MZ is how a program begins\n", nil, "asc"},
		{string(dll), nil, "exe dll"},
		{"\x7fELF\x02\x01\x01\x00", nil, "exe exe-unix"},
		{"\xca\xfe\xba\xbe\x00\x00\x00\x02", nil, "exe exe-unix"},
		{"\xca\xfe\xba\xbe\x00\x00\x00\x34", nil, "java"},
		{"%PDF-1.7\n%\xe2\xe3\n", nil, "pdf"},
		{"junk before\n%PDF-1.7\n", nil, "pdf"},
		{"{\\rtf1 x}", nil, "rtf"},
		{"<!DOCTYPE html>\n<p>x", nil, "html"},
		{"\n  <HTML><body>x", nil, "html"},
		{string(wide), nil, "html"},
		{"<html><hta:application id=x></html>", nil, "hta"},
		{"<?xml version='1.0'?><a/>", nil, "xml"},
		{"<?xml version='1.0'?><svg xmlns=''></svg>", nil, "image svg"},
		{"<job><script language='VBScript'>x</script></job>", nil, "wsf"},
		{"if a < b then c > d\n", nil, "asc"},
		{"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", nil, "image png"},
		{string(jpeg), nil, "image jpg"},
		{"GIF89a\x01\x00\x01\x00", nil, "image gif"},
		{"RIFF\x00\x00\x00\x00WAVEfmt ", nil, "audio wav"},
		{"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", nil, "movie mp4"},
		{"FWS\x06\x00\x00", nil, "swf"},
		{"\x4c\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0", nil, "lnk"},
		{string(specimen.OneNote(nil)), nil, "one"},
		{"\x78\x9f\x3e\x22\x01\x00", nil, "tnef"},
		{"ITSF\x03\x00\x00\x00", nil, "chm"},
		{"MSWIM\x00\x00\x00\xd0", nil, "wim"},
		{"vhdxfile\x00", nil, "vhdx"},
		{string(make([]byte, 1024)) + "conectix" + string(make([]byte, 504)), nil, "dat vhd"},
		{string(boot), nil, "dat img"},
		{string(docx()), nil, "doc docx"},
		{string(docx(specimen.ZipFile{Name: "word/vbaProject.bin"})), nil, "doc docm"},
		{string(specimen.Zip(specimen.ZipFile{Name: "META-INF/MANIFEST.MF"})), nil, "zip jar"},
		{string(specimen.Zip(specimen.ZipFile{Name: "mimetype", Data: []byte("application/vnd.oasis.opendocument.text")})), nil, "zip odt"},
		{string(specimen.Zip(specimen.ZipFile{Name: "word/document.txt"})), nil, "zip"},
		{string(specimen.ZipAfter(jpeg, false, specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil})), nil, "image jpg zip"},
		{string(specimen.ZipAfter(specimen.Evil, false, specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil})), nil, "exe exe-ms"},
		{string(specimen.Tar(tar.Header{Name: "MZx"})), nil, "exe exe-ms tar"},
		{string(specimen.Concat(specimen.PDF("a", nil), specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil}))), nil, "pdf zip"},
		{string(specimen.Concat(specimen.RAR5("a", nil, false), specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil}))), nil, "rar zip"},
		{string(specimen.OLE("WordDocument", specimen.Evil)), nil, "doc"},
		{string(specimen.OLE("__properties_version1.0", specimen.Evil)), nil, "cdf-ms msg"},
		{string(specimen.LZMA(specimen.Evil)), nil, "lzma"},
		{"From: a@example.com\r\nSubject: x\r\n\r\nbody", nil, "asc mail"},
		{"From: here to there\nwe went\n", nil, "asc"},
		{"text\nbegin 644 evil.exe\n#ABC\n", nil, "asc uue"},
		{"we begin 123 times\n", nil, "asc"},
		{"=ybegin line=128 size=1 name=a\n", nil, "asc yenc"},
		{"(This file must be converted with BinHex 4.0)\n\n:", nil, "asc hqx"},
		{"-----BEGIN PGP MESSAGE-----\n", nil, "pgp pgp.enc"},
		{"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", nil, "pgp pgp.asc"},
		{"\x85\x01\x0c\x03" + strings.Repeat("\xe1\x00", 20), nil, "pgp pgp.enc"},
		{"#!/bin/sh\nrm -rf /\n", nil, "asc sh"},
		{"@echo off\r\ndel *.*\r\n", nil, "asc bat"},
		{"Dim x\r\nSet x = CreateObject(\"WScript.Shell\")\r\n", nil, "asc vbs"},
		{"var x = new ActiveXObject('WScript.Shell');\n", nil, "asc js"},
		{"var x = 1;\n", []string{"a.txt", "invoice.js"}, "asc js"},
		{"$a = New-Object Net.WebClient\n", nil, "asc ps1"},
		{"$ ls\nls uses CreateObject( and nothing else\n", nil, "asc"},
		{"[InternetShortcut]\r\nURL=file://x\r\n", nil, "asc url"},
	} {
		short, media := filetype.Of([]byte(c.data), c.names)
		if got := strings.Join(short, " "); got != c.want {
			t.Errorf("%.40q: %s, want %s", c.data, got, c.want)
		}
		if media == "" {
			t.Errorf("%.40q: no media type", c.data)
		}
	}
}

// TestTypesAreFresh checks that a caller may append to what it gets.
func TestTypesAreFresh(t *testing.T) {
	t.Parallel()
	one, _ := filetype.Of(specimen.Evil, nil)
	_ = append(one, "spoiled")
	two, _ := filetype.Of(specimen.Evil, nil)
	if !slices.Equal(two[:cap(two)], two) {
		t.Errorf("shared list: %q", two[:cap(two)])
	}
}

// TestEmbeddedAnywhere puts each kind at odd and even places.
func TestEmbeddedAnywhere(t *testing.T) {
	t.Parallel()
	for kind, archive := range map[string][]byte{
		"zip": specimen.Zip(specimen.ZipFile{Name: "evil.exe", Data: specimen.Evil}), "7z": specimen.SevenZip("evil.exe", specimen.Evil, false, false),
		"rar": specimen.RAR5("evil.exe", specimen.Evil, false), "cab": specimen.Cab("evil.exe", specimen.Evil, specimen.CabMSZip),
	} {
		for at := range 5 {
			found := filetype.FindEmbedded(specimen.Concat(bytes.Repeat([]byte{0xee}, at), archive))
			if len(found) == 0 || found[0] != (filetype.Embedded{Kind: kind, At: at}) {
				t.Errorf("%s at %d: found %v", kind, at, found)
			}
		}
	}
}

func benchmarkTypes(b *testing.B, data []byte) {
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		filetype.Of(data, nil)
	}
}

func BenchmarkFileTypesText(b *testing.B) {
	benchmarkTypes(b, bytes.Repeat([]byte("Dear all, this is a line of an ordinary mail of some length.\r\n"), 66))
}

func BenchmarkFileTypesHTML(b *testing.B) {
	benchmarkTypes(b, bytes.Repeat([]byte("<html><body><p>Dear all, this is <b>a line</b> of an ordinary mail.</p>\r\n"), 56))
}

func BenchmarkFileTypesJPEG(b *testing.B) {
	benchmarkTypes(b, specimen.Noise("\xff\xd8\xff\xe0\x00\x10JFIF\x00", 700<<10))
}

func BenchmarkFileTypesUnknown(b *testing.B) {
	benchmarkTypes(b, specimen.Noise("\x01\x02\x00", 4<<10))
}

func FuzzFileTypes(f *testing.F) {
	for _, s := range [][]byte{specimen.Evil, specimen.Zip(specimen.ZipFile{Name: "[Content_Types].xml"}), specimen.OLE("WordDocument", specimen.Evil), []byte("From: a\nTo: b\n"), specimen.Tar(tar.Header{Name: "x"})} {
		f.Add(s, "x.js")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		short, media := filetype.Of(data, []string{name})
		if len(short) == 0 || short[len(short)-1] == "" || media == "" {
			t.Errorf("types %q, media type %q", short, media)
		}
	})
}

// TestLooksLikeMail has what the walk and the naming of types must see alike.
func TestLooksLikeMail(t *testing.T) {
	for text, want := range map[string]bool{
		"Subject: a\r\nFrom: b\r\n\r\n":                                           true,
		"\xef\xbb\xbfSubject: a\nFrom: b\n":                                       true,
		"From a@example.com Mon Jun  1\nX: y\n\tz\nTo: b\nDate: c\n":              true,
		">From a\nSubject : a\nFROM\t: b\n":                                       true,
		"X-\xe4: a\nSubject: a\nFrom: b\n":                                        true,
		"Dear all: see below\nSubject: a\nFrom: b\n":                              false,
		"Subject: a\n\nFrom: b\n":                                                 true,
		"Subject: a\nX: y\n\nFrom: b\n":                                           false,
		"Subject: a\n":                                                            false,
		"key: a\nother: b\nfrom: c\n" + strings.Repeat("x: y\n", 100) + "to: d\n": false,
	} {
		if got := entity.LooksLikeMail([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if types, _ := filetype.Of([]byte(text), nil); slices.Contains(types, "mail") != want {
			t.Errorf("%q: types %q", text, types)
		}
	}
}
