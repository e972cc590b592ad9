package filter

import (
	"bytes"
	"mime"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/policy"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"Postern at example.org":                               true,
		"amavis at mail.example.org":                           true,
		"Debian amavisd-new at example.org":                    true,
		"by POSTERN\tat  EXAMPLE.org.":                         true,
		"amavisd (version 2) at (this) example.org; ok":        true,
		"=?us-ascii?b?UG9zdGVybiBhdCBleGFtcGxlLm9yZw==?=":      true,
		"Pos\u200btern at example.org":                         true,
		"clean, \"Postern at example.org\"":                    true,
		"by Postern 1.0 at example.org":                        true,
		"amavisd-new 2.13 at mail.example.org":                 true,
		"(Postern) at example.org":                             true,
		"Debian amavis (2.13) using ClamAV at example.org":     true,
		"amavis 2.13 at example.net":                           false,
		"Postern at example.net":                               false,
		"Postern at example.org.evil.example":                  false,
		"Postern at sub.example.org":                           false,
		"ClamAV at example.org":                                false,
		"Postern for example.org":                              false,
		"(Postern at example.org)":                             false,
		"Postern at":                                           false,
		"":                                                     false,
		strings.Repeat("(", 1<<20) + " Postern at example.org": true, // and soon
	} {
		if got := claims(value, []string{"example.org", "mail.example.org"}); got != want {
			t.Errorf("%.60q: %v", value, got)
		}
	}
}

// isForged says by itself what is to go, in a plain way.
func isForged(f mail.Field, local bool) bool {
	name := strings.ToLower(f.Name)
	return strings.HasPrefix(name, "x-amavis-") || local && strings.HasPrefix(name, "x-spam-") ||
		name == "x-virus-scanned" && claims(f.Value(), []string{"example.org", "mail.example.org"})
}

// FuzzForged: marks that pretend to be ours go, every one of them, and all other
// bytes stay where they are.
func FuzzForged(f *testing.F) {
	f.Add([]byte("X-Amavis-Alert: a\r\nSubject: x\r\n y\r\nX-AMAVIS-alert : b\r\n\r\nX-Amavis-Alert: body\r\n"), true)
	f.Add([]byte("X-Virus-Scanned: amavis at example.net\r\nX-Virus-Scanned: Postern\r\n at example.org\r\nx-virus-scanned:ClamAV\r\n\r\n"), false)
	f.Add([]byte("X-Spam-Flag: NO\r\nnot a field\r\nX-Spam-Flag: YES\r\nX-Spam-X:\r\n"), true)
	f.Add([]byte("X-Spam-Flag: NO\r\n\r\nX-Spam-Flag: NO\r\n"), false)
	f.Add([]byte("\x00\r\n:\r\nX-Amavis-"), true)
	f.Fuzz(func(t *testing.T, data []byte, local bool) {
		m := mail.NewMessage(data)
		facts := &copyFacts{
			header: m.Header(), rcpt: &policy.RcptSelection{Local: local, Settings: &policy.Settings{}},
			forged: findForged(m.Header(), "example.org", "mail.example.org"),
		}
		var want []byte
		for _, h := range m.Header() {
			if !isForged(h, local) {
				want = append(want, h.Raw...)
			}
		}
		want = append(want, m.Rest()...)
		var got bytes.Buffer
		if _, err := (&mail.Outgoing{Message: m, Edits: forgedEdits(facts)}).WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%q\nbecame %q\n  want %q", data, got.Bytes(), want)
		}
	})
}

// Thousands of different marks are removed in a time that grows with their number.
func TestManyForged(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100_000 {
		b.WriteString("X-Amavis-" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i%37) + ": z\r\nX-Virus-Scanned: amavis at example.org\r\n")
	}
	b.WriteString("Subject: x\r\n\r\nbody\r\n")
	m := mail.NewMessage([]byte(b.String()))
	o := &mail.Outgoing{Message: m, Edits: findForged(m.Header(), "example.org").always}
	var got bytes.Buffer
	if _, err := o.WriteTo(&got); err != nil || got.String() != "Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("%d octets, %v", got.Len(), err)
	}
	if !slices.ContainsFunc(o.Edits, func(e mail.Edit) bool { return e.Index == 100_000 }) {
		t.Error("the last instance has no edit")
	}
}

// edited returns the value of a field of ours as it is written, and as it reads.
func edited(t *testing.T, edits []mail.Edit, name string) (raw, read string) {
	t.Helper()
	for _, e := range edits {
		if e.Name != name || e.Op == mail.Remove {
			continue
		}
		var b bytes.Buffer
		o := &mail.Outgoing{Message: mail.NewMessage([]byte("\r\n")), Edits: []mail.Edit{{Op: mail.Add, Name: name, Value: e.Value}}}
		if _, err := o.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		h, _ := mail.ParseHeader(b.Bytes())
		read, err := new(mime.WordDecoder).DecodeHeader(h[0].Value())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(h[0].Raw), "\r\n"), read
	}
	return "", ""
}

// What we write into a header is US-ASCII on lines of a mail, and reads as it is
// meant.
func TestAlertASCII(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Rechnung-ü.exe":                      "BANNED, message contains Rechnung-ü.exe",
		"a.exe":                               "BANNED, message contains a.exe",
		"ann\u202egpj.exe":                    `BANNED, message contains ann\x{202e}gpj.exe`,
		"=?utf-8?q?=E2=80=AE?=.exe":           "BANNED, message contains =?utf-8?q?=E2=80=AE?=.exe",
		strings.Repeat("日本", 300) + ".exe":    "BANNED, message contains " + strings.Repeat("日本", 74) + "日...",
		strings.Repeat("\u202e", 300):         `BANNED, message contains ` + strings.Repeat(`\x{202e}`, 55) + "...",
		"x\r\nBcc: a@example.net\r\n\r\nbody": "BANNED, message contains x??Bcc: a@example.net????body",
	} {
		f := &copyFacts{verdict: &policy.Verdict{
			Categories: []policy.ContentCategory{{Category: mail.Banned}, {Category: mail.Clean}},
			Findings:   []mail.Finding{{Category: mail.Banned, Name: "unused", Short: name}},
		}}
		raw, read := edited(t, alertEdits(f), "X-Amavis-Alert")
		if read != want {
			t.Errorf("%.40q reads %q, want %q", name, read, want)
		}
		for line := range strings.SplitSeq(raw, "\r\n") {
			if len(line) > 600 || strings.Contains(line, "=?") && len(line) > 76 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%.40q: line %q", name, line)
			}
		}
	}
}

func TestSubjectTag(t *testing.T) {
	t.Parallel()
	const word = "=?utf-8?q?f=C3=BCr_dich?="
	for _, tt := range []struct{ tag, subject, raw, read string }{
		{"***UNCHECKED*** ", "Subject: x\r\n", "Subject: ***UNCHECKED*** x", "***UNCHECKED*** x"},
		{"***UNCHECKED*** ", "Subject: " + word + "\r\n", "Subject: ***UNCHECKED*** " + word, "***UNCHECKED*** für dich"},
		{"[odd]", "Subject: " + word + "\r\n", "Subject: [odd] " + word, "[odd] für dich"},
		{"[odd]", "Subject:x\r\n", "Subject: [odd]x", "[odd]x"},
		{"[odd]", "Subject:\r\n " + word + "\r\n", "Subject: [odd]\r\n " + word, "[odd] für dich"},
		{"[prüfen] ", "Subject: x\r\n", "Subject: =?utf-8?q?[pr=C3=BCfen]?= x", "[prüfen] x"},
		{"[prüfen] ", "Subject: " + word + "\r\n", "Subject: =?utf-8?q?[pr=C3=BCfen]_?= " + word, "[prüfen] für dich"},
		{"[prüfen] ", "Subject:\r\n " + word + "\r\n", "Subject: =?utf-8?q?[pr=C3=BCfen]_?=\r\n " + word, "[prüfen] für dich"},
		{"[prüfen] ", "", "Subject: =?utf-8?q?[pr=C3=BCfen]?=", "[prüfen]"},
		{"[odd] ", "", "Subject: [odd]", "[odd]"},
		// tagged before: the bytes stay
		{"[odd] ", "Subject:[odd]  x\r\n", "", ""},
		{"[odd] ", "Subject: =?us-ascii?q?[odd]_x?=\r\n", "", ""},
		{"[prüfen] ", "Subject: =?utf-8?q?[pr=C3=BCfen]_?= x\r\n", "", ""},
	} {
		h, _ := mail.ParseHeader([]byte(tt.subject))
		f := &copyFacts{
			header: h, rcpt: &policy.RcptSelection{Local: true, Settings: &policy.Settings{BadHeader: policy.CategorySettings{SubjectTag: tt.tag}}},
			verdict: &policy.Verdict{Categories: []policy.ContentCategory{{Category: mail.BadHeader}}},
		}
		if raw, read := edited(t, subjectEdits(f), "Subject"); raw != tt.raw || read != tt.read {
			t.Errorf("%q before %q: %q, reads %q\nwant %q, %q", tt.tag, tt.subject, raw, read, tt.raw, tt.read)
		}
	}
}

// Received names the only recipient if the address may stand there.
func TestReceivedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address mail.Address
		utf8    bool
		want    string
	}{
		{"b@example.net", false, "\r\n for <b@example.net>"},
		{`"a b"@example.net`, true, "\r\n for <\"a b\"@example.net>"},
		{"bjørn@example.net", true, "\r\n for <bjørn@example.net>"},
		{"bjørn@example.net", false, ""},
		{"b\u202e@example.net", true, ""},
		{"b\xff@example.net", true, ""},
		{"\"a\x01b\"@example.net", false, ""},
		{mail.Address(strings.Repeat("x", 500) + "@example.net"), false, ""},
	} {
		tx := &mail.Transaction{Helo: "mail.exämple.net", Rcpts: []mail.Recipient{{Address: tt.address}}}
		tx.FromOpts.UTF8 = tt.utf8
		v := receivedValue(tx, "mail.example.org", "x")
		if _, got, _ := strings.Cut(v, " id "); strings.TrimSuffix(got, got[strings.Index(got, ";"):]) != tt.want {
			t.Errorf("%q, SMTPUTF8 %v: %q", tt.address, tt.utf8, v)
		}
		if !strings.HasPrefix(v, `from mail.ex\x{e4}mple.net`) {
			t.Errorf("%q", v)
		}
	}
	if v := receivedValue(&mail.Transaction{Rcpts: make([]mail.Recipient, 2)}, "x", "y"); strings.Contains(v, " for ") {
		t.Errorf("%q", v)
	}
}

// TestSpamStatus: the value is folded as Amavis folds it, and nothing in the
// name of a test gets out of its place.
func TestSpamStatus(t *testing.T) {
	t.Parallel()
	status := func(s *mail.Score, categories ...policy.ContentCategory) string {
		set := policy.Default().Settings
		f := &copyFacts{verdict: &policy.Verdict{Score: s, Categories: categories}, rcpt: &policy.RcptSelection{Settings: &set}}
		return f.spamStatus()
	}
	spam := policy.ContentCategory{Category: mail.Spam}
	for _, tt := range []struct {
		score *mail.Score
		cats  []policy.ContentCategory
		want  string
	}{
		{ // the lines of golden s07 and m01
			&mail.Score{Value: 1000.001, Autolearn: "no autolearn_force=no", Tests: []mail.ScoreTest{{Name: "ALL_TRUSTED", Score: -1}, {Name: "FORGED_GMAIL_RCVD", Score: 1}, {Name: "FREEMAIL_FROM", Score: 0.001}, {Name: "GTUBE", Score: 1000}}},
			[]policy.ContentCategory{spam},
			"Yes, score=1000.001 tagged_above=2 required=6.31\r\n tests=[ALL_TRUSTED=-1, FORGED_GMAIL_RCVD=1, FREEMAIL_FROM=0.001, GTUBE=1000]\r\n autolearn=no autolearn_force=no",
		},
		{
			&mail.Score{Value: 4.601, Autolearn: "no autolearn_force=no", Tests: []mail.ScoreTest{{Name: "DATE_IN_PAST_96_XX", Score: 2.6}, {Name: "FORGED_GMAIL_RCVD", Score: 1}, {Name: "FREEMAIL_FROM", Score: 0.001}, {Name: "KHOP_HELO_FCRDNS", Score: 1}}}, nil,
			"No, score=4.601 tagged_above=2 required=6.31\r\n tests=[DATE_IN_PAST_96_XX=2.6, FORGED_GMAIL_RCVD=1, FREEMAIL_FROM=0.001,\r\n KHOP_HELO_FCRDNS=1] autolearn=no autolearn_force=no",
		},
		{&mail.Score{Value: 0.1 + 0.2}, nil, "No, score=0.3 tagged_above=2 required=6.31 tests=[]\r\n autolearn=unavailable"},
		{nil, []policy.ContentCategory{spam}, "Yes, score=x tagged_above=2 required=6.31 tests=[]\r\n autolearn=unavailable"},
		{
			&mail.Score{Value: 1, Tests: []mail.ScoreTest{{Name: "A]\r\nX-Evil: b=[c, d\u00e9", Score: 1}}}, nil,
			"No, score=1 tagged_above=2 required=6.31\r\n tests=[A___X-Evil:_b__c__d_=1] autolearn=unavailable",
		},
	} {
		if got := status(tt.score, tt.cats...); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
	many := &mail.Score{}
	for range 10000 {
		many.Tests = append(many.Tests, mail.ScoreTest{Name: strings.Repeat("N", 10000)})
	}
	got := status(many)
	for _, l := range strings.Split(got, "\r\n") {
		if len(l) > 200 {
			t.Errorf("a line of %d octets", len(l))
		}
	}
	if len(got) > 30000 || !strings.Contains(got, "...]") {
		t.Errorf("%d octets, ends %q", len(got), got[len(got)-60:])
	}
}

// TestSpamEdits: who gets which fields.
func TestSpamEdits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		score  float64
		local  bool
		bypass bool
		want   string
	}{
		{"below", 1.9, true, false, ""},
		{"tagged", 2.55, true, false, "X-Spam-Flag=NO X-Spam-Score=2.55 X-Spam-Level=** X-Spam-Status"},
		{"spam", 70, true, false, "X-Spam-Flag=YES X-Spam-Score=70 X-Spam-Level=" + strings.Repeat("*", 64) + " X-Spam-Status"},
		{"abroad", 70, false, false, ""},
		{"bypassed", 70, true, true, ""},
	} {
		set := policy.Default().Settings
		set.Spam.Bypass = tt.bypass
		sel := policy.RcptSelection{Local: tt.local, Settings: &set}
		v := policy.Decide(&policy.Selection{Rcpts: []policy.RcptSelection{sel}}, nil, &mail.Score{Value: tt.score})[0]
		f := &copyFacts{verdict: &v, rcpt: &sel}
		var got []string
		for _, e := range spamEdits(f) {
			if e.Name == "X-Spam-Status" {
				e.Value = ""
			}
			got = append(got, strings.TrimSuffix(e.Name+"="+e.Value, "="))
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: %s", tt.name, g)
		}
	}
}

// TestSubjectVariables: the words of Amavis have values, others stay.
func TestSubjectVariables(t *testing.T) {
	t.Parallel()
	set := policy.Default().Settings
	set.Spam.SubjectTag = "_SUBJPREFIX_[_YESNOCAPS_ _YESNO_ _SCORE_/_REQD_ _LOGID_ _MAILID_ _HOSTNAME_ _U_ _DATE_ _OTHER_] "
	set.Spam.Tag3Level, set.Spam.Tag3SubjectTag = 20, "*3 _SCORE_* "
	sel := policy.RcptSelection{Local: true, Settings: &set}
	for score, want := range map[float64]string{
		7.25: "*** x *** [YES Yes 7.25/6.31 00042-01 MAILID12 mail.example.org 20261122T120000Z Sun, 22 Nov 2026 12:00:00 +0000 _OTHER_] ",
		20:   "*3 20* ", 2: "",
	} {
		v := policy.Decide(&policy.Selection{Rcpts: []policy.RcptSelection{sel}}, nil, &mail.Score{Value: score, SubjectPrefix: "*** x *** "})[0]
		f := &copyFacts{
			verdict: &v, rcpt: &sel, hostname: "mail.example.org",
			tx: &mail.Transaction{ID: "00042-01", MailID: "MAILID12", Received: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)},
		}
		if got := f.subjectTag(); got != want {
			t.Errorf("%v: %q, want %q", score, got, want)
		}
	}
}
