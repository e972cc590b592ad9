package codec

import (
	"bytes"
	"encoding/base64"
	"iter"
)

// Data as RFC 2045 wants it has one reading and a fast path. Of broken base64
// readers make different things: then all of them are tried.

const (
	b64Bad = 0x80 // no character of the alphabet
	b64Pad = 0x81 // "="
	b64WS  = 0x82 // blanks and line ends
)

// b64 maps a character to its six bits or one of the marks; b64url also takes
// the URL-safe alphabet of RFC 4648 section 5.
var b64, b64url [256]byte

func init() {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range b64 {
		b64[i] = b64Bad
	}
	for _, c := range []byte(" \t\r\n") {
		b64[c] = b64WS
	}
	b64['='] = b64Pad
	for i, c := range []byte(alphabet) {
		b64[c] = byte(i)
	}
	b64url = b64
	b64url['-'], b64url['_'] = 62, 63
}

// Base64 yields what readers make of src, the fullest reading first. If there is
// more than one, ready is asked before each is decoded and ends it.
func Base64(src []byte, ready func() bool) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if out, ok := StrictBase64(src); ok {
			yield(out)
			return
		}
		_ = ready() && yield(LooseBase64(src)) && // skips junk, goes on after padding
			ready() && yield(sloppyBase64(src, &b64, false, false)) && // the same without the URL-safe alphabet
			ready() && yield(sloppyBase64(src, &b64, true, false)) && // ends at the padding
			ready() && yield(sloppyBase64(src, &b64, true, true)) && // ends at the first junk
			ready() && yield(sloppyBase64(onlyBase64(src), &b64url, false, false)) // leaves out lines that hold other text
	}
}

// LooksLikeBase64 reports whether src has no other characters than StrictBase64
// may take.
func LooksLikeBase64(src []byte) bool {
	for _, c := range src {
		if b64[c] == b64Bad {
			return false
		}
	}
	return true
}

// LooseBase64 is the reading that gets most out of src.
func LooseBase64(src []byte) []byte { return sloppyBase64(src, &b64url, false, false) }

// StrictBase64 decodes src if all readers agree about it: characters of the
// alphabet, blanks and line ends, and padding at most at the end. Missing
// padding changes nothing.
func StrictBase64(src []byte) ([]byte, bool) {
	dst := make([]byte, len(src)/4*3+3)
	n, used := base64Lines(dst, src)
	rest := src[used:]
	var group uint32
	have := 0
	for i, c := range rest {
		switch v := b64[c]; {
		case v < 64:
			group = group<<6 | uint32(v)
			if have++; have == 4 {
				dst[n], dst[n+1], dst[n+2] = byte(group>>16), byte(group>>8), byte(group)
				n += 3
				group, have = 0, 0
			}
		case v == b64Pad:
			return shrink(dst[:endGroup(dst, n, group, have)]), onlyPadding(rest[i:])
		case v == b64Bad:
			return nil, false
		}
	}
	return shrink(dst[:endGroup(dst, n, group, have)]), true
}

// base64Lines decodes the lines at the start of src that are as they should
// be, until one is not, and returns how much of dst and src they take. The
// line ends are taken out before decoding: that is twice as fast as to meet
// them on the way.
func base64Lines(dst, src []byte) (n, used int) {
	var buf [4096]byte
	for {
		fill, at := 0, used
		for at < len(src) {
			i := bytes.IndexByte(src[at:min(len(src), at+1024)], '\n')
			if i < 0 {
				break
			}
			line := TrimEOL(src[at : at+i+1])
			if len(line)&3 != 0 || fill+len(line) > len(buf) {
				break
			}
			fill += copy(buf[fill:], line)
			at += i + 1
		}
		if fill == 0 {
			return n, used
		}
		m, err := base64.RawStdEncoding.Decode(dst[n:], buf[:fill])
		if err != nil || m != fill/4*3 {
			return n, used
		}
		n += m
		used = at
	}
}

// endGroup writes the octets of an incomplete group and returns the new length
// of dst.
func endGroup(dst []byte, n int, group uint32, have int) int {
	switch have {
	case 2:
		dst[n] = byte(group >> 4)
		n++
	case 3:
		dst[n], dst[n+1] = byte(group>>10), byte(group>>2)
		n += 2
	}
	return n
}

// shrink frees memory that b does not need: a part may hold on to b for long. Its
// capacity says what it holds on to.
func shrink(b []byte) []byte {
	if len(b) < cap(b)/2 {
		return bytes.Clone(b)
	}
	return b
}

func onlyPadding(b []byte) bool {
	for _, c := range b {
		if v := b64[c]; v != b64Pad && v != b64WS {
			return false
		}
	}
	return true
}

// sloppyBase64 decodes whatever there is. Junk is skipped or, if junkEnds,
// ends the data. Padding ends a group; if padEnds and it is not the very
// first, it ends the data.
func sloppyBase64(src []byte, table *[256]byte, padEnds, junkEnds bool) []byte {
	dst := make([]byte, len(src)/4*3+3)
	n, have := 0, 0
	var group uint32
	for _, c := range src {
		v := table[c]
		switch {
		case v < 64:
			group = group<<6 | uint32(v)
			if have++; have == 4 {
				dst[n], dst[n+1], dst[n+2] = byte(group>>16), byte(group>>8), byte(group)
				n += 3
				group, have = 0, 0
			}
		case v == b64Pad:
			n = endGroup(dst, n, group, have)
			group, have = 0, 0
			if padEnds && n > 0 {
				return shrink(dst[:n])
			}
		case v == b64Bad && junkEnds && n+have > 0:
			return shrink(dst[:endGroup(dst, n, group, have)])
		}
	}
	return shrink(dst[:endGroup(dst, n, group, have)])
}

// onlyBase64 keeps the lines that hold nothing but base64.
func onlyBase64(src []byte) []byte {
	out := make([]byte, 0, len(src))
	for len(src) > 0 {
		line := src
		if i := bytes.IndexByte(src, '\n'); i >= 0 {
			line = src[:i+1]
		}
		src = src[len(line):]
		if IsBase64Line(bytes.TrimSpace(line)) {
			out = append(out, line...)
		}
	}
	return out
}

// GoesOn reports whether there is more base64 after the end of it in src, its
// padding or a line of other text, than a line that people draw.
func GoesOn(src []byte) bool {
	const drawn = 80
	more, ended := 0, false
	for l := (Lines{Rest: src}); ; {
		line, ok := l.Next()
		if !ok {
			return false
		}
		line = bytes.TrimSpace(line)
		is := IsBase64Line(line)
		if ended && is {
			if more += len(line); more > drawn {
				return true
			}
		}
		ended = ended || len(line) > 0 && (!is || line[len(line)-1] == '=')
	}
}

// IsBase64Line reports whether line holds base64 only.
func IsBase64Line(line []byte) bool {
	for _, c := range line {
		if v := b64url[c]; v >= 64 && v != b64Pad {
			return false
		}
	}
	return true
}
