package filter

// Every message that came to its end has one event, and every recipient that
// was accepted has one end in it: by each way in, for each kind of end. The
// ledger counts.

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d--j/go-milter"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/filter/unpack"
	"postern/policy"
)

// accountMail is a message as a client says it.
type accountMail struct {
	from, text string
	rcpts      []string
	limits     listen.Limits
	spool      string // folder; one that is not there cannot store it
	fits       func(context.Context, *mail.Transaction) bool
	noFile     bool // AM.PDP names a file that is not there
}

// accountWays send a message to a listener of their own, and return how many
// recipients that has accepted.
var accountWays = []struct {
	name string
	send func(*testing.T, listen.Handler, accountMail) int
}{
	{"lmtp", func(t *testing.T, h listen.Handler, m accountMail) int { return feedAccount(t, h, m, "LHLO", false) }},
	{"smtp", func(t *testing.T, h listen.Handler, m accountMail) int { return feedAccount(t, h, m, "EHLO", false) }},
	{"smtp-proxy", func(t *testing.T, h listen.Handler, m accountMail) int { return feedAccount(t, h, m, "EHLO", true) }},
	{"milter", func(t *testing.T, h listen.Handler, m accountMail) int {
		return milterAccount(t, h, m, "192.0.2.1", 25)
	}},
	{"local", func(t *testing.T, h listen.Handler, m accountMail) int {
		return milterAccount(t, h, m, "127.0.0.1", 0)
	}},
	{"am.pdp", func(t *testing.T, h listen.Handler, m accountMail) int { return pdpAccount(t, h, m, "client") }},
	{"am.pdp server", func(t *testing.T, h listen.Handler, m accountMail) int { return pdpAccount(t, h, m, "server") }},
}

func feedAccount(t *testing.T, h listen.Handler, m accountMail, hello string, proxy bool) (accepted int) {
	conn := serve(t, listen.NewFeed(h, listen.FeedOptions{SpoolDir: m.spool, SpoolMemory: 1, Limits: m.limits, Proxy: proxy, RefuseBareLF: true}), "tcp", "127.0.0.1:0")
	r := bufio.NewReader(conn)
	replies := func(n int) (good int) {
		for n > 0 {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line[3] == ' ' {
				n--
				if line[0] < '4' {
					good++
				}
			}
		}
		return good
	}
	say := func(line string, n int) int {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
		return replies(n)
	}
	replies(1)
	say(hello+" mail.example.org", 1)
	say("MAIL FROM:<"+m.from+">", 1)
	for _, to := range m.rcpts {
		accepted += say("RCPT TO:<"+to+">", 1)
	}
	if say("DATA", 1) != 1 {
		t.Fatal("no DATA")
	}
	want := 1
	if hello == "LHLO" {
		want = accepted
	}
	say(m.text+".", want)
	return accepted
}

func milterAccount(t *testing.T, h listen.Handler, m accountMail, addr string, port uint16) (accepted int) {
	conn := serve(t, listen.NewMilter(h, listen.MilterOptions{SpoolDir: m.spool, SpoolMemory: 1, Limits: m.limits, Fits: m.fits}), "tcp", "127.0.0.1:0")
	s, err := milter.NewClient("tcp", conn.RemoteAddr().String()).Session(milter.NewMacroBag())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ok := func(a *milter.Action, err error) *milter.Action {
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ok(s.Conn("localhost", milter.FamilyInet, port, addr))
	ok(s.Helo("mail.example.net"))
	ok(s.Mail(m.from, ""))
	for _, to := range m.rcpts {
		if a := ok(s.Rcpt(to, "")); a.Type == milter.ActionContinue {
			accepted++
		}
	}
	ok(s.DataStart())
	header, body, _ := strings.Cut(m.text, "\r\n\r\n")
	for _, f := range strings.Split(header, "\r\n") {
		name, value, _ := strings.Cut(f, ": ")
		ok(s.HeaderField(name, value, nil))
	}
	ok(s.HeaderEnd())
	ok(s.BodyChunk([]byte(body)))
	if _, _, err := s.End(); err != nil {
		t.Fatal(err)
	}
	return accepted
}

func pdpAccount(t *testing.T, h listen.Handler, m accountMail, careOf string) (accepted int) {
	dir := t.TempDir()
	file := filepath.Join(dir, "email.txt")
	if !m.noFile {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(m.text, "\r\n", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conn := serve(t, listen.NewAMPDP(h, listen.AMPDPOptions{Folders: []string{dir}, SpoolDir: m.spool, SpoolMemory: 1, Limits: m.limits}), "unix", filepath.Join(t.TempDir(), "s"))
	var b strings.Builder
	add := func(name, value string) { fmt.Fprintf(&b, "%s=%s\r\n", name, url.PathEscape(value)) }
	add("request", "AM.PDP")
	add("sender", "<"+m.from+">")
	for _, to := range m.rcpts {
		add("recipient", "<"+to+">")
	}
	add("mail_file", file)
	add("delivery_care_of", careOf)
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return len(m.rcpts)
		}
	}
}

// answers is a next hop that gives each recipient the answer that its name says.
func answers(o *mail.Outgoing) []mail.Receipt {
	out := make([]mail.Receipt, len(o.Rcpts))
	for i, r := range o.Rcpts {
		switch name := string(r.Address); {
		case strings.HasPrefix(name, "panic"):
			panic("a next hop")
		case strings.HasPrefix(name, "no"):
			out[i] = mail.Receipt{Disposal: mail.Refused, NextHop: "x", Reply: mail.NewReply(550, 1, 1, "no such user")}
		case strings.HasPrefix(name, "later"):
			out[i] = mail.Receipt{Disposal: mail.Deferred, NextHop: "x", Reply: mail.NewReply(450, 2, 1, "later")}
		default:
			out[i] = mail.Receipt{Disposal: mail.Relayed, NextHop: "x", Reply: mail.NewReply(250, 0, 0, "Ok")}
		}
	}
	return out
}

// accountStore keeps everything, or says why not.
type accountStore string

func (s accountStore) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	if s != "" {
		return "", errors.New(string(s))
	}
	return k.MailID[:1] + "/" + k.MailID, nil
}

// panics is a check, and an observer.
type panics struct{}

func (panics) Check(context.Context, *check.Input) (check.Answer, error) { panic("a check") }
func (panics) Observe(*mail.Event)                                       { panic("an observer") }

// plainText is a message without fault.
const plainText = "From: a@example.org\r\nDate: Mon, 9 Aug 2021 09:36:36 +0200\r\n\r\ntext\r\n"

// accountCase is one kind of end.
type accountCase struct {
	name  string
	rcpts string // names at example.net, b if empty
	from  string
	text  string
	with  string // settings
	mail  func(*accountMail)
	build func(*testing.T, *Filter)
}

var accountCases = []accountCase{
	{name: "relayed"},
	{name: "refused by the next hop", rcpts: "no1 no2"},
	{name: "deferred by the next hop", rcpts: "later1 later2"},
	{name: "each another answer", rcpts: "b no later"},
	{name: "others have it", rcpts: "b no"},
	{name: "each another answer, a stranger", rcpts: "b no later", from: "x@example.com"},
	{name: "the same twice", rcpts: "b b"},
	{name: "the null sender", rcpts: "b no", from: "-"},
	{name: "no receipts", build: func(_ *testing.T, f *Filter) {
		f.Relay = func(mail.NextHop) mail.Transport { return hopFunc(func(*mail.Outgoing) []mail.Receipt { return nil }) }
	}},
	{name: "no next hop", with: "settings: {forward_to: 'smtp://127.0.0.1:10025'}\n", build: func(_ *testing.T, f *Filter) { f.Relay = nil }},

	{name: "reject", rcpts: "b c", with: "settings: {virus: {destiny: reject}}\n"},
	{name: "reject, a stranger", with: "settings: {virus: {destiny: reject}}\n", from: "x@example.com"},
	{name: "reject, the null sender", with: "settings: {virus: {destiny: reject}}\n", from: "-"},
	{name: "bounce", rcpts: "b c", with: "settings: {virus: {destiny: bounce}}\n"},
	{name: "bounce, a stranger", with: "settings: {virus: {destiny: bounce}}\n", from: "x@example.com"},
	{name: "bounce, and the report is not taken", with: "settings: {virus: {destiny: bounce}}\n", from: "no@example.org"},
	{name: "bounce, and the report waits", with: "settings: {virus: {destiny: bounce}}\n", from: "later@example.org"},
	{name: "bounce, and the report panics", with: "settings: {virus: {destiny: bounce}}\n", from: "panic@example.org"},
	{name: "a quarantine that is full", with: "settings: {virus: {destiny: bounce}}\n", from: "x@example.com", build: func(_ *testing.T, f *Filter) {
		f.Quarantine = accountStore("it is full")
	}},
	{name: "no quarantine", with: "settings: {virus: {destiny: bounce}}\n", from: "x@example.com", build: func(_ *testing.T, f *Filter) { f.Quarantine = nil }},
	{name: "a quarantine that panics", with: "settings: {virus: {destiny: bounce}}\n", from: "x@example.com", build: func(_ *testing.T, f *Filter) {
		f.Quarantine = struct{ Store }{}
	}},
	{name: "discard", with: "settings: {virus: {destiny: discard}}\n"},
	{name: "tempfail", with: "settings: {virus: {destiny: tempfail}}\n"},
	{name: "a lover beside", rcpts: "b lover no", with: "settings: {virus: {destiny: bounce}}\nrecipients: [{match: lover@example.net, settings: {virus: {lover: true}}}]\n"},

	{name: "a loop", text: strings.Repeat("Received: by x; Mon, 9 Aug 2021 09:36:36 +0200\r\n", 200) + plainText},
	{name: "too large", text: plainText + strings.Repeat("0123456789\r\n", 1000), mail: func(m *accountMail) { m.limits.Size = 1000 }},
	{name: "too large, a stranger", text: plainText + strings.Repeat("0123456789\r\n", 1000), from: "x@example.com", mail: func(m *accountMail) { m.limits.Size = 1000 }},
	{name: "a bare LF", text: plainText + "a\nb\r\n"},
	{name: "a disk that is full", mail: func(m *accountMail) { m.spool += "/none" }},
	{name: "no file", mail: func(m *accountMail) { m.noFile = true }},
	{name: "too many recipients", rcpts: "b c d", mail: func(m *accountMail) { m.limits.Recipients = 2 }},
	{name: "recipients that do not fit", rcpts: "b c d", mail: func(m *accountMail) {
		m.fits = func(context.Context, *mail.Transaction) bool { return false }
	}},

	{name: "an examination without end", build: func(t *testing.T, f *Filter) {
		f.Room, f.Policy.Limits.CheckDeadline = unpack.NewRoom(1), time.Millisecond
		if _, err := f.Room.Claim(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "an examination that panics", rcpts: "b c", with: "settings: {dkim: {verify: true}}\n", build: func(_ *testing.T, f *Filter) {
		f.Authenticate = func(context.Context, *mail.Transaction, auth.Questions) *mail.Authentication { panic("examining") }
	}},
	{name: "a check that panics", build: func(_ *testing.T, f *Filter) {
		f.Checks = []check.Named{{Name: "scanner", Check: panics{}, Categories: []mail.Category{mail.Infected}}}
	}},
	{name: "a next hop that panics", rcpts: "b panic"},
	{name: "the second next hop panics", rcpts: "b panic", with: "recipients: [{match: panic@example.net, settings: {forward_to: 'smtp://127.0.0.1:10026'}}]\n"},
	{name: "an observer that panics", build: func(_ *testing.T, f *Filter) {
		f.Observers = append([]mail.Observer{panics{}}, append(f.Observers, panics{})...)
	}},
}

func TestEveryMessageHasOneEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ledger, err := observe.OpenLedger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	messages, recipients := 0, 0
	ends := map[string]int{}
	for _, c := range accountCases {
		for _, way := range accountWays {
			accepted, a := c.run(t, way.send, ledger)
			if c.name == "too many recipients" && (way.name == "local" || strings.HasPrefix(way.name, "am.pdp")) {
				// the listener keeps no more than its limit, and puts all off
				accepted = 2
			}
			if !a.Right() || a.Messages != 1 || a.Recipients != accepted {
				t.Errorf("%s by %s: of %d recipients: %+v", c.name, way.name, accepted, a)
			}
			messages, recipients = messages+1, recipients+accepted
			for end, n := range a.Ends {
				ends[end] += n
			}
		}
	}
	a, err := observe.Audit(dir, observe.AuditOptions{})
	if err != nil || a.Messages != messages || a.Recipients != recipients || !a.Right() {
		t.Errorf("in sum: %+v, %v; want %d messages to %d recipients", a, err, messages, recipients)
	}
	for _, end := range observe.Ends() {
		if ends[end] == 0 || a.Ends[end] != ends[end] {
			t.Errorf("%s: %d, in sum %d", end, ends[end], a.Ends[end])
		}
	}
}

// run sends the message of the case, and returns how many recipients were
// accepted and what a ledger of its own says.
func (c *accountCase) run(t *testing.T, send func(*testing.T, listen.Handler, accountMail) int, sum mail.Observer) (int, *observe.Account) {
	dir := t.TempDir()
	ledger, err := observe.OpenLedger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f, m := accountOf(t, c.with, sum, ledger)
	if strings.Contains(c.with, "virus") {
		f.Checks = []check.Named{{Name: "scanner", Check: foreignVirus("Eicar-Test"), Categories: []mail.Category{mail.Infected}}}
	}
	for _, to := range strings.Fields(cmp.Or(c.rcpts, "b")) {
		m.rcpts = append(m.rcpts, to+"@example.net")
	}
	m.from, m.text = strings.TrimPrefix(cmp.Or(c.from, m.from), "-"), cmp.Or(c.text, m.text)
	if c.mail != nil {
		c.mail(&m)
	}
	if c.build != nil {
		c.build(t, f)
	}
	h := &relisted{f: f, listener: "127.0.0.1:10023"}
	if m.from == "x@example.com" {
		h.listener = "127.0.0.1:10024"
	}
	accepted := send(t, h, m)
	a, err := observe.Audit(dir, observe.AuditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return accepted, a
}

// A transport that proves nothing about a recipient is a mistake of ours. The
// client hears a delay, and the account does not add up.
func TestMistakesDoNotAddUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ledger, err := observe.OpenLedger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f, m := accountOf(t, "", ledger)
	f.Relay = func(mail.NextHop) mail.Transport {
		return hopFunc(func(o *mail.Outgoing) []mail.Receipt { return make([]mail.Receipt, len(o.Rcpts)) })
	}
	m.rcpts = []string{"b@example.net"}
	feedAccount(t, f, m, "LHLO", false)
	a, err := observe.Audit(dir, observe.AuditOptions{})
	if err != nil || len(a.Findings) != 1 || a.Findings[0].Kind != observe.FindingLaw {
		t.Errorf("%+v, %v", a, err)
	}
}

// accountOf is a filter that tells those ledgers, and a message of one of ours.
func accountOf(t *testing.T, settings string, ledgers ...mail.Observer) (*Filter, accountMail) {
	cfg, err := policy.Parse("postern.yaml", []byte(`hostname: mail.example.org
local_domains: [example.org]
listeners: [{protocol: lmtp, address: "127.0.0.1:10023", bank: OURS}, {protocol: lmtp, address: "127.0.0.1:10024"}]
banks: {OURS: {originating: true}}
`+settings), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler), Observers: ledgers, Quarantine: accountStore(""), Relay: func(mail.NextHop) mail.Transport { return hopFunc(answers) }}
	return f, accountMail{from: "a@example.org", text: plainText, spool: t.TempDir()}
}
