package reinject

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// session is one connection to a next hop that has said who it is. go-smtp's
// client speaks EHLO, MAIL and RCPT; DATA is ours, because its writer changes
// CR CR LF and goes byte by byte, as are the replies to the final dot, which
// it keeps by address so that equal recipients collapse.
type session struct {
	conn   *conn
	client *smtp.Client
	text   *textproto.Reader
	relay  *Relay

	step      string // what we are at, for people
	mailOpen  bool   // MAIL was accepted and no reply to a final dot came since
	dataBegun bool   // 354 came: a second try could deliver twice
	broken    bool   // not to be kept

	begun time.Time
	uses  int
	idle  *time.Timer // ends the session while it is in the pool
}

// dial connects and says EHLO or LHLO.
func (r *Relay) dial(ctx context.Context) (*session, error) {
	d := net.Dialer{Timeout: r.opts.Timeouts.Connect}
	// Go sets TCP_NODELAY by itself; without it a message in several writes
	// waits 40 ms for the delayed ACK of the next hop.
	nc, err := d.DialContext(ctx, r.hop.Network, r.hop.Address)
	if err != nil {
		return nil, &stepError{step: stepConnect, err: err}
	}
	c := newConn(nc)
	s := &session{conn: c, relay: r, text: textproto.NewReader(bufio.NewReaderSize(c, maxReplyLine)), step: "performing the handshake", begun: r.pool.now()}
	if r.hop.LMTP {
		s.client = smtp.NewClientLMTP(c)
	} else {
		s.client = smtp.NewClient(c)
	}
	s.client.CommandTimeout = r.opts.Timeouts.Command
	stop := context.AfterFunc(ctx, s.abort)
	err = s.client.Hello(r.opts.Helo)
	if !stop() && err != nil {
		err = ctx.Err()
	}
	if err == nil {
		return s, nil
	}
	s.close()
	if rep, ok := asReply(err); ok {
		return nil, &leavingError{reply: rep, greeting: true}
	}
	return nil, s.lost(err)
}

// has reports whether the next hop announced the extension.
func (s *session) has(ext string) bool {
	ok, _ := s.client.Extension(ext)
	return ok
}

// answer turns the result of a command into the next hop's reply. An error
// means that the session is of no use any more.
func (s *session) answer(err error) (reply, error) {
	if err == nil {
		return reply{code: 250}, nil
	}
	rep, ok := asReply(err)
	if !ok {
		return reply{}, s.lost(err)
	}
	return rep, s.usable(rep)
}

// usable returns an error for a reply that ends the conversation.
func (s *session) usable(rep reply) error {
	switch c := rep.class(); {
	case rep.code == 421:
		return &leavingError{step: s.step, reply: rep}
	case c == 4 || c == 5:
		return nil
	}
	return s.lost(fmt.Errorf("reply code %d makes no sense here", rep.code))
}

func (s *session) lost(err error) error {
	s.broken = true
	return &stepError{step: s.step, err: err}
}

// mail sends MAIL.
func (s *session) mail(o *mail.Outgoing, utf8 bool) (reply, error) {
	s.step = "sending MAIL"
	opts := &smtp.MailOptions{UTF8: utf8}
	if s.has("SIZE") {
		opts.Size = o.Size()
	}
	switch ret := o.FromOpts.Return; ret {
	case smtp.DSNReturnFull, smtp.DSNReturnHeaders:
		opts.Return = ret
	}
	if id := o.FromOpts.EnvelopeID; printable(id) {
		opts.EnvelopeID = id
	}
	if s.has("8BITMIME") && !needs8bit(o) {
		s.conn.noBody = len("MAIL FROM:" + o.From.String())
	}
	rep, err := s.answer(s.client.Mail(string(o.From), opts))
	s.mailOpen = err == nil && rep.ok()
	return rep, err
}

// rcpt sends RCPT. go-smtp's client would decode and encode ORCPT anew, knows
// only two of its types, and writes them in upper case.
func (s *session) rcpt(r mail.Recipient) (reply, error) {
	s.step = "sending RCPT"
	line := "RCPT TO:<" + string(r.Address) + ">"
	if s.has("DSN") {
		if n := notify(r.Opts.Notify); len(n) > 0 {
			line += " NOTIFY=" + strings.Join(n, ",")
		}
		if r.ORCPT != "" && printable(string(r.ORCPT)) && !strings.Contains(string(r.ORCPT), " ") {
			line += " ORCPT=" + string(r.ORCPT)
		}
	}
	rep, err := s.command(s.relay.opts.Timeouts.Command, line)
	if err != nil {
		return rep, err
	}
	if rep.ok() {
		return rep, nil
	}
	return rep, s.usable(rep)
}

// data sends DATA; code 354 means go ahead.
func (s *session) data() (reply, error) {
	s.step = "sending DATA"
	rep, err := s.command(s.relay.opts.Timeouts.Data, "DATA")
	if err != nil {
		return rep, err
	}
	s.dataBegun = rep.code == 354
	if s.dataBegun {
		return rep, nil
	}
	return rep, s.usable(rep)
}

// reset ends an open transaction. go-smtp's Reset would say EHLO anew.
func (s *session) reset() error {
	s.step = "sending RSET"
	rep, err := s.command(resetTimeout, "RSET")
	if err == nil && !rep.ok() {
		err = s.lost(fmt.Errorf("reply %d", rep.code))
	}
	s.mailOpen = false
	return err
}

// command sends a line that go-smtp's client has no method for.
func (s *session) command(timeout time.Duration, line string) (reply, error) {
	if err := s.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return reply{}, s.lost(err)
	}
	if _, err := s.conn.Write([]byte(line + "\r\n")); err != nil {
		return reply{}, s.lost(err)
	}
	return s.readReply()
}

func (s *session) readReply() (reply, error) {
	s.conn.lines = 0
	code, lines, err := s.text.ReadResponse(0)
	if err != nil {
		return reply{}, s.lost(err)
	}
	return reply{code: code, lines: lines}, nil
}

// message sends the data and the final dot and returns n replies, fewer with
// an error.
//
// A next hop may refuse while we still write and then stop reading, so the
// first reply is awaited all the time. A reply from before the last block was
// on its way can only be a refusal.
func (s *session) message(o *mail.Outgoing, n int, beforeDot func()) ([]reply, error) {
	s.step = "sending the message"
	early := s.conn.pending()
	var replied, lastBlock atomic.Bool
	var first reply
	var readErr error
	done := make(chan struct{})
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, s.lost(err)
	}
	go func() {
		defer close(done)
		s.conn.lines = 0
		code, lines, err := s.text.ReadResponse(0)
		first, readErr = reply{code: code, lines: lines}, err
		if !lastBlock.Load() {
			replied.Store(true)
		}
		_ = s.conn.SetWriteDeadline(time.Unix(1, 0)) // nothing is left to write for
	}()

	writeErr := writeMessage(o, func(block []byte, last bool) error {
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.relay.opts.Timeouts.Block)); err != nil {
			return err
		}
		// in this order: the reader may have set its deadline before ours
		if replied.Load() {
			return errEarlyReply
		}
		lastBlock.Store(last)
		if last {
			beforeDot()
		}
		_, err := s.conn.Conn.Write(block)
		return err
	})
	readerFirst := replied.Load()
	wait := s.relay.opts.Timeouts.Dot
	if writeErr != nil {
		wait = time.Second // a refusal may be on its way before the broken pipe
	} else if !early {
		s.step = "waiting for the reply to the final dot"
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(wait))
	<-done

	early = early || readerFirst || writeErr != nil
	switch {
	case readErr != nil && writeErr != nil && !readerFirst:
		return nil, s.lost(writeErr)
	case readErr != nil:
		return nil, s.lost(readErr)
	case early && first.class() != 4 && first.class() != 5:
		return nil, s.lost(errUnasked)
	}
	return s.finish(first, n, early)
}

// finish reads what follows the first reply to the data.
func (s *session) finish(first reply, n int, early bool) ([]reply, error) {
	replies := []reply{first}
	for len(replies) < n {
		if early {
			replies = append(replies, first)
			continue
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(s.relay.opts.Timeouts.Dot))
		rep, err := s.readReply()
		if err != nil {
			return replies, err
		}
		replies = append(replies, rep)
	}
	s.mailOpen = false
	for i, rep := range replies {
		if rep.ok() {
			continue
		}
		// It may have come before the dot was read, nobody can tell.
		s.broken = true
		if c := rep.class(); c != 4 && c != 5 {
			return replies[:i], s.lost(fmt.Errorf("reply code %d makes no sense here", rep.code))
		}
	}
	return replies, nil
}

// abort makes every read and write fail; any goroutine may call it.
func (s *session) abort() { _ = s.conn.Close() }

// close hangs up.
func (s *session) close() { _ = s.conn.Close() }

// quit says goodbye first.
func (s *session) quit() {
	s.client.CommandTimeout = time.Second
	_ = s.client.Quit()
	s.close()
}
