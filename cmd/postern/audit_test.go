package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
)

// audited is a configuration with a ledger of those events.
func audited(t *testing.T, events ...*mail.Event) (config, ledger string) {
	t.Helper()
	dir := writeFiles(t, "postern.yaml", "hostname: mail.example.org\nstate: {dir: state}\n")
	ledger = filepath.Join(dir, "state", "ledger")
	l, err := observe.OpenLedger(ledger, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		l.Observe(e)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postern.yaml"), ledger
}

// ended is a message to recipients r0, r1 and so on with those ends.
func ended(id string, ends ...mail.Disposal) *mail.Event {
	e := &mail.Event{LogID: "1-" + id, MailID: id, QueueID: "Q" + id, From: "a@example.org", Size: 7, Listener: "127.0.0.1:10023", Input: mail.InputLMTP, Rcpts: len(ends)}
	for i, end := range ends {
		e.Recipients = append(e.Recipients, mail.RecipientEvent{Address: mail.Address(fmt.Sprintf("r%d@example.net", i)), End: end.String()})
	}
	e.Recipients[0].QueuedAs = "4X"
	return e
}

// withoutTimes takes the times and the folder away.
func withoutTimes(out, ledger string) string {
	out = strings.ReplaceAll(out, ledger, "LEDGER")
	for i := 0; i+19 <= len(out); i++ {
		if _, err := time.Parse(time.DateTime, out[i:i+19]); err == nil {
			out = out[:i] + "TIME" + out[i+19:]
		}
	}
	return out
}

func TestAudit(t *testing.T) {
	t.Parallel()
	quarantined := ended("bbbbbbbbbbbb", mail.Quarantined)
	quarantined.Quarantine = []string{"b/virus-bbbbbbbbbbbb"}
	config, ledger := audited(t, ended("a", mail.Relayed, mail.Deferred), quarantined)
	copied := filepath.Join(filepath.Dir(ledger), "quarantine", "b", "virus-bbbbbbbbbbbb")
	if err := os.MkdirAll(filepath.Dir(copied), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := observe.AppendAction(ledger, observe.LedgerAction{MailID: "x", Action: "released"}); err != nil {
		t.Fatal(err)
	}
	out, code, err := postern(t, "audit", "-c", config)
	if got, want := withoutTimes(out, ledger), `LEDGER: TIME to TIME
         2 messages
         3 recipients received
         1   relayed
         0   refused
         1   deferred
         1   quarantined
         0   bounced
         0   discarded
         1 copies released
         1 messages wait in the feeding queue
the account is right
`; got != want || code != 0 || err != nil {
		t.Errorf("code %d, %v\n got:\n%s\nwant:\n%s", code, err, got, want)
	}

	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	out, code, err = postern(t, "audit", "-c", config, "--since", "24h")
	if got := withoutTimes(out, ledger); code != exitFound || !strings.Contains(got, "copy: TIME (1-bbbbbbbbbbbb) <a@example.org>, Queue-ID: Qbbbbbbbbbbbb, mail_id: bbbbbbbbbbbb: the copy in the quarantine is not there, and nobody noted why: b/virus-bbbbbbbbbbbb\n1 things do not add up\n") {
		t.Errorf("code %d, %v: %s", code, err, got)
	}
	out, code, err = postern(t, "audit", "-c", config, "--json")
	var account observe.Account
	if jsonErr := json.Unmarshal([]byte(out), &account); jsonErr != nil || code != exitFound || account.Recipients != 3 || len(account.Findings) != 1 || account.Findings[0].Kind != observe.FindingCopy {
		t.Errorf("code %d, %v, %v: %s", code, err, jsonErr, out)
	}
	if err := observe.AppendAction(ledger, observe.LedgerAction{MailID: "bbbbbbbbbbbb", Action: "expired"}); err != nil {
		t.Fatal(err)
	}
	if out, code, err = postern(t, "audit", "-c", config); code != 0 {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}

func TestAuditFindings(t *testing.T) {
	t.Parallel()
	config, ledger := audited(t, ended("a", mail.NotHandled, mail.Relayed), ended("b", mail.Relayed))
	old := `{"time":"2026-01-02T10:00:00Z","log_id":"1","mail_id":"old","queue_id":"Qold","input":"lmtp","recipients":1,"ends":{"deferred":1},"rcpts":[{"to":"r@example.net","end":"deferred"}]}
{"time":"2026-01-02T10:00:01Z","lost":3}
what
`
	if err := os.WriteFile(filepath.Join(ledger, "2026-01-02"), []byte("postern ledger 1\n"+old), 0o640); err != nil {
		t.Fatal(err)
	}
	out, code, _ := postern(t, "audit", "-c", config)
	got := withoutTimes(out, ledger)
	for _, want := range []string{
		"         1   came to no end, or to more than one\n", "         3 records are missing\n",
		"law: TIME (1-a) <a@example.org>, Queue-ID: Qa, mail_id: a: 1 of 2 recipients came to no end: not handled\n",
		"gap: TIME: 3 records before this time could not be written\n", "gap: TIME: line 4 of 2026-01-02 is no record\n",
		"waiting: TIME (1) <>, Queue-ID: Qold, mail_id: old: 1 recipients were deferred and came to no end since: 1 tries, the last at TIME\n",
		"4 things do not add up\n",
	} {
		if !strings.Contains(got, want) || code != exitFound {
			t.Errorf("code %d, no %q in\n%s", code, want, got)
		}
	}
	out, code, _ = postern(t, "audit", "-c", config, "--since", "2026-01-03")
	if code != exitFound || !strings.Contains(out, "1 things do not add up") {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestAuditStory(t *testing.T) {
	t.Parallel()
	again := ended("c", mail.Quarantined)
	again.QueueID, again.Quarantine = "Qa", []string{"copy"}
	many := ended("many", make([]mail.Disposal, 30)...)
	config, ledger := audited(t, ended("a", mail.Deferred, mail.Relayed), ended("b", mail.NotHandled), again, many)
	if err := observe.AppendAction(ledger, observe.LedgerAction{MailID: "c", Action: "released", By: "root", Rcpts: []mail.Address{"new@example.net"}}); err != nil {
		t.Fatal(err)
	}
	const first = "TIME (1-a) <a@example.org>, size: 7, Queue-ID: Qa, mail_id: a, by 127.0.0.1:10023\n    <r0@example.net> deferred, queued_as: 4X\n    <r1@example.net> relayed\n"
	const kept = "TIME (1-c) <a@example.org>, size: 7, Queue-ID: Qa, mail_id: c, by 127.0.0.1:10023\n    <r0@example.net> quarantined, queued_as: 4X\n    copy in copy\nTIME copy released by root, mail_id: c\n    <new@example.net>\n"
	for _, c := range []struct {
		flag, value, want string
		code              int
	}{
		{"queue-id", "Qa", first + kept, 0},
		{"mail-id", "c", kept, 0},
		{"mail-id", "b", "TIME (1-b) <a@example.org>, size: 7, Queue-ID: Qb, mail_id: b, by 127.0.0.1:10023\n    <r0@example.net> not handled, queued_as: 4X\n    this does not add up: 1 of 1 recipients came to no end: not handled\n", 0},
		{"recipient", "<R1@example.net>", first + "there may be more (1 messages went to more than twenty, of whom the ledger has no names)\n", 0},
		{"recipient", "nobody@example.net", "", exitFound},
		{"queue-id", "Qmany", "TIME (1-many) <a@example.org>, size: 7, Queue-ID: Qmany, mail_id: many, by 127.0.0.1:10023\n    30 recipients not handled\n    this does not add up: 30 of 30 recipients came to no end: not handled\n", 0},
	} {
		out, code, err := postern(t, "audit", "-c", config, "--"+c.flag, c.value)
		if got := withoutTimes(out, ledger); got != c.want || code != c.code {
			t.Errorf("%s %s: code %d, %v\n got:\n%s\nwant:\n%s", c.flag, c.value, code, err, got, c.want)
		}
	}
	out, code, err := postern(t, "audit", "-c", config, "--queue-id", "Qa", "--json")
	var records []observe.LedgerRecord
	if jsonErr := json.Unmarshal([]byte(out), &records); jsonErr != nil || code != 0 || len(records) != 3 || records[2].By != "root" {
		t.Errorf("code %d, %v, %v: %s", code, err, jsonErr, out)
	}
}

func TestAuditErrors(t *testing.T) {
	t.Parallel()
	config, ledger := audited(t)
	if out, code, err := postern(t, "audit", "-c", config); code != 0 || !strings.Contains(out, "no message\n") {
		t.Errorf("an empty ledger: code %d, %v: %s", code, err, out)
	}
	if _, code, err := postern(t, "audit", "-c", config, "--since", "yesterday"); code != exitUsage || !strings.Contains(err.Error(), "24h") {
		t.Errorf("code %d, %v", code, err)
	}
	if _, code, err := postern(t, "audit", "-c", config, "--mail-id", "x", "--queue-id", "y"); code != exitUsage {
		t.Errorf("code %d, %v", code, err)
	}
	if err := os.RemoveAll(ledger); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"--mail-id", "x"}} {
		if _, code, err := postern(t, append([]string{"audit", "-c", config}, args...)...); code != exitConfig || !strings.Contains(err.Error(), "there is no ledger in "+ledger) {
			t.Errorf("code %d, %v", code, err)
		}
	}
	if _, code, err := postern(t, "audit", "-c", config+".none"); code != exitConfig {
		t.Errorf("code %d, %v", code, err)
	}
}

// What may have come twice is named, and is no mistake in the account.
func TestAuditTwice(t *testing.T) {
	t.Parallel()
	config, _ := audited(t, ended("a", mail.Relayed))
	var out strings.Builder
	err := runAudit(&out, auditOptions{config: config, twice: func(*policy.Config) ([]string, error) { return []string{"Qa to <b@example.net>\n"}, nil }})
	if err != nil || !strings.Contains(out.String(), "may have come twice: Qa to <b@example.net>\\x0a\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}
