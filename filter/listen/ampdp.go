package listen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"postern/filter/listen/ampdp"
	"postern/filter/mail"
)

// AMPDPOptions are the settings of an [AMPDP]. The zero value takes requests,
// and puts off every message, since it may read no file.
type AMPDPOptions struct {
	Listener string // as configured, for Transaction.Listener
	// Limits are those of Size, Recipients, Sessions, Idle (the time to wait
	// for a request) and Process, of which no more than 270 s are taken: the
	// MTA behind the client waits 300 s.
	Limits      Limits
	SpoolDir    string // folder of temporary files, see mail.Spool
	SpoolMemory int    // octets of a message kept in memory, see mail.Spool

	// Allow says whether an address may come in, as that of FeedOptions; other
	// sessions are closed. Nil lets in this machine only. Unix sockets, which
	// have permissions, are not asked about.
	Allow func(peer netip.Addr, fromHere bool) bool

	// Folders are absolute paths, for example /var/lib/amavis/tmp. The mail
	// file and the tempdir of a request must lie below one of them, in the
	// words in which it stands here, and belong to its owner, to root or to
	// us.
	Folders []string
	// AllowBanks are the banks that a request may name (policy_bank), for
	// example SMTP_AUTH. Others are ignored and logged.
	AllowBanks []string

	// Release hands a message of the quarantine on, and gives a reply for each
	// recipient, or one if there is none to ask about. Nil: there is no quarantine.
	Release func(context.Context, Release) []mail.Reply

	// Log gets what is wrong with a request. Nil logs nothing.
	Log *slog.Logger
}

// AMPDP answers requests in the policy delegation protocol of Amavis (AM.PDP,
// README.protocol of amavisd-new): amavisd-milter asks what is to become of a
// message that lies in a file, and amavisd-release asks for one in quarantine.
//
// The answer to amavisd-milter has only the attributes that it knows, since
// any other makes it put the message off. With its option -P it lets a message
// pass when it cannot read an answer, even when it has done half of what
// stands there: so an answer leaves in one write, and is short and plain enough
// for its reader.
type AMPDP struct {
	opts   AMPDPOptions
	limits Limits
	log    *slog.Logger
	proc   processor

	*open[*ampdpConn]
}

// ampdpTime bounds the processing of a message. With the grace of the processor
// the answer is there after 280 s: amavisd-milter tells Postfix nothing while
// it waits for us, and Postfix gives up after 300 s (milter_content_timeout).
const ampdpTime = 270 * time.Second

// ampdpRequestTime is the time for a request from its first octet, and for a
// client to read our answer.
const ampdpRequestTime = 60 * time.Second

// NewAMPDP returns a listener that hands its messages to h.
func NewAMPDP(h Handler, o AMPDPOptions) *AMPDP {
	a := &AMPDP{opts: o, limits: o.Limits.withDefaults(), log: o.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var base context.Context
	a.open, base = newOpen[*ampdpConn]()
	a.proc = processor{handler: h, base: base, time: min(a.limits.Process, ampdpTime), grace: overrunGrace, log: a.log}
	return a
}

// Serve accepts sessions from l until Shutdown or Close, after which it
// returns nil, or until l fails. An AMPDP serves one listener.
func (a *AMPDP) Serve(l net.Listener) error {
	return a.serve(l, a.opts.Listener, func() error { return a.accept(l) })
}

// accept takes sessions from l until it fails.
func (a *AMPDP) accept(l net.Listener) error {
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
		case isTemporary(err) && !a.closing.Load():
			// out of descriptors, most likely: sessions that end give some back
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			a.log.Error("accepting a session", "listener", a.opts.Listener, "error", err)
			time.Sleep(pause)
			continue
		default:
			return err
		}
		pause = 0
		c := &ampdpConn{Conn: nc, a: a, id: newSessionID()}
		c.in = bufio.NewReaderSize(nc, ampdp.MaxAttribute)
		c.refs.Store(1)
		if reason := a.admit(c); reason != "" {
			a.log.Warn("session refused", "listener", a.opts.Listener, "peer", nc.RemoteAddr().String(), "reason", reason)
			nc.Close()
			continue
		}
		go c.serve()
	}
}

// isTemporary reports whether a later Accept may work, as net/http does.
func isTemporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// admit registers a new session, or says what is against it.
func (a *AMPDP) admit(c *ampdpConn) (reason string) {
	allowed := true
	if peer, local := addrPort(c.RemoteAddr()).Addr(), addrPort(c.LocalAddr()).Addr(); peer.IsValid() {
		allowed = fromHere(peer, local)
		if a.opts.Allow != nil {
			allowed = a.opts.Allow(peer, allowed)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closing.Load():
		return "Service shutting down"
	case !allowed:
		return "Access denied"
	case len(a.open.sessions) >= a.limits.Sessions:
		return "Too many sessions"
	}
	a.open.sessions[c] = struct{}{}
	return ""
}

// forget gives the slot of a session back.
func (a *AMPDP) forget(c *ampdpConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(c)
}

// ampdpConn is one session: requests, and an answer to each.
type ampdpConn struct {
	net.Conn
	a     *AMPDP
	id    string // log id of the session
	in    *bufio.Reader
	mails int
	refs  atomic.Int32 // the session, and its handler while it runs

	mu      sync.Mutex
	busy    bool // from the first octet of a request to the end of its answer
	closing bool
}

// serve answers requests until the client goes, or says what cannot be read.
func (c *ampdpConn) serve() {
	defer c.release()
	defer c.Close()
	for c.wait() {
		answer, last := c.handle()
		if err := c.put(answer); err != nil {
			// it puts the message off, or lets it pass if it is told to (-P)
			c.a.log.Error("the client has not taken the answer", "session", c.id, "error", err)
			return
		}
		if last || !c.rest() {
			return
		}
	}
}

// release ends the session or the handler; the last gives the slot back.
func (c *ampdpConn) release() {
	if c.refs.Add(-1) == 0 {
		c.a.forget(c)
	}
}

// wait waits for the first octet of a request. False ends the session.
func (c *ampdpConn) wait() bool {
	c.mu.Lock()
	closing := c.closing
	err := c.SetReadDeadline(time.Now().Add(c.a.limits.Idle))
	c.mu.Unlock()
	if closing || err != nil {
		return false
	}
	if _, err := c.in.Peek(1); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
			c.a.log.Warn("reading a request", "session", c.id, "error", err)
		}
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = true
	return c.SetReadDeadline(time.Now().Add(ampdpRequestTime)) == nil
}

// rest ends a request. False ends the session.
func (c *ampdpConn) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	return !c.closing
}

// cut ends the session at once.
func (c *ampdpConn) cut() { c.Conn.Close() }

// interrupt lets the session end when no request is under way.
func (c *ampdpConn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if !c.busy {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// handle reads a request and returns the answer to it. last ends the session.
// A panic becomes a delay.
func (c *ampdpConn) handle() (answer []byte, last bool) {
	c.mails++
	id := messageID(c.id, c.mails)
	defer func() {
		if v := recover(); v != nil {
			c.a.log.Error("panic in session", "session", c.id, "panic", v, "stack", string(debug.Stack()))
			answer, last = delayed(id, inError), true
		}
	}()
	r, err := ampdp.Read(c.in, c.a.limits.Recipients)
	if err != nil {
		c.a.log.Warn("request not understood, closing connection", "session", c.id, "error", err)
		return delayed(id, incomplete), true
	}
	return c.answer(id, r)
}

// put sends an answer.
func (c *ampdpConn) put(answer []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(ampdpRequestTime)); err != nil {
		return err
	}
	_, err := c.Write(answer)
	return err
}

// These say what is wrong with a request; Amavis answers the first so.
var (
	incomplete = mail.NewReply(450, 5, 0, "Incomplete request")
	noMailFile = mail.NewReply(450, 5, 0, "The file of the message cannot be read")
)
