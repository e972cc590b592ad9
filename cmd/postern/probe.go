package main

// check --probe: do engines and next hops answer, and do scanners find what
// they must?

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"postern/cmd/postern/demo"
	"postern/filter"
	"postern/filter/ask"
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

// probe asks every engine and every next hop.
func probe(ctx context.Context, f *filter.Filter) []probed {
	if f.Checks == nil {
		return nil // they could not be made, which is told as a mistake
	}
	cfg := f.Policy
	var out []probed
	checks := slices.DeleteFunc(slices.Clone(f.Checks), func(c check.Named) bool { return cfg.Engines[c.Name] == nil })
	m := mail.NewMessage([]byte("From: check@" + cfg.Hostname + "\r\nSubject: test of the scanners\r\n\r\n" + demo.EICAR + "\r\n"))
	tx := &mail.Transaction{ID: "check", Received: time.Now(), Input: mail.InputLMTP, Message: m, Rcpts: []mail.Recipient{{Address: "check@localhost"}}}
	for _, r := range check.Run(ctx, checks, &check.Input{Tx: tx}) {
		p := probed{What: "engine " + r.Check, Millis: float64(r.Took.Microseconds()) / 1000}
		infected := slices.IndexFunc(r.Findings, func(f mail.Finding) bool { return f.Category == mail.Infected })
		looksForVirus := slices.ContainsFunc(checks, func(c check.Named) bool {
			return c.Name == r.Check && slices.Contains(c.Categories, mail.Infected)
		})
		switch {
		case r.Err != nil:
			p.Error, p.Hint = r.Err.Error(), ask.WithoutEngine(cfg)
		case infected >= 0:
			p.Said = "found " + r.Findings[infected].Name
		case looksForVirus:
			p.Error, p.Hint = "did not find the EICAR test string", "has it loaded its signatures?"
		default:
			p.Said = "answers"
		}
		out = append(out, p)
	}
	for _, hop := range nextHops(cfg) {
		out = append(out, probeNextHop(ctx, hop, cfg.Hostname))
	}
	return out
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
