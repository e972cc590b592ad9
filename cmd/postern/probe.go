package main

// check --probe: do engines, next hops and name servers answer, and do scanners
// find what they must?

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filter"
	"postern/filter/ask"
	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

// probed is what became of one probe.
type probed struct {
	What   string  `json:"what"`
	Said   string  `json:"said,omitempty"`
	Millis float64 `json:"ms"`
	Error  string  `json:"error,omitempty"`
	Hint   string  `json:"hint,omitempty"`
}

// String returns one line.
func (p probed) String() string {
	took := fmt.Sprintf(" (%.1f ms)", p.Millis)
	if p.Error == "" {
		return p.What + ": " + p.Said + took
	}
	s := p.What + ": FAILED: " + p.Error + took
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// probe asks every engine, every next hop, every name server, and the DNS for
// what receivers of our mail look for; all at once and each with a deadline of its
// own: one that hangs says nothing about the others.
func probe(ctx context.Context, f *filter.Filter, each time.Duration) []probed {
	if f.Checks == nil {
		return nil // they could not be made, which is told as a mistake
	}
	cfg := f.Policy
	var asks []func(context.Context) probed
	for _, c := range f.Checks {
		if cfg.Engines[c.Name] != nil {
			asks = append(asks, func(ctx context.Context) probed { return probeEngine(ctx, c, cfg) })
		}
	}
	for _, hop := range nextHops(cfg) {
		asks = append(asks, func(ctx context.Context) probed { return probeNextHop(ctx, hop, cfg.Hostname) })
	}
	for _, server := range nameServers(cfg) {
		asks = append(asks, func(ctx context.Context) probed { return probeDNS(ctx, server, cfg.Hostname) })
	}
	signing := signingKeys(f.Keys, time.Now())
	lookup := auth.NewResolver(auth.ResolverOptions{Servers: cfg.DNS.Servers}).LookupTXT
	for _, domain := range slices.Sorted(maps.Keys(signing)) {
		asks = append(asks, func(ctx context.Context) probed { return probeDomain(ctx, domain, signing[domain], lookup) })
	}
	if cfg.Lookups.SQL.Type != policy.NoSQL {
		asks = append(asks, func(ctx context.Context) probed { return probeLookup(ctx, cfg) })
	}
	out := make([]probed, len(asks))
	var all sync.WaitGroup
	for i, ask := range asks {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, each)
			defer cancel()
			out[i] = ask(ctx)
		})
	}
	all.Wait()
	return out
}

// nameServers are those of the configuration, or the empty string for those of
// the system; none if nothing is to be verified.
func nameServers(cfg *policy.Config) []string {
	verifies := func(s *policy.Settings) bool { return s.DKIM.Verify || s.SPF.Verify }
	wanted := verifies(&cfg.Settings)
	for _, o := range cfg.Banks {
		wanted = wanted || verifies(o.Over(&cfg.Settings))
	}
	switch {
	case !wanted:
		return nil
	case len(cfg.DNS.Servers) == 0:
		return []string{""}
	}
	return cfg.DNS.Servers
}

// probeDNS asks one name server for a record that need not be there.
func probeDNS(ctx context.Context, server, hostname string) probed {
	p := probed{What: "name servers of the system"}
	var servers []string
	if server != "" {
		p.What, servers = "name server "+server, []string{server}
	}
	began := time.Now()
	_, err := auth.NewResolver(auth.ResolverOptions{Servers: servers}).Exists(ctx, hostname)
	p.Millis = float64(time.Since(began).Microseconds()) / 1000
	if p.Said = "answers"; err != nil {
		p.Error, p.Hint = err.Error(), "until it answers, what is verified is temperror, and mail waits for it some seconds; dns.servers names others"
	}
	return p
}

// probeEngine has an engine look for the test strings.
func probeEngine(ctx context.Context, c check.Named, cfg *policy.Config) probed {
	said, took, err := check.Probe(ctx, c, cfg.Hostname)
	p := probed{What: "engine " + c.Name, Said: said, Millis: float64(took.Microseconds()) / 1000}
	if err != nil {
		p.Error = err.Error()
		if _, silent := errors.AsType[*check.Failure](err); silent {
			p.Hint = ask.WithoutEngine(cfg, mail.SetOf(c.Categories...))
		}
	}
	if d, ok := c.Check.(check.Dated); ok && p.Error == "" {
		p.Said += signatureAge(ctx, d, time.Now())
	}
	return p
}

// oldSignatures is when the signatures of a virus scanner have become old.
const oldSignatures = 7 * 24 * time.Hour

// signatureAge says how old the signatures of each server are.
func signatureAge(ctx context.Context, d check.Dated, now time.Time) string {
	servers, err := d.Signatures(ctx)
	said := ""
	for _, s := range servers {
		switch age := now.Sub(s.Date); {
		case s.Date.IsZero():
			said += "; age of the signatures unknown, " + s.Server
		case age > oldSignatures:
			said += fmt.Sprintf("; WARNING: signatures of %s are %d days old, %s: does freshclam run?", s.Date.Format(time.DateOnly), int(age.Hours())/24, s.Server)
		default:
			said += "; signatures of " + s.Date.Format(time.DateOnly) + ", " + s.Server
		}
	}
	if err != nil {
		said += "; age of the signatures: " + mail.Escape(err.Error())
	}
	return said
}

// nextHops returns all that some mail may be handed to.
func nextHops(cfg *policy.Config) []string {
	hops := map[string]bool{}
	add := func(s *policy.Settings) {
		hops[s.ForwardTo], hops[s.NotifyTo] = true, true
	}
	add(&cfg.Settings)
	for _, o := range cfg.Banks {
		add(o.Over(&cfg.Settings))
	}
	for _, r := range slices.Concat(cfg.Recipients, cfg.Senders) {
		add(r.Settings.Over(&cfg.Settings))
	}
	return slices.Sorted(maps.Keys(hops))
}

// probeNextHop greets a next hop as the relay does.
func probeNextHop(ctx context.Context, hop, hostname string) probed {
	p := probed{What: "next hop " + hop}
	began := time.Now()
	extensions, err := greet(ctx, hop, hostname)
	p.Millis = float64(time.Since(began).Microseconds()) / 1000
	if err != nil {
		p.Error, p.Hint = err.Error(), "until it answers, mail waits in the feeding queue"
		return p
	}
	p.Said = "answers"
	var missing []string
	for _, x := range []string{"XFORWARD", "DSN", "8BITMIME"} {
		if !slices.Contains(extensions, x) {
			missing = append(missing, x)
		}
	}
	if len(missing) > 0 {
		p.Said += ", without " + strings.Join(missing, ", ")
	}
	if slices.Contains(missing, "8BITMIME") {
		p.Said += ": 8-bit mail may be recoded behind it, which breaks its signatures"
	}
	return p
}

// greet returns the keywords that the next hop announces.
func greet(ctx context.Context, hop, hostname string) ([]string, error) {
	h, err := mail.ParseNextHop(hop)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, h.Network, h.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	text := textproto.NewConn(conn)
	if _, _, err := text.ReadResponse(220); err != nil {
		return nil, err
	}
	hello := "EHLO"
	if h.LMTP {
		hello = "LHLO"
	}
	if err := text.PrintfLine("%s %s", hello, hostname); err != nil {
		return nil, err
	}
	_, reply, err := text.ReadResponse(250)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(reply) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		out = append(out, strings.ToUpper(word))
	}
	return out, errors.Join(text.PrintfLine("QUIT"))
}
