package listen

// The answers to AM.PDP requests: in the words that amavisd-milter knows
// (mlfi.c, amavisd.c), in the order in which Amavis says them.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"postern/filter/listen/ampdp"
	"postern/filter/mail"
)

// answer does what a request asks and returns the answer. last ends the
// session: a handler still runs.
func (c *ampdpConn) answer(id string, r *ampdp.Request) (answer []byte, last bool) {
	switch request := strings.ToLower(r.Get("request")); request {
	case "am.pdp":
	case "release", "requeue", "report":
		return c.answerRelease(id, request, r), false
	default:
		c.a.log.Warn("unknown request", "id", id, "request", cut(request))
		return delayed(id, incomplete), false
	}
	check, err := newAMPDPCheck(r, c.a.opts.Listener, c.a.opts.AllowBanks)
	if err != nil {
		c.a.log.Warn("request not understood", "id", id, "queue_id", shown(r.Get("queue_id")), "error", err)
		return delayed(id, incomplete), false
	}
	if check.tempdir != "" {
		defer func() {
			if err := ampdp.RemoveTempdir(c.a.opts.Folders, check.tempdir); err != nil {
				c.a.log.Error("folder of the request not removed", "id", id, "error", err)
			}
		}()
	}
	if len(check.ignored) > 0 {
		c.a.log.Info("the request names banks that it may not choose", "id", id, "banks", check.ignored)
	}
	if mangled(check.sender) || slices.ContainsFunc(check.rcpts, mangled) {
		c.a.log.Warn("the client has garbled an address that is not ASCII", "id", id, "queue_id", check.tx.Client.Ident)
	}
	return c.check(id, check, r.Many)
}

// check has a message processed.
func (c *ampdpConn) check(id string, check *ampdpCheck, many bool) (answer []byte, last bool) {
	tx := check.tx
	tx.ID, tx.LocalAddr, tx.PeerAddr = id, addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	msg, refusal := c.take(check)
	if many {
		refusal = tooMany
	}
	tx.Message = msg
	var back *ampdpBack
	if !check.forward {
		back = &ampdpBack{id: id, log: c.a.log, all: tx.Rcpts, raw: check.rcpts}
		tx.Back = back
	}
	c.refs.Add(1)
	replies, late := c.a.proc.process(tx, 1, refusal, c.release)
	if back == nil {
		// what a next hop has is no more the client's
		return decision(id, replies[0], false, nil), late
	}
	edits, sent := back.end()
	return decision(id, replies[0], sent, edits), late
}

// take reads the message; refusal is for one that cannot be taken.
func (c *ampdpConn) take(check *ampdpCheck) (msg *mail.Message, refusal mail.Reply) {
	a := c.a
	failed := func(what string, err error, refusal mail.Reply) (*mail.Message, mail.Reply) {
		a.log.Error(what, "id", check.tx.ID, "queue_id", check.tx.Client.Ident, "error", err)
		return mail.NewMessage(nil), refusal
	}
	file, size, err := ampdp.OpenMail(a.opts.Folders, check.file)
	if err != nil {
		return failed("message not read", err, noMailFile)
	}
	defer file.Close()
	in := &incoming{spool: mail.Spool{Dir: a.opts.SpoolDir, Memory: a.opts.SpoolMemory}, limit: a.limits.Size}
	defer in.spool.Discard()
	if err := check.fetch(in, file); err != nil {
		return failed("message not read", err, noMailFile)
	}
	check.tx.Size = in.size
	if in.over() {
		check.tx.Size = max(in.size, size)
		return mail.NewMessage(in.head), tooBig
	}
	if in.err == nil {
		msg, in.err = in.spool.Message()
	}
	if in.err != nil {
		return failed("message not stored", in.err, notStored)
	}
	return msg, mail.Reply{}
}

// ampdpBack is the way back: it makes one copy into the lines of an answer.
type ampdpBack struct {
	id  string
	log *slog.Logger
	all []mail.Recipient
	raw []string // how the client names them

	mu   sync.Mutex // guards what follows
	over bool       // sent, or answered without it
	sent bool
	said []byte
}

// Send implements mail.Transport. The receipt says that the MTA goes on with the
// message, which it has in its hands. What comes after the answer, or cannot be
// said to the client, is put off.
func (b *ampdpBack) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	receipt := mail.Receipt{Disposal: mail.Deferred, Reply: inError}
	if !b.over {
		said, err := b.edits(o)
		if err != nil {
			b.log.Error("the client cannot be told our edits", "id", b.id, "error", err)
		} else {
			b.over, b.sent, b.said = true, true, said
			receipt = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 6, 0, "Ok, accepted")}
		}
	}
	out := make([]mail.Receipt, len(o.Rcpts))
	for i := range out {
		out[i] = receipt
	}
	return out
}

// end closes the way back and returns what went by it.
func (b *ampdpBack) end() (said []byte, sent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return b.said, b.sent
}

// edits says who is not to get the message, and what changes in its header.
func (b *ampdpBack) edits(o *mail.Outgoing) ([]byte, error) {
	var s saying
	gone, added := recipientEdits(b.all, o.Rcpts)
	for _, i := range gone {
		if mangled(b.raw[i]) {
			return nil, errors.New("a recipient is to be removed whose address the client has garbled")
		}
		s.say("delrcpt", b.raw[i])
	}
	for _, a := range added {
		s.say("addrcpt", a.String())
	}
	for _, e := range headerEdits(o) {
		// the client has folds without CR, as milters do
		value := strings.ReplaceAll(e.value, "\r\n", "\n")
		switch {
		case e.insert:
			s.say("insheader", "0", e.name, value)
		case value == "":
			s.say("delheader", strconv.Itoa(e.index), e.name)
		default:
			s.say("chgheader", strconv.Itoa(e.index), e.name, value)
		}
	}
	return s.out.Bytes(), s.err
}

// maxSaid bounds a line of an answer. amavisd-milter reads up to 64 KiB; a
// longer one it takes for the loss of the connection, after it has done what
// stands above.
const maxSaid = 60 << 10

// saying collects the lines of an answer.
type saying struct {
	out bytes.Buffer
	err error // for a line that is too long
}

// say adds a line: the name, and fields that a blank separates.
func (s *saying) say(name string, fields ...string) {
	start := s.out.Len()
	s.out.WriteString(name)
	for i, f := range fields {
		s.out.WriteByte("= "[min(i, 1)])
		for _, c := range []byte(f) {
			switch {
			case c == 0: // would end the line in the client
				s.out.WriteByte('?')
			case c <= ' ' || c > '~' || c == '%':
				fmt.Fprintf(&s.out, "%%%02x", c)
			default:
				s.out.WriteByte(c)
			}
		}
	}
	s.out.Write(crlf)
	if n := s.out.Len() - start; n > maxSaid {
		s.err = fmt.Errorf("%s of %d octets is too long for the client", name, n)
	}
}

// decision is the answer to a check request. If the reply accepts the message, it
// goes on in the MTA with the edits, or it is done with.
func decision(id string, r mail.Reply, goesOn bool, edits []byte) []byte {
	result, code := "tempfail", "75" // EX_TEMPFAIL
	switch r.Class() {
	case 2:
		if result, code = "discard", "99"; goesOn {
			result, code = "continue", "0"
		}
	case 5:
		result, code = "reject", "69" // EX_UNAVAILABLE
	case 4:
	default:
		r = inError
	}
	var s saying
	s.say("version_server", "2")
	s.say("log_id", id)
	s.say("setreply", replyFields(r)...)
	if result == "continue" {
		s.out.Write(edits)
	}
	s.say("return_value", result)
	s.say("exit_code", code)
	s.out.Write(crlf)
	return s.out.Bytes()
}

// delayed is the answer that puts a message off.
func delayed(id string, r mail.Reply) []byte { return decision(id, r, false, nil) }

// maxSetreply is what libmilter takes as the text of a reply (MAXREPLYLEN).
const maxSetreply = 980

// replyFields are code, enhanced code and text as libmilter takes them: printable
// ASCII, and each "%" doubled, since the MTA halves them.
func replyFields(r mail.Reply) []string {
	var text strings.Builder
	for _, c := range printable(r.Text) {
		piece := string(c)
		switch {
		case c > '~':
			piece = "?"
		case c == '%':
			piece = "%%"
		}
		if text.Len()+len(piece) > maxSetreply {
			break
		}
		text.WriteString(piece)
	}
	status := r.Status()
	if !enhancedCode.MatchString(status) || r.Enhanced[0] != r.Class() {
		status = fmt.Sprintf("%d.0.0", r.Class())
	}
	return []string{strconv.Itoa(r.Code), status, text.String()}
}

// Release is what a client wants from the quarantine.
type Release struct {
	MailID  string // or the path of the log
	Secret  string // secret_id
	To      []mail.Address
	By      string // who wants it, as the client says
	Requeue bool   // judged anew, as if it came now
}

// answerRelease has a message released: one reply for each recipient, or one for
// all.
func (c *ampdpConn) answerRelease(id, request string, r *ampdp.Request) []byte {
	q := Release{MailID: r.Get("mail_id"), Secret: r.Get("secret_id"), By: shown(r.Get("requested_by")), Requeue: request == "requeue"}
	err := r.Wrong
	for _, raw := range r.All("recipient") {
		a, bad := ampdpAddress(raw)
		if bad != nil || a == "" {
			err = errors.Join(err, fmt.Errorf("recipient %s: want an address", cut(raw)))
			continue
		}
		q.To = append(q.To, a)
	}
	if err != nil || q.MailID == "" {
		c.a.log.Warn("request not understood", "id", id, "error", err)
		return reply450(id, "Incomplete request")
	}
	replies := []mail.Reply{mail.NewReply(450, 5, 0, "Cannot %s, id=%s: there is no quarantine", request, id)}
	if request == "report" {
		replies = []mail.Reply{mail.NewReply(450, 5, 1, "Cannot report, id=%s: not offered here", id)}
	} else if c.a.opts.Release != nil {
		ctx, cancel := context.WithTimeout(c.a.proc.base, c.a.proc.time)
		defer cancel()
		replies = c.a.opts.Release(ctx, q)
	}
	var s saying
	for _, reply := range replies {
		c.a.log.Info("release from the quarantine", "id", id, "request", request, "mail_id", cut(printable(q.MailID)), "by", q.By, "reply", reply.String())
		s.say("setreply", replyFields(reply)...)
	}
	s.out.Write(crlf)
	return s.out.Bytes()
}

// reply450 is an answer of one reply.
func reply450(id, text string) []byte {
	var s saying
	s.say("setreply", replyFields(mail.NewReply(450, 5, 0, "%s, id=%s", text, id))...)
	s.out.Write(crlf)
	return s.out.Bytes()
}
