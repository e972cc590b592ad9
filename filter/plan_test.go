package filter

import (
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/notify"
	"postern/policy"
)

// TestPlans is the table of what is to be done: for an input, a sender and the
// destinies of the recipients.
//
// Senders: ours (may be told), list (one of ours that is no person), never
// (ours, wants no report), stranger, null.
func TestPlans(t *testing.T) {
	t.Parallel()
	names := map[action]string{delay: "delay", pass: "pass", report: "report", refuse: "refuse", drop: "drop"}
	for _, tt := range []struct {
		input, sender, destinies, want string
	}{
		// a queue that takes a reply for each
		{"lmtp", "ours", "pass reject bounce discard tempfail ?", "pass refuse report drop delay delay"},
		{"lmtp", "list", "pass reject bounce discard tempfail ?", "pass drop:bulk drop:bulk drop delay delay"},
		{"lmtp", "never", "pass reject bounce discard tempfail ?", "pass refuse drop:notify drop delay delay"},
		{"lmtp", "stranger", "pass reject bounce discard tempfail ?", "pass drop:not-originating drop:not-originating drop delay delay"},
		{"lmtp", "null", "pass reject bounce discard tempfail ?", "pass refuse drop:null-sender drop delay delay"},
		// a queue that takes one reply for all
		{"smtp", "ours", "reject reject", "refuse refuse"},
		{"smtp", "ours", "pass reject", "pass report"},
		{"smtp", "ours", "reject bounce", "report report"},
		{"smtp", "ours", "reject discard", "report drop"},
		{"smtp", "ours", "pass reject tempfail", "delay delay delay"},
		{"smtp", "ours", "discard ?", "delay delay"},
		{"smtp", "never", "reject reject", "refuse refuse"},
		{"smtp", "never", "pass reject", "pass drop:notify"},
		{"smtp", "null", "pass reject", "pass drop:null-sender"},
		{"smtp", "stranger", "reject reject", "drop:not-originating drop:not-originating"},
		{"smtp", "stranger", "pass reject bounce", "pass drop:not-originating drop:not-originating"},
		// a client that still has the message
		{"milter", "stranger", "reject", "refuse"},
		{"milter", "stranger", "bounce", "refuse:not-originating"},
		{"milter", "stranger", "discard", "drop"},
		{"milter", "stranger", "pass reject discard", "refuse refuse refuse"},
		{"milter", "stranger", "pass discard", "pass drop"},
		{"milter", "stranger", "reject tempfail", "delay delay"},
		{"milter", "ours", "pass bounce", "pass report"},
		{"milter", "ours", "reject bounce", "refuse refuse"},
		{"milter", "null", "pass bounce", "refuse:null-sender refuse:null-sender"},
		{"am.pdp", "stranger", "pass reject", "refuse refuse"},
		{"smtp-proxy", "stranger", "pass bounce", "refuse:not-originating refuse:not-originating"},
		{"smtp-proxy", "ours", "pass bounce", "pass report"},
		// mail without a connection: the MTA reports a refusal, and reports are not refused
		{"local", "ours", "reject", "refuse"},
		{"local", "stranger", "reject", "drop:not-originating"},
		{"local", "null", "reject", "drop:null-sender"},
	} {
		tx := &mail.Transaction{ID: "1", Input: mail.Input(tt.input), From: "a@example.org"}
		sel := &policy.Selection{Originating: true, SenderLocal: true}
		text := "From: a@example.org\r\n\r\n"
		switch tt.sender {
		case "list":
			text = "List-Id: <l.example.org>\r\n" + text
		case "stranger":
			sel.Originating, sel.SenderLocal = false, false
		case "null":
			tx.From = ""
		}
		tx.Message = mail.NewMessage([]byte(text))
		sel.Automatic = notify.Automatic(tx)
		var verdicts []policy.Verdict
		for _, d := range strings.Fields(tt.destinies) {
			r := mail.Recipient{Address: "b@example.net"}
			if tt.sender == "never" {
				r.Opts.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
			}
			tx.Rcpts = append(tx.Rcpts, r)
			sel.Rcpts = append(sel.Rcpts, policy.RcptSelection{Address: r.Address, Settings: &policy.Settings{}})
			v := policy.Verdict{Destiny: policy.Destiny(d), Blocking: policy.ContentCategory{Category: mail.Infected}}
			verdicts = append(verdicts, v)
		}
		var got []string
		for _, p := range plans(tx, verdicts, sel, notify.NewGate(tx, sel)) {
			word := names[p.action]
			if p.noReport != "" {
				word += ":" + p.noReport
			}
			got = append(got, word)
			class := map[action]int{delay: 4, refuse: 5, drop: 2}[p.action]
			if p.reply.Class() != class {
				t.Errorf("%s, %s, %s: %s with the reply %s", tt.input, tt.sender, tt.destinies, word, p.reply)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s, %s, %s: %s, want %s", tt.input, tt.sender, tt.destinies, s, tt.want)
		}
	}
}

// events keeps what it is told.
type events []*mail.Event

func (e *events) Observe(event *mail.Event) { *e = append(*e, event) }

// TestRefusalPassesTheGate: what a listener cannot take is refused only where
// the feeding queue tells nobody but one of ours, and the event says so.
func TestRefusalPassesTheGate(t *testing.T) {
	t.Parallel()
	tooBig := mail.NewReply(552, 3, 4, "Message size exceeds the limit")
	for _, tt := range []struct {
		name   string
		input  mail.Input
		change func(*mail.Transaction)
		say    mail.Reply
		class  int
		unsaid bool
		action string
	}{
		{"one of ours", mail.InputLMTP, func(*mail.Transaction) {}, tooBig, 5, false, "RejectedOutbound"},
		{"one of ours, one reply", mail.InputSMTP, func(*mail.Transaction) {}, tooBig, 5, false, "RejectedOutbound"},
		{"a stranger", mail.InputLMTP, outside, tooBig, 4, true, "TempFailedOpenRelay"},
		{"a stranger, one reply", mail.InputSMTP, outside, tooBig, 4, true, "TempFailedOpenRelay"},
		{"a stranger before the queue", mail.InputMilter, outside, tooBig, 5, false, "RejectedOpenRelay"},
		{"a list of ours", mail.InputLMTP, func(tx *mail.Transaction) {
			tx.Message = mail.NewMessage([]byte("List-Id: <l.example.org>\r\n"))
		}, tooBig, 4, true, "TempFailedOutbound"},
		{"a report", mail.InputLMTP, func(tx *mail.Transaction) { tx.From = "" }, tooBig, 5, false, "RejectedOutbound"},
		{"full disk", mail.InputLMTP, outside, mail.NewReply(452, 3, 1, "no room"), 4, false, "TempFailedOpenRelay"},
	} {
		var seen events
		f, tx := promiseFilter(t, nil)
		f.Observers = []mail.Observer{&seen}
		tx.Input, tx.Size = tt.input, 12345
		tt.change(tx)
		replies := f.Refuse(t.Context(), tx, tt.say)
		if want := map[bool]int{true: 1, false: 2}[tt.input.OneReply()]; len(replies) != want {
			t.Errorf("%s: %d replies", tt.name, len(replies))
		}
		for _, r := range replies {
			if r.Class() != tt.class {
				t.Errorf("%s: %s", tt.name, r)
			}
		}
		if len(seen) != 1 || seen[0].Size != 12345 || !slices.Equal(seen[0].Actions, []string{tt.action}) ||
			(seen[0].Recipients[0].Unsaid != "") != tt.unsaid || seen[0].MailID == "" {
			t.Errorf("%s: %+v", tt.name, seen)
		}
	}
}

func outside(tx *mail.Transaction) { tx.Listener, tx.From = "127.0.0.1:10024", "eve@example.com" }

// TestOneEvent: every message ends in exactly one event, however it ends.
func TestOneEvent(t *testing.T) {
	t.Parallel()
	var sent strings.Builder
	for name, spoil := range map[string]func(*Filter, *mail.Transaction){
		"delivered": func(*Filter, *mail.Transaction) {},
		"loop": func(_ *Filter, tx *mail.Transaction) {
			tx.Message = mail.NewMessage([]byte(strings.Repeat("Received: x\r\n", 60)))
		},
		"panic": func(f *Filter, _ *mail.Transaction) {
			f.Relay = func(mail.NextHop) mail.Transport { panic("relay") }
		},
		"no selection": func(f *Filter, _ *mail.Transaction) { f.Policy.AddLookup(failingLookup{}) },
	} {
		var seen events
		f, tx := promiseFilter(t, takes(&sent, ""))
		f.Observers = []mail.Observer{&seen}
		spoil(f, tx)
		replies := f.Process(t.Context(), tx)
		if len(seen) != 1 || len(seen[0].Recipients) != 2 || len(replies) != 2 {
			t.Fatalf("%s: %d replies, events %+v", name, len(replies), seen)
		}
		for i, r := range replies {
			if said := seen[0].Recipients[i].Reply; said != r.String() || (r.Class() == 2) != (name == "delivered") {
				t.Errorf("%s: answered %s, the event says %s", name, r, said)
			}
		}
	}
}

// TestOneRefusalForAll: where one reply must do for all recipients, a refusal is
// not said if Postfix would report it for one of them, also where it would not
// for another.
func TestOneRefusalForAll(t *testing.T) {
	t.Parallel()
	for _, notify := range [][]smtp.DSNNotify{nil, {smtp.DSNNotifyNever}} {
		f, tx := promiseFilter(t, nil, "listeners: [{protocol: smtp, address: \"127.0.0.1:10023\"}]\n")
		store := &holds{}
		f.Quarantine = store
		tx.Input, tx.From = mail.InputSMTP, "eve@example.com"
		tx.Rcpts[0].Opts.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
		tx.Rcpts[1].Opts.Notify = notify
		replies := f.Refuse(t.Context(), tx, mail.NewReply(554, 4, 6, "loop"))
		refused, kept := replies[0].Class() == 5, store.kept != nil
		if told := notify == nil; len(replies) != 1 || refused == told || kept != told {
			t.Errorf("NOTIFY of the second %v: %v, kept %v", notify, replies, kept)
		}
	}
}
