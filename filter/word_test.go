package filter

import (
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

// TestStatusWord has the words of Amavis' log by what became of a recipient:
// the table of its check_mail, and what is different here.
func TestStatusWord(t *testing.T) {
	t.Parallel()
	relayed := mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "ok")}
	refused := mail.Receipt{Disposal: mail.Refused, Reply: mail.NewReply(554, 7, 0, "no")}
	deferred := mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 0, "later")}
	done := func(d mail.Disposal) mail.Receipt {
		return mail.Receipt{Disposal: d, Reply: mail.NewReply(250, 5, 0, "ok")}
	}
	for _, tt := range []struct {
		name  string
		input mail.Input
		state rcptState
		want  string
	}{
		{"before the queue the MTA goes on", mail.InputMilter, rcptState{receipt: relayed}, "Accepted"},
		{"the same by AM.PDP", mail.InputAMPDP, rcptState{receipt: relayed}, "Accepted"},
		{"also with header fields added", mail.InputMilter, rcptState{receipt: relayed, tagged: true}, "Accepted"},
		{"answer of class 4", mail.InputLMTP, rcptState{receipt: deferred}, "TempFailed"},
		{"next hop: class 4", mail.InputSMTP, rcptState{receipt: deferred, byMTA: true}, "TempFailed"},
		{"class 5, reject", mail.InputLMTP, rcptState{receipt: refused}, "Rejected"},
		{"class 5, reject, before the queue", mail.InputMilter, rcptState{receipt: refused}, "Rejected"},
		{"next hop: class 5", mail.InputLMTP, rcptState{receipt: refused, byMTA: true}, "Rejected"},
		{"handed on", mail.InputLMTP, rcptState{receipt: relayed}, "Relayed"},
		{"handed on with a tag", mail.InputSMTP, rcptState{receipt: relayed, tagged: true}, "RelayedTagged"},
		{"discard", mail.InputLMTP, rcptState{receipt: done(mail.Discarded)}, "Discarded"},
		{"bounce, sender told", mail.InputLMTP, rcptState{receipt: done(mail.Bounced)}, "Bounced"},
		{"bounce, sender not told", mail.InputLMTP, rcptState{receipt: done(mail.Discarded), plan: plan{noReport: "notify"}}, "NoBounce"},
		{"bounce before the queue", mail.InputMilter, rcptState{receipt: done(mail.Bounced)}, "Bounced"},
		{"quarantined in place of a report", mail.InputLMTP, rcptState{receipt: done(mail.Quarantined), plan: plan{noReport: "not-originating"}}, "NoBounce"},
		{"quarantined", mail.InputLMTP, rcptState{receipt: done(mail.Quarantined)}, "Discarded"},
		// Amavis writes Unknown; here nothing was done, and the answer is 451
		{"nobody dealt with it", mail.InputLMTP, rcptState{}, "TempFailed"},
	} {
		tx := &mail.Transaction{Input: tt.input}
		if !tt.input.AfterQueue() {
			tx.Back = hopFunc(nil)
		}
		j := &job{tx: tx, rcpts: []rcptState{tt.state}}
		if got := j.statusWord(0); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		// the word and the answer to the feeding MTA must agree
		class := map[string]int{"TempFailed": 4, "Rejected": 5}[tt.want]
		if class == 0 {
			class = 2
		}
		if got := finalReply(tt.state.receipt); got.Class() != class {
			t.Errorf("%s: answer %s, want class %d", tt.name, got, class)
		}
	}
}

func TestCategoryWord(t *testing.T) {
	t.Parallel()
	found := func(c mail.Category, minor int, names ...string) (policy.ContentCategory, *policy.Verdict) {
		v := &policy.Verdict{}
		for _, n := range names {
			v.Findings = append(v.Findings, mail.Finding{Category: c, Minor: minor, Name: n})
		}
		return policy.ContentCategory{Category: c, Minor: minor}, v
	}
	for want, make := range map[string]func() (policy.ContentCategory, *policy.Verdict){
		"CLEAN":               func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Clean, 0) },
		"INFECTED":            func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Infected, 0) },
		"INFECTED (A, B)":     func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Infected, 0, "A", "B", "A") },
		`BANNED (a\x0ab.exe)`: func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Banned, 0, "a\nb.exe") },
		"UNCHECKED":           func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Unchecked, mail.OverLimits, "x") },
		"UNCHECKED-ENCRYPTED": func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Unchecked, mail.Encrypted) },
		"SPAM":                func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Spam, 0, "x") },
		"SPAMMY":              func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Spammy, 0) },
		"BAD-HEADER-2":        func() (policy.ContentCategory, *policy.Verdict) { return found(mail.BadHeader, mail.BadHeader8Bit) },
		"MTA-BLOCKED":         func() (policy.ContentCategory, *policy.Verdict) { return found(mail.MTABlocked, 0) },
		"OVERSIZED":           func() (policy.ContentCategory, *policy.Verdict) { return found(mail.Oversized, 0) },
	} {
		if got := categoryWord(make()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
