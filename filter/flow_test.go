package filter

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/tools/txtar"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
)

// A case is one txtar file in testdata/flow that a postmaster can read:
//
//	postern.yaml   the configuration, over the built-in one
//	envelope       listener, xforward, from, to, one a line; "milter ADDRESS" and
//	               "local ADDRESS" for mail that its client still has
//	message        the message
//	scanner        what the virus scanner says: "FOUND name" or "ERROR text"
//	quarantine     why it keeps nothing
//	nexthop        replies other than 250: "<rcpt> 550 5.1.1 text", "all ...", "no DSN"
//	amavis         what Amavis 2.13 replied and logged for the same mail
//	differs        in one line, where and why ours is not the same
//	want           what we reply, hand on and log
//
// go test ./filter -run TestFlow -update writes "want" anew.
var update = flag.Bool("update", false, "write the wanted output of the flow cases")

func TestFlow(t *testing.T) {
	files, err := filepath.Glob("testdata/flow/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runFlow(t, file)
		})
	}
}

func runFlow(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &flowCase{t: t, sections: map[string]string{}}
	for _, f := range archive.Files {
		c.sections[f.Name] = string(f.Data)
	}
	got := c.run()
	if *update {
		archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
		archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want := c.sections["want"]; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if amavis := c.sections["amavis"]; amavis != "" {
		diff := compareAmavis(amavis, got)
		switch reason := strings.TrimSpace(c.sections["differs"]); {
		case reason == "" && diff != "":
			t.Errorf("not as Amavis, and the case does not say why: %s", diff)
		case reason != "" && diff == "":
			t.Errorf("as Amavis, but the case says it differs: %s", reason)
		}
	}
}

// compareAmavis compares reply classes, the words and the order of the fields
// of the log lines; it returns the first difference.
func compareAmavis(amavis, ours string) string {
	a, o := flowLines(amavis, "reply: "), flowLines(ours, "reply: ")
	if len(a) != len(o) {
		return fmt.Sprintf("%d replies, Amavis gives %d", len(o), len(a))
	}
	for i := range a {
		if a[i][0] != o[i][0] {
			return fmt.Sprintf("reply %q, Amavis %q", o[i], a[i])
		}
	}
	a, o = flowLines(amavis, "log: "), flowLines(ours, "log: ")
	if len(a) != len(o) {
		return fmt.Sprintf("%d log lines, Amavis writes %d", len(o), len(a))
	}
	for i := range a {
		if x, y := logShape(a[i]), logShape(o[i]); x != y {
			return fmt.Sprintf("log %q, Amavis %q", y, x)
		}
	}
	return ""
}

func flowLines(s, prefix string) []string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if v, ok := strings.CutPrefix(l, prefix); ok {
			out = append(out, v)
		}
	}
	return out
}

var (
	idValue    = regexp.MustCompile(`(mail_id: |queued_as: )[^ ,]+`)
	hitsValue  = regexp.MustCompile(`Hits: [^,]+`)
	timeValue  = regexp.MustCompile(`\d+ ms$`)
	mailIDMark = regexp.MustCompile(`mail_id: [\w-]{12}`)
)

// logShape takes out of a log line what must differ: ids, score and time.
func logShape(l string) string {
	l = l[strings.Index(l, ") ")+2:]
	l = idValue.ReplaceAllString(l, "${1}X")
	l = hitsValue.ReplaceAllString(l, "Hits: X")
	return timeValue.ReplaceAllString(l, "N ms")
}

type flowCase struct {
	t        *testing.T
	sections map[string]string

	mu  sync.Mutex
	out strings.Builder
	n   int
}

func (c *flowCase) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&c.out, format+"\n", args...)
}

func (c *flowCase) run() string {
	cfg, err := policy.Parse("postern.yaml", []byte(c.sections["postern.yaml"]), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := &Filter{
		Policy: cfg,
		Checks: []check.Named{
			{Name: "scanner", Check: c, Categories: []mail.Category{mail.Infected}},
			{Name: "spam", Check: flowSpam{c}, Categories: []mail.Category{mail.Spam, mail.Spammy}}, check.Header(),
		},
		Keys:  flowKeys(c.t, cfg),
		Relay: func(h mail.NextHop) mail.Transport { return &flowHop{c: c, hop: h} },
		Log:   slog.New(&lineHandler{c: c}),

		Quarantine: flowStore{c},
		Observers:  []mail.Observer{observe.Log{Logger: slog.New(&lineHandler{c: c})}},
		Now:        func() time.Time { return now },
	}
	tx := c.transaction(now)
	replies := f.Process(context.Background(), tx)
	var out strings.Builder
	for _, r := range replies {
		fmt.Fprintf(&out, "reply: %s\n", r)
	}
	got := out.String() + c.out.String()
	if tx.MailID != "" {
		got = strings.ReplaceAll(got, tx.MailID, "MAILID")
	}
	return mailIDMark.ReplaceAllString(got, "mail_id: MAILID")
}

// flowStore is the scripted quarantine: the section says "full" or nothing.
type flowStore struct{ c *flowCase }

func (s flowStore) Keep(k *mail.Kept, m *mail.Message) (string, error) {
	if text := strings.TrimSpace(s.c.sections["quarantine"]); text != "" {
		return "", errors.New(text)
	}
	var due []string
	for _, r := range k.Rcpts {
		if r.Due {
			due = append(due, r.Address.String())
		}
	}
	if m != nil && !mail.SecretFits(k.MailID, k.SecretID) {
		s.c.t.Error("the secret does not fit")
	}
	s.c.printf("quarantine keeps it for %s: %s, %s", strings.Join(due, ","), k.Category, k.Reason)
	return "Q/" + k.Category + "-" + k.MailID, nil
}

// flowKeys makes a key for every dkim_keys entry of the case.
func flowKeys(t *testing.T, cfg *policy.Config) *auth.Keys {
	t.Helper()
	var keys []*auth.Key
	for _, k := range cfg.DKIMKeys {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := auth.NewKey(k.Domain, k.Selector, private)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	out, err := auth.NewKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lineHandler shows the lines of messages, and the levels and texts of others.
type lineHandler struct{ c *flowCase }

func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *lineHandler) WithGroup(string) slog.Handler            { return h }
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	event := false
	r.Attrs(func(a slog.Attr) bool { event = event || a.Key == "event"; return true })
	if event {
		h.c.printf("log: %s", r.Message)
	} else {
		h.c.printf("%s: %s", strings.ToLower(r.Level.String()), r.Message)
	}
	return nil
}

func (c *flowCase) transaction(now time.Time) *mail.Transaction {
	tx := &mail.Transaction{
		ID: "00042-01", Received: now, Input: mail.InputLMTP, Protocol: "LMTP", Helo: "mail.no-uce.de",
		Listener: "127.0.0.1:10023", LocalAddr: netip.MustParseAddrPort("127.0.0.1:10023"),
		PeerAddr: netip.MustParseAddrPort("127.0.0.1:40000"),
		Message:  mail.NewMessage([]byte(strings.ReplaceAll(c.sections["message"], "\n", "\r\n"))),
	}
	for _, l := range strings.Split(strings.TrimSpace(c.sections["envelope"]), "\n") {
		word, rest, _ := strings.Cut(l, " ")
		switch word {
		case "listener":
			tx.Listener = rest
			tx.LocalAddr = netip.MustParseAddrPort(rest)
		case "esmtp":
			tx.Input, tx.Protocol = mail.InputSMTP, "ESMTP"
		case "milter", "local":
			tx.Input, tx.Protocol, tx.Listener, tx.Helo = mail.Input(word), "ESMTP", rest, ""
			tx.LocalAddr, tx.PeerAddr = netip.AddrPort{}, netip.AddrPort{}
			tx.Back = &flowBack{c: c}
		case "xforward":
			for _, kv := range strings.Fields(rest) {
				c.xforward(&tx.Client, kv)
			}
		case "from":
			path, params := c.path(rest)
			tx.From = path
			for _, p := range params {
				switch k, v, _ := strings.Cut(p, "="); k {
				case "RET":
					tx.FromOpts.Return = smtp.DSNReturn(v)
				case "ENVID":
					tx.FromOpts.EnvelopeID = v
				case "SMTPUTF8":
					tx.FromOpts.UTF8 = true
				}
			}
		case "to":
			path, params := c.path(rest)
			r := mail.Recipient{Address: path}
			for _, p := range params {
				switch k, v, _ := strings.Cut(p, "="); k {
				case "NOTIFY":
					for _, n := range strings.Split(v, ",") {
						r.Opts.Notify = append(r.Opts.Notify, smtp.DSNNotify(n))
					}
				case "ORCPT":
					r.ORCPT = mail.ORCPT(v)
				}
			}
			tx.Rcpts = append(tx.Rcpts, r)
		default:
			c.t.Fatalf("envelope: %q", l)
		}
	}
	return tx
}

func (c *flowCase) path(s string) (mail.Address, []string) {
	path, rest, ok := strings.Cut(strings.TrimPrefix(s, "<"), ">")
	if !ok {
		c.t.Fatalf("path: %q", s)
	}
	return mail.Address(path), strings.Fields(rest)
}

func (c *flowCase) xforward(cl *mail.Client, kv string) {
	k, v, _ := strings.Cut(kv, "=")
	if v == "[UNAVAILABLE]" {
		return
	}
	switch k {
	case "NAME":
		cl.Name = v
	case "ADDR":
		cl.Addr = netip.MustParseAddr(v)
	case "PORT":
		n, _ := strconv.Atoi(v)
		cl.Port = uint16(n)
	case "PROTO":
		cl.Proto = v
	case "HELO":
		cl.Helo = v
	case "IDENT":
		cl.Ident = v
	case "SOURCE":
		cl.Source = v
	}
}

// Check is the scripted scanner.
func (c *flowCase) Check(context.Context, *check.Input) (check.Answer, error) {
	var out []mail.Finding
	for _, l := range strings.Split(strings.TrimSpace(c.sections["scanner"]), "\n") {
		verb, rest, _ := strings.Cut(l, " ")
		switch verb {
		case "FOUND":
			out = append(out, mail.Finding{Category: mail.Infected, Check: "scanner", Name: rest, Rcpt: mail.AllRcpts})
		case "UNCHECKED":
			out = append(out, mail.Finding{Category: mail.Unchecked, Minor: mail.OverLimits, Check: "scanner", Name: rest, Rcpt: mail.AllRcpts})
		case "ERROR":
			return check.Answer{}, fmt.Errorf("%s", rest)
		}
	}
	return check.Answer{Findings: out}, nil
}

// flowSpam is the scripted spam engine: "SCORE 5.2 A=5 B=0.2 autolearn=no",
// "LATER", "FIELD X-Name value" or "ERROR text".
type flowSpam struct{ c *flowCase }

func (s flowSpam) Check(context.Context, *check.Input) (check.Answer, error) {
	words := strings.Fields(s.c.sections["spam"])
	switch {
	case len(words) == 0:
		return check.Answer{}, nil
	case words[0] == "ERROR":
		return check.Answer{}, errors.New(strings.Join(words[1:], " "))
	}
	if words[0] == "LATER" {
		return check.Answer{Score: &mail.Score{}}, &check.Failure{Word: check.FailedSoftReject, Err: errors.New("greylisted"), Partial: true}
	}
	if words[0] == "FIELD" {
		return check.Answer{Fields: []mail.Edit{{Op: mail.Add, Name: words[1], Value: words[2]}}}, nil
	}
	number := func(text string) float64 {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.c.t.Error(err)
		}
		return f
	}
	score := &mail.Score{Value: number(words[1])}
	for i, w := range words[2:] {
		name, points, _ := strings.Cut(w, "=")
		if name == "autolearn" {
			score.Autolearn = strings.Join(append([]string{points}, words[i+3:]...), " ")
			break
		}
		score.Tests = append(score.Tests, mail.ScoreTest{Name: name, Score: number(points)})
	}
	return check.Answer{Score: score}, nil
}

// Scanner says that the check is a virus scanner.
func (c *flowCase) Scanner() bool { return true }

// flowBack is a client that still has the message.
type flowBack struct{ c *flowCase }

func (b *flowBack) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	var to []string
	out := make([]mail.Receipt, len(o.Rcpts))
	for i, r := range o.Rcpts {
		to = append(to, r.Address.String())
		out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 6, 0, "Ok, accepted")}
	}
	var data bytes.Buffer
	if _, err := o.WriteTo(&data); err != nil {
		b.c.t.Error(err)
	}
	b.c.printf("back to the client -> %s: %s", strings.Join(to, ","), (&flowHop{c: b.c}).describe(o, data.Bytes()))
	return out
}

// flowHop is the scripted next hop.
type flowHop struct {
	c   *flowCase
	hop mail.NextHop
}

func (h *flowHop) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	c := h.c
	var data bytes.Buffer
	if _, err := o.WriteTo(&data); err != nil {
		c.t.Error(err)
	}
	if n := bytes.Count(data.Bytes(), []byte("\n")); n != bytes.Count(data.Bytes(), []byte("\r\n")) {
		c.t.Error("a bare LF leaves")
	}
	if int64(data.Len()) != o.Size() {
		c.t.Errorf("Size %d, written %d", o.Size(), data.Len())
	}
	c.n++
	queued := fmt.Sprintf("FAKE%d", c.n)
	out := make([]mail.Receipt, len(o.Rcpts))
	var to []string
	for i, r := range o.Rcpts {
		out[i] = h.receipt(r, queued)
		if out[i].Disposal == mail.Relayed {
			to = append(to, r.Address.String())
		}
	}
	if o.AllOrNone && slices.ContainsFunc(out, func(r mail.Receipt) bool { return r.Disposal == mail.Deferred }) {
		for i := range out {
			out[i] = mail.Receipt{Disposal: mail.Deferred, NextHop: h.hop.String(), Reply: mail.NewReply(451, 4, 2, "from MTA(%s): 451 4.4.2 stopped", h.hop)}
		}
		to = nil
	}
	if refused := slices.IndexFunc(out, func(r mail.Receipt) bool { return r.Disposal == mail.Refused }); o.RefuseAll && !h.hop.LMTP && refused >= 0 {
		for i := range out {
			out[i] = out[refused]
		}
		to = nil
	}
	if len(to) > 0 {
		c.printf("%s gets %s -> %s: %s", h.hop, o.From, strings.Join(to, ","), h.describe(o, data.Bytes()))
	}
	return out
}

func (h *flowHop) receipt(r mail.Recipient, queued string) mail.Receipt {
	reply, disposal := "250 2.0.0 Ok: queued as "+queued, mail.Relayed
	noDSN := false
	for _, l := range strings.Split(strings.TrimSpace(h.c.sections["nexthop"]), "\n") {
		who, rest, _ := strings.Cut(l, " ")
		if l == "no DSN" {
			noDSN = slices.Contains(r.Opts.Notify, smtp.DSNNotifySuccess)
		} else if who == "all" || who == r.Address.String() {
			reply = rest
		}
	}
	var code, a, b, d int
	_, _ = fmt.Sscanf(reply, "%d %d.%d.%d", &code, &a, &b, &d)
	switch code / 100 {
	case 4:
		disposal, queued = mail.Deferred, ""
	case 5:
		disposal, queued = mail.Refused, ""
	}
	return mail.Receipt{
		Disposal: disposal, QueuedAs: queued, NextHop: h.hop.String(), NoDSN: noDSN && disposal == mail.Relayed,
		Reply: mail.NewReply(code, b, d, "from MTA(%s): %s", h.hop, reply),
	}
}

// describe says what was handed on: the fields added to the message, or the
// subject of a mail of our own.
func (h *flowHop) describe(o *mail.Outgoing, data []byte) string {
	in := strings.ReplaceAll(h.c.sections["message"], "\n", "\r\n")
	hdr, off := mail.ParseHeader(data)
	inHdr, inOff := mail.ParseHeader([]byte(in))
	if !bytes.Equal(data[off:], []byte(in)[inOff:]) {
		subject, _ := hdr.First("Subject")
		auto, _ := hdr.First("Auto-Submitted")
		return fmt.Sprintf("own mail %q, %s", subject, auto)
	}
	var added, changed, removed []string
	for _, f := range inHdr {
		if !slices.ContainsFunc(hdr, func(g mail.Field) bool { return bytes.Equal(f.Raw, g.Raw) }) && !f.Is("Subject") {
			removed = append(removed, f.Name+": "+f.Value())
		}
	}
	for _, f := range hdr {
		if !slices.ContainsFunc(inHdr, func(g mail.Field) bool { return bytes.Equal(f.Raw, g.Raw) }) {
			name := f.Name
			if inHdr.Count(name) > 0 && !f.Is("Received") && !f.Is("DKIM-Signature") {
				changed = append(changed, name+": "+f.Value())
				continue
			}
			if f.Is("X-Amavis-Alert") || strings.HasPrefix(name, "X-Spam-") {
				name += ": " + f.Value()
			}
			added = append(added, name)
		}
	}
	s := "the message, added " + strings.Join(added, ", ")
	if len(changed) > 0 {
		s += "; changed " + strings.Join(changed, ", ")
	}
	if len(removed) > 0 {
		s += "; removed " + strings.Join(removed, ", ")
	}
	if o.Client.Addr.IsValid() {
		s += "; client " + o.Client.Addr.String()
	}
	return s
}
