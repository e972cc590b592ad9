package main

// A dry run takes a message through the real filter with transports that only
// keep what would be sent. Explain, test and check ask it.

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"postern/filter"
	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

// dryRun is a filter that hands nothing on. One goroutine may use it.
type dryRun struct {
	filter *filter.Filter
	tx     *mail.Transaction // the one being enacted
	sent   []drySent
}

// drySent is one mail that would be handed on.
type drySent struct {
	hop mail.NextHop
	out *mail.Outgoing
}

// newDryRun makes one with the policy and the checks of f. Throw-away keys stand
// in for the private ones, which whoever asks may not be able to read: which
// domain signs is all that matters here.
func newDryRun(f *filter.Filter) (*dryRun, error) {
	cfg := f.Policy
	keys := make([]*auth.Key, len(cfg.DKIMKeys))
	for i, k := range cfg.DKIMKeys {
		_, private, err := ed25519.GenerateKey(nil)
		if err == nil {
			keys[i], err = auth.NewKey(k.Domain, k.Selector, private)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Origin, err)
		}
	}
	all, err := auth.NewKeys(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Origin("dkim_keys"), err)
	}
	d := &dryRun{}
	d.filter = &filter.Filter{
		Policy: cfg, Checks: f.Checks, Keys: all, Log: slog.New(slog.DiscardHandler),
		Relay: func(h mail.NextHop) mail.Transport { return &dryTransport{d, h} },
	}
	return d, nil
}

// dryResult is what would become of a mail.
type dryResult struct {
	tx      *mail.Transaction
	replies []mail.Reply
	event   *mail.Event
	sent    []drySent
}

// enact does what the verdicts say, as far as a dry run goes.
func (d *dryRun) enact(ctx context.Context, tx *mail.Transaction, ex *filter.Examination) *dryResult {
	d.tx, d.sent = tx, nil
	replies, event := d.filter.Enact(ctx, tx, ex)
	return &dryResult{tx, replies, event, d.sent}
}

// suppose says what would become of a mail in which the checks found this.
func (d *dryRun) suppose(ctx context.Context, tx *mail.Transaction, sel *policy.Selection, findings []mail.Finding) (*filter.Examination, *dryResult) {
	ex := &filter.Examination{Selection: sel, Findings: findings, Verdicts: policy.Decide(sel, findings)}
	return ex, d.enact(ctx, tx, ex)
}

// reply returns the answer for recipient i.
func (r *dryResult) reply(i int) string {
	return r.replies[min(i, len(r.replies)-1)].String()
}

// notices returns the administrators who would get a notice.
func (r *dryResult) notices() []mail.Address { return r.recipientsOf(kindNotice) }

// reports returns the senders whom a report of ours would tell.
func (r *dryResult) reports() []mail.Address { return r.recipientsOf(kindReport) }

func (r *dryResult) recipientsOf(kind string) []mail.Address {
	var out []mail.Address
	for _, s := range r.sent {
		if s.kind(r.tx) == kind {
			for _, to := range s.out.Rcpts {
				out = append(out, to.Address)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// signers returns the domains that would sign the message.
func (r *dryResult) signers() []string {
	var out []string
	for _, s := range r.event.Signed {
		out = append(out, s.Domain)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// The kinds of mail that leave.
const (
	kindMessage = "the message"
	kindReport  = "a report"
	kindNotice  = "a notice"
)

func (s *drySent) kind(tx *mail.Transaction) string {
	switch {
	case s.out.Message == tx.Message:
		return kindMessage
	case s.out.From == "":
		return kindReport
	}
	return kindNotice
}

type dryTransport struct {
	run *dryRun
	hop mail.NextHop
}

// Send keeps o and says that all is well.
func (t *dryTransport) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	s := drySent{t.hop, o}
	t.run.sent = append(t.run.sent, s)
	r := mail.Receipt{
		Disposal: mail.Relayed, NextHop: t.hop.String(),
		Reply: mail.NewReply(250, 0, 0, "from MTA(%s): 250 2.0.0 Ok (not sent, this is a dry run)", t.hop),
	}
	if s.goesBack(t.run.tx) {
		r.Reply = mail.NewReply(250, 0, 0, "Ok (not sent, this is a dry run)")
	}
	return slices.Repeat([]mail.Receipt{r}, len(o.Rcpts))
}

// goesBack reports whether the mail goes on with the MTA that asked, before
// its queue, and not to a next hop.
func (s *drySent) goesBack(tx *mail.Transaction) bool {
	return s.kind(tx) == kindMessage && !tx.Input.AfterQueue()
}

// dryTransaction is a transaction as the listener l would hand it over, with a
// message whose author is the sender.
func dryTransaction(l *policy.Listener, client netip.Addr, from mail.Address, to []mail.Address) *mail.Transaction {
	tx := &mail.Transaction{
		ID: "dry-run", Received: time.Now(), Input: l.Protocol, Protocol: "LMTP", Helo: "localhost",
		Listener: l.Address, Client: mail.Client{Addr: client}, From: from,
		Message: mail.NewMessage([]byte("From: " + string(from) + "\r\n\r\n")),
	}
	if a, err := netip.ParseAddrPort(l.Address); err == nil {
		tx.LocalAddr = a
	}
	for _, r := range to {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: r})
	}
	return tx
}

// listenerOf finds a listener by its address; empty means the first.
func listenerOf(cfg *policy.Config, address string) (*policy.Listener, error) {
	if address == "" {
		return &cfg.Listeners[0], nil // the configuration has one at least
	}
	if l := cfg.Listener(address); l != nil {
		return l, nil
	}
	var known []string
	for _, l := range cfg.Listeners {
		known = append(known, l.Address)
	}
	return nil, fmt.Errorf("there is no listener %q; there are %s", address, strings.Join(known, ", "))
}

// bankOf finds a bank by its name.
func bankOf(cfg *policy.Config, name string) (*policy.Overlay, error) {
	if b := cfg.Bank(name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("there is no bank %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(cfg.Banks)), ", "))
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
