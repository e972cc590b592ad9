package listen

import (
	"io"
	"math"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// feedSession is the side of a session that go-smtp calls: the transaction.
// Addresses come from the conn, go-smtp has only a stand-in.
type feedSession struct{ *feedConn }

// Reset ends the transaction and forgets the client: XFORWARD holds for one
// message (Postfix' XFORWARD_README).
func (s feedSession) Reset() {
	s.tx, s.client = nil, mail.Client{}
}

// Logout has nothing to free.
func (s feedSession) Logout() error { return nil }

// Mail opens the transaction. That an address is not ASCII is no matter, with
// SMTPUTF8 or without: Postfix takes such mail (strict_smtputf8 is "no"), and a
// refusal here would bounce it.
func (s feedSession) Mail(_ string, opts *smtp.MailOptions) error {
	// A SIZE over the limit is no reason to refuse here: who may hear of it
	// depends on the header.
	if s.tx != nil {
		return nestedMail.SMTP()
	}
	s.tx = &mail.Transaction{
		Received:  time.Now(),
		Input:     mail.InputSMTP,
		Protocol:  s.protocol(opts.UTF8),
		Listener:  s.f.opts.Listener,
		LocalAddr: s.local,
		PeerAddr:  s.peer,
		Helo:      s.helo,
		Client:    s.client,
		From:      s.path,
		FromOpts:  *opts,
	}
	switch {
	case s.f.opts.Proxy:
		s.tx.Input = mail.InputProxy
	case s.hello == "LHLO":
		s.tx.Input = mail.InputLMTP
	}
	s.tx.FromOpts.Size = int64(min(s.size, math.MaxInt64))
	return nil
}

// protocol returns the word for "with" in Received (RFC 3848, RFC 6531
// section 4.3).
func (s feedSession) protocol(utf8 bool) string {
	switch {
	case s.hello == "LHLO" && utf8:
		return "UTF8LMTP"
	case s.hello == "LHLO":
		return "LMTP"
	case utf8:
		return "UTF8SMTP"
	case s.hello == "EHLO":
		return "ESMTP"
	}
	return "SMTP"
}

// Rcpt adds a recipient.
func (s feedSession) Rcpt(_ string, opts *smtp.RcptOptions) error {
	if len(s.tx.Rcpts) >= s.f.limits.Recipients {
		return tooMany.SMTP()
	}
	s.tx.Rcpts = append(s.tx.Rcpts, mail.Recipient{Address: s.path, Opts: *opts, ORCPT: s.orcpt})
	return nil
}

// Data reads the message and has it processed. go-smtp has sent 354 (it waits
// in our buffer), reads an empty message afterwards and writes a reply, for
// which feedConn sends the final replies.
func (s feedSession) Data(io.Reader) error {
	s.setInData(true)
	msg, refusal, err := s.receive()
	if err != nil {
		s.fail(err)
		return inError.SMTP()
	}
	s.mails++
	s.tx.ID = messageID(s.id, s.mails)
	want := 1
	if !s.tx.Input.OneReply() {
		want = len(s.tx.Rcpts)
	}
	s.tx.Message = msg
	s.finals = s.process(s.tx, want, refusal)
	s.line = []byte(".\r\n")
	return s.finals[0].SMTP()
}

// receive reads the message to its end. An error means that the end was not
// seen; a refusal is for a message that was read and cannot be taken: then msg
// is what there is of it.
func (s feedSession) receive() (msg *mail.Message, refusal mail.Reply, err error) {
	o := &s.f.opts
	m := incoming{spool: mail.Spool{Dir: o.SpoolDir, Memory: o.SpoolMemory}, limit: s.f.limits.Size}
	defer m.spool.Discard()
	var d dataDecoder
	s.due = time.Now().Add(s.f.limits.Data)
	for end := false; !end; {
		if _, err := s.in.Peek(1); err != nil {
			return nil, refusal, err
		}
		b, _ := s.in.Peek(s.in.Buffered())
		var n int
		n, end = d.decode(&m, b)
		s.in.Discard(n)
	}
	s.tx.Size = m.size
	switch {
	case m.err == nil && !m.over():
		msg, m.err = m.spool.Message()
	case m.over():
		return mail.NewMessage(m.head), tooBig, nil
	}
	switch {
	case m.err != nil:
		s.f.log.Error("message not stored", "session", s.id, "error", m.err)
		return mail.NewMessage(nil), notStored, nil
	case d.bareLF && o.RefuseBareLF:
		return msg, bareLF, nil
	}
	return msg, mail.Reply{}, nil
}

// process has the message processed and returns want replies; refusal is zero
// for a message that can be taken. After one that took too long the session
// ends, but keeps its slot until the handler returns, so that hanging handlers
// do not pile up.
func (s feedSession) process(tx *mail.Transaction, want int, refusal mail.Reply) []mail.Reply {
	s.flush()
	s.refs.Add(1)
	replies, late := s.f.proc.process(tx, want, refusal, s.release)
	s.overrun = late
	return replies
}
