package filter

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/notify"
)

// doubtfulHop loses the answer to the final dot.
type doubtfulHop struct{ inDoubt bool }

func (h doubtfulHop) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	o.BeforeDot([]int{0})
	return []mail.Receipt{{Disposal: mail.Deferred, Reply: mail.NewReply(451, 4, 2, "lost connection"), InDoubt: h.inDoubt}}
}

// What a next hop may have stays in doubt until it comes again, and what it surely
// has not is forgotten.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	for inDoubt, want := range map[bool]mail.Disposal{true: mail.NotHandled, false: mail.Deferred} {
		journal := memory{}
		f, tx := promiseFilter(t, doubtfulHop{inDoubt}, "")
		f.Journal = journal
		tx.Client.Ident, tx.Rcpts = "4AAAA", tx.Rcpts[:1]
		f.Process(t.Context(), tx)
		got, ok := journal.Find(mail.KeyOf("4AAAA", sha256.Sum256(tx.Message.Bytes()), tx.From, &tx.Rcpts[0]))
		if !ok || got.Disposal != want {
			t.Errorf("in doubt %v: %v, %v", inDoubt, got.Disposal, ok)
		}
	}
}

// Whose queue does not tell its id gets no trace, and that is said once.
func TestNoTraceWithoutID(t *testing.T) {
	t.Parallel()
	journal := memory{}
	f, tx := promiseFilter(t, doubtfulHop{}, "")
	f.Journal = journal
	tx.Client.Ident = ""
	tx.Listener = "127.0.0.1:10023"
	f.Process(t.Context(), tx)
	if len(journal) > 0 {
		t.Errorf("%v", journal)
	}
}

// Beyond limits.reports what a sender is not told is kept, unless the policy keeps
// nothing.
func TestTooManyReports(t *testing.T) {
	t.Parallel()
	for quarantine, want := range map[string]string{"auto": "DSN suppressed", "false": "DSN was sent", "blocked@example.org": "DSN suppressed"} {
		var sent strings.Builder
		f, tx := promiseFilter(t, takes(&sent, ""), "settings: {spam: {destiny: bounce, quarantine: "+quarantine+", sender_list: [{match: ., as: score, score: 50}]}}\n")
		f.Quarantine, f.Reports = keepsAll{}, notify.NewTally(1)
		var events eventKeeper
		f.Observers = []mail.Observer{&events}
		f.Process(t.Context(), tx)
		replies := f.Process(t.Context(), tx)
		if !strings.Contains(replies[0].Text, want) {
			t.Errorf("%s: %s, want %s", quarantine, replies[0], want)
		}
		kept := len(events.last.Quarantine) == 1 && events.last.Recipients[0].NoReport == "rate-limit"
		if kept != (quarantine != "false") {
			t.Errorf("%s: %+v", quarantine, events.last)
		}
	}
}

// A copy that is wanted whatever becomes of the mail is kept once, however often the
// mail comes because its report cannot be sent.
func TestCopyIsKeptOnce(t *testing.T) {
	t.Parallel()
	f, tx := promiseFilter(t, doubtfulHop{}, "settings: {spam: {destiny: bounce, quarantine: true, sender_list: [{match: ., as: score, score: 50}]}}\n")
	store := &countingStore{}
	f.Quarantine, f.Journal = store, memory{}
	tx.Client.Ident = "4AAAA"
	for range 3 {
		if r := f.Process(t.Context(), tx); r[0].Class() != 4 {
			t.Error(r)
		}
	}
	if store.n != 1 {
		t.Errorf("%d copies", store.n)
	}
}

// countingStore counts copies.
type countingStore struct{ n int }

func (s *countingStore) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	s.n++
	return "x/spam-" + k.MailID, nil
}
