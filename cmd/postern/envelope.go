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
	local, domain := mail.Address(a).Split()
	if strings.ContainsFunc(a, unicode.IsControl) || strings.ContainsAny(domain, " <>\"") || strings.ContainsAny(local, " <>") && local[0] != '"' || a != "" && local == "" {
		return "", fmt.Errorf("%q is no address", s)
	}
	return mail.Address(a), nil
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
