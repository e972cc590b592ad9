package main

// The envelope as flags have it.

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"postern/filter/ask"
	"postern/filter/mail"
	"postern/policy"
)

// envelopeOptions are the flags that describe an envelope.
type envelopeOptions struct {
	listener, client, login, daemon, from string
	local                                 bool
	to, banks                             []string
}

// envelopeFlags are their names.
var envelopeFlags = []string{"listener", "client", "login", "daemon", "local", "from", "to", "bank"}

// addFlags adds the flags; lead stands before what they are for.
func (o *envelopeOptions) addFlags(f *pflag.FlagSet, lead string) {
	f.StringVar(&o.listener, "listener", "", lead+"`address` of the listener as configured (default: the first)")
	f.StringVar(&o.client, "client", "", lead+"`IP` address of the client, as XFORWARD or the MTA would tell it (default: unknown)")
	f.StringVar(&o.login, "login", "", lead+"`name` with which the client has authenticated itself, as the MTA would tell a milter")
	f.StringVar(&o.daemon, "daemon", "", lead+"`name` of the service that took the mail, as the MTA would tell a milter")
	f.BoolVar(&o.local, "local", false, lead+"mail without a connection, as a milter sees that of sendmail(1) and reports of the MTA")
	f.StringVar(&o.from, "from", "", lead+"envelope sender; empty for the null sender")
	f.StringArrayVar(&o.to, "to", nil, lead+"envelope recipient; may be repeated")
	f.StringArrayVar(&o.banks, "bank", nil, lead+"`name` of a bank that an AM.PDP request asks for; may be repeated")
}

// transaction makes the envelope from the flags.
func (o *envelopeOptions) transaction(cfg *policy.Config) (*mail.Transaction, error) {
	e := ask.Envelope{Login: o.login, Daemon: o.daemon, Local: o.local, Banks: o.banks}
	var err error
	if e.Client, err = clientOf(o.client); err != nil {
		return nil, fmt.Errorf("--client: %w", err)
	}
	if e.Listener, err = ask.Listener(cfg, o.listener); err != nil {
		return nil, fmt.Errorf("--listener: %w", err)
	}
	if e.From, err = addressOf(o.from); err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	if e.To, err = envelopeTo(o.to); err != nil {
		return nil, err
	}
	return e.Transaction(cfg)
}

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
