package check

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestServerDown: after three failures in a row a server is not asked; when it
// has rested, one message tries it, and its answer is that of the server.
func TestServerDown(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var changes []string
	s := &spamd{Server{network: "tcp", address: "x:1", now: func() time.Time { return now }}}
	s.OnChange(func(down error) { changes = append(changes, fmt.Sprint(down)) })
	asked := 0
	answers := func(err error) string {
		t.Helper()
		_, got := askInTurn(context.Background(), time.Minute, []*spamd{s}, func(context.Context, *spamd) (Answer, error) {
			asked++
			return Answer{}, err
		})
		return FailureWord(got)
	}
	want := func(word string, err error, times int) {
		t.Helper()
		before := asked
		if got := answers(err); got != word || asked-before != times {
			t.Errorf("%v: %q, asked %d times; want %q, %d times", err, got, asked-before, word, times)
		}
	}
	bad := fail(FailedConnect, "refused")
	want(FailedConnect, bad, 1)
	want(FailedConnect, bad, 1)
	want("", nil, 1) // not in a row
	want(FailedConnect, bad, 1)
	want(FailedConnect, bad, 1)
	if s.Down() != nil {
		t.Error("down after two")
	}
	want(FailedConnect, bad, 1)
	if !errors.Is(s.Down(), bad) {
		t.Error("not down after three")
	}
	want(FailedNotAsked, nil, 0)
	now = now.Add(restWhenDown)
	want(FailedConnect, bad, 1)
	want(FailedNotAsked, nil, 0)
	now = now.Add(restWhenDown)
	// while a message tries it, others do not
	_, _ = askInTurn(context.Background(), time.Minute, []*spamd{s}, func(context.Context, *spamd) (Answer, error) {
		want(FailedNotAsked, nil, 0)
		return Answer{}, nil
	})
	want("", nil, 1)
	if len(changes) != 2 || changes[0] != "refused" || changes[1] != "<nil>" {
		t.Errorf("%q", changes)
	}
}

// What a message is to blame for puts no server down, and a partial answer is
// an answer.
func TestServerNotDown(t *testing.T) {
	t.Parallel()
	s := &spamd{Server{network: "tcp", address: "x:1"}}
	for _, err := range []error{fail(FailedStatus, "500"), fail(FailedTimeout, "x"), fail(FailedEmpty, "x"), fail(FailedGarbage, "x"), fail(FailedTimeLimit, "the rules take too long"), &Failure{Word: FailedSymbol, Err: errors.New("x"), Partial: true}} {
		for range 5 {
			if _, got := askInTurn(context.Background(), time.Minute, []*spamd{s}, func(context.Context, *spamd) (Answer, error) {
				return Answer{}, err
			}); FailureWord(got) != FailureWord(err) {
				t.Errorf("%v: %v", err, got)
			}
		}
	}
	// nor does a message that has no time left
	for range 5 {
		ctx, cancel := context.WithCancel(context.Background())
		_, _ = askInTurn(ctx, time.Minute, []*spamd{s}, func(context.Context, *spamd) (Answer, error) {
			cancel()
			return Answer{}, fail(FailedTimeout, "x")
		})
	}
	if s.Down() != nil {
		t.Errorf("%v", s.Down())
	}
}

// A server that is down leaves all of the time to the next one, and mail that
// nobody has looked at is unchecked.
func TestDownIsUnchecked(t *testing.T) {
	t.Parallel()
	o := &SpamAssassinOptions{Address: []string{"unix:/nonexistent/spamd"}, Timeout: time.Minute, MaxSize: 1 << 20}
	c, err := o.New()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for range 5 {
		r := run(t, "spamassassin", c, input(plainMail))
		if !unchecked(r) || r.Score != nil {
			t.Errorf("%+v", r)
		}
		words = append(words, FailureWord(r.Err))
	}
	if got, want := fmt.Sprint(words), "[connect connect connect not_asked not_asked]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	servers := c.(Served).Servers()
	if len(servers) != 1 || servers[0].Down() == nil || servers[0].String() != "unix:/nonexistent/spamd" {
		t.Errorf("%v", servers)
	}
}

// TestTryPanics: a message that makes us panic while it tries a server that is
// down leaves the next try to another.
func TestTryPanics(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := &spamd{Server{network: "tcp", address: "x:1", row: failuresToDown, err: errors.New("x"), failed: now, now: func() time.Time { return now.Add(restWhenDown) }}}
	func() {
		defer func() { _ = recover() }()
		_, _ = askInTurn(context.Background(), time.Minute, []*spamd{s}, func(context.Context, *spamd) (Answer, error) { panic("x") })
	}()
	if err := s.enter(); err != nil {
		t.Error(err)
	}
}
