package listen

import (
	"strings"
	"unicode/utf8"

	"postern/filter/mail"
)

// parsePath reads the path at the start of s (RFC 5321 section 4.1.2) and
// returns the address as it was written and what follows it. A source route
// is dropped; angle brackets may be missing and a domain too, as with
// Postfix. "<>" is the null address. The dots of a local part may stand
// anywhere, because refusing here what the feeding MTA accepted only makes a
// non-delivery report.
func parsePath(s string) (addr mail.Address, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	s, bracket := strings.CutPrefix(s, "<")
	if bracket && strings.HasPrefix(s, ">") {
		return "", s[1:], blankOrEnd(s[1:])
	}
	if strings.HasPrefix(s, "@") {
		_, after, found := strings.Cut(s, ":")
		if !bracket || !found {
			return "", "", false
		}
		s = after
	}
	n := localPart(s)
	if n == 0 {
		return "", "", false
	}
	if n < len(s) && s[n] == '@' {
		d := domain(s[n+1:])
		if d == 0 {
			return "", "", false
		}
		n += 1 + d
	}
	addr, rest = mail.Address(s[:n]), s[n:]
	if bracket {
		if rest, ok = strings.CutPrefix(rest, ">"); !ok {
			return "", "", false
		}
	}
	if !utf8.ValidString(string(addr)) || !blankOrEnd(rest) {
		return "", "", false
	}
	return addr, rest, true
}

func blankOrEnd(s string) bool { return s == "" || s[0] == ' ' }

// localPart returns the length of the dot-string or quoted string at the
// start of s, 0 if there is none.
func localPart(s string) int {
	if !strings.HasPrefix(s, `"`) {
		return span(s, ".!#$%&'*+-/=?^_`{|}~")
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// domain returns the length of the domain or address literal at the start of
// s, 0 if there is none. Underscores are seen in host names.
func domain(s string) int {
	if !strings.HasPrefix(s, "[") {
		return span(s, ".-_")
	}
	n := 1 + span(s[1:], ".-:")
	if n == 1 || n == len(s) || s[n] != ']' {
		return 0
	}
	return n + 1
}

// span returns the length of the longest prefix of s that is made of letters,
// digits, octets beyond ASCII and the others.
func span(s, others string) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c >= utf8.RuneSelf:
		case strings.IndexByte(others, c) >= 0:
		default:
			return i
		}
	}
	return len(s)
}
