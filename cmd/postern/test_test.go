package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filter/ask"
)

// articleConfig is the shipped example, for which no key and no engine exists
// here.
const articleConfig = "../../deploy/examples/article.yaml"

// postern runs a command and returns what it prints and its exit code.
func postern(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var b bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&b)
	root.SetErr(&b)
	err = root.ExecuteContext(t.Context())
	var e *exitError
	switch {
	case errors.As(err, &e):
		code = e.code
	case err != nil:
		code = exitUsage
	}
	return b.String(), code, err
}

// writeFiles puts files into a new folder, given as name and text in turn.
func writeFiles(t *testing.T, files ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The shipped example holds what the article verified by three log lines.
func TestShippedPolicyTests(t *testing.T) {
	t.Parallel()
	out, code, err := postern(t, "test", "-c", articleConfig)
	if code != 0 || err != nil || out != "18 passed, 0 failed\n" {
		t.Errorf("code %d, %v\n%s", code, err, out)
	}
}

// TestNotices is a policy test: who is told of what.
func TestNotices(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/notices.txtar")
}

const testedConfig = `hostname: mail.example.org
local_domains: [.example.org]
listeners: [{protocol: lmtp, address: "127.0.0.1:10023", bank: ORIGINATING}, {protocol: lmtp, address: "127.0.0.1:10024"}]
settings:
  virus: {destiny: bounce, admin: postmaster@example.org}
  banned: {destiny: reject}
banks:
  ORIGINATING: {originating: true, banned: {admin: files@example.org}}
recipients:
  - {match: boss@example.org, settings: {banned: {lover: true}}}
dkim_keys: [{domain: example.org, selector: s, key: not-there.pem}]
`

// Every want that is not met is told with its place and what decided.
func TestPolicyTestFailures(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", testedConfig, "a.test.yaml", `tests:
  - name: all wrong
    from: a@example.org
    to: [b@example.net, boss@example.org]
    findings: [BANNED x.exe]
    want:
      banks: MYNETS
      originating: false
      direction: Inbound
      destiny: [pass, pass]
      action: RejectedOutbound
      reply: ["554 5.7.0", "5"]
      notices: [postmaster@example.org]
      report: a@example.org
      signed: []
  - name: all right
    listener: 127.0.0.1:10024
    from: c@example.net
    to: b@example.org
    findings: [INFECTED Eicar]
    want: {banks: "", originating: false, direction: Inbound, destiny: bounce, action: NoBounceInbound, reply: "250", notices: postmaster@example.org, report: none, signed: []}
  - name: a report of ours
    from: a@example.org
    to: b@example.net
    findings: [INFECTED Eicar]
    want: {action: BouncedOutbound, reply: "2", report: a@example.org}
`)
	file := filepath.Join(dir, "a.test.yaml")
	out, code, err := postern(t, "test", "-c", filepath.Join(dir, "postern.yaml"))
	want := `F:7: all wrong: banks is ORIGINATING, want MYNETS
    because ORIGINATING by listener 127.0.0.1:10023
F:8: all wrong: originating is true, want false
    because bank ORIGINATING (C:8) by listener 127.0.0.1:10023
F:9: all wrong: direction is Outbound for <b@example.net>, want Inbound
    because originating is true, bank ORIGINATING (C:8) by listener 127.0.0.1:10023; <b@example.net> is not in local_domains
F:9: all wrong: direction is Internal for <boss@example.org>, want Inbound
    because originating is true, bank ORIGINATING (C:8) by listener 127.0.0.1:10023; <boss@example.org> is in local_domains
F:10: all wrong: destiny is reject for <b@example.net>, want pass
    because BANNED: destiny reject, base settings (C:6)
F:11: all wrong: action is RelayedTaggedInternal for <boss@example.org>, want RejectedOutbound
    because BANNED skipped: recipient is a lover, recipients[0] (C:10), CLEAN: nothing blocks
F:12: all wrong: reply is 250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok (not sent, this is a dry run) for <boss@example.org>, want 5
    because BANNED skipped: recipient is a lover, recipients[0] (C:10), CLEAN: nothing blocks
F:13: all wrong: notices is files@example.org, want postmaster@example.org
    because banned.admin is files@example.org, ORIGINATING at C:8
F:14: all wrong: report is none, want a@example.org
    because BANNED: destiny reject, base settings (C:6)
F:15: all wrong: signed is example.org, want none
    because originating is true, bank ORIGINATING (C:8) by listener 127.0.0.1:10023; dkim.sign is true, built-in
2 passed, 1 failed
`
	want = strings.ReplaceAll(strings.ReplaceAll(want, "F:", file+":"), "C:", filepath.Join(dir, "postern.yaml")+":")
	if code != exitFound || out != want {
		t.Errorf("code %d, %v\n got:\n%s\nwant:\n%s", code, err, out, want)
	}

	out, code, _ = postern(t, "test", "-c", filepath.Join(dir, "postern.yaml"), "--json", file)
	var results []ask.TestResult
	if err := json.Unmarshal([]byte(out), &results); err != nil || code != exitFound || len(results) != 3 || len(results[0].Failures) != 10 || results[1].Failures != nil {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}

func TestPolicyTestErrors(t *testing.T) {
	t.Parallel()
	const head = "tests:\n  - {name: x, from: '', to: a@example.org, want: {banks: ''}, "
	dir := writeFiles(t, "postern.yaml", testedConfig, "bad.yaml", "virus: {}\n",
		"unknown.yaml", "tests: [{nme: x}]\n", "listener.yaml", head+"listener: 127.0.0.1:1}\n", "bank.yaml", head+"banks: NONE}\n")
	config := filepath.Join(dir, "postern.yaml")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{config}, exitUsage, "no file is called " + dir + "/*.test.yaml"},
		{[]string{dir + "/bad.yaml"}, exitConfig, "unknown key"},
		{[]string{dir + "/none.yaml"}, exitConfig, "no such file"},
		{[]string{config, dir + "/none.yaml"}, exitUsage, "no such file"},
		{[]string{config, dir + "/unknown.yaml", dir + "/bad.yaml"}, exitConfig, `bad.yaml:1:1: unknown key "virus"`},
		{[]string{config, dir + "/listener.yaml"}, exitConfig, `listener.yaml:2: there is no listener "127.0.0.1:1"; there are 127.0.0.1:10023, 127.0.0.1:10024`},
		{[]string{config, dir + "/bank.yaml"}, exitConfig, `bank.yaml:2: there is no bank "NONE"`},
	} {
		_, code, err := postern(t, append([]string{"test", "-c"}, tt.args...)...)
		if code != tt.code || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: code %d, %v; want %d, %s", tt.args, code, err, tt.code, tt.want)
		}
	}
}
