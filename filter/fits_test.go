package filter

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

// partialLookup fails for some addresses.
type partialLookup struct{}

func (partialLookup) Lookup(_ context.Context, a mail.Address) ([]*policy.Overlay, error) {
	if strings.HasPrefix(string(a), "broken") {
		return nil, errors.New("no database")
	}
	return nil, nil
}

// The last recipient is compared with the first, at a time when the message is
// not there yet.
func TestFits(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte(`local_domains: [ours.test]
listeners: [{protocol: milter, address: "unix:/m", split: rcpt}]
auth_banks: [{users: ann, bank: ORIGINATING}]
banks: {ORIGINATING: {spam: {bypass: true}}}
recipients:
  - {match: [boss@ours.test, chief@ours.test], settings: {spam: {lover: true}}}
  - {match: .far.test, settings: {spam: {lover: true}}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.AddLookup(partialLookup{})
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		rcpts string
		want  bool
	}{
		{"", true},
		{"a@ours.test", true},
		{"a@ours.test b@ours.test", true},
		{"boss@ours.test chief@ours.test", true},
		{"a@else.test b@far.else.test", true},
		// other settings
		{"a@ours.test boss@ours.test", false},
		{"boss@ours.test a@ours.test", false},
		{"a@else.test b@far.test", false},
		// the same settings, but another direction
		{"a@ours.test b@else.test", false},
		{"a@else.test b@ours.test", false},
		// who is between them has been asked about before
		{"a@ours.test boss@ours.test b@ours.test", true},
		{"a@ours.test b@ours.test boss@ours.test", false},
		// what cannot be found out is said at the end of the message
		{"a@ours.test broken@else.test", true},
		{"broken@ours.test a@ours.test", true},
	} {
		tx := &mail.Transaction{Input: mail.InputMilter, Listener: "unix:/m", From: "x@ours.test", Client: mail.Client{Login: "ann"}}
		for _, r := range strings.Fields(tt.rcpts) {
			tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: mail.Address(r)})
		}
		if got := f.Fits(t.Context(), tx); got != tt.want {
			t.Errorf("%s: %v", tt.rcpts, got)
		}
	}
}

// All that the client tells chooses banks.
func TestSelectAsksAll(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte(`listeners: [{protocol: milter, address: "unix:/m", bank: L, local_bank: HERE}]
daemon_banks: [{daemons: smtpd, bank: D}]
client_banks: [{networks: 192.0.2.0/24, bank: C}]
auth_banks: [{users: ann, bank: A}]
banks: {L: {}, D: {}, C: {}, A: {}, HERE: {}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler)}
	tx := &mail.Transaction{
		Input: mail.InputMilter, Listener: "unix:/m", Daemon: "smtpd", Message: mail.NewMessage(nil),
		Client: mail.Client{Addr: netip.MustParseAddr("192.0.2.1"), Login: "Ann"},
	}
	sel, err := f.Select(t.Context(), tx, nil)
	if err != nil || sel.BankPath() != "L/D/C/A" {
		t.Errorf("%s, %v", sel.BankPath(), err)
	}
	tx = &mail.Transaction{Input: mail.InputLocal, Listener: "unix:/m", Banks: []string{"HERE"}, Message: mail.NewMessage(nil)}
	sel, err = f.Select(t.Context(), tx, nil)
	if err != nil || sel.BankPath() != "L/HERE" || sel.Path[1].Reason != "mail without a connection" {
		t.Errorf("%+v, %v", sel.Path, err)
	}
}
