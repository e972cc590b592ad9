package mail

import (
	"fmt"
	"strconv"
	"strings"
)

// ORCPT is the original recipient as it stood in RCPT: a type and an address in
// xtext, "rfc822;a+2Bb@example.org" (RFC 3461 section 4.2). It is handed on
// octet by octet; what it means is asked only for reports.
type ORCPT string

// OriginalOf returns a as an original recipient; empty if it has characters for
// which another type would be needed (RFC 6533).
func OriginalOf(a Address) ORCPT {
	if !a.ASCII() {
		return ""
	}
	var b strings.Builder
	for _, c := range []byte(a) {
		if c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return ORCPT("rfc822;" + b.String())
}

// Type returns the address type as it was written, "rfc822" for none.
func (o ORCPT) Type() string {
	if t, _, ok := strings.Cut(string(o), ";"); ok && t != "" {
		return t
	}
	return "rfc822"
}

// Address returns the address with its coding undone: that of xtext, and for
// the type utf-8 that of RFC 6533 section 3. What is wrongly coded stays as it
// is.
func (o ORCPT) Address() Address {
	t, a, ok := strings.Cut(string(o), ";")
	if !ok {
		a = string(o)
	}
	if strings.EqualFold(t, "utf-8") {
		a = decodeUnicode(a)
	}
	return Address(Xtext(a))
}

// Xtext undoes the coding of RFC 3461 section 4. What is no xtext stays as it
// is.
func Xtext(s string) string {
	if strings.IndexByte(s, '+') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return s
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return s
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String()
}

// decodeUnicode undoes the \x{HEX} of RFC 6533.
func decodeUnicode(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\x{`)
		hex, rest, closed := strings.Cut(after, "}")
		if !ok || !closed {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before)
		if n, err := strconv.ParseUint(hex, 16, 21); err == nil {
			b.WriteRune(rune(n))
		} else {
			b.WriteString(`\x{` + hex + "}")
		}
		s = rest
	}
}
