package mail

import "strings"

// Address is an RFC 5321 Mailbox as it stood between the angle brackets, with
// the local part in its quoted form if it came quoted. The empty address is
// the null reverse-path. "postmaster" without a domain is allowed (RFC 5321
// section 4.1.1.3).
type Address string

// Split returns local part (quoted form kept) and domain without the "@".
// The domain is empty for an address without one.
func (a Address) Split() (local, domain string) {
	s := string(a)
	i := strings.LastIndexByte(s, '@')
	// an "@" inside a quoted local part is not the separator
	if i < 0 || strings.LastIndexByte(s, '"') > i {
		return s, ""
	}
	return s[:i], s[i+1:]
}

// Domain returns the part after the last "@" in lower case.
func (a Address) Domain() string {
	_, d := a.Split()
	return strings.ToLower(d)
}

// Local returns the local part without quoting: `"a b"` becomes `a b`.
func (a Address) Local() string {
	l, _ := a.Split()
	if len(l) < 2 || l[0] != '"' || l[len(l)-1] != '"' {
		return l
	}
	l = l[1 : len(l)-1]
	if !strings.ContainsRune(l, '\\') {
		return l
	}
	var b strings.Builder
	for i := 0; i < len(l); i++ {
		if l[i] == '\\' && i+1 < len(l) {
			i++
		}
		b.WriteByte(l[i])
	}
	return b.String()
}

// WithExtension returns the address with an extension behind the user name: with
// "spam" and the delimiters "+" user@example.org becomes user+spam@example.org,
// and so does user+lists@example.org. The first delimiter is the one that is
// written. As in Postfix (recipient_delimiter) no delimiter stands at the start,
// and at a "-" neither owner-LIST nor LIST-request is parted.
func (a Address) WithExtension(delimiters, extension string) Address {
	local, domain := a.Split()
	if local == "" || delimiters == "" {
		return a
	}
	open, user, end := "", local, ""
	if n := len(local); n >= 2 && local[0] == '"' && local[n-1] == '"' {
		open, user, end = local[:1], local[1:n-1], local[n-1:]
	}
	if i := strings.IndexAny(user, delimiters); i > 0 && (user[i] != '-' || !listAddress(user)) {
		user = user[:i]
	}
	out := open + user + delimiters[:1] + extension + end
	if domain != "" {
		out += "@" + domain
	}
	return Address(out)
}

// listAddress reports whether user is one that Postfix does not part at a "-".
func listAddress(user string) bool {
	user = strings.ToLower(user)
	return strings.HasPrefix(user, "owner-") || strings.HasSuffix(user, "-request")
}

// String returns the address in angle brackets, "<>" for the null address.
func (a Address) String() string { return "<" + string(a) + ">" }

// ASCII reports whether the address can be sent without SMTPUTF8.
func (a Address) ASCII() bool {
	for i := 0; i < len(a); i++ {
		if a[i] >= 0x80 {
			return false
		}
	}
	return true
}

// EndOfQuoted returns the index of the end of the quoted string or of the
// comment, which may nest, at the start of s, or 0 if it has none (RFC 5322
// sections 3.2.2 and 3.2.4).
func EndOfQuoted(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case s[0] == '"':
			if c == '"' && i > 0 {
				return i
			}
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return 0
}
