package unpack

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// This file finds files that stand in a text without help of MIME: uuencode,
// yEnc and BinHex 4.0.

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

// seek moves to the next line that begins with mark and returns it.
func (l *lines) seek(mark string) ([]byte, bool) {
	for {
		i := bytes.Index(l.rest, []byte(mark))
		if i < 0 {
			return nil, false
		}
		start := bytes.LastIndexByte(l.rest[:i], '\n') + 1
		l.rest = l.rest[start:]
		line, _ := l.next()
		if control(line[:min(i-start, len(line))]) {
			return bytes.TrimLeft(line, " \t"), true
		}
	}
}

// findUU returns the uuencoded files in text: "begin 644 name" and
// "begin-base64 644 name". The end line may be missing.
func findUU(text []byte) []hidden {
	var out []hidden
	l := lines{text}
	for len(out) < maxHidden {
		line, ok := l.seek("begin")
		if !ok {
			break
		}
		mode, name, ok := beginLine(line)
		if !ok {
			continue
		}
		after := l
		var data []byte
		if mode == "begin-base64" {
			data = uuBase64(&l)
		} else {
			data = uuLines(&l)
		}
		if len(data) == 0 {
			l = after
			continue
		}
		out = append(out, hidden{name: name, data: data, how: "uuencode"})
	}
	return out
}

// beginLine reads "begin MODE NAME" with an octal mode of three or four
// digits, as clients do.
func beginLine(line []byte) (word, name string, ok bool) {
	f := strings.Fields(string(line[:min(len(line), 1024)]))
	if len(f) < 2 || (f[0] != "begin" && f[0] != "begin-base64") || len(f[1]) < 3 || len(f[1]) > 6 {
		return "", "", false
	}
	for _, c := range f[1] {
		if c < '0' || c > '7' {
			return "", "", false
		}
	}
	return f[0], strings.Join(f[2:], " "), true
}

// uuLines decodes lines until "end", a line of no octets or one that is none.
func uuLines(l *lines) []byte {
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
		if line[0] < ' ' || line[0] > '`' || (len(line)-1)*3/4+3 < n || len(line) > 128 {
			l.rest = before
			return out
		}
		if n == 0 {
			continue
		}
		out = appendUU(out, line[1:], n)
	}
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

// findYEnc returns the yEnc files in text (yenc.org draft 1.3). Parts of a
// file are files of their own.
func findYEnc(text []byte) []hidden {
	var out []hidden
	l := lines{text}
	for len(out) < maxHidden {
		line, ok := l.seek("=ybegin ")
		if !ok {
			break
		}
		_, name, _ := strings.Cut(string(line[:min(len(line), 1024)]), " name=")
		var data []byte
		for {
			line, ok = l.next()
			if !ok || bytes.HasPrefix(line, []byte("=yend")) {
				break
			}
			if !bytes.HasPrefix(line, []byte("=ypart ")) {
				data = appendYEnc(data, line)
			}
		}
		out = append(out, hidden{name: strings.TrimSpace(name), data: data, how: "yenc"})
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
