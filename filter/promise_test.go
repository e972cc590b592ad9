package filter

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/notify"
	"postern/policy"
)

// hopFunc is a next hop.
type hopFunc func(*mail.Outgoing) []mail.Receipt

func (f hopFunc) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt { return f(o) }

// takes keeps what it is sent in data, and takes everything.
func takes(data *strings.Builder, queuedAs string) hopFunc {
	return func(o *mail.Outgoing) []mail.Receipt {
		_, _ = o.WriteTo(data) // a Builder never fails
		out := make([]mail.Receipt, len(o.Rcpts))
		for i := range out {
			out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok"), QueuedAs: queuedAs}
		}
		return out
	}
}

func promiseFilter(t *testing.T, hop mail.Transport, settings ...string) (*Filter, *mail.Transaction) {
	t.Helper()
	text := "hostname: mail.example.org\nlocal_domains: [example.org]\n" + strings.Join(settings, "")
	cfg, err := policy.Parse("postern.yaml", []byte(text), nil)
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
	var sent strings.Builder
	f, tx := promiseFilter(t, takes(&sent, ""))
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	ex.Verdicts[0].Destiny, ex.Verdicts[1].Destiny = "", "perhaps"
	replies, _ := f.Enact(t.Context(), tx, ex)
	if len(replies) != 2 || replies[0].Class() != 4 || replies[1].Class() != 4 || sent.Len() != 0 {
		t.Errorf("unknown destinies: answered %v, sent %q", replies, sent.String())
	}

	tx.From = "" // nobody to write to
	j := &job{Filter: f, tx: tx, ex: ex, gate: notify.NewGate(tx, ex.Selection), rcpts: []rcptState{{plan: plan{action: report}}, {plan: plan{action: report}}}}
	j.report(t.Context())
	if replies := j.replies(); replies[0].Class() != 4 || replies[1].Class() != 4 || sent.Len() != 0 {
		t.Errorf("no report: answered %v, sent %q", replies, sent.String())
	}
}

// The signature is made last, of what leaves. Of two subjects only the first
// gets the tag, the other keeps its bytes.
func TestSignedAsSent(t *testing.T) {
	t.Parallel()
	var sent strings.Builder
	f, tx := promiseFilter(t, takes(&sent, ""), "settings: {bad_header: {subject_tag: '[odd] '}}\n")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.NewKey("example.org", "s", private)
	if err != nil {
		t.Fatal(err)
	}
	if f.Keys, err = auth.NewKeys(key); err != nil {
		t.Fatal(err)
	}
	f.Checks = []check.Named{check.Header()}
	tx.Rcpts = []mail.Recipient{{Address: "b@example.org"}}
	tx.Message = mail.NewMessage([]byte("From: a@example.org\r\nSubject: one\r\nSubject: \t two\r\n\r\ntext\r\n"))
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	f.Enact(t.Context(), tx, ex)
	got := sent.String()
	if !strings.HasPrefix(got, "DKIM-Signature: ") || !strings.HasSuffix(got, "\r\nSubject: [odd] one\r\nSubject: \t two\r\n\r\ntext\r\n") {
		t.Errorf("sent %q", got)
	}
	record := func(string) ([]string, error) { return []string{key.Record()}, nil }
	results, err := dkim.VerifyWithOptions(strings.NewReader(got), &dkim.VerifyOptions{LookupTXT: record})
	if err != nil || len(results) != 1 || results[0].Err != nil {
		t.Errorf("the signature does not fit what was sent: %v %v", results, err)
	}

	sent.Reset()
	ex.Verdicts[0].Categories = []policy.ContentCategory{{Category: mail.Spam}}
	f.Enact(t.Context(), tx, ex)
	if strings.Contains(sent.String(), "DKIM-Signature") {
		t.Error("spam is signed")
	}
}

// foreignVirus finds a virus of that name.
type foreignVirus string

func (v foreignVirus) Check(context.Context, *check.Input) (check.Answer, error) {
	return check.Answer{Findings: []mail.Finding{{Category: mail.Infected, Name: string(v), Rcpt: mail.AllRcpts}}}, nil
}

// Foreign text stays on its line, wherever it comes from: in the log, in the
// replies and in the fields that are added.
func TestForeignText(t *testing.T) {
	t.Parallel()
	const evil = "x\r\n(1) Passed CLEAN\x1b[2J\u202e\u2028\x85y"
	var sent strings.Builder
	f, tx := promiseFilter(t, takes(&sent, evil), "settings: {virus: {destiny: pass}}\n")
	f.Checks = []check.Named{{Name: "scanner", Check: foreignVirus(evil)}}
	tx.From, tx.Helo, tx.Client.Ident = evil+"@example.org", evil, evil
	tx.Rcpts = []mail.Recipient{{Address: evil + "@example.net"}}
	tx.Message = mail.NewMessage([]byte("From: a@example.org\r\nMessage-ID: <" + strings.ReplaceAll(evil, "\r\n", "\r") + ">\r\nResent-Message-ID: <\x1b>\r\n\r\n"))
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	replies, event := f.Enact(t.Context(), tx, ex)
	added, _, _ := strings.Cut(sent.String(), "From: a@example.org")
	out := append(observe.Lines(event), replies[0].String())
	for _, field := range strings.Split(strings.TrimSuffix(added, "\r\n"), "\r\n") {
		if !strings.HasPrefix(field, " ") {
			field, _, _ = strings.Cut(field, ":")
			if !unicode.IsLetter(rune(field[0])) || strings.Contains(field, " ") {
				t.Errorf("no field: %q", field)
			}
		}
	}
	for _, line := range append(out, strings.ReplaceAll(added, "\r\n", "")) {
		if i := strings.IndexFunc(line, unicode.IsControl); i >= 0 {
			t.Errorf("control character in %q", line)
		}
	}
	for _, line := range observe.Lines(event) {
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("not printable: %q", line)
		}
	}
}

// stuckHop takes the message, and hangs with mail of our own.
type stuckHop struct{ sender mail.Address }

func (h stuckHop) Send(ctx context.Context, o *mail.Outgoing) []mail.Receipt {
	if o.From != h.sender {
		<-ctx.Done()
		return make([]mail.Receipt, len(o.Rcpts))
	}
	var data strings.Builder
	return takes(&data, "")(o)
}

// The feeding MTA gives up on us in the end: what nobody's mail depends on must
// not hold up the reply.
func TestNoticesDoNotHoldUpTheReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, tx := promiseFilter(t, stuckHop{"a@example.org"}, "settings: {bad_header: {admin: admin@example.org}}\n")
		f.Checks = []check.Named{check.Header()}
		tx.Message = mail.NewMessage([]byte("From: a@example.org\r\n\r\n"))
		ctx, cancel := context.WithTimeout(t.Context(), f.Policy.Limits.Deadline)
		defer cancel()
		start := time.Now()
		replies := f.Process(ctx, tx)
		if len(replies) != 2 || replies[0].Class() != 2 || replies[1].Class() != 2 {
			t.Errorf("answered %v", replies)
		}
		if took := time.Since(start); took == 0 || took > time.Minute {
			t.Errorf("a notice that is not taken held up the reply for %s", took)
		}
	})
}
