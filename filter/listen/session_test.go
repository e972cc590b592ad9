package listen

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"postern/filter/mail"
)

// memConn is a peer that has said everything already; it is read in pieces.
type memConn struct {
	net.Conn // nil: what is not below is not used
	in       []byte
	piece    int
	out      bytes.Buffer
	writes   []string
	closed   chan struct{}
	once     sync.Once
}

func (c *memConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, string(p))
	return c.out.Write(p)
}

func (c *memConn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// oneConn is a listener with one session.
type oneConn struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

// converse plays a session in memory and returns the replies and what the
// handler got.
func converse(t testing.TB, in []byte, piece int) (replies, got string) {
	c, h := play(t, in, piece)
	return c.out.String(), h.dump()
}

func play(t testing.TB, in []byte, piece int) (*memConn, *recorder) {
	h := &recorder{}
	f := NewFeed(h, FeedOptions{Hostname: "mx.test", SpoolDir: t.TempDir(), Limits: Limits{Size: 1000, Recipients: 3}})
	c := &memConn{in: in, piece: piece, closed: make(chan struct{})}
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- c
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	<-c.closed
	f.Close()
	<-f.drained
	<-served
	return c, h
}

// Replies to pipelined commands leave in one write.
func TestCoalescing(t *testing.T) {
	t.Parallel()
	const envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"
	c, _ := play(t, []byte("LHLO x\r\n"+envelope+"x\r\n.\r\n"+envelope+"x\r\n.\r\nQUIT\r\n"), 1<<20)
	var lines []int
	for _, w := range c.writes {
		lines = append(lines, strings.Count(w, "\n"))
	}
	// greeting; 8 lines of LHLO and the envelope; final replies; the same of
	// the second message; QUIT
	if want := []int{1, 8 + 4, 2, 4, 2, 1}; !slices.Equal(lines, want) {
		t.Errorf("lines of the writes %v, want %v: %q", lines, want, c.writes)
	}
}

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9][ -][ -~\x{80}-\x{10FFFF}]*$`)

// FuzzSession: whatever a peer says, and however it is cut, the replies are
// the same, are replies, and no message is made of what has no end.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nXFORWARD ADDR=192.0.2.1\r\nMAIL FROM:<> SIZE=5\r\nRCPT TO:<zero@d> ORCPT=x;y\r\nDATA\r\n\r\r\n.\r\nNOOP\r\n",
		"RSET\r\nHELO\r\nBDAT 1\r\nLHLO x\r\nLHLO y\r\nVRFY\r\n\r\n\n",
		"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<panic@d>\r\nDATA\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<lines@d>\r\nDATA\r\n\n.\n.\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		replies, got := converse(t, in, 1<<20)
		for line := range strings.Lines(replies) {
			text, ok := strings.CutSuffix(line, "\r\n")
			if !ok || !utf8.ValidString(text) || !replyLine.MatchString(text) {
				t.Fatalf("%q is no reply line", line)
			}
		}
		for _, piece := range []int{1, 3, 64} {
			if r, g := converse(t, in, piece); r != replies || g != got {
				t.Fatalf("in pieces of %d:\n%s%s\nat once:\n%s%s", piece, r, g, replies, got)
			}
		}
		if n := bytes.Count(in, []byte(".\r\n")); strings.Count(got, "message ") > 0 && n == 0 {
			t.Fatalf("a message without an end:\n%s", got)
		}
	})
}

// accept is a handler that says yes.
type accept struct{}

func (a accept) Refuse(ctx context.Context, tx *mail.Transaction, _ mail.Reply) []mail.Reply {
	return a.Process(ctx, tx)
}

func (accept) Process(_ context.Context, tx *mail.Transaction) []mail.Reply {
	if tx.Input.OneReply() {
		return []mail.Reply{mail.NewReply(250, 0, 0, "Ok")}
	}
	return repeat(mail.NewReply(250, 0, 0, "Ok"), len(tx.Rcpts))
}

// BenchmarkFeed sends messages over one session to a handler that does
// nothing, without pipelining, as smtp-source does.
func BenchmarkFeed(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			_, addr := startFeed(b, accept{}, FeedOptions{})
			p := dial(b, addr).hello("LHLO")
			p.SetDeadline(time.Time{})
			line := strings.Repeat("x", 70) + "\r\n"
			msg := "Subject: x\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n"
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				p.mail("b@y.test")
				io.WriteString(p, msg)
				p.want("250 ...")
			}
		})
	}
}
