package unpack

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// This file finds files that stand in a text without help of MIME: uuencode,
// yEnc and BinHex 4.0; also what else the Macintosh wrapped files in.

// hidden is a file found in a text.
type hidden struct {
	name string
	data []byte
	how  string
}

// maxHidden bounds the files found in one text.
const maxHidden = 1000

// lines steps through a text.
type lines struct{ rest []byte }

// next returns the next line without its end.
func (l *lines) next() (line []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, false
	}
	i := bytes.IndexByte(l.rest, '\n')
	if i < 0 {
		line, l.rest = l.rest, nil
	} else {
		line, l.rest = l.rest[:i+1], l.rest[i+1:]
	}
	return trimEOL(line), true
}

// seek moves l to the next line that begins with mark, in any case and after
// blanks or control characters, and returns it from there on.
func seek(l *lines, mark string) ([]byte, bool) {
	for {
		line, ok := l.next()
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

// armours tells in one pass what may stand in text: mostly nothing.
func armours(text []byte) (uu, yEnc, parts bool) {
	for at := 0; at < len(text); {
		end := lineEnd(text, at)
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

// findUU returns the uuencoded files in text: "begin 644 name" and
// "begin-base64 644 name". The end line may be missing.
func findUU(text []byte) []hidden {
	var out []hidden
	l := lines{rest: text}
	for len(out) < maxHidden {
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
		if strings.Contains(word, "base64") {
			data = uuBase64(&l)
		} else {
			data = uuLines(&l, sure)
		}
		if len(data) == 0 {
			l = after
			continue
		}
		out = append(out, hidden{name: name, data: data, how: "uuencode"})
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
		name = string(looseBase64([]byte(name)))
	}
	return word, name, len(f[1]) >= 3 && strings.Trim(f[1], "01234567") == "", true
}

// uuBody decodes a uuencoded text without its first line.
func uuBody(text []byte) []byte { return uuLines(&lines{rest: text}, false) }

// uuLines decodes lines until "end" or the next file. If it is not sure that
// this is a file, the first must be whole, because prose begins with "begin"
// too. Later ones that are none are skipped.
func uuLines(l *lines, sure bool) []byte {
	var out []byte
	for {
		before := l.rest
		line, ok := l.next()
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
			l.rest = before
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

func uuBase64(l *lines) []byte {
	start := l.rest
	for {
		before := l.rest
		line, ok := l.next()
		if !ok || string(line) == "====" {
			return looseBase64(start[:len(start)-len(before)])
		}
		if !isBase64Line(line) {
			l.rest = before
			return looseBase64(start[:len(start)-len(before)])
		}
	}
}

// findYEnc returns the yEnc files in text (yenc.org draft 1.3). The parts of a
// file are joined in the order in which they come, besides being files of
// their own.
func findYEnc(text []byte) []hidden {
	var out []hidden
	whole := map[string][]byte{}
	l := lines{rest: text}
	for len(out) < maxHidden {
		line, ok := seek(&l, "=ybegin ")
		if !ok {
			break
		}
		_, name, _ := strings.Cut(string(line[:min(len(line), 1024)]), "name=")
		name = strings.TrimSpace(name)
		var data []byte
		for {
			line, ok = l.next()
			if !ok || hasPrefixFold(line, "=yend") {
				break
			}
			if !hasPrefixFold(line, "=ypart ") {
				data = appendYEnc(data, line)
			}
		}
		out = append(out, hidden{name: name, data: data, how: "yenc"})
		whole[name] = append(whole[name], data...)
	}
	for i, n := 0, len(out); i < n; i++ {
		if f := out[i]; len(whole[f.name]) > len(f.data) {
			out = append(out, hidden{name: f.name, data: whole[f.name], how: f.how})
			delete(whole, f.name)
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

const (
	hqxMark     = "must be converted with BinHex"
	hqxAlphabet = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
)

var hqx = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte(hqxAlphabet) {
		t[c] = byte(i)
	}
	return t
}()

// findBinHex returns the forks of the BinHex 4.0 files in text (RFC 1741).
// Its run lengths make bombs: all files together may have room octets, over
// says that they have more.
func findBinHex(text []byte, room int) (out []hidden, over bool) {
	for len(out) < maxHidden {
		i := bytes.Index(text, []byte(hqxMark))
		if i < 0 {
			break
		}
		text = text[i+len(hqxMark):]
		start := bytes.IndexByte(text, ':')
		if start < 0 {
			break
		}
		raw, n := hqxOctets(text[start+1:], room)
		if room -= len(raw); room < 0 {
			return out, true
		}
		out = append(out, hqxForks(raw)...)
		text = text[start+1+n:]
	}
	return out, false
}

// hqxOctets decodes up to the closing colon and undoes the run lengths; n is
// what it read. It ends as soon as there are more than room octets.
func hqxOctets(text []byte, room int) (out []byte, n int) {
	var acc uint32
	bits := 0
	repeat := false
	put := func(c byte) {
		switch {
		case repeat && c == 0:
			out = append(out, 0x90)
			repeat = false
		case repeat:
			for ; c > 1 && len(out) > 0; c-- {
				out = append(out, out[len(out)-1])
			}
			repeat = false
		case c == 0x90:
			repeat = true
		default:
			out = append(out, c)
		}
	}
	for ; n < len(text) && len(out) <= room; n++ {
		v := hqx[text[n]]
		if v == 0xff {
			if text[n] == '\r' || text[n] == '\n' || text[n] == ' ' || text[n] == '\t' {
				continue
			}
			break
		}
		acc = acc<<6 | uint32(v)
		if bits += 6; bits >= 8 {
			bits -= 8
			put(byte(acc >> bits))
		}
	}
	return out, n
}

// hqxForks splits the header off and returns data and resource fork. A fork
// that is cut is returned as far as it goes.
func hqxForks(raw []byte) []hidden {
	if len(raw) == 0 || len(raw) < int(raw[0])+22 {
		return nil
	}
	n := 1 + int(raw[0])
	name := string(raw[1:n])
	// version 1, type 4, creator 4, flags 2, then the two lengths
	h := raw[n+11:]
	sizes := []uint32{binary.BigEndian.Uint32(h), binary.BigEndian.Uint32(h[4:])}
	h = h[min(len(h), 10):]
	var out []hidden
	for _, size := range sizes {
		n := min(len(h), int(size))
		if n > 0 {
			out = append(out, hidden{name: name, data: h[:n:n], how: "binhex"})
		}
		h = h[min(len(h), n+2):]
	}
	return out
}

// findApple returns the forks of an AppleSingle or AppleDouble file (RFC 1740
// appendix A and B) or of a MacBinary one.
func findApple(raw []byte) []hidden {
	be := binary.BigEndian
	if len(raw) >= 128 && raw[0] == 0 && raw[74] == 0 && raw[82] == 0 && raw[1] > 0 && raw[1] < 64 {
		data, resource := uint64(be.Uint32(raw[83:])), uint64(be.Uint32(raw[87:]))
		padded := (data + 127) &^ 127
		if n := uint64(len(raw)); data+resource == 0 || 128+padded+resource > n || n > 128+padded+(resource+127)&^127+128 {
			return nil
		}
		f := hidden{name: string(raw[2 : 2+raw[1]]), data: raw[128 : 128+data], how: "macbinary"}
		return []hidden{f, {name: f.name, data: raw[128+padded : 128+padded+resource], how: f.how}}
	}
	if len(raw) < 26 || be.Uint32(raw)&^7 != 0x51600 {
		return nil
	}
	const dataFork, resourceFork, realName = 1, 2, 3
	var out []hidden
	name := ""
	for i := range int(be.Uint16(raw[24:])) {
		entry := raw[min(len(raw), 26+12*i):]
		if len(entry) < 12 {
			break
		}
		at := min(uint64(be.Uint32(entry[4:])), uint64(len(raw)))
		data := raw[at:min(at+uint64(be.Uint32(entry[8:])), uint64(len(raw)))]
		switch be.Uint32(entry) {
		case realName:
			name = string(data[:min(len(data), 255)])
		case dataFork, resourceFork:
			if len(data) > 0 && len(out) < 2 {
				out = append(out, hidden{data: data, how: "applesingle"})
			}
		}
	}
	for i := range out {
		out[i].name = name
	}
	return out
}
