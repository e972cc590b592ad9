package listen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

const (
	maxCommand = 16 << 10 // octets of a command line, CRLF included: Postfix repeats 2,048 octets of an address as xtext in ORCPT
	readBuffer = 32 << 10 // messages are read in blocks of this size
	maxUnsent  = 8 << 10  // replies held back while commands are pipelined
)

// feedConn is the net.Conn between go-smtp and the feeding MTA. It hands
// go-smtp one command line per Read, and takes back one reply before the next
// one. What go-smtp cannot do is done here:
//
//   - replies to pipelined commands leave together;
//   - paths are parsed here, since go-smtp would unquote local parts and
//     refuse <postmaster>; go-smtp sees a stand-in;
//   - LHLO is EHLO to go-smtp, and the one reply to DATA becomes one per
//     recipient here, so both dialects are spoken on one port and recipients
//     named twice keep their places;
//   - XFORWARD is announced and answered here;
//   - the message is read here ([feedSession.Data]), go-smtp sees an empty one;
//   - limits and time-outs.
//
// All but mu, inData and refs belongs to the goroutine of the session.
type feedConn struct {
	net.Conn
	f           *Feed
	id          string // log id of the session
	peer, local netip.AddrPort
	counted     netip.Addr   // in Feed.peers; not valid for none
	refs        atomic.Int32 // the session, and its handler while it runs

	mu     sync.Mutex
	inData bool // from 354 to the final replies: not to be interrupted

	in     *bufio.Reader
	due    time.Time // deadline of the next read
	out    []byte    // replies not sent yet
	dead   bool      // nothing is read or written any more
	closed bool
	wrong  int // wrong commands since the last message

	verb  string // of the command that go-smtp has, "" before the greeting
	arg   string
	line  []byte // what go-smtp has not read of that command
	reply []byte // what go-smtp has written of its reply

	// What the peer said, see feedSession.
	hello   string // LHLO, EHLO, HELO, or "" before them
	helo    string
	client  mail.Client
	path    mail.Address // of the MAIL or RCPT that go-smtp has
	orcpt   mail.ORCPT   // of that RCPT
	size    uint64       // SIZE of that MAIL
	tx      *mail.Transaction
	mails   int
	finals  []mail.Reply // to the final dot
	overrun bool         // a handler still runs: the session must end
}

var errShutdown = errors.New("shutdown")

func newFeedConn(nc net.Conn, f *Feed) *feedConn {
	c := &feedConn{Conn: nc, f: f, id: newSessionID(), peer: addrPort(nc.RemoteAddr()), local: addrPort(nc.LocalAddr())}
	c.in = bufio.NewReaderSize(filler{c}, readBuffer)
	c.refs.Store(1)
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Read gives go-smtp (the rest of) one command line.
func (c *feedConn) Read(b []byte) (n int, err error) {
	// go-smtp recovers panics only in commands, and a panic here would end
	// the process.
	defer func() {
		if p := recover(); p != nil {
			c.f.log.Error("panic in session", "session", c.id, "panic", p, "stack", string(debug.Stack()))
			c.dead, n, err = true, 0, io.EOF
		}
	}()
	for len(c.line) == 0 {
		if c.dead {
			return 0, io.EOF
		}
		c.command()
	}
	n = copy(b, c.line)
	c.line = c.line[n:]
	return n, nil
}

// Write takes the reply of go-smtp to the command it has.
func (c *feedConn) Write(p []byte) (int, error) {
	c.reply = append(c.reply, p...)
	if b := c.reply; b[len(b)-1] == '\n' {
		last := b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]
		if len(last) > 3 && last[3] == ' ' {
			c.answer(last)
			c.reply = c.reply[:0]
		}
	}
	return len(p), nil
}

// Close is called by go-smtp at the end of the session, and once more after
// QUIT.
func (c *feedConn) Close() error {
	if c.closed {
		return nil
	}
	c.flush()
	c.closed, c.dead = true, true
	c.release() // first: a peer that sees the end may come back at once
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil // Feed.Close was first
	}
	return err
}

// release gives back the slot of the session when it and its handler are over.
func (c *feedConn) release() {
	if c.refs.Add(-1) == 0 {
		c.f.forget(c)
	}
}

// interrupt wakes the session if it waits for a command; it is called by
// Shutdown after closing was set.
func (c *feedConn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inData {
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// cut ends the session at once.
func (c *feedConn) cut() { c.Conn.Close() }

func (c *feedConn) setInData(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inData = on
}

// filler reads from the peer for the buffer of a feedConn.
type filler struct{ c *feedConn }

func (r filler) Read(p []byte) (int, error) {
	c := r.c
	if c.flush(); c.dead {
		return 0, io.EOF
	}
	c.mu.Lock()
	inData := c.inData
	if !inData && c.f.closing.Load() {
		c.mu.Unlock()
		return 0, errShutdown
	}
	c.Conn.SetReadDeadline(c.due)
	c.mu.Unlock()

	n, err := c.Conn.Read(p)
	if err != nil && !inData && c.f.closing.Load() {
		return n, errShutdown
	}
	if inData {
		c.credit(n)
	}
	return n, err
}

// credit moves the deadline of the data phase by the time that n octets may
// take at the minimum rate, but never further than Limits.Data from now: this
// bounds the pause between two blocks as well as a peer that drips.
func (c *feedConn) credit(n int) {
	l := &c.f.limits
	c.due = c.due.Add(time.Duration(n) * 30 * time.Second / time.Duration(l.MinRate))
	if latest := time.Now().Add(l.Data); c.due.After(latest) {
		c.due = latest
	}
}

// flush sends the replies that were held back.
func (c *feedConn) flush() {
	if len(c.out) == 0 || c.dead {
		return
	}
	c.Conn.SetWriteDeadline(time.Now().Add(c.f.limits.Idle))
	if _, err := c.Conn.Write(c.out); err != nil {
		c.problem("peer does not take replies", "error", err)
		c.dead = true
	}
	c.out = c.out[:0]
}

// put adds a reply to those that are sent before the next wait.
func (c *feedConn) put(r mail.Reply) {
	// The text comes from handlers too: a line end in it would be a second
	// reply.
	r.Text = mail.NewReply(r.Code, 0, 0, "%s", r.Text).Text
	e := r.SMTP()
	if e.EnhancedCode == smtp.EnhancedCodeNotSet {
		e.EnhancedCode[0] = e.Code / 100
	}
	c.out = fmt.Appendf(c.out, "%d %d.%d.%d %s\r\n", e.Code, e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], e.Message)
	if len(c.out) > maxUnsent {
		c.flush()
	}
}

// end sends a last reply and ends the session.
func (c *feedConn) end(r mail.Reply) {
	c.put(r)
	c.flush()
	c.dead = true
}

// fail ends the session after an error while reading.
func (c *feedConn) fail(err error) {
	switch {
	case errors.Is(err, errShutdown):
		c.end(mail.NewReply(421, 3, 2, "%s Service shutting down", c.f.opts.Hostname))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.problem("timeout", "in_data", c.inData)
		c.end(mail.NewReply(421, 4, 2, "%s Timeout, closing connection", c.f.opts.Hostname))
	default:
		if c.inData {
			c.problem("connection lost in the middle of a message", "error", err)
		}
		c.dead = true
	}
}

// problem logs what is wrong with the session. Foreign text must be in args,
// where the handler of the log escapes it; it is cut here.
func (c *feedConn) problem(what string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok && len(s) > 200 {
			args[i] = strings.ToValidUTF8(s[:200], "?") + "..."
		}
	}
	args = append([]any{"session", c.id, "listener", c.f.opts.Listener, "peer", c.Conn.RemoteAddr().String()}, args...)
	c.f.log.Info(what, args...)
}

// readLine returns one command line without its end. LF alone ends a command
// too, as with Postfix; in a message it never does.
func (c *feedConn) readLine() (line string, tooLong bool, err error) {
	if c.f.closing.Load() {
		return "", false, errShutdown
	}
	c.due = time.Now().Add(c.f.limits.Idle)
	b, err := c.in.ReadSlice('\n')
	for err == bufio.ErrBufferFull {
		tooLong = true
		b, err = c.in.ReadSlice('\n')
	}
	if err != nil {
		return "", false, err
	}
	if tooLong || len(b) > maxCommand {
		return "", true, nil
	}
	return string(bytes.TrimSuffix(b[:len(b)-1], cr)), false, nil
}

// command reads one command and answers it, or puts it into c.line for
// go-smtp, which gets well-formed commands that it knows: it ends a session
// after four others.
func (c *feedConn) command() {
	c.path = ""
	line, tooLong, err := c.readLine()
	if err != nil {
		c.fail(err)
		return
	}
	if tooLong {
		c.verb, c.arg = "", ""
		c.refuse(lineTooLong)
		return
	}
	verb, arg, _ := strings.Cut(line, " ")
	c.verb, c.arg = strings.ToUpper(verb), strings.Trim(arg, " ")
	if c.verb != "MAIL" && c.verb != "RCPT" && control(line) {
		c.refuse(badCharacter)
		return
	}
	switch c.verb {
	case "MAIL":
		c.mailFrom()
	case "RCPT":
		c.rcptTo()
	case "XFORWARD":
		c.xforward()
	case "LHLO":
		if c.f.opts.Proxy {
			c.refuse(notKnown)
			return
		}
		c.hand("EHLO", c.arg)
	case "EHLO", "HELO", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP", "EXPN":
		c.hand(c.verb, c.arg)
	case "BDAT":
		// The chunk follows at once and must not be run as commands.
		c.end(noChunking.Reply)
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT":
		// A web client was talked into speaking to us; its next lines may
		// be commands chosen by a stranger.
		c.end(mail.NewReply(421, 7, 0, "This is no web server"))
	default:
		c.refuse(notKnown)
	}
}

// hand gives a command to go-smtp.
func (c *feedConn) hand(verb, arg string) {
	if arg != "" {
		verb += " " + arg
	}
	c.line = []byte(verb + "\r\n")
}

func (c *feedConn) xforward() {
	if c.tx != nil {
		c.refuse(inMail)
		return
	}
	client, lost, wrong := xforward(c.client, c.arg)
	if wrong != nil {
		c.refuse(wrong)
		return
	}
	for _, attr := range lost {
		c.problem("XFORWARD attribute not understood", "attribute", attr)
	}
	c.client = client
	c.put(mail.NewReply(250, 0, 0, "Ok"))
}

// pathArg parses c.arg, for example "FROM:<a@b> SIZE=1", into path and
// parameters.
func (c *feedConn) pathArg(prefix string) (params []string, ok bool) {
	if len(c.arg) < len(prefix) || !strings.EqualFold(c.arg[:len(prefix)], prefix) {
		return nil, false
	}
	path, rest, ok := parsePath(c.arg[len(prefix):])
	c.path = path
	return strings.Fields(rest), ok
}

func (c *feedConn) mailFrom() {
	params, ok := c.pathArg("FROM:")
	if !ok {
		c.refuse(badSender)
		return
	}
	if control(strings.Join(params, "")) {
		c.refuse(badParameter)
		return
	}
	c.size = 0
	arg := "FROM:<>"
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(name, "SIZE") {
			arg += " " + p
			continue
		}
		// go-smtp refuses sizes over 32 bits; RFC 1870 has up to 20 digits
		size, err := strconv.ParseUint(value, 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			c.refuse(badSize)
			return
		}
		c.size = size
	}
	c.hand("MAIL", arg)
}

func (c *feedConn) rcptTo() {
	params, ok := c.pathArg("TO:")
	if !ok || c.path == "" {
		c.refuse(badRecipient)
		return
	}
	if control(strings.Join(params, "")) {
		c.refuse(badParameter)
		return
	}
	// go-smtp knows only the address types rfc822 and utf-8 of ORCPT, and
	// decodes them; it is handed on as it came.
	c.orcpt = ""
	arg := "TO:<rcpt@stand-in.invalid>"
	for _, p := range params {
		if name, value, _ := strings.Cut(p, "="); strings.EqualFold(name, "ORCPT") {
			c.orcpt = mail.ORCPT(value)
		} else {
			arg += " " + p
		}
	}
	c.hand("RCPT", arg)
}

// control reports whether s holds a control character.
func control(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// answer passes on the reply of go-smtp, whose last line is last. Where
// go-smtp saw a stand-in, the reply is ours.
func (c *feedConn) answer(last []byte) {
	code, _ := strconv.Atoi(string(last[:3]))
	switch {
	case c.dead:
	case c.verb == "":
		c.out = append(c.out, c.reply...)
	case code == 250 && c.verb == "MAIL":
		c.put(mail.NewReply(250, 1, 0, "Sender %s OK", c.path))
	case code == 250 && c.verb == "RCPT":
		c.put(mail.NewReply(250, 1, 5, "Recipient %s OK", c.path))
	case code == 250 && (c.verb == "LHLO" || c.verb == "EHLO" || c.verb == "HELO"):
		c.hello = c.verb
		c.helo, _, _ = strings.Cut(strings.ToValidUTF8(c.arg, "?"), " ")
		c.greet()
	case code == 250 && c.verb == "RSET":
		c.client = mail.Client{}
		c.out = append(c.out, c.reply...)
	case c.verb == "DATA" && c.finals != nil:
		c.answerData()
	case code >= 500 && code <= 504:
		if code == 502 && (c.verb == "MAIL" || c.verb == "RCPT" || c.verb == "DATA") {
			code = 503 // RFC 5321 section 4.3.2: out of sequence
		}
		text := strings.TrimSpace(string(last[4:]))
		var e [3]int
		if n, _ := fmt.Sscanf(text, "%d.%d.%d", &e[0], &e[1], &e[2]); n == 3 {
			_, text, _ = strings.Cut(text, " ")
		}
		c.refuseAs(mail.Reply{Code: code, Enhanced: e, Text: text}, c.verb == "MAIL" || c.verb == "RCPT" || c.verb == "DATA")
	default:
		c.out = append(c.out, c.reply...)
	}
	if len(c.out) > maxUnsent {
		c.flush()
	}
}

// greet answers LHLO, EHLO and HELO from the reply of go-smtp, which names
// the client where our name is due and announces CHUNKING.
func (c *feedConn) greet() {
	if c.hello == "HELO" {
		c.out = fmt.Appendf(c.out, "250 %s\r\n", c.f.opts.Hostname)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(c.reply)), "\r\n")
	c.out = fmt.Appendf(c.out, "250-%s\r\n", c.f.opts.Hostname)
	for _, l := range lines[1:] {
		if keyword := l[4:]; keyword != "CHUNKING" {
			c.out = fmt.Appendf(c.out, "250-%s\r\n", keyword)
		}
	}
	c.out = fmt.Appendf(c.out, "250 XFORWARD %s\r\n", xforwardNames)
}

// answerData sends the final replies at once: the longer the peer is without
// them, the more likely the message comes a second time.
func (c *feedConn) answerData() {
	for _, r := range c.finals {
		c.put(r)
	}
	c.flush()
	c.finals, c.wrong = nil, 0
	c.setInData(false)
	if c.overrun {
		c.end(mail.NewReply(421, 3, 2, "%s Service not available, closing connection", c.f.opts.Hostname))
	}
}
