package auth

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"postern/filter/mail"
)

// sender asks the domains of HELO and of MAIL FROM what they say of the client
// (RFC 7208 sections 2.3 and 2.4). The library bounds the questions (10, of
// which 2 in vain, section 4.6.4), ctx the time.
func (v *Verifier) sender(ctx context.Context, client netip.Addr, helo string, from mail.Address) []mail.SPFResult {
	results := []mail.SPFResult{v.host(ctx, mail.SPFHelo, client, helo, "postmaster", helo)}
	if from == "" {
		// a report comes from the postmaster of the host that says HELO
		null := results[0]
		null.Scope = mail.SPFMailFrom
		return append(results, null)
	}
	return append(results, v.host(ctx, mail.SPFMailFrom, client, helo, from.Local(), from.Domain()))
}

// host evaluates the record of one domain. What cannot be a domain has none
// (RFC 7208 section 4.3).
func (v *Verifier) host(ctx context.Context, scope mail.SPFScope, client netip.Addr, helo, local, domain string) (r mail.SPFResult) {
	r = mail.SPFResult{Scope: scope, Result: mail.AuthNone}
	name, ok := domainToASCII(domain)
	if !ok || !strings.Contains(name, ".") || numeric(name) {
		r.Reason = "there is no domain to ask"
		return r
	}
	r.Domain = name
	// Records are foreign, and a library that breaks on one must not keep the
	// message from its way.
	defer func() {
		if p := recover(); p != nil {
			r.Result, r.Reason = mail.AuthPermError, "the evaluation broke on this record"
		}
	}()
	result, err := spf.CheckHostWithSender(net.IP(client.Unmap().AsSlice()), macroSafe(helo), macroSafe(local)+"@"+name,
		spf.WithContext(ctx), spf.WithResolver(v.DNS))
	r.Result = mail.AuthResult(result)
	if err != nil {
		// the library tells by an error as well which term decided
		reason := err.Error()
		if term, ok := strings.CutPrefix(reason, "matched "); ok {
			reason = "the client matches " + term
		}
		r.Reason = bounded(reason)
	}
	return r
}

// macroSafe makes foreign text fit for the library, which takes the first "@"
// of a sender for the one before the domain, and puts parts of it into names.
// A quoted local part may hold one.
func macroSafe(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == '@' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), 255)]
}

// numeric reports whether the last label has digits only: such a name is an
// address.
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}
