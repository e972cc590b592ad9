package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/demo"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/policy"
)

// keeping is a daemon with a quarantine, and a next hop that keeps what it gets.
type keeping struct {
	*daemon
	hop    *demo.NextHop
	in     string
	config string
}

// startKeeping starts one. more is YAML.
func startKeeping(t *testing.T, more string) *keeping {
	t.Helper()
	k := &keeping{hop: demo.NewNextHop("")}
	hopLis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = k.hop.Serve(hopLis) }()
	t.Cleanup(func() { k.hop.Close() })
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.in = in.Addr().String()
	dir := writeFiles(t, "postern.yaml", fmt.Sprintf(`hostname: mail.example.org
domain: example.org
local_domains: [.example.org]
listeners: [{protocol: lmtp, address: %q}]
settings: {forward_to: "smtp://%s", notify_to: "smtp://%[2]s"}
engines: {builtin: {}}
state: {dir: state}
%s`, k.in, hopLis.Addr(), more))
	k.config = filepath.Join(dir, "postern.yaml")
	cfg, err := policy.Load(k.config, engines())
	if err != nil {
		t.Fatal(err)
	}
	if k.daemon, err = newDaemon(cfg, slog.New(slog.DiscardHandler), noDNS{}); err != nil {
		t.Fatal(err)
	}
	if err := k.start(func(policy.Listener) (net.Listener, error) { return in, nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.stop(t.Context()) })
	return k
}

// send sends a mail with the test virus, or a clean one.
func (k *keeping) send(t *testing.T, subject string, virus bool, to ...string) {
	t.Helper()
	if _, err := demo.Send(k.in, demo.Mail{From: "eve@example.com", To: to, Subject: subject, Virus: virus}); err != nil {
		t.Fatal(err)
	}
}

// quarantine runs the command and returns what it prints, with the ids of mails
// replaced, and the exit code.
func (k *keeping) quarantine(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, code, err := postern(t, append([]string{"quarantine", "-c", k.config}, args...)...)
	if err != nil && err.Error() != "" {
		out += err.Error() + "\n"
	}
	return out, code
}

func (k *keeping) ids(t *testing.T) []string {
	t.Helper()
	out, _ := k.quarantine(t, "list", "--json", "--limit", "0")
	var list []mail.Kept
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err, out)
	}
	var ids []string
	for _, item := range list {
		ids = append(ids, item.MailID)
	}
	return ids
}

func TestQuarantineCommand(t *testing.T) {
	t.Parallel()
	k := startKeeping(t, "")
	k.send(t, "first", true, "bob@example.org", "carol@example.org")
	k.send(t, "second\x1b[2J", true, "bob@example.org")
	ids := k.ids(t)
	if len(ids) != 2 {
		t.Fatal(ids)
	}
	second, first := ids[0], ids[1]
	for _, tt := range []struct {
		args  string
		code  int
		wants []string
	}{
		{"list", 0, []string{second + "  virus", `second\x1b[2J`, "<bob@example.org>,<carol@example.org>"}},
		{"list --limit 1", 0, []string{second, "there is more: --limit 0"}},
		{"list --category spam", 0, []string{"nothing is kept that fits"}},
		{"list --since 2099-01-01", 0, []string{"nothing is kept"}},
		{"list --since yesterday", exitUsage, []string{"want a time such as"}},
		{"search FIRST carol", 0, []string{first}},
		{"search first second", 0, []string{"nothing is kept that fits"}},
		{"facts " + first, 0, []string{"virus: INFECTED: Eicar-Signature", "secret_id", "waits", "INFECTED: destiny reject, built-in default"}},
		{"facts " + second, 0, []string{`second\x1b[2J`}},
		{"show virus-" + second, 0, []string{`Subject: second\x1b[2J`, "EICAR"}},
		{"show --raw " + second, 0, []string{"Subject: second\x1b[2J\r\n"}},
		{"rescan " + first, 0, []string{"<bob@example.org>: reject INFECTED"}},
		{"release " + first, 1, []string{"a virus is found in it: Eicar-Signature; --force"}},
		{"release --to nobody " + first, exitUsage, []string{"want an address"}},
		{"release --force --to carol@example.org " + first, 0, []string{" released <carol@example.org>: 250 2.0.0"}},
		{"release --force " + first, 0, []string{" released <bob@example.org>: 250 2.0.0"}},
		{"release --force " + first, 1, []string{"nobody is left", "--again"}},
		{"release --force --again --to boss@example.org " + first, 0, []string{" released <boss@example.org>"}},
		{"list --unreleased", 0, []string{second}},
		{"requeue " + second, 1, []string{"the policy blocks it still", "reject INFECTED"}},
		{"delete " + second + " AAAAAAAAAAAA", 1, []string{second + " deleted", "there is no such message"}},
		{"delete ../x", 1, []string{"is no mail_id"}},
		{"rescan --json " + first, 0, []string{`"destiny": "reject"`, `"rcpt_to": "bob@example.org"`}},
		{"release --json --force " + first, 1, []string{"nobody is left"}},
		{"release --json --force --again --to bob@example.org " + first, 0, []string{`"done": "released"`, `"smtp_response": "250 2.0.0`}},
		{"expire", 0, []string{"0 messages deleted"}},
		{"show " + second, 1, []string{"there is no such message"}},
	} {
		out, code := k.quarantine(t, strings.Fields(tt.args)...)
		for _, want := range tt.wants {
			if code != tt.code || !strings.Contains(out, want) {
				t.Errorf("%s: code %d, want %d and %q in\n%s", tt.args, code, tt.code, want, out)
			}
		}
	}
	got := k.hop.Take()
	if len(got) != 4 || !strings.HasPrefix(string(got[0].Data), "Received: from client.example.net") || got[0].From != "eve@example.com" {
		t.Errorf("the next hop got %d mails: %+v", len(got), got)
	}
	if out, code, err := postern(t, "audit", "-c", k.config); code != 0 {
		t.Errorf("audit: code %d, %v\n%s", code, err, out)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(k.config), "state", "quarantine", first[:1])); err != nil {
		t.Fatal(err)
	}
	if out, code, _ := postern(t, "audit", "-c", k.config); first[:1] != second[:1] && code != 0 {
		// it was released, which the ledger knows
		t.Errorf("audit of a copy that was released: code %d\n%s", code, out)
	}
}

// What passes by the policy of now is handed on by requeue.
func TestRequeue(t *testing.T) {
	t.Parallel()
	k := startKeeping(t, "")
	k.send(t, "first", true, "bob@example.org", "carol@example.org")
	text, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.config, append(text, "recipients: [{match: [carol@example.org], settings: {virus: {lover: true}}}]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := k.quarantine(t, "requeue", k.ids(t)[0]); code != 0 || !strings.Contains(out, "released <carol@example.org>") || strings.Contains(out, "bob") {
		t.Errorf("code %d: %s", code, out)
	}
}

// amavisd-release gets one reply for each recipient, if it knows the secret.
func TestReleaseByAMPDP(t *testing.T) {
	t.Parallel()
	for _, secretWanted := range []bool{true, false} {
		k := startKeeping(t, fmt.Sprintf("banks: {RELEASE: {auth_required_release: %v}}\n", secretWanted))
		k.send(t, "first", false, "bob@example.org")
		k.hop.Take()
		it := &mail.Kept{Category: "banned", From: "eve@example.com", Rcpts: []mail.KeptRcpt{{Address: "bob@example.org", Due: true, NextHop: k.filter.Load().Policy.Settings.ForwardTo}}}
		it.MailID, it.SecretID = mail.NewMailID()
		if _, err := k.store.Keep(it, mail.NewMessage([]byte("Subject: x\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		l := policy.Listener{Bank: "RELEASE"}
		ask := func(q listen.Release) string {
			var out []string
			for _, r := range k.Release(t.Context(), l, q) {
				out = append(out, r.String())
			}
			return strings.Join(out, "\n")
		}
		want := func(what, got, begin string) {
			t.Helper()
			if !strings.HasPrefix(got, begin) {
				t.Errorf("secret wanted %v, %s: %q, want %q", secretWanted, what, got, begin)
			}
		}
		want("no id", ask(listen.Release{MailID: "x"}), "450")
		want("unknown", ask(listen.Release{MailID: "AAAAAAAAAAAA", Secret: "AAAA"}), "550 5.5.0")
		if secretWanted {
			want("no secret", ask(listen.Release{MailID: it.MailID}), "550 5.5.0")
			want("secret", ask(listen.Release{MailID: it.MailID, Secret: it.SecretID}), "250 2.0.0")
		} else {
			want("no secret", ask(listen.Release{MailID: "x/banned-" + it.MailID}), "250 2.0.0")
		}
		want("twice", ask(listen.Release{MailID: it.MailID, Secret: it.SecretID}), "550 5.5.0")
		want("requeue", ask(listen.Release{MailID: it.MailID, Secret: it.SecretID, Requeue: true, To: []mail.Address{"bob@example.org"}}), "550 5.5.0")
		if got := k.hop.Take(); len(got) != 1 {
			t.Errorf("the next hop got %d mails", len(got))
		}
	}
}

// The list of what was kept is mailed once a day, and again if it could not be.
func TestDailyDigest(t *testing.T) {
	t.Parallel()
	k := startKeeping(t, "")
	path := filepath.Join(k.initial.State.Dir, "digest")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // the start of the daemon begins the first day
		if _, err := os.Stat(path); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	k.send(t, "first", true, "bob@example.org")
	now := time.Now()
	k.digest(t.Context(), now)
	if got := k.hop.Take(); len(got) != 0 {
		t.Errorf("on the first day: %+v", got)
	}
	tomorrow := now.Add(30 * time.Hour)
	for range 2 {
		k.digest(t.Context(), tomorrow)
	}
	got := k.hop.Take()
	if len(got) != 1 || got[0].To[0] != "postmaster@example.org" || !strings.Contains(string(got[0].Data), "1 messages kept") {
		t.Errorf("on the second day: %+v", got)
	}
	k.digest(t.Context(), tomorrow.Add(24*time.Hour))
	if got := k.hop.Take(); len(got) != 0 {
		t.Errorf("on a day without: %+v", got)
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.digest(t.Context(), now)
	if data, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(data), digestFormat) {
		t.Errorf("a damaged file: %q, %v", data, err)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Error(err)
	}
	// a next hop that is away
	if err := os.WriteFile(path, []byte(digestFormat+"\n"+now.Add(-time.Hour).Format(time.RFC3339)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.hop.Close(); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	k.relays.Renew()
	k.digest(t.Context(), tomorrow)
	if last, err := lastDigest(path); err != nil || !last.Before(now) {
		t.Errorf("not sent, but done: %v, %v", last, err)
	}
}

// What is beyond limits.notices is told in one mail when the hour is over, or
// when the program ends.
func TestHeldNotices(t *testing.T) {
	t.Parallel()
	k := startKeeping(t, "limits: {notices: 2}\nbanks: {}\n")
	text := "virus: {admin: admin@example.org}"
	cfg, err := policy.Parse(k.config, []byte(strings.Replace(readText(t, k.config), "settings: {", "settings: {"+text+", ", 1)), engines())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.reload(cfg); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		k.send(t, fmt.Sprint("mail ", i), true, "bob@example.org")
	}
	if got := k.hop.Take(); len(got) != 2 {
		t.Errorf("%d notices", len(got))
	}
	k.tellHeld(t.Context(), time.Now().Add(59*time.Minute), false)
	if got := k.hop.Take(); len(got) != 0 {
		t.Errorf("too early: %+v", got)
	}
	k.tellHeld(t.Context(), time.Now().Add(time.Hour), false)
	got := k.hop.Take()
	if len(got) != 1 || got[0].To[0] != "admin@example.org" || !strings.Contains(string(got[0].Data), "3  VIRUS (Eicar-Signature)") {
		t.Errorf("after the hour: %+v", got)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
