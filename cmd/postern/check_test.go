package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"postern/cmd/postern/demo"
	"postern/filter/check"
	"postern/policy"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/check.txtar")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/diff.txtar")
}

// Each setting is shown with its place; new settings do not disturb the test.
func TestShow(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/check.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var config string
	for _, f := range archive.Files {
		if f.Name == "postern.yaml" {
			config = string(f.Data)
		}
	}
	dir := writeFiles(t, "postern.yaml", config)
	file := filepath.Join(dir, "postern.yaml")
	for _, tt := range []struct {
		args string
		want []string // with runs of blanks as one
	}{
		{"", []string{"# base", "originating false built-in", "banned.destiny discard postern.yaml:10", "on_error tempfail built-in"}},
		{"ORIGINATING", []string{"# bank ORIGINATING over the base", "originating true ORIGINATING at built-in", `virus.admin "postmaster@example.org" ORIGINATING at postern.yaml:15`}},
		{"ORIGINATING --json", []string{`"what": "bank ORIGINATING over the base",`, `"key": "virus.admin", "value": "postmaster@example.org", "bank": "ORIGINATING", "file": "postern.yaml", "line": 15`, `"key": "spam.kill_level", "value": 6.31, "file": "built-in"`}},
		{"--listener 127.0.0.1:10024 --client 192.0.2.9", []string{"# banks ORIGINATING", "# ORIGINATING: client 192.0.2.9 in 192.0.2.0/24"}},
		{"--listener 127.0.0.1:10024 --to postmaster@example.org --to c@example.net", []string{
			"# recipient <postmaster@example.org>, Inbound, banks none, the base settings", "# recipients[1] at postern.yaml:13 by recipient <postmaster@example.org>",
			"virus.lover true recipients[1] at postern.yaml:13", "# recipient <c@example.net>, OpenRelay, banks none, the base settings", "virus.lover false built-in",
		}},
	} {
		out, code, err := postern(t, append([]string{"check", "--show", "-c", file}, strings.Fields(tt.args)...)...)
		out = strings.Join(strings.Fields(strings.ReplaceAll(out, dir+"/", "")), " ")
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: code %d, %v: %q is not in\n%s", tt.args, code, err, want, out)
			}
		}
	}
}

// The example has no key and no scanner here, and nothing else wrong: it gives
// no warning.
func TestCheckShippedExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(articleConfig)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data = []byte(strings.NewReplacer("/run/clamav/clamd.ctl", dir+"/clamd", "/var/spool/postfix/postern", dir, "/run/postern", dir, "/var/lib/amavis/tmp", dir).Replace(string(data)))
	if err := os.WriteFile(filepath.Join(dir, "postern.yaml"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	clamd, err := net.Listen("unix", filepath.Join(dir, "clamd"))
	if err != nil {
		t.Fatal(err)
	}
	defer clamd.Close()
	if err := os.Mkdir(filepath.Join(dir, "dkim"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, domain := range []string{"jeanbruenn.info", "no-uce.de"} {
		if err := writeDemoKey(filepath.Join(dir, "dkim", domain+".pem")); err != nil {
			t.Fatal(err)
		}
	}
	out, code, err := postern(t, "check", "--strict", "-c", filepath.Join(dir, "postern.yaml"))
	if code != 0 || err != nil || strings.Contains(out, "warning:") || !strings.Contains(out, "postern.yaml: good, 0 warnings") {
		t.Errorf("code %d, %v\n%s", code, err, out)
	}
}

// Every configuration of the corpus of bad ones is a mistake here too.
func TestCheckBadConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../policy/testdata/bad/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, f := range archive.Files {
			name := filepath.Join(dir, f.Name)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, code, _ := postern(t, "check", "-c", filepath.Join(dir, "postern.yaml"))
		if code != exitConfig || !strings.Contains(out, " mistake") {
			t.Errorf("%s: code %d\n%s", file, code, out)
		}
	}
}

// What this system does not have is a mistake, before serve finds out.
func TestCheckSystem(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", `hostname: mail.example.org
local_domains: [.example.org]
listeners:
  - {protocol: lmtp, address: "unix:a.sock", owner: "nobody-of-this-name:0"}
  - {protocol: milter, address: "unix:b.sock", owner: "nobody-of-this-name:0"}
spool: {dir: none}
log: {to: .}
engines: {builtin: {}}
`)
	out, code, _ := postern(t, "check", "-c", filepath.Join(dir, "postern.yaml"))
	out = strings.ReplaceAll(out, dir+"/", "")
	for _, want := range []string{
		`postern.yaml:4: listener unix:a.sock: owner "nobody-of-this-name:0" of a socket: no user "nobody-of-this-name"`,
		`postern.yaml:5: listener unix:b.sock: owner "nobody-of-this-name:0" of a socket: no user "nobody-of-this-name"`,
		"postern.yaml:6: spool: stat none: no such file or directory; mkdir none", "log: ", " is a folder", "4 mistakes",
	} {
		if code != exitConfig || !strings.Contains(out, want) {
			t.Errorf("code %d, %q is not in\n%s", code, want, out)
		}
	}
}

// Of what no check looks for nothing is lost.
func TestLostOnlyWhatIsLookedFor(t *testing.T) {
	t.Parallel()
	for engines, want := range map[string]string{"{}": "drops BANNED (", "{clamav: {}}": "drops INFECTED, BANNED (", "{builtin: {}}": "drops INFECTED, BANNED, SPAM ("} {
		dir := writeFiles(t, "postern.yaml", "local_domains: [.example.org]\nsettings: {virus: {quarantine: false}, banned: {quarantine: false}, spam: {quarantine: false}}\nengines: "+engines+"\n")
		out, _, _ := postern(t, "check", "-c", filepath.Join(dir, "postern.yaml"))
		if !strings.Contains(out, want) {
			t.Errorf("%s: %q is not in\n%s", engines, want, out)
		}
	}
}

// emptyDNS answers that no name exists, and returns its address.
func emptyDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		b := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 3 {
				b[2], b[3] = b[2]|0x80, 3 // a response, NXDOMAIN
				_, _ = conn.WriteTo(b[:n], peer)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); served.Wait() })
	return conn.LocalAddr().String()
}

// A probe asks engines, next hops and name servers.
func TestProbe(t *testing.T) {
	t.Parallel()
	dns := emptyDNS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hop := demo.NewNextHop("")
	served := make(chan error, 1)
	go func() { served <- hop.Serve(l) }()
	t.Cleanup(func() {
		hop.Close()
		l.Close()
		<-served
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	config := func(notify string) string {
		return writeFiles(t, "postern.yaml", "hostname: mail.example.org\nsettings: {forward_to: \"smtp://"+l.Addr().String()+"\", notify_to: \"smtp://"+notify+"\"}\nengines: {builtin: {}}\ndns: {servers: [\""+dns+"\"]}\n") + "/postern.yaml"
	}
	out, code, err := postern(t, "check", "--probe", "-c", config(l.Addr().String()))
	if code != 0 || !strings.Contains(out, "engine builtin: found Eicar-Signature and GTUBE (") || !strings.Contains(out, "next hop smtp://"+l.Addr().String()+": answers, without XFORWARD (") || !strings.Contains(out, "name server "+dns+": answers (") {
		t.Errorf("code %d, %v\n%s", code, err, out)
	}
	if strings.Contains(out, "engine header") {
		t.Errorf("what is no engine is probed\n%s", out)
	}
	if len(hop.Take()) > 0 {
		t.Error("the probe sent a mail")
	}
	out, code, _ = postern(t, "check", "--probe", "--json", "-c", config(closed.Addr().String()))
	if code != exitUnavailable || !strings.Contains(out, "connection refused") {
		t.Errorf("code %d\n%s", code, out)
	}
}

// A probe that hangs does not take the time of the others, and what a next hop
// lacks is told with what comes of it.
func TestProbesAreApart(t *testing.T) {
	t.Parallel()
	hang, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hang.Close()
	old, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	go func() {
		for {
			c, err := old.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 old\r\n250-old\r\n250-XFORWARD\r\n250 DSN\r\n")
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	config := writeFiles(t, "postern.yaml", fmt.Sprintf("hostname: mail.example.org\nsettings: {forward_to: %q, notify_to: %q}\nengines: {builtin: {}, clamav: {address: %q, timeout: 1h}}\ndns: {servers: [\"127.0.0.1:1\"]}\n",
		"smtp://"+old.Addr().String(), "smtp://"+hang.Addr().String(), "tcp:"+hang.Addr().String()))
	cfg, err := policy.Load(filepath.Join(config, "postern.yaml"), engines())
	if err != nil {
		t.Fatal(err)
	}
	f, problems := makeAll(cfg)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var lines []string
	for _, p := range probe(t.Context(), f, 300*time.Millisecond) {
		lines = append(lines, p.String())
	}
	all := strings.Join(lines, "\n")
	if len(lines) != 5 {
		t.Fatal(all)
	}
	for _, want := range []string{
		"engine builtin: found Eicar-Signature", "engine clamav: FAILED: ", "name server 127.0.0.1:1: FAILED: ", "next hop smtp://" + hang.Addr().String() + ": FAILED: ",
		"next hop smtp://" + old.Addr().String() + ": answers, without 8BITMIME: 8-bit mail may be recoded behind it, which breaks its signatures",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// What the filter would refuse at start, check says.
func TestCheckAgreesWithServe(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", "hostname: mail.example.org\nlocal_domains: [.example.org]\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:0\"}]\ndkim_keys: [{domain: example.org, selector: s, key: none.pem}]\n")
	var b bytes.Buffer
	_, checked, _ := postern(t, "check", "-c", filepath.Join(dir, "postern.yaml"))
	_, served, err := postern(t, "serve", "-c", filepath.Join(dir, "postern.yaml"))
	if checked != exitConfig || served != exitConfig {
		t.Errorf("check %d, serve %d, %v\n%s", checked, served, err, b.String())
	}
}

// datedFunc is a check that knows how old its signatures are.
type datedFunc func() ([]check.Signatures, error)

func (f datedFunc) Signatures(context.Context) ([]check.Signatures, error) { return f() }

func TestSignatureAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	got := signatureAge(t.Context(), datedFunc(func() ([]check.Signatures, error) {
		return []check.Signatures{
			{Server: "unix:/a", Date: now.Add(-7 * 24 * time.Hour)}, {Server: "tcp:b:1", Date: now.Add(-200 * time.Hour)}, {Server: "tcp:c:1"},
		}, errors.New("tcp:d:1: gone")
	}), now)
	want := "; signatures of 2026-11-20, unix:/a; WARNING: signatures of 2026-11-19 are 8 days old, tcp:b:1: does freshclam run?" +
		"; age of the signatures unknown, tcp:c:1; age of the signatures: tcp:d:1: gone"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
