package check

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

func input(data string) *Input {
	return &Input{Tx: &mail.Transaction{Message: mail.NewMessage([]byte(data))}}
}

// checkFunc is a check made of a function; it counts as a virus scanner.
type checkFunc func(ctx context.Context, in *Input) ([]mail.Finding, error)

func (f checkFunc) Check(ctx context.Context, in *Input) (Answer, error) {
	findings, err := f(ctx, in)
	return Answer{Findings: findings}, err
}
func (checkFunc) Scanner() bool { return true }

func named(name string, f checkFunc) Named { return Named{Name: name, Check: f} }

func clean(context.Context, *Input) ([]mail.Finding, error) { return nil, nil }

func virus(context.Context, *Input) ([]mail.Finding, error) {
	return []mail.Finding{{Category: mail.Infected, Name: "Eicar", Rcpt: mail.AllRcpts}}, nil
}

// TestRunSilenceIsNeverClean: whatever a check does but answer, the message is
// UNCHECKED and not scanned.
func TestRunSilenceIsNeverClean(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		check checkFunc
		want  string // in Detail
	}{
		{"error", func(context.Context, *Input) ([]mail.Finding, error) { return nil, errors.New("no socket") }, "no socket"},
		{"panic", func(context.Context, *Input) ([]mail.Finding, error) { panic("index out of range") }, "panic: index out of range in postern/filter/check.TestRun"},
		{"nil pointer", func(_ context.Context, in *Input) ([]mail.Finding, error) {
			var none *mail.Part
			return []mail.Finding{{Name: none.Place}}, nil
		}, "nil pointer dereference"},
		{"goexit", func(context.Context, *Input) ([]mail.Finding, error) { runtime.Goexit(); return nil, nil }, "ended without an answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Run(t.Context(), []Named{named("x", tt.check), named("other", virus)}, input("x"))
			if len(r) != 2 || len(r[0].Findings) != 1 {
				t.Fatalf("%+v", r)
			}
			f := r[0].Findings[0]
			if f.Category != mail.Unchecked || f.Minor != mail.CheckFailed || f.Check != "x" || f.Rcpt != mail.AllRcpts || !strings.Contains(f.Detail, tt.want) {
				t.Errorf("%+v", f)
			}
			if r[0].Err == nil || r[0].Scanned {
				t.Errorf("%+v", r[0])
			}
			if r[1].Check != "other" || len(r[1].Findings) != 1 || !r[1].Scanned || r[1].Findings[0].Check != "other" {
				t.Errorf("the other check: %+v", r[1])
			}
		})
	}
}

func TestRunKeepsFindingsBesideAnError(t *testing.T) {
	t.Parallel()
	r := Run(t.Context(), []Named{named("x", func(ctx context.Context, in *Input) ([]mail.Finding, error) {
		f, _ := virus(ctx, in)
		return f, errors.New("cut")
	})}, input("x"))
	if f := r[0].Findings; len(f) != 2 || f[0].Category != mail.Infected || f[1].Category != mail.Unchecked || r[0].Scanned {
		t.Errorf("%+v", r)
	}
}

func TestRunScanned(t *testing.T) {
	t.Parallel()
	over := func(context.Context, *Input) ([]mail.Finding, error) { return overLimits("x"), nil }
	r := Run(t.Context(), []Named{named("clean", clean), named("virus", virus), named("over", over), {Name: "builtin", Check: builtin{}}}, input("x"))
	for i, want := range []bool{true, true, false, false} {
		if r[i].Scanned != want || r[i].Err != nil {
			t.Errorf("%+v, want Scanned %v", r[i], want)
		}
	}
	if r := Run(t.Context(), nil, input("x")); len(r) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestRunDoesNotWait: a check that knows no deadline holds nobody up, and the
// memory that it reads stays.
func TestRunDoesNotWait(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef\r\n"), 10000)
	s := &mail.Spool{Dir: t.TempDir(), Memory: 1}
	if _, err := s.Write(data); err != nil {
		t.Fatal(err)
	}
	m, err := s.Message()
	if err != nil {
		t.Fatal(err)
	}
	goOn, seen := make(chan struct{}), make(chan bool, 1)
	stuck := named("stuck", func(_ context.Context, in *Input) ([]mail.Finding, error) {
		<-goOn
		seen <- bytes.Equal(in.Tx.Message.Bytes(), data) && in.Tx.MailID == "before"
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	quick := make(chan struct{})
	go func() { <-quick; cancel() }()
	in := &Input{Tx: &mail.Transaction{Message: m, MailID: "before"}}
	r := Run(ctx, []Named{stuck, named("quick", func(context.Context, *Input) ([]mail.Finding, error) {
		close(quick)
		return virus(t.Context(), nil)
	})}, in)
	m.Close()
	in.Tx.MailID = "after"
	if f := r[0].Findings; len(f) != 1 || f[0].Category != mail.Unchecked || !errors.Is(r[0].Err, errDeadline) || r[0].Check != "stuck" {
		t.Errorf("%+v", r[0])
	}
	close(goOn)
	if !<-seen {
		t.Error("the late check reads something else")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, options := range Kinds() {
		n, err := New(name, options())
		if err != nil || n.Name != name || n.Check == nil || len(n.Categories) == 0 {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
		if options() == options() && name != "builtin" {
			t.Errorf("%s: two configurations share their options", name)
		}
	}
	if _, err := New("clamd", &BuiltinOptions{}); err == nil {
		t.Error("unknown kind")
	}
	if _, err := New("clamav", 1); err == nil {
		t.Error("no options")
	}
	if _, err := New("clamav", &ClamAVOptions{}); err == nil {
		t.Error("options that are wrong")
	}
}

func BenchmarkRun(b *testing.B) {
	in := input("x")
	checks := []Named{named("a", clean), named("b", clean)}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		Run(ctx, checks, in)
	}
}
