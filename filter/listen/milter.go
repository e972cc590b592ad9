package listen

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/d--j/go-milter"
	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// MilterOptions are the settings of a [Milter]. The zero value works.
type MilterOptions struct {
	Listener    string // as configured, for Transaction.Listener
	Limits      Limits // Size, Recipients, Sessions, Process
	SpoolDir    string // folder of temporary files, see mail.Spool
	SpoolMemory int    // octets of a message kept in memory, see mail.Spool

	// LocalBank is a bank for mail without a connection, see
	// [mail.InputLocal]; empty: none.
	LocalBank string
	// Fits, if not nil, is asked at each recipient whether it may share the
	// message with those before it. One that may not gets 452, and the client
	// sends to it in another transaction.
	Fits func(ctx context.Context, tx *mail.Transaction) bool

	// Allow says whether a peer may come in, see [FeedOptions].
	Allow func(peer netip.Addr, fromHere bool) bool

	// Log gets what is wrong with a session. Nil logs nothing.
	Log *slog.Logger
}

// Milter takes messages from the smtpd and the cleanup of an MTA while its
// client waits (milter protocol 2 to 6). go-milter speaks the protocol, through
// a [milterConn]; what is said to whom is decided at the end of each message
// and at its recipients, never before.
type Milter struct {
	opts   MilterOptions
	limits Limits
	log    *slog.Logger
	proc   processor
	server *milter.Server

	progress time.Duration // how often the MTA is told that we are at work

	*open[*milterConn]
}

// milterIdle is how long an MTA may say nothing. Its own client may be silent
// for minutes between two commands; libmilter waits as long.
const milterIdle = 2 * time.Hour

// progressEvery is how often the MTA is told that a message is being looked at:
// Postfix waits 300 s for each reply (milter_content_timeout).
const progressEvery = 60 * time.Second

// milterActions are what we may do to a message; milterReplies are the events
// that we do not answer, which saves the MTA the wait.
const (
	milterActions = milter.OptAddHeader | milter.OptChangeHeader | milter.OptAddRcpt | milter.OptRemoveRcpt
	milterReplies = milter.OptNoConnReply | milter.OptNoHeloReply | milter.OptNoMailReply | milter.OptNoDataReply |
		milter.OptNoUnknownReply | milter.OptNoHeaderReply | milter.OptNoEOHReply
	milterWishes = milterReplies | milter.OptSkip | milter.OptHeaderLeadingSpace
)

// errActions is for an MTA under which we could not mark a message.
var errActions = errors.New("the MTA lets a milter change no header, or remove no recipient")

// quietLibrary takes go-milter's own log lines: what is wrong with a packet is
// no more than a session that ends, which the MTA reports.
var quietLibrary = sync.OnceFunc(func() { milter.LogWarning = func(string, ...any) {} })

// NewMilter returns a milter that hands its messages to h.
func NewMilter(h Handler, o MilterOptions) *Milter {
	quietLibrary()
	m := &Milter{opts: o, limits: o.Limits.withDefaults(), log: o.Log, progress: progressEvery}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	var base context.Context
	m.open, base = newOpen[*milterConn]()
	m.proc = processor{handler: h, base: base, time: m.limits.Process, grace: overrunGrace, log: m.log}
	m.server = milter.NewServer(
		milter.WithActions(milterActions), milter.WithProtocols(milterWishes), milter.WithoutDefaultMacros(),
		milter.WithNegotiationCallback(negotiate),
		milter.WithDynamicMilter(func(_ uint32, _ milter.OptAction, p milter.OptProtocol, _ milter.DataSize) milter.Milter {
			return &milterSession{m: m, id: newSessionID(), leading: p&milter.OptHeaderLeadingSpace != 0, skips: p&milter.OptSkip != 0}
		}))
	return m
}

// negotiate answers a subset of what the MTA offers: anything else ends the
// session of Postfix.
func negotiate(mta, ours uint32, actions, _ milter.OptAction, protocol, _ milter.OptProtocol, _ milter.DataSize) (uint32, milter.OptAction, milter.OptProtocol, milter.DataSize, error) {
	if actions&milterActions != milterActions {
		return 0, 0, 0, 0, errActions
	}
	return min(mta, ours), milterActions, protocol & milterWishes, milter.DataSize64K, nil
}

// Serve accepts sessions from l until Shutdown or Close, after which it
// returns nil, or until l fails. A Milter serves one listener.
func (m *Milter) Serve(l net.Listener) error {
	return m.serve(l, m.opts.Listener, func() error { return m.server.Serve(milterGate{l, m}) })
}

// milterGate lets in what the limit on sessions allows.
type milterGate struct {
	net.Listener
	m *Milter
}

// Accept implements net.Listener.
func (g milterGate) Accept() (net.Conn, error) {
	for pause := time.Duration(0); ; {
		nc, err := g.Listener.Accept()
		if err != nil && isTemporary(err) {
			// out of descriptors, most likely: sessions that end give some back
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			g.m.log.Error("accepting a session", "listener", g.m.opts.Listener, "error", err)
			time.Sleep(pause)
			continue
		}
		if err != nil {
			return nil, err
		}
		pause = 0
		c := &milterConn{Conn: nc, idle: milterIdle}
		reason := g.m.admit(c)
		if reason == "" {
			return c, nil
		}
		g.m.log.Warn("session refused", "listener", g.m.opts.Listener, "peer", nc.RemoteAddr().String(), "reason", reason)
		nc.Close()
	}
}

// admit registers a new session, or returns the reason against it.
func (m *Milter) admit(c *milterConn) string {
	peer := addrPort(c.RemoteAddr()).Addr()
	if peer.IsValid() {
		here := fromHere(peer, addrPort(c.LocalAddr()).Addr())
		if allow := m.opts.Allow; allow == nil && !here || allow != nil && !allow(peer, here) {
			return "access denied: allow of the listener names who may come in"
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closing.Load():
		return "shutting down"
	case len(m.open.sessions) >= m.limits.Sessions:
		return "too many sessions"
	}
	m.open.sessions[c] = struct{}{}
	c.onClose = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.remove(c)
	}
	return ""
}

// milterSession is the side of a session that go-milter calls. It answers
// every event with "continue" until the end of the message: an earlier
// "accept" means that the MTA shows nothing more of it.
type milterSession struct {
	m       *Milter
	id      string
	leading bool // header values have their blank, and ours must bring it
	skips   bool // the MTA takes "skip"

	client mail.Client
	daemon string
	local  bool // mail without a connection
	mails  int

	tx      *mail.Transaction // nil between two messages
	message *incoming
	many    bool // more recipients than allowed, of mail without a connection
}

// safely makes a delay of a panic: the library would end the process.
func (s *milterSession) safely(resp **milter.Response) {
	if v := recover(); v != nil {
		s.m.log.Error("panic in session", "session", s.id, "panic", v, "stack", string(debug.Stack()))
		*resp = milter.RespTempFail
	}
}

// NewConnection implements milter.Milter.
func (s *milterSession) NewConnection(milter.Modifier) error {
	s.reset()
	s.client, s.daemon, s.local = mail.Client{}, "", false
	return nil
}

// Connect keeps who the client is: by the event, not by a macro. A name that was
// not verified comes as "[address]", and is none.
func (s *milterSession) Connect(host, family string, port uint16, addr string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	s.reset()
	s.client = mail.Client{}
	if a, err := netip.ParseAddr(addr); err == nil && family != "unix" {
		s.client.Addr, s.client.Port = a.Unmap().WithZone(""), port
	}
	if !strings.HasPrefix(host, "[") && host != "unknown" {
		s.client.Name = xtext(host)
	}
	s.daemon = m.Get(milter.MacroDaemonName)
	s.local = port == 0 && s.client.Addr.IsLoopback() && strings.EqualFold(host, "localhost")
	return milter.RespContinue, nil
}

// Helo keeps the name; it comes again after STARTTLS.
func (s *milterSession) Helo(name string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	s.client.Helo = strings.ToValidUTF8(name, "?")
	s.client.TLS = m.Get(milter.MacroTlsVersion)
	return milter.RespContinue, nil
}

// MailFrom opens the transaction.
func (s *milterSession) MailFrom(from, args string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	s.reset()
	if v := m.Get(milter.MacroTlsVersion); v != "" {
		s.client.TLS = v
	}
	s.client.Login, s.client.AuthType = m.Get(milter.MacroAuthAuthen), m.Get(milter.MacroAuthType)
	s.tx = &mail.Transaction{
		Received: time.Now(), Input: mail.InputMilter, Protocol: "ESMTP", Listener: s.m.opts.Listener,
		Client: s.client, Daemon: s.daemon, From: mail.Address(from), FromOpts: mailOptions(args),
	}
	if s.client.TLS != "" {
		s.tx.Protocol += "S"
	}
	if s.client.Login != "" {
		s.tx.Protocol += "A"
	}
	if s.local {
		s.tx.Input, s.tx.Protocol = mail.InputLocal, "SMTP"
		if b := s.m.opts.LocalBank; b != "" {
			s.tx.Banks = []string{b}
		}
	}
	s.message = &incoming{spool: mail.Spool{Dir: s.m.opts.SpoolDir, Memory: s.m.opts.SpoolMemory}, limit: s.m.limits.Size}
	s.noteQueueID(m)
	return milter.RespContinue, nil
}

// noteQueueID takes the queue id as soon as the MTA has it: Postfix opens the
// queue file with the first good recipient.
func (s *milterSession) noteQueueID(m milter.Modifier) {
	if id := m.Get(milter.MacroQueueId); id != "" && s.tx != nil {
		s.tx.Client.Ident = xtext(id)
	}
}

// mailOptions reads the ESMTP arguments of MAIL. The MTA has judged them.
func mailOptions(args string) (o smtp.MailOptions) {
	for _, arg := range strings.Fields(args) {
		name, value, _ := strings.Cut(arg, "=")
		switch strings.ToUpper(name) {
		case "SIZE":
			o.Size, _ = strconv.ParseInt(value, 10, 64)
		case "BODY":
			o.Body = smtp.BodyType(strings.ToUpper(value))
		case "SMTPUTF8":
			o.UTF8 = true
		case "RET":
			o.Return = smtp.DSNReturn(strings.ToUpper(value))
		case "ENVID":
			o.EnvelopeID = mail.Xtext(value)
		}
	}
	return o
}

// rcptOptions reads those of RCPT.
func rcptOptions(args string) (o smtp.RcptOptions, orcpt mail.ORCPT) {
	for _, arg := range strings.Fields(args) {
		name, value, _ := strings.Cut(arg, "=")
		switch strings.ToUpper(name) {
		case "NOTIFY":
			for _, n := range strings.Split(strings.ToUpper(value), ",") {
				o.Notify = append(o.Notify, smtp.DSNNotify(n))
			}
		case "ORCPT":
			orcpt = mail.ORCPT(value)
		}
	}
	return o, orcpt
}

// RcptTo adds a recipient. A refusal concerns that one only; mail without a
// connection must not be refused here, Postfix would try for ever.
func (s *milterSession) RcptTo(to, args string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	if s.tx == nil {
		return milter.RespTempFail, nil
	}
	s.noteQueueID(m)
	if len(s.tx.Rcpts) >= s.m.limits.Recipients {
		if s.local {
			s.many = true
			return milter.RespContinue, nil
		}
		return milterReply(tooMany), nil
	}
	opts, orcpt := rcptOptions(args)
	s.tx.Rcpts = append(s.tx.Rcpts, mail.Recipient{Address: mail.Address(to), Opts: opts, ORCPT: orcpt})
	if s.m.opts.Fits != nil && !s.local && len(s.tx.Rcpts) > 1 && !s.m.opts.Fits(s.m.proc.base, s.tx) {
		s.tx.Rcpts = s.tx.Rcpts[:len(s.tx.Rcpts)-1]
		return milterReply(notTogether), nil
	}
	return milter.RespContinue, nil
}

// notTogether has the client send to a recipient by itself.
var notTogether = mail.NewReply(452, 5, 3, "This recipient has other rules, please send to it in another transaction")

// Data implements milter.Milter.
func (s *milterSession) Data(m milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	s.noteQueueID(m)
	return milter.RespContinue, nil
}

// Header takes one field. The MTA gives folds as LF.
func (s *milterSession) Header(name, value string, _ milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	if s.message != nil {
		blank := " "
		if s.leading {
			blank = ""
		}
		value = strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", "\n"), "\n", "\r\n")
		_, _ = s.message.Write([]byte(name + ":" + blank + value + "\r\n")) // it keeps its error
	}
	return milter.RespContinue, nil
}

// Headers ends the header.
func (s *milterSession) Headers(milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	if s.message != nil {
		_, _ = s.message.Write(crlf)
	}
	return milter.RespContinue, nil
}

// BodyChunk takes a piece of the body. Of one that is too large no more is
// needed.
func (s *milterSession) BodyChunk(chunk []byte, _ milter.Modifier) (resp *milter.Response, err error) {
	defer s.safely(&resp)
	if s.message == nil {
		return milter.RespContinue, nil
	}
	_, _ = s.message.Write(chunk)
	if s.message.over() && s.skips {
		return milter.RespSkip, nil
	}
	return milter.RespContinue, nil
}

// Abort forgets the message.
func (s *milterSession) Abort(milter.Modifier) error {
	s.reset()
	return nil
}

// Unknown implements milter.Milter.
func (s *milterSession) Unknown(string, milter.Modifier) (*milter.Response, error) {
	return milter.RespContinue, nil
}

// Cleanup implements milter.Milter.
func (s *milterSession) Cleanup(milter.Modifier) { s.reset() }

func (s *milterSession) reset() {
	if s.message != nil {
		s.message.spool.Discard()
	}
	s.tx, s.message, s.many = nil, nil, false
}
