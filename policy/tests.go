package policy

// Policy tests: files that say what must become of some mails.

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/lookup"
	"postern/policy/strict"
)

// Test is one case of a policy test: an envelope, what the checks are to have
// found, and what must come of it.
type Test struct {
	// What the case shows, in a few words.
	Name string `yaml:"name"`
	// Address of the listener as configured; empty: the first one.
	Listener string `yaml:"listener"`
	// IP address of the client; empty: unknown.
	Client string `yaml:"client"`
	// Name with which the client has authenticated itself (milter).
	Login string `yaml:"login"`
	// Service of the MTA that took the mail (milter).
	Daemon string `yaml:"daemon"`
	// The mail has no connection: it comes from the sendmail command, or is a
	// report of the MTA (milter).
	Local bool `yaml:"local"`
	// Envelope sender; empty: the null sender.
	From mail.Address `yaml:"from"`
	// Envelope recipients.
	To []mail.Address `yaml:"to"`
	// Banks that the request names (AM.PDP).
	Banks []string `yaml:"banks"`
	// Domains whose author signatures are valid.
	Signers []string `yaml:"signers"`
	// What the checks found: a category and a name, "INFECTED Eicar-Test",
	// "BANNED invoice.exe", "SPAM", "UNCHECKED encrypted". A name after
	// INFECTED means what virus.names says.
	Findings []TestFinding `yaml:"findings"`
	// What the spam engines give.
	Score *float64 `yaml:"score"`
	// What must come of it.
	Want TestWant `yaml:"want"`

	Origin Origin `yaml:"-"`

	key    string                  // of this case in places: "tests[0]"
	places map[string]strict.Place // of all keys of the file
}

// TestWant is what a Test compares: only the keys that are given. A list is in
// the order of the recipients; a single entry holds for all of them.
type TestWant struct {
	// Bank path, for example "AM.PDP-SOCK/INT-MTA"; empty: the base alone.
	Banks string `yaml:"banks"`
	// Whether the mail counts as that of our own people.
	Originating bool `yaml:"originating"`
	// Directions.
	Direction []Direction `yaml:"direction"`
	// Destinies.
	Destiny []Destiny `yaml:"destiny"`
	// Words of the log line, for example RejectedOutbound.
	Action []string `yaml:"action"`
	// Answers, or how they begin: "554", "250 2.5.0".
	Reply []string `yaml:"reply"`
	// Administrators who get a notice; empty: nobody.
	Notices []mail.Address `yaml:"notices"`
	// Sender who gets a report of ours; none or empty: nobody.
	Report string `yaml:"report"`
	// Domains whose keys sign the mail; empty: it is not signed.
	Signed []string `yaml:"signed"`
}

// TestFinding is a finding as a test file writes it.
type TestFinding struct{ mail.Finding }

var testCategories = []mail.Category{mail.Infected, mail.Banned, mail.Unchecked, mail.Spam, mail.Spammy, mail.BadHeader}

// UnmarshalText reads "CATEGORY name". After UNCHECKED comes one of failed,
// encrypted, over-limits, ambiguous and suspicious.
func (f *TestFinding) UnmarshalText(text []byte) error {
	word, name, _ := strings.Cut(string(text), " ")
	var known []string
	for _, c := range testCategories {
		known = append(known, c.String())
		if c.String() == word {
			f.Finding = mail.Finding{Category: c, Check: "test", Name: strings.TrimSpace(name), Rcpt: mail.AllRcpts}
		}
	}
	if f.Category == mail.CatchAll {
		return errors.New("want " + strict.Or(known) + " and a name")
	}
	if f.Category == mail.Unchecked {
		words := mail.UncheckedWords()
		f.Minor = slices.Index(words, f.Name)
		if f.Minor < 0 {
			return errors.New("want " + strict.Or(words) + " after UNCHECKED")
		}
	}
	return nil
}

// Wants reports whether the file gives a key of want, for example "notices",
// and where.
func (t *Test) Wants(key string) (at Origin, ok bool) {
	p, ok := t.places[t.key+".want."+key]
	return Origin{File: p.File, Line: p.Line}, ok
}

// ClientAddr returns the client, invalid when it is unknown.
func (t *Test) ClientAddr() netip.Addr {
	a, _ := netip.ParseAddr(t.Client) // ParseTests refuses what is none
	return a
}

// ParseTests reads a file of policy tests with the strictness of [Parse]; name
// stands in messages. All mistakes are returned as one [ConfigError].
func ParseTests(name string, data []byte) ([]Test, error) {
	var file struct {
		Tests []Test `yaml:"tests"`
	}
	l := newLoader(filepath.Dir(name), nil)
	l.Read(name, data, &file)
	for i := range file.Tests {
		t := &file.Tests[i]
		t.key, t.places = fmt.Sprintf("tests[%d]", i), l.Places()
		l.test(t)
	}
	if len(file.Tests) == 0 && l.Err() == nil {
		l.At("tests", "no cases", "write tests: and a list of cases below it")
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return file.Tests, nil
}

// test judges one case.
func (l *loader) test(t *Test) {
	missing := func(key, hint string) {
		if !l.Given(t.key+"."+key) && !l.BadBelow(t.key+"."+key) {
			l.At(t.key, "no "+key, hint)
		}
	}
	missing("name", "say what the case shows")
	missing("to", "name the recipients")
	if l.Given(t.key+".to") && len(t.To) == 0 && !l.BadBelow(t.key+".to") {
		l.At(t.key+".to", "no recipients", "name at least one")
	}
	missing("from", `name the sender; "" is the null sender`)
	missing("want", "say what must come of the mail")
	if _, err := netip.ParseAddr(t.Client); err != nil && t.Client != "" {
		l.At(t.key+".client", "want an IP address, not "+strict.Quote(t.Client), "leave it out for an unknown client")
	}
	if t.Local && (t.Client != "" || t.Login != "") {
		l.At(t.key+".local", "mail without a connection has no client and no login", "leave one of them out")
	}
	if t.Want.Report == "none" {
		t.Want.Report = ""
	}
	report, problem := lookup.ParseAddress(t.Want.Report)
	if problem != "" {
		l.At(t.key+".want.report", problem, `"none" means that the sender is not told`)
	}
	t.Want.Report = string(report)
	for key, n := range map[string]int{
		"direction": len(t.Want.Direction), "destiny": len(t.Want.Destiny),
		"action": len(t.Want.Action), "reply": len(t.Want.Reply),
	} {
		if _, given := t.Wants(key); given && n != 1 && n != len(t.To) && !l.BadBelow(t.key+".want."+key) {
			l.At(t.key+".want."+key, fmt.Sprintf("%d entries for %d recipients", n, len(t.To)), "want one for all, or one for each recipient")
		}
	}
}
