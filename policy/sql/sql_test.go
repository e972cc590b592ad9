package sql

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/policy"
)

// fakeServer has tables in memory: rows by key, and lists by user.
type fakeServer struct {
	mu    sync.Mutex
	rows  map[string][]row
	lists map[string][]listed
	fails error
	asked int
}

func (f *fakeServer) users(_ context.Context, k *keys) ([]row, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	var out []row
	for _, key := range k.list {
		out = append(out, f.rows[key]...)
	}
	return out, f.fails
}

func (f *fakeServer) senders(_ context.Context, id string) ([]listed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists[id], f.fails
}

func (f *fakeServer) close() error { return nil }

func (f *fakeServer) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

// bench is a configuration whose lookup asks a fake, with a clock to turn.
type bench struct {
	*fakeServer
	cfg *policy.Config
	src *Source
	at  time.Time
	log strings.Builder
}

func newBench(t *testing.T, f *fakeServer, more string) *bench {
	t.Helper()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.ours.test\nlocal_domains: [ours.test]\n"+more), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{fakeServer: f, cfg: cfg, at: time.Unix(1e9, 0)}
	o := &Options{SQLLookup: cfg.Lookups.SQL, delimiter: "+", origin: policy.Origin{File: "postern.yaml", Line: 3}}
	o.SelectSenders = "?"
	b.src = newSource(o, f, func() time.Time { return b.at })
	cfg.AddLookup(b.src.For(cfg, slog.New(slog.NewTextHandler(&b.log, nil))))
	return b
}

func (b *bench) selected(t *testing.T, rcpts ...mail.Address) (*policy.Selection, error) {
	t.Helper()
	return b.cfg.Select(t.Context(), policy.Request{
		Listener: "127.0.0.1:10024", From: "x@else.test", Senders: []policy.Sender{{Address: "x@else.test", What: "sender"}}, Rcpts: rcpts,
	})
}

// Of several rows the first that has a value gives it, and the file what none has.
func TestColumnByColumn(t *testing.T) {
	t.Parallel()
	b := newBench(t, &fakeServer{
		rows: map[string][]row{
			"ann@ours.test": {{"id": "1", "policy_id": "7", "spam_kill_level": "9.5", "virus_lover": "N", "spam_subject_tag2": "[ann] "}},
			"@ours.test":    {{"id": "2", "policy_id": "8", "spam_kill_level": "20", "spam_tag2_level": "6.3099999", "virus_lover": "Y", "virus_admin": " admin@ours.test "}},
			"@.":            {{"id": "3", "policy_id": "9", "bypass_spam_checks": "Y", "local": "N"}},
		},
		lists: map[string][]listed{
			"1": {{"x@else.test", "W"}},
			"2": {{"@else.test", "B"}, {"@.", "-2.5"}},
		},
	}, "settings: {spam: {tag_level: 1.5}}\n")
	sel, err := b.selected(t, "ann+lists@ours.test", "bob@ours.test", "else@far.test")
	if err != nil {
		t.Fatal(err)
	}
	ann, bob, far := sel.Rcpts[0].Settings, sel.Rcpts[1].Settings, sel.Rcpts[2]
	if ann.Spam.KillLevel != 9.5 || ann.Spam.Tag2Level != 6.31 || ann.Virus.Lover || ann.Spam.SubjectTag != "[ann] " || ann.Virus.Admin != "admin@ours.test" || !ann.Spam.Bypass || ann.Spam.TagLevel != 1.5 {
		t.Errorf("ann: %+v", ann)
	}
	if bob.Spam.KillLevel != 20 || !bob.Virus.Lover {
		t.Errorf("bob: %+v", bob)
	}
	if far.Local || far.Direction != policy.OpenRelay || sel.Rcpts[0].Local || !far.Settings.Spam.Bypass {
		t.Errorf("the catch-all says local = N: %+v", far)
	}
	if at := ann.Origin("spam.kill_level"); at.String() != "sql users[1] policy[7] at postern.yaml:3" {
		t.Errorf("comes from %s", at)
	}
	if list := ann.Spam.SenderList; len(list) != 3 || list[0].String() != `{match: ["x@else.test"], as: whitelisted, verified: true}` ||
		list[1].String() != `{match: ["else.test"], as: blacklisted, verified: false}` || list[2].String() != `{match: ["."], as: score, score: -2.5, verified: false}` {
		t.Errorf("list %v", list)
	}
}

// The sender list of a user reaches the verdict, with its place.
func TestSendersDecide(t *testing.T) {
	t.Parallel()
	for wb, want := range map[string]policy.Destiny{"B": policy.Reject, "W": policy.Reject, "9": policy.Reject, " ": policy.Pass, "-1": policy.Pass} {
		b := newBench(t, &fakeServer{
			rows:  map[string][]row{"@ours.test": {{"id": "2"}}},
			lists: map[string][]listed{"2": {{"X@else.test", wb}, {"@.", "B"}}},
		}, "")
		sel, err := b.selected(t, "bob@ours.test")
		if err != nil {
			t.Fatal(err)
		}
		// W is for verified senders only, and else the next row decides
		v := policy.Decide(sel, nil, nil)[0]
		if v.Destiny != want || !strings.Contains(strings.Join(v.Reasons, " "), "sql wblist of users[2]") {
			t.Errorf("%q: %s, %q", wb, v.Destiny, v.Reasons)
		}
	}
}

// While the server is away the last answer holds for stale_for, and then nothing
// does; when it is back it is asked again.
func TestStale(t *testing.T) {
	t.Parallel()
	f := &fakeServer{rows: map[string][]row{"ann@ours.test": {{"id": "1", "spam_lover": "Y"}}}}
	b := newBench(t, f, "lookups: {sql: {cache_for: 60s, stale_for: 1h}}\n")
	lover := func(when string, want bool, wantErr string) {
		t.Helper()
		sel, err := b.selected(t, "ann@ours.test")
		if wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), wantErr) {
				t.Errorf("%s: error %v, want %q", when, err, wantErr)
			}
			return
		}
		if err != nil || sel.Rcpts[0].Settings.Spam.Lover != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	lover("first", true, "")
	lover("fresh", true, "")
	if f.asked != 1 {
		t.Errorf("asked %d times", f.asked)
	}
	f.set(errors.New("connection refused"))
	b.at = b.at.Add(61 * time.Second)
	lover("stale", true, "")
	lover("stale, not asked", true, "")
	if f.asked != 2 {
		t.Errorf("a server that has failed was asked at once: %d", f.asked)
	}
	if _, err := b.selected(t, "never@ours.test"); err == nil || !strings.Contains(err.Error(), "no earlier answer") {
		t.Errorf("who was never asked about: %v", err)
	}
	b.at = b.at.Add(time.Hour)
	lover("too old", false, "older than stale_for")
	f.set(nil)
	f.rows["ann@ours.test"][0]["spam_lover"] = "N"
	lover("still left alone", false, "older than stale_for")
	b.at = b.at.Add(pauseAfterFailure)
	lover("back", false, "")
	log := b.log.String()
	if strings.Count(log, "does not answer") != 1 || strings.Count(log, "answers again") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}

// on_error: pass goes on with the settings of the file, and says so.
func TestOnErrorPass(t *testing.T) {
	t.Parallel()
	b := newBench(t, &fakeServer{fails: errors.New("connection refused")}, "settings: {on_error: pass, spam: {lover: true}}\n")
	sel, err := b.selected(t, "ann@ours.test")
	if err != nil || sel.Failed == nil || !sel.Rcpts[0].Settings.Spam.Lover {
		t.Errorf("%v, %+v", err, sel)
	}
}

// A question that is refused for its address keeps nobody else from being asked
// about, and leaves the last answer.
func TestRefused(t *testing.T) {
	t.Parallel()
	f := &fakeServer{rows: map[string][]row{"@ours.test": {{"id": "1", "spam_lover": "Y"}}}}
	b := newBench(t, f, "lookups: {sql: {cache_for: 60s, stale_for: 1h}}\n")
	if _, err := b.selected(t, "ann@ours.test"); err != nil {
		t.Fatal(err)
	}
	b.at = b.at.Add(2 * time.Minute)
	f.set(&refusal{errors.New("odd text")})
	if _, err := b.selected(t, "odd@ours.test"); err == nil {
		t.Error("nothing is known, and there is no error")
	}
	if sel, err := b.selected(t, "ann@ours.test"); err != nil || !sel.Rcpts[0].Settings.Spam.Lover {
		t.Errorf("the last answer: %v", err)
	}
	f.set(nil)
	if _, err := b.selected(t, "bob@ours.test"); err != nil {
		t.Errorf("the next one is not asked about: %v", err)
	}
	if log := b.log.String(); strings.Count(log, "refuses a question") != 2 || strings.Contains(log, "does not answer") {
		t.Errorf("the log says\n%s", log)
	}
}

// The end of the message's own time says nothing about the server.
func TestCanceled(t *testing.T) {
	t.Parallel()
	f := &fakeServer{fails: context.Canceled}
	b := newBench(t, f, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.src.For(b.cfg, slog.New(slog.DiscardHandler)).Lookup(ctx, "ann@ours.test"); err == nil {
		t.Error("no error")
	}
	f.set(nil)
	if _, err := b.selected(t, "ann@ours.test"); err != nil {
		t.Error(err)
	}
}

// What has no meaning here is told once, and what decides where mail goes must
// have one.
func TestOddValues(t *testing.T) {
	t.Parallel()
	b := newBench(t, &fakeServer{rows: map[string][]row{
		"ann@ours.test": {{
			"id": "1", "message_size_limit": "1000", "spam_tag_level": "many", "virus_admin": "nobody", "sa_userconf": "", "newvirus_admin": "x@y", "fullname": "Ann", "spam_lover": "off",
			"virus_quarantine_to": "virus-quarantine", "spam_quarantine_to": "", "banned_quarantine_to": "blocked@ours.test", "warnvirusrecip": "Y", "bad_header_quarantine_to": "a b@c",
			"addr_extension_spam": "a b", "spam_kill_level": "", "bad_header_lover": "\x01", "bypass_virus_checks": "\x00", "forward_method": "smtp:[::1]:10026",
		}},
		"eve@ours.test": {{"id": "3", "forward_method": "smtp:[127.0.0.1]:10024"}},
		"bob@ours.test": {{"id": "2", "forward_method": "pipe:flags=q argv=/bin/x"}},
	}}, "")
	for range 2 {
		sel, err := b.selected(t, "ann@ours.test")
		if err != nil {
			t.Fatal(err)
		}
		s := sel.Rcpts[0].Settings
		if s.Spam.TagLevel != 2 || s.Spam.KillLevel != 6.31 || s.Virus.Admin != "" || !s.BadHeader.Lover || s.Virus.Bypass || s.ForwardTo != "smtp://[::1]:10026" ||
			s.MessageSize != 64<<10 || s.Virus.Quarantine != policy.CopyTrue || s.Spam.Quarantine != policy.CopyFalse || s.Banned.Quarantine != "blocked@ours.test" ||
			s.BadHeader.Quarantine != policy.CopyAuto || !s.Virus.WarnRecipient {
			t.Errorf("%+v", s)
		}
		b.at = b.at.Add(time.Hour)
	}
	log := b.log.String()
	for _, want := range []string{"column newvirus_admin has no effect", "column bad_header_quarantine_to of sql users[1]", "column spam_lover: ", "column spam_tag_level of sql users[1]", "column virus_admin", "column addr_extension_spam"} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%q is not told once:\n%s", want, log)
		}
	}
	if strings.Contains(log, "fullname") || strings.Contains(log, "sa_userconf") {
		t.Errorf("too much is told:\n%s", log)
	}
	if _, err := b.selected(t, "eve@ours.test"); err == nil || !strings.Contains(err.Error(), "mail would go in circles") {
		t.Errorf("a next hop that is a listener of ours: %v", err)
	}
	if _, err := b.selected(t, "bob@ours.test"); err == nil || !strings.Contains(err.Error(), "forward_method of sql users[2]") {
		t.Errorf("a next hop that is not understood: %v", err)
	}
	if _, err := b.selected(t, "ann@ours.test"); err != nil {
		t.Errorf("a bad row of one is a failure for another: %v", err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	local := func(a mail.Address) bool { return strings.HasSuffix(strings.ToLower(string(a)), "dom.test") }
	for a, want := range map[mail.Address]string{
		"User+Ext@Sub.dom.test":       "user+ext@sub.dom.test user@sub.dom.test user+ext user @sub.dom.test @.sub.dom.test @.dom.test @.test @.",
		"user@far.example":            "user@far.example @far.example @.far.example @.example @.",
		"+x@far.example":              "+x@far.example @far.example @.far.example @.example @.",
		"":                            "@.",
		`"a\\b"@far.example`:          "@far.example @.far.example @.example @.",
		"a\xff@far.example":           "a\ufffd@far.example @far.example @.far.example @.example @.",
		"' OR 1=1 --@far.example":     "' or 1=1 --@far.example @far.example @.far.example @.example @.",
		mail.Address("postmaster"):    "@.",
		`"a@evil.test"@far.example`:   `"a@evil.test"@far.example @far.example @.far.example @.example @.`,
		`"lover@dom.test"@dom.test`:   `"lover@dom.test"@dom.test "lover@dom.test" @dom.test @.dom.test @.test @.`,
		"user@a.b.c.d.e.f.g.example.": "user@a.b.c.d.e.f.g.example @a.b.c.d.e.f.g.example @.a.b.c.d.e.f.g.example @.b.c.d.e.f.g.example @.c.d.e.f.g.example @.d.e.f.g.example @.e.f.g.example @.f.g.example @.g.example @.example @.",
	} {
		if got := strings.Join(keysOf(a, "+", local).list, " "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", a, got, want)
		}
	}
}

// Values never get into the text of a question.
func TestQuestion(t *testing.T) {
	t.Parallel()
	if _, err := newServer(&Options{SQLLookup: policy.SQLLookup{Type: policy.PostgreSQL, SelectPolicy: "SELECT a % 2 WHERE a IN (%k)"}}); err == nil {
		t.Error("a lone percent sign is taken")
	}
	o := &Options{SQLLookup: policy.SQLLookup{Type: policy.PostgreSQL, SelectPolicy: "SELECT '%k?' WHERE a IN (%k) AND c = %u AND d <> %d AND e %% 2 = %e"}, address: "host=/nowhere dbname=mail"}
	d, err := newServer(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	text, args := d.question(d.policy, keysOf("a'b+e@c.test", "+", func(mail.Address) bool { return false }).values)
	if text != "SELECT '%k?' WHERE a IN ($1, $2, $3, $4, $5, $6) AND c = $7 AND d <> $8 AND e % 2 = $9" || len(args) != 9 || args[6] != "a'b" || args[8] != "e" {
		t.Errorf("%s, %q", text, args)
	}
}

// What is wrong with the address of a server is told without it: it holds the
// password.
func TestSecret(t *testing.T) {
	for _, typ := range []policy.SQLType{policy.PostgreSQL, policy.MariaDB} {
		t.Setenv("POSTERN_TEST_DSN", "postern:s3cret@@@(")
		cfg, err := policy.Parse("postern.yaml", []byte("lookups: {sql: {type: "+string(typ)+", dsn: 'env:POSTERN_TEST_DSN'}}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := OptionsOf(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Open(o); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(err.Error(), "postern.yaml:1") {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	c := newCache(10)
	for _, a := range []string{"a", "b", "c"} {
		c.put(a, &answer{weight: 4})
		c.get("a")
	}
	if c.get("a") == nil || c.get("b") != nil || c.get("c") == nil || c.weight != 8 {
		t.Errorf("%+v", c)
	}
	c.put("a", &answer{weight: 100})
	if c.get("a") == nil || c.get("c") != nil || c.weight != 100 {
		t.Errorf("the only one too heavy: %+v", c)
	}
	c.put("a", &answer{weight: 1})
	if c.weight != 1 || len(c.byAddress) != 1 || c.order.Len() != 1 {
		t.Errorf("%+v", c)
	}
}

// No row of a database ends the program, or makes an entry that cannot be used.
func FuzzRow(f *testing.F) {
	f.Add("spam_kill_level", "1e309", "x@y.test", "W")
	f.Add("forward_method", "smtp:[::1]:25", "@.", "1.5")
	f.Add("virus_admin", "a@b", "/(/", "")
	f.Fuzz(func(t *testing.T, name, value, sender, wb string) {
		fake := &fakeServer{rows: map[string][]row{"@.": {{"id": "1", name: value}}}, lists: map[string][]listed{"1": {{sender, wb}}}}
		b := newBench(t, fake, "")
		sel, err := b.selected(t, "a@ours.test")
		if err != nil {
			return
		}
		policy.Decide(sel, nil, &mail.Score{Value: 1})
	})
}
