package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

func TestParseTests(t *testing.T) {
	t.Parallel()
	tests, err := ParseTests("a.test.yaml", []byte(`tests:
  - name: a virus
    client: 192.0.2.1
    from: ""
    to: b@example.org
    findings: [INFECTED Eicar Test, UNCHECKED encrypted, SPAM]
    want:
      banks: ""
      direction: Inbound
      notices: []
      report: none
  - name: another
    from: a@BÜCHER.example
    to: [b@example.org, c@example.org]
    want: {destiny: [pass, reject], report: a@BÜCHER.example}
`))
	if err != nil {
		t.Fatal(err)
	}
	one, two := &tests[0], &tests[1]
	var found []string
	for _, f := range one.Findings {
		found = append(found, f.Category.String()+"/"+f.Name)
		if f.Rcpt != mail.AllRcpts {
			t.Errorf("%v is for recipient %d only", f, f.Rcpt)
		}
	}
	if want := []string{"INFECTED/Eicar Test", "UNCHECKED/encrypted", "SPAM/"}; !slices.Equal(found, want) || one.Findings[1].Minor != mail.Encrypted {
		t.Errorf("findings %q, want %q", found, want)
	}
	var given []string
	for _, key := range []string{"banks", "originating", "direction", "destiny", "action", "reply", "notices", "report", "signed"} {
		if at, ok := one.Wants(key); ok {
			given = append(given, key+" "+at.String())
		}
	}
	if got, want := strings.Join(given, ", "), "banks a.test.yaml:8, direction a.test.yaml:9, notices a.test.yaml:10, report a.test.yaml:11"; got != want {
		t.Errorf("given: %s, want %s", got, want)
	}
	if one.ClientAddr().String() != "192.0.2.1" || two.ClientAddr().IsValid() || one.Want.Report != "" || two.Want.Report != "a@xn--bcher-kva.example" || two.Origin.Line != 12 {
		t.Errorf("%+v\n%+v", one, two)
	}
}

func TestParseTestsMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  `t.yaml:1:1: tests: no cases; write tests: and a list of cases below it`,
		"tests: {}":         `t.yaml:1:8: tests: want a list, not a mapping; put "- " in front of each entry`,
		"cases: []":         `t.yaml:1:1: unknown key "cases"; known here: tests`,
		"tests: [{nam: x}]": `t.yaml:1:9: tests[0]: no to; name the recipients`,
		"tests:\n  - {name: a, from: '', to: x@y.z, wants: {}}":                         `t.yaml:2:36: unknown key "wants"; nearest known key is "want"`,
		"tests:\n  - {name: a, from: '', to: x@y.z, want: {direction: inbound}}":        `t.yaml:2:54: tests[0].want.direction[0]: want Inbound, Outbound, Internal or OpenRelay, not "inbound"; "Inbound" is nearest`,
		"tests:\n  - {name: a, from: '', to: x@y.z, want: {destiny: [pass, reject]}}":   `t.yaml:2:52: tests[0].want.destiny: 2 entries for 1 recipients; want one for all, or one for each recipient`,
		"tests:\n  - {name: a, from: '', to: x@y.z, want: {report: nobody}}":            `t.yaml:2:51: tests[0].want.report: want an address, not "nobody"; "none" means that the sender is not told`,
		"tests:\n  - {name: a, from: '', to: [], want: {}}":                             `t.yaml:2:29: tests[0].to: no recipients; name at least one`,
		"tests:\n  - {name: a, from: '', to: x@y.z, login: ann, local: true, want: {}}": `t.yaml:2:55: tests[0].local: mail without a connection has no client and no login; leave one of them out`,
		"tests:\n  - {name: a, from: '', to: x@y.z, client: here, want: {}}":            `t.yaml:2:44: tests[0].client: want an IP address, not "here"; leave it out for an unknown client`,
		"tests:\n  - {name: a, from: '', to: x@y.z, findings: [VIRUS x], want: {}}":     `t.yaml:2:47: tests[0].findings[0]: want INFECTED, BANNED, UNCHECKED, SPAM, SPAMMY or BAD-HEADER and a name, not "VIRUS x"`,
		"tests:\n  - {name: a, from: '', to: x@y.z, findings: [UNCHECKED], want: {}}":   `t.yaml:2:47: tests[0].findings[0]: want failed, encrypted, over-limits, ambiguous, suspicious or later after UNCHECKED, not "UNCHECKED"`,
		"tests:\n  - {name: a, name: b, from: '', to: x@y.z, want: {}}":                 `t.yaml:2:15: tests[0]: key "name" is given twice; first in line 2`,
		"tests:\n  - {name: a, from: '', to: x@y.z, want: {banks: [A, B]}}":             `t.yaml:2:50: tests[0].want.banks: want a single value, not a list`,
		"tests:\n  - {name: a, from: '', to: x@y.z, want: {}}\n---\ntests: []":          `t.yaml:3:1: a second document begins here; one file is one document: remove the line "---" above it`,
	} {
		_, err := ParseTests("t.yaml", []byte(text))
		var e *ConfigError
		if !errors.As(err, &e) || !strings.Contains("\n"+err.Error()+"\n", "\n"+want+"\n") {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParseTests(f *testing.F) {
	f.Add("tests:\n  - {name: a, from: '', to: x@y.z, findings: [INFECTED x], want: {direction: Inbound}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		tests, err := ParseTests("t.yaml", []byte(text))
		if (err == nil) != (len(tests) > 0) {
			t.Errorf("%d tests, %v", len(tests), err)
		}
	})
}
