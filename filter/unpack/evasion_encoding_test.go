package unpack

import (
	"encoding/base64"
	"strings"
	"testing"

	"postern/filter/unpack/specimen"
)

func TestEvasionEncoding(t *testing.T) {
	t.Parallel()
	runTricks(t, encodingTricks())
}

func encodingTricks() []trick {
	return append(encodingNameTricks(), encodedDataTricks()...)
}

// encodingNameTricks play with the Content-Transfer-Encoding field.
func encodingNameTricks() []trick {
	data := specimen.Wrap64(specimen.Payload)
	cte := func(value string) string { return withCTE("Content-Transfer-Encoding: "+value, data) }
	two := func(a, b string) string {
		return withCTE("Content-Transfer-Encoding: "+a+"\r\nContent-Transfer-Encoding: "+b, data)
	}
	return []trick{
		{"B01", "base64, then 7bit", ambiguous, two("base64", "7bit")},
		{"B02", "7bit, then base64", ambiguous, two("7bit", "base64")},
		{"B03", "quoted-printable, then base64", ambiguous, two("quoted-printable", "base64")},
		{"B03b", "base64 twice", plainly, two("base64", "base64")},
		{"B04", "in quotes", ambiguous, cte(`"base64"`)},
		{"B05", "comment after", found, cte("base64 (x)")},
		{"B06", "comment before", found, cte("(x) base64")},
		{"B07", "semicolon after", found, cte("base64;")},
		{"B08", "tab and mixed case", plainly, cte("\tBaSe64")},
		{"B09", "folded", plainly, cte("\r\n base64")},
		{"B10", "blank before the colon", ambiguous, withCTE("Content-Transfer-Encoding : base64", data)},
		{"B11", "x-base64", ambiguous, cte("x-base64")},
		{"B12", "base64 7bit", ambiguous, cte("base64 7bit")},
		{"B13", "8bit base64", ambiguous, cte("8bit base64")},
		{"B14", "encoded-word", found, cte("=?us-ascii?Q?base64?=")},
		{"B27", "upper case", plainly, cte("BASE64")},
		{"B28", "quoted/printable", ambiguous, withCTE("Content-Transfer-Encoding: quoted/printable", quotedPrintable(specimen.Payload, "=%02X"))},
		{"B29", "field name misspelt by NUL", ambiguous, withCTE("Content-Transfer\x00-Encoding: base64", data)},
		{"B43", "half a word", found, cte("b64")},
		{"B44", "blank in the word", found, cte("base 64")},
		{"B45", "letter missing", found, cte("bse64")},
		{"B46", "NUL in the word", found, cte("ba\x00se64")},
		{"B47", "backslash in the word", found, cte(`base\64`)},
		{"B48", "comment inside the word", found, cte("base(x)64")},
		{"B49", "field name with a letter missing", found, withCTE("Content-Transfer-Encodin: base64", data)},
		{"B50", "field name without its dashes", found, withCTE("Content Transfer Encoding: base64", data)},
		{"B51", "field name with an X", found, withCTE("X-Content-Transfer-Encoding: base64", data)},
		{"B52", "field of HTTP", found, withCTE("Transfer-Encoding: base64", data)},
		{"B53", "only with the multipart", found, mimeHead + mixedReal + "Content-Transfer-Encoding: base64\r\n\r\n" + mixedBody("real", octet+"\r\n"+data)},
		{"B54", "qp", ambiguous, withCTE("Content-Transfer-Encoding: qp", quotedPrintable(specimen.Payload, "=%02X"))},
		{"B55", "letters of quoted-printable exchanged", ambiguous, withCTE("Content-Transfer-Encoding: quoted-prinatble", quotedPrintable(specimen.Payload, "=%02X"))},
		{"B56", "uuencode without its first line", found, withCTE("Content-Transfer-Encoding: x-uuencode", strings.TrimPrefix(specimen.UU("evil.exe"), "begin 644 evil.exe\r\n"))},
		{"B37", "none for a binary type", found, withPart(octet + "\r\n" + data)},
	}
}

// encodedDataTricks play with the encoded octets.
func encodedDataTricks() []trick {
	data := specimen.Wrap64(specimen.Payload)
	b64 := func(body string) string { return withCTE("Content-Transfer-Encoding: base64", body) }
	qp := func(body string) string { return withCTE("Content-Transfer-Encoding: quoted-printable", body) }
	lines := strings.Split(strings.TrimSpace(data), "\r\n")
	var apart, single strings.Builder
	for i := 0; i < len(specimen.Payload); i += 40 {
		apart.WriteString(base64.StdEncoding.EncodeToString(specimen.Payload[i:min(i+40, len(specimen.Payload))]) + "\r\n")
	}
	for _, c := range base64.StdEncoding.EncodeToString(specimen.Payload) {
		single.WriteString(string(c) + "\r\n")
	}
	text := func(body string) string { return withPart("Content-Type: text/plain\r\n\r\nsee below\r\n\r\n" + body) }
	return []trick{
		{"B15", "padding in the middle", ambiguous, b64(apart.String())},
		{"B16", "padding first", found, b64("====\r\n" + data)},
		{"B17", "a line of text first", ambiguous, b64("Hello, this is text.\r\n" + data)},
		{"B18", "a comment line in the middle", ambiguous, b64(lines[0] + "\r\n# x\r\n" + strings.Join(lines[1:], "\r\n") + "\r\n")},
		{"B19", "one character a line", plainly, b64(single.String())},
		{"B20", "empty line after each", plainly, b64(strings.ReplaceAll(data, "\r\n", "\r\n\r\n"))},
		{"B21", "URL-safe alphabet", ambiguous, b64(strings.NewReplacer("+", "-", "/", "_").Replace(data) + "-_\r\n")},
		{"B22", "no padding", plainly, b64(strings.ReplaceAll(data, "=", ""))},
		{"B23", "text after the data", found, b64(data + "\r\nThat was it!\r\n")},
		{"B24", "8-bit octets strewn in", ambiguous, b64(strings.ReplaceAll(data, "A", "\xe4A"))},
		{"B25", "lower-case hex", plainly, qp(quotedPrintable(specimen.Payload, "=%02x"))},
		{"B26", "soft breaks with blanks", ambiguous, qp(strings.ReplaceAll(quotedPrintable(specimen.Payload, "=%02X"), "=\r\n", "= \t\r\n"))},
		{"B30", "uuencode", found, withCTE("Content-Transfer-Encoding: uuencode", specimen.UU("evil.exe"))},
		{"B31", "uuencode in text", plainly, text(specimen.UU("evil.exe"))},
		{"B32", "uuencode without MIME", plainly, mailHead + "\r\nsee below\r\n\r\n" + specimen.UU("evil.exe")},
		{"B31b", "uuencode in the preamble", found, withBody(specimen.UU("evil.exe") + mixedBody("real", "Content-Type: text/plain\r\n\r\nx\r\n"))},
		{"B31c", "uuencode in the epilogue", found, withBody(mixedBody("real", "Content-Type: text/plain\r\n\r\nx\r\n") + specimen.UU("evil.exe"))},
		{"B31d", "begin-base64", plainly, text("begin-base64 644 evil.exe\r\n" + data + "====\r\n")},
		{"B57", "soft breaks of a bare CR", ambiguous, qp(strings.ReplaceAll(quotedPrintable(specimen.Payload, "=%02X"), "=\r\n", "=\r"))},
		{"B58", "soft breaks with a form feed", ambiguous, qp(strings.ReplaceAll(quotedPrintable(specimen.Payload, "=%02X"), "=\r\n", "=\x0c\r\n"))},
		{"B59", "soft break at the very end", found, qp(strings.TrimSuffix(quotedPrintable(specimen.Payload, "=%02X"), "\r\n") + "=\n")},
		{"B60", "padding alone in the middle", ambiguous, b64(data[:20] + "=" + data[20:])},
		{"B61", "a dash in the middle", ambiguous, b64(data[:40] + "-" + data[40:])},
		{"B62", "lines of a quoted mail", ambiguous, b64("> " + strings.Join(lines, "\r\n> ") + "\r\n")},
		{"B63", "base64 in quoted-printable", found, qp(quotedPrintable([]byte(data), "=%02X"))},
		{"B64", "uuencode without a mode", found, text(strings.Replace(specimen.UU("evil.exe"), "644 ", "", 1))},
		{"B65", "uuencode with letters for a mode", found, text(strings.Replace(specimen.UU("evil.exe"), "644", "rw-", 1))},
		{"B66", "uuencode with a mode of one digit", found, text(strings.Replace(specimen.UU("evil.exe"), "644", "6", 1))},
		{"B67", "uuencode in upper case", found, text(strings.Replace(specimen.UU("evil.exe"), "begin", "BEGIN", 1))},
		{"B68", "uuencode with blanks cut off", found, text(strings.NewReplacer("`\r\n", "\r\n", "`", " ").Replace(specimen.TrimGraves(specimen.UU("evil.exe"))))},
		{"B69", "uuencode with lines between", found, text(strings.ReplaceAll(specimen.UU("evil.exe"), "\r\n", "\r\n\r\nthis is text\r\n"))},
		{"B70", "uuencode without its end", found, text(strings.TrimSuffix(specimen.UU("evil.exe"), "`\r\nend\r\n"))},
		{"B71", "begin-base64-encoded", found, text("begin-base64-encoded 644 ZXZpbC5leGU=\r\n" + data + "====\r\n")},
		{"B72", "yEnc in two parts", found, text(specimen.YEncPart(1, specimen.Payload[:1]) + specimen.YEncPart(2, specimen.Payload[1:]))},
		{"B33", "yEnc in text", found, text(specimen.YEnc("evil.exe"))},
		{"B34", "BinHex", found, withPart("Content-Type: application/mac-binhex40\r\n\r\n" + specimen.BinHex("evil.exe"))},
		{"B35", "raw octets", found, withPart(octet + "Content-Transfer-Encoding: binary\r\n\r\n" + string(specimen.Payload) + "\r\n")},
		{"B36", "no multipart", plainly, mimeHead + evilPart()},
		{"B38", "base64 twice over", found, b64(specimen.Wrap64([]byte(data)))},
		{"B39", "TNEF", found, withPart("Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.TNEF("evil.exe", specimen.Payload)))},
		{"B40", "TNEF in TNEF", found, withPart("Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.TNEF("winmail.dat", specimen.TNEF("evil.exe", specimen.Payload))))},
		{"B41", "data: URI with download attribute", found, withPart("Content-Type: text/html\r\n\r\n<html><a download=\"evil.exe\" href=\"data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(specimen.Payload) + "\">x</a></html>\r\n")},
		{"B73", "data: URI in UTF-16 with a byte order mark", found, pagePart("text/html", "\xff\xfe"+string(specimen.Wide(dataPage)))},
		{"B74", "data: URI in UTF-16 without one", found, pagePart("text/html; charset=utf-16le", string(specimen.Wide(dataPage)))},
		{"B75", "data: URI in UTF-16 with another label", found, pagePart("text/html; charset=utf-8", string(specimen.Wide(dataPage)))},
		{"B76", "data: URI in UTF-7", found, pagePart("text/html; charset=utf-7", strings.NewReplacer("<", "+ADw-", ">", "+AD4-").Replace(dataPage))},
		{"B77", "data: URI with character references", found, pagePart("text/html", strings.NewReplacer("data:", "&#100;ata&colon;", ";base64,", "&semi;base64&#x2c;").Replace(dataPage))},
		{"B78", "data: URI with tabs and NUL", found, pagePart("text/html", strings.NewReplacer("data:", "da\tta:", "base64,", "ba\x00se64,").Replace(dataPage))},
		{"B79", "data: URI with percent pairs", found, pagePart("text/html", strings.ReplaceAll(dataPage, "A", "%41"))},
		{"B80", "data: URI without base64", found, pagePart("text/html", "<a download=evil.exe href=\"data:application/octet-stream,"+strings.NewReplacer("=\r\n", "", "=", "%").Replace(quotedPrintable(specimen.Payload, "=%02X"))+"\">x</a>")},
		{"B81", "data: URI in SVG", found, pagePart("image/svg+xml", "\xff\xfe"+string(specimen.Wide("<svg xmlns=\"http://www.w3.org/2000/svg\">"+dataPage+"</svg>")))},
		{"B82", "HTML smuggling in UTF-16", fact, pagePart("text/html", string(specimen.Wide(blobPage)))},
		{"B83", "HTML smuggling in UTF-7", fact, pagePart("text/html; charset=utf-7", "<meta charset=utf-7>"+strings.NewReplacer("<", "+ADw-", ">", "+AD4-", "Blob", "+AEIAbABvAGI-").Replace(blobPage))},
		{"B84", "HTML smuggling with names taken apart", fact, pagePart("text/html", strings.NewReplacer("Blob(", "window['Bl'+'ob'](").Replace(blobPage))},
		{"B85", "AppleSingle", found, pagePart("application/applefile", specimen.Apple(0x51600, "evil.exe", 1))},
		{"B86", "resource fork of AppleDouble", found, pagePart("application/applefile", specimen.Apple(0x51607, "evil.exe", 2))},
		{"B87", "MacBinary", found, pagePart("application/x-macbinary", "\x00\x08evil.exe"+strings.Repeat("\x00", 55)+"APPLxxxx"+strings.Repeat("\x00", 10)+"\x00\x00\x01\x90"+strings.Repeat("\x00", 41)+string(specimen.Payload)+strings.Repeat("\x00", 112))},
		{"B42", "HTML smuggling", fact, withPart("Content-Type: text/html\r\n\r\n<html><script>var b=new Blob([x]);a.href=URL.createObjectURL(b);a.download='evil.exe'</script></html>\r\n")},
	}
}

const blobPage = "<html><script>var b=new Blob([x]);a.href=URL.createObjectURL(b);a.download='evil.exe'</script></html>\r\n"

var dataPage = "<html><a download=\"evil.exe\" href=\"data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(specimen.Payload) + "\">x</a></html>"

// pagePart is an attachment without a name, such as a page.
func pagePart(media, page string) string {
	return withPart("Content-Type: " + media + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(page)))
}
