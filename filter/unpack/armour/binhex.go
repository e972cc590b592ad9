package armour

import (
	"bytes"
	"encoding/binary"
)

// BinHexMark stands before each BinHex file.
const BinHexMark = "must be converted with BinHex"

const hqxAlphabet = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"

var hqx = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte(hqxAlphabet) {
		t[c] = byte(i)
	}
	return t
}()

// FindBinHex returns the forks of the BinHex 4.0 files in text (RFC 1741).
// Its run lengths make bombs: all files together may have room octets, over
// says that they have more.
func FindBinHex(text []byte, room int) (out []File, over bool) {
	for len(out) < MaxHidden {
		i := bytes.Index(text, []byte(BinHexMark))
		if i < 0 {
			break
		}
		text = text[i+len(BinHexMark):]
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
func hqxForks(raw []byte) []File {
	if len(raw) == 0 || len(raw) < int(raw[0])+22 {
		return nil
	}
	n := 1 + int(raw[0])
	name := string(raw[1:n])
	// version 1, type 4, creator 4, flags 2, then the two lengths
	h := raw[n+11:]
	sizes := []uint32{binary.BigEndian.Uint32(h), binary.BigEndian.Uint32(h[4:])}
	h = h[min(len(h), 10):]
	var out []File
	for _, size := range sizes {
		n := min(len(h), int(size))
		if n > 0 {
			out = append(out, File{Name: name, Data: h[:n:n], How: "binhex"})
		}
		h = h[min(len(h), n+2):]
	}
	return out
}
