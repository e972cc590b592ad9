package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

// transaction is a message that came from a client.
func transaction(msg, client string) *mail.Transaction {
	tx := &mail.Transaction{From: "ann@x.test", Message: mail.NewMessage([]byte(msg))}
	tx.Client.Helo = "mail.x.test"
	tx.Client.Addr, _ = netip.ParseAddr(client)
	return tx
}

// both asks all that there is to ask.
var both = Questions{Signatures: true, Client: true}

func TestSPF(t *testing.T) {
	t.Parallel()
	// section numbers of RFC 7208
	dns := zone{
		"TXT x.test":                  {"unrelated", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"},
		"TXT mail.x.test":             {"v=spf1 a -all"},
		"A mail.x.test":               {"192.0.2.1"},
		"TXT soft.test":               {"v=spf1 ~all"},
		"TXT neutral.test":            {"v=spf1 ?all"},
		"TXT open.test":               {"v=spf1"},
		"TXT two.test":                {"v=spf1 +all", "v=spf1 -all"},
		"TXT v2.test":                 {"v=spf10 +all"},
		"TXT typo.test":               {"v=spf1 ipv4:192.0.2.1 -all"},
		"TXT down.test":               {"FAIL"},
		"TXT include.test":            {"v=spf1 include:x.test -all"},
		"TXT includenone.test":        {"v=spf1 include:gone.test -all"},
		"TXT includedown.test":        {"v=spf1 include:down.test -all"},
		"TXT redirect.test":           {"v=spf1 redirect=x.test"},
		"TXT mx.test":                 {"v=spf1 mx -all"},
		"MX mx.test":                  {"mail.x.test"},
		"TXT ptr.test":                {"v=spf1 ptr:x.test -all"},
		"PTR 192.0.2.1":               {"mail.x.test."},
		"TXT exists.test":             {"v=spf1 exists:%{ir}.%{l}.%{d} -all"},
		"A 1.2.0.192.ann.exists.test": {"127.0.0.2"},
		"TXT loop.test":               {"v=spf1 include:loop.test -all"},
		"TXT void.test":               {"v=spf1 a:n1.void.test a:n2.void.test a:n3.void.test +all"},
		"TXT \u00fc.test":             {"v=spf1 +all"},
		"TXT xn--tda.test":            {"v=spf1 +all"},
		"TXT evil.test":               {"v=spf1 +all"},
		"TXT single":                  {"v=spf1 +all"},
	}
	var many []string
	for i := range 11 {
		many = append(many, fmt.Sprintf("a:h%d.test", i))
		dns[fmt.Sprintf("A h%d.test", i)] = []string{"203.0.113.9"}
	}
	dns["TXT many.test"] = []string{"v=spf1 " + strings.Join(many, " ") + " +all"}
	for _, c := range []struct{ section, client, helo, from, wantHelo, want string }{
		{"2.4", "192.0.2.1", "mail.x.test", "ann@x.test", "helo mail.x.test pass", "mailfrom x.test pass"},
		{"2.4", "203.0.113.1", "mail.x.test", "ann@x.test", "helo mail.x.test fail", "mailfrom x.test fail"},
		{"2.4", "2001:db8::1", "mail.x.test", "ann@x.test", "helo mail.x.test fail", "mailfrom x.test pass"},
		{"2.4", "::ffff:192.0.2.7", "", "ann@X.Test", "helo  none", "mailfrom x.test pass"},
		{"2.4", "192.0.2.1", "mail.x.test", "", "helo mail.x.test pass", "mailfrom mail.x.test pass"},
		{"2.3", "192.0.2.1", "[192.0.2.1]", "", "helo  none", "mailfrom  none"},
		{"2.3", "192.0.2.1", "192.0.2.1", "ann", "helo  none", "mailfrom  none"},
		{"2.3", "192.0.2.1", "single", "ann@single", "helo  none", "mailfrom  none"},
		{"2.3", "192.0.2.1", "rub bish\r\n", "ann@gone.test", "helo  none", "mailfrom gone.test none"},
		{"2.6.1", "192.0.2.1", "h0.test", "ann@h0.test", "helo h0.test none", "mailfrom h0.test none"},
		{"2.6.2", "192.0.2.1", "", "ann@neutral.test", "helo  none", "mailfrom neutral.test neutral"},
		{"2.6.2", "192.0.2.1", "", "ann@open.test", "helo  none", "mailfrom open.test neutral"},
		{"2.6.5", "192.0.2.1", "", "ann@soft.test", "helo  none", "mailfrom soft.test softfail"},
		{"2.6.6", "192.0.2.1", "down.test", "ann@down.test", "helo down.test temperror", "mailfrom down.test temperror"},
		{"2.6.7", "192.0.2.1", "", "ann@typo.test", "helo  none", "mailfrom typo.test permerror"},
		{"4.3", "192.0.2.1", "", "ann@\u00fc.test", "helo  none", "mailfrom xn--tda.test pass"},
		{"4.3", "192.0.2.1", "", "ann@[192.0.2.1]", "helo  none", "mailfrom  none"},
		{"4.5", "192.0.2.1", "", "ann@two.test", "helo  none", "mailfrom two.test permerror"},
		{"4.5", "192.0.2.1", "", "ann@v2.test", "helo  none", "mailfrom v2.test none"},
		{"4.6.4", "192.0.2.1", "", "ann@many.test", "helo  none", "mailfrom many.test permerror"},
		{"4.6.4", "192.0.2.1", "", "ann@loop.test", "helo  none", "mailfrom loop.test permerror"},
		{"4.6.4", "192.0.2.1", "", "ann@void.test", "helo  none", "mailfrom void.test permerror"},
		{"5.2", "192.0.2.1", "", "ann@include.test", "helo  none", "mailfrom include.test pass"},
		{"5.2", "192.0.2.1", "", "ann@includenone.test", "helo  none", "mailfrom includenone.test permerror"},
		{"5.2", "192.0.2.1", "", "ann@includedown.test", "helo  none", "mailfrom includedown.test temperror"},
		{"5.4", "192.0.2.1", "", "ann@mx.test", "helo  none", "mailfrom mx.test pass"},
		{"5.5", "192.0.2.1", "", "ann@ptr.test", "helo  none", "mailfrom ptr.test pass"},
		{"5.7", "192.0.2.1", "", "ann@exists.test", "helo  none", "mailfrom exists.test pass"},
		{"5.7", "192.0.2.2", "", "ann@exists.test", "helo  none", "mailfrom exists.test fail"},
		{"6.1", "192.0.2.1", "", "ann@redirect.test", "helo  none", "mailfrom redirect.test pass"},
		// an "@" in a quoted local part does not choose the domain that is asked
		{"7.1", "192.0.2.1", "", `"ann@evil.test"@x.test`, "helo  none", "mailfrom x.test pass"},
		{"7.1", "203.0.113.1", "", `"ann@evil.test"@x.test`, "helo  none", "mailfrom x.test fail"},
		{"7.1", "203.0.113.1", "evil.test", `"@evil.test"@x.test`, "helo evil.test pass", "mailfrom x.test fail"},
	} {
		tx := transaction("From: ann@x.test\r\n\r\n", c.client)
		tx.Client.Helo, tx.From = c.helo, mail.Address(c.from)
		a := verifier(dns).Authenticate(t.Context(), tx, both)
		var got []string
		for _, r := range a.SPF {
			got = append(got, fmt.Sprintf("%s %s %s", r.Scope, r.Domain, r.Result))
		}
		if !slices.Equal(got, []string{c.wantHelo, c.want}) {
			t.Errorf("section %s, %s: %+v, want %s, %s", c.section, c.from, a.SPF, c.wantHelo, c.want)
		}
	}
	for _, c := range []struct {
		client string
		spf    bool
	}{{"192.0.2.1", false}, {"", true}} {
		// what SPF might have said is not known, so DMARC says nothing either
		if a := verifier(dns).Authenticate(t.Context(), transaction("From: ann@x.test\r\n\r\n", c.client), Questions{true, c.spf}); len(a.SPF) > 0 || a.DMARC != nil || !a.Unsigned {
			t.Errorf("%+v: %+v", c, a.SPF)
		}
	}
}
