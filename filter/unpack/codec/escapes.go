package codec

import "strings"

// Percent undoes the percent encoding of RFC 2231; what is no hex pair
// stays.
func Percent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && HexDigit(s[i+1]) >= 0 && HexDigit(s[i+2]) >= 0 {
			out = append(out, byte(HexDigit(s[i+1])<<4|HexDigit(s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}

// UTF7 decodes the shift sequences of UTF-7 (RFC 2152).
func UTF7(s string) string {
	var out strings.Builder
	for {
		plain, rest, ok := strings.Cut(s, "+")
		out.WriteString(plain)
		if !ok {
			return out.String()
		}
		n := 0
		for n < len(rest) && b64[rest[n]] < 64 {
			n++
		}
		word, tail := rest[:n], rest[n:]
		tail = strings.TrimPrefix(tail, "-")
		if n == 0 {
			out.WriteByte('+')
		}
		raw := LooseBase64([]byte(word))
		for i := 0; i+1 < len(raw); i += 2 {
			out.WriteRune(rune(raw[i])<<8 | rune(raw[i+1]))
		}
		s = tail
	}
}

// HexDigit returns the value of a hexadecimal digit, -1 if c is none.
func HexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
