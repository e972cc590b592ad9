package unpack

import (
	"fmt"
	"maps"
	"strings"

	"postern/filter/unpack/specimen"
)

// scanners build messages of about n octets for each reader of text, as
// doublings does: what one of them begins with and never ends.
func scanners() map[string]func(n int) string {
	fill := func(s string, n int) string { return strings.Repeat(s, n/len(s)) }
	text := func(s string) func(int) string {
		return func(n int) string { return mailHead + "Content-Type: text/plain\r\n\r\n" + fill(s, n) }
	}
	attached := func(start, s string) func(int) string {
		return func(n int) string { return withPart(octet + "\r\n" + start + fill(s, n)) }
	}
	page := func(s string) func(int) string {
		return func(n int) string { return withPart("Content-Type: text/html\r\n\r\n<html>" + fill(s, n)) }
	}
	field := func(s string) func(int) string {
		return func(n int) string { return mimeHead + "Content-Type: text/plain; " + fill(s, n) + "\r\n\r\nx\r\n" }
	}
	out := map[string]func(int) string{
		"uuencode begin in capitals":  text("BEGIN 644 a\r\n"),
		"uuencode begin with blanks":  text(" begin 644 a\r\n"),
		"uuencode begin and back":     text("BEGIN 644 a\r\n`\r\n"),
		"uuencode base64":             text("begin-base64 644 a\r\n=\r\n\r\n"),
		"uuencode without mode":       text("Begin a\r\n\r\n"),
		"yEnc without end":            text("=ybegin name=a\r\n=ypart \r\n"),
		"yEnc of one name":            text("=ybegin name=a\r\nx\r\n=yend\r\n"),
		"BinHex marks":                text("must be converted with BinHex\r\n:!\r\n"),
		"BinHex run lengths":          text("must be converted with BinHex\r\n:" + strings.Repeat("j2rj", 300) + ":\r\n"),
		"Content blocks":              text("Content-A: b c d e f\r\n\r\n"),
		"Content blocks without body": text("Content-A: bbbbbbbbbbbbbbbbbbbbbbbbb\r\n\r\nx\r\n"),
		"Content blocks of base64":    text("Content-A: bbbbbbbbbbbbbbbbbbbbbbbbb\r\n\r\n" + strings.Repeat("A", 60) + "\r\n"),
		"Content blocks of uuencode":  text("Content-Transfer-Encoding: uuencode\r\n\r\nxxxxxxxxxxxxx\r\n"),
		"Content blocks and begin":    text("Content-Transfer-Encoding: uuencode\r\n\r\nBEGIN a\r\n"),
		"Content folds":               text("Content-A:\r\n b\r\n"),
		"fields before Content":       func(n int) string { return text("ab:c\r\n")(n) + "Content-A: b\r\n\r\nx\r\n" },
		"equal data URIs":             page("data:,x"),
		"different data URIs": func(n int) string {
			var b strings.Builder
			for i := range n / 16 {
				fmt.Fprintf(&b, "\"data:,%d\" ", i)
			}
			return page(b.String())(b.Len())
		},
		"data URIs and names":    page("<a download=x href='data:,x'>"),
		"data URI parameters":    page("data:" + strings.Repeat("a", 250)),
		"character references":   page("&#38;amp;"),
		"UTF-7":                  page("+ADw-+"),
		"jobs":                   attached("", "<job><package>"),
		"ended delimiters, long": endedDelimiters,
		"many messages": func(n int) string {
			return mimeHead + fill("Content-Type: message/external-body\r\n", n/2) + "\r\n" + fill("Content-A: b\r\n", n/2)
		},
		"no close delimiters":     noCloseDelimiters,
		"comment before value":    field("a=(;"),
		"quotes side by side":     field(`a="x"`),
		"quotes and comments":     field(`a="x"(`),
		"quotes and equals":       field(`a="x"y `),
		"closed comments":         field("a=(x)b "),
		"open comments in quotes": field(`a="("`),
		"blanks between":          field("a=b  c "),
		"long words":              field("a=" + strings.Repeat("b ", 200) + "c=d "),
		"pieces with comments": func(n int) string {
			var b strings.Builder
			for i := range n / 16 {
				fmt.Fprintf(&b, "name*1=(%d)a;", i)
			}
			return field(b.String())(b.Len())
		},
		"PDF encryption in a comment": attached("%PDF-1.4\n", "/Encrypt%"),
		"PDF encryption":              attached("%PDF-1.4\n/Encrypt 12 0 R ", "12 0 obj<<("),
		"PDF identifiers":             attached("%PDF-1.4\n/Encrypt<</Filter/Standard/V 1>>", "/ID%"),
		"PDF names":                   attached("%PDF-1.4\n", strings.Repeat("/F(", 60)+"/EF"),
		"PDF streams":                 attached("%PDF-1.4\n", "1 0 obj<</EmbeddedFile>>stream\nendstream\n"),
		"PDF streams without end":     attached("%PDF-1.4\n", "1 0 obj<<>>stream\n"),
		"PDF strings":                 attached("%PDF-1.4\n/Encrypt", "<<(("),
		"RTF objects":                 attached(`{\rtf1`, `\objdata`),
		"RTF groups":                  attached(`{\rtf1\objdata`, `{\bin1 `),
		"XML of Office":               attached("<?xml version=\"1.0\"?><a>", "<binaryData>"),
		"XML words":                   attached("<?xml version=\"1.0\"?><a>", "bin"),
		"cards":                       attached("BEGIN:VCALENDAR\r\n", "ATTACH;ENCODING=BASE64:\r\n "),
		"passwords": func(n int) string {
			return withBody("--real\r\n\r\n" + fill("pin code password <", n) + "\r\n--real\r\n" + octet + "\r\n" + string(specimen.Zip(specimen.ZipFile{Name: "a", Data: []byte("x"), Flags: 1})))
		},
		"local headers of zip":     attached("\x00\x01", "PK\x03\x04"),
		"headers of zip, no names": attached("\x00\x01", "PK\x03\x04\x14\x00\x00\x00\x00\x00"+strings.Repeat("\x00", 16)+"\x00\x00\xff\xff"),
		"OneNote objects":          attached("\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac\xff\xff\xff\x7f"+strings.Repeat("\x00", 16)),
		"TNEF properties": func(n int) string {
			// each property has as many values of no octets as there are octets left
			b := []byte("\xff\xff\x00\x00")
			for left := n; left > 48; left -= 8 {
				b = append(b, 0x01, 0x10, 0, 0x10, byte(left-40), byte((left-40)>>8), byte((left-40)>>16), 0)
			}
			return withPart(octet + "\r\n\x78\x9f\x3e\x22\x00\x00" + "\x01\x03\x90\x00\x00" + string([]byte{byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16), 0}) + string(b) + "\x00\x00")
		},
		"OpenPGP armour":  text("-----BEGIN PGP MESSAGE-----\r\n"),
		"armour in lines": text("x-----BEGIN PGP MESSAGE-----\r\n\r\nAAAA\r\n"),
		"scripts":         attached("var x\r\n", "function(){}\r\n"),
	}
	maps.Copy(out, doublings())
	return out
}

// endedDelimiters has lines that begin like the boundaries of many multiparts
// that have ended.
func endedDelimiters(n int) string {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "--real\r\nContent-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n", strings.Repeat("x", i+1))
	}
	b.WriteString("--real\r\n\r\n")
	return withBody(b.String() + strings.Repeat("--"+strings.Repeat("y", 250)+"\r\n", n/254))
}

// noCloseDelimiters has multiparts of one encoded part each, none of which ends.
func noCloseDelimiters(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "--real\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n", i, i)
	}
	return withBody(b.String())
}
