package reinject

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

func TestLMTP(t *testing.T) {
	t.Parallel()
	lhlo := "LHLO: 250-hop\n250 DSN"
	dot := "DOT: 250 2.0.0 <a@x.test> aBcD/12 Saved\n452 4.2.2 <b@x.test> full\n550 5.2.1 no\n250 2.0.0 <a@x.test> eFgH/34 Saved"
	steps := []string{"CONNECT: 220 hop LMTP", lhlo, mailOk, rcptOk, rcptOk, "RCPT: 550 5.1.1 unknown", rcptOk, rcptOk, dataOk}
	send := func(t *testing.T, h *fakeHop) []mail.Receipt {
		hop := h.hop()
		hop.LMTP = true
		o := outgoing("a@x.test", "b@x.test", "nobody@x.test", "c@x.test", "a@x.test")
		got := sendTo(t, newRelay(t, hop), o)
		for i := range got {
			got[i].Reply.Text = strings.ReplaceAll(got[i].Reply.Text, hop.String(), h.hop().String())
			got[i].NextHop = h.hop().String()
		}
		return got
	}
	t.Run("one reply each, equal recipients too", func(t *testing.T) {
		t.Parallel()
		h := newFakeHop(t, append(steps, dot))
		got := send(t, h)
		checkReplies(t, h, got,
			"250 2.0.0 from MTA(HOP): 250 2.0.0 <a@x.test> aBcD/12 Saved", "452 4.2.2 from MTA(HOP): 452 4.2.2 <b@x.test> full",
			"550 5.1.1 from MTA(HOP): 550 5.1.1 unknown", "550 5.2.1 from MTA(HOP): 550 5.2.1 no",
			"250 2.0.0 from MTA(HOP): 250 2.0.0 <a@x.test> eFgH/34 Saved")
		if got[0].QueuedAs != "aBcD/12" || got[4].QueuedAs != "eFgH/34" {
			t.Errorf("queued as %q and %q", got[0].QueuedAs, got[4].QueuedAs)
		}
	})
	t.Run("cut between the replies", func(t *testing.T) {
		t.Parallel()
		h := newFakeHop(t, append(steps, "DOT: 250 2.0.0 one\n550 5.0.0 two", "cut"))
		const lost = "451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot"
		checkReplies(t, h, send(t, h), "250 2.0.0 from MTA(HOP): 250 2.0.0 one", "550 5.0.0 from MTA(HOP): 550 5.0.0 two",
			"550 5.1.1 from MTA(HOP): 550 5.1.1 unknown", lost, lost)
	})
	t.Run("unix socket", func(t *testing.T) {
		t.Parallel()
		h := serveFake(t, "unix", unixSocket(t), append(steps, dot))
		if got := send(t, h); got[0].QueuedAs != "aBcD/12" {
			t.Errorf("got %v", got[0])
		}
	})
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, script(good("A")...))
	r := newRelay(t, h.hop(), func(o *Options) { o.IdleTime = time.Nanosecond })
	sendTo(t, r, outgoing("a@x.test"))
	r.Close() // waits for the QUIT under way
	if _, cmds, _ := h.seen(); cmds[len(cmds)-1] != "QUIT" {
		t.Errorf("commands %q", cmds)
	}
}

func TestPoolLimits(t *testing.T) {
	t.Parallel()
	two := script(join(good("A"), good("B"), good("C"))...)
	for _, tt := range []struct {
		name   string
		change func(*Options)
		conns  int
	}{
		{"kept", func(*Options) {}, 1},
		{"none kept", func(o *Options) { o.MaxIdle = -1 }, 3},
		{"two uses", func(o *Options) { o.MaxUses = 2 }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, two)
			r := newRelay(t, h.hop(), tt.change)
			for range 3 {
				if got := sendTo(t, r, outgoing("a@x.test")); got[0].Disposal != mail.Relayed {
					t.Fatal(got[0].Reply)
				}
			}
			if conns, _, _ := h.seen(); conns != tt.conns {
				t.Errorf("%d connections, want %d", conns, tt.conns)
			}
		})
	}
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		h := newFakeHop(t, two)
		r := newRelay(t, h.hop())
		r.Close()
		if got := sendTo(t, r, outgoing("a@x.test")); got[0].Disposal != mail.Relayed || len(r.pool.idle) > 0 {
			t.Error(got[0].Reply, len(r.pool.idle))
		}
	})
}

// A session that is never idle ends all the same, so that a next hop that was
// set up anew is talked to by its new rules.
func TestSessionAge(t *testing.T) {
	t.Parallel()
	steps := script(join(good("A"), good("B"), good("C"), good("D"))...)
	for _, tt := range []struct {
		name  string
		after func(r *Relay, seconds *atomic.Int64) // each mail
		conns int
	}{
		{"young", func(_ *Relay, seconds *atomic.Int64) { seconds.Add(19) }, 1},
		{"old when it is taken", func(_ *Relay, seconds *atomic.Int64) { seconds.Add(30) }, 2},
		{"renewed", func(r *Relay, seconds *atomic.Int64) { r.pool.renew(); seconds.Add(1) }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, steps)
			r := newRelay(t, h.hop())
			var seconds atomic.Int64
			r.pool.now = func() time.Time { return time.Unix(seconds.Load(), 0) }
			for range 4 {
				if got := sendTo(t, r, outgoing("a@x.test")); got[0].Disposal != mail.Relayed {
					t.Fatal(got[0].Reply)
				}
				tt.after(r, &seconds)
			}
			r.Close() // waits for the QUITs under way
			conns, cmds, _ := h.seen()
			if conns != tt.conns {
				t.Errorf("%d connections, want %d: %q", conns, tt.conns, cmds)
			}
		})
	}
	t.Run("old when it comes back", func(t *testing.T) {
		t.Parallel()
		h := newFakeHop(t, steps)
		r := newRelay(t, h.hop(), func(o *Options) { o.MaxAge = time.Nanosecond })
		sendTo(t, r, outgoing("a@x.test"))
		if n := len(r.pool.idle); n > 0 {
			t.Errorf("%d sessions kept", n)
		}
	})
}

func TestNoDelay(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, script(good("A")...))
	r := newRelay(t, h.hop())
	sendTo(t, r, outgoing("a@x.test"))
	raw, err := r.pool.idle[0].conn.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); v == 0 || err != nil {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	})
}

func TestTransports(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, script(good("A")...))
	ts := NewTransports(Options{})
	a, b := ts.For(h.hop()), ts.For(mail.NextHop{LMTP: true, Network: "tcp", Address: h.hop().Address})
	if a != ts.For(h.hop()) || a == b {
		t.Error("not one relay per next hop")
	}
	if got := a.Send(t.Context(), outgoing("a@x.test")); got[0].QueuedAs != "A" {
		t.Error(got[0].Reply)
	}
	ts.Close()
	if _, cmds, _ := h.seen(); cmds[len(cmds)-1] != "QUIT" {
		t.Errorf("commands %q", cmds)
	}
}

// nullHop accepts everything; one of seven connections ends without warning
// after two messages.
func nullHop(t testing.TB, cut bool) mail.NextHop {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			limit := -1
			if cut && n%7 == 0 {
				limit = 2
			}
			wg.Go(func() { nullSession(c, limit) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return mail.NextHop{Network: "tcp", Address: l.Addr().String()}
}

func nullSession(c net.Conn, limit int) {
	defer c.Close()
	buf, n := make([]byte, 64<<10), 0
	io.WriteString(c, "220 hop\r\n")
	for data := false; limit != 0; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		switch in := buf[:n]; {
		case data:
			if !bytes.HasSuffix(in, []byte("\r\n.\r\n")) {
				n = copy(buf, in[max(0, n-5):])
				continue
			}
			data, limit = false, limit-1
			io.WriteString(c, "250 2.0.0 Ok: queued as N\r\n")
		case !bytes.HasSuffix(in, []byte("\r\n")):
			continue
		case in[0] == 'D':
			data = true
			io.WriteString(c, "354 go\r\n")
		case in[0] == 'E':
			io.WriteString(c, "250-hop\r\n250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n250-8BITMIME\r\n250 SIZE\r\n")
		default:
			io.WriteString(c, "250 2.0.0 Ok\r\n")
		}
		n = 0
	}
}

func TestConcurrentAndLeakless(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("load", func(t *testing.T) {
		r := newRelay(t, nullHop(t, true), func(o *Options) { o.MaxIdle = 3 })
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					if i == 10 {
						cancel()
					}
					rc := r.Send(ctx, outgoing("a@x.test"))[0]
					if want := i != 10; (rc.Disposal == mail.Relayed) != want {
						t.Errorf("message %d: %s", i, rc.Reply)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		r.Close()
	})
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 1000 {
			buf := make([]byte, 1<<16)
			t.Fatalf("goroutines left:\n%s", buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

func TestReplyTellsNothingInner(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := newFakeHop(t, script(mailOk, rcptOk, "DATA: ", "rst"))
	r := newRelay(t, h.hop(), func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	got := sendTo(t, r, outgoing("a@x.test"))[0].Reply.Text
	for _, word := range []string{"tcp", "->", "read ", "write ", "reset", "EOF", "i/o"} {
		if strings.Contains(got, word) {
			t.Errorf("%q in %q", word, got)
		}
	}
	if !strings.Contains(log.String(), "->") {
		t.Errorf("the log lacks the error: %s", log.String())
	}
}

func TestXforwardLines(t *testing.T) {
	t.Parallel()
	all := strings.Fields("NAME ADDR PORT PROTO HELO IDENT SOURCE")
	long := strings.Repeat("+", 300)
	for _, tt := range []struct {
		c     mail.Client
		names []string
		want  []string
	}{
		{mail.Client{}, all, nil},
		{mail.Client{Name: "x", Helo: "y"}, all, nil},
		{mail.Client{Ident: "Q"}, []string{"IDENT"}, []string{"XFORWARD IDENT=Q"}},
		{mail.Client{Ident: "Q"}, nil, nil},
		{mail.Client{Ident: "Q"}, all, []string{"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] IDENT=Q"}},
		{mail.Client{Addr: netip.MustParseAddr("2001:db8::1%eth0")}, []string{"ADDR"}, []string{"XFORWARD ADDR=IPV6:2001:db8::1"}},
		{mail.Client{Addr: netip.MustParseAddr("::ffff:192.0.2.1")}, []string{"ADDR"}, []string{"XFORWARD ADDR=192.0.2.1"}},
		{mail.Client{Ident: "Q", Helo: "a b=c+d\r\nü"}, []string{"HELO"}, []string{"XFORWARD HELO=a+20b+3Dc+2Bd???"}},
		{mail.Client{Ident: long, Helo: long}, []string{"HELO", "IDENT"},
			[]string{"XFORWARD HELO=" + strings.Repeat("+2B", 85), "XFORWARD IDENT=" + strings.Repeat("+2B", 85)}},
		{mail.Client{Ident: "Q", Name: "a b.test"}, []string{"NAME"}, []string{"XFORWARD NAME=[UNAVAILABLE]"}},
		{mail.Client{Ident: "Q", Name: "mx-1.example.net"}, []string{"NAME"}, []string{"XFORWARD NAME=mx-1.example.net"}},
	} {
		if got := xforwardLines(tt.c, tt.names); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%+v:\n got %q\nwant %q", tt.c, got, tt.want)
		}
	}
}

func TestXforwardRefused(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, script(join([]string{"XFORWARD: 550 5.7.0 not you"}, good("A"), []string{"XFORWARD: 250 ok"}, good("B"))...))
	r := newRelay(t, h.hop())
	for _, want := range []string{"A", "B"} {
		o := outgoing("a@x.test")
		o.Client.Ident = "Q"
		if got := sendTo(t, r, o)[0]; got.QueuedAs != want {
			t.Errorf("%s: %s", want, got.Reply)
		}
	}
}

func TestQueuedAs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2.0.0 Ok: queued as 4XyZ0k3Cz1zB":                                                   "4XyZ0k3Cz1zB",
		"2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as LAB1, but 1 REJECT": "LAB1",
		"2.0.0 <a@x.test> +Dq6FOxzaWXjNAAAdYaLzA Saved":                                      "+Dq6FOxzaWXjNAAAdYaLzA",
		"OK id=1rABCD-0001-AB":                                                               "1rABCD-0001-AB",
		"2.0.0 3AIBnm Message accepted for delivery":                                         "3AIBnm",
		"2.0.0 Ok":               "",
		"2.0.0 queued as \x00\n": "",
	} {
		if got := queuedAs(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Whatever a next hop says: one sane receipt for each recipient, and 2xx only
// after the dot was answered with 2xx.
func FuzzReplies(f *testing.F) {
	f.Add([]byte("220 hi\r\n"), []byte("250-x\r\n250 DSN\r\n"), []byte("250 ok\r\n"), []byte("354 go\r\n"), []byte("250 2.0.0 queued as X\r\n"))
	f.Add([]byte("220-hi\r\n220\r\n"), []byte("250\r\n"), []byte("250\n"), []byte("354-\r\n354 \r\n"), []byte("250-a\r\n550 b\r\n"))
	f.Add([]byte("220 "), []byte("999 \r\n"), []byte("-1 \r\n"), []byte("354 go\r\n250 2.0.0 queued as LIE\r\n"), []byte(""))
	f.Add([]byte("SSH-2.0\r\n"), []byte("250-xforward \xff\r\n250 size x\r\n"), []byte("452 4.5.3 \r\n"), []byte("550 5.1.1.1 \r\n"), []byte("2500 \r\n"))
	const hang = 50 * time.Millisecond // half a reply is waited for
	f.Fuzz(func(t *testing.T, greeting, hello, command, data, dot []byte) {
		l, err := net.Listen("unix", unixSocket(t))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				hostile(c, greeting, hello, command, data, dot)
			}
		})
		r := New(mail.NextHop{Network: "unix", Address: l.Addr().String()}, Options{Timeouts: Timeouts{
			Command: hang, Data: hang, Block: hang, Dot: hang,
		}})
		o := outgoing("a@x.test", "b@x.test")
		o.Client.Ident = "Q"
		got := r.Send(t.Context(), o)
		r.Close()
		l.Close()
		wg.Wait()
		for i, rc := range got {
			if c := rc.Reply.Class(); c < 2 || c == 3 || c > 5 || rc.Disposal == mail.NotHandled || strings.ContainsAny(rc.Reply.Text, "\r\n\x00") {
				t.Errorf("recipient %d: %d %q", i, rc.Disposal, rc.Reply.String())
			}
			if rc.Disposal == mail.Relayed && !bytes.HasPrefix(dot, []byte("2")) {
				t.Errorf("recipient %d relayed by %q", i, dot)
			}
		}
	})
}

// hostile says its lines and hangs up.
func hostile(c net.Conn, greeting, hello, command, data, dot []byte) {
	defer c.Close()
	c.Write(greeting)
	buf := make([]byte, 1<<16)
	inData := false
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		say := command
		switch {
		case inData:
			c.Write(dot)
			return
		case bytes.HasPrefix(buf[:n], []byte("EHLO")), bytes.HasPrefix(buf[:n], []byte("HELO")):
			say = hello
		case bytes.HasPrefix(buf[:n], []byte("DATA")):
			say, inData = data, bytes.HasPrefix(data, []byte("354"))
		}
		if len(say) == 0 || say[len(say)-1] != '\n' {
			c.Write(say)
			return
		}
		c.Write(say)
	}
}

func BenchmarkRelay(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	for _, bb := range []struct {
		name string
		size int
		keep int
	}{{"4kB-kept", 4 << 10, 0}, {"4kB-fresh", 4 << 10, -1}, {"1MB-kept", 1 << 20, 0}} {
		b.Run(bb.name, func(b *testing.B) {
			r := newRelay(b, nullHop(b, false), func(o *Options) { o.MaxIdle = bb.keep })
			o := outgoing("a@x.test")
			o.Client = mail.Client{Ident: "Q", Addr: netip.MustParseAddr("192.0.2.1")}
			o.Message = mail.NewMessage([]byte("Subject: x\r\n\r\n" + strings.Repeat(line, bb.size/len(line))))
			b.SetBytes(o.Message.Size())
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if rc := r.Send(b.Context(), o)[0]; rc.Disposal != mail.Relayed {
						b.Error(rc.Reply)
						return
					}
				}
			})
			r.Close()
		})
	}
}
