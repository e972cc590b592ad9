package listen

// What the listener refuses by itself, before anybody has seen the message.

import (
	"fmt"

	"postern/filter/mail"
)

// refusal is one such reply. All of them stand in refusals, so that a test can
// provoke each.
type refusal struct {
	mail.Reply

	// mail says that the reply decides about a message: a queue would turn a
	// 5xx into a report to the sender, and here nobody knows yet whether that
	// is a stranger. So it is said to queues as 4xx, and an error in the log.
	mail bool
}

var refusals []*refusal

// aboutMail makes a refusal of a message, a sender or a recipient.
func aboutMail(code, subject, detail int, text string) *refusal {
	return listed(code, subject, detail, text, true)
}

// aboutCommand makes a refusal of what no queue says about a message.
func aboutCommand(code, subject, detail int, text string) *refusal {
	return listed(code, subject, detail, text, false)
}

func listed(code, subject, detail int, text string, mailed bool) *refusal {
	r := &refusal{mail.NewReply(code, subject, detail, "%s", text), mailed}
	refusals = append(refusals, r)
	return r
}

var (
	lineTooLong  = aboutMail(500, 5, 2, "Line too long")
	badSender    = aboutMail(501, 1, 7, "Bad sender address syntax")
	badRecipient = aboutMail(501, 1, 3, "Bad recipient address syntax")
	badSize      = aboutMail(501, 5, 4, "Bad SIZE value")
	badParameter = aboutMail(501, 5, 4, "Control character in a parameter")

	badCharacter = aboutCommand(500, 5, 2, "Control character in command")
	notKnown     = aboutCommand(500, 5, 2, "Command not known")
	nestedMail   = aboutMail(503, 5, 1, "Nested MAIL command")
	noChunking   = aboutCommand(502, 5, 1, "CHUNKING is not offered, closing connection")
	inMail       = aboutCommand(503, 5, 1, "XFORWARD not allowed inside a transaction")
	badAttribute = aboutCommand(501, 5, 4, "Bad XFORWARD attribute syntax")
	noAttribute  = aboutCommand(501, 5, 4, "Syntax: XFORWARD attribute=value...")
)

// These are said only if the handler says so.
var (
	tooBig  = mail.NewReply(552, 3, 4, "Message size exceeds the limit")
	bareLF  = mail.NewReply(550, 6, 11, "Bare <LF> in the message")
	inError = mail.NewReply(451, 3, 0, "Error in processing")

	tooMany   = mail.NewReply(452, 5, 3, "Too many recipients")
	notStored = mail.NewReply(452, 3, 1, "Insufficient system storage")
)

// later turns a refusal of a message into one that may pass.
func later(r mail.Reply) mail.Reply {
	return mail.NewReply(451, r.Enhanced[1], r.Enhanced[2], "%s", r.Text)
}

// refuse answers a command with a refusal.
func (c *feedConn) refuse(r *refusal) { c.refuseAs(r.Reply, r.mail) }

// refuseAs is refuse for what go-smtp says.
func (c *feedConn) refuseAs(r mail.Reply, aboutMail bool) {
	if aboutMail && r.Class() == 5 && !c.f.opts.Proxy {
		c.f.log.Error("the feeding MTA sends what cannot be taken: the message waits in its queue until that gives up",
			"session", c.id, "queue_id", c.client.Ident, "verb", c.verb, "argument", cut(c.arg), "refusal", r.String())
		r = later(r)
	} else {
		c.problem("wrong command", "verb", c.verb, "argument", c.arg, "reply", r.String())
	}
	c.put(r)
	if c.wrong++; c.wrong >= c.f.limits.Errors {
		c.end(mail.NewReply(421, 7, 0, "%s Too many errors", c.f.opts.Hostname))
	}
}

// cut bounds foreign text for the log, whose handler escapes it.
func cut(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%.200s... (%d octets)", s, len(s))
	}
	return s
}
