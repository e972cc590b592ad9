package main

// The envelope as flags have it.

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"postern/filter/mail"
)

// addressOf reads an address of the envelope as people have it from logs, in
// angle brackets too.
func addressOf(s string) (mail.Address, error) {
	a := s
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		if a, ok = strings.CutSuffix(inner, ">"); !ok {
			return "", fmt.Errorf("%q is no address", s)
		}
	}
	if a != "" && !isAddress(mail.Address(a)) {
		return "", fmt.Errorf("%q is no address: want user@example.org", s)
	}
	return mail.Address(a), nil
}

// isAddress reports whether an envelope of Postfix can hold a: it takes more
// than RFC 5321 allows, such as dots side by side, but always a domain.
func isAddress(a mail.Address) bool {
	local, domain := a.Split()
	if local == "" || strings.ContainsFunc(string(a), unicode.IsControl) {
		return false
	}
	if local[0] == '"' {
		if len(local) < 2 || local[len(local)-1] != '"' {
			return false
		}
	} else if strings.ContainsAny(local, " <>()[]\\,;:@\"") {
		return false
	}
	if inner, literal := strings.CutPrefix(domain, "["); literal {
		inner, literal = strings.CutSuffix(inner, "]")
		inner = strings.TrimPrefix(inner, "IPv6:")
		_, err := netip.ParseAddr(inner)
		return literal && err == nil
	}
	for label := range strings.SplitSeq(domain, ".") {
		inside := func(r rune) bool {
			return r == '-' || r == '_' || r > unicode.MaxASCII || unicode.IsLetter(r) || unicode.IsDigit(r)
		}
		if label == "" || len(label) > 255 || strings.ContainsFunc(label, func(r rune) bool { return !inside(r) }) {
			return false
		}
	}
	return true
}

// envelopeTo reads the recipients, of which none is the null address.
func envelopeTo(list []string) ([]mail.Address, error) {
	var out []mail.Address
	for _, s := range list {
		a, err := addressOf(s)
		if err == nil && a == "" {
			err = fmt.Errorf("%q is no recipient", s)
		}
		if err != nil {
			return nil, fmt.Errorf("--to: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}

// clientOf reads the address of a client; empty means unknown.
func clientOf(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return a, fmt.Errorf("%q is no IP address", s)
	}
	return a, nil
}
