package listen

// The end of a message that came by milter: what the handler decided goes back
// as edits of the message in the MTA's hands, and one reply.

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/d--j/go-milter"

	"postern/filter/mail"
)

// EndOfMessage has the message processed and answers it.
func (s *milterSession) EndOfMessage(m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	if s.tx == nil || s.message == nil {
		return milter.RespTempFail, nil
	}
	s.noteQueueID(m)
	tx := s.tx
	msg, refusal := s.take()
	if s.many {
		refusal = tooMany
	}
	s.mails++
	tx.ID, tx.Message = messageID(s.id, s.mails), msg
	back := &backCopy{}
	tx.Back = back
	s.tx, s.message = nil, nil

	done := make(chan []mail.Reply, 1)
	go func() {
		replies, late := s.m.proc.process(tx, 1, refusal, func() {})
		if late {
			back.close()
		}
		done <- replies
	}()
	ticker := time.NewTicker(s.m.progress)
	defer ticker.Stop()
	for {
		select {
		case replies := <-done:
			return s.answer(m, tx, back, replies[0]), nil
		case <-ticker.C:
			// version 2 has no such thing; then the MTA's patience decides
			_ = m.Progress()
		}
	}
}

// take ends the spool; refusal is for a message that cannot be taken.
func (s *milterSession) take() (msg *mail.Message, refusal mail.Reply) {
	in := s.message
	s.tx.Size = in.size
	if in.over() {
		return mail.NewMessage(in.head), tooBig
	}
	if in.err == nil {
		msg, in.err = in.spool.Message()
	}
	if in.err != nil {
		s.m.log.Error("message not stored", "session", s.id, "error", in.err)
		return mail.NewMessage(nil), notStored
	}
	return msg, mail.Reply{}
}

// backCopy is the way back: it keeps what passes until the one reply is known.
type backCopy struct {
	mu    sync.Mutex
	late  bool // the reply is out: what comes now goes nowhere
	sent  bool
	edits []headerEdit
	rcpts []mail.Recipient // who is to get it
}

// Send implements mail.Transport. The receipt says that the MTA goes on with the
// message, which it has in its hands.
func (b *backCopy) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]mail.Receipt, len(o.Rcpts))
	for i := range out {
		if !b.sent && !b.late {
			out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 6, 0, "Ok, accepted")}
		} else { // there is one way back for one copy
			out[i] = mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 0, "Error in processing")}
		}
	}
	if !b.sent && !b.late {
		// now: the message is there only as long as the handler runs
		b.sent, b.edits, b.rcpts = true, headerEdits(o), o.Rcpts
	}
	return out
}

// close says that nothing can go back any more.
func (b *backCopy) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = true
}

// answer gives the edits and the decision. Whatever fails here puts the message
// off: the MTA must not go on with half of the edits.
func (s *milterSession) answer(m milter.Modifier, tx *mail.Transaction, back *backCopy, reply mail.Reply) *milter.Response {
	switch {
	case reply.Class() != 2:
		return milterReply(reply)
	case !back.sent: // nobody is to get it, and the client is not to know
		return milter.RespDiscard
	}
	if err := s.edit(m, tx, back); err != nil {
		s.m.log.Error("the MTA does not take our edits", "id", tx.ID, "error", err)
		return milterReply(inError)
	}
	return milter.RespContinue
}

// edit tells the MTA what to change.
func (s *milterSession) edit(m milter.Modifier, tx *mail.Transaction, back *backCopy) error {
	blank := ""
	if s.leading {
		blank = " "
	}
	for _, e := range back.edits {
		var err error
		switch {
		case e.insert:
			err = m.InsertHeader(0, e.name, blank+e.value)
		case e.value == "":
			err = m.ChangeHeader(e.index, e.name, "")
		default:
			err = m.ChangeHeader(e.index, e.name, blank+e.value)
		}
		if err != nil {
			return fmt.Errorf("header field %s: %w", e.name, err)
		}
	}
	gone, added := recipientEdits(tx.Rcpts, back.rcpts)
	for _, i := range gone {
		if err := m.DeleteRecipient(string(tx.Rcpts[i].Address)); err != nil {
			return fmt.Errorf("removing a recipient: %w", err)
		}
	}
	for _, a := range added {
		if err := m.AddRecipient(string(a), ""); err != nil {
			return fmt.Errorf("adding a recipient: %w", err)
		}
	}
	return nil
}

// recipientEdits says how a client gets from the recipients that it named to
// those who are to have the message: which go, as indexes into named, and which
// addresses come. Who was named twice goes once.
func recipientEdits(named, passing []mail.Recipient) (gone []int, added []mail.Address) {
	wanted, there := map[mail.Address]bool{}, map[mail.Address]bool{}
	for _, r := range passing {
		wanted[r.Address] = true
	}
	for i, r := range named {
		if !wanted[r.Address] && !there[r.Address] {
			gone = append(gone, i)
		}
		there[r.Address] = true
	}
	for _, r := range passing {
		if !there[r.Address] {
			there[r.Address] = true
			added = append(added, r.Address)
		}
	}
	return gone, added
}

// headerEdit is one change as a milter says it.
type headerEdit struct {
	insert bool // above the header; else the index-th of its name gets value, or goes if that is empty
	name   string
	index  int
	value  string
}

// headerEdits turns the edits of a message into those of a milter: changes and
// removals from the last field to the first, since some MTAs count anew after a
// removal, then new fields, the topmost last, each at the very top.
func headerEdits(o *mail.Outgoing) []headerEdit {
	var changes, out []headerEdit
	o.EachField(func(f mail.Field, n int, e *mail.Edit) {
		if e == nil || f.Name == "" {
			return
		}
		c := headerEdit{name: f.Name, index: n}
		if e.Op == mail.Replace {
			c.value = e.Folded()
		}
		changes = append(changes, c)
	})
	for i := len(changes) - 1; i >= 0; i-- {
		out = append(out, changes[i])
	}
	for i := len(o.Edits) - 1; i >= 0; i-- {
		if e := &o.Edits[i]; e.Op == mail.Add {
			out = append(out, headerEdit{insert: true, name: e.Name, value: e.Folded()})
		}
	}
	return out
}

// milterReply makes the reply to a client. Postfix takes a malformed one for a
// configuration error, and under milter_default_action=accept the mail would
// pass, so whatever cannot be said is said as a plain delay or refusal.
func milterReply(r mail.Reply) *milter.Response {
	class := r.Class()
	if class != 4 && class != 5 {
		return milter.RespTempFail
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, r.Text)
	if r.Enhanced[0] == class {
		text = r.Status() + " " + text
	}
	resp, err := milter.RejectWithCodeAndReason(uint16(r.Code), text)
	switch {
	case err == nil && validReply(string(resp.Response().Data), r.Code):
		return resp
	case class == 5:
		return milter.RespReject
	}
	return milter.RespTempFail
}

var enhancedCode = regexp.MustCompile(`^\d\.\d{1,3}\.\d{1,3}\b`)

// validReply is Postfix' rule for replies of a milter (milter8.c): each line
// with the same code, a "-" behind it but in the last, CRLF between, one NUL at
// the end, and an enhanced code of the same class if there is one.
func validReply(data string, code int) bool {
	text, ok := strings.CutSuffix(data, "\x00")
	if !ok || strings.ContainsRune(text, 0) {
		return false
	}
	lines := strings.Split(text, "\r\n")
	for i, l := range lines {
		if len(l) < 5 || len(l) > 980 || l[:3] != fmt.Sprint(code) || strings.ContainsAny(l, "\r\n") {
			return false
		}
		if last := i == len(lines)-1; last && l[3] != ' ' || !last && l[3] != '-' {
			return false
		}
		if strings.Count(l, "%")%2 != 0 {
			return false
		}
		if e := enhancedCode.FindString(l[4:]); e != "" && e[0] != l[0] {
			return false
		}
	}
	return true
}
