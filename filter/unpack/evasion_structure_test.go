package unpack

import (
	"fmt"
	"strings"
	"testing"

	"postern/filter/unpack/specimen"
)

func TestEvasionStructure(t *testing.T) {
	t.Parallel()
	runTricks(t, structureTricks())
}

func structureTricks() []trick {
	return append(typeTricks(), bodyTricks()...)
}

// typeTricks play with the header of the message.
func typeTricks() []trick {
	real := mixedReal[:len(mixedReal)-2]
	const multi = "Content-Type: multipart/mixed;"
	long := strings.Repeat("x", 2100)
	pad := strings.Repeat("X-Filler: abcdefgh\r\n", 10001)
	return []trick{
		{"A01", "two boundaries, first used", ambiguous, withType(multi + ` boundary="real"; boundary="fake"`)},
		{"A02", "two boundaries, last used", ambiguous, withType(multi + ` boundary="fake"; boundary="real"`)},
		{"A03", "A01 without blanks", ambiguous, withType(multi + `boundary="real";boundary="fake"`)},
		{"A04", "A01 and an odd parameter", ambiguous, withType(multi + ` a-b=c; boundary="real"; boundary="fake"`)},
		{"A05", "plain boundary and RFC 2231 pieces", ambiguous, withType(multi + ` boundary="fake"; boundary*0="re"; boundary*1="al"`)},
		{"A06", "RFC 2231 pieces", found, withType(multi + ` boundary*0="re"; boundary*1="al"`)},
		{"A07", "RFC 2231 percent encoding", found, withType(multi + ` boundary*=us-ascii''re%61l`)},
		{"A08", "two Content-Type, multipart first", ambiguous, withType(real + "\r\nContent-Type: text/plain")},
		{"A09", "two Content-Type, multipart last", ambiguous, withType("Content-Type: text/plain\r\n" + real)},
		{"A10", "three Content-Type", ambiguous, withType("Content-Type: text/plain\r\n" + multi + " boundary=fake\r\n" + real)},
		{"A11", "blank at the end of the boundary", ambiguous, withType(multi + ` boundary="real "`)},
		{"A12", "quoted pair in the boundary", found, withType(multi + ` boundary="re\al"`)},
		{"A13", "RFC 2231 pieces in reverse order", found, withType(multi + ` boundary*1="al"; boundary*0="re"`)},
		{"A14", "no boundary", ambiguous, withType("Content-Type: multipart/mixed")},
		{"A15", "empty boundary", ambiguous, withType(multi + ` boundary=""`)},
		{"A16", "boundary that does not occur", ambiguous, withType(multi + ` boundary="other"`)},
		{"A28", "comment after the boundary", ambiguous, withType(multi + " boundary=real(x)")},
		{"A29", "blank before the colon", ambiguous, withType("Content-Type : multipart/mixed; boundary=real")},
		{"A30", "a header line of one blank", ambiguous, mimeHead + " \r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A31", "a header line of blanks before MIME-Version", ambiguous, mailHead + "\t \r\nMIME-Version: 1.0\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A33", "boundary of 2,100 characters", found, mimeHead + multi + " boundary=\"" + long + "\"\r\n\r\n" + mixedBody(long, evilPart())},
		{"A34", "unknown multipart subtype", plainly, withType("Content-Type: multipart/x-foo-bar; boundary=real")},
		{"A35", "multipart/alternative", plainly, withType("Content-Type: multipart/alternative; boundary=real")},
		{"A36", "no MIME-Version", plainly, mailHead + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A37", "MIME-Version 2.0", plainly, mailHead + "MIME-Version: 2.0\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A38", "From line among the headers", found, mimeHead + "From alice Mon Jun  1 10:00:00 2026\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A39", "From line on top", plainly, "From alice Mon Jun  1 10:00:00 2026\r\n" + withType(real)},
		{"A41", "type as an encoded-word", ambiguous, withType("Content-Type: =?us-ascii?Q?multipart/mixed?=; boundary=real")},
		{"A42", "boundary as an encoded-word", found, withType(multi + ` boundary="=?us-ascii?Q?real?="`)},
		{"A52", "field name folded in the middle", found, mimeHead + "Content-\r\n Type: text/plain\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A52b", "field name folded, the only one", ambiguous, mimeHead + "Content-\r\n Type: multipart/mixed; boundary=real\r\n\r\n" + mixedBody("real", evilPart())},
		{"A53", "tab between parameters", plainly, withType(multi + "\tboundary=real")},
		{"A54", "BOUNDARY and boundary", ambiguous, withType(multi + ` BOUNDARY="real"; boundary="fake"`)},
		{"A55", "blanks around the equals sign", found, withType(multi + ` boundary = "real"`)},
		{"A56", "empty parameters", found, withType(multi + `;; ; boundary=real`)},
		{"A57", "comment in the type", found, withType(`Content-Type: multipart/(x)mixed; boundary=real`)},
		{"A58", "comment before the value", found, withType(multi + ` boundary=(x)"real"`)},
		{"A59", "LF line ends", plainly, strings.ReplaceAll(withType(real), "\r\n", "\n")},
		{"A60", "header line ended by CR CR LF", found, mimeHead + "X-Odd: 1\r\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A60b", "header line ended by CR", ambiguous, mimeHead + "X-Odd: 1\r" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A61", "byte order mark", plainly, "\xef\xbb\xbf" + withType(real)},
		{"A62", "byte order mark before the only Content-Type", ambiguous, "\xef\xbb\xbf" + real + "\r\n" + mailHead + "\r\n" + mixedBody("real", evilPart())},
		{"A64", "10,000 fields", overrun, mailHead + pad + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A65", "header of 1.1 MB", overrun, mailHead + "X-Big: " + strings.Repeat(strings.Repeat("x", 900)+"\r\n ", 1250) + "x\r\n" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A66", "NUL in the field name", ambiguous, withType("Content-\x00Type: multipart/mixed; boundary=real")},
		{"A67", "no semicolon between boundaries", ambiguous, withType(multi + ` boundary="real" boundary="fake"`)},
		{"A68", "closing quote missing", found, withType(multi + ` boundary="real`)},
		{"A69", "closing quote missing, parameter after it", found, withType(multi + ` boundary="real; charset=x`)},
		{"A70", "text/plain with a boundary", ambiguous, withType("Content-Type: text/plain; boundary=real")},
		{"A71", "no slash in the type", found, withType("Content-Type: multipart; boundary=real")},
		{"A72", "type in quotes", ambiguous, withType(`Content-Type: "multipart/mixed"; boundary=real`)},
		{"A73", "NUL in the boundary", ambiguous, withType(multi + " boundary=\"real\x00\"")},
		{"A74", "two boundaries, RFC 2231 and encoded-word", ambiguous, withType(multi + ` boundary*="us-ascii''f%61ke"; boundary="=?us-ascii?B?cmVhbA==?="`)},
		{"A75", "boundary with a fold inside the quotes", found, withType(multi + " boundary=\"\r\n real\"")},
		{"A76", "doubled but equal Content-Type", plainly, withType(real + "\r\n" + real)},
		{"A78b", "semicolon after the type missing", ambiguous, withType("Content-Type: multipart/mixed\r\n\tboundary=real")},
		{"A92", "name of the type field in comments", found, withType("Content-Type(x): multipart/mixed; boundary=real")},
		{"A93", "name of the type field with an underscore", found, withType("Content_Type: multipart/mixed; boundary=real")},
		{"A94", "type field without its colon", found, withType("Content-Type multipart/mixed; boundary=real")},
		{"A95", "vertical tab before the type field", found, mimeHead[:len(mimeHead)-2] + "\x0b" + real + "\r\n\r\n" + mixedBody("real", evilPart())},
		{"A96", "no type field", found, withType("X-Mailer: x")},
		{"A97", "empty line before MIME-Version", found, mailHead + "\r\n" + strings.TrimPrefix(withType(real), mailHead)},
		{"A98", "byte order mark and an empty line", found, "\xef\xbb\xbf\r\n" + withType(real)},
		{"A99", "empty boundary that is used", ambiguous, mimeHead + multi + " boundary=\"\"\r\n\r\n" + mixedBody("", evilPart())},
		{"A100", "type in single quotes", found, withType("Content-Type: 'multipart/mixed'; boundary='real'")},
		{"A101", "boundary with a tab at its end", ambiguous, withType(multi + " boundary=\"real\t\"")},
		{"A102", "boundary with a CR at its end", found, withType(multi + " boundary=\"real\r\"")},
		{"A103", "8-bit boundary", found, mimeHead + multi + " boundary=\"re\xe4l\"\r\n\r\n" + mixedBody("re\xe4l", evilPart())},
		{"A104", "boundary in percent encoding without its mark", found, withType(multi + " boundary=re%61l")},
		{"A105", "boundary of one dash", found, mimeHead + multi + " boundary=\"-\"\r\n\r\n" + mixedBody("-", evilPart())},
		{"A106", "boundary of two dashes", found, mimeHead + multi + " boundary=\"--\"\r\n\r\n" + mixedBody("--", evilPart())},
		{"A107", "boundary cut by the reader", found, mimeHead + multi + " boundary=" + long + "\r\n\r\n" + mixedBody(long[:255], evilPart())},
		{"A108", "boundary in UTF-16", found, withType(multi + " boundary*=utf-16be''%00r%00e%00a%00l")},
		{"A109", "nested comments", found, withType("Content-Type: (a(b)c) multipart/mixed (d\\)e); (f) boundary (g) = (h) real (i)")},
		{"A110", "comment without its end", found, withType("Content-Type: multipart/mixed (x; boundary=real")},
		{"A111", "boundary in a comment, another outside", ambiguous, withType(multi + " (boundary=real;) boundary=fake")},
		{"A112", "quote without its end before the boundary", found, withType(multi + " x=\"y; boundary=real")},
		{"A113", "two types, RFC 2231 in the second", found, withType(multi + " boundary*0=fa; boundary*1=ke\r\nContent-Type: multipart/mixed; boundary*0*=us-ascii''re; boundary*1*=%61l")},
		{"A114", "continuation line that is not folded", found, withType(multi + "\r\nboundary=real")},
		{"A115", "boundary and type in one encoded-word", found, withType("Content-Type: =?us-ascii?Q?multipart/mixed=3B_boundary=3Dreal?=")},
		{"A77", "third RFC 2231 piece repeated", ambiguous, withType(multi + ` boundary*0="re"; boundary*1="al"; boundary*1="xx"`)},
	}
}

// bodyTricks play with the body.
func bodyTricks() []trick {
	evil := evilPart()
	std := mixedBody("real", evil)
	delim := func(line string) string {
		return strings.Replace(std, "--real\r\nContent-Type: app", line+"Content-Type: app", 1)
	}
	text := "--real\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
	part := func(headers string) string { return withPart(headers) }
	left := func(inner string) string {
		return "--real\r\nContent-Type: multipart/mixed; boundary=" + inner + "\r\n\r\n--" + inner + "\r\n\r\nhello\r\n"
	}
	data := specimen.Wrap64(specimen.Payload)
	unclosed := "--real\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n" + attachment + "\r\n"
	// a line with a dot is none of base64, so that the data is whole without it
	dotted := func(body string) string { return strings.ReplaceAll(withBody(body), "real", "re.al") }
	return []trick{
		{"A17", "attachment after the close delimiter", ambiguous, withBody(text + "--real--\r\n--real\r\n" + evil + "--real--\r\n")},
		{"A18", "attachment before the first delimiter", ambiguous, withBody(evil + "\r\n" + text + "--real--\r\n")},
		{"A19", "attachment after the close delimiter without one", ambiguous, withBody(text + "--real--\r\n" + evil)},
		{"A20", "no close delimiter", plainly, withBody(text + "--real\r\n" + evil)},
		{"A21", "text after the delimiter", ambiguous, withBody(delim("--real garbage\r\n"))},
		{"A22", "blank before the delimiter", ambiguous, withBody(delim(" --real\r\n"))},
		{"A23", "tab before the delimiter", ambiguous, withBody(delim("\t--real\r\n"))},
		{"A24", "blanks after the delimiter", plainly, withBody(delim("--real  \t\r\n"))},
		{"A25", "blank before every delimiter", ambiguous, withBody(strings.ReplaceAll("\r\n"+std, "\r\n--real", "\r\n --real"))},
		{"A26", "NUL after the delimiter", ambiguous, withBody(delim("--real\x00\r\n"))},
		{"A27", "delimiter ended by CR", ambiguous, withBody(delim("--real\r"))},
		{"A27b", "delimiter after CR", ambiguous, withBody(strings.Replace(std, "hello\r\n--real\r\n", "hello\r--real\r\n", 1))},
		{"A32", "no blank line after the part header", found, part(attachment + specimen.Wrap64(specimen.Payload))},
		{"A40", "From line in the part header", found, part("From alice Mon Jun  1 10:00:00 2026\r\n" + evil)},
		{"A40b", "junk in the part header", ambiguous, part(octet + "junk\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.Payload))},
		{"A43", "message/rfc822 in base64", found, part("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(withBody(std))))},
		{"A44", "mail in an octet-stream", found, part("Content-Type: application/octet-stream; name=x.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(withBody(std))))},
		{"A45", "message/rfc822 nested 30 deep", overrun, mimeHead + nested(30, func(_ int, in string) string { return "Content-Type: message/rfc822\r\n\r\n" + in })},
		{"A46", "multipart nested 30 deep", overrun, mimeHead + nested(30, func(i int, in string) string {
			b := fmt.Sprintf("b%02d", i)
			return "Content-Type: multipart/mixed; boundary=" + b + "\r\n\r\n--" + b + "\r\n" + in + "\r\n--" + b + "--\r\n"
		})},
		{"A46b", "multipart nested 15 deep", plainly, mimeHead + nested(15, func(i int, in string) string {
			b := fmt.Sprintf("b%02d", i)
			return "Content-Type: multipart/mixed; boundary=" + b + "\r\n\r\n--" + b + "\r\n" + in + "\r\n--" + b + "--\r\n"
		})},
		{"A47", "inner multipart with the boundary of the outer", ambiguous, withBody(text + "--real\r\n" + mixedReal + "\r\n" + text + "--real--\r\n--real\r\n" + evil + "--real--\r\n")},
		{"A48", "multipart marked quoted-printable", found, withType(mixedReal + "Content-Transfer-Encoding: quoted-printable")},
		{"A49", "multipart in base64", ambiguous, mimeHead + mixedReal + "Content-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(std))},
		{"A49b", "multipart in quoted-printable", ambiguous, mimeHead + mixedReal + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quotedPrintable([]byte(std), "=%02X")},
		{"A50", "message/external-body", fact, part("Content-Type: message/external-body; access-type=URL; URL=\"http://192.0.2.1/evil.exe\"\r\n\r\nContent-Type: application/octet-stream\r\n\r\n")},
		{"A51", "program as image with Content-ID", plainly, part("Content-Type: image/jpeg; name=a.jpg\r\nContent-ID: <1>\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.Payload))},
		{"A63", "20,000 empty parts", overrun, withBody(strings.Repeat("--real\r\n\r\n\r\n", 20000) + "--real\r\n" + evil + "--real--\r\n")},
		{"A78", "part without header and blank line", found, withBody("--real\r\nhello\r\n--real\r\n" + evil + "--real--\r\n")},
		{"A79", "multipart/digest part without a type", found, mimeHead + "Content-Type: multipart/digest; boundary=real\r\n\r\n--real\r\n\r\n" + withBody(std) + "--real--\r\n"},
		{"A80", "boundary that is the beginning of the inner one", plainly, withBody(text + "--real\r\nContent-Type: multipart/mixed; boundary=real2\r\n\r\n" + mixedBody("real2", evil) + "--real--\r\n")},
		{"A81", "message/partial", fact, part("Content-Type: message/partial; id=x; number=1; total=2\r\n\r\nSubject: x\r\n\r\nhalf\r\n")},
		{"A82", "message/global", plainly, part("Content-Type: message/global\r\n\r\n" + withBody(std))},
		{"A83", "text after the close delimiter on its line", found, withBody(text + "--real--garbage\r\n--real\r\n" + evil)},
		{"A87", "attached message that begins with an empty line", ambiguous, part("Content-Type: message/rfc822\r\n\r\n\r\n" + strings.ReplaceAll(withBody(std), "real", "inner"))},
		{"A88", "empty line before the part header", ambiguous, part("\r\n" + evil)},
		{"A89", "delimiter of an inner multipart in a later part", ambiguous, withBody(left("inner") + "--real\r\nContent-Type: text/plain\r\n\r\nhello\r\n--inner\r\n" + evil + "--real--\r\n")},
		{"A90", "delimiter of a closed multipart in an image", ambiguous, withBody(left("inner") + "--inner--\r\n--real\r\nContent-Type: image/gif\r\n\r\nGIF89a\r\n--inner\r\n" + evil + "--real--\r\n")},
		{"A91", "line that begins like the inner boundary in a later part", ambiguous, withBody(left("rea") + "--real\r\n\r\nhello\r\n--rear\r\n" + evil + "--real--\r\n")},
		{"A116", "data that goes on after a delimiter of the outer multipart", found, dotted(unclosed + data[:156] + "--real\r\n" + data[156:] + "--inner--\r\n--real--\r\n")},
		{"A117", "the same with a part header in the data", found, dotted(unclosed + data[:78] + "--real\r\nContent-Type: text/plain\r\n\r\n" + data[78:] + "--inner--\r\n--real--\r\n")},
		{"A118", "the same after the close delimiter", found, dotted(unclosed + data[:156] + "--real--\r\n" + data[156:])},
		{"A119", "the same two levels down", found, dotted(left("outer") + strings.ReplaceAll(unclosed, "--real", "--outer") + data[:156] + "--real\r\n" + data[156:] + "--inner--\r\n")},
		{"A121", "form feed before the delimiter, glued to the text", found, withBody(strings.Replace(std, "hello\r\n--real", "hello\x0c--real", 1))},
		{"A122", "delimiter glued to the text", found, withBody(strings.Replace(std, "hello\r\n--real", "hello--real", 1))},
		{"A123", "three dashes", found, withBody(delim("---real\r\n"))},
		{"A124", "one dash", found, withBody(delim("-real\r\n"))},
		{"A125", "quoted delimiter", found, withBody(delim(">--real\r\n"))},
		{"A126", "delimiter in upper case", found, withBody(delim("--REAL\r\n"))},
		{"A127", "delimiter after a no-break space", found, withBody(delim("\xa0--real\r\n"))},
		{"A128", "delimiter after an 8-bit line end", found, withBody(strings.Replace(std, "hello\r\n--real", "hello\x85--real", 1))},
		{"A129", "line end of the delimiter in quoted-printable", found, mimeHead + mixedReal + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Replace(std, "hello\r\n--real", "hello=0D=0A--real", 1)},
		{"A130", "attached message as text/rfc822-headers", found, part("Content-Type: text/rfc822-headers\r\n\r\n" + strings.ReplaceAll(withBody(std), "real", "inner"))},
		{"A131", "attached message as message/delivery-status", found, part("Content-Type: message/delivery-status\r\n\r\n" + strings.ReplaceAll(withBody(std), "real", "inner"))},
		{"A132", "attached message as message/http", found, part("Content-Type: message/http\r\n\r\n" + strings.ReplaceAll(withBody(std), "real", "inner"))},
		{"A133", "attached message as image/gif", found, part("Content-Type: image/gif\r\n\r\n" + strings.ReplaceAll(withBody(std), "real", "inner"))},
		{"A134", "message in the text of a bounce", plainly, mailHead + "\r\nSorry.\r\n\r\n--- Below this line is a copy of the message.\r\n\r\n" + withBody(std)},
		{"A135", "second message of a mailbox", found, part("Content-Type: application/octet-stream; name=x.mbox\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte("From x Mon Jun  1 10:00:00 2026\n"+mailHead+"\r\nhello\r\n\r\nFrom y Mon Jun  1 10:00:00 2026\r\n"+withBody(std))))},
		{"A136", "page saved with its files", found, part("Content-Type: application/octet-stream; name=x.mht\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(mixedReal+"\r\n"+std)))},
		{"A137", "digest part in base64 without a type", found, mimeHead + "Content-Type: multipart/digest; boundary=real\r\n\r\n--real\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(strings.ReplaceAll(withBody(std), "real", "inner"))) + "--real--\r\n"},
		{"A138", "same boundary inside and outside", found, withBody(text + "--real\r\n" + mixedReal + "\r\n" + std)},
		{"A139", "outer boundary begins with the inner one", found, withBody(text + "--real\r\nContent-Type: multipart/mixed; boundary=rea\r\n\r\n--rea\r\n\r\nx\r\n--real\r\n" + evil + "--rea--\r\n--real--\r\n")},
		{"A84", "empty part header", plainly, withBody("--real\r\n\r\nhello\r\n--real\r\n" + evil + "--real--\r\n")},
		{"A85", "boundary with trailing dash", plainly, mimeHead + "Content-Type: multipart/mixed; boundary=\"real-\"\r\n\r\n" + mixedBody("real-", evil)},
		{"A86", "base64 multipart with a harmless plain copy", ambiguous, mimeHead + mixedReal + "Content-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64([]byte(std)) + "\r\n" + text + "--real--\r\n"},
	}
}
