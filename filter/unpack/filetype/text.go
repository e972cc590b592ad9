package filetype

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"postern/filter/unpack/entity"
)

// textClass is what kinds of octets a sample holds.
type textClass struct {
	bits byte
	utf8 bool
	wide int // 1 for UTF-16 little endian, 2 for big endian, both with BOM
}

const (
	octetHigh    = 1 << iota // above ASCII
	octetControl             // not found in text
)

var octetClass = func() (t [256]byte) {
	for i := range t {
		switch {
		case i >= 0x80:
			t[i] = octetHigh
		case i < 0x20 && !strings.ContainsRune("\t\n\v\f\r\b\x1b", rune(i)), i == 0x7f:
			t[i] = octetControl
		}
	}
	return t
}()

func classify(sample []byte) textClass {
	switch {
	case bytes.HasPrefix(sample, []byte("\xff\xfe")) && len(sample) > 3 && sample[3] == 0:
		return textClass{wide: 1}
	case bytes.HasPrefix(sample, []byte("\xfe\xff")) && len(sample) > 3 && sample[2] == 0:
		return textClass{wide: 2}
	}
	var c textClass
	for _, b := range sample[:min(64, len(sample))] { // enough for most binary data
		c.bits |= octetClass[b]
	}
	if c.bits&octetControl != 0 {
		return c
	}
	for rest := sample[min(64, len(sample)):]; len(rest) > 0; {
		n := min(8, len(rest))
		if n < 8 || !printable(binary.LittleEndian.Uint64(rest)) {
			for _, b := range rest[:n] {
				c.bits |= octetClass[b]
			}
		}
		rest = rest[n:]
	}
	if c.bits == octetHigh {
		// a sample may end inside a character
		for n := range utf8.UTFMax {
			if len(sample) >= n && utf8.Valid(sample[:len(sample)-n]) {
				c.utf8 = true
				break
			}
		}
	}
	return c
}

// printable reports whether the eight octets in v are all from blank to tilde.
func printable(v uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	low := (v - 0x20*ones) &^ v // top bit set where an octet is below blank
	del := v ^ 0x7f*ones        // zero where an octet is DEL
	return (v|low|(del-ones)&^del)&tops == 0
}

func (c textClass) text() bool { return c.wide != 0 || c.bits&octetControl == 0 }

// IsText reports whether a sample is text, as opposed to binary data.
func IsText(sample []byte) bool { return classify(sample).text() }

// textTypes names text. Everything is asc or txt first.
func textTypes(data []byte, class textClass, names []string) ([]string, string) {
	short := []string{"asc"}
	if class.bits&octetHigh != 0 || class.wide != 0 {
		short = []string{"txt"}
	}
	sample := data[:min(len(data), typeSample)]
	if class.wide != 0 {
		sample = Narrow(sample, class.wide)
	}
	sample = bytes.TrimPrefix(sample, []byte("\xef\xbb\xbf"))
	sample = bytes.TrimLeft(sample, " \t\r\n")
	for _, detect := range []func([]byte) (string, string){textMagic, markup, wrapped, script} {
		if word, media := detect(sample); word != "" {
			switch word {
			case "pdf", "rtf", "html", "xml", "swf", "cpio", "bz2", "deb", "a", "hta", "wsf":
				return []string{word}, media // these are no text to file(1)
			case "svg":
				return []string{"image", word}, media
			case "pgp.enc", "pgp.asc", "pgp.msg":
				return []string{"pgp", word}, media
			}
			return append(short, word), media
		}
	}
	if word := scriptName(names); word != "" {
		return append(short, word), "text/plain"
	}
	return short, "text/plain"
}

// Narrow drops the zero octets and the mark of UTF-16 text, little endian or,
// if wide is 2, big endian. What is not ASCII or Latin-1 becomes "?".
func Narrow(b []byte, wide int) []byte {
	out := make([]byte, 0, len(b)/2)
	for i := 2; i+1 < len(b); i += 2 {
		low, high := b[i], b[i+1]
		if wide == 2 {
			low, high = high, low
		}
		if high != 0 {
			low = '?'
		}
		out = append(out, low)
	}
	return out
}

// textMagic are formats that begin with readable octets.
func textMagic(s []byte) (word, media string) {
	for _, m := range textMagics {
		if len(s) >= len(m.magic) && strings.EqualFold(string(s[:len(m.magic)]), m.magic) && (m.word != "cpio" || isCpio(s)) {
			return m.word, m.media
		}
	}
	if i := bytes.Index(s[:min(len(s), 1024)], []byte("%PDF-")); i >= 0 {
		return "pdf", "application/pdf"
	}
	return "", ""
}

var textMagics = []struct{ magic, word, media string }{
	{`{\rt`, "rtf", "text/rtf"},
	{"%!PS", "ps", "application/postscript"},
	{"070701", "cpio", "application/x-cpio"},
	{"070702", "cpio", "application/x-cpio"},
	{"070707", "cpio", "application/x-cpio"},
	{"!<arch>\ndebian", "deb", "application/vnd.debian.binary-package"},
	{"!<arch>\n", "a", "application/x-archive"},
	{"[InternetShortcut]", "url", "application/x-mswinurl"},
	{"[Desktop Entry]", "desktop", "application/x-desktop"},
	{"REGEDIT4", "reg", "text/x-ms-regedit"},
	{"Windows Registry Editor Version", "reg", "text/x-ms-regedit"},
	{"#@~^", "vbs", "text/vbscript"},
	{"WEB\r\n1\r\n", "iqy", "text/x-ms-iqy"},
	{"ID;P", "slk", "application/x-sylk"},
	{"BEGIN:VCALENDAR", "ics", "text/calendar"},
	{"BEGIN:VCARD", "vcf", "text/vcard"},
	{"(This file must be converted with BinHex", "hqx", "application/mac-binhex40"},
}

// markup tells HTML, XML and what Windows runs of them.
func markup(s []byte) (word, media string) {
	script := -1 // offset of the last one, once it is asked for
	for rest := s; ; {
		i := bytes.IndexByte(rest, '<')
		if i < 0 || i+1 == len(rest) {
			break
		}
		rest = rest[i+1:]
		switch tag := markupTag(rest); tag {
		case "hta":
			return "hta", "application/hta"
		case "svg":
			word, media = "svg", "image/svg+xml"
		case "wsf":
			if script < 0 && word == "" {
				script = max(bytes.LastIndex(bytes.ToLower(s), []byte("<script")), 0)
			}
			if word == "" && script >= len(s)-len(rest) {
				return "wsf", "text/x-wsf"
			}
		case "html":
			if word == "" {
				word, media = "html", "text/html"
			}
		}
	}
	if word == "" && bytes.HasPrefix(s, []byte("<?xml")) {
		return "xml", "text/xml"
	}
	return word, media
}

// markupTag returns what the tag at the start of s, after its bracket, makes
// of a file, if anything.
func markupTag(s []byte) string {
	switch s[0] | 0x20 {
	case 'h':
		if hasTag(s, "hta:application") {
			return "hta"
		}
		if hasTag(s, "html") || hasTag(s, "head") {
			return "html"
		}
	case 's':
		if hasTag(s, "svg") {
			return "svg"
		}
		if hasTag(s, "script") {
			return "html"
		}
	case 'j', 'p':
		if hasTag(s, "job") || hasTag(s, "package") {
			return "wsf"
		}
	case '!':
		if hasTag(s, "!doctype") && bytes.Contains(bytes.ToLower(s[:min(len(s), 64)]), []byte("html")) {
			return "html"
		}
	case 'a':
		if hasTag(s, "a") && bytes.Contains(bytes.ToLower(s[:min(len(s), 64)]), []byte("href")) {
			return "html"
		}
	case 'b', 'i', 't':
		if hasTag(s, "body") || hasTag(s, "iframe") || hasTag(s, "table") || hasTag(s, "title") {
			return "html"
		}
	}
	return ""
}

// hasTag reports whether s, after the bracket, begins with that tag name.
func hasTag(s []byte, tag string) bool {
	if len(s) < len(tag) || !strings.EqualFold(string(s[:len(tag)]), tag) {
		return false
	}
	return len(s) == len(tag) || strings.IndexByte(" \t\r\n>/", s[len(tag)]) >= 0
}

// wrapped tells mail and encodings of text.
func wrapped(s []byte) (word, media string) {
	if i := bytes.Index(s, []byte("-----BEGIN PGP ")); i == 0 || i > 0 && s[i-1] == '\n' {
		switch rest := s[i+15:]; {
		case bytes.HasPrefix(rest, []byte("MESSAGE")):
			if isOpenPGP(rest) {
				return "pgp.msg", "application/pgp"
			}
			return "pgp.enc", "application/pgp-encrypted"
		case bytes.HasPrefix(rest, []byte("SIGN")):
			return "pgp.asc", "application/pgp-signature"
		default:
			return "pgp.asc", "application/pgp-keys"
		}
	}
	if entity.LooksLikeMail(s) {
		return "mail", "message/rfc822"
	}
	for rest, at := s, 0; ; {
		i := bytes.Index(rest, []byte("begin "))
		if i < 0 || i+9 > len(rest) {
			break
		}
		if (at+i == 0 || s[at+i-1] == '\n') && len(bytes.Trim(rest[i+6:i+9], "01234567")) == 0 {
			return "uue", "text/x-uuencode"
		}
		rest, at = rest[i+6:], at+i+6
	}
	if i := bytes.Index(s, []byte("=ybegin ")); i == 0 || i > 0 && s[i-1] == '\n' {
		return "yenc", "text/x-yenc"
	}
	if bytes.Contains(s, []byte("\n(This file must be converted with BinHex")) {
		return "hqx", "application/mac-binhex40"
	}
	return "", ""
}

// script tells script languages by how they begin and by a word that prose
// and configuration do not have.
func script(s []byte) (word, media string) {
	line, _, _ := bytes.Cut(s, []byte("\n"))
	if len(line) > 200 {
		line = line[:200]
	}
	if len(line) < 3 {
		return "", ""
	}
	if bytes.HasPrefix(line, []byte("#!")) {
		return "sh", "text/x-shellscript"
	}
	start := strings.ToLower(string(line))
	for _, k := range scriptKinds {
		if !hasAnyPrefix(start, k.starts) {
			continue
		}
		if len(k.marks) == 0 {
			return k.word, k.media
		}
		lower := bytes.ToLower(s)
		for _, m := range k.marks {
			if bytes.Contains(lower, []byte(m)) {
				return k.word, k.media
			}
		}
	}
	return "", ""
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

var scriptKinds = []struct {
	word, media   string
	starts, marks []string
}{
	{"bat", "text/x-msdos-batch", []string{"@echo off", "@setlocal", "@cmd", "@start", "@powershell"}, nil},
	{"vbs", "text/vbscript", []string{"on error resume", "option explicit", "dim ", "set ", "'", "createobject", "function ", "sub ", "execute"},
		[]string{"createobject(", "createobject (", "wscript.", "execute(", "getobject("}},
	{"js", "text/javascript", []string{"var ", "let ", "const ", "function", "(function", "//", "/*", "try", "eval(", "new ", "this[", "this."},
		[]string{"activexobject", "wscript", "eval(", "fromcharcode", "adodb.stream"}},
	{"ps1", "text/x-powershell", []string{"$", "param(", "param (", "function ", "#requires", "iex ", "invoke-", "set-", "[", "powershell"},
		[]string{"invoke-expression", "new-object", "iex(", "iex ", "downloadstring", "frombase64string", "[system.", "-executionpolicy"}},
}

// scriptName is the type of text that runs when it is opened under its name.
func scriptName(names []string) string {
	for _, n := range names {
		switch ext := strings.ToLower(Extension(strings.TrimRight(n, ". "))); ext {
		case "js", "vbs", "wsf", "hta", "ps1", "bat", "sh", "reg", "url":
			return ext
		case "jse":
			return "js"
		case "vbe", "vb":
			return "vbs"
		case "cmd":
			return "bat"
		case "wsh", "wsc", "sct":
			return "wsf"
		}
	}
	return ""
}
