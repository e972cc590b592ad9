package mail

// Foreign text in what we write ourselves, which is US-ASCII: marks of direction
// and what cannot be seen are told, and never sent.

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// asciiOnly writes s in US-ASCII: all else as \x{202e}, octets that are no UTF-8
// as \xff, control characters as "?". It is cut at max octets.
func asciiOnly(s string, max int) string {
	return shown(s, max, func(r rune) bool { return r < utf8.RuneSelf })
}

// EncodeText makes of foreign text the value of an unstructured header field in
// US-ASCII, with encoded-words (RFC 2047) if need be, which stand with one blank
// between them. What cannot be seen is written as \x{202e}, control characters
// as "?". The text is cut at max octets, not counting the encoding.
func EncodeText(s string, max int) string {
	s = shown(s, max, func(r rune) bool { return !hidden(r) })
	// "=?" could be taken for an encoded-word of ours
	if Address(s).ASCII() && !strings.Contains(s, "=?") {
		return s
	}
	return encodedWords(s)
}

// hidden reports whether r is nothing that a reader sees.
func hidden(r rune) bool {
	return !unicode.IsPrint(r) || unicode.Is(unicode.Variation_Selector, r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// shown writes s with escapes for what may not stand as it is.
func shown(s string, max int, stands func(rune) bool) string {
	if len(s) <= max && plain(s) {
		return s
	}
	const cut = "..."
	var b strings.Builder
	whole := 0 // octets that leave room for the sign that more was there
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r < ' ' || r == 0x7f:
			b.WriteByte('?')
		case stands(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x{%x}`, r)
		}
		s = s[n:]
		if b.Len() <= max-len(cut) {
			whole = b.Len()
		} else if b.Len() > max {
			return b.String()[:whole] + cut
		}
	}
	return b.String()
}

// plain reports whether s is printable US-ASCII throughout, as nearly all is.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// encodedWords writes s in words of at most 75 octets, none of which holds a part
// of a character (RFC 2047 sections 2 and 5).
func encodedWords(s string) string {
	const begin, end, room = "=?utf-8?q?", "?=", 75 - len("=?utf-8?q??=")
	var words []string
	word := ""
	for _, r := range s {
		c := ""
		for _, octet := range []byte(string(r)) {
			switch {
			case octet == ' ':
				c += "_"
			case '!' <= octet && octet <= '~' && octet != '=' && octet != '?' && octet != '_':
				c += string(rune(octet))
			default:
				c += fmt.Sprintf("=%02X", octet)
			}
		}
		if len(word)+len(c) > room {
			words, word = append(words, begin+word+end), ""
		}
		word += c
	}
	return strings.Join(append(words, begin+word+end), " ")
}
