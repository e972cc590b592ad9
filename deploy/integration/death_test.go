//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// talk is an SMTP session that is led step by step.
type talk struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func newTalk(t *testing.T, addr string) *talk {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	k := &talk{t, conn, bufio.NewReader(conn)}
	k.say("")
	return k
}

// say sends a line and returns the last line of the reply.
func (k *talk) say(line string) string {
	k.t.Helper()
	if line != "" {
		if _, err := io.WriteString(k.conn, line+"\r\n"); err != nil {
			k.t.Fatal(err)
		}
	}
	for {
		reply, err := k.r.ReadString('\n')
		if err != nil {
			return "closed"
		}
		if len(reply) < 4 || reply[3] != '-' {
			return strings.TrimSpace(reply)
		}
	}
}

// kill ends Postern without a chance to say goodbye.
func (s *site) kill() {
	s.t.Helper()
	_ = s.postern.Process.Signal(syscall.SIGKILL)
	_ = s.postern.Wait()
}

// TestMilterDeath: when Postern dies at any stage of a session, the client hears
// 4xx, and the mail that comes again arrives once.
func TestMilterDeath(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	steps := []string{"EHLO client.test", "MAIL FROM:<eve@example.net>", "RCPT TO:<ann@example.org>", "DATA"}
	for stage := 0; stage <= len(steps)+1; stage++ {
		name := fmt.Sprint("stage ", stage)
		text := message("eve@example.net", name, "Hello")
		k := newTalk(t, s.gate)
		for _, l := range steps[:min(stage, len(steps))] {
			if reply := k.say(l); reply[0] != '2' && reply[0] != '3' {
				t.Fatalf("%s: after %s: %s", name, l, reply)
			}
		}
		last := ""
		if stage > len(steps) {
			// while the message is being looked at
			if err := s.clamd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(k.conn, text+".\r\n"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the message is being looked at", func() bool {
				return s.lookedAt()
			})
			s.kill()
			last = k.say("")
			if err := s.clamd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		} else {
			s.kill()
			for _, l := range steps[stage:] {
				if last = k.say(l); last[0] == '4' || last == "closed" {
					break
				}
			}
			if last == "" || last[0] == '3' || last[0] == '2' {
				last = k.say(text + ".")
			}
		}
		if last[0] != '4' {
			t.Errorf("%s: the client hears %q", name, last)
		}
		s.servePostern()
		submit(t, s.gate, world, text)
		s.settle()
		n := 0
		for _, d := range s.mailboxes.deliveries() {
			if d.header("Subject") == name {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: arrived %d times", name, n)
		}
	}
}

// lookedAt reports whether Postern has a connection to the scanner.
func (s *site) lookedAt() bool {
	text, err := os.ReadFile("/proc/net/unix")
	return err == nil && strings.Count(string(text), s.clamdSocket) > 1
}

// TestMilterKills kills Postern at random moments under load: no mail is lost,
// none comes twice. POSTERN_KILLS says how often.
func TestMilterKills(t *testing.T) {
	kills := 10
	if v := os.Getenv("POSTERN_KILLS"); v != "" {
		kills, _ = strconv.Atoi(v)
	}
	s := newSite(t, "virus: {destiny: reject}")
	stop := make(chan struct{})
	results := make(chan map[string]bool)
	for w := range 4 {
		go func() {
			accepted := map[string]bool{}
			for n := 0; ; n++ {
				select {
				case <-stop:
					results <- accepted
					return
				default:
				}
				id := fmt.Sprintf("mail %d-%d", w, n)
				for !s.offered(id) { // as a sending server does
					select {
					case <-stop:
						results <- accepted
						return
					case <-time.After(50 * time.Millisecond):
					}
				}
				accepted[id] = true
			}
		}()
	}
	for i := range kills {
		time.Sleep(time.Duration(50+i*37%400) * time.Millisecond)
		s.kill()
		s.servePostern()
	}
	close(stop)
	accepted := map[string]bool{}
	for range 4 {
		for id := range <-results {
			accepted[id] = true
		}
	}
	s.settle()
	arrived := map[string]int{}
	for _, d := range s.mailboxes.deliveries() {
		arrived[d.header("Subject")]++
	}
	lost, twice := 0, 0
	for id := range accepted {
		if arrived[id] == 0 {
			lost++
		}
	}
	for _, n := range arrived {
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d kills, %d mails accepted, %d arrived, %d lost, %d twice", kills, len(accepted), len(arrived), lost, twice)
	if lost > 0 || twice > 0 || len(accepted) == 0 {
		t.Errorf("lost %d, twice %d of %d", lost, twice, len(accepted))
	}
}

// offered sends one mail and reports whether it was accepted.
func (s *site) offered(subject string) bool {
	conn, err := net.DialTimeout("tcp", s.gate, 10*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	k := &talk{s.t, conn, bufio.NewReader(conn)}
	for _, l := range []string{"", "EHLO client.test", "MAIL FROM:<eve@example.net>", "RCPT TO:<ann@example.org>", "DATA"} {
		if l != "" {
			if _, err := io.WriteString(conn, l+"\r\n"); err != nil {
				return false
			}
		}
		if reply := k.say(""); reply[0] != '2' && reply[0] != '3' {
			return false
		}
	}
	if _, err := io.WriteString(conn, message("eve@example.net", subject, "Hello")+".\r\n"); err != nil {
		return false
	}
	return k.say("")[0] == '2'
}
