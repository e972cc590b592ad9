//go:build integration

package reinject

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/filter/mail"
)

// smtpSink starts Postfix' test server. That it is missing is a failure.
func smtpSink(t testing.TB, args ...string) mail.NextHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if os.Getuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	cmd := exec.Command("/usr/sbin/smtp-sink", append(args, addr, "100")...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("smtp-sink is part of Postfix: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return mail.NextHop{Network: "tcp", Address: addr}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("smtp-sink does not listen: %s", out.String())
	return mail.NextHop{}
}

func TestSinkFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string // what the reply to the first recipient begins with
		size int
	}{
		{"", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok", 0},
		{"-e", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok", 0},
		{"-L", "250 2.2.0 from MTA(HOP): 250 2.2.0 Ok", 0},
		{"-r CONNECT", "451 4.3.2 MTA(HOP) is not ready: 450 ", 0},
		{"-f CONNECT", "451 4.3.2 MTA(HOP) is not ready: 500 ", 0},
		{"-q CONNECT", "451 4.4.2 MTA(HOP): lost connection while performing the handshake", 0},
		{"-q EHLO,HELO", "451 4.4.2 MTA(HOP): lost connection while performing the handshake", 0},
		{"-r MAIL", "450 4.3.0 from MTA(HOP): 450 4.3.0 ", 0},
		{"-f MAIL", "451 4.3.0 MTA(HOP) refuses us: 500 5.3.0 ", 0},
		{"-q MAIL", "451 4.4.2 MTA(HOP): lost connection while sending MAIL", 0},
		{"-r RCPT", "450 4.3.0 from MTA(HOP): 450 4.3.0 ", 0},
		{"-f RCPT", "451 4.3.0 MTA(HOP) refuses us: 500 5.3.0 ", 0},
		{"-r DATA", "450 4.3.0 from MTA(HOP): 450 4.3.0 ", 0},
		{"-f DATA", "451 4.3.0 MTA(HOP) refuses us: 500 5.3.0 ", 0},
		{"-q DATA", "451 4.4.2 MTA(HOP): lost connection while ", 0},
		{"-r .", "450 4.3.0 from MTA(HOP): 450 4.3.0 ", 0},
		{"-f .", "500 5.3.0 from MTA(HOP): 500 5.3.0 ", 0},
		{"-Q .", "421 4.0.0 from MTA(HOP): 421 4.0.0 ", 0},
		{"-q .", "451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot", 0},
		{"-A 0", "550 5.0.0 from MTA(HOP): 550 This violates SMTP", 0},
		{"-A 0", "550 5.0.0 from MTA(HOP): 550 This violates SMTP", 32 << 20},
		{"-W .:3600", "451 4.4.2 MTA(HOP): timeout while waiting for the reply to the final dot", 0},
	} {
		t.Run(fmt.Sprint(tt.args, tt.size), func(t *testing.T) {
			t.Parallel()
			hop := smtpSink(t, strings.Fields(tt.args)...)
			hop.LMTP = tt.args == "-L"
			o := outgoing("a@x.test", "b@x.test")
			if tt.size > 0 {
				o.Message = mail.NewMessage([]byte(strings.Repeat("0123456789abcdef\r\n", tt.size/18)))
			}
			r := newRelay(t, hop, func(o *Options) {
				if strings.HasPrefix(tt.args, "-W") {
					o.Timeouts.Dot = 100 * time.Millisecond
				}
			})
			for _, rc := range sendTo(t, r, o) {
				if got := strings.ReplaceAll(rc.Reply.String(), hop.String(), "HOP"); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

func BenchmarkSink(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	for _, keep := range []int{0, -1} {
		b.Run(map[int]string{0: "4kB-8-kept", -1: "4kB-8-fresh"}[keep], func(b *testing.B) {
			r := newRelay(b, smtpSink(b), func(o *Options) { o.MaxIdle, o.MaxUses = keep, 1000 })
			o := outgoing("a@x.test")
			o.Client = mail.Client{Ident: "Q", Addr: netip.MustParseAddr("192.0.2.1")}
			o.Message = mail.NewMessage([]byte("Subject: x\r\n\r\n" + strings.Repeat(line, 4<<10/len(line))))
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if rc := r.Send(b.Context(), o)[0]; rc.Disposal != mail.Relayed {
							b.Error(rc.Reply)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			r.Close()
		})
	}
}
