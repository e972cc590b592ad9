//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestNoStrangerIsTold drives through a real Postfix, from outside, what once
// made it write to a forged sender: nothing may leave for the world, whatever
// the answer is.
func TestNoStrangerIsTold(t *testing.T) {
	s := newSite(t, "virus: {destiny: bounce}\nlimits: {message_size: 100KiB}")
	const victim = "victim@example.com"
	mark := "Received: from x by localhost (mail.example.org [127.0.0.1]) (Postern, port 10024, mark AAAAAAAAAAAAAAAA) with LMTP id abcdefghijkl; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
	marks := strings.Repeat(mark, 3)
	long := strings.Repeat("+2B", 600) // Postfix repeats 1,800 octets of it
	for _, c := range []struct {
		name    string
		e       envelope
		message string
		taken   bool // it arrives; else it waits
	}{
		{"forged marks", envelope{}, marks + message(victim, "forged", "x"), true},
		{"forged marks, HELO a literal", envelope{helo: "[127.0.0.1]"}, marks + message(victim, "forged literal", "x"), true},
		{"forged marks, HELO inside", envelope{helo: "[10.0.0.1]"}, marks + message(victim, "forged inside", "x"), true},
		{"forged marks, HELO of six", envelope{helo: "[IPv6:::1]"}, marks + message(victim, "forged six", "x"), true},
		{"long ORCPT", envelope{rcpts: []string{"ann@example.org> ORCPT=rfc822;" + long + "@example.org"}}, message(victim, "long orcpt", "x"), true},
		{"odd ORCPT", envelope{rcpts: []string{"ann@example.org> ORCPT=x400;c+3Dde"}}, message(victim, "odd orcpt", "x"), true},
		{"control character in the sender", envelope{from: "\"a\x01b\"@example.com"}, message(victim, "control", "x"), true},
		{"long sender", envelope{from: strings.Repeat("x", 500) + "@example.com"}, message(victim, "long sender", "x"), true},
		{"virus from a long sender", envelope{from: strings.Repeat("x", 500) + "@example.com"}, virus(victim), true},
		{"over the limit", envelope{}, message(victim, "large", strings.Repeat(strings.Repeat("x", 70)+"\n", 2000)), false},
	} {
		e := c.e
		e.client = "198.51.100.9"
		if e.from == "" {
			e.from = victim
		}
		if e.rcpts == nil {
			e.rcpts = []string{"ann@example.org"}
		}
		before := strings.Count(s.mailLog(), "status=")
		submit(t, s.mx, e, c.message)
		want := "status=sent"
		if !c.taken {
			want = "status=deferred"
		}
		eventually(t, c.name, func() bool { return strings.Count(s.mailLog(), "status=") > before })
		lines := strings.Split(s.mailLog(), "\n")
		var last string
		for _, l := range lines {
			if strings.Contains(l, "status=") {
				last = l
			}
			if strings.Contains(l, "status=bounced") {
				t.Fatalf("%s: bounced: %s", c.name, l)
			}
		}
		if !strings.Contains(last, want) {
			t.Errorf("%s: want %s: %.400s", c.name, want, last)
		}
	}
	// senders of ours in form, whom Postfix resolves to somewhere else
	for i, from := range []string{"victim%example.com@example.org", "\"victim@example.com\"@example.org", "example.com!victim@example.org"} {
		before := strings.Count(s.mailLog(), "status=")
		submit(t, s.submission, envelope{client: "192.0.2.7", from: from, rcpts: []string{"bob@example.net"}}, virus("ann@example.org"))
		eventually(t, fmt.Sprint("routed sender ", i), func() bool { return strings.Count(s.mailLog(), "status=") > before })
	}
	// own mail that nobody waits for an answer to
	for _, field := range []string{"Precedence: (c) bulk", "X-BeenThere: l@example.org", "Sender: owner-l@example.org"} {
		before := strings.Count(s.mailLog(), "status=")
		submit(t, s.submission, own, field+"\r\n"+virus("ann@example.org"))
		eventually(t, field, func() bool { return strings.Count(s.mailLog(), "status=") > before })
	}
	if got := s.world.deliveries(); len(got) != 0 {
		t.Errorf("the world got %v", got)
	}
	for _, d := range s.mailboxes.deliveries() {
		if d.from == "" {
			t.Errorf("a report: %v", d)
		}
	}
	if log := s.mailLog(); strings.Contains(log, "non-delivery notification") {
		t.Error("Postfix has written a report")
	}
}
