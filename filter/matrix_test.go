package filter

// Promises 1 and 2 over the combinations of what three recipients want, what
// the next hop says to each, what becomes of a report, how mail comes in and
// who sent it.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/policy"
)

// matrixCase is one combination; codes are those of the next hop.
type matrixCase struct {
	input     mail.Input
	sender    string // ours, list (one of ours that is no person), never (wants no report), stranger, strange list, null
	kinds     [3]string
	codes     [3]int
	report    int
	store     bool // the quarantine can be written
	delivered [3]bool
	reported  [3]bool
	kept      [3]bool
}

func (c *matrixCase) rcpt(i int) mail.Address {
	return mail.Address(fmt.Sprintf("%s%d@example.net", c.kinds[i], i))
}

// mayReport is promise 2 in one line, and wouldTell whether a queue tells.
func (c *matrixCase) mayReport() bool   { return c.sender == "ours" }
func (c *matrixCase) wouldTell() bool   { return c.sender != "null" && c.sender != "never" }
func (c *matrixCase) passes(i int) bool { return c.kinds[i] == "pass" || c.kinds[i] == "bypass" }

// Send is the next hop.
func (c *matrixCase) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	var data strings.Builder
	_, _ = o.WriteTo(&data) // a Builder never fails
	own := strings.Contains(data.String(), "\r\nAuto-Submitted: ")
	out := make([]mail.Receipt, len(o.Rcpts))
	var codes []int
	for i, r := range o.Rcpts {
		code := c.report
		if !own {
			code = c.codes[r.Address.Local()[len(r.Address.Local())-1]-'0']
		}
		codes = append(codes, code)
		out[i] = matrixReceipt(code)
	}
	for _, stop := range []struct {
		asked bool
		code  int
	}{{o.AllOrNone, 450}, {o.RefuseAll, 550}} {
		if stop.asked && slices.Contains(codes, stop.code) {
			for i := range out {
				out[i], codes[i] = matrixReceipt(stop.code), stop.code
			}
		}
	}
	for i := range c.kinds {
		at := slices.IndexFunc(o.Rcpts, func(r mail.Recipient) bool { return r.Address == c.rcpt(i) })
		c.delivered[i] = c.delivered[i] || at >= 0 && codes[at] == 250
		about := own && codes[0] == 250 && strings.Contains(data.String(), "Final-Recipient: rfc822;"+string(c.rcpt(i)))
		c.reported[i] = c.reported[i] || about
	}
	return out
}

func matrixReceipt(code int) mail.Receipt {
	d := map[int]mail.Disposal{250: mail.Relayed, 450: mail.Deferred, 550: mail.Refused}[code]
	return mail.Receipt{Disposal: d, Reply: mail.NewReply(code, 1, 1, "from MTA")}
}

// Keep is the quarantine.
func (c *matrixCase) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	if !c.store {
		return "", errors.New("disk full")
	}
	for i := range k.Rcpts {
		c.kept[i] = c.kept[i] || k.Rcpts[i].Due
	}
	return "x/other-" + k.MailID, nil
}

// twice says what cannot be helped under one reply for all, that recipient i gets
// a duplicate: another one has to wait after he got the message.
func (c *matrixCase) twice(i int) bool {
	if c.input == mail.InputLMTP {
		return false
	}
	for k := range c.kinds {
		if c.passes(k) && c.kinds[k] != c.kinds[i] && c.codes[k] == 450 { // a transaction of its own
			return true
		}
		// the report, or the copy in its place, fails after others have the message
		toReport := c.kinds[k] == "reject" || c.kinds[k] == "bounce" || c.passes(k) && c.codes[k] == 550
		if toReport && (c.mayReport() && c.report != 250 || !c.mayReport() && !c.store) {
			return true
		}
	}
	return false
}

// broken says which promise the reply to recipient i breaks.
func (c *matrixCase) broken(i int, r mail.Reply) string {
	switch {
	case c.reported[i] && !c.mayReport():
		return "a stranger is told"
	case c.reported[i] && c.kinds[i] == "discard":
		return "what is to be discarded is reported"
	case c.reported[i] && c.delivered[i]:
		return "what was delivered is reported"
	case c.reported[i] && r.Class() == 4:
		return "4xx and reported: the sender is told again with each try"
	case r.Class() == 2 && c.kinds[i] != "discard" && !c.delivered[i] && !c.reported[i] && !c.kept[i]:
		return "lost"
	case c.kept[i] && (c.delivered[i] || c.reported[i]):
		return "kept, though somebody has it or knows"
	case c.kept[i] && c.kinds[i] == "discard":
		return "kept, though it is to be discarded"
	case r.Class() == 2 && c.kinds[i] == "tempfail":
		return "lost, though it was to wait"
	case r.Class() == 2 && (c.kinds[i] == "reject" || c.kinds[i] == "bounce") && c.mayReport() && !c.reported[i]:
		return "one of ours is not told"
	case c.input.AfterQueue() && (r.Class() == 5 && !c.passes(i) && c.wouldTell() && !c.mayReport() ||
		r.Class() == 5 && strings.HasPrefix(c.sender, "strange")):
		return "a stranger is told by the feeding MTA"
	case c.input.AfterQueue() && r.Class() == 5 && c.kinds[i] == "discard":
		return "what is to be discarded is refused"
	case r.Class() == 5 && c.reported[i]:
		return "told twice"
	case r.Class() != 2 && c.delivered[i] && !c.twice(i):
		return "comes twice"
	}
	return ""
}

func TestPromisesHoldForCombinations(t *testing.T) {
	t.Parallel()
	text := "hostname: mail.example.org\nlocal_domains: [example.org]\nsettings: {virus: {admin: \"\"}}\nrecipients:\n"
	kinds := []string{"pass", "bypass", "reject", "bounce", "discard", "tempfail"}
	for _, k := range kinds {
		set := "destiny: " + k
		if k == "bypass" {
			set = "bypass: true"
		}
		text += fmt.Sprintf("  - {match: [%[1]s0@, %[1]s1@, %[1]s2@], settings: {virus: {%[2]s}}}\n", k, set)
	}
	cfg, err := policy.Parse("postern.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	inputs := []mail.Input{mail.InputLMTP, mail.InputSMTP, mail.InputProxy}
	senders := []string{"ours", "list", "never", "stranger", "strange list", "null"}
	codes := []int{250, 450, 550}
	// one in thirteen: the step divides none of the factors, so each value still
	// meets all others
	for n := 0; n < 2*3*6*6*6*6*3*3*3*3; n += 13 {
		rest := n
		next := func(k int) int { i := rest % k; rest /= k; return i }
		c := &matrixCase{input: inputs[next(3)], sender: senders[next(6)], report: codes[next(3)], store: next(2) == 0}
		for i := range c.kinds {
			c.kinds[i], c.codes[i] = kinds[next(6)], codes[next(3)]
		}
		replies := c.run(t, cfg)
		for i := range c.kinds {
			if why := c.broken(i, replies[min(i, len(replies)-1)]); why != "" {
				t.Errorf("%s, recipient %d: %+v: %v", why, i, *c, replies)
			}
		}
	}
}

func (c *matrixCase) run(t *testing.T, cfg *policy.Config) []mail.Reply {
	t.Helper()
	text := "From: alice@example.org\r\n"
	if strings.HasSuffix(c.sender, "list") {
		text += "List-Id: <l.example.org>\r\n"
	}
	tx := &mail.Transaction{
		ID: "1", Input: c.input, Listener: "127.0.0.1:10023", From: "alice@example.org",
		Message: mail.NewMessage([]byte(text + "\r\n")),
	}
	switch c.sender {
	case "stranger", "strange list":
		tx.Listener, tx.From = "127.0.0.1:10024", "eve@example.com"
	case "null":
		tx.From = ""
	}
	for i := range c.kinds {
		r := mail.Recipient{Address: c.rcpt(i)}
		if c.sender == "never" {
			r.Opts.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
		}
		tx.Rcpts = append(tx.Rcpts, r)
	}
	f := &Filter{Policy: cfg, Relay: func(mail.NextHop) mail.Transport { return c }, Log: slog.New(slog.DiscardHandler), Quarantine: c}
	sel, err := f.Select(t.Context(), tx, nil)
	if err != nil {
		t.Fatal(err)
	}
	ex := &Examination{Selection: sel, Findings: []mail.Finding{{Category: mail.Infected, Name: "Test", Rcpt: mail.AllRcpts}}}
	ex.Verdicts = policy.Decide(sel, ex.Findings, nil)
	replies, _ := f.Enact(t.Context(), tx, ex)
	if want := map[bool]int{true: 1, false: len(c.kinds)}[c.input.OneReply()]; len(replies) != want {
		t.Fatalf("%+v: %d replies", *c, len(replies))
	}
	return replies
}
