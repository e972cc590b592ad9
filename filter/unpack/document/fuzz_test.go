package document

import (
	"os"
	"path/filepath"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

func fuzzReader(f *testing.F, kind string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { specimen.Fuzz(t, Readers[kind], none, data) })
}

// none finds nothing in other data: here are no readers of archives.
func none(*budget.Opener, []byte, string) error { return nil }

func FuzzCard(f *testing.F) {
	fuzzReader(f, "ics", []byte("BEGIN:VCALENDAR\r\nATTACH;ENCODING=BASE64;X-FILENAME=\"a\":TVqQ\r\n AAA=\r\nX:y\r\n"), []byte("BEGIN:VCARD\nPHOTO;ENCODING=b:TVo=\n"))
}

func FuzzXML(f *testing.F) {
	fuzzReader(f, "xml", []byte("<?xml?><w:binData w:name=\"a\">TVqQ</w:binData><pkg:binaryData>TVqQ"), []byte("<office:binary-data>TVo=<bin"))
}

func FuzzOLE(f *testing.F) {
	fuzzReader(f, "cdf-ms", specimen.OLE("\x01Ole10Native", append(specimen.AppendLE(nil, 500, 4), specimen.Package("evil.exe", specimen.Evil)...)), specimen.OLE("PowerPoint Document", specimen.Evil))
}

func FuzzRTF(f *testing.F) {
	fuzzReader(f, "rtf", specimen.RTF(specimen.Package("evil.exe", specimen.Evil)))
}

func FuzzPDF(f *testing.F) {
	seeds := [][]byte{specimen.PDF("evil.exe", specimen.Evil)}
	list, err := filepath.Glob("../testdata/pdf/*.pdf")
	if err != nil || len(list) < 8 {
		f.Fatalf("%d files, %v", len(list), err)
	}
	for _, name := range list {
		seeds = append(seeds, specimen.Must(os.ReadFile(name)))
	}
	fuzzReader(f, "pdf", seeds...)
}

func FuzzOneNote(f *testing.F) { fuzzReader(f, "one", specimen.OneNote(specimen.Evil)) }

func FuzzTNEF(f *testing.F) {
	fuzzReader(f, "tnef", specimen.TNEF("evil.exe", specimen.Payload), specimen.TNEF("x", nil))
}

func FuzzPGP(f *testing.F) {
	fuzzReader(f, "pgp.msg", []byte("\xcb\xe3b\x00\x00\x00\x00\x00he\x03llo"), append([]byte{0xa3, 2}, specimen.Zlib([]byte("\xcb\x0bb\x00\x00\x00\x00\x00hello"))...),
		[]byte("-----BEGIN PGP MESSAGE-----\n\nywtiAAAAAABoZWxsbw==\n=abcd\n"))
}
