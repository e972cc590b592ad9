package policy

// What is known about a sender beforehand, and what it makes of the verdict.

import (
	"fmt"
	"slices"

	"postern/filter/mail"
	"postern/policy/senderlist"
	"postern/policy/virusname"
)

// Sender is an address in whose name a message comes, see [senderlist.Sender].
type Sender = senderlist.Sender

// Listed is the entry of spam.sender_list by which mail of a sender is spam, or
// is not, whatever its score.
type Listed struct {
	As    senderlist.Meaning // whitelisted or blacklisted; empty: neither
	By    string             // the sender and the place of the entry, for people
	entry string
}

// White reports whether the sender is whitelisted.
func (l Listed) White() bool { return l.As == senderlist.Whitelisted }

// Black reports whether the sender is blacklisted.
func (l Listed) Black() bool { return l.As == senderlist.Blacklisted }

// senderTest is the test that the points of a sender stand under (Amavis).
const senderTest = "AM.WBL"

// proven are the senders of the message as far as the selection knows: all are
// who they say if the mail comes from our own people.
func (sel *Selection) proven() []Sender {
	if !sel.Originating {
		return sel.Senders
	}
	out := slices.Clone(sel.Senders)
	for i := range out {
		if out[i].Proof == "" {
			out[i].Proof = "originating"
		}
	}
	return out
}

// weighSender asks the sender list. Who bypasses the check for spam has none.
func (v *Verdict) weighSender(s *Settings, senders []Sender) {
	hit, unproven := senderlist.Find(s.Spam.SenderList, senders)
	if s.Spam.Bypass {
		if hit != nil {
			v.because(fmt.Sprintf("%s is not counted: recipient bypasses the check, %s", told(hit), s.source(mail.Spam, "bypass")))
		}
		return
	}
	for i := range unproven {
		v.because(told(&unproven[i]) + " is not counted: the sender is not verified")
	}
	if hit == nil {
		return
	}
	proof := ""
	if hit.Sender.Proof != "" {
		proof = ", verified by " + hit.Sender.Proof
	}
	v.because(told(hit) + proof)
	switch hit.Rule.As {
	case senderlist.Score:
		v.addScore(map[string]float64{senderTest: *hit.Rule.Score}, []mail.ScoreTest{{Name: senderTest, Score: *hit.Rule.Score}})
	case senderlist.Whitelisted, senderlist.Blacklisted:
		v.Listed = Listed{As: hit.Rule.As, By: hit.Sender.String() + ", " + hit.Rule.Place(), entry: hit.Rule.String()}
	}
	if v.Listed.White() {
		v.Findings = slices.DeleteFunc(v.Findings, onlySpam)
		v.Categories = categories(v.Findings)
	}
}

// told says what a list says.
func told(h *senderlist.Hit) string {
	as := string(h.Rule.As)
	if h.Rule.As == senderlist.Score {
		as = "listed with score " + virusname.Points(*h.Rule.Score)
	}
	return fmt.Sprintf("%s is %s, %s", h.Sender, as, h.Rule.Place())
}

// onlySpam reports whether a finding says no more than that the mail is spam, or
// that nobody knows whether it is.
func onlySpam(f mail.Finding) bool {
	ofSpam := mail.SetOf(mail.Spam, mail.Spammy)
	switch f.Category {
	case mail.Spam, mail.Spammy:
		return true
	case mail.Unchecked:
		return f.Minor == mail.CheckFailed && f.Missing != 0 && f.Missing&^ofSpam == 0
	}
	return false
}
