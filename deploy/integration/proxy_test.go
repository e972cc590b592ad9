//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
)

// newProxySite has a service of Postfix that hands mail to Postern while its
// client waits, set up as the README tells.
func newProxySite(t *testing.T) (s *site, gate string) {
	t.Helper()
	ports := freePorts(t, 2)
	s = newSiteWith(t, "virus: {destiny: reject}", addition{
		listeners: fmt.Sprintf("  - {protocol: smtp-proxy, address: %q, bank: GATE}\n", ports[1]),
		services:  ports[0] + " inet n - n - 20 smtpd\n  -o syslog_name=postfix/proxy\n",
		set: func(s *site) {
			s.tell(strings.NewReplacer("127.0.0.1]:10026", "127.0.0.1]:"+port(ports[1]), "'smtpd/pass", "'"+ports[0]+"/inet"),
				readmeCommands(t, "Before the queue: smtpd_proxy_filter", 3)...)
			// the next hop has senders that it does not take
			s.tell(strings.NewReplacer(), fmt.Sprintf("postconf -P '%s/inet/smtpd_end_of_data_restrictions=check_sender_access,inline:{never@example.net=REJECT,later@example.net=DEFER}'", s.reinject))
		},
	})
	return s, ports[0]
}

// TestProxyFilter: before the queue by smtpd_proxy_filter, the client hears the
// answer for its mail, Postern's or the next hop's.
func TestProxyFilter(t *testing.T) {
	s, gate := newProxySite(t)

	// long lines and dots go through two dialogues
	msg := message(world.from, "by proxy", "Hello\n.\n..x\n"+strings.Repeat("0123456789", 500))
	two := world
	two.rcpts = []string{"ann@example.org", "bob@example.org"}
	submit(t, gate, two, msg)
	s.settle()
	got := s.mailboxes.deliveries()
	if len(got) != 1 || len(got[0].rcpts) != 2 || !strings.HasSuffix(string(got[0].data), msg) {
		t.Fatalf("delivered: %v", got)
	}
	if got[0].header("X-Virus-Scanned") == "" {
		t.Error("no X-Virus-Scanned")
	}
	if lines := s.logged(`postfix/10025/smtpd\[\d+\]: \w+: client=`); len(lines) != 1 || !strings.Contains(lines[0], "orig_client=unknown[198.51.100.9]") {
		t.Errorf("the second pass does not know the client: %q", lines)
	}

	if reply := offer(t, gate, world, virus(world.from)); !strings.HasPrefix(reply, "554 5.7.0 Reject, id=") {
		t.Errorf("a virus: %s", reply)
	}

	// a refusal of the next hop is the client's answer, a delay as well
	for from, class := range map[string]string{"never@example.net": "554 5.7.1 ", "later@example.net": "450 4.7.1 "} {
		e := world
		e.from = from
		if reply := offer(t, gate, e, message(from, "refused", "Hello")); !strings.HasPrefix(reply, class) || !strings.Contains(reply, "Access denied") {
			t.Errorf("the next hop says %s, the client hears %s", class, reply)
		}
	}

	// without a scanner the client waits
	s.stopClamd()
	if reply := offer(t, gate, world, message(world.from, "no scanner", "Hello")); !strings.HasPrefix(reply, "451 4.") {
		t.Errorf("no scanner: %s", reply)
	}
	s.settle()
	if n := len(s.world.deliveries()); n > 0 {
		t.Errorf("%d mails to the world", n)
	}
	for _, want := range []string{
		"Passed CLEAN {RelayedInbound}, GATE [198.51.100.9]", "Blocked INFECTED (Eicar-Signature.UNOFFICIAL) {RejectedInbound}, GATE [198.51.100.9]",
	} {
		if !strings.Contains(s.posternLog(), want) {
			t.Errorf("the log has no %q:\n%s", want, s.posternLog())
		}
	}
}
