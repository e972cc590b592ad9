package filter

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
)

// failingLookup is a database that is down.
type failingLookup struct{}

func (failingLookup) Lookup(context.Context, mail.Address) ([]*policy.Overlay, error) {
	return nil, errors.New("connection refused")
}

// TestBackTakesOneCopy: a client that still has the message gets one copy for
// all who pass, that of the strictest recipient, and the log names them.
func TestBackTakesOneCopy(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	f, tx := promiseFilter(t, nil,
		"settings: {virus: {destiny: pass}}\nrecipients: [{match: [b@], settings: {virus: {bypass: true}}}, {match: [d@], settings: {virus: {destiny: discard}}}]\n")
	f.Checks = []check.Named{{Name: "scanner", Check: foreignVirus("Test"), Categories: []mail.Category{mail.Infected}}}
	f.Log = slog.New(slog.NewTextHandler(&said, nil))
	tx.Input = mail.InputMilter
	tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: "d@example.net"})
	var got []*mail.Outgoing
	tx.Back = hopFunc(func(o *mail.Outgoing) []mail.Receipt {
		got = append(got, o)
		return takes(&strings.Builder{}, "")(o)
	})
	replies := f.Process(t.Context(), tx)
	if len(replies) != 1 || replies[0].Class() != 2 {
		t.Fatalf("answered %v", replies)
	}
	if len(got) != 1 || len(got[0].Rcpts) != 2 || got[0].Rcpts[0].Address != "b@example.net" || got[0].Rcpts[1].Address != "c@example.net" {
		t.Fatalf("handed back %+v", got)
	}
	alert := false
	for _, e := range got[0].Edits {
		alert = alert || e.Name == "X-Amavis-Alert"
	}
	if !alert {
		t.Errorf("the strictest recipient's warning is missing: %+v", got[0].Edits)
	}
	if s := said.String(); !strings.Contains(s, "b@example.net") || !strings.Contains(s, "as=<c@example.net>") {
		t.Errorf("the log does not name them: %s", s)
	}
}

// TestSignersSelectBanks: who has signed is found out where the envelope's
// settings ask for it, and may select banks.
func TestSignersSelectBanks(t *testing.T) {
	t.Parallel()
	for verify, want := range map[string]string{"true": "ORIGINATING/FRIEND", "false": "ORIGINATING"} {
		f, tx := promiseFilter(t, nil, "settings: {dkim: {verify: "+verify+"}}\nbanks: {FRIEND: {on_error: pass}}\nsigner_banks: [{domains: [friend.test], bank: FRIEND}]\n")
		asked := 0
		f.Authenticate = func(_ context.Context, _ *mail.Transaction, q auth.Questions) *mail.Authentication {
			asked++
			if q.Client {
				t.Error("our own client is asked about")
			}
			return &mail.Authentication{Signers: []string{"friend.test"}}
		}
		ex, err := f.Examine(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if got := ex.Selection.BankPath(); got != want || asked != map[string]int{"true": 1, "false": 0}[verify] {
			t.Errorf("verify %s: %s, asked %d times", verify, got, asked)
		}
	}
}

// scoring is a spam engine.
type scoring float64

func (s scoring) Check(context.Context, *check.Input) (check.Answer, error) {
	return check.Answer{Score: &mail.Score{Value: float64(s), Tests: []mail.ScoreTest{{Name: "T", Score: float64(s)}}}}, nil
}

// TestScore: what engines say adds up, and stands in the verdict, the event and the
// line.
func TestScore(t *testing.T) {
	t.Parallel()
	var seen events
	f, tx := promiseFilter(t, takes(&strings.Builder{}, ""))
	f.Observers = []mail.Observer{&seen}
	f.Checks = []check.Named{{Name: "a", Check: scoring(1.25)}, {Name: "b", Check: scoring(2)}}
	ex, err := f.Examine(t.Context(), tx)
	if err != nil || ex.Verdicts[1].Score == nil || ex.Verdicts[1].Score.Value != 3.25 || len(ex.Score.Tests) != 2 {
		t.Fatalf("%v, %+v", err, ex)
	}
	f.Process(t.Context(), tx)
	if line := observe.Lines(seen[0])[0]; !strings.Contains(line, ", Hits: 3.25, size:") {
		t.Error(line)
	}
}
