// Package armour finds files that stand in a text without help of MIME: uuencode,
// yEnc, BinHex, what the Macintosh wrapped files in, base64, data: URIs of pages.
// It returns what it finds and does not look into it; bounds are given by who
// asks.
//
// Start with Marks, which tells what may be there, and File.
package armour

import (
	"bytes"
	"strings"

	"postern/filter/unpack/codec"
)

// File is a file found in a text.
type File struct {
	Name string // as it stands there, empty if there is none
	Data []byte // decoded
	How  string // the encoding, "uuencode"
}

// MaxHidden bounds the files found in one text.
const MaxHidden = 1000

// seek moves l to the next line that begins with mark, in any case and after
// blanks or control characters, and returns it from there on.
func seek(l *codec.Lines, mark string) ([]byte, bool) {
	for {
		line, ok := l.Next()
		if !ok {
			return nil, false
		}
		if line = trimControl(line); hasPrefixFold(line, mark) {
			return line, true
		}
	}
}

// trimControl removes blanks and control characters from the start of line.
func trimControl(line []byte) []byte {
	for len(line) > 0 && line[0] <= ' ' {
		line = line[1:]
	}
	return line
}

// Marks tells in one pass what may stand in text, mostly nothing: uuencoded and
// yEnc files, and lines that begin a part of a message.
func Marks(text []byte) (uu, yEnc, parts bool) {
	for at := 0; at < len(text); {
		end := codec.LineEnd(text, at)
		if line := trimControl(text[at:end]); len(line) > 0 {
			switch line[0] | 0x20 {
			case 'b':
				uu = uu || hasPrefixFold(line, "begin")
			case '=':
				yEnc = yEnc || hasPrefixFold(line, "=ybegin ")
			case 'c':
				parts = parts || len(line) > 8 && hasPrefixFold(line, "content-")
			}
		}
		at = end
	}
	return uu, yEnc, parts
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && b[0]|0x20 == prefix[0]|0x20 && strings.EqualFold(string(b[:len(prefix)]), prefix)
}

// FindUU returns the uuencoded files in text: "begin 644 name" and
// "begin-base64 644 name". The end line may be missing.
func FindUU(text []byte) []File {
	var out []File
	l := codec.Lines{Rest: text}
	barren := len(text) + 1 // octets left where the last search ended that found no line of a file
	for len(out) < MaxHidden {
		line, ok := seek(&l, "begin")
		if !ok {
			break
		}
		word, name, sure, ok := beginLine(line)
		if !ok {
			continue
		}
		after := l
		var data []byte
		switch {
		case strings.Contains(word, "base64"):
			data = uuBase64(&l)
		case len(l.Rest) > barren: // no line from here to there is one of a file
		default:
			if data = uuLines(&l, sure); len(data) == 0 {
				barren = len(l.Rest)
			}
		}
		if len(data) == 0 {
			l = after
			continue
		}
		out = append(out, File{Name: name, Data: data, How: "uuencode"})
	}
	return out
}

// beginLine reads "begin MODE NAME" or "begin NAME". Few readers ask for the
// octal digits of the mode; with them it is sure that a file follows.
func beginLine(line []byte) (word, name string, sure, ok bool) {
	f := strings.Fields(string(line[:min(len(line), 1024)]))
	if len(f) < 2 {
		return "", "", false, false
	}
	switch word = strings.ToLower(f[0]); word {
	case "begin", "begin-base64", "begin-encoded", "begin-base64-encoded":
	default:
		return "", "", false, false
	}
	name = strings.Join(f[min(2, len(f)-1):], " ")
	if strings.HasSuffix(word, "-encoded") {
		name = string(codec.LooseBase64([]byte(name)))
	}
	return word, name, len(f[1]) >= 3 && strings.Trim(f[1], "01234567") == "", true
}

// UUBody decodes a uuencoded text without its first line.
func UUBody(text []byte) []byte { return uuLines(&codec.Lines{Rest: text}, false) }

// uuLines decodes lines until "end" or the next file. If it is not sure that
// this is a file, the first must be whole, because prose begins with "begin"
// too. Later ones that are none are skipped.
func uuLines(l *codec.Lines, sure bool) []byte {
	var out []byte
	for {
		before := l.Rest
		line, ok := l.Next()
		if !ok || string(line) == "end" {
			return out
		}
		if len(line) == 0 {
			continue
		}
		n := int(line[0]-' ') & 63
		size := 1 + (n+2)/3*4
		switch is := isUU(line, size); {
		case bytes.HasPrefix(line, []byte("begin ")), !sure && out == nil && (!is || len(line) < size):
			l.Rest = before
			return out
		case is:
			out = appendUU(out, line[1:], n)
		}
	}
}

// isUU reports whether line could be one of uuencode: of its alphabet, and not
// longer than size but for a check sum.
func isUU(line []byte, size int) bool {
	for _, c := range line {
		if c < ' ' || c > '`' {
			return false
		}
	}
	return len(line) <= size+2
}

// appendUU decodes n octets of one line; characters that were cut off at its
// end are blanks.
func appendUU(out, line []byte, n int) []byte {
	at := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 63
		}
		return 0
	}
	for i := 0; n > 0; i, n = i+4, n-3 {
		a, b, c, d := at(i), at(i+1), at(i+2), at(i+3)
		group := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d}
		out = append(out, group[:min(n, 3)]...)
	}
	return out
}

func uuBase64(l *codec.Lines) []byte {
	start := l.Rest
	for {
		before := l.Rest
		line, ok := l.Next()
		if !ok || string(line) == "====" {
			return codec.LooseBase64(start[:len(start)-len(before)])
		}
		if !codec.IsBase64Line(line) {
			l.Rest = before
			return codec.LooseBase64(start[:len(start)-len(before)])
		}
	}
}

// FindYEnc returns the yEnc files in text (yenc.org draft 1.3). The parts of a
// file are joined in the order in which they come, besides being files of
// their own.
func FindYEnc(text []byte) []File {
	var out []File
	l := codec.Lines{Rest: text}
	for len(out) < MaxHidden {
		line, ok := seek(&l, "=ybegin ")
		if !ok {
			break
		}
		_, name, _ := strings.Cut(string(line[:min(len(line), 1024)]), "name=")
		name = strings.TrimSpace(name)
		var data []byte
		for {
			line, ok = l.Next()
			if !ok || hasPrefixFold(line, "=yend") {
				break
			}
			if !hasPrefixFold(line, "=ypart ") {
				data = appendYEnc(data, line)
			}
		}
		out = append(out, File{Name: name, Data: data, How: "yenc"})
	}
	return append(out, joinParts(out)...)
}

// joinParts puts together the files of one name where that makes more than one
// of them is.
func joinParts(parts []File) (out []File) {
	sizes := map[string]int{}
	for _, f := range parts {
		sizes[f.Name] += len(f.Data)
	}
	whole := map[string]int{}
	for _, f := range parts {
		if _, known := whole[f.Name]; !known && sizes[f.Name] > len(f.Data) {
			whole[f.Name] = len(out)
			out = append(out, File{Name: f.Name, Data: make([]byte, 0, sizes[f.Name]), How: f.How})
		}
	}
	for _, f := range parts {
		if i, ok := whole[f.Name]; ok {
			out[i].Data = append(out[i].Data, f.Data...)
		}
	}
	return out
}

func appendYEnc(out, line []byte) []byte {
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == '=' && i+1 < len(line) {
			i++
			c = line[i] - 64
		}
		out = append(out, c-42)
	}
	return out
}

// WholeBase64 decodes data that is nothing but base64 although it was not
// declared, such as what was encoded twice.
func WholeBase64(data []byte) (File, bool) {
	line := bytes.TrimSpace(data[:min(len(data), 64)])
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = bytes.TrimSpace(line[:i])
	}
	if len(data) < 64 || len(line) < 32 || bytes.ContainsAny(line, " \t") || !codec.IsBase64Line(line) {
		return File{}, false
	}
	if !codec.LooksLikeBase64(data) { // before there is room for all of it
		return File{}, false
	}
	out, ok := codec.StrictBase64(data)
	return File{Data: out, How: "base64"}, ok
}
