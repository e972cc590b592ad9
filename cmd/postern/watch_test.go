package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

// patient is an engine of which a test says how it is.
type patient struct {
	finds bool
	err   error
	date  time.Time
}

func (p *patient) Check(context.Context, *check.Input) (check.Answer, error) {
	var a check.Answer
	if p.finds {
		a.Findings = []mail.Finding{{Category: mail.Infected, Name: "Eicar-Test", Rcpt: mail.AllRcpts}}
	}
	return a, p.err
}

func (p *patient) Signatures(context.Context) ([]check.Signatures, error) {
	return []check.Signatures{{Server: "unix:/clamd", Date: p.date}}, nil
}

// TestWatch: what is the matter with an engine is told once, and once that it is
// over.
func TestWatch(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	p := &patient{finds: true}
	f := &filter.Filter{
		Policy: &policy.Config{Hostname: "mail.example.org", Engines: map[string]any{"clamav": true}},
		Checks: []check.Named{{Name: "clamav", Check: p, Categories: []mail.Category{mail.Infected}}, check.Header()},
	}
	w := &watch{told: map[string]string{}, log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))}
	var got []string
	round := func() {
		log.Reset()
		w.round(t.Context(), f)
		w.round(t.Context(), f) // says nothing new
		got = append(got, strings.TrimSpace(log.String()))
	}
	round()
	p.finds = false
	round()
	p.err = errors.New("refused")
	round()
	p.finds, p.err, p.date = true, nil, time.Now().Add(-10*24*time.Hour)
	round()
	p.date = time.Now()
	round()
	want := []string{
		"",
		`level=ERROR msg="engine clamav does not find what it must" err="did not find the EICAR test string: has it loaded its signatures?"`,
		"", // it goes on not to find it
		`level=INFO msg="over: engine clamav does not find what it must"` + "\n" +
			`level=WARN msg="engine clamav has old signatures" err="unix:/clamd of ` + time.Now().Add(-10*24*time.Hour).Format(time.DateOnly) + `, 10 days: does freshclam run?"`,
		`level=INFO msg="over: engine clamav has old signatures"`,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("round %d:\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
}
