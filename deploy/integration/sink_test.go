//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// delivery is one transaction that a sink took.
type delivery struct {
	from  string
	rcpts []string
	data  []byte // as sent, without dot-stuffing
}

func (d delivery) String() string {
	return fmt.Sprintf("<%s> to %q: %s", d.from, d.rcpts, d.header("Subject"))
}

// header returns the first value of a field, unfolded, or "".
func (d delivery) header(name string) string {
	head, _, _ := bytes.Cut(d.data, []byte("\r\n\r\n"))
	unfolded := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(head))
	for line := range strings.SplitSeq(unfolded, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// sink takes every message and keeps it.
type sink struct {
	mu    sync.Mutex
	taken []delivery
}

// startSink listens on addr by SMTP or LMTP until the test ends.
func startSink(t *testing.T, addr string, lmtp bool) *sink {
	t.Helper()
	s := &sink{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	server.Domain, server.LMTP, server.EnableSMTPUTF8, server.MaxLineLength = "sink.test", lmtp, true, 0
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return s
}

// deliveries returns what was taken until now.
func (s *sink) deliveries() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]delivery(nil), s.taken...)
}

type sinkSession struct {
	sink *sink
	now  delivery
}

func (s *sinkSession) Reset()        { s.now = delivery{} }
func (s *sinkSession) Logout() error { return nil }

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	s.now = delivery{from: from}
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.now.rcpts = append(s.now.rcpts, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) (err error) {
	if s.now.data, err = io.ReadAll(r); err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.taken = append(s.sink.taken, s.now)
	return nil
}

// envelope is what a client says besides the message.
type envelope struct {
	client string // address given by XCLIENT, empty for the real one
	helo   string // client.test if empty
	from   string // may be followed by "> SIZE=1" and the like
	rcpts  []string
}

// submit sends a message by SMTP and fails the test unless it is accepted.
func submit(t *testing.T, addr string, e envelope, message string) {
	t.Helper()
	if reply := offer(t, addr, e, message); !strings.HasPrefix(reply, "250") {
		t.Fatalf("after the message: %q", reply)
	}
}

// offer sends a message by SMTP and returns the reply to its end.
func offer(t *testing.T, addr string, e envelope, message string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	say := func(want, format string, args ...any) string {
		t.Helper()
		line := fmt.Sprintf(format, args...)
		if line != "" {
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		for {
			reply, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("after %.100q: %v", line, err)
			}
			if len(reply) > 3 && reply[3] == '-' {
				continue
			}
			if !strings.HasPrefix(reply, want) {
				t.Fatalf("after %.100q: %q", line, reply)
			}
			return reply
		}
	}
	if e.helo == "" {
		e.helo = "client.test"
	}
	parameter := ">"
	if strings.Contains(e.from, "> ") {
		parameter = ""
	}
	say("220", "")
	say("250", "EHLO %s", e.helo)
	if e.client != "" {
		say("220", "XCLIENT ADDR=%s NAME=[UNAVAILABLE]", e.client)
		say("250", "EHLO %s", e.helo)
	}
	say("250", "MAIL FROM:<%s%s BODY=8BITMIME", e.from, parameter)
	for _, rcpt := range e.rcpts {
		if !strings.Contains(rcpt, "> ") {
			rcpt += ">"
		}
		say("250", "RCPT TO:<%s", rcpt)
	}
	say("354", "DATA")
	stuffed := strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[2:]
	reply := say("", "%s.", stuffed)
	say("221", "QUIT")
	return reply
}
