package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

// everyField has a text that names every field, for the subject and the body of
// all mails.
var everyField = func() *Templates {
	data := "Subject: {{.Subject}}{{.Sender}}{{.From}}{{range .Names}}{{.}}{{end}}\n\n"
	for f := range reflect.TypeFor[Fields]().Fields() {
		if f.Type.Kind() == reflect.Slice {
			data += "{{range ." + f.Name + "}}{{.}}\n{{end}}"
		} else {
			data += "{{." + f.Name + "}}\n"
		}
	}
	t := &Templates{texts: map[string]*text{}}
	for _, name := range textNames {
		own, err := parseText(name, data)
		if err != nil {
			panic(err)
		}
		t.texts[name] = own
	}
	return t
}()

func TestRecipientNotice(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.Quarantine = "6/virus-6N75Q-qJK5q7"
	r.Outcomes[0].Receipt.Disposal = mail.Quarantined
	for _, d := range []mail.Disposal{mail.Refused, mail.Relayed, mail.Deferred} {
		r.addRcpt("friend@example.net", mail.Receipt{Disposal: d, Reply: mail.NewReply(554, 7, 0, "x")})
	}
	if got := r.WarnedRecipients(); len(got) != 0 {
		t.Errorf("by themselves %v are told", got)
	}
	r.Selection.Rcpts[0].Settings.Virus.WarnRecipient = true
	if got := r.WarnedRecipients(); len(got) != 0 {
		t.Errorf("people outside: %v are told", got)
	}
	for i := range r.Selection.Rcpts {
		r.Selection.Rcpts[i].Local = true
	}
	if got := r.WarnedRecipients(); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("%v are told", got)
	}
	o, err := r.RecipientNotice(0)
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, o)
	p := parse(t, o)
	checkTop(t, p)
	contains(t, "notice", p.parts[0], "a virus was found in it", "Eicar-Signature", "himself@jeanbruenn.info", "virus test", "It is kept", "6N75Q-qJK5q7")
	if o.From != "" || o.Rcpts[0].Address != r.Tx.Rcpts[0].Address || p.header.Get("Auto-Submitted") != "auto-generated" || strings.Contains(p.parts[0], "BODY") {
		t.Errorf("%+v\n%s", o, o.Message.Bytes())
	}
	if o, err = r.RecipientNotice(1); err != nil {
		t.Fatal(err)
	}
	contains(t, "notice of what was refused", parse(t, o).parts[0], "No copy of it is kept for you")
}

func TestDigest(t *testing.T) {
	t.Parallel()
	s := &Sheet{Hostname: "mail.example.org", From: "postmaster@mail.example.org", To: "postmaster@example.org", Now: time.Unix(1795000000, 0).UTC()}
	if o, err := s.Digest(s.Now, slices.Values([]*mail.Kept(nil))); o != nil || err != nil {
		t.Errorf("of nothing: %v, %v", o, err)
	}
	o, err := s.Digest(s.Now, func(yield func(*mail.Kept) bool) {
		for i := range 700 {
			k := &mail.Kept{MailID: fmt.Sprintf("AAAAAAAAA%03d", i), Time: s.Now, Category: "spam", Reason: "spam", From: "eve@example.com", Subject: "=?utf-8?q?Gr=C3=BC=C3=9Fe?="}
			for n := range 5 {
				k.Rcpts = append(k.Rcpts, mail.KeptRcpt{Address: mail.Address(fmt.Sprint("user", n, "@example.org")), Due: true})
			}
			if i == 0 {
				k.Category, k.Rcpts = "virus", k.Rcpts[:1]
				k.Rcpts[0].Released = &mail.Released{Done: true}
			}
			if i == 1 {
				const evil = "x\x1b[2J\r\nX: y\u202e"
				k.Reason, k.Subject, k.From, k.Rcpts[0].Address, k.Category = evil, evil, evil, evil, evil
			}
			if !yield(k) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, o)
	p := parse(t, o)
	checkTop(t, p)
	contains(t, "digest", p.parts[0], "698 spam, 1 virus, 1 x?[2J??X: y?", "AAAAAAAAA000  ", ", released", "AAAAAAAAA499", "and 2 more", "Grüße", "and 200 more: postern quarantine list")
	if strings.Contains(p.parts[0], "AAAAAAAAA500") {
		t.Error("the digest is too long")
	}
	if strings.ContainsAny(p.parts[0], "\x1b\u202e") || strings.Contains(p.parts[0], "\nX: y") {
		t.Errorf("foreign text stands as it is: %q", p.parts[0][:2000])
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	now := time.Unix(1795000000, 0)
	tally := NewTally(2)
	allowed := func() string {
		out := ""
		for _, a := range []mail.Address{"a@x", "A@X", "a@x", "b@x", "a@x"} {
			out += map[bool]string{true: "y", false: "n"}[tally.AllowNotice(a, "VIRUS", now)]
		}
		return out
	}
	if got := allowed(); got != "yynyn" {
		t.Error(got)
	}
	if due := tally.Due(now.Add(59*time.Minute), false); len(due) != 0 {
		t.Errorf("too early: %+v", due)
	}
	due := tally.Due(now.Add(time.Hour), false)
	if len(due) != 1 || due[0].To != "a@x" || due[0].Held["VIRUS"] != 2 {
		t.Errorf("%+v", due)
	}
	if now = now.Add(time.Hour); allowed() != "yynyn" {
		t.Error("the next hour does not begin anew")
	}
	if due := tally.Due(now, true); len(due) != 1 {
		t.Errorf("at the end: %+v", due)
	}
	for i := range 3 * mostAddresses {
		tally.Allow(mail.Address(fmt.Sprint(i, "@x")), now)
	}
	if len(tally.hours) > mostAddresses {
		t.Errorf("%d addresses", len(tally.hours))
	}
	for i := range 3 * mostHeadlines {
		tally.AllowNotice("c@x", fmt.Sprint(i), now)
	}
	if due := tally.Due(now, true); len(due[0].Held) > mostHeadlines+1 || due[0].Held["others"] == 0 {
		t.Errorf("%d headlines", len(due[0].Held))
	}
	if (*Tally)(nil).Allow("a@x", now) && NewTally(0).Allow("a@x", now) && NewTally(0).Due(now, true) == nil {
		return
	}
	t.Error("no limit limits")
}

func texts(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	own, err := LoadTemplates(texts(t, map[string]string{
		"ndr-virus.txt": "Subject: Ihre Nachricht: {{range .Names}}{{.}} {{end}}\r\n\r\nGrüße von {{.Host}}.\r\n{{range .Recipients}}- {{.}}\r\n{{end}}\r\n{{.Reference}}\r\n",
		"notice.txt":    "Subject: {{.Category}} von {{.Sender}}\n\nWas wir wissen:\n{{.Details}}",
		"recipient.txt": "Subject: Post\n\nNicht\x1b für Sie: {{.Subject}} {{.Quarantine}}",
		"README":        "no text",
	}))
	if err != nil {
		t.Fatal(err)
	}
	r := virusReport()
	r.Templates = own
	r.addRcpt("friend@example.net", mail.Receipt{Disposal: mail.Refused, NextHop: "smtp:[192.0.2.1]:25", Reply: mail.NewReply(550, 1, 1, "unknown")})
	o, p := ndr(t, r, 0, 1)
	contains(t, "report", p.parts[0], "Grüße von mail.no-uce.de.\r\n- <xxx@gmail.com>\r\n", "the next mail server refused it", "Your message:")
	if got := p.header.Get("Subject"); got != "Ihre Nachricht: Eicar-Signature" {
		t.Errorf("subject %q of\n%s", got, o.Message.Bytes())
	}
	// where all is said in the text of the postmaster, nothing of ours stands below it
	_, p = ndr(t, r, 0)
	if got, want := strings.TrimSpace(p.parts[0]), "Grüße von mail.no-uce.de.\r\n- <xxx@gmail.com>\r\n\r\n"+r.reference(); got != want {
		t.Errorf("report %q, want %q", got, want)
	}
	if o, err = r.Notice([]mail.Address{"postmaster@no-uce.de"}); err != nil {
		t.Fatal(err)
	}
	contains(t, "notice", parse(t, o).parts[0], "Was wir wissen:\r\nVIRUS (Eicar-Signature)\r\n", "Recipients:")
	if o, err = r.RecipientNotice(0); err != nil {
		t.Fatal(err)
	}
	contains(t, "notice to a recipient", parse(t, o).parts[0], "Nicht? für Sie: virus test")
}

// A text that will not do is told with its place, before it is needed.
func TestBadTemplates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, data, want string }{
		{"ndr.txt", "", `ndr.txt:1: want a line "Subject: ..."`},
		{"ndr.txt", "Hello\n\nx", `ndr.txt:1: want a line "Subject: ..."`},
		{"ndr.txt", "Subject: x\ny\nz", `ndr.txt:1: want a line "Subject: ..."`},
		{"ndr.txt", "Subject: x\n\n \n", `ndr.txt:1: want a line "Subject: ..."`},
		{"ndr.txt", "Subject: {{.Sendr}}\n\nx", "ndr.txt:1: there is no field {{.Sendr}} (hint: there are Host, "},
		{"ndr.txt", "Subject: x\n\nx\n{{.Sendr}}", "ndr.txt:4: there is no field {{.Sendr}}"},
		{"ndr.txt", "Subject: x\n\nx\n{{if}}", "ndr.txt:4: "},
		{"ndr.txt", "Subject: x\n\n" + strings.Repeat("x", mostText+1), "ndr.txt: the text is too long"},
		{"ndr-vrius.txt", "Subject: x\n\nx", "ndr-vrius.txt: no text has this name (hint: there are ndr.txt, "},
	} {
		_, err := LoadTemplates(texts(t, map[string]string{tt.name: tt.data}))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want %s", tt.data, err, tt.want)
		}
	}
	if _, err := LoadTemplates(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a folder that is not there")
	}
}

// The texts that we ship can be used as they are.
func TestShippedTemplates(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../deploy/templates/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		own, err := LoadTemplates(dir)
		if err != nil {
			t.Error(err)
		} else if len(own.texts) != len(textNames) {
			t.Errorf("%s has %d texts of %d", dir, len(own.texts), len(textNames))
		}
	}
}
