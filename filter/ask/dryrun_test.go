package ask

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

// articleConfig is the shipped example, for which no key and no engine exists
// here.
const articleConfig = "../../deploy/examples/article.yaml"

// engines are the checks that a configuration may name.
func engines() map[string]func() any {
	out := map[string]func() any{}
	for name, options := range check.Kinds() {
		out[name] = func() any { return options() }
	}
	return out
}

// dryRunOf makes one of the text of a configuration.
func dryRunOf(t *testing.T, name, text string) *DryRun {
	t.Helper()
	cfg, err := policy.Parse(name, []byte(text), engines())
	if err != nil {
		t.Fatal(err)
	}
	run, err := New(&filter.Filter{Policy: cfg, Relay: func(h mail.NextHop) mail.Transport {
		t.Errorf("a dry run wants to hand mail to %s", h)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

const askedConfig = `hostname: mail.example.org
local_domains: [.example.org]
listeners: [{protocol: lmtp, address: "127.0.0.1:10023", bank: ORIGINATING}, {protocol: milter, address: "unix:/m"}, {protocol: am.pdp, address: "unix:/a", allow_banks: ORIGINATING}]
settings: {virus: {destiny: bounce, admin: postmaster@example.org}}
banks: {ORIGINATING: {originating: true}}
dkim_keys: [{domain: example.org, selector: s, key: not-there.pem}]
limits: {message_size: 64KiB}
`

// Each kind of mail that leaves has its own word.
func TestExplainNamesCopies(t *testing.T) {
	t.Parallel()
	run := dryRunOf(t, "postern.yaml", strings.Replace(askedConfig, "admin: ", "quarantine: viruses@example.org, admin: ", 1))
	l, err := Listener(run.filter.Policy, "")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := (&Envelope{Listener: l, From: "a@example.org", To: []mail.Address{"b@example.net"}}).Transaction(run.filter.Policy)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Explain(t.Context(), run, tx)
	if err != nil {
		t.Fatal(err)
	}
	const want = "a copy to <viruses@example.org>; a report to <a@example.org>; a notice to <postmaster@example.org>"
	if got := e.Recipients[0].Categories[0].Sent; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// An answer is that of the filter, keys that are not there sign, and the
// transports of the filter are not asked.
func TestExplainHandsNothingOn(t *testing.T) {
	t.Parallel()
	run := dryRunOf(t, "postern.yaml", askedConfig)
	l, err := Listener(run.filter.Policy, "")
	if err != nil {
		t.Fatal(err)
	}
	envelope := func() *mail.Transaction {
		tx, err := (&Envelope{Listener: l, From: "a@example.org", To: []mail.Address{"b@example.net", "c@example.org"}}).Transaction(run.filter.Policy)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	e, err := Explain(t.Context(), run, envelope())
	if err != nil || len(e.Recipients) != 2 || e.Message != nil {
		t.Fatalf("%v, %+v", err, e)
	}
	infected := e.Recipients[0].Categories[0]
	if infected.Action != "BouncedOutbound" || infected.Setting != "virus.destiny" || infected.Origin != "postern.yaml:4" || infected.Sent != "a report to <a@example.org>; a notice to <postmaster@example.org>" {
		t.Errorf("%+v", infected)
	}

	message := "From: a@example.org\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\nx\r\n"
	e, err = ExplainMessage(t.Context(), run, envelope(), "x.eml", []byte(message))
	if err != nil || e.Recipients[0].Categories != nil || e.BankPath != "ORIGINATING" {
		t.Fatalf("%v, %+v", err, e)
	}
	if !slices.ContainsFunc(e.Message.Sent, func(s string) bool { return strings.Contains(s, "DKIM-Signature") }) {
		t.Errorf("not signed: %q", e.Message.Sent)
	}
	_, err = ExplainMessage(t.Context(), run, envelope(), "x.eml", []byte(message+strings.Repeat("x\r\n", 30000)))
	if err == nil || !strings.HasPrefix(err.Error(), "x.eml has 90") || !strings.Contains(err.Error(), "(postern.yaml:7)") {
		t.Error(err)
	}
}

// Where a sender list decides, the explanation names it and not the destiny.
func TestExplainNamesTheList(t *testing.T) {
	t.Parallel()
	run := dryRunOf(t, "postern.yaml", "hostname: mail.example.org\nlocal_domains: [example.org]\nsettings:\n  spam:\n    sender_list:\n      - {match: white@example.net, as: whitelisted, verified: false}\n      - {match: black@example.net, as: blacklisted}\n")
	l, err := Listener(run.filter.Policy, "127.0.0.1:10024")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, category, setting string }{
		{"white@example.net", "SPAM", "spam.sender_list"}, {"white@example.net", "BAD-HEADER", "bad_header.destiny"},
		{"black@example.net", "BAD-HEADER", "spam.sender_list"}, {"black@example.net", "CLEAN", "spam.sender_list"}, {"black@example.net", "INFECTED", "virus.destiny"},
		{"else@example.net", "SPAM", "spam.destiny"},
	} {
		tx, err := (&Envelope{Listener: l, From: mail.Address(tt.from), To: []mail.Address{"b@example.org"}}).Transaction(run.filter.Policy)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Explain(t.Context(), run, tx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range e.Recipients[0].Categories {
			if c.Category == tt.category && (c.Setting != tt.setting || (c.Setting == "spam.sender_list") != strings.Contains(c.Origin, "postern.yaml:")) {
				t.Errorf("%s, %s: by %s (%s), want %s", tt.from, tt.category, c.Setting, c.Origin, tt.setting)
			}
		}
	}
}

// A case that does not fit the configuration is another error than one that
// cannot be asked, for its exit code is another.
func TestCaseThatDoesNotFit(t *testing.T) {
	t.Parallel()
	run := dryRunOf(t, "postern.yaml", askedConfig)
	for _, tt := range []struct{ lines, want string }{
		{"listener: 127.0.0.1:1", `a.test.yaml:2: there is no listener "127.0.0.1:1"; there are 127.0.0.1:10023, unix:/m, unix:/a`},
		{"banks: [NONE]", `a.test.yaml:2: there is no bank "NONE"; there are MYNETS, ORIGINATING`},
		{"banks: [MYNETS]", "a.test.yaml:2: nobody names banks to listener 127.0.0.1:10023, which is lmtp: only requests of am.pdp do"},
		{"banks: [MYNETS], listener: 'unix:/a'", "a.test.yaml:2: listener unix:/a does not let a request name MYNETS (postern.yaml:3); put it into allow_banks"},
		{"login: ann", "a.test.yaml:2: listener 127.0.0.1:10023, which is lmtp, does not hear of logins: only a milter does"},
		{"daemon: smtpd, listener: 'unix:/a'", "a.test.yaml:2: listener unix:/a, which is am.pdp, does not hear of the name of a daemon: only a milter does"},
		{"local: true", "a.test.yaml:2: listener 127.0.0.1:10023, which is lmtp, does not hear of mail without a connection: only a milter does"},
	} {
		cases, err := policy.ParseTests("a.test.yaml", []byte("tests:\n  - {name: x, from: a@example.org, to: b@example.net, want: {action: x}, "+tt.lines+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Test(t.Context(), run, &cases[0])
		if e, ok := errors.AsType[*CaseError](err); !ok || err.Error() != tt.want || e.Place.Line != 2 {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}
