package filter

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/filter/mail"
	"postern/policy"
)

// hangingLookup never answers for some addresses, and does not even heed its
// context.
type hangingLookup struct {
	hangs func(mail.Address) bool
	until chan struct{}
}

func (l *hangingLookup) Lookup(_ context.Context, a mail.Address) ([]*policy.Overlay, error) {
	if l.hangs(a) {
		<-l.until
	}
	return nil, nil
}

// countingHop takes everything.
type countingHop struct{ rcpts []mail.Address }

func (h *countingHop) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	out := make([]mail.Receipt, len(o.Rcpts))
	for i, r := range o.Rcpts {
		h.rcpts = append(h.rcpts, r.Address)
		out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok")}
	}
	return out
}

// A lookup that hangs costs one deadline, however many recipients there are,
// and gives 451; where on_error says pass the mail goes on without it.
func TestHangingLookup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings string
		hangs          string // in the addresses
		class, sent    int
	}{
		{"no lookup hangs", "", "nobody", 2, 3},
		{"all hang", "", "@", 4, 0},
		{"the last hangs", "", "c@", 4, 0},
		{"on_error: pass", "settings: {on_error: pass}\n", "@", 2, 3},
		// a check that failed for one is no reason to guess for him
		{"on_error: pass for others only", "recipients: [{match: [a@, b@], settings: {on_error: pass}}]\n", "@", 4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.ours.test\n"+tt.settings), nil)
				if err != nil {
					t.Fatal(err)
				}
				lookup := &hangingLookup{func(a mail.Address) bool { return strings.Contains(string(a), tt.hangs) }, make(chan struct{})}
				defer close(lookup.until)
				cfg.AddLookup(lookup)
				hop := &countingHop{}
				f := &Filter{Policy: cfg, Relay: func(mail.NextHop) mail.Transport { return hop }, Log: slog.New(slog.DiscardHandler)}
				tx := &mail.Transaction{
					ID: "1", Input: mail.InputLMTP, Listener: "127.0.0.1:10024", From: "x@else.test",
					Rcpts:   []mail.Recipient{{Address: "a@ours.test"}, {Address: "b@ours.test"}, {Address: "c@ours.test"}},
					Message: mail.NewMessage([]byte("From: x@else.test\r\nDate: Mon, 9 Aug 2021 09:36:36 +0200\r\n\r\n")),
				}
				began := time.Now()
				replies := f.Process(t.Context(), tx)
				took := time.Since(began)
				for _, r := range replies {
					if r.Class() != tt.class || strings.Contains(r.Text, "deadline") {
						t.Errorf("answer %s", r)
					}
				}
				if len(replies) != 3 || len(hop.rcpts) != tt.sent {
					t.Errorf("%d answers, sent to %v", len(replies), hop.rcpts)
				}
				// the clock is that of synctest: it moves only while all wait
				if hung := tt.hangs != "nobody"; hung != (took > 0) || took > 5*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
