package filter

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

// signedAs is an engine that says what the mail is.
type signedAs string

func (s signedAs) Check(context.Context, *check.Input) (check.Answer, error) {
	switch s {
	case "virus":
		return check.Answer{Findings: []mail.Finding{{Category: mail.Infected, Name: "Eicar", Rcpt: mail.AllRcpts}}}, nil
	case "spam":
		return check.Answer{Score: &mail.Score{Value: 100}}, nil
	}
	return check.Answer{}, nil
}

// TestNotSigned: the event says why mail of our own people has no signature that
// receivers count as its author's.
func TestNotSigned(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings, from, sender string
		is                           signedAs
		want, signed                 string
	}{
		{"signed", "{}", "ann@example.org", "ann@example.org", "", "", "s:example.org"},
		{"below the domain of the key", "{}", "ann@sub.example.net", "ann@example.org", "", "", "s:example.net"},
		{"switched off", "{dkim: {sign: false}}", "ann@example.org", "ann@example.org", "", "sign_off", ""},
		{"another selector", "{dkim: {selectors: [other]}}", "ann@example.org", "ann@example.org", "", "no_key", ""},
		{"a foreign author and sender", "{}", "x@else.test", "y@else.test", "", "no_key", ""},
		{"a foreign author", "{}", "x@else.test", "ann@example.org", "", "not_aligned", "s:example.org"},
		{"a virus for who loves it", "{virus: {lover: true}}", "ann@example.org", "ann@example.org", "virus", "infected", ""},
		{"spam for who loves it", "{spam: {lover: true}}", "ann@example.org", "ann@example.org", "spam", "spam", ""},
		{"not ours", "{originating: false}", "ann@example.org", "ann@example.org", "", "", ""},
	} {
		cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [.example.org, .example.net]\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:1\", bank: A}]\n"+
			"settings: {originating: true}\nbanks: {A: "+tt.settings+"}\ndkim_keys: [{domain: example.org, selector: s, key: a}, {domain: .example.net, selector: s, key: b}]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		var seen events
		f := &Filter{
			Policy: cfg, Keys: flowKeys(t, cfg), Log: slog.New(slog.DiscardHandler), Observers: []mail.Observer{&seen},
			Checks: []check.Named{{Name: "x", Check: tt.is, Categories: []mail.Category{mail.Infected, mail.Spam}}},
			Relay:  func(mail.NextHop) mail.Transport { return takes(&strings.Builder{}, "X") },
		}
		tx := &mail.Transaction{
			ID: "1", Input: mail.InputLMTP, Listener: "127.0.0.1:1", From: mail.Address(tt.sender), Rcpts: []mail.Recipient{{Address: "bob@far.test"}},
			Message: mail.NewMessage([]byte("Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: " + tt.from + "\r\nTo: bob@far.test\r\nSubject: s\r\n\r\nx\r\n")),
		}
		f.Process(t.Context(), tx)
		var signed []string
		for _, s := range seen[0].Signed {
			signed = append(signed, s.String())
		}
		if got := seen[0].Recipients[0].NotSigned; got != tt.want || strings.Join(signed, ",") != tt.signed {
			t.Errorf("%s: %q, signed %q", tt.name, got, signed)
		}
	}
}

// TestNotSignedByAnother: where a client takes one copy for all, he who would
// have a signature hears that another has decided about it.
func TestNotSignedByAnother(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ unsigned, want string }{
		{"b@example.net", "sign_off,other_copy"},
		{"nobody@example.net", ","},
	} {
		f, tx := promiseFilter(t, nil, "settings: {originating: true}\ndkim_keys: [{domain: example.org, selector: s, key: a}]\n"+
			"recipients: [{match: "+tt.unsigned+", settings: {dkim: {sign: false}}}]\n")
		f.Keys = flowKeys(t, f.Policy)
		var seen events
		f.Observers = []mail.Observer{&seen}
		tx.Input, tx.Back = mail.InputMilter, takes(&strings.Builder{}, "")
		f.Process(t.Context(), tx)
		var words []string
		for _, r := range seen[0].Recipients {
			words = append(words, r.NotSigned)
		}
		if got := strings.Join(words, ","); got != tt.want || len(seen[0].Signed) == 0 != (tt.want != ",") {
			t.Errorf("%s is not to have it: %q, signed %v", tt.unsigned, got, seen[0].Signed)
		}
	}
}
