package main

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/demo"
	"postern/policy"
)

// BenchmarkMessage takes messages of 4 kB through the daemon: LMTP in, no
// checks, SMTP out to a next hop in the same process, over kept sessions and
// with a new one for each message. The client and the next hop take about as
// much time as the filter. "untraced" and "traced" tell the queue id of each
// message, without the journal and with it.
func BenchmarkMessage(b *testing.B) {
	b.Run("kept", func(b *testing.B) { benchmarkMessage(b, true, false, true) })
	b.Run("fresh", func(b *testing.B) { benchmarkMessage(b, false, false, true) })
	b.Run("untraced", func(b *testing.B) { benchmarkMessage(b, true, true, false) })
	b.Run("traced", func(b *testing.B) { benchmarkMessage(b, true, true, true) })
}

func benchmarkMessage(b *testing.B, keep, ident, traced bool) {
	hop := demo.NewNextHop("")
	hopLis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = hop.Serve(hopLis) }()
	defer hop.Close()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := policy.Parse(filepath.Join(b.TempDir(), "postern.yaml"), fmt.Appendf(nil, `
hostname: mail.example.org
local_domains: [example.org]
listeners: [{protocol: lmtp, address: %q}]
settings: {forward_to: "smtp://%s"}
state: {dir: state}
`, in.Addr(), hopLis.Addr()), nil)
	if err != nil {
		b.Fatal(err)
	}
	d, err := newDaemon(cfg, slog.New(slog.DiscardHandler), noDNS{})
	if err != nil {
		b.Fatal(err)
	}
	if d.journal == nil {
		b.Fatal("there is no journal")
	}
	if !traced {
		d.filter.Load().Journal = nil
	}
	if err := d.start(func(policy.Listener) (net.Listener, error) { return in, nil }); err != nil {
		b.Fatal(err)
	}
	defer d.stop(b.Context())
	body := (&demo.Mail{From: "a@example.net", To: []string{"b@example.org"}, Subject: "bench"}).Text()
	body += strings.Repeat("We will meet on Monday morning to talk about the offer.\r\n", (4096-len(body))/57) + ".\r\n"
	var id atomic.Int64
	b.SetBytes(int64(len(body)))
	b.RunParallel(func(pb *testing.PB) {
		var c *demo.Client
		for pb.Next() {
			if c == nil {
				c = demo.Dial(in.Addr().String(), time.Hour)
				defer c.Close()
				c.Send("2", "LHLO localhost")
			}
			if ident {
				c.Send("2", "XFORWARD IDENT=%X", id.Add(1))
			}
			c.Send("2", "MAIL FROM:<a@example.net>")
			c.Send("2", "RCPT TO:<b@example.org>")
			c.Send("3", "DATA")
			c.Write(body)
			c.Expect("2")
			hop.Take()
			if c.Err != nil {
				b.Error(c.Err)
				return
			}
			if !keep {
				c.Send("2", "QUIT")
				c = nil
			}
		}
	})
}
