package main

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/policy"
)

// BenchmarkMessage takes messages of 4 kB through the daemon: LMTP in, no
// checks, SMTP out to a next hop in the same process, over kept sessions and
// with a new one for each message. The client and the next hop take about as
// much time as the filter.
func BenchmarkMessage(b *testing.B) {
	b.Run("kept", func(b *testing.B) { benchmarkMessage(b, true) })
	b.Run("fresh", func(b *testing.B) { benchmarkMessage(b, false) })
}

func benchmarkMessage(b *testing.B, keep bool) {
	hop := newNextHop("")
	hopLis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = hop.serve(hopLis) }()
	defer hop.close()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := policy.Parse(filepath.Join(b.TempDir(), "postern.yaml"), fmt.Appendf(nil, `
hostname: mail.example.org
local_domains: [example.org]
listeners: [{protocol: lmtp, address: %q}]
settings: {forward_to: "smtp://%s"}
`, in.Addr(), hopLis.Addr()), nil)
	if err != nil {
		b.Fatal(err)
	}
	d, err := newDaemon(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	if err := d.start(func(policy.Listener) (net.Listener, error) { return in, nil }); err != nil {
		b.Fatal(err)
	}
	defer d.stop(b.Context())
	body := (&demoMail{from: "a@example.net", to: []string{"b@example.org"}, subject: "bench"}).text()
	body += strings.Repeat("We will meet on Monday morning to talk about the offer.\r\n", (4096-len(body))/57) + ".\r\n"
	b.SetBytes(int64(len(body)))
	b.RunParallel(func(pb *testing.PB) {
		var c *lmtpClient
		for pb.Next() {
			if c == nil {
				c = dialLMTP(in.Addr().String(), time.Hour)
				defer c.close()
				c.send("2", "LHLO localhost")
			}
			c.send("2", "MAIL FROM:<a@example.net>")
			c.send("2", "RCPT TO:<b@example.org>")
			c.send("3", "DATA")
			c.write(body)
			c.expect("2")
			hop.take()
			if c.err != nil {
				b.Error(c.err)
				return
			}
			if !keep {
				c.send("2", "QUIT")
				c = nil
			}
		}
	})
}
