package filter

import (
	"context"
	"log/slog"
	"testing"

	"postern/filter/mail"
	"postern/notify"
	"postern/policy"
)

// hopFunc is a next hop.
type hopFunc func(*mail.Outgoing) []mail.Receipt

func (f hopFunc) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt { return f(o) }

func promiseFilter(t *testing.T, hop mail.Transport) (*Filter, *mail.Transaction) {
	t.Helper()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [example.org]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Relay: func(mail.NextHop) mail.Transport { return hop }, Log: slog.New(slog.DiscardHandler)}
	return f, &mail.Transaction{
		ID: "1", Input: mail.InputLMTP, Listener: "127.0.0.1:10023", From: "a@example.org",
		Rcpts:   []mail.Recipient{{Address: "b@example.net"}, {Address: "c@example.net"}},
		Message: mail.NewMessage([]byte("From: a@example.org\r\nDate: Mon, 9 Aug 2021 09:36:36 +0200\r\n\r\n")),
	}
}

// A transport that does not account for every recipient has proven nothing
// about any.
func TestReceiptsAreCounted(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3} {
		f, tx := promiseFilter(t, hopFunc(func(*mail.Outgoing) []mail.Receipt {
			out := make([]mail.Receipt, n)
			for i := range out {
				out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok")}
			}
			return out
		}))
		replies := f.Process(t.Context(), tx)
		if len(replies) != 2 || replies[0].Class() != 4 || replies[1].Class() != 4 {
			t.Errorf("%d receipts for 2 recipients: answered %v", n, replies)
		}
	}
}

// A destiny that nobody knows, and a report that cannot be written, leave the
// message in the feeding queue.
func TestDoubtDefers(t *testing.T) {
	t.Parallel()
	sent := 0
	f, tx := promiseFilter(t, hopFunc(func(o *mail.Outgoing) []mail.Receipt {
		sent++
		out := make([]mail.Receipt, len(o.Rcpts))
		for i := range out {
			out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok")}
		}
		return out
	}))
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	ex.Verdicts[0].Destiny, ex.Verdicts[1].Destiny = "", "perhaps"
	replies, _ := f.Enact(t.Context(), tx, ex)
	if len(replies) != 2 || replies[0].Class() != 4 || replies[1].Class() != 4 || sent != 0 {
		t.Errorf("unknown destinies: answered %v, sent %d", replies, sent)
	}

	tx.From = "" // nobody to write to
	j := &job{Filter: f, tx: tx, ex: ex, gate: notify.NewGate(tx, ex.Selection), rcpts: []rcptState{{toReport: true}, {toReport: true}}}
	j.report(t.Context())
	if replies := j.replies(); replies[0].Class() != 4 || replies[1].Class() != 4 || sent != 0 {
		t.Errorf("no report: answered %v, sent %d", replies, sent)
	}
}
