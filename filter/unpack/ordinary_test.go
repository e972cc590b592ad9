package unpack_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/specimen"
)

// Ordinary mail that was blocked or tagged once, and beside each kind what must
// stay blocked. Both with the default rules, in and out.

// TestOrdinaryMails: mails after public reports of people who run such filters.
func TestOrdinaryMails(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/ordinary/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		message := string(data)
		if filepath.Ext(file) != ".eml" {
			message = withFile(filepath.Base(file), "application/octet-stream", data)
		}
		wantVerdict(t, filepath.Base(file), message, "CLEAN")
	}
}

// wantVerdict examines a message with the default rules, in and out.
func wantVerdict(t *testing.T, what, message, want string) {
	t.Helper()
	f := filterOf(t, "  on_error: tempfail\n")
	message = strings.ReplaceAll(strings.ReplaceAll(message, "\r\n", "\n"), "\n", "\r\n")
	for _, listener := range []string{"127.0.0.1:10024", "127.0.0.1:10023"} {
		tx := &mail.Transaction{Listener: listener, From: "a@example.net", Message: mail.NewMessage([]byte(message))}
		tx.Rcpts = []mail.Recipient{{Address: "b@example.org"}}
		ex, err := f.Examine(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if got := word(&ex.Verdicts[0]); got != want {
			t.Errorf("%s by %s: %s, want %s: %+v", what, listener, got, want, ex.Findings)
		}
	}
}

const textHead = "From: a@example.net\nTo: b@example.org\nSubject: x\nDate: Mon, 1 Jun 2026 10:00:00 +0000\nMessage-ID: <1@example.net>\nMIME-Version: 1.0\n"

// withParts is a mail of these parts, each with its header.
func withParts(parts ...string) string {
	return textHead + "Content-Type: multipart/mixed; boundary=\"=-b\"\n\n--=-b\n" + strings.Join(parts, "\n--=-b\n") + "\n--=-b--\n"
}

// filePart is an attached file.
func filePart(name, media string, data []byte) string {
	return fmt.Sprintf("Content-Type: %s; name=\"%s\"\nContent-Disposition: attachment; filename=\"%[2]s\"\nContent-Transfer-Encoding: base64\n\n%s", media, name, wrapped(data))
}

func withFile(name, media string, data []byte) string {
	return withParts("Content-Type: text/plain\n\nhello", filePart(name, media, data))
}

func wrapped(data []byte) string {
	var b strings.Builder
	for text := base64.StdEncoding.EncodeToString(data); text != ""; text = text[min(len(text), 76):] {
		b.WriteString(text[:min(len(text), 76)] + "\n")
	}
	return b.String()
}

// zipOf is a zip with these members, in the order of their names but for
// "mimetype", which is the first and is stored.
func zipOf(t *testing.T, members map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	names := slices.Sorted(maps.Keys(members))
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Compare(map[bool]string{true: "0", false: "1"}[a == "mimetype"], map[bool]string{true: "0", false: "1"}[b == "mimetype"])
	})
	for _, name := range names {
		method := zip.Deflate
		if name == "mimetype" {
			method = zip.Store
		}
		m, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = m.Write([]byte(members[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	script = "function f() { return 1 }\n"
	pixel  = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)

// TestNamesAndTexts: what is a name, and what text is.
func TestNamesAndTexts(t *testing.T) {
	t.Parallel()
	program := string(specimen.Payload)
	part := func(head, body string) string {
		return withParts("Content-Type: text/plain\n\nhello", head+"\n\n"+body)
	}
	letter := func(body string) string { return textHead + "Content-Type: text/plain\n\n" + body + "\n" }
	score := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<museScore version=\"1.14\">\n<Score/>\n</museScore>\n"
	for what, c := range map[string]struct{ message, want string }{
		"a description of a text":           {part("Content-Type: text/plain\nContent-Description: Vue.js", "hello"), "CLEAN"},
		"a description of a message":        {part("Content-Type: message/rfc822\nContent-Description: example.com", textHead+"\nhello"), "CLEAN"},
		"a description of a report":         {part("Content-Type: message/delivery-status\nContent-Description: mail.example.com", "Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.1.1"), "CLEAN"},
		"a description of a file":           {part("Content-Type: application/octet-stream\nContent-Description: see example.com", "hello"), "CLEAN"},
		"Content-ID of a picture":           {part("Content-Type: image/png\nContent-ID: <part1.example.com>\nContent-Transfer-Encoding: base64", wrapped([]byte(pixel))), "CLEAN"},
		"Content-Location of a picture":     {part("Content-Type: image/png\nContent-Location: http://a.example/pixel.com\nContent-Transfer-Encoding: base64", wrapped([]byte(pixel))), "CLEAN"},
		"a description that is a file name": {part("Content-Type: application/octet-stream\nContent-Description: setup.exe", "hello"), "BANNED"},
		"an identifier that is a file name": {part("Content-Type: application/octet-stream\nContent-ID: <setup.exe>", "hello"), "BANNED"},
		"a location that is a file name":    {part("Content-Type: application/octet-stream\nContent-Location: setup.exe", "hello"), "BANNED"},
		"a script described by its name":    {part("Content-Type: text/javascript\nContent-Description: setup.js", script), "BANNED"},
		"a text attached under a file name": {part("Content-Type: text/plain\nContent-Disposition: attachment\nContent-Description: setup.js", script), "BANNED"},
		"no picture, described as program":  {part("Content-Type: image/png\nContent-Description: setup.com", "hello"), "BANNED"},
		"a program without a name":          {part("Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64", wrapped(specimen.Payload)), "BANNED"},
		"a picture called like a domain":    {withFile("1.2@a.example.com", "image/png", []byte(pixel)), "CLEAN"},
		"a picture declared as a program":   {withFile("1.2@a.example.com", "application/octet-stream", []byte(pixel)), "BANNED"},
		"a program declared as a picture":   {withFile("1.2@a.example.com", "image/png", specimen.Payload), "BANNED"},
		"a text declared as a picture":      {withFile("1.2@a.example.com", "image/png", []byte("X5O!")), "BANNED"},
		"a picture called like a program":   {withFile("pixel.exe", "image/png", []byte(pixel)), "BANNED"},
		"a score":                           {withFile("a.msc", "application/octet-stream", []byte(score)), "CLEAN"},
		"a mesh":                            {withFile("a.msh", "application/octet-stream", []byte("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n")), "CLEAN"},
		"a console":                         {withFile("a.msc", "application/octet-stream", []byte("<?xml version=\"1.0\"?>\n<MMC_ConsoleFile ConsoleVersion=\"3.0\"/>\n<!-- <museScore> -->")), "BANNED"},
		"digits at the start of a text":     {letter("0707071234: call me back please"), "CLEAN"},
		"digits, hexadecimal ones":          {letter("070701 is the number of the order, 070702 that of the next"), "CLEAN"},
		"signatures in a text":              {letter("BZh is how it starts, **ACE** stands behind, and xar! too"), "CLEAN"},
		"a name of few letters":             {withFile("a.dat", "application/octet-stream", []byte("ZOO \x01\x02 visitors of the day")), "CLEAN"},
		"a letter about HTA":                {letter("put\n<HTA:APPLICATION ID=\"oApp\">\ninto the head of the page."), "CLEAN"},
		"a page about HTA":                  {withFile("hta.html", "text/html", []byte("<html><HTA:APPLICATION ID=a></html>")), "CLEAN"},
		"an application named so":           {withFile("a.hta", "text/plain", []byte("<html><HTA:APPLICATION ID=a></html>")), "BANNED"},
		"an application declared so":        {withFile("a.html", "application/hta", []byte("<html><HTA:APPLICATION ID=a></html>")), "BANNED"},
		"an application of an unknown name": {withFile("a.x1", "application/octet-stream", []byte("<html><HTA:APPLICATION ID=a></html>")), "BANNED"},
		"an application without a name":     {part("Content-Type: application/octet-stream", "<html><HTA:APPLICATION ID=a></html>"), "BANNED"},
		"pieces of a name out of order":     {part("Content-Type: application/pdf\nContent-Disposition: attachment;\n filename*1=BBB.pdf;\n filename*0=\"AAAA\"", "%PDF-1.4\ntrailer"), "CLEAN"},
		"pieces of a program's name":        {part("Content-Type: application/pdf\nContent-Disposition: attachment;\n filename*1=B.exe;\n filename*0=\"A.pdf\"", "hello"), "BANNED"},
		"two names of documents":            {part("Content-Type: application/octet-stream; name=a.txt\nContent-Disposition: attachment; filename=a.csv", "hello"), "CLEAN"},
		"a program behind base64":           {textHead + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + wrapped([]byte("hello")) + wrapped(specimen.Payload), "UNCHECKED (ambiguous)"},
		"a footer behind an attachment":     {withParts("Content-Type: text/plain\n\nhello", "Content-Type: application/octet-stream; name=a.dat\nContent-Transfer-Encoding: base64\n\n"+wrapped([]byte("hello"))+"\n_____\nlist mailing list\n"), "UNCHECKED (ambiguous)"},
		"a program in place of a companion": {withFile("._a.zip", "application/zip", append([]byte("\x00\x05\x16\x07\x00\x02\x00\x00"), program...)), "UNCHECKED (ambiguous)"},
		"an archive of an unknown format":   {withFile("a.zip", "application/zip", []byte("\x01\x02\x03 something")), "UNCHECKED (ambiguous)"},
	} {
		wantVerdict(t, what, c.message, c.want)
	}
}

// TestReach: names count where a click reaches the file, programs everywhere.
func TestReach(t *testing.T) {
	t.Parallel()
	program := string(specimen.Payload)
	epub := map[string]string{"mimetype": "application/epub+zip", "META-INF/container.xml": "<container/>", "EPUB/a.js": script}
	office := map[string]string{"[Content_Types].xml": "<Types/>", "word/document.xml": "<document/>", "word/a.js": script}
	plain := map[string]string{"a.js": script, "a.txt": "hello"}
	with := func(m map[string]string, name, content string) map[string]string {
		m = maps.Clone(m)
		m[name] = content
		return m
	}
	zipped := func(m map[string]string) []byte { return zipOf(t, m) }
	page := []byte("From: <Saved by a browser>\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=q\n\n" +
		"--q\nContent-Type: text/html\nContent-Location: http://a.example/\n\n<html></html>\n" +
		"--q\nContent-Type: text/javascript\nContent-Location: http://a.example/a.js\n\n" + script + "\n--q--\n")
	for what, c := range map[string]struct {
		name string
		data []byte
		want string
	}{
		"a book":                           {"a.epub", zipped(epub), "CLEAN"},
		"a document":                       {"a.docx", zipped(office), "CLEAN"},
		"OpenDocument":                     {"a.odt", zipped(map[string]string{"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "<a/>", "Scripts/a.js": script}), "CLEAN"},
		"GeoGebra":                         {"a.ggb", zipped(map[string]string{"geogebra.xml": "<geogebra/>", "geogebra_javascript.js": script}), "CLEAN"},
		"H5P":                              {"a.h5p", zipped(map[string]string{"h5p.json": "{}", "H5P.Text/a.js": script}), "CLEAN"},
		"a score with an old one in it":    {"a.mscz", zipped(map[string]string{"META-INF/container.xml": "<container/>", "a.msc": "<museScore/>"}), "CLEAN"},
		"a Python package":                 {"a.whl", zipped(map[string]string{"a-1.dist-info/METADATA": "Name: a", "a/static/a.js": script}), "CLEAN"},
		"a Debian package":                 {"a.deb", debOf("usr/share/a.js", script), "CLEAN"},
		"a saved page":                     {"a.mht", page, "CLEAN"},
		"a book in a zip":                  {"a.zip", zipped(map[string]string{"a.epub": string(zipped(epub))}), "CLEAN"},
		"a script in a zip":                {"a.zip", zipped(plain), "BANNED"},
		"a book called zip":                {"a.zip", zipped(epub), "BANNED"},
		"a book called script":             {"a.js", zipped(epub), "BANNED"},
		"a book called program":            {"a.exe", zipped(epub), "BANNED"},
		"a zip called book":                {"a.epub", zipped(plain), "BANNED"},
		"a zip called document":            {"a.docx", zipped(plain), "BANNED"},
		"a script beside a document":       {"a.zip", zipped(with(plain, "b.docx", string(zipped(office)))), "BANNED"},
		"a zip in a document":              {"a.docx", zipped(with(office, "b.zip", string(zipped(plain)))), "BANNED"},
		"a program in a document":          {"a.docx", zipped(with(office, "word/a.bin", program)), "BANNED"},
		"a program in a book":              {"a.epub", zipped(with(epub, "a.dat", program)), "BANNED"},
		"an embedded script of a document": {"a.docx", zipped(with(office, "word/embeddings/oleObject1.bin", string(packageOf("a.js", script)))), "BANNED"},
		"a saved page that is a message":   {"a.eml", page, "BANNED"},
		"a program in a saved page":        {"a.mht", bytes.Replace(page, []byte(script), []byte(program), 1), "BANNED"},
		"a script in a tar":                {"a.tar", specimen.TarFile("a.js", []byte(script)), "BANNED"},
	} {
		wantVerdict(t, what, withFile(c.name, "application/octet-stream", c.data), c.want)
	}
}

// TestOffice: what Office and Outlook write and readers take.
func TestOffice(t *testing.T) {
	t.Parallel()
	stored := zipOf(t, map[string]string{"theme/theme1.xml": "<theme/>"})
	records := slices.Concat([]byte("\x09\x08\x10\x00\x00\x06\x05\x00"), make([]byte, 12), []byte("\x96\x08\x50\x00"), stored[:80], []byte("\x7f\x08\xff\x00"), stored[80:], make([]byte, 100))
	slides := func(object []byte, size int) []byte {
		z := specimen.Zlib(object)
		z = z[:len(z)-4] // without its sum
		b := slices.Concat([]byte{0x10, 0, 0x11, 0x10}, binary.LittleEndian.AppendUint32(nil, uint32(4+len(z))), binary.LittleEndian.AppendUint32(nil, uint32(size)), z)
		return specimen.Compound(specimen.Stream{Name: "PowerPoint Document", Data: b})
	}
	text := []byte(strings.Repeat("hello ", 20))
	for what, c := range map[string]struct {
		name string
		data []byte
		want string
	}{
		"a workbook with its theme in records": {"a.xls", specimen.Compound(specimen.Stream{Name: "Workbook", Data: records}), "CLEAN"},
		"a program called workbook":            {"a.xls", specimen.Compound(specimen.Stream{Name: "Workbook", Data: specimen.Payload}), "BANNED"},
		"an archive called workbook":           {"a.xls", specimen.Compound(specimen.Stream{Name: "Workbook", Data: zipOf(t, map[string]string{"a.js": script})}), "BANNED"},
		"an object without the end of zlib":    {"a.ppt", slides(text, len(text)), "CLEAN"},
		"an object that is cut":                {"a.ppt", slides(text, len(text)+1), "UNCHECKED (ambiguous)"},
		"a program as object":                  {"a.ppt", slides(specimen.Payload, len(specimen.Payload)), "BANNED"},
		"a line end behind winmail.dat":        {"winmail.dat", append(specimen.TNEF("a.txt", []byte("hello")), "\r\n"...), "CLEAN"},
		"more behind winmail.dat":              {"winmail.dat", append(specimen.TNEF("a.txt", []byte("hello")), "\x02\x0f\x80"...), "UNCHECKED (ambiguous)"},
	} {
		wantVerdict(t, what, withFile(c.name, "application/octet-stream", c.data), c.want)
	}
}

// TestOpenPGP: what is only signed, or only compressed, is no secret.
func TestOpenPGP(t *testing.T) {
	t.Parallel()
	packet := func(tag byte, body []byte) []byte {
		return append([]byte{0xc0 | tag, 255, 0, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	literal := func(name string, data []byte) []byte {
		return packet(11, append(append([]byte{'b', byte(len(name))}, name...), append([]byte{0, 0, 0, 0}, data...)...))
	}
	signed := func(name string, data []byte) []byte {
		once := append([]byte{0x90, 13, 3, 0, 8, 1}, make([]byte, 9)...)
		return slices.Concat(once, literal(name, data), packet(2, make([]byte, 40)))
	}
	packed := func(b []byte) []byte { return append([]byte{0xa3, 2}, specimen.Zlib(b)...) }
	armoured := func(b []byte) []byte {
		return []byte("-----BEGIN PGP MESSAGE-----\nVersion: 1\n\n" + wrapped(b) + "=abcd\n-----END PGP MESSAGE-----\n")
	}
	pieces := slices.Concat([]byte{0xcb, 0xe3}, []byte("b\x00\x00\x00\x00\x00he"), []byte{3}, []byte("llo"))
	secret := packet(1, append([]byte{3}, make([]byte, 30)...))
	for what, c := range map[string]struct {
		name string
		data []byte
		want string
	}{
		"signed and compressed":          {"a.asc", armoured(packed(signed("a.txt", []byte("hello")))), "CLEAN"},
		"signed":                         {"a.pgp", signed("a.txt", []byte("hello")), "CLEAN"},
		"in pieces":                      {"a.asc", armoured(pieces), "CLEAN"},
		"a signed archive":               {"a.asc", armoured(packed(signed("a.zip", zipOf(t, map[string]string{"a.txt": "hello"})))), "CLEAN"},
		"a signed program":               {"a.asc", armoured(packed(signed("a.txt", specimen.Payload))), "BANNED"},
		"a signed file called program":   {"a.asc", armoured(packed(signed("a.exe", []byte("hello")))), "BANNED"},
		"compressed, not armoured":       {"a.gpg", packed(signed("a.txt", []byte("hello"))), "CLEAN"},
		"a program, compressed":          {"a.gpg", packed(signed("a.txt", specimen.Payload)), "BANNED"},
		"a program, not armoured":        {"a.pgp", signed("a.txt", specimen.Payload), "BANNED"},
		"encrypted":                      {"a.asc", armoured(secret), "UNCHECKED (encrypted)"},
		"encrypted and compressed":       {"a.asc", armoured(packed(secret)), "UNCHECKED (encrypted)"},
		"one is signed, one encrypted":   {"a.asc", append(armoured(signed("", []byte("hello"))), armoured(secret)...), "UNCHECKED (encrypted)"},
		"a signed message that is cut":   {"a.asc", armoured(packed(signed("a.txt", []byte("hello")))[:20]), "UNCHECKED (ambiguous)"},
		"an armour with nothing in it":   {"a.asc", []byte("-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n"), "UNCHECKED (encrypted)"},
		"an armour with something in it": {"a.asc", armoured([]byte("hello, hello")), "UNCHECKED (encrypted)"},
	} {
		wantVerdict(t, what, withFile(c.name, "application/octet-stream", c.data), c.want)
	}
}

// debOf is a Debian package with one file.
func debOf(name, content string) []byte {
	version, data := specimen.Ar("debian-binary", []byte("2.0\n")), specimen.Ar("data.tar", specimen.TarFile(name, []byte(content)))
	return append(version, bytes.TrimPrefix(data, []byte("!<arch>\n"))...)
}

// packageOf is an OLE object that a click in the document opens.
func packageOf(name, content string) []byte {
	return specimen.Compound(specimen.Stream{Name: "\x01Ole10Native", Data: specimen.OLENative(name, []byte(content))})
}
