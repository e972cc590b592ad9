package reinject

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filter/mail"
)

// fakeHop is a next hop that plays one script per connection. When the scripts
// are used up, the last one is played again.
//
// A step is what to do for one command, in order; a connection begins with the
// step "CONNECT". "VERB: reply" waits for a command of that verb and answers
// (`\n` separates lines); "DOT: reply" reads a message and its final dot first.
// Steps without a verb act at once: "cut", "rst", "hang" (reads on, says
// nothing), "stuck" (does not even read), "eat N" (reads N octets of data) and
// "say reply".
type fakeHop struct {
	t       *testing.T
	l       net.Listener
	scripts [][]string

	mu       sync.Mutex
	conns    int
	commands []string // all of them, in order of arrival
	messages []string // still dot-stuffed, without the final dot
	open     map[net.Conn]bool
	done     chan struct{}
	end      sync.Once
	wg       sync.WaitGroup
}

const ehlo = "EHLO: 250-hop\n250-PIPELINING\n250-SIZE 1000000\n250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\n" +
	"250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250 SMTPUTF8"

var hello = []string{"CONNECT: 220 hop ESMTP", ehlo}

func script(steps ...string) []string { return append(append([]string{}, hello...), steps...) }

// good is a transaction that ends well.
func good(id string) []string {
	return []string{"MAIL: 250 2.1.0 Ok", "RCPT: 250 2.1.5 Ok", "DATA: 354 go", "DOT: 250 2.0.0 Ok: queued as " + id}
}

func newFakeHop(t *testing.T, scripts ...[]string) *fakeHop {
	t.Helper()
	return serveFake(t, "tcp", "127.0.0.1:0", scripts...)
}

func serveFake(t *testing.T, network, addr string, scripts ...[]string) *fakeHop {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHop{t: t, l: l, scripts: scripts, open: map[net.Conn]bool{}, done: make(chan struct{})}
	h.wg.Go(h.serve)
	t.Cleanup(h.stop)
	return h
}

func (h *fakeHop) stop() {
	h.end.Do(func() { close(h.done) })
	h.l.Close()
	h.mu.Lock()
	for c := range h.open {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *fakeHop) hop() mail.NextHop {
	a := h.l.Addr()
	return mail.NextHop{Network: a.Network(), Address: a.String()}
}

func (h *fakeHop) serve() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		s := h.scripts[min(h.conns, len(h.scripts)-1)]
		h.conns++
		h.open[c] = true
		h.mu.Unlock()
		h.wg.Go(func() { h.play(c, s) })
	}
}

func (h *fakeHop) play(c net.Conn, steps []string) {
	defer func() {
		c.Close()
		h.mu.Lock()
		delete(h.open, c)
		h.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	for n, step := range steps {
		verb, reply, _ := strings.Cut(step, ": ")
		word, arg, _ := strings.Cut(step, " ")
		switch {
		case word == "cut":
			return
		case word == "rst":
			c.(*net.TCPConn).SetLinger(0)
			return
		case word == "hang":
			io.Copy(io.Discard, r)
			return
		case word == "stuck":
			<-h.done
			return
		case word == "eat":
			var size int64
			fmt.Sscan(arg, &size)
			if _, err := io.CopyN(io.Discard, r, size); err != nil {
				return
			}
			continue
		case word == "say":
			reply = arg
		case verb == "CONNECT":
		case verb == "DOT":
			msg, err := readData(r)
			if err != nil {
				return
			}
			h.note("", msg)
		default:
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\r\n")
			h.note(line, "")
			if line == "QUIT" {
				io.WriteString(c, "221 bye\r\n")
				return
			}
			if !strings.HasPrefix(strings.ToUpper(line), verb) {
				h.t.Errorf("step %d: got %q, want %s", n, line, verb)
				return
			}
		}
		if reply != "" {
			io.WriteString(c, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n")
		}
	}
	// what comes after the script is a QUIT or a mistake
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if h.note(strings.TrimSpace(line), ""); strings.HasPrefix(line, "QUIT") {
			io.WriteString(c, "221 bye\r\n")
			return
		}
		io.WriteString(c, "500 script has ended\r\n")
	}
}

func (h *fakeHop) note(line, msg string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if line != "" {
		h.commands = append(h.commands, line)
	} else {
		h.messages = append(h.messages, msg)
	}
}

func (h *fakeHop) seen() (conns int, commands, messages []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns, append([]string{}, h.commands...), append([]string{}, h.messages...)
}

// readData reads to CR LF . CR LF.
func readData(r *bufio.Reader) (string, error) {
	var b strings.Builder
	bol := true
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if bol && line == ".\r\n" {
			return b.String(), nil
		}
		bol = strings.HasSuffix(line, "\r\n")
		b.WriteString(line)
	}
}

// newRelay returns a relay with timeouts that only a hanging script reaches.
func newRelay(t testing.TB, hop mail.NextHop, change ...func(*Options)) *Relay {
	o := Options{Helo: "mail.no-uce.de", Timeouts: Timeouts{
		Connect: 30 * time.Second, Command: 30 * time.Second, Data: 30 * time.Second,
		Block: 30 * time.Second, Dot: 30 * time.Second,
	}, IdleTime: time.Minute}
	for _, f := range change {
		f(&o)
	}
	r := New(hop, o)
	t.Cleanup(r.Close)
	return r
}

const testMessage = "Subject: x\r\n\r\nhello\r\n.dot\r\n"

func outgoing(rcpts ...string) *mail.Outgoing {
	o := &mail.Outgoing{From: "himself@jeanbruenn.info", Message: mail.NewMessage([]byte(testMessage))}
	for _, r := range rcpts {
		o.Rcpts = append(o.Rcpts, mail.Recipient{Address: mail.Address(r)})
	}
	return o
}

func sendTo(t testing.TB, r *Relay, o *mail.Outgoing) []mail.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := r.Send(ctx, o)
	if len(got) != len(o.Rcpts) {
		t.Fatalf("%d receipts for %d recipients", len(got), len(o.Rcpts))
	}
	return got
}

func unixSocket(t *testing.T) string { return filepath.Join(t.TempDir(), "hop.sock") }
