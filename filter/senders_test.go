package filter

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
)

// Who answers for an address is told by domain: what proves one proves no other.
func TestSendersOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, from, author string
		auth               *mail.Authentication
		want               string
	}{
		{"nobody asked", "a@a.test", "a@a.test", nil, "sender <a@a.test>:, author <a@a.test>:"},
		{"SPF", "a@a.test", "b@b.test", &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFMailFrom, Domain: "a.test", Result: mail.AuthPass}}}, "sender <a@a.test>:SPF, author <b@b.test>:"},
		{"SPF of HELO", "a@a.test", "b@b.test", &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFHelo, Domain: "a.test", Result: mail.AuthPass}}}, "sender <a@a.test>:, author <b@b.test>:"},
		{"SPF softfail", "a@a.test", "a@a.test", &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFMailFrom, Domain: "a.test", Result: mail.AuthSoftFail}}}, "sender <a@a.test>:, author <a@a.test>:"},
		{"signer", "a@a.test", "Ann <b@B.test>", &mail.Authentication{Signers: []string{"b.test"}}, "sender <a@a.test>:, author <b@B.test>:DKIM"},
		{"DKIM of the envelope", "a@a.test", "b@b.test", &mail.Authentication{DKIM: []mail.DKIMResult{{Domain: "a.test", Result: mail.AuthPass}}}, "sender <a@a.test>:DKIM, author <b@b.test>:"},
		{"DKIM fails", "a@a.test", "b@b.test", &mail.Authentication{DKIM: []mail.DKIMResult{{Domain: "a.test", Result: mail.AuthFail}}}, "sender <a@a.test>:, author <b@b.test>:"},
		{"DKIM is only tried", "a@a.test", "b@b.test", &mail.Authentication{DKIM: []mail.DKIMResult{{Domain: "a.test", Result: mail.AuthPass, Testing: true}}}, "sender <a@a.test>:, author <b@b.test>:"},
		{"DMARC", "a@a.test", "b@sub.b.test", &mail.Authentication{DMARC: &mail.DMARCResult{Author: "sub.b.test", Result: mail.AuthPass}}, "sender <a@a.test>:, author <b@sub.b.test>:DMARC"},
		{"DMARC fails", "a@a.test", "b@b.test", &mail.Authentication{DMARC: &mail.DMARCResult{Author: "b.test", Result: mail.AuthFail}}, "sender <a@a.test>:, author <b@b.test>:"},
		{"two authors", "a@a.test", "b@b.test, c@b.test", &mail.Authentication{Signers: []string{"b.test"}, DMARC: &mail.DMARCResult{Author: "b.test", Result: mail.AuthPass}}, "sender <a@a.test>:, author <b@b.test>:, author <c@b.test>:"},
		{"a name that is an address", "", `"friend@b.test" <x@evil.test>`, &mail.Authentication{}, "sender <>:, author <x@evil.test>:"},
		{"quoted", "", `"a b"@b.test`, nil, `sender <>:, author <"a b"@b.test>:`},
		{"a quote that does not end", "x@a.test", `evil@black.test "`, nil, "sender <x@a.test>:, author <evil@black.test>:"},
		{"a bracket behind", "x@a.test", "<evil@black.test> <", nil, "sender <x@a.test>:, author <evil@black.test>:"},
		{"an address as a name", "x@a.test", "evil@black.test <ok>", nil, "sender <x@a.test>:, author <evil@black.test>:"},
		{"in a comment", "x@a.test", "ok@b.test (evil@black.test)", nil, "sender <x@a.test>:, author <ok@b.test>:"},
		{"no domain", "x", "undisclosed", &mail.Authentication{}, "sender <x>:"},
		{"A-labels", "a@bücher.test", "a@bücher.test", &mail.Authentication{Signers: []string{"xn--bcher-kva.test"}}, `sender <a@b\x{fc}cher.test>:, author <a@b\x{fc}cher.test>:DKIM`},
	} {
		tx := &mail.Transaction{From: mail.Address(tt.from), Message: mail.NewMessage([]byte("From: " + tt.author + "\r\n\r\n"))}
		var got []string
		for _, s := range sendersOf(tx, tt.auth) {
			got = append(got, s.String()+":"+s.Proof)
		}
		if g := strings.Join(got, ", "); g != strings.ReplaceAll(tt.want, `\x{fc}`, "ü") && g != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, g, tt.want)
		}
	}
}

// Thousands of authors cost no more than a few.
func TestManyAuthors(t *testing.T) {
	t.Parallel()
	tx := &mail.Transaction{From: "a@a.test", Message: mail.NewMessage([]byte("From: " + strings.Repeat("x@b.test, ", 5000) + "\r\n\r\n"))}
	got := sendersOf(tx, &mail.Authentication{Signers: []string{"b.test"}})
	if len(got) != maxAuthors+1 || got[1].Proof != "" {
		t.Errorf("%d senders, %+v", len(got), got[1])
	}
}

// Nobody hides from a blacklist behind others, and nobody is helped by a guess.
func TestBlacklistedBehindOthers(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		strings.Repeat("x@b.test, ", 50) + "evil@black.test": "blacklisted",
		strings.Repeat("x@b.test, ", 50) + "good@white.test": "",
		`evil@black.test "`:                   "blacklisted",
		"<evil@black.test> <":                 "blacklisted",
		"good@white.test <ok>":                "",
		"evil@black.test, other@neutral.test": "blacklisted", // the second does not shield the first
		"other@neutral.test":                  "",
		"other@neutral.black.test":            "",
	} {
		var sent strings.Builder
		f, tx := promiseFilter(t, takes(&sent, ""), `settings:
  spam:
    sender_list:
      - {match: [.neutral.test, other@neutral.black.test], as: neutral}
      - {match: .black.test, as: blacklisted}
      - {match: .white.test, as: whitelisted, verified: false}
`)
		tx.From, tx.Listener = "bounce@a.test", "127.0.0.1:10024"
		tx.Message = mail.NewMessage([]byte("From: " + from + "\r\n\r\n"))
		ex, err := f.Examine(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(ex.Verdicts[0].Listed.As); got != want {
			t.Errorf("%.60q: %q, want %q", from, got, want)
		}
	}
}

// spamEngine is a spam engine that counts how often it is asked.
type spamEngine struct {
	score float64
	asked int
}

func (s *spamEngine) Check(context.Context, *check.Input) (check.Answer, error) {
	s.asked++
	return check.Answer{Score: &mail.Score{Value: s.score, Tests: []mail.ScoreTest{{Name: "X", Score: s.score}}}}, nil
}

// TestListedSenders takes mail of listed senders from input to reply: header,
// event, and whether the engine was asked.
func TestListedSenders(t *testing.T) {
	t.Parallel()
	const lists = `settings:
  spam:
    destiny: pass
    tag_level: -999
    sender_list:
      - {match: white@else.test, as: whitelisted}
      - {match: black@else.test, as: blacklisted}
      - {match: soft@else.test, as: score, score: 2.5}
recipients:
  - {match: c@example.org, settings: {spam: {sender_list: [{match: ., as: neutral}]}}}
`
	for _, tt := range []struct {
		from, to string
		score    float64
		asked    int
		want     []string
		listed   string
	}{
		{"white@else.test", "b@example.org", 30, 0, nil, "whitelisted by sender <white@else.test>, postern.yaml:8"},
		{"white@else.test", "b@example.org c@example.org", 30, 1, []string{"X-Spam-Flag: NO", "X-Spam-Score: 0\r\n", "required=6.31 WHITELISTED"}, "whitelisted by sender <white@else.test>, postern.yaml:8"},
		{"black@else.test", "b@example.org", 30, 0, []string{"X-Spam-Flag: YES", "X-Spam-Score: 64\r\n", "X-Spam-Status: Yes, score=64 tagged_above=-999 required=6.31 BLACKLISTED", "Subject: ***SPAM***"}, "blacklisted by sender <black@else.test>, postern.yaml:9"},
		{"black@else.test", "b@example.org c@example.org", 70, 1, []string{"X-Spam-Score: 70\r\n"}, "blacklisted by sender <black@else.test>, postern.yaml:9"},
		{"black@else.test", "b@example.org c@example.org", -3, 1, []string{"X-Spam-Score: 64\r\n", "X-Spam-Level: " + strings.Repeat("*", 64) + "\r\n"}, "blacklisted by sender <black@else.test>, postern.yaml:9"},
		{"soft@else.test", "b@example.org", 1, 1, []string{"X-Spam-Flag: NO", "X-Spam-Score: 3.5\r\n", "AM.WBL=2.5"}, ""},
	} {
		t.Run(fmt.Sprintf("%s to %s at %v", tt.from, tt.to, tt.score), func(t *testing.T) {
			t.Parallel()
			var sent strings.Builder
			f, tx := promiseFilter(t, takes(&sent, ""), lists)
			engine := &spamEngine{score: tt.score}
			f.Checks = []check.Named{{Name: "engine", Check: engine, Categories: []mail.Category{mail.Spam}}}
			f.Authenticate = func(_ context.Context, tx *mail.Transaction, _ auth.Questions) *mail.Authentication {
				return &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFMailFrom, Domain: tx.From.Domain(), Result: mail.AuthPass}}}
			}
			var events eventKeeper
			f.Observers = []mail.Observer{&events}
			tx.Listener, tx.From, tx.Rcpts = "127.0.0.1:10024", mail.Address(tt.from), nil
			for to := range strings.FieldsSeq(tt.to) {
				tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: mail.Address(to)})
			}
			for _, r := range f.Process(t.Context(), tx) {
				if r.Class() != 2 {
					t.Errorf("answer %s", r)
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(strings.ReplaceAll(sent.String(), "\r\n ", " "), want) {
					t.Errorf("%q is missing in\n%s", want, sent.String())
				}
			}
			if engine.asked != tt.asked || events.last.Recipients[0].Listed != tt.listed {
				t.Errorf("engine asked %d times, event says %q", engine.asked, events.last.Recipients[0].Listed)
			}
		})
	}
}

// eventKeeper keeps the last event.
type eventKeeper struct{ last *mail.Event }

func (k *eventKeeper) Observe(e *mail.Event) { k.last = e }

// Nobody is told that he is blacklisted, not even one of our own people.
func TestBlacklistedIsNotTold(t *testing.T) {
	t.Parallel()
	var sent strings.Builder
	f, tx := promiseFilter(t, takes(&sent, ""), "settings: {spam: {destiny: bounce, sender_list: [{match: a@example.org, as: blacklisted}]}}\n")
	f.Quarantine = keepsAll{}
	replies := f.Process(t.Context(), tx)
	if sent.Len() > 0 || replies[0].Class() != 2 || !strings.Contains(replies[0].Text, "DSN suppressed") {
		t.Errorf("%v, sent %q", replies, sent.String())
	}
}

// keepsAll is a quarantine that takes all and shows nothing.
type keepsAll struct{}

func (keepsAll) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	return "x/other-" + k.MailID, nil
}
