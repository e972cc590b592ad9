package auth

import (
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/authres"

	"postern/filter/mail"
)

// wellFormed checks a value of ours: one field, US-ASCII, short lines, ours to
// every reader, and readable for another parser.
func wellFormed(t testing.TB, id, value string) {
	t.Helper()
	o := &mail.Outgoing{Message: mail.NewMessage([]byte("\r\n")), Edits: []mail.Edit{{Op: mail.Add, Name: ResultsField, Value: value}}}
	written := string(written(t, o))
	if written != ResultsField+": "+value+"\r\n\r\n" {
		t.Errorf("written as %q", written)
	}
	for line := range strings.SplitSeq(value, "\r\n") {
		if len(line) > 600 || strings.Trim(line, " \t") == "" {
			t.Errorf("line %q", line)
		}
		for i := range len(line) {
			if line[i] != '\t' && line[i] < ' ' || line[i] >= 0x7f {
				t.Errorf("line %q", line)
			}
		}
	}
	h, _ := mail.ParseHeader([]byte(written))
	if got := ForgedResults(h, 0, id, nil); len(got) != 1 {
		t.Errorf("not known for ours: %q", value)
	}
	if gotID, _, err := authres.Parse(strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", ""), `"`, "")); err != nil || gotID != id {
		// it splits at semicolons in quoted strings
		if !strings.Contains(value, `"`) {
			t.Errorf("go-msgauth: %q, %v in %q", gotID, err, value)
		}
	}
}

func TestAuthenticationResults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, id string
		a        *mail.Authentication
		want     string
	}{
		{"nobody asked", "mx.test", nil, "mx.test; none"},
		{"nothing", "mx.test", &mail.Authentication{}, "mx.test; none"},
		{"all", "mx.test", &mail.Authentication{
			DKIM: []mail.DKIMResult{
				{Domain: "x.test", Selector: "s1", Algorithm: "rsa-sha256", Start: "aB/d+f01", Result: mail.AuthPass},
				{Domain: "list.test", Selector: "s2", Algorithm: "ed25519-sha256", Start: "zzzz", Result: mail.AuthFail, Reason: "body hash did not verify"},
				{Result: mail.AuthNeutral, Reason: "a tag comes twice"},
			},
			Unverified: 3,
			SPF: []mail.SPFResult{
				{Scope: mail.SPFHelo, Result: mail.AuthNone, Reason: "there is no domain to ask"},
				{Scope: mail.SPFMailFrom, Domain: "x.test", Result: mail.AuthPass, Reason: "the client matches ip"},
			},
			DMARC: &mail.DMARCResult{Result: mail.AuthPass, Author: "x.test", Domain: "x.test", Policy: "reject", Wish: "none"},
		}, `mx.test;
	dkim=pass header.d=x.test header.s=s1 header.a=rsa-sha256
		header.b="aB/d+f01";
	dkim=fail reason="body hash did not verify" header.d=list.test
		header.s=s2 header.a=ed25519-sha256 header.b=zzzz;
	dkim=neutral reason="a tag comes twice";
	dkim=neutral reason="3 more signatures were not verified";
	spf=none reason="there is no domain to ask";
	spf=pass smtp.mailfrom=x.test;
	dmarc=pass header.from=x.test policy.dmarc=none`},
		{"no signature", "mx.test", &mail.Authentication{Unsigned: true}, "mx.test;\n\tdkim=none"},
		{"no signature, no record", "mx.test", &mail.Authentication{Unsigned: true, DMARC: &mail.DMARCResult{Result: mail.AuthNone, Author: "x.test", Wish: "none"}}, `mx.test;
	dkim=none;
	dmarc=none header.from=x.test`},
		{"foreign reason", "mx.test", &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFMailFrom, Domain: "x.test", Result: mail.AuthTempError,
			Reason: "lookup \"evil\"; dkim=pass\r\nX: y\\ \u00fc" + strings.Repeat("x", 500)}}}, "mx.test;\n\tspf=temperror\n\t\treason=\"lookup \\\"evil\\\"; dkim=pass\\\\x0d\\\\x0aX: y\\\\\\\\ ?" + strings.Repeat("x", 80) + "...\"\n\t\tsmtp.mailfrom=x.test"},
		{"odd id", "my host", nil, `"my host"; none`},
	} {
		got := AuthenticationResults(c.id, c.a)
		if want := strings.ReplaceAll(c.want, "\n", "\r\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
		wellFormed(t, c.id, got)
	}
}

// claims are spellings that some reader takes for mx.test.
var claims = []string{
	"mx.test; dkim=pass",
	"MX.Test; dkim=pass",
	"mx.test",
	"mx.test.; dkim=pass",
	"mx.test 1; dkim=pass",
	"mx.test/1; dkim=pass",
	"mx.test(c)1; dkim=pass",
	" \t mx.test ; dkim=pass",
	"\r\n mx.test\r\n ; dkim=pass",
	"\r\n\t\r\n\tmx.test; dkim=pass",
	"mx.te\r\n st; dkim=pass",
	"mx . test; dkim=pass",
	"(comment) mx.test; dkim=pass",
	"(a (nested \\) one) ; with semicolon) mx.test; dkim=pass",
	"mx(comment).test; dkim=pass",
	"mx.test(comment); dkim=pass",
	"()()() mx.test () ; dkim=pass",
	"(\") mx.test; dkim=pass",
	"mx.test (never closed; dkim=pass",
	"(a (not nested) mx.test; dkim=pass)",
	"(a \\) mx.test; dkim=pass)",
	"(never closed mx.test; dkim=pass) mx.test; dkim=pass",
	"\"mx.test\"; dkim=pass",
	"\"MX.TEST\" 1; dkim=pass",
	"\"mx\\.test\"; dkim=pass",
	"\"mx.test; dkim=pass",
	"\"mx\".\"test\"; dkim=pass",
	"mx\\.test; dkim=pass",
	"<mx.test>; dkim=pass",
	"=?us-ascii?q?mx.test?=; dkim=pass",
	"=?UTF-8?B?bXgudGVzdA==?=; dkim=pass",
	"=?utf-8?q?mx=2Etest=3B_dkim=3Dpass?=",
	"=?utf-8?q?mx=2E?= =?utf-8?q?test?=; dkim=pass",
	"=?utf-8?q?mx=2E?=\r\n =?utf-8?q?test?=; dkim=pass",
	"=?iso-8859-15?q?mx.test?=; dkim=pass",
	"=?utf-16be?b?AG0AeAAuAHQAZQBzAHQ=?=; dkim=pass",
	"=?x-unknown?q?mx.test?=; dkim=pass",
	"\u200bmx.test; dkim=pass",
	"m\u00adx.test; dkim=pass",
	"\uff4d\uff58.test; dkim=pass",
	"mx\u3002test; dkim=pass",
	"\u00a0mx.test\u00a0; dkim=pass",
	"mx.test\x00; dkim=pass",
	"mx.\x00test; dkim=pass",
	"mx.test\x0b; dkim=pass",
	"mx.test, dkim=pass",
	"mx.test;",
	strings.Repeat("(", 20000) + strings.Repeat(")", 20000) + " mx.test; dkim=pass",
	"(" + strings.Repeat("x", 200000) + ") mx.test; dkim=pass",
}

// Whatever somebody forges, and however often: none survives.
func TestForgedResults(t *testing.T) {
	t.Parallel()
	names := []string{"Authentication-Results:", "authentication-results :", "AUTHENTICATION-RESULTS\t: "}
	for _, n := range []int{1, 2, 100} {
		for i, value := range claims {
			field := names[i%len(names)] + value + "\r\n"
			h, _ := mail.ParseHeader([]byte("Subject: x\r\n" + strings.Repeat(field+"Authentication-Results: other.test; dkim=pass\r\n", n) + "To: y\r\n\r\n"))
			got := ForgedResults(h, 0, "mx.test", nil)
			if len(got) != n {
				t.Errorf("%.80q, %d fields: %d found", value, n, len(got))
				continue
			}
			for j, index := range got {
				if index != 2*j+1 {
					t.Errorf("%.80q: field %d is number %d", value, j, index)
				}
			}
		}
	}
	// the edits that come of it leave none
	var raw strings.Builder
	for _, value := range claims {
		raw.WriteString("Authentication-Results:" + value + "\r\n")
	}
	m := mail.NewMessage([]byte(raw.String() + "Subject: x\r\n\r\nbody\r\n"))
	o := &mail.Outgoing{Message: m}
	for _, index := range ForgedResults(m.Header(), 0, "mx.test", []string{"other.test"}) {
		o.Edits = append(o.Edits, mail.Edit{Op: mail.Remove, Name: ResultsField, Index: index})
	}
	if got := string(written(t, o)); got != "Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("left: %q", got)
	}
}

func TestForgedResultsOthers(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"other.test; dkim=pass", "smtp.mx.test; dkim=pass", "mx.test.example; dkim=pass", "mx.testing; dkim=pass", "amx.test; dkim=pass",
		"other.test; dkim=pass header.d=mx.test", "other.test (mx.test); dkim=pass", "(mx.test) other.test; dkim=pass", "", ";", "; mx.test", "()", "other.test mx.test; none",
	} {
		h, _ := mail.ParseHeader([]byte("Authentication-Results: " + value + "\r\n"))
		if got := ForgedResults(h, 0, "mx.test", nil); len(got) > 0 {
			t.Errorf("%q is taken for ours", value)
		}
	}
	h, _ := mail.ParseHeader([]byte("X-Authentication-Results: mx.test\r\nARC-Authentication-Results: i=1; mx.test\r\nAuthentication-Results: mx.test; dkim=pass\r\n"))
	for _, c := range []struct {
		id      string
		trusted []string
		want    int
	}{
		{"mx.test", nil, 1},
		{"MX.test.", nil, 1},
		{"mx.test", []string{"other.test"}, 1},
		{"mx.test", []string{"other.test", "MX.TEST."}, 0},
		{"other.test", nil, 0},
	} {
		if got := ForgedResults(h, 0, c.id, c.trusted); len(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	h, _ = mail.ParseHeader([]byte("Authentication-Results: xn--mx-lka.test; none\r\nAuthentication-Results: m\u00fcx.test; none\r\nAuthentication-Results: MÜX.test; none\r\n"))
	if got := ForgedResults(h, 0, "müx.test", nil); len(got) != 3 && len(got) != 2 {
		t.Errorf("international: %v", got)
	}
}

func FuzzForgedResults(f *testing.F) {
	for _, c := range claims {
		f.Add(c[:min(len(c), 1000)], "mx.test")
	}
	f.Fuzz(func(t *testing.T, value, id string) {
		h, _ := mail.ParseHeader([]byte("Authentication-Results: " + value + "\r\n"))
		_ = ForgedResults(h, 0, id, nil)
		// whatever the strict grammar says is ours is found
		if parsed, _, err := authres.Parse(value); err == nil && isName(parsed) && strings.EqualFold(parsed, "mx.test") && !strings.ContainsAny(value, "\r\n") {
			if len(ForgedResults(h, 0, "mx.test", nil)) == 0 {
				t.Errorf("%q survives", value)
			}
		}
		wellFormedReason(t, value)
	})
}

func wellFormedReason(t *testing.T, reason string) {
	t.Helper()
	a := &mail.Authentication{SPF: []mail.SPFResult{{Scope: mail.SPFMailFrom, Domain: "x.test", Result: mail.AuthFail, Reason: reason}}}
	wellFormed(t, "mx.test", AuthenticationResults("mx.test", a))
}
