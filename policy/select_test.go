package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/filter/mail"
)

// article is the set-up of design and documentation, with its correction.
const article = `hostname: mail.no-uce.de
domain: no-uce.de
local_domains: [.no-uce.de, .jeanbruenn.info]
own_networks: [127.0.0.0/8, 84.200.7.144/28]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:10023", bank: ORIGINATING}
  - {protocol: lmtp, address: "127.0.0.1:10024"}
  - {protocol: am.pdp, address: "unix:/run/am.pdp.sock", bank: AM.PDP-SOCK}
client_banks:
  - {networks: ["!84.200.7.154/32", 84.200.7.144/28], bank: INT-MTA}
settings:
  originating: false
  virus: {destiny: reject, admin: postmaster@no-uce.de}
banks:
  ORIGINATING: {originating: true}
  AM.PDP-SOCK: {originating: false, virus: {admin: ""}, dkim: {sign: false}}
  INT-MTA:
    originating: true
    dkim: {sign: true}
`

func parse(t testing.TB, text string) *Config {
	t.Helper()
	c, err := Parse("postern.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func selected(t testing.TB, c *Config, req Request) *Selection {
	t.Helper()
	sel, err := c.Select(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func client(s string) netip.Addr {
	a, _ := netip.ParseAddr(s) // "" is the unknown client
	return a
}

// TestSelectArticle has the cases of the article and of the reference runs.
func TestSelectArticle(t *testing.T) {
	t.Parallel()
	const lmtp, plain, sock = "127.0.0.1:10023", "127.0.0.1:10024", "unix:/run/am.pdp.sock"
	const own, remote = "himself@jeanbruenn.info", "xxx@gmail.com"
	c := parse(t, article)
	tests := []struct {
		listener, client, from, to string
		path                       string
		direction                  Direction
		reason                     string
	}{
		{lmtp, "91.11.190.91", own, remote, "ORIGINATING", Outbound, "bank ORIGINATING (postern.yaml:15) by listener 127.0.0.1:10023"},
		{lmtp, "", own, remote, "ORIGINATING", Outbound, "bank ORIGINATING (postern.yaml:15) by listener 127.0.0.1:10023"},
		{lmtp, "91.11.190.91", own, "user@no-uce.de", "ORIGINATING", Internal, "bank ORIGINATING (postern.yaml:15) by listener 127.0.0.1:10023"},
		// the sender plays no part
		{lmtp, "91.11.190.91", remote, "y@yahoo.test", "ORIGINATING", Outbound, "bank ORIGINATING (postern.yaml:15) by listener 127.0.0.1:10023"},
		{plain, "209.85.218.44", remote, own, "", Inbound, "base settings (postern.yaml:12)"},
		{plain, "127.0.0.1", remote, own, "", Inbound, "base settings (postern.yaml:12)"},
		{plain, "84.200.7.149", own, remote, "INT-MTA", Outbound, "bank INT-MTA (postern.yaml:18) by client 84.200.7.149 in 84.200.7.144/28"},
		{plain, "::ffff:84.200.7.149", own, remote, "INT-MTA", Outbound, "bank INT-MTA (postern.yaml:18) by client 84.200.7.149 in 84.200.7.144/28"},
		{lmtp, "84.200.7.149", own, remote, "ORIGINATING/INT-MTA", Outbound, "bank INT-MTA (postern.yaml:18) by client 84.200.7.149 in 84.200.7.144/28"},
		{sock, "209.85.218.44", remote, own, "AM.PDP-SOCK", Inbound, "bank AM.PDP-SOCK (postern.yaml:16) by listener unix:/run/am.pdp.sock"},
		{sock, "84.200.7.149", own, remote, "AM.PDP-SOCK/INT-MTA", Outbound, "bank INT-MTA (postern.yaml:18) by client 84.200.7.149 in 84.200.7.144/28"},
		// the excluded own address, and loopback, which client_banks does not name
		{sock, "84.200.7.154", own, remote, "AM.PDP-SOCK", OpenRelay, "bank AM.PDP-SOCK (postern.yaml:16) by listener unix:/run/am.pdp.sock"},
		{sock, "127.0.0.1", own, "user@no-uce.de", "AM.PDP-SOCK", Inbound, "bank AM.PDP-SOCK (postern.yaml:16) by listener unix:/run/am.pdp.sock"},
		{"unknown", "", own, "postmaster", "", Inbound, "base settings (postern.yaml:12)"},
	}
	for _, tt := range tests {
		sel := selected(t, c, Request{Listener: tt.listener, Client: client(tt.client), From: mail.Address(tt.from), Rcpts: []mail.Address{mail.Address(tt.to)}})
		where := fmt.Sprintf("%s %s %s %s", tt.listener, tt.client, tt.from, tt.to)
		if sel.BankPath() != tt.path || sel.Rcpts[0].Direction != tt.direction || sel.Reason != tt.reason {
			t.Errorf("%s:\n got %q %s %q\nwant %q %s %q", where, sel.BankPath(), sel.Rcpts[0].Direction, sel.Reason, tt.path, tt.direction, tt.reason)
		}
	}
	// banks lie over one another: INT-MTA signs because it says so, and sends
	// no notice because the bank below it switched that off
	sel := selected(t, c, Request{Listener: sock, Client: client("84.200.7.149"), From: own})
	if s := sel.Settings; !s.DKIM.Sign || s.AdminFor(mail.Infected) != "" || s.Origin("virus.admin").source() != "bank AM.PDP-SOCK (postern.yaml:16)" {
		t.Errorf("sign %v, admin %q from %s", s.DKIM.Sign, s.AdminFor(mail.Infected), s.Origin("virus.admin").source())
	}
}

// TestDirection is the whole truth table: originating x local x client known.
// The sender plays no part.
func TestDirection(t *testing.T) {
	t.Parallel()
	c := parse(t, `local_domains: [.ours.test]
own_networks: [10.0.0.0/8]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:1", bank: ORIGINATING}
  - {protocol: lmtp, address: "127.0.0.1:2", bank: NOT}
banks: {NOT: {originating: false}}
`)
	const ours, plain, not = "127.0.0.1:1", "", "127.0.0.1:2"
	for _, tt := range []struct {
		listener, client, to string
		originates           bool
		want                 Direction
	}{
		{plain, "192.0.2.1", "a@ours.test", false, Inbound},
		{plain, "192.0.2.1", "a@else.test", false, OpenRelay},
		{plain, "10.0.0.1", "a@ours.test", true, Internal},
		{plain, "10.0.0.1", "a@else.test", true, Outbound},
		{plain, "", "a@ours.test", false, Inbound},
		{plain, "", "a@else.test", false, OpenRelay},
		{ours, "192.0.2.1", "a@ours.test", true, Internal},
		{ours, "192.0.2.1", "a@else.test", true, Outbound},
		{ours, "", "a@ours.test", true, Internal},
		{ours, "", "a@else.test", true, Outbound},
		// the client comes after the listener
		{not, "10.0.0.1", "a@ours.test", true, Internal},
		{not, "", "a@ours.test", false, Inbound},
		// nobody is local without a domain of ours
		{plain, "", "a@[192.0.2.1]", false, OpenRelay},
		{plain, "", "", false, OpenRelay},
	} {
		for _, from := range []mail.Address{"", "b@ours.test", "b@else.test"} {
			sel := selected(t, c, Request{Listener: tt.listener, Client: client(tt.client), From: from, Rcpts: []mail.Address{mail.Address(tt.to)}})
			if r := sel.Rcpts[0]; sel.Originating != tt.originates || r.Direction != tt.want || sel.SenderLocal != (from == "b@ours.test") {
				t.Errorf("%s %s %s to %s: originating %v, %s, sender local %v", tt.listener, tt.client, from, tt.to, sel.Originating, r.Direction, sel.SenderLocal)
			}
		}
	}
}

// TestLoadOrder has one line for each rule by which Amavis loads banks, with
// what is different here.
func TestLoadOrder(t *testing.T) {
	t.Parallel()
	c := parse(t, `local_domains: [ours.test]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:1", bank: PORT}
  - {protocol: lmtp, address: "[::1]:1", bank: PORT6}
  - {protocol: milter, address: "unix:/run/m.sock", bank: SOCK}
  - {protocol: lmtp, address: "127.0.0.1:2"}
client_banks:
  - {networks: ["!10.1.0.0/16", 10.0.0.0/8], bank: [NET1, NET2]}
  - {networks: [10.0.0.0/8, 192.0.2.0/24], bank: SECOND}
  - {networks: [0.0.0.0/32], bank: ZERO}
banks:
  PORT: {virus: {admin: port@ours.test, lover: true}}
  PORT6: {}
  SOCK: {virus: {admin: ""}}
  NET1: {originating: true}
  NET2: {virus: {subject_tag: net2}}
  SECOND: {}
  ZERO: {originating: true}
  MYNETS: {originating: false}
  R1: {}
  R2: {}
`)
	for _, tt := range []struct {
		rule string
		req  Request
		path string
	}{
		{"the base is always there", Request{Listener: "127.0.0.1:2"}, ""},
		{"bank of the port", Request{Listener: "127.0.0.1:1"}, "PORT"},
		{"bank of an IPv6 port", Request{Listener: "[::1]:1"}, "PORT6"},
		{"bank of a socket", Request{Listener: "unix:/run/m.sock"}, "SOCK"},
		{"the first table with the client wins, its banks in order", Request{Client: client("10.0.0.1")}, "NET1/NET2"},
		{"an exclusion is no match: the next table is asked", Request{Client: client("10.1.0.1")}, "SECOND"},
		{"no table has the client", Request{Client: client("198.51.100.1")}, ""},
		{"unknown is not 0.0.0.0, as it is for Amavis", Request{}, ""},
		{"an IPv4 client in IPv6 form", Request{Client: client("::ffff:192.0.2.1")}, "SECOND"},
		{"banks of the request come after the client's, in its order", Request{Client: client("192.0.2.1"), Banks: []string{"R2", "R1"}}, "SECOND/R2/R1"},
		{"a request for a bank that does not exist is ignored", Request{Banks: []string{"SMTP_AUTH"}}, ""},
		{"the bank loaded last is not loaded again", Request{Listener: "127.0.0.1:1", Banks: []string{"PORT", "R1", "PORT"}}, "PORT/R1/PORT"},
		{"client_banks take the place of MYNETS", Request{Client: client("127.0.0.1")}, ""},
		{"MYUSERS does not exist", Request{Client: client("10.0.0.1"), From: "a@ours.test"}, "NET1/NET2"},
	} {
		if sel := selected(t, c, tt.req); sel.BankPath() != tt.path {
			t.Errorf("%s: path %q, want %q", tt.rule, sel.BankPath(), tt.path)
		}
	}
	// mappings merge key by key, an empty value replaces too
	s := selected(t, c, Request{Listener: "127.0.0.1:1", Client: client("10.0.0.1")}).Settings
	if v := s.Virus; v.Admin != "port@ours.test" || !v.Lover || v.SubjectTag != "net2" || v.Destiny != Reject {
		t.Errorf("merged: %+v", v)
	}
	if s := selected(t, c, Request{Listener: "unix:/run/m.sock", Banks: []string{"PORT", "SOCK"}}).Settings; s.Virus.Admin != "" || !s.Virus.Lover {
		t.Errorf("emptied: %+v", s.Virus)
	}
	// what a bank says of originating wins over what its name implies
	if selected(t, c, Request{Banks: []string{"MYNETS"}}).Originating {
		t.Error("MYNETS with originating: false is originating")
	}
}

func TestMynets(t *testing.T) {
	t.Parallel()
	const lists = "domain: ours.test\nlocal_domains: [ours.test]\nown_networks: [\"!10.9.0.0/16\", 10.0.0.0/8]\n"
	tests := []struct {
		name, text, client string
		path               string
		originating        bool
	}{
		{"without a bank", "", "10.0.0.1", "MYNETS", true},
		{"excluded", "", "10.9.0.1", "", false},
		{"other client", "", "192.0.2.1", "", false},
		{"unknown client", "", "", "", false},
		{"with a bank", "banks: {MYNETS: {dkim: {verify: false}}}\n", "10.0.0.1", "MYNETS", true},
		{"redefined", "banks: {MYNETS: {originating: false}}\n", "10.0.0.1", "MYNETS", false},
		{"client_banks given", "client_banks: [{networks: [192.0.2.0/24], bank: INT}]\nbanks: {INT: {originating: false}}\n", "10.0.0.1", "", false},
		{"client_banks names it", "client_banks: [{networks: [192.0.2.0/24], bank: MYNETS}]\n", "192.0.2.1", "MYNETS", true},
	}
	for _, tt := range tests {
		c := parse(t, lists+tt.text)
		sel := selected(t, c, Request{Client: client(tt.client), From: "a@ours.test"})
		if sel.BankPath() != tt.path || sel.Originating != tt.originating {
			t.Errorf("%s: got %q originating %v (%s)", tt.name, sel.BankPath(), sel.Originating, sel.Reason)
		}
	}
}

// TestOverlayOrder lets every place set the same key and removes the last one
// step by step.
func TestOverlayOrder(t *testing.T) {
	t.Parallel()
	c := parse(t, `local_domains: [ours.test]
listeners: [{protocol: lmtp, address: "127.0.0.1:1", bank: LISTENER}]
client_banks:
  - {networks: [10.9.0.0/16], bank: LISTENER}
  - {networks: [10.0.0.0/8], bank: [CLIENT1, CLIENT2]}
  - {networks: [10.0.0.0/7], bank: REQUEST}
settings: {virus: {admin: base@ours.test, subject_tag: base}}
banks:
  LISTENER: {virus: {admin: listener@ours.test}}
  CLIENT1: {virus: {admin: client1@ours.test, subject_tag: client1}}
  CLIENT2: {virus: {admin: client2@ours.test}, originating: true}
  REQUEST: {virus: {admin: request@ours.test}}
  MYUSERS: {virus: {admin: myusers@ours.test}}
senders:
  - {match: ours.test, settings: {virus: {admin: sender-domain@ours.test}}}
  - {match: s@ours.test, settings: {virus: {admin: sender@ours.test}}}
recipients:
  - {match: r@ours.test, settings: {virus: {admin: rcpt@ours.test}}}
  - {match: [.ours.test, r@ours.test], settings: {virus: {admin: rcpt-domain@ours.test, lover: true}}}
`)
	tests := []struct {
		req     Request
		path    string
		message mail.Address
		rcpt    mail.Address
	}{
		{Request{}, "", "base", "base"},
		{Request{Listener: "127.0.0.1:1"}, "LISTENER", "listener", "listener"},
		{Request{Listener: "127.0.0.1:1", Client: client("10.0.0.1")}, "LISTENER/CLIENT1/CLIENT2", "client2", "client2"},
		{Request{Listener: "127.0.0.1:1", Client: client("11.0.0.1")}, "LISTENER/REQUEST", "request", "request"},
		// twice in a row is once, but a bank can come back
		{Request{Listener: "127.0.0.1:1", Client: client("10.9.0.1")}, "LISTENER", "listener", "listener"},
		{Request{Client: client("10.0.0.1"), Banks: []string{"CLIENT2", "CLIENT1"}}, "CLIENT1/CLIENT2/CLIENT1", "client1", "client1"},
		{Request{Client: client("10.0.0.1"), Banks: []string{"SMTP_AUTH", "REQUEST"}}, "CLIENT1/CLIENT2/REQUEST", "request", "request"},
		{Request{Client: client("10.0.0.1"), Banks: []string{"REQUEST"}, From: "x@ours.test"}, "CLIENT1/CLIENT2/REQUEST/MYUSERS", "sender-domain", "sender-domain"},
		{Request{Client: client("10.0.0.1"), Banks: []string{"REQUEST"}, From: "S+x@ours.test"}, "CLIENT1/CLIENT2/REQUEST/MYUSERS", "sender", "sender"},
		// MYUSERS needs all of: originating, a sender, a local one
		{Request{From: "x@ours.test"}, "", "sender-domain", "sender-domain"},
		{Request{Client: client("10.0.0.1")}, "CLIENT1/CLIENT2", "client2", "client2"},
		{Request{Client: client("10.0.0.1"), From: "x@else.test"}, "CLIENT1/CLIENT2", "client2", "client2"},
		{Request{Client: client("10.0.0.1"), From: "s@ours.test", Rcpts: []mail.Address{"r+x@OURS.test"}}, "CLIENT1/CLIENT2/MYUSERS", "sender", "rcpt"},
		{Request{Client: client("10.0.0.1"), From: "s@ours.test", Rcpts: []mail.Address{"q@x.ours.test"}}, "CLIENT1/CLIENT2/MYUSERS", "sender", "rcpt-domain"},
		{Request{Listener: "127.0.0.1:1", Rcpts: []mail.Address{"r@else.test"}}, "LISTENER", "listener", "listener"},
	}
	for _, tt := range tests {
		if tt.req.Rcpts == nil {
			tt.req.Rcpts = []mail.Address{"q@else.test"}
		}
		sel := selected(t, c, tt.req)
		if sel.BankPath() != tt.path {
			t.Errorf("%+v: path %q, want %q", tt.req, sel.BankPath(), tt.path)
		}
		if got := sel.Settings.Virus.Admin; got != tt.message+"@ours.test" {
			t.Errorf("%+v: admin of the message %q, want %q", tt.req, got, tt.message)
		}
		if got := sel.Rcpts[0].Settings.Virus.Admin; got != tt.rcpt+"@ours.test" {
			t.Errorf("%+v: admin of the recipient %q, want %q", tt.req, got, tt.rcpt)
		}
	}
	// what the more specific rule leaves alone comes from the other one
	sel := selected(t, c, Request{Rcpts: []mail.Address{"r@ours.test", "r@else.test", "q@ours.test"}})
	for i, want := range []bool{true, false, true} {
		if sel.Rcpts[i].Settings.Virus.Lover != want {
			t.Errorf("recipient %d: lover %v", i, !want)
		}
	}
	var path []string
	for _, st := range sel.Rcpts[0].Path {
		path = append(path, st.Bank+"|"+st.Reason)
	}
	want := []string{"|recipients[1] at postern.yaml:19 by recipient <r@ours.test>", "|recipients[0] at postern.yaml:18 by recipient <r@ours.test>"}
	if !slices.Equal(path, want) {
		t.Errorf("path of the recipient:\n got %q\nwant %q", path, want)
	}
	if len(sel.Rcpts[1].Path) != 0 || len(sel.Path) != 0 {
		t.Error("the path of one recipient reached another")
	}
	if got := selected(t, c, Request{Client: client("10.0.0.1"), From: "s@ours.test"}).Path; len(got) != 5 || got[4].Reason != "senders[1] at postern.yaml:16 by sender <s@ours.test>" {
		t.Errorf("path with sender rules: %+v", got)
	}
}

func TestRuleFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "lovers.txt", "# people who want all\nboss@ours.test\n/^abuse[+@]/\nlab.test # all of it\n")
	write(t, dir, "own.txt", "10.0.0.0/8\n")
	c, err := Parse(dir+"/postern.yaml", []byte("own_networks: [\"file:own.txt\"]\nrecipients: [{match: \"file:lovers.txt\", settings: {spam: {lover: true}}}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sel := selected(t, c, Request{Client: client("10.0.0.1"), Rcpts: []mail.Address{"boss@ours.test", "abuse@x.test", "a@lab.test", "a@x.lab.test", "abuser@x.test"}})
	for i, want := range []bool{true, true, true, false, false} {
		if sel.Rcpts[i].Settings.Spam.Lover != want {
			t.Errorf("%s: lover %v", sel.Rcpts[i].Address, !want)
		}
	}
	if want := "client 10.0.0.1 in 10.0.0.0/8 (own.txt:1)"; !strings.HasSuffix(sel.Reason, want) {
		t.Errorf("reason %q, want %q at its end", sel.Reason, want)
	}
}

func TestIsLocal(t *testing.T) {
	t.Parallel()
	c := parse(t, "domain: ours.test\nlocal_domains: [ours.test, .bücher.test]\n")
	for addr, want := range map[mail.Address]bool{
		"": false, "a@ours.test": true, "a@OURS.TEST": true, "a@x.ours.test": false, "postmaster": true,
		"a@x.xn--bcher-kva.test": true, "a@bücher.test": true, `"a@ours.test"`: false, `"@ours.test"@else.test`: false,
		"a@ours.test@else.test": false, "a@": false,
	} {
		if c.IsLocal(addr) != want {
			t.Errorf("%s: local %v", addr, !want)
		}
	}
	if parse(t, "hostname: mail.else.test\nlocal_domains: [ours.test]\n").IsLocal("postmaster") {
		t.Error("an address without a domain is local although our own domain is not")
	}
}

type lookupFunc func(context.Context, mail.Address) ([]*Overlay, error)

func (f lookupFunc) Lookup(ctx context.Context, a mail.Address) ([]*Overlay, error) { return f(ctx, a) }

func TestLookup(t *testing.T) {
	t.Parallel()
	c := parse(t, `recipients: [{match: b@ours.test, settings: {virus: {admin: file@ours.test}, spam: {lover: true}}}]
banks: {SQL1: {virus: {admin: one@ours.test}}, SQL2: {virus: {admin: two@ours.test}}}
`)
	c.AddLookup(lookupFunc(func(_ context.Context, a mail.Address) ([]*Overlay, error) {
		if a == "b@ours.test" {
			return []*Overlay{c.Bank("SQL2"), c.Bank("SQL1")}, nil
		}
		return nil, nil
	}))
	sel := selected(t, c, Request{Rcpts: []mail.Address{"a@ours.test", "b@ours.test"}})
	if a, b := sel.Rcpts[0].Settings, sel.Rcpts[1].Settings; a.Virus.Admin != "" || b.Virus.Admin != "one@ours.test" || !b.Spam.Lover {
		t.Errorf("got %q and %q", a.Virus.Admin, b.Virus.Admin)
	}
}

// TestLookupFails: one deadline for the message, then 451 or, by on_error,
// the settings without the lookup; never those of somebody else.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection refused")
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	tests := map[string]struct {
		lookup lookupFunc
		want   string
	}{
		"error":   {func(context.Context, mail.Address) ([]*Overlay, error) { return nil, broken }, "connection refused"},
		"panic":   {func(context.Context, mail.Address) ([]*Overlay, error) { panic("oops") }, "oops"},
		"hanging": {func(ctx context.Context, _ mail.Address) ([]*Overlay, error) { <-ctx.Done(); return nil, ctx.Err() }, "deadline"},
		"deaf":    {func(context.Context, mail.Address) ([]*Overlay, error) { <-forever; return nil, nil }, "deadline"},
	}
	const text = `recipients:
  - {match: pass@ours.test, settings: {on_error: pass, spam: {lover: true}}}
  - {match: also@ours.test, settings: {on_error: pass}}
`
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := parse(t, text)
			var asked atomic.Int64
			c.AddLookup(lookupFunc(func(ctx context.Context, a mail.Address) ([]*Overlay, error) {
				asked.Add(1)
				return tt.lookup(ctx, a)
			}))
			c.selector.timeout = 1 // a nanosecond: it has passed when it is asked for
			if tt.want != "deadline" {
				c.selector.timeout = lookupTimeout
			}
			_, err := c.Select(context.Background(), Request{Rcpts: []mail.Address{"pass@ours.test", "also@ours.test", "a@ours.test"}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "<pass@ours.test>") {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			sel := selected(t, c, Request{Rcpts: []mail.Address{"pass@ours.test", "also@ours.test"}})
			for _, r := range sel.Rcpts {
				if r.Settings.Spam.Lover != (r.Address == "pass@ours.test") || !strings.Contains(r.Path[1].Reason, "on_error: pass") {
					t.Errorf("%s: %+v", r.Address, r.Path)
				}
			}
			if n := asked.Load(); n > 2 {
				t.Errorf("asked %d times for two messages: each recipient costs a deadline", n)
			}
		})
	}
}

// TestSelectConcurrently is for the race detector.
func TestSelectConcurrently(t *testing.T) {
	t.Parallel()
	c := parse(t, article+`recipients: [{match: .no-uce.de, settings: {spam: {lover: true}}}]
`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				own := (i+j)%2 == 0
				req := Request{Listener: "127.0.0.1:10024", Client: client("192.0.2.1"), From: "x@y.test", Rcpts: []mail.Address{"a@no-uce.de", "b@gmail.com"}}
				if own {
					req.Client = client("84.200.7.150")
				}
				sel, err := c.Select(context.Background(), req)
				if err != nil || sel.Originating != own || !sel.Rcpts[0].Settings.Spam.Lover || sel.Rcpts[1].Settings.Spam.Lover || sel.Rcpts[0].Settings.DKIM.Sign != true {
					t.Errorf("%+v %v", sel, err)
				}
				Decide(sel, []mail.Finding{found(mail.Infected, 0)}, nil)
			}
		})
	}
	wg.Wait()
}

// Layers are kept for overlays of the configuration, up to a bound, and not for
// what a lookup gives, which is new for every message.
func TestLayers(t *testing.T) {
	t.Parallel()
	o := builtInBank("A")
	s := &selector{base: &layer{settings: &Settings{}}}
	s.layers.Store(maxLayers)
	if a, b := s.over(s.base, o), s.over(s.base, o); a == b || !a.settings.Originating || !b.settings.Originating {
		t.Error("more than the bound was kept, or gave wrong settings")
	}
	s.layers.Store(0)
	if a, b := s.over(s.base, o), s.over(s.base, o); a != b {
		t.Error("not kept")
	}
	c := parse(t, "banks: {ORIGINATING: {spam: {lover: true}}}\nrecipients: [{match: ., settings: {virus: {lover: true}}}]")
	c.AddLookup(lookupFunc(func(context.Context, mail.Address) ([]*Overlay, error) { return []*Overlay{builtInBank("new")}, nil }))
	for range 5 {
		sel := selected(t, c, Request{Listener: "127.0.0.1:10023", Rcpts: []mail.Address{"a@x.test", "b@x.test"}})
		for _, r := range sel.Rcpts {
			if s := r.Settings; !s.Spam.Lover || !s.Virus.Lover || s.Origin("originating").Bank != "new" {
				t.Errorf("%s: %+v", r.Address, r.Path)
			}
		}
	}
	if n := c.selector.layers.Load(); n != 2 {
		t.Errorf("%d layers are kept, want that of the bank and that of the rule", n)
	}
}

// BenchmarkSelect is one recipient of a configuration with 10,000 recipient
// entries and 1,000 networks.
func BenchmarkSelect(b *testing.B) {
	var text strings.Builder
	text.WriteString("local_domains: [.ours.test]\nclient_banks:\n  - bank: INT\n    networks:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "      - \"%s10.%d.%d.0/24\"\n", []string{"", "!"}[i%2], i/250, i%250)
	}
	text.WriteString("banks: {INT: {originating: true}}\nrecipients:\n")
	for i := range 10000 {
		fmt.Fprintf(&text, "  - {match: user%d@d%d.ours.test, settings: {spam: {kill_level: %d}}}\n", i, i%100, 1+i)
	}
	c := parse(b, text.String())
	reqs := make([]Request, 10000)
	for i := range reqs {
		rcpt := mail.Address(fmt.Sprintf("user%d+x@d%d.ours.test", i, i%100))
		reqs[i] = Request{Listener: "127.0.0.1:10023", Client: netip.AddrFrom4([4]byte{10, byte(i % 4), byte(i % 250), 7}), From: "a@b.test", Rcpts: []mail.Address{rcpt}}
	}
	i := 0
	for b.Loop() {
		if _, err := c.Select(context.Background(), reqs[i%len(reqs)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkSelectArticle(b *testing.B) {
	c := parse(b, article)
	req := Request{Listener: "127.0.0.1:10023", Client: client("84.200.7.149"), From: "himself@jeanbruenn.info", Rcpts: []mail.Address{"xxx@gmail.com"}}
	for b.Loop() {
		if _, err := c.Select(context.Background(), req); err != nil {
			b.Fatal(err)
		}
	}
}

// Postfix resolves some addresses in a domain of ours to somewhere else: who
// sends under one of them is not one of our own people.
func TestRoutedSenderIsNotLocal(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "hostname: mail.example.org\nlocal_domains: [example.org]\n")
	for from, want := range map[mail.Address]bool{
		"ann@example.org": true, "ann+tag@example.org": true, "victim@example.com": false,
		"victim%example.com@example.org": false, `"victim@example.com"@example.org`: false,
		"example.com!victim@example.org": false, "victim@example.com@example.org": false,
	} {
		sel, err := c.Select(t.Context(), Request{From: from, Rcpts: []mail.Address{"b@example.net"}})
		if err != nil {
			t.Fatal(err)
		}
		if sel.SenderLocal != want {
			t.Errorf("%s: local %v", from, sel.SenderLocal)
		}
	}
}
