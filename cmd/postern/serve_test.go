package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/demo"
)

// TestProgram is not a test: run with POSTERN_ARGS it is the program, so that
// tests can send it signals and look at its exit code.
func TestProgram(t *testing.T) {
	if args := os.Getenv("POSTERN_ARGS"); args != "" {
		os.Exit(run(strings.Split(args, "\n")))
	}
}

// program is a running postern.
type program struct {
	t   *testing.T
	cmd *exec.Cmd

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	p := &program{t: t, cmd: exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProgram$")}
	p.cmd.Env = append(os.Environ(), "POSTERN_ARGS="+strings.Join(args, "\n"), "STATE_DIRECTORY="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// wait returns the exit code.
func (p *program) wait() int {
	p.t.Helper()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// until waits for a text in the output.
func (p *program) until(text string) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.output(), text); {
		if time.Now().After(end) {
			p.t.Fatalf("no %q in:\n%s", text, p.output())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeRefusesBadConfiguration(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "s")
	living, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	for _, c := range []struct {
		name, config, want string
		code               int
	}{
		{"unknown key", "hostnam: mail.example.org\n", `postern.yaml:1:1: unknown key "hostnam"`, exitConfig},
		{"no such key file", "hostname: a.example.org\ndkim_keys: [{domain: example.org, selector: s, key: missing.pem}]\n", "missing.pem", exitConfig},
		{"address in use", fmt.Sprintf("hostname: a.example.org\nlisteners:\n  - {protocol: lmtp, address: %q}\n", taken.Addr()), "postern.yaml:3: listener " + taken.Addr().String() + ": bind: address already in use", exitUnavailable},
		{"socket in use", fmt.Sprintf("hostname: a.example.org\nlisteners:\n  - {protocol: lmtp, address: %q}\n", "unix:"+socket), "address already in use", exitUnavailable},
	} {
		p := startProgram(t, "serve", "--config", writeConfig(t, c.config))
		if code := p.wait(); code != c.code || !strings.Contains(p.output(), c.want) {
			t.Errorf("%s: exit %d, %s", c.name, code, p.output())
		}
	}
	p := startProgram(t, "serve", "--config", "/nonexistent/postern.yaml")
	if code := p.wait(); code != exitConfig {
		t.Errorf("no file: exit %d, %s", code, p.output())
	}
}

// heldHop is a next hop that answers the end of data only when released.
type heldHop struct {
	addr    string
	arrived chan struct{} // closed when the first message is there
	release chan struct{}
}

func newHeldHop(t *testing.T) *heldHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &heldHop{addr: l.Addr().String(), arrived: make(chan struct{}), release: make(chan struct{})}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); close(done) })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		fmt.Fprint(c, "220 hop\r\n")
		data := false
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil:
				return
			case data && line == ".\r\n":
				close(h.arrived)
				select {
				case <-h.release:
				case <-done:
					return
				}
				data = false
			case data:
				continue
			case strings.HasPrefix(line, "DATA"):
				data = true
				fmt.Fprint(c, "354 go\r\n")
				continue
			}
			fmt.Fprint(c, "250 2.0.0 Ok: queued as X\r\n")
		}
	}()
	return h
}

// SIGTERM refuses new mail at once and lets a message in work finish: it gets
// its 250 and nothing is sent twice. A second SIGINT ends at once.
func TestServeStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		signals []os.Signal
		want    string // class of the reply to the message in work, "" for none
	}{
		{"SIGTERM", []os.Signal{syscall.SIGTERM}, "250 "},
		{"SIGINT once", []os.Signal{syscall.SIGINT}, "250 "},
		{"SIGINT twice", []os.Signal{syscall.SIGINT, syscall.SIGINT}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hop := newHeldHop(t)
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := free.Addr().String()
			free.Close()
			p := startProgram(t, "serve", "--config", writeConfig(t, fmt.Sprintf(
				"hostname: mail.example.org\nlocal_domains: [example.org]\nlisteners: [{protocol: lmtp, address: %q}]\nsettings: {forward_to: \"smtp://%s\"}\n", addr, hop.addr)))
			p.until("listening")
			reply := make(chan string, 1)
			go func() {
				replies, err := demo.Send(addr, demo.Mail{From: "a@example.net", To: []string{"b@example.org"}, Subject: "x"})
				reply <- fmt.Sprint(strings.Join(replies, "|"), " ", err)
			}()
			<-hop.arrived
			for i, s := range c.signals {
				if err := p.cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					p.until("stopping")
					untilRefused(t, addr)
				}
			}
			if c.want == "" {
				p.wait()
				if got := <-reply; strings.Contains(got, "250 2") {
					t.Errorf("answered %s", got)
				}
				return
			}
			close(hop.release)
			if got := <-reply; !strings.HasPrefix(got, c.want) {
				t.Errorf("answered %s\n%s", got, p.output())
			}
			if code := p.wait(); code != 0 {
				t.Errorf("exit %d\n%s", code, p.output())
			}
		})
	}
}

// untilRefused waits until nobody is let in any more.
func untilRefused(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if strings.HasPrefix(line, "421") || line == "" {
			return
		}
	}
	t.Fatal("sessions are still accepted")
}
