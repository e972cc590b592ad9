package listen

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filter/mail"
)

func TestSizeLimit(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{Limits: Limits{Size: limit}})
	p := dial(t, addr).hello("LHLO")

	p.mail("a@y.test", "b@y.test")
	p.send(strings.Repeat("x", limit-2), ".")
	p.want("250 ...", "250 ...")
	p.mail("a@y.test", "b@y.test")
	p.send("Subject: large", "", strings.Repeat("x", limit-1), "MAIL FROM:<evil@x.test>", ".")
	p.want("552 5.3.4 ...", "552 5.3.4 ...")
	// stuffing is not counted
	p.mail("a@y.test")
	p.send("."+strings.Repeat(".", limit-2), ".")
	p.want("250 ...")
	p.send("QUIT")
	p.want("221 ...")
	if got := h.messages(); len(got) != 2 || len(got[0]) != limit || len(got[1]) != limit {
		t.Errorf("%d messages", len(got))
	}
	// who decides about the refusal sees the header and the whole size
	if len(h.refused) != 1 || h.refused[0].Message.Header().Count("Subject") != 1 || h.refused[0].Size <= limit {
		t.Errorf("%+v", h.refused)
	}
}

func TestSpoolFull(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	dir := t.TempDir() + "/gone"
	_, addr := startFeed(t, h, FeedOptions{SpoolDir: dir, SpoolMemory: 1000})
	p := dial(t, addr).hello("LHLO").mail("a@y.test", "b@y.test")
	p.send(strings.Repeat("x", 2000), "MAIL FROM:<evil@x.test>", ".")
	p.want("452 4.3.1 ...", "452 4.3.1 ...")
	p.mail("a@y.test")
	p.send("small", ".")
	p.want("250 ...")
	if got := h.messages(); len(got) != 1 || got[0] != "small\r\n" {
		t.Errorf("%q", got)
	}
}

func TestSpoolFile(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{SpoolMemory: 1000})
	p := dial(t, addr).hello("EHLO").mail("a@y.test")
	line := strings.Repeat("0123456789", 9)
	want := strings.Repeat(line+"\r\n", 3000)
	p.send(want + ".")
	p.want("250 ...")
	if got := h.messages(); len(got) != 1 || got[0] != want {
		t.Error("message in a file differs")
	}
}

// A line of 100 KiB is no longer than mail may hold; go-smtp would answer 500
// and close.
func TestLongDataLine(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{})
	p := dial(t, addr).hello("EHLO").mail("a@y.test")
	p.send(strings.Repeat("x", 100<<10), ".")
	p.want("250 ...")
	if got := h.messages(); len(got) != 1 || len(got[0]) != 100<<10+2 {
		t.Error("message differs")
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	_, addr := startFeed(t, &recorder{}, FeedOptions{})
	p := dial(t, addr)
	p.want("220 ...")
	for _, c := range []struct {
		n    int
		want string
	}{{maxCommand, "250 ..."}, {maxCommand + 1, "451 4.5.2 ..."}, {200 << 10, "451 4.5.2 ..."}, {100, "250 ..."}} {
		p.send("NOOP " + strings.Repeat("x", c.n-7))
		p.want(c.want)
	}
}

// The chunk that follows a refused BDAT is not run as commands.
func TestBDAT(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{})
	p := dial(t, addr).hello("EHLO")
	p.send("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "BDAT 12 LAST", "DATA", "evil", ".")
	p.want("250 2.1.0 ...", "250 2.1.5 ...", "502 5.5.1 ...")
	p.wantEnd()
	if len(h.messages()) > 0 {
		t.Error("the chunk was run")
	}
}

func TestErrorLimit(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	_, addr := startFeed(t, &recorder{}, FeedOptions{Log: testLog(&log)})
	p := dial(t, addr).hello("LHLO")
	for range 19 {
		p.send("NONSENSE \x01\xff")
		p.want("500 ...")
	}
	// a message sets the count back
	p.mail("a@y.test")
	p.send(".")
	p.want("250 ...")
	for range 19 {
		p.send("RCPT TO:<a@y.test>")
		p.want("451 4.5.1 ...")
	}
	p.send("NONSENSE")
	p.want("500 ...", "421 4.7.0 ...")
	p.wantEnd()
	if s := log.String(); strings.Contains(s, "\x01") || strings.Contains(s, "\xff") || !strings.Contains(s, "wrong command") {
		t.Errorf("log: %q", s)
	}
}

// elsewhere is a listener whose peers seem to come from another address.
type elsewhere struct {
	net.Listener
	from string // IP address
}

type elsewhereConn struct {
	net.Conn
	from net.Addr
}

func (c elsewhereConn) RemoteAddr() net.Addr { return c.from }

func (l elsewhere) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhereConn{c, &net.TCPAddr{IP: net.ParseIP(l.from), Port: 4711}}, nil
}

// feedFrom starts a feed to which all come from that address.
func feedFrom(t *testing.T, from string, o FeedOptions) (addr string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	serveFeed(t, elsewhere{l, from}, &recorder{}, o)
	return l.Addr().String()
}

// Without a list nobody comes in but this machine, whatever the address of the
// listener; with one, those whom it names.
func TestAllow(t *testing.T) {
	t.Parallel()
	net10 := func(a netip.Addr, _ bool) bool { return netip.MustParsePrefix("10.0.0.0/8").Contains(a) }
	own := "127.0.0.1"
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p := netip.MustParsePrefix(a.String()).Addr(); !p.IsLoopback() && !p.IsLinkLocalUnicast() {
			own = p.String()
		}
	}
	const denied = "421 4.7.1 mx.test Access denied"
	for _, tt := range []struct {
		from  string
		allow func(netip.Addr, bool) bool
		want  string
	}{
		{"127.0.0.1", nil, "220 ..."}, {"::ffff:127.0.0.1", nil, "220 ..."}, {"::1", nil, "220 ..."}, {own, nil, "220 ..."},
		{"192.0.2.1", nil, denied}, {"2001:db8::1", nil, denied},
		{"10.1.2.3", net10, "220 ..."}, {"::ffff:10.1.2.3", net10, "220 ..."}, {"192.0.2.1", net10, denied}, {"127.0.0.1", net10, denied},
	} {
		var log syncBuffer
		p := dial(t, feedFrom(t, tt.from, FeedOptions{Allow: tt.allow, Log: testLog(&log)}))
		p.want(tt.want)
		if tt.want == denied {
			p.wantEnd()
			if s := log.String(); !strings.Contains(s, "Access denied") || !strings.Contains(s, tt.from) || !strings.Contains(s, "allow of the listener") {
				t.Errorf("%s: log %q", tt.from, s)
			}
		}
	}
}

// One MTA on this machine is one address for all mail.
func TestSessionsFromHere(t *testing.T) {
	t.Parallel()
	_, addr := startFeed(t, &recorder{}, FeedOptions{Limits: Limits{Sessions: 3, PeerSessions: 1}})
	for _, want := range []string{"220 ...", "220 ...", "220 ...", "421 4.3.2 mx.test Too many sessions"} {
		dial(t, addr).want(want)
	}
}

func TestSessionLimits(t *testing.T) {
	t.Parallel()
	all := func(netip.Addr, bool) bool { return true }
	addr := feedFrom(t, "192.0.2.1", FeedOptions{Limits: Limits{Sessions: 3, PeerSessions: 2}, Allow: all})
	a, b := dial(t, addr), dial(t, addr)
	a.want("220 ...")
	b.want("220 ...")
	c := dial(t, addr)
	c.want("421 4.3.2 mx.test Too many sessions from your address")
	c.wantEnd()
	a.send("QUIT")
	a.want("221 ...")
	a.wantEnd()
	d := dial(t, addr) // the slot is free when the peer sees the end
	d.want("220 ...")
}

func TestSessionLimitUnix(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	l, err := Listen("unix:"+path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	serveFeed(t, l, &recorder{}, FeedOptions{Limits: Limits{Sessions: 3, PeerSessions: 1}})
	for _, want := range []string{"220 ...", "220 ...", "220 ...", "421 4.3.2 ..."} {
		dial(t, "unix:"+path).want(want)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	_, addr := startFeed(t, &recorder{}, FeedOptions{Limits: Limits{Idle: 50 * time.Millisecond}})
	p := dial(t, addr)
	p.want("220 ...")
	io.WriteString(p, "NOO") // half a command does not count
	p.want("421 4.4.2 ...")
	p.wantEnd()
}

func TestDataTimeout(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{Limits: Limits{Data: 50 * time.Millisecond}})
	p := dial(t, addr).hello("LHLO").mail("a@y.test")
	p.send("half a message", ".x")
	p.want("421 4.4.2 ...")
	// what comes late must not be run as commands
	io.WriteString(p, "\r\nMAIL FROM:<evil@x.test>\r\n.\r\n")
	if rest, _ := io.ReadAll(p.r); len(rest) > 0 {
		t.Errorf("after the timeout: %q", rest)
	}
	if len(h.messages()) > 0 {
		t.Error("the handler got half a message")
	}
}

// A peer that never pauses, but is too slow, is cut as well.
func TestDataRate(t *testing.T) {
	t.Parallel()
	_, addr := startFeed(t, &recorder{}, FeedOptions{Limits: Limits{Data: 50 * time.Millisecond, MinRate: 1 << 40}})
	p := dial(t, addr).hello("LHLO").mail("a@y.test")
	go func() {
		for {
			if _, err := io.WriteString(p.Conn, "x"); err != nil {
				return
			}
		}
	}()
	if line, _ := p.r.ReadString('\n'); line != "" && !strings.HasPrefix(line, "421 4.4.2") {
		t.Errorf("got %q", line)
	}
}

// Octets of a message move its deadline; those of commands do not.
func TestCredit(t *testing.T) {
	t.Parallel()
	f := NewFeed(&recorder{}, FeedOptions{})
	start := time.Now()
	read := func(n int, inData bool) time.Duration {
		c := newFeedConn(&memConn{in: make([]byte, n), piece: n}, f)
		c.inData, c.due = inData, start.Add(time.Minute)
		filler{c}.Read(make([]byte, n))
		return c.due.Sub(start)
	}
	if got := read(1024, true); got != 90*time.Second {
		t.Errorf("1 KiB gives until %v", got)
	}
	if got := read(1024, false); got != 60*time.Second {
		t.Errorf("1 KiB of commands gives until %v", got)
	}
	if got := read(1<<20, true); got < 180*time.Second || got > 240*time.Second {
		t.Errorf("credit is not bounded: %v", got)
	}
}

func TestConnectionLost(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	f, addr := startFeed(t, h, FeedOptions{})
	p := dial(t, addr).hello("LHLO").mail("a@y.test")
	io.WriteString(p, "Subject: x\r\n\r\nhalf\r\n.\r")
	p.Conn.(*net.TCPConn).CloseWrite()
	p.wantEnd()
	f.Close()
	<-f.drained
	if len(h.messages()) > 0 {
		t.Error("the handler got half a message")
	}
}

// The log id is pid, session and, from the second message on, its number.
func TestIDs(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{Listener: "127.0.0.1:10024"})
	p := dial(t, addr).hello("LHLO")
	for range 3 {
		p.mail("a@y.test")
		p.send(".")
		p.want("250 ...")
	}
	txs := h.transactions()
	id := txs[0].ID
	if !regexp.MustCompile(fmt.Sprintf(`^%05d-\d\d+$`, os.Getpid())).MatchString(id) || txs[1].ID != id+"-2" || txs[2].ID != id+"-3" {
		t.Errorf("ids %s, %s, %s", id, txs[1].ID, txs[2].ID)
	}
	tx := txs[0]
	if tx.Listener != "127.0.0.1:10024" || tx.LocalAddr.String() != addr || tx.PeerAddr.String() != p.LocalAddr().String() || tx.Received.IsZero() {
		t.Errorf("%+v", tx)
	}
}

// 100,000 RCPT in one transaction cost no more than the recipients that are
// taken.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{})
	p := dial(t, addr).hello("LHLO")
	p.send("MAIL FROM:<a@x.test>")
	p.want("250 ...")
	go func() {
		rcpts := bytes.Repeat([]byte("RCPT TO:<b@y.test>\r\n"), 1000)
		for range 100 {
			p.Conn.Write(rcpts)
		}
		io.WriteString(p.Conn, "DATA\r\n")
	}()
	for i := range 100_000 {
		if i < 1000 {
			p.want("250 2.1.5 ...")
		} else {
			p.want("452 4.5.3 ...")
		}
	}
	p.want("354 ...")
	p.send(".")
	for i := range 1000 {
		p.want(fmt.Sprintf("250 2.0.0 Ok, number %d", i+1))
	}
}

func TestOverrun(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	release := make(chan struct{})
	valid := make(chan string, 1)
	h := &recorder{hop: func(ctx context.Context, tx *mail.Transaction) {
		<-ctx.Done()
		<-release
		valid <- string(tx.Message.Bytes())
	}}
	f, addr := startFeed(t, h, FeedOptions{Limits: Limits{Process: 20 * time.Millisecond}, Log: testLog(&log)})
	f.proc.grace = 20 * time.Millisecond
	p := dial(t, addr).hello("LHLO").mail("a@y.test", "b@y.test")
	p.send("text", ".")
	p.want("451 4.4.2 ...", "451 4.4.2 ...", "421 4.3.2 ...")
	p.wantEnd()
	f.mu.Lock()
	n := len(f.open.sessions)
	f.mu.Unlock()
	if n != 1 {
		t.Errorf("%d slots taken while the handler runs, want 1", n)
	}
	close(release)
	if got := <-valid; got != "text\r\n" {
		t.Errorf("the message was taken from the handler: %q", got)
	}
	f.Close()
	<-f.drained
	if s := log.String(); !strings.Contains(s, "finished after its time") {
		t.Errorf("log: %s", s)
	}
}

// A handler that keeps its deadline answers itself.
func TestDeadline(t *testing.T) {
	t.Parallel()
	h := &recorder{hop: func(ctx context.Context, _ *mail.Transaction) { <-ctx.Done() }}
	_, addr := startFeed(t, h, FeedOptions{Limits: Limits{Process: 20 * time.Millisecond}})
	p := dial(t, addr).hello("LHLO").mail("a@y.test")
	p.send("text", ".")
	p.want("250 2.0.0 Ok, number 1")
	p.send("QUIT")
	p.want("221 ...")
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
