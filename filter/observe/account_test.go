package observe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

func TestBroken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		r          LedgerRecord
	}{
		{"right", "", LedgerRecord{Recipients: 3, Ends: map[string]int{"relayed": 1, "deferred": 2}}},
		{"nobody", "", LedgerRecord{}},
		{"one too few", "3 recipients were received, 2 came to an end: 1 refused, 1 relayed", LedgerRecord{Recipients: 3, Ends: map[string]int{"relayed": 1, "refused": 1}}},
		{"one too many", "1 recipients were received, 2 came to an end: 2 bounced", LedgerRecord{Recipients: 1, Ends: map[string]int{"bounced": 2}}},
		{"no ends", "1 recipients were received, 0 came to an end: none", LedgerRecord{Recipients: 1}},
		{"not handled", "1 of 2 recipients came to no end: not handled", LedgerRecord{Recipients: 2, Ends: map[string]int{"not handled": 1, "relayed": 1}}},
		{"a word that is none", `1 of 1 recipients came to no end: \x0alost`, LedgerRecord{Recipients: 1, Ends: map[string]int{"\nlost": 1}}},
		{"negative", "it counts -1 recipients as discarded", LedgerRecord{Recipients: 1, Ends: map[string]int{"relayed": 2, "discarded": -1}}},
		{"none received", "-1 recipients were received, 0 came to an end: none", LedgerRecord{Recipients: -1}},
		{"named", "", LedgerRecord{Recipients: 1, Ends: map[string]int{"relayed": 1}, Rcpts: []LedgerRcpt{{End: "relayed"}}}},
		{"named otherwise", "the recipients that it names came to other ends than it counts", LedgerRecord{Recipients: 1, Ends: map[string]int{"relayed": 1}, Rcpts: []LedgerRcpt{{End: "refused"}}}},
		{"quarantined", "", LedgerRecord{Recipients: 1, Ends: map[string]int{"quarantined": 1}, Quarantine: []string{"a"}}},
		{"no copy", "recipients were quarantined, and no copy is named", LedgerRecord{Recipients: 1, Ends: map[string]int{"quarantined": 1}}},
	} {
		if got := c.r.Broken(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// told writes lines of a ledger: the events in turn, each a minute after the
// one before it.
func told(t *testing.T, start time.Time, what ...any) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string]string{}
	for i, w := range what {
		now := start.Add(time.Duration(i) * time.Minute)
		line, _ := w.(string)
		switch w := w.(type) {
		case *mail.Event:
			line = string(recordOf(w, now).line())
		case *LedgerRecord:
			w.Time = now
			line = string(w.line())
		}
		files[now.Format(ledgerDay)] += line
	}
	for day, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, day), []byte(ledgerFormat+lines), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// again is a try of the message that has that queue id.
func again(queueID, id string, input mail.Input, ends ...mail.Disposal) *mail.Event {
	e := event(id, ends...)
	e.QueueID, e.Input = queueID, input
	return e
}

// shifted names other recipients than event does.
func shifted(e *mail.Event, by int) *mail.Event {
	for i := range e.Recipients {
		e.Recipients[i].Address = mail.Address(fmt.Sprintf("r%d@example.net", i+by))
	}
	return e
}

// kept is a message with a copy.
func kept(id string, paths ...string) *mail.Event {
	e := event(id, mail.Quarantined)
	e.Quarantine = paths
	return e
}

func TestAudit(t *testing.T) {
	t.Parallel()
	const lmtp, smtp, milter = mail.InputLMTP, mail.InputSMTP, mail.InputMilter
	const yes, no, wait = mail.Relayed, mail.Refused, mail.Deferred
	many := func(end mail.Disposal, n int) []mail.Disposal { return slices.Repeat([]mail.Disposal{end}, n) }
	act := func(action, id string) *LedgerRecord { return &LedgerRecord{Action: action, MailID: id} }
	for _, c := range []struct {
		name    string
		records []any
		want    string // findings, as kind and what of
		waiting int
	}{
		{"nothing", nil, "", 0},
		{"all is well", []any{event("a", yes, no), event("b", mail.Bounced, mail.Discarded)}, "", 0},
		{"the law", []any{event("a", yes, mail.NotHandled), event("b", yes)}, "law a", 0},
		{"twice", []any{event("a", yes), event("b", yes), event("a", yes)}, "law a", 0},
		{"lost", []any{event("a", yes), &LedgerRecord{Lost: 3}}, "gap ", 0},
		{"garbled", []any{event("a", yes), "nonsense\n"}, "gap ", 0},
		{"torn", []any{event("a", yes), `{"time":"20`}, "", 0},

		{"copy", []any{kept("a", "there/virus-aaaaaaaaaaaa"), kept("b", "gone/virus-bbbbbbbbbbbb"), kept("c", "admin@example.org"), kept("d", "there/spam-dddddddddddd", "gone/spam-eeeeeeeeeeee")}, "copy b, copy d", 0},
		{"copy released", []any{
			kept("aaaaaaaaaaaa", "gone/virus-aaaaaaaaaaaa"), act("released", "aaaaaaaaaaaa"), kept("b-bbbbbbbb-b", "gone/virus-b-bbbbbbbb-b"), act("expired", "b-bbbbbbbb-b"),
			kept("c", "gone/virus-cccccccccccc"), act("deleted", "x"),
		}, "copy c", 0},
		{"kept before", []any{kept("aaaaaaaaaaaa", "gone/virus-aaaaaaaaaaaa"), kept("bbbbbbbbbbbb", "gone/virus-aaaaaaaaaaaa"), act("deleted", "aaaaaaaaaaaa")}, "", 0},
		{"copy not to be seen", []any{kept("a", "error")}, "copy a", 0},

		{"deferred, then an end", []any{again("Q", "a", lmtp, yes, wait), shifted(again("Q", "b", lmtp, yes), 1)}, "", 0},
		{"deferred for ever", []any{again("Q", "a", lmtp, yes, wait), shifted(again("Q", "b", lmtp, wait), 1), event("c", yes)}, "waiting b", 1},
		{"another part of the message", []any{again("Q", "a", lmtp, wait), shifted(again("Q", "b", lmtp, yes, yes), 1)}, "waiting a", 1},
		{"one reply for all", []any{again("Q", "a", smtp, yes, wait), again("Q", "b", smtp, yes, yes)}, "", 0},
		{"the client has it", []any{again("Q", "a", milter, wait), again("Q", "a2", mail.InputProxy, wait), again("Q", "b", mail.InputLocal, wait)}, "", 0},
		{"no queue id", []any{again("", "a", lmtp, wait)}, "", 0},
		{"too many to name", []any{again("Q", "a", lmtp, many(wait, 30)...), again("Q", "b", lmtp, append(many(yes, 25), many(wait, 5)...)...), shifted(again("Q", "c", lmtp, many(yes, 5)...), 25)}, "", 0},
		{"too many, and one is left", []any{again("Q", "a", lmtp, many(wait, 30)...), again("Q", "b", lmtp, append(many(yes, 25), many(wait, 5)...)...), shifted(again("Q", "c", lmtp, many(yes, 4)...), 25)}, "waiting b", 1},
		{"named, then too many", []any{again("Q", "a", lmtp, many(wait, 15)...), shifted(again("Q", "b", lmtp, many(wait, 15)...), 15), again("Q", "c", lmtp, many(yes, 30)...)}, "", 0},
		{"named, and another part too many", []any{again("Q", "a", lmtp, many(wait, 10)...), shifted(again("Q", "b", lmtp, many(yes, 50)...), 10)}, "waiting a", 1},
	} {
		start := time.Date(2025, 11, 20, 23, 59, 0, 0, time.Local)
		o := AuditOptions{Now: start.Add(2 * time.Hour), Kept: func(path string) (bool, error) {
			if path == "error" {
				return false, errors.New("permission denied")
			}
			return strings.HasPrefix(path, "there"), nil
		}}
		dir := told(t, start, c.records...)
		young, err := Audit(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Now = start.Add(QueueLifetime + 2*time.Hour)
		a, err := Audit(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		var got, soon []string
		for _, f := range a.Findings {
			got = append(got, fmt.Sprintf("%s %s", f.Kind, f.MailID))
			if f.Kind != FindingWaiting {
				soon = append(soon, fmt.Sprintf("%s %s", f.Kind, f.MailID))
			}
		}
		if strings.Join(got, ", ") != c.want || a.Waiting != c.waiting || a.Right() != (c.want == "") {
			t.Errorf("%s: %+v", c.name, a)
		}
		if len(young.Findings) != len(soon) {
			t.Errorf("%s: five days are not over, and it says %+v", c.name, young.Findings)
		}
	}
}

func TestAuditSums(t *testing.T) {
	t.Parallel()
	start := time.Date(2025, 11, 20, 12, 0, 0, 0, time.Local)
	dir := told(t, start, event("a", mail.Relayed, mail.Deferred), event("b", mail.Relayed), &LedgerRecord{Lost: 2}, &LedgerRecord{Lost: 3},
		&LedgerRecord{Action: "released", MailID: "x"}, event("c", mail.Refused, mail.Bounced, mail.Discarded))
	a, err := Audit(dir, AuditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(a.Messages, a.Recipients, a.Ends, a.Lost, a.Actions), "3 6 map[bounced:1 deferred:1 discarded:1 refused:1 relayed:2] 5 map[released:1]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a, err = Audit(dir, AuditOptions{Since: start.Add(4 * time.Minute)}); err != nil || a.Messages != 1 || a.Lost != 0 || len(a.Actions) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err = Audit(filepath.Join(dir, "none"), AuditOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A copy that expires while the ledger is read is not missing.
func TestAuditWhileCopiesExpire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := openTest(t, dir)
	l.Observe(kept("aaaaaaaaaaaa", "a/other-aaaaaaaaaaaa"))
	a, err := Audit(dir, AuditOptions{Kept: func(string) (bool, error) {
		return false, AppendAction(dir, LedgerAction{MailID: "aaaaaaaaaaaa", Action: "expired"})
	}})
	if err != nil || !a.Right() {
		t.Errorf("%+v, %v", a, err)
	}
}

// What is listed and remembered is bounded.
func TestAuditBounds(t *testing.T) {
	t.Parallel()
	var all []any
	for i := range maxFindings + 5 {
		all = append(all, event(fmt.Sprint(i), mail.NotHandled))
	}
	a, err := Audit(told(t, time.Date(2025, 11, 20, 0, 0, 0, 0, time.Local), all...), AuditOptions{})
	if err != nil || len(a.Findings) != maxFindings || a.More != 5 || a.Right() {
		t.Errorf("%d findings, %d more, %v", len(a.Findings), a.More, err)
	}
	au := &audit{recent: map[string]bool{}}
	for i := range 3 * maxRecent {
		au.seen(fmt.Sprint(i))
	}
	if len(au.recent) != maxRecent || !au.seen(fmt.Sprint(2*maxRecent)) || au.seen("0") {
		t.Errorf("%d mail ids are remembered", len(au.recent))
	}
}
