//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d--j/go-milter"
)

// BenchmarkCost gives the processor time that the daemon takes for a message of
// 4 kB without checks, by LMTP to a next hop and by milter.
func BenchmarkCost(b *testing.B) {
	binary, err := posternBinary()
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go swallow(l)
	ports := make([]string, 2)
	for i := range ports {
		p, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ports[i] = p.Addr().String()
		p.Close()
	}
	dir := b.TempDir()
	conf := filepath.Join(dir, "postern.yaml")
	text := fmt.Sprintf("hostname: mail.example.org\nlocal_domains: [example.org]\nlisteners:\n  - {protocol: lmtp, address: %q}\n  - {protocol: milter, address: %q}\nsettings: {forward_to: \"smtp://%s\", virus: {bypass: true}, banned: {bypass: true}, bad_header: {bypass: true}}\nlog: {to: %s/log}\n",
		ports[0], ports[1], l.Addr(), dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", conf)
	cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(dir, "state"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() }()
	for end := time.Now().Add(patience); !listens("tcp", ports[1])(); {
		if time.Now().After(end) {
			b.Fatal("Postern does not listen")
		}
		time.Sleep(10 * time.Millisecond)
	}
	fields := [][2]string{{"From", " a@example.net"}, {"To", " b@example.org"}, {"Subject", " x"}, {"Date", " Mon, 9 Aug 2021 09:36:36 +0200"}, {"Message-ID", " <1@example.net>"}}
	body := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 62)
	b.Run("lmtp", func(b *testing.B) {
		c, err := net.Dial("tcp", ports[0])
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		say := func(text string, replies int) {
			if text != "" {
				if _, err := c.Write([]byte(text)); err != nil {
					b.Fatal(err)
				}
			}
			for n := 0; n < replies; {
				line, err := r.ReadString('\n')
				if err != nil || line[0] > '3' {
					b.Fatal(line, err)
				}
				if line[3] != '-' {
					n++
				}
			}
		}
		say("LHLO x\r\n", 2)
		var head string
		for _, f := range fields {
			head += f[0] + ":" + f[1] + "\r\n"
		}
		costs(b, cmd.Process.Pid, func() {
			say("MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", 3)
			say(head+"\r\n"+body+".\r\n", 1)
		})
	})
	b.Run("milter", func(b *testing.B) {
		s, err := milter.NewClient("tcp", ports[1]).Session(milter.NewMacroBag())
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		ok := func(_ *milter.Action, err error) {
			if err != nil {
				b.Fatal(err)
			}
		}
		ok(s.Conn("x", milter.FamilyInet, 1, "192.0.2.1"))
		ok(s.Helo("x"))
		costs(b, cmd.Process.Pid, func() {
			ok(s.Mail("a@example.net", ""))
			ok(s.Rcpt("b@example.org", ""))
			ok(s.DataStart())
			for _, f := range fields {
				ok(s.HeaderField(f[0], f[1], nil))
			}
			ok(s.HeaderEnd())
			ok(s.BodyChunk([]byte(body)))
			if _, a, err := s.End(); err != nil || a.StopProcessing() {
				b.Fatal(a, err)
			}
		})
	})
}

// costs reports the processor time of process pid for each message.
func costs(b *testing.B, pid int, message func()) {
	message()
	before := cpu(b, pid)
	n := 0
	for b.Loop() {
		message()
		n++
	}
	b.ReportMetric(float64((cpu(b, pid)-before).Microseconds())/float64(n), "cpu-us/msg")
}

// cpu is the processor time of a process, in ticks of 10 ms.
func cpu(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// swallow is a next hop that takes everything.
func swallow(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			fmt.Fprint(c, "220 sink\r\n")
			for {
				line, err := r.ReadString('\n')
				switch {
				case err != nil:
					return
				case strings.HasPrefix(line, "EHLO"):
					fmt.Fprint(c, "250-sink\r\n250 PIPELINING\r\n")
				case strings.HasPrefix(line, "DATA"):
					fmt.Fprint(c, "354 go\r\n")
					for line != ".\r\n" && err == nil {
						line, err = r.ReadString('\n')
					}
					fmt.Fprint(c, "250 2.0.0 Ok\r\n")
				default:
					fmt.Fprint(c, "250 2.0.0 Ok\r\n")
				}
			}
		}()
	}
}
