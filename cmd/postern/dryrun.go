package main

// A dry run takes a message through the real filter with transports that only
// keep what would be sent.

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"postern/filter"
	"postern/filter/mail"
)

// dryRun is a filter that hands nothing on.
type dryRun struct {
	filter *filter.Filter
	sent   []drySent
}

// drySent is one mail that would be handed on.
type drySent struct {
	hop mail.NextHop
	out *mail.Outgoing
}

// newDryRun borrows policy, checks and keys of f.
func newDryRun(f *filter.Filter) *dryRun {
	d := &dryRun{}
	c := *f
	c.Log = slog.New(slog.DiscardHandler)
	c.Relay = func(h mail.NextHop) mail.Transport { return &dryTransport{d, h} }
	d.filter = &c
	return d
}

// enact runs what the verdicts say and returns what would be sent.
func (d *dryRun) enact(ctx context.Context, tx *mail.Transaction, ex *filter.Examination) ([]mail.Reply, *filter.Event, []drySent) {
	d.sent = nil
	replies, event := d.filter.Enact(ctx, tx, ex)
	return replies, event, d.sent
}

type dryTransport struct {
	run *dryRun
	hop mail.NextHop
}

// Send keeps o and says that all is well.
func (t *dryTransport) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	t.run.sent = append(t.run.sent, drySent{t.hop, o})
	out := make([]mail.Receipt, len(o.Rcpts))
	for i := range out {
		out[i] = mail.Receipt{
			Disposal: mail.Relayed, NextHop: t.hop.String(),
			Reply: mail.NewReply(250, 0, 0, "from MTA(%s): 250 2.0.0 Ok (not sent, this is a dry run)", t.hop),
		}
	}
	return out
}

// dryTransaction is a transaction as a listener would hand it over.
func dryTransaction(protocol mail.Input, listener string, client netip.Addr, from string, to []string, m *mail.Message) *mail.Transaction {
	tx := &mail.Transaction{
		ID: "dry-run", Received: time.Now(), Input: protocol, Protocol: "LMTP", Helo: "localhost",
		Listener: listener, Client: mail.Client{Addr: client}, From: mail.Address(from), Message: m,
	}
	if a, err := netip.ParseAddrPort(listener); err == nil {
		tx.LocalAddr = a
	}
	for _, r := range to {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: mail.Address(r)})
	}
	return tx
}
