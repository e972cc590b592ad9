package listen

import (
	"strings"

	"postern/filter/mail"
)

// parsePath reads the path at the start of s (RFC 5321 section 4.1.2) and
// returns the address as it was written and what follows it. A source route
// is dropped; angle brackets may be missing and a domain too, as with
// Postfix. "<>" is the null address. Between the brackets almost anything may
// stand, blanks and octets that are no UTF-8 as well: the feeding MTA has
// accepted the address, and a refusal here only makes it report to the sender.
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
	n := addressLen(s, bracket)
	if n == 0 {
		return "", "", false
	}
	addr, rest = mail.Address(s[:n]), s[n:]
	if bracket {
		if rest, ok = strings.CutPrefix(rest, ">"); !ok {
			return "", "", false
		}
	}
	return addr, rest, blankOrEnd(rest)
}

func blankOrEnd(s string) bool { return s == "" || s[0] == ' ' }

// addressLen returns the length of the address at the start of s, 0 if there
// is none: quoted strings and all other octets up to a bracket, or to a blank
// where there are none, with something on both sides of the last "@".
func addressLen(s string, bracket bool) int {
	n, at, quoted := 0, -1, -1 // at and quoted are where the last of each stands
	for n < len(s) && s[n] != '<' && s[n] != '>' && (bracket || s[n] != ' ') {
		switch s[n] {
		case '@':
			at = n
		case '"':
			quoted = n
			q := quotedLen(s[n:])
			if q == 0 {
				return 0
			}
			n += q - 1
		}
		n++
	}
	if at >= 0 && (s[0] == '@' || at == n-1 || quoted > at) {
		return 0
	}
	return n
}

// quotedLen returns the length of the quoted string at the start of s, 0 if it
// does not end.
func quotedLen(s string) int {
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
