package notify

// The gate: who may be told that a message was not delivered. A forged sender
// must never get a report, so every doubt closes it.

import (
	netmail "net/mail"
	"path"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/policy"
)

// Reason says why the gate is closed. The zero Reason means it is open.
type Reason struct {
	Word string // for the log, for example "not-originating"
	Text string // for people; may hold foreign text, escaped and bounded
}

// Open reports whether a report may arise.
func (r Reason) Open() bool { return r == Reason{} }

// Gate decides about the reports that one message may cause.
type Gate struct {
	tx      *mail.Transaction
	sel     *policy.Selection
	message Reason // what holds for all recipients
}

// NewGate looks at all that does not depend on a recipient. Its methods take
// the recipient as an index into tx.Rcpts, which is also one into sel.Rcpts.
func NewGate(tx *mail.Transaction, sel *policy.Selection) *Gate {
	return &Gate{tx: tx, sel: sel, message: messageReason(tx, sel)}
}

func messageReason(tx *mail.Transaction, sel *policy.Selection) Reason {
	switch why := stranger(sel); {
	case tx.From == "":
		return Reason{"null-sender", "the message is itself a report: its sender is null"}
	case !why.Open():
		return why
	case checkAddress(tx.From) != nil:
		return Reason{"sender-address", "no report can be addressed to such a sender"}
	}
	if sel.Automatic != "" {
		return Reason{"bulk", "nobody waits for an answer: " + sel.Automatic}
	}
	return Reason{}
}

// Failure says whether a non-delivery report about recipient i may arise. v is
// the verdict for that recipient.
func (g *Gate) Failure(i int, v *policy.Verdict) Reason {
	if !g.message.Open() {
		return g.message
	}
	if !wantsFailure(g.tx.Rcpts[i]) {
		return Reason{"notify", "the sender asked not to be told (NOTIFY)"}
	}
	s := g.sel.Rcpts[i].Settings
	for _, name := range v.Names(mail.Infected) {
		if p := matching(s.Virus.FakesSender, name); p != "" {
			return Reason{"fakes-sender", "virus " + printable(name, maxName) + " forges senders (fakes_sender " + p + ")"}
		}
	}
	if v.Listed.Black() && v.Blocking.Category == mail.Spam {
		return Reason{"blacklisted", "the sender is blacklisted"}
	}
	if cutoff := s.Spam.DSNCutoffLevel; cutoff != 0 && v.Score != nil && v.Score.Value >= cutoff {
		return Reason{"score", "the spam score reaches dsn_cutoff_level"}
	}
	return Reason{}
}

// Refusal says whether recipient i may be answered with 5xx. On an input that
// comes from a queue the feeding MTA would write the non-delivery report, so
// either one may arise or the MTA must be bound not to write it. Before the
// queue a refusal tells only the client that is there.
func (g *Gate) Refusal(i int, v *policy.Verdict) Reason {
	if !g.tx.Input.AfterQueue() || !g.WouldTell(i) {
		return Reason{}
	}
	return g.Failure(i, v)
}

// HandOn says whether the refusal of recipient i by a next hop may be handed on
// to the feeding MTA, which reports it to the sender: only if he is one of our
// own people. Mail of their lists and programs counts among it, since whoever
// runs a list wants to know which addresses are gone.
func (g *Gate) HandOn(i int) Reason {
	if !g.tx.Input.AfterQueue() || !g.WouldTell(i) {
		return Reason{}
	}
	return stranger(g.sel)
}

// stranger is the reason against all reports to a sender who may be forged.
func stranger(sel *policy.Selection) Reason {
	switch {
	case !sel.Originating:
		return Reason{"not-originating", "the message does not come from our own people, so its sender may be forged"}
	case !sel.SenderLocal:
		return Reason{"sender-not-local", "the sender's domain is not one of ours"}
	}
	return Reason{}
}

// WouldTell reports whether a 5xx for recipient i makes the feeding MTA write
// a non-delivery report to the sender.
func (g *Gate) WouldTell(i int) bool {
	return g.tx.From != "" && wantsFailure(g.tx.Rcpts[i])
}

// Success says whether a "relayed" report about recipient i may arise: it must
// have been asked for by a sender whom we know.
func (g *Gate) Success(i int) Reason {
	if !g.message.Open() {
		return g.message
	}
	if !slices.Contains(g.tx.Rcpts[i].Opts.Notify, smtp.DSNNotifySuccess) {
		return Reason{"notify", "the sender did not ask to be told of success (NOTIFY)"}
	}
	return Reason{}
}

// wantsFailure follows RFC 3461 section 4.1: without NOTIFY the sender is told
// of failure.
func wantsFailure(r mail.Recipient) bool {
	return len(r.Opts.Notify) == 0 || slices.Contains(r.Opts.Notify, smtp.DSNNotifyFailure)
}

// matching returns the first shell pattern that matches name. A pattern that
// is malformed counts as matching.
func matching(patterns []string, name string) string {
	// for path.Match a "*" ends at a slash, but in a virus name that is a
	// character like any other
	noSlash := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	for _, p := range patterns {
		if ok, err := path.Match(noSlash(p), noSlash(name)); ok || err != nil {
			return p
		}
	}
	return ""
}

// Automatic says which field or address shows that the message was sent by a
// program or a list (RFC 3834 section 2), or returns the empty string.
func Automatic(tx *mail.Transaction) string {
	for _, f := range tx.Message.Header() {
		name := strings.ToLower(f.Name)
		switch {
		case strings.HasPrefix(name, "list-") || name == "mailing-list" || name == "x-beenthere":
			return "field " + printable(f.Name, maxName)
		case name == "precedence" && isBulkPrecedence(token(f.Value())):
			return "field Precedence"
		case name == "auto-submitted" && token(f.Value()) != "no":
			return "field Auto-Submitted"
		case name == "from" && slices.ContainsFunc(authors(f.Value()), isProgram):
			return "the author is a program"
		case name == "sender" && slices.ContainsFunc(authors(f.Value()), isProgram):
			return "field Sender is a program's"
		case name == "content-type" && token(f.Value()) == "multipart/report":
			return "it is a report"
		}
	}
	if isProgram(tx.From) {
		return "the sender is a program"
	}
	return ""
}

func isBulkPrecedence(s string) bool {
	switch s {
	case "bulk", "list", "junk", "auto_reply", "auto-reply":
		return true
	}
	return false
}

// token returns the leading keyword of a structured value, in lower case.
// Comments may stand before it.
func token(v string) string {
	for {
		v = strings.TrimLeft(v, " \t\r\n")
		n := 0
		if strings.HasPrefix(v, "(") {
			n = mail.EndOfQuoted(v)
		}
		if n == 0 {
			break
		}
		v = v[n+1:]
	}
	if i := strings.IndexAny(v, " \t\r\n;("); i >= 0 {
		v = v[:i]
	}
	return strings.ToLower(v)
}

// isProgram knows the local parts under which mailers and list managers send.
// Amavis counts postmaster, ...-admin and ...-relay as well; behind an address
// of our own these are people, who would lose their mail without a word.
func isProgram(a mail.Address) bool {
	l, _, _ := strings.Cut(strings.ToLower(a.Local()), "+")
	switch l {
	case "mailer-daemon", "double-bounce", "mailer", "autoreply":
		return true
	}
	return strings.HasPrefix(l, "owner-") || strings.HasSuffix(l, "-owner") ||
		strings.HasSuffix(l, "-request") || strings.HasSuffix(l, "-bounces")
}

// authors returns the addresses of a From field, none if it is malformed.
func authors(v string) []mail.Address {
	list, err := netmail.ParseAddressList(v)
	if err != nil {
		return nil
	}
	out := make([]mail.Address, len(list))
	for i, a := range list {
		out[i] = mail.Address(a.Address)
	}
	return out
}
