package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

// The section numbers are those of RFC 9989.

func TestDMARCRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ section, txt, want string }{
		{"4.7", "v=DMARC1; p=reject", "p=reject sp= np= psd=u"},
		{"4.7", "v=DMARC1;p=none;sp=quarantine;np=reject;adkim=s;aspf=s;t=y;psd=n", "p=none sp=quarantine np=reject psd=n adkim=s aspf=s t=y"},
		{"4.7", "v=DMARC1", "p=none sp= np= psd=u"},
		{"4.7", "v=DMARC1; psd=y", "p=none sp= np= psd=y"},
		{"4.7", "v=DMARC1; sp=reject", "p=none sp=reject np= psd=u"},
		{"4.7", "p=reject; v=DMARC1", "no"},
		{"4.7", "v=dmarc1; p=reject", "no"},
		{"4.7", "v=DMARC2; p=reject", "no"},
		{"4.7", "v=DMARC1 p=reject", "no"},
		{"4.7", "v=DMARC12; p=reject", "no"},
		{"4.7", "", "no"},
		{"4.7", "v=spf1 -all", "no"},
		{"4.8", " v = DMARC1 ;\tp = Reject ; T=Y;", "p=reject sp= np= psd=u t=y"},
		{"4.8", "V=DMARC1; P=REJECT", "p=reject sp= np= psd=u"},
		{"4.8", "v=DMARC1; p=reject; pct=0; ri=1; rf=afrf; x=y; nonsense; =; ;;", "p=reject sp= np= psd=u"},
		{"4.8", "v=DMARC1; p=reject; adkim=x; aspf=; t=maybe; psd=q", "p=reject sp= np= psd=u"},
		{"4.8", "v=DMARC1; sp=none; p=reject", "p=reject sp=none np= psd=u"},
		{"4.8", "v=DMARC1; p=reject; p=none", "p=reject sp= np= psd=u"},
		{"4.10.1", "v=DMARC1; p=discard", "unusable"},
		{"4.10.1", "v=DMARC1; p=", "unusable"},
		{"4.10.1", "v=DMARC1; p=reject; sp=discard", "unusable"},
		{"4.10.1", "v=DMARC1; p=reject; np=discard; rua=nobody", "unusable"},
		{"4.10.1", "v=DMARC1; p=discard; rua=mailto:a@x.test", "p=none sp= np= psd=u"},
		{"4.10.1", "v=DMARC1; p=reject; sp=discard; np=reject; rua=bad,mailto:a@x.test!10m", "p=none sp= np= psd=u"},
		{"4.8", "v=DMARC1; p=reject; x=" + strings.Repeat("x", maxTagged), "no"},
	} {
		r, ok := parseDMARC(c.txt)
		got := fmt.Sprintf("p=%s sp=%s np=%s psd=%c", r.p, r.sp, r.np, r.suffix)
		for _, f := range []struct {
			set  bool
			word string
		}{{r.strictDKIM, " adkim=s"}, {r.strictSPF, " aspf=s"}, {r.testing, " t=y"}} {
			if f.set {
				got += f.word
			}
		}
		switch {
		case !ok:
			got = "no"
		case r.unusable:
			got = "unusable"
		}
		if got != c.want {
			t.Errorf("section %s, %.80q: %s, want %s", c.section, c.txt, got, c.want)
		}
	}
}

// Section 4.10: at most eight questions, the name itself and the last seven
// labels.
func TestTreeWalk(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]string{
		"com":                "com",
		"example.com":        "example.com com",
		"a.mail.example.com": "a.mail.example.com mail.example.com example.com com",
		"a.b.c.d.e.f.g.com":  "a.b.c.d.e.f.g.com b.c.d.e.f.g.com c.d.e.f.g.com d.e.f.g.com e.f.g.com f.g.com g.com com",
		"a.b.c.d.e.f.g.h.i.j.mail.example.com": "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com " +
			"i.j.mail.example.com j.mail.example.com mail.example.com example.com com",
	} {
		dns := &counting{Lookup: zone{"TXT elsewhere": {"x"}}}
		if _, err := verifier(dns).walk(t.Context(), domain); err != nil {
			t.Error(err)
		}
		if got := strings.ReplaceAll(strings.Join(dns.asked, " "), "_dmarc.", ""); got != want {
			t.Errorf("%s: %s", domain, got)
		}
	}
	// a record with psd=n or psd=y ends it
	for _, psd := range []string{"y", "n"} {
		dns := &counting{Lookup: zone{"TXT _dmarc.example.com": {"v=DMARC1; psd=" + psd}}}
		if _, err := verifier(dns).walk(t.Context(), "a.example.com"); err != nil || dns.count() != 2 {
			t.Errorf("psd=%s: %v, %v", psd, dns.asked, err)
		}
	}
}

// Section 4.10.2, its examples among them.
func TestOrganization(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dns  zone
		from string
		want string
	}{
		{zone{}, "a.mail.example.com", "a.mail.example.com"},
		{zone{"TXT _dmarc.mail.example.com": {"v=DMARC1"}, "TXT _dmarc.example.com": {"v=DMARC1"}}, "a.mail.example.com", "example.com"},
		{zone{"TXT _dmarc.mail.example.com": {"v=DMARC1; psd=n"}, "TXT _dmarc.example.com": {"v=DMARC1"}}, "a.mail.example.com", "mail.example.com"},
		{zone{"TXT _dmarc.com": {"v=DMARC1; psd=y"}}, "a.mail.example.com", "example.com"},
		{zone{"TXT _dmarc.example.com": {"v=DMARC1; psd=y"}}, "mail.example.com", "mail.example.com"},
		{zone{"TXT _dmarc.example.com": {"v=DMARC1; psd=y"}}, "example.com", "example.com"},
		{zone{"TXT _dmarc.co.uk": {"v=DMARC1; psd=y"}, "TXT _dmarc.a.b.example.co.uk": {"v=DMARC1"}}, "a.b.example.co.uk", "example.co.uk"},
		{zone{"TXT _dmarc.example.com": {"v=DMARC1", "v=DMARC1"}}, "a.example.com", "a.example.com"},
		{zone{"TXT _dmarc.example.com": {"v=DMARC1; p=reject", "v=spf1 -all"}}, "a.example.com", "example.com"},
		{zone{"TXT _dmarc.com": {"v=DMARC1"}}, "a.example.com", "com"},
		{zone{"TXT _dmarc.a.b.c.d.e.f.g.h.i.com": {"v=DMARC1"}}, "a.b.c.d.e.f.g.h.i.com", "a.b.c.d.e.f.g.h.i.com"},
	} {
		records, err := verifier(c.dns).walk(t.Context(), c.from)
		if got := organization(c.from, records); err != nil || got != c.want {
			t.Errorf("%v: %s is of %s, want %s; %v", c.dns, c.from, got, c.want, err)
		}
	}
}

func TestDMARC(t *testing.T) {
	t.Parallel()
	base := func(more zone) zone {
		z := zone{
			"TXT _dmarc.x.test":       {"v=DMARC1; p=reject; sp=quarantine; np=none"},
			"A sub.x.test":            {"192.0.2.1"},
			"TXT _dmarc.strict.test":  {"v=DMARC1; p=reject; adkim=s; aspf=s"},
			"TXT _dmarc.try.test":     {"v=DMARC1; p=reject; t=y"},
			"TXT _dmarc.tryq.test":    {"v=DMARC1; p=quarantine; t=y"},
			"TXT _dmarc.tryn.test":    {"v=DMARC1; p=none; t=y"},
			"TXT _dmarc.bank":         {"v=DMARC1; p=reject; np=reject; sp=none; psd=y"},
			"A www.small.bank":        {"192.0.2.1"},
			"TXT _dmarc.big.bank":     {"v=DMARC1; p=quarantine"},
			"TXT _dmarc.own.x.test":   {"v=DMARC1; p=none; sp=reject; psd=n"},
			"TXT _dmarc.bad.test":     {"v=DMARC1; p=what"},
			"TXT _dmarc.rua.test":     {"v=DMARC1; p=what; rua=mailto:a@rua.test"},
			"TXT _dmarc.two.test":     {"v=DMARC1; p=reject", "v=DMARC1; p=none"},
			"TXT _dmarc.down.test":    {"FAIL"},
			"A a.down.test":           {"192.0.2.1"},
			"A other.test":            {"192.0.2.1"},
			"TXT _dmarc.xn--tda.test": {"v=DMARC1; p=reject"},
		}
		for k, v := range more {
			z[k] = v
		}
		return z
	}
	signer := func(domain string) mail.DKIMResult {
		return mail.DKIMResult{Domain: domain, Selector: "s", Result: mail.AuthPass}
	}
	spf := func(domain string, r mail.AuthResult) mail.SPFResult {
		return mail.SPFResult{Scope: mail.SPFMailFrom, Domain: domain, Result: r}
	}
	for _, c := range []struct {
		section, from string
		dkim          []mail.DKIMResult
		spf           []mail.SPFResult
		more          zone
		want          string // result, tag=policy, wish, domain, org
	}{
		// policy discovery
		{"4.10.1", "a@x.test", nil, nil, nil, "fail p=reject reject x.test x.test"},
		{"4.10.1", "a@sub.x.test", nil, nil, nil, "fail sp=quarantine quarantine x.test x.test"},
		{"4.10.1", "a@gone.x.test", nil, nil, nil, "fail np=none none x.test x.test"},
		{"4.10.1", "a@sub.strict.test", nil, nil, nil, "fail p=reject reject strict.test strict.test"},
		{"4.10.1", "a@own.x.test", nil, nil, nil, "fail p=none none own.x.test own.x.test"},
		{"4.10.1", "a@new.own.x.test", nil, nil, nil, "fail sp=reject reject own.x.test own.x.test"},
		{"4.10.1", "a@www.small.bank", nil, nil, nil, "fail sp=none none bank small.bank"},
		{"4.10.1", "a@gone.bank", nil, nil, nil, "fail np=reject reject bank gone.bank"},
		{"4.10.1", "a@bank", nil, nil, nil, "fail p=reject reject bank bank"},
		{"4.10.1", "a@x.big.bank", nil, nil, nil, "fail p=quarantine quarantine big.bank big.bank"},
		{"4.10.1", "a@other.test", []mail.DKIMResult{signer("other.test")}, nil, nil, "none = none  other.test"},
		{"4.10.1", "a@two.test", nil, nil, nil, "none = none  two.test"},
		{"4.10.1", "a@bad.test", nil, nil, nil, "permerror = none bad.test bad.test"},
		{"4.10.1", "a@rua.test", nil, nil, nil, "fail p=none none rua.test rua.test"},
		{"4.10.1", "a@down.test", nil, nil, nil, "temperror = none  "},
		{"4.10.1", "a@a.down.test", nil, nil, nil, "temperror = none  "},
		// test mode
		{"4.7", "a@try.test", nil, nil, nil, "fail p=reject quarantine try.test try.test"},
		{"4.7", "a@tryq.test", nil, nil, nil, "fail p=quarantine none tryq.test tryq.test"},
		{"4.7", "a@tryn.test", nil, nil, nil, "fail p=none none tryn.test tryn.test"},
		// DKIM
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("x.test")}, nil, nil, "pass p=reject none x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("list.test"), signer("mail.x.test")}, nil, nil, "pass p=reject none x.test x.test"},
		{"4.4.1", "a@sub.x.test", []mail.DKIMResult{signer("x.test")}, nil, nil, "pass sp=quarantine none x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("own.x.test")}, nil, nil, "fail p=reject reject x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("evilx.test"), signer("test"), signer("other.test")}, nil, nil, "fail p=reject reject x.test x.test"},
		{"4.4.1", "a@small.bank", []mail.DKIMResult{signer("big.bank"), signer("bank")}, nil, nil, "fail sp=none none bank small.bank"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{{Domain: "x.test", Result: mail.AuthFail}}, nil, nil, "fail p=reject reject x.test x.test"},
		{"4.4.1", "a@strict.test", []mail.DKIMResult{signer("mail.strict.test")}, nil, nil, "fail p=reject reject strict.test strict.test"},
		{"4.4.1", "a@strict.test", []mail.DKIMResult{signer("strict.test")}, nil, nil, "pass p=reject none strict.test strict.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("sub.x.test")}, nil, zone{"TXT _dmarc.sub.x.test": {"FAIL"}}, "temperror p=reject none x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{signer("sub.x.test"), signer("x.test")}, nil, zone{"TXT _dmarc.sub.x.test": {"FAIL"}}, "pass p=reject none x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{{Domain: "x.test", Result: mail.AuthTempError}}, nil, nil, "temperror p=reject none x.test x.test"},
		{"4.4.1", "a@x.test", []mail.DKIMResult{{Domain: "other.test", Result: mail.AuthTempError}}, nil, nil, "fail p=reject reject x.test x.test"},
		{"4.4.1", "a@x.test", nil, nil, zone{"TXT _dmarc.test": {"FAIL"}}, "fail p=reject reject x.test x.test"},
		{"4.4.1", "a@sub.x.test", []mail.DKIMResult{signer("sub.x.test")}, nil, zone{"TXT _dmarc.sub.x.test": {"v=DMARC1; p=reject"}, "TXT _dmarc.x.test": {"FAIL"}}, "pass p=reject none sub.x.test "},
		// SPF
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{spf("x.test", mail.AuthPass)}, nil, "pass p=reject none x.test x.test"},
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{spf("bounce.x.test", mail.AuthPass)}, nil, "pass p=reject none x.test x.test"},
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{spf("x.test", mail.AuthSoftFail)}, nil, "fail p=reject reject x.test x.test"},
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{spf("other.test", mail.AuthPass)}, nil, "fail p=reject reject x.test x.test"},
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{{Scope: mail.SPFHelo, Domain: "x.test", Result: mail.AuthPass}}, nil, "fail p=reject reject x.test x.test"},
		{"4.4.2", "a@strict.test", nil, []mail.SPFResult{spf("bounce.strict.test", mail.AuthPass)}, nil, "fail p=reject reject strict.test strict.test"},
		{"4.4.2", "a@x.test", nil, []mail.SPFResult{spf("x.test", mail.AuthTempError)}, nil, "temperror p=reject none x.test x.test"},
		// From
		{"5.3.1", "J <a@\u00fc.test>", []mail.DKIMResult{signer("xn--tda.test")}, nil, nil, "pass p=reject none xn--tda.test xn--tda.test"},
		{"5.3.1", "", nil, nil, nil, "permerror = none  "},
		{"5.3.1", "undisclosed:;", nil, nil, nil, "permerror = none  "},
		{"5.3.1", "a@x.test\r\nFrom: b@other.test", []mail.DKIMResult{signer("x.test")}, nil, nil, "permerror = none  "},
		{"11.5", "a@x.test, b@x.test", []mail.DKIMResult{signer("x.test")}, nil, nil, "pass p=reject none x.test x.test"},
		{"11.5", "a@other.test, b@x.test", []mail.DKIMResult{signer("other.test")}, nil, nil, "fail p=reject reject x.test x.test"},
		{"11.5", "a@tryq.test, b@x.test, c@tryn.test", nil, nil, nil, "fail p=reject reject x.test x.test"},
		{"11.5", "a@a.test, b@b.test, c@c.test, d@d.test, e@e.test", nil, nil, nil, "permerror = none  "},
	} {
		header := "Subject: x\r\n\r\n"
		if c.from != "" {
			header = "From: " + c.from + "\r\n" + header
		}
		a := &mail.Authentication{DKIM: slices.Clone(c.dkim), SPF: slices.Clone(c.spf)}
		v := verifier(base(c.more))
		v.dmarc(t.Context(), mail.NewMessage([]byte(header)).Header(), a)
		r := a.DMARC
		got := fmt.Sprintf("%s %s=%s %s %s %s", r.Result, r.Tag, r.Policy, r.Wish, r.Domain, r.Org)
		if got != c.want {
			t.Errorf("section %s, %q %+v %+v:\n%s (%s), want\n%s", c.section, c.from, c.dkim, c.spf, got, r.Reason, c.want)
		}
		if pass := slices.ContainsFunc(a.DKIM, func(r mail.DKIMResult) bool { return r.Aligned }) || slices.ContainsFunc(a.SPF, func(r mail.SPFResult) bool { return r.Aligned }); r.Result == mail.AuthPass && !pass {
			t.Errorf("%q: pass, and nothing is aligned", c.from)
		}
	}
}

// From the bytes of a message to all results, and the banks of its signer.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	dns := keyZone(keys)
	dns["TXT _dmarc.x.test"] = []string{"v=DMARC1; p=reject"}
	dns["TXT x.test"] = []string{"v=spf1 ip4:192.0.2.1 -all"}
	good := string(signed(t, keys, crlfs(ordinary)))
	a := verifier(dns).Authenticate(t.Context(), transaction(good, "192.0.2.1"), both)
	if !slices.Equal(a.Signers, []string{"x.test"}) || a.DMARC.Result != mail.AuthPass || !a.DKIM[0].Aligned || !a.SPF[1].Aligned || a.SPF[0].Aligned {
		t.Errorf("%+v", a)
	}
	for name, msg := range map[string]string{
		"broken":         strings.Replace(good, "Hello", "Hallo", 1),
		"another From":   "From: ann@x.test\r\n" + good,
		"From of others": "From: ann@y.test\r\n" + good,
		"third party":    string(sealed(t, dkim.SignOptions{}, strings.Replace(plain, "ann@x.test", "ann@y.test", 1))),
		"domain above":   string(sealed(t, dkim.SignOptions{}, strings.Replace(plain, "ann@x.test", "ann@sub.x.test", 1))),
	} {
		if a := verifier(dns).Authenticate(t.Context(), transaction(msg, "203.0.113.1"), both); len(a.Signers) > 0 {
			t.Errorf("%s: signers %v", name, a.Signers)
		}
	}
}

// A domain that only tries DKIM out chooses no bank.
func TestTestingSignerIsNone(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	dns := keyZone(keys)
	msg := string(signed(t, keys, crlfs(ordinary)))
	for flags, want := range map[string]int{"": 1, "; t=y": 0, "; t=y:s": 0, "; t=s": 1} {
		dns["TXT e._domainkey.x.test"] = []string{keys.All()[0].Record() + flags}
		a := verifier(dns).Authenticate(t.Context(), transaction(msg, ""), both)
		if a.DKIM[0].Result != mail.AuthPass || len(a.Signers) != want {
			t.Errorf("%q: %+v", flags, a)
		}
	}
}

// panicking is a DNS that breaks.
type panicking struct{ zone }

func (panicking) LookupTXT(context.Context, string) ([]string, error) { panic("broken") }

// What breaks on a message keeps nobody from his mail, and nothing passes by it.
func TestAuthenticateBreaks(t *testing.T) {
	t.Parallel()
	msg := string(signed(t, testKeys(t, "ed25519 e:x.test"), crlfs(ordinary)))
	a := verifier(panicking{}).Authenticate(t.Context(), transaction(msg, "192.0.2.1"), both)
	if a.DKIM[0].Result != mail.AuthPermError || a.SPF[1].Result != mail.AuthPermError || a.DMARC.Result != mail.AuthPermError || len(a.Signers) > 0 {
		t.Errorf("%+v, %+v", a, a.DMARC)
	}
}

// All questions about one message, at worst.
func TestQuestions(t *testing.T) {
	t.Parallel()
	dns := &counting{Lookup: zone{"TXT _dmarc.x.test": {"v=DMARC1; p=reject"}}}
	a := &mail.Authentication{}
	for i := range maxSignatures {
		a.DKIM = append(a.DKIM, mail.DKIMResult{Result: mail.AuthPass, Domain: fmt.Sprintf("a.b.c.d.e.f.g.h.i%d.x.test", i)})
	}
	h := mail.NewMessage([]byte("From: a@q.r.s.t.u.v.w.x.y.z.x.test\r\n\r\n")).Header()
	v := verifier(dns)
	v.dmarc(t.Context(), h, a)
	if n := dns.count(); n > (maxSignatures+1)*maxWalk+1 {
		t.Errorf("%d questions", n)
	}
}

func FuzzDMARCRecord(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=reject; rua=mailto:a@x.test", "v=DMARC1", "v = DMARC1 ;; = ;p=;p", "v=DMARC1; sp=\x00; psd=Y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, txt string) {
		r, ok := parseDMARC(txt)
		if ok && !r.unusable && !slices.Contains(wishes, r.p) {
			t.Errorf("%+v", r)
		}
		if ok && !strings.Contains(txt, "DMARC1") {
			t.Errorf("%q is a record", txt)
		}
		// blanks and an unknown tag change nothing
		if again, same := parseDMARC(strings.ReplaceAll(txt, ";", " ; ") + " ; unknown=x"); ok && len(txt) < 1000 && (!same || again != r) {
			t.Errorf("%+v, %+v", r, again)
		}
	})
}

func FuzzTreeWalk(f *testing.F) {
	f.Add("a.mail.example.com", "example.com", "v=DMARC1; psd=y")
	f.Add("a.b.c.d.e.f.g.h.i.j.k", "k", "v=DMARC1")
	f.Add("..", "", "v=DMARC1; psd=n")
	f.Fuzz(func(t *testing.T, domain, place, record string) {
		names := walkNames(domain)
		if len(names) > maxWalk || names[0] != domain {
			t.Errorf("%q", names)
		}
		for _, n := range names[1:] {
			if !strings.HasSuffix(domain, "."+n) {
				t.Errorf("%q is not above %q", n, domain)
			}
		}
		d, ok := domainToASCII(domain)
		if !ok {
			return
		}
		dns := &counting{Lookup: zone{"TXT _dmarc." + place: {record}}}
		records, err := verifier(dns).walk(t.Context(), d)
		if org := organization(d, records); err != nil || !within(d, org) || org == "" || dns.count() > maxWalk {
			t.Errorf("%q is of %q, %v, %d questions", d, org, err, dns.count())
		}
	})
}
