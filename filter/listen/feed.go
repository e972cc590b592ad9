package listen

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// Limits bound what one feed accepts. A zero field means its default.
type Limits struct {
	// Size is the number of octets of a message as RFC 1870 counts them; for
	// a larger one 552 5.3.4 is what there is to say. Default 100 MiB, more than the feeding
	// Postfix usually lets through (message_size_limit).
	Size int64
	// Recipients of one message; the next gets 452 4.5.3, and Postfix sends
	// the rest in another transaction. Default 1000.
	Recipients int
	// Sessions at a time; the next gets 421 4.3.2. Default 100.
	Sessions int
	// PeerSessions at a time from one IP address of another machine; those
	// from this one and over Unix sockets count only for Sessions: the MTA
	// here is one client for all mail. Default 50.
	PeerSessions int
	// Errors is the number of wrong commands after which a session is closed
	// with 421. A message in between sets the count back. Default 20.
	Errors int
	// Idle is the time to wait for a command, and for a peer that does not
	// read our replies. Default 300 s.
	Idle time.Duration
	// Data is how long the peer may fall behind MinRate while it sends a
	// message, and so the longest pause between two blocks. Default 180 s.
	Data time.Duration
	// MinRate is the number of octets per 30 s that a peer must send of a
	// message. Default 1 KiB.
	MinRate int
	// Process is the time that the handler has for one message, from the
	// final dot. It must end well before Postfix' lmtp_data_done_timeout.
	// Default 480 s.
	Process time.Duration
}

func (l Limits) withDefaults() Limits {
	l.Size = cmp.Or(l.Size, 100<<20)
	l.Recipients = cmp.Or(l.Recipients, 1000)
	l.Sessions = cmp.Or(l.Sessions, 100)
	l.PeerSessions = cmp.Or(l.PeerSessions, 50)
	l.Errors = cmp.Or(l.Errors, 20)
	l.Idle = cmp.Or(l.Idle, 300*time.Second)
	l.Data = cmp.Or(l.Data, 180*time.Second)
	l.MinRate = cmp.Or(l.MinRate, 1024)
	l.Process = cmp.Or(l.Process, 480*time.Second)
	return l
}

// FeedOptions are the settings of a [Feed]. The zero value works.
type FeedOptions struct {
	Listener    string // as configured, for Transaction.Listener
	Hostname    string // for the greeting, the host name of the machine if empty
	Limits      Limits
	SpoolDir    string // folder of temporary files, see mail.Spool
	SpoolMemory int    // octets of a message kept in memory, see mail.Spool

	// Allow says whether an address may come in (Amavis: @inet_acl), and is
	// told whether it is one of this machine; the others get 421. Nil lets in
	// this machine only. It is asked at the start of each session, and not
	// about Unix sockets, which have permissions.
	Allow func(peer netip.Addr, fromHere bool) bool

	// RefuseBareLF refuses a message with an LF that has no CR before it
	// (550 5.6.11). Otherwise such an LF becomes CRLF, as with Postfix'
	// smtpd_forbid_bare_newline=normalize.
	RefuseBareLF bool

	// Proxy says that the feed is Postfix' smtpd before its queue
	// (smtpd_proxy_filter): it hands our replies to the client, so they may
	// refuse, and LHLO is not known.
	Proxy bool

	// Log gets what is wrong with a session, and no line for a session in
	// order. Nil logs nothing.
	Log *slog.Logger
}

// Feed takes messages by LMTP and SMTP from one listener: LHLO and EHLO are
// both answered, each in its own way. go-smtp speaks the dialogue, through a
// [feedConn].
type Feed struct {
	proc   processor
	opts   FeedOptions
	limits Limits
	log    *slog.Logger
	server *smtp.Server

	*open[*feedConn]
	peers map[netip.Addr]int // sessions by client; open.mu guards it
}

// NewFeed returns a feed that hands its messages to h.
func NewFeed(h Handler, o FeedOptions) *Feed {
	f := &Feed{
		opts:   o,
		limits: o.Limits.withDefaults(),
		log:    o.Log,
		peers:  map[netip.Addr]int{},
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.opts.Hostname == "" {
		f.opts.Hostname, _ = os.Hostname()
	}
	var base context.Context
	f.open, base = newOpen[*feedConn]()
	f.proc = processor{handler: h, base: base, time: f.limits.Process, grace: overrunGrace, log: f.log}

	f.server = smtp.NewServer(smtp.BackendFunc(func(sc *smtp.Conn) (smtp.Session, error) {
		return feedSession{sc.Conn().(*feedConn)}, nil
	}))
	f.server.Domain = f.opts.Hostname
	f.server.MaxMessageBytes = 0 // announced, it has the feeding MTA tell the sender of a larger one
	f.server.MaxLineLength = 0   // the conn bounds command lines, and go-smtp sees no data
	f.server.EnableSMTPUTF8 = true
	f.server.EnableDSN = true
	f.server.ErrorLog = slog.NewLogLogger(f.log.Handler(), slog.LevelError)
	return f
}

// Serve accepts sessions from l until Shutdown or Close, after which it
// returns nil, or until l fails. A Feed serves one listener.
func (f *Feed) Serve(l net.Listener) error {
	return f.serve(l, f.opts.Listener, func() error { return f.server.Serve(gate{l, f}) })
}

// gate is the listener that go-smtp accepts from: it lets in what the limits
// on sessions allow.
type gate struct {
	net.Listener
	f *Feed
}

func (g gate) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, refused := g.f.admit(nc)
		if c != nil {
			return c, nil
		}
		args := []any{"listener", g.f.opts.Listener, "peer", nc.RemoteAddr().String(), "reason", refused.reason}
		if refused.hint != "" {
			args = append(args, "hint", refused.hint)
		}
		g.f.log.Warn("session refused", args...)
		// the send buffer of a new connection is empty: this does not block
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		fmt.Fprintf(nc, "421 %s %s %s\r\n", refused.code, g.f.opts.Hostname, refused.reason)
		nc.Close()
	}
}

// denial says why a session is not let in.
type denial struct{ code, reason, hint string }

// admit registers a new session, or returns nil and what is against it.
func (f *Feed) admit(nc net.Conn) (*feedConn, denial) {
	c := newFeedConn(nc, f)
	peer := c.peer.Addr()
	own := !peer.IsValid() || c.fromHere()
	allowed := own
	if f.opts.Allow != nil && peer.IsValid() {
		allowed = f.opts.Allow(peer, own)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closing.Load():
		return nil, denial{"4.3.2", "Service shutting down", ""}
	case !allowed:
		return nil, denial{"4.7.1", "Access denied", "allow of the listener names who may come in"}
	case len(f.open.sessions) >= f.limits.Sessions:
		return nil, denial{"4.3.2", "Too many sessions", ""}
	case !own && f.peers[peer] >= f.limits.PeerSessions:
		return nil, denial{"4.3.2", "Too many sessions from your address", ""}
	}
	f.open.sessions[c] = struct{}{}
	if !own {
		c.counted = peer
		f.peers[peer]++
	}
	return c, denial{}
}

// fromHere reports whether the peer is on this machine.
func (c *feedConn) fromHere() bool { return fromHere(c.peer.Addr(), c.local.Addr()) }

func fromHere(peer, local netip.Addr) bool {
	if peer.IsLoopback() || peer == local {
		return true
	}
	// what cannot be told is another machine
	own, _ := net.InterfaceAddrs()
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == peer.WithZone("") {
			return true
		}
	}
	return false
}

// forget gives back the slot of a session.
func (f *Feed) forget(c *feedConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if peer := c.counted; peer.IsValid() {
		if f.peers[peer]--; f.peers[peer] == 0 {
			delete(f.peers, peer)
		}
	}
	f.remove(c)
}

// sessions counts the sessions of all listeners: together with the process id
// it makes a log id, so it is one number for the process.
var sessions atomic.Uint64

// newSessionID returns the log id of a new session, "pid-count" as Amavis
// writes it, for example "08643-02".
func newSessionID() string {
	return fmt.Sprintf("%05d-%02d", os.Getpid(), sessions.Add(1))
}

// messageID returns the log id of the n-th message of a session, counted from
// 1: "08643-02", "08643-02-2", "08643-02-3".
func messageID(session string, n int) string {
	if n == 1 {
		return session
	}
	return fmt.Sprintf("%s-%d", session, n)
}
