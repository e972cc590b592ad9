package unpack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// controls are files of ordinary mail, of kinds that the tricks use too: nothing
// in them is in doubt.
func controls() []trick {
	as := func(id, what, name string, data []byte) trick {
		return trick{id: id, what: what, msg: attachedAs(name, data)}
	}
	text := bytes.Repeat([]byte("Some words of an ordinary letter, and a few more of them.\r\n"), 40)
	picture := append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"), bytes.Repeat([]byte{0x5a, 0x13}, 700)...)
	office := func(member string) []byte {
		part := func(name, data string) specimen.ZipFile {
			return specimen.ZipFile{Name: name, Data: []byte(data), Method: specimen.ZipDeflate, Descriptor: true}
		}
		return specimen.Zip(part("[Content_Types].xml", `<?xml version="1.0"?><Types/>`), part("_rels/.rels", `<?xml version="1.0"?><Relationships/>`),
			part(member, `<?xml version="1.0"?><x>`+string(text)+`</x>`), specimen.ZipFile{Name: "word/media/image1.jpeg", Data: picture})
	}
	odt := specimen.Zip(specimen.ZipFile{Name: "mimetype", Data: []byte("application/vnd.oasis.opendocument.text")},
		specimen.ZipFile{Name: "content.xml", Data: append([]byte("<?xml version='1.0'?>"), text...), Method: specimen.ZipDeflate}, specimen.ZipFile{Name: "Pictures/1.jpg", Data: picture})
	pdf := func(more string) []byte {
		page := specimen.Zlib(text)
		return fmt.Appendf(nil, "%%PDF-1.7\n%%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Page/Contents 2 0 R>>\nendobj\n2 0 obj\n<</Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n"+
			"3 0 obj\n<</Type/XObject/Subtype/Image/Filter/DCTDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n%strailer<</Root 1 0 R>>\n%%%%EOF\n", len(page), page, len(picture), picture, more)
	}
	invoice := specimen.Zlib([]byte("<?xml version='1.0'?><rsm:CrossIndustryInvoice/>"))
	signed := mimeHead + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=\"s\"\r\n\r\n--s\r\nContent-Type: text/plain\r\n\r\nhello\r\n" +
		"--s\r\nContent-Type: application/pgp-signature; name=\"signature.asc\"\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\niQEzBAEBCAAdFiEE\r\n=abcd\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n"
	calendar := "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:Meeting about the password: it\r\n  has changed\r\nATTENDEE;CN=\"Bob\":mailto:bob@example.com\r\n" +
		"ATTACH;ENCODING=BASE64;VALUE=BINARY;X-FILENAME=\"plan.txt\":" + wrapFolded(text) + "\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	return []trick{
		as("docx", "document of Word", "letter.docx", office("word/document.xml")),
		as("xlsx", "workbook", "table.xlsx", office("xl/workbook.xml")),
		as("odt", "document of LibreOffice", "letter.odt", odt),
		as("pdf", "PDF", "letter.pdf", pdf("")),
		as("pdf-invoice", "PDF with an invoice in XML", "invoice.pdf", pdf(fmt.Sprintf("4 0 obj\n<</Type/Filespec/F(factur-x.xml)/UF(factur-x.xml)/EF<</F 5 0 R>>>>\nendobj\n5 0 obj\n<</Type/EmbeddedFile/Subtype/text#2Fxml/Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n", len(invoice), invoice))),
		as("pdf-locked", "PDF with restrictions, encrypted with the empty password", "statement.pdf", specimen.Must(os.ReadFile("testdata/pdf/statement.pdf"))),
		as("jpeg", "picture", "photo.jpg", picture),
		as("zip", "zip", "files.zip", specimen.Zip(specimen.ZipFile{Name: "a/", Method: specimen.ZipStore}, specimen.ZipFile{Name: "a/letter.txt", Data: text, Method: specimen.ZipDeflate}, specimen.ZipFile{Name: "a/photo.jpg", Data: picture, Method: specimen.ZipDeflate})),
		as("tgz", "tar.gz", "files.tar.gz", specimen.Gzip(specimen.Concat(specimen.TarHeader("letter.txt", '0', len(text)), specimen.Padded(text, filetype.TarBlock), make([]byte, 1024)))),
		as("xz", "xz", "letter.txt.xz", specimen.XZ(text)),
		as("7z", "7-Zip", "letter.7z", specimen.SevenZip("letter.txt", text, false, false)),
		as("rar", "RAR", "letter.rar", specimen.RAR5("letter.txt", text, false)),
		as("rtf", "RTF", "letter.rtf", []byte(`{\rtf1\ansi{\fonttbl{\f0 Times;}}{\pict\jpegblip ffd8ffe0}\f0 Dear \'e4\par}`)),
		as("doc", "old document of Word", "letter.doc", specimen.OLE("WordDocument", append(make([]byte, 512), text...))),
		as("vcf", "address card with a picture", "bob.vcf", []byte("BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Bob\r\nPHOTO;ENCODING=b;TYPE=JPEG:"+wrapFolded(picture)+"\r\nEND:VCARD\r\n")),
		as("xml", "document in one XML file", "letter.xml", []byte("<?xml version=\"1.0\"?><office:document><office:binary-data>"+wrapFolded(picture)+"</office:binary-data></office:document>")),
		as("sh", "shell script", "install.sh", []byte("#!/bin/sh\nset -e\necho hello\n")),
		as("svg", "drawing", "a.svg", []byte("<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"><path d=\"M0 0\"/></svg>")),
		{id: "ics", what: "invitation", msg: withPart("Content-Type: text/calendar; method=REQUEST\r\n\r\n" + calendar)},
		{id: "signed", what: "signed mail", msg: signed},
	}
}

// wrapFolded is base64 in lines that go on after a blank.
func wrapFolded(data []byte) string {
	return string(bytes.ReplaceAll([]byte(specimen.Wrap64(data)), []byte("\r\n"), []byte("\r\n ")))
}

func TestControlFiles(t *testing.T) {
	t.Parallel()
	for _, c := range controls() {
		r := Parts(context.Background(), mail.NewMessage([]byte(c.msg)), budget.DefaultLimits)
		if len(r.Findings) > 0 {
			t.Errorf("%s:\n%s", c.what, describeTree(r))
		}
	}
}
