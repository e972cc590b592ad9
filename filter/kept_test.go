package filter

import (
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

var selectorOf = regexp.MustCompile(`[;\s]s=(\w+);`)

// holds keeps the last message.
type holds struct {
	kept    *mail.Kept
	message *mail.Message
}

func (h *holds) Keep(k *mail.Kept, m *mail.Message) (string, error) {
	h.kept, h.message = k, m
	return "V/virus-" + k.MailID, nil
}

// TestKeptUnderItsBanks: what was kept is judged and signed later under the banks
// that it came under, whatever has chosen them.
func TestKeptUnderItsBanks(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte(`hostname: mail.example.org
local_domains: [.example.org]
own_networks: [192.0.2.0/24]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:1", bank: A}
  - {protocol: lmtp, address: "127.0.0.1:2"}
  - {protocol: milter, address: "unix:/m"}
  - {protocol: am.pdp, address: "unix:/a", allow_banks: A}
daemon_banks: [{daemons: submission, bank: A}]
auth_banks: [{users: ann, bank: A}]
client_banks: [{networks: 192.0.2.0/24, bank: A}]
banks: {A: {originating: true, dkim: {selectors: [new]}}}
dkim_keys: [{domain: example.org, selector: old, key: a}, {domain: example.org, selector: new, key: b}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	infected := check.Named{Name: "x", Check: signedAs("virus"), Categories: []mail.Category{mail.Infected}}
	for name, tx := range map[string]*mail.Transaction{
		"":         {Input: mail.InputLMTP, Listener: "127.0.0.1:2"},
		"listener": {Input: mail.InputLMTP, Listener: "127.0.0.1:1"},
		"client":   {Input: mail.InputLMTP, Listener: "127.0.0.1:2", Client: mail.Client{Addr: netip.MustParseAddr("192.0.2.7")}},
		"daemon":   {Input: mail.InputMilter, Listener: "unix:/m", Daemon: "submission"},
		"login":    {Input: mail.InputMilter, Listener: "unix:/m", Client: mail.Client{Login: "ann"}},
		"request":  {Input: mail.InputAMPDP, Listener: "unix:/a", Banks: []string{"A"}},
	} {
		store := &holds{}
		f := &Filter{
			Policy: cfg, Keys: flowKeys(t, cfg), Log: slog.New(slog.DiscardHandler), Checks: []check.Named{infected}, Quarantine: store,
			Relay: func(mail.NextHop) mail.Transport { return takes(&strings.Builder{}, "X") },
		}
		tx.ID, tx.From, tx.Rcpts = "1", "ann@example.org", []mail.Recipient{{Address: "bob@example.org"}}
		tx.Message = mail.NewMessage([]byte("Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: ann@example.org\r\nTo: bob@example.org\r\nSubject: s\r\n\r\nx\r\n"))
		if name != "" {
			tx.Back = takes(&strings.Builder{}, "X")
		}
		ex, err := f.Examine(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if ours := name != ""; ex.Selection.Originating != ours {
			t.Fatalf("%s: originating is %v", name, ex.Selection.Originating)
		}
		tx.MailID, tx.SecretID = mail.NewMailID()
		j := &job{Filter: f, tx: tx, ex: ex, rcpts: make([]rcptState, 1)}
		j.rcpts[0].plan = plan{action: drop, copy: policy.CopyTrue}
		j.keep(t.Context())
		again, err := f.ExamineKept(t.Context(), store.kept, store.message)
		if err != nil || again.Selection.BankPath() != ex.Selection.BankPath() || again.Selection.Originating != ex.Selection.Originating {
			t.Errorf("%s: %v, banks %q, want %q", name, err, again.Selection.BankPath(), ex.Selection.BankPath())
		}
		o := &mail.Outgoing{Message: store.message, From: tx.From}
		if err := f.SignKept(t.Context(), store.kept, o); err != nil {
			t.Fatal(err)
		}
		var selectors []string
		for _, e := range o.Edits {
			selectors = append(selectors, selectorOf.FindStringSubmatch(e.Value)[1])
		}
		want := "new"
		if name == "" {
			want = "old new"
		}
		if got := strings.Join(selectors, " "); got != want {
			t.Errorf("%s: signed with %q, want %q", name, got, want)
		}
	}
}

// TestInfection: only engines that look for viruses are asked, and without an
// answer of each nobody knows.
func TestInfection(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [.example.org]\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:1\"}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	viruses, spam := []mail.Category{mail.Infected}, []mail.Category{mail.Spam}
	for _, tt := range []struct {
		name   string
		checks []check.Named
		found  string
		fails  bool
	}{
		{"nothing", []check.Named{{Name: "a", Check: signedAs(""), Categories: viruses}}, "", false},
		{"a virus", []check.Named{{Name: "a", Check: signedAs("virus"), Categories: viruses}}, "Eicar", false},
		{"spam", []check.Named{{Name: "s", Check: panics{}, Categories: spam}}, "", false},
		{"no answer", []check.Named{{Name: "a", Check: panics{}, Categories: viruses}}, "", true},
	} {
		f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler), Checks: tt.checks}
		k := &mail.Kept{MailID: "AAAAAAAAAAAA", Input: mail.InputLMTP, Listener: "127.0.0.1:1", From: "x@far.test", Rcpts: []mail.KeptRcpt{{Address: "bob@example.org"}}}
		found, err := f.Infection(t.Context(), k, mail.NewMessage([]byte("From: x@far.test\r\n\r\nx\r\n")))
		if found != tt.found || (err != nil) != tt.fails {
			t.Errorf("%s: %q, %v", tt.name, found, err)
		}
	}
}

// TestCopyFields: what is foreign in the fields of a mailed copy is ASCII and
// stays in its field.
func TestCopyFields(t *testing.T) {
	t.Parallel()
	var got *mail.Outgoing
	hop := hopFunc(func(o *mail.Outgoing) []mail.Receipt {
		got = o
		return []mail.Receipt{{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok")}}
	})
	f, tx := promiseFilter(t, hop, "listeners: [{protocol: lmtp, address: \"127.0.0.1:10023\"}]\nsettings: {virus: {quarantine: blocked@example.org, destiny: discard}}\n")
	f.Checks = []check.Named{{Name: "x", Check: signedAs("virus"), Categories: []mail.Category{mail.Infected}}}
	tx.From, tx.FromOpts.UTF8 = "jürgen\u202e=?x?q?y?=@example.com", true
	tx.Rcpts = []mail.Recipient{{Address: "grüße@example.org"}, {Address: "\"a\r\nX-Evil: 1\"@example.org"}, {Address: "c@example.org"}}
	f.Process(t.Context(), tx)
	if got == nil || got.Kind != mail.KindCopy || len(got.Edits) != 4 {
		t.Fatalf("%+v", got)
	}
	var b strings.Builder
	if _, err := got.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	header, _ := mail.ParseHeader([]byte(b.String()))
	for _, name := range []string{"X-Envelope-From", "X-Envelope-To", "X-Envelope-To-Blocked", "X-Quarantine-ID"} {
		v, ok := header.First(name)
		if !ok || !mail.Address(v).ASCII() {
			t.Errorf("%s: %q", name, v)
		}
	}
	if n := header.Count("X-Evil"); n > 0 {
		t.Errorf("a field of the recipient's making:\n%s", b.String())
	}
	if v, _ := header.First("X-Envelope-To-Blocked"); !strings.HasSuffix(v, "<c@example.org>") {
		t.Errorf("X-Envelope-To-Blocked: %q", v)
	}
}
