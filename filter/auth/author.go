package auth

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"postern/filter/mail"
)

// Responsible returns the domains that may answer for a message, the most
// telling first and each once: those of its authors, then per Resent block
// from the top Resent-From and Resent-Sender, then Sender, then the envelope
// sender. A valid DKIM signature by one of them is worth most to a receiver.
func Responsible(h mail.Header, from mail.Address) []string {
	var out []string
	seen := map[string]bool{}
	add := func(domains ...string) {
		for _, d := range domains {
			if !seen[d] {
				seen[d] = true
				out = append(out, d)
			}
		}
	}
	for _, v := range h.All("From") {
		add(addressDomains(v)...)
	}
	for _, v := range resentBlocks(h) {
		add(addressDomains(v)...)
	}
	for _, v := range h.All("Sender") {
		add(addressDomains(v)...)
	}
	if d, ok := domainToASCII(from.Domain()); ok {
		add(d)
	}
	return out
}

// Aligned reports whether one of the signatures is of a domain that answers for
// an author: his own, or one above it (RFC 9989 section 4.4.1). Large receivers
// refuse mail without one.
func Aligned(h mail.Header, signatures []mail.Signature) bool {
	for _, v := range h.All("From") {
		for _, author := range addressDomains(v) {
			for _, s := range signatures {
				if author == s.Domain || strings.HasSuffix(author, "."+s.Domain) {
					return true
				}
			}
		}
	}
	return false
}

// Authors returns the addresses of the authors of a message, those of every
// From field, in their order.
func Authors(h mail.Header) []mail.Address {
	var out []mail.Address
	for _, v := range h.All("From") {
		for _, a := range splitAddresses(v[:min(len(v), maxAddressList)], true) {
			if a = strings.TrimSpace(a); DomainOf(mail.Address(a)) != "" {
				out = append(out, mail.Address(a))
			}
		}
	}
	return out
}

// Mentioned returns what looks like an address in the From fields of a message,
// however broken they are, but for whole quoted strings and comments: readers may
// take it for the author. At most limit are returned.
func Mentioned(h mail.Header, limit int) []mail.Address {
	var out []mail.Address
	for _, v := range h.All("From") {
		v = aside.ReplaceAllString(v[:min(len(v), maxAddressList)], " ")
		for _, a := range mentioned.FindAllString(v, limit-len(out)) {
			out = append(out, mail.Address(a))
		}
		if len(out) >= limit {
			break
		}
	}
	return out
}

var aside = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\([^()]*\)`)

var mentioned = regexp.MustCompile(`[^\s<>()",;:@\[\]\\]+@[\pL\pN_-]+(?:\.[\pL\pN_-]+)+`)

// DomainOf returns the domain of an address as an A-label name in lower case,
// empty if it has none.
func DomainOf(a mail.Address) string {
	_, domain := a.Split()
	d, _ := domainToASCII(strings.TrimSpace(domain))
	return d
}

// resentBlocks returns the Resent-From and Resent-Sender values of each block
// of Resent- fields, from the top. A block ends at any other field and where a
// name comes again (RFC 5322 section 3.6.6).
func resentBlocks(h mail.Header) []string {
	const resentFrom, resentSender = "resent-from", "resent-sender"
	var out []string
	block := map[string]string{}
	end := func() {
		for _, name := range []string{resentFrom, resentSender} {
			if v, ok := block[name]; ok {
				out = append(out, v)
			}
		}
		clear(block)
	}
	for _, f := range h {
		name := strings.ToLower(f.Name)
		if _, again := block[name]; again || !strings.HasPrefix(name, "resent-") {
			end()
		}
		if strings.HasPrefix(name, "resent-") {
			block[name] = f.Value()
		}
	}
	end()
	return out
}

// maxAddressList bounds what is parsed of one address field.
const maxAddressList = 64 << 10

// addressDomains returns the domains of an RFC 5322 address-list in their
// ASCII form, in order. It reads what people really write: it never fails, and
// leaves out what has no usable domain.
func addressDomains(list string) []string {
	var out []string
	for _, a := range splitAddresses(list[:min(len(list), maxAddressList)], false) {
		// the last "@": a source route and a quoted local part may hold others
		i := strings.LastIndexByte(a, '@')
		if i < 0 {
			continue
		}
		if d, ok := domainToASCII(strings.TrimSpace(a[i+1:])); ok {
			out = append(out, d)
		}
	}
	return out
}

// splitAddresses cuts an address-list at the commas and semicolons that are
// not quoted, and returns of each piece what stands in angle brackets, or all
// of it, without comments. Quoted strings become "x" where only the domain
// matters, and stay where quoted says so. Quotes and comments that are never closed are taken as plain text.
func splitAddresses(list string, quoted bool) []string {
	var out []string
	var plain, angle strings.Builder
	inAngle, sawAngle := false, false
	end := func() {
		if sawAngle {
			out = append(out, angle.String())
		} else {
			out = append(out, plain.String())
		}
		plain.Reset()
		angle.Reset()
		inAngle, sawAngle = false, false
	}
	lone := [256]bool{} // openers that are known to be never closed from here on
	for i := 0; i < len(list); i++ {
		c := list[i]
		if (c == '"' || c == '(') && !lone[c] {
			if n := mail.EndOfQuoted(list[i:]); n > 0 {
				start := i
				i += n
				if c == '(' {
					continue
				}
				if quoted {
					if inAngle {
						angle.WriteString(list[start : i+1])
					} else {
						plain.WriteString(list[start : i+1])
					}
					continue
				}
				c = 'x'
			} else {
				lone[c] = true
			}
		}
		switch {
		case c == '<':
			inAngle, sawAngle = true, true
			angle.Reset()
		case c == '>' && inAngle:
			inAngle = false
		case c == ';', c == ',' && !inAngle:
			end()
		case c == ':' && !inAngle:
			plain.Reset() // the name of a group
		case inAngle:
			angle.WriteByte(c)
		default:
			plain.WriteByte(c)
		}
	}
	end()
	return out
}

// lookupDomain maps as a resolver would (UTS 46), without the rule against
// underscores.
var lookupDomain = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// domainToASCII returns the lower-case A-label form of a host name, and
// whether d is one at all: a domain literal and rubbish are not.
func domainToASCII(d string) (string, bool) {
	// longer ones cannot have a legal A-label form, and making one takes
	// quadratic time
	if len(d) > 1024 || !utf8.ValidString(d) {
		return "", false
	}
	d, err := lookupDomain.ToASCII(strings.TrimSuffix(d, "."))
	if err != nil || !isName(d) {
		return "", false
	}
	return d, true
}

// isName reports whether s is a DNS name of letters, digits, hyphens and
// underscores.
func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !alnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
