package filter

// The header fields that a copy of the message gets and loses: one function for
// each family of fields, all of them pure. The DKIM signature comes later, over
// what they have made.

import (
	"mime"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// product is our name in header fields.
const product = "Postern"

// copyFacts is what the families look at: a message, which need not be the one
// that came in, and one of its recipients.
type copyFacts struct {
	header   mail.Header
	verdict  *policy.Verdict
	rcpt     *policy.RcptSelection
	scanned  bool   // a virus scanner gave a complete answer
	domain   string // ours, for X-Virus-Scanned
	received string // the value of our Received field, equal for all copies
}

// families are all families, in the order in which their fields stand, from the
// top.
var families = []func(*copyFacts) []mail.Edit{
	holdEdits, scannedEdits, alertEdits, subjectEdits, receivedEdits,
}

// edits returns what every family does to the copy.
func (f *copyFacts) edits() []mail.Edit {
	var out []mail.Edit
	for _, family := range families {
		out = append(out, family(f)...)
	}
	return out
}

// add makes an edit of a new field.
func add(name, value string) []mail.Edit {
	return []mail.Edit{{Op: mail.Add, Name: name, Value: value}}
}

// holdEdits says that not everything in the message was looked at. Only we may
// say so, so what came in goes away.
func holdEdits(f *copyFacts) []mail.Edit {
	const name = "X-Amavis-Hold"
	var out []mail.Edit
	if f.header.Count(name) > 0 {
		out = []mail.Edit{{Op: mail.Remove, Name: name}}
	}
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Unchecked && c.Minor == mail.OverLimits {
			return append(out, add(name, mail.UncheckedPhrase(mail.OverLimits))...)
		}
	}
	return out
}

// scannedEdits says that a virus scanner has seen the message.
func scannedEdits(f *copyFacts) []mail.Edit {
	if !f.scanned || f.rcpt.Settings.Virus.Bypass {
		return nil
	}
	return add("X-Virus-Scanned", product+" at "+f.domain)
}

// alertEdits warns of what is in the message, and complains about its header.
func alertEdits(f *copyFacts) []mail.Edit {
	var out []mail.Edit
	const name = "X-Amavis-Alert"
	if c := f.alerted(); c != mail.CatchAll {
		text := "INFECTED, message contains virus: "
		if c == mail.Banned {
			text = "BANNED, message contains "
		}
		out = add(name, headerText(text+strings.Join(f.verdict.Names(c), ", ")))
	}
	if names := f.verdict.Names(mail.BadHeader); len(names) > 0 {
		out = append(out, add(name, headerText("BAD HEADER SECTION, "+names[0]))...)
	}
	return out
}

// alerted returns the category that the copy warns of, CatchAll if none.
func (f *copyFacts) alerted() mail.Category {
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Infected || c.Category == mail.Banned {
			return c.Category
		}
	}
	return mail.CatchAll
}

// subjectTag returns what a local recipient is to see in front of the subject:
// the tag of the highest category that has one. Mail that is UNCHECKED only
// because its sender encrypted it for the reader has none for that: the tag
// would break the sender's signature, and tell the reader nothing.
func (f *copyFacts) subjectTag() string {
	if !f.rcpt.Local {
		return ""
	}
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Unchecked && f.onlyEndToEnd() {
			continue
		}
		if tag := f.rcpt.Settings.Category(c.Category).SubjectTag; tag != "" {
			return tag
		}
	}
	return ""
}

// onlyEndToEnd reports whether all that is UNCHECKED is encrypted from end to end.
func (f *copyFacts) onlyEndToEnd() bool {
	return !slices.ContainsFunc(f.verdict.Findings, func(x mail.Finding) bool {
		return x.Category == mail.Unchecked && !x.EndToEnd
	})
}

// subjectEdits puts the tag in front of the subject, whose own bytes stay.
func subjectEdits(f *copyFacts) []mail.Edit {
	tag := f.subjectTag()
	if tag == "" {
		return nil
	}
	tag = mime.QEncoding.Encode("utf-8", tag)
	for _, h := range f.header {
		if h.Is("Subject") {
			v := strings.TrimLeft(strings.TrimSuffix(string(h.RawValue()), "\r\n"), " \t")
			if strings.HasPrefix(v, strings.TrimSpace(tag)) {
				tag = ""
			}
			return []mail.Edit{{Op: mail.Replace, Name: "Subject", Index: 1, Value: tag + v}}
		}
	}
	return add("Subject", strings.TrimSpace(tag))
}

// receivedEdits names this hop.
func receivedEdits(f *copyFacts) []mail.Edit { return add("Received", f.received) }

// receivedValue describes the hop from the feeding MTA to us (RFC 5321
// section 4.4): the remote client stands in the MTA's own field below. By the
// mark we know the field again, see [Mark].
func receivedValue(tx *mail.Transaction, hostname, mark string) string {
	helo := headerText(tx.Helo)
	if helo == "" {
		helo = "localhost"
	}
	var b strings.Builder
	b.WriteString("from " + helo)
	if tx.PeerAddr.IsValid() {
		b.WriteString(" (" + addressLiteral(tx.PeerAddr.Addr()) + ")")
	}
	b.WriteString("\r\n by localhost (" + hostname)
	if tx.LocalAddr.IsValid() {
		b.WriteString(" " + addressLiteral(tx.LocalAddr.Addr()))
	}
	b.WriteString(") (" + product)
	if tx.LocalAddr.IsValid() {
		b.WriteString(", port " + strconv.Itoa(int(tx.LocalAddr.Port())))
	}
	b.WriteString(", mark " + mark + ")\r\n with " + tx.Protocol + " id " + tx.MailID)
	if len(tx.Rcpts) == 1 {
		b.WriteString("\r\n for " + headerText(tx.Rcpts[0].Address.String()))
	}
	b.WriteString("; " + tx.Received.Format("Mon, 2 Jan 2006 15:04:05 -0700 (MST)"))
	return b.String()
}

// addressLiteral is the form of RFC 5321 section 4.1.3.
func addressLiteral(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

// headerText makes foreign text fit for a header value: one line, printable,
// bounded. Bytes that are no UTF-8 and control characters become "?".
func headerText(s string) string {
	return mail.NewReply(451, 0, 0, "%s", s).Text
}
