package policy

import (
	"strings"
	"testing"

	"postern/filter/mail"
)

// TestLoginAndDaemon: the first entry that holds the name is taken, and the path
// says why.
func TestLoginAndDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "staff.txt", "ann\n")
	c, err := Parse(dir+"/postern.yaml", []byte(`local_domains: [ours.test]
listeners: [{protocol: milter, address: "unix:/m", local_bank: LOCAL}]
auth_banks:
  - {users: ["!bob", "file:staff.txt", newsletter@ours.test], bank: [STAFF, SIGNED]}
  - {users: ["!nobody", "*"], bank: OTHERS}
daemon_banks:
  - {daemons: [submission, smtps], bank: SUBMISSION}
  - {daemons: smtpd, bank: MX}
banks:
  LOCAL: {}
  STAFF: {originating: true}
  SIGNED: {}
  OTHERS: {}
  SUBMISSION: {originating: true}
  MX: {}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		req         Request
		path        string // with the reasons
		originating bool
	}{
		{Request{Login: "ann"}, "STAFF by login ann in ann (staff.txt:1), SIGNED by login ann in ann (staff.txt:1)", true},
		{Request{Login: "Newsletter@ours.test"}, "STAFF by login Newsletter@ours.test in newsletter@ours.test, SIGNED by login Newsletter@ours.test in newsletter@ours.test", true},
		{Request{Login: "newsletter@ours.test"}, "STAFF by login newsletter@ours.test, SIGNED by login newsletter@ours.test", true},
		// who has authenticated himself is not originating by that
		{Request{Login: "bob"}, "OTHERS by login bob in *", false},
		{Request{Login: "newsletter"}, "OTHERS by login newsletter in *", false},
		{Request{Login: "nobody"}, "", false},
		{Request{}, "", false},
		{Request{Login: "x\r\ny"}, `OTHERS by login x\x0d\x0ay in *`, false},
		{Request{Daemon: "smtps"}, "SUBMISSION by daemon smtps", true},
		{Request{Daemon: "smtpd"}, "MX by daemon smtpd", false},
		{Request{Daemon: "SMTPS"}, "", false},
		{Request{Local: true, Banks: []string{"LOCAL"}, Daemon: "smtpd"}, "MX by daemon smtpd, LOCAL by mail without a connection", false},
		{Request{Banks: []string{"LOCAL"}}, "LOCAL by request", false},
	} {
		sel := selected(t, c, tt.req)
		var path []string
		for _, st := range sel.Path {
			path = append(path, st.Bank+" by "+st.Reason)
		}
		if got := strings.Join(path, ", "); got != tt.path || sel.Originating != tt.originating {
			t.Errorf("%+v: %s, originating %v, want %s, %v", tt.req, got, sel.Originating, tt.path, tt.originating)
		}
	}
}

// TestOrderOfBanks has a bank of every kind, each of which sets the same key.
func TestOrderOfBanks(t *testing.T) {
	t.Parallel()
	c := parse(t, `local_domains: [ours.test]
listeners: [{protocol: milter, address: "unix:/m", bank: LISTENER}]
daemon_banks: [{daemons: smtpd, bank: DAEMON}]
client_banks: [{networks: 192.0.2.0/24, bank: CLIENT}]
auth_banks: [{users: ann, bank: AUTH}]
signer_banks: [{domains: ours.test, bank: SIGNER}]
settings: {virus: {admin: base@ours.test}}
banks:
  LISTENER: {virus: {admin: listener@ours.test}, originating: true}
  DAEMON: {virus: {admin: daemon@ours.test}}
  CLIENT: {virus: {admin: client@ours.test}}
  REQUEST: {virus: {admin: request@ours.test}}
  AUTH: {virus: {admin: auth@ours.test}}
  MYUSERS: {virus: {admin: myusers@ours.test}}
  SIGNER: {virus: {admin: signer@ours.test}}
senders: [{match: ours.test, settings: {virus: {admin: sender@ours.test}}}]
recipients: [{match: ours.test, settings: {virus: {admin: recipient@ours.test}}}]
`)
	req := Request{Rcpts: []mail.Address{"b@else.test"}}
	path := ""
	for _, tt := range []struct {
		bank  string // "" for what is no bank
		add   func()
		admin string
	}{
		{"", func() {}, "base"},
		{"LISTENER", func() { req.Listener = "unix:/m" }, "listener"},
		{"DAEMON", func() { req.Daemon = "smtpd" }, "daemon"},
		{"CLIENT", func() { req.Client = client("192.0.2.1") }, "client"},
		{"REQUEST", func() { req.Banks = []string{"REQUEST"} }, "request"},
		{"AUTH", func() { req.Login = "ann" }, "auth"},
		// a local sender brings MYUSERS, and the rule for senders
		{"MYUSERS", func() { req.From = "a@ours.test" }, "sender"},
		{"SIGNER", func() { req.Signers = []string{"ours.test"} }, "sender"},
		{"", func() { req.Rcpts = []mail.Address{"b@ours.test"} }, "recipient"},
	} {
		tt.add()
		if tt.bank != "" {
			path = strings.TrimPrefix(path+"/"+tt.bank, "/")
		}
		sel := selected(t, c, req)
		if got := sel.Rcpts[0].Settings.Virus.Admin; sel.BankPath() != path || got != mail.Address(tt.admin+"@ours.test") {
			t.Errorf("path %s, admin %s, want %s, %s", sel.BankPath(), got, path, tt.admin)
		}
	}
	// the one before MYUSERS and the one after it, without the rule for senders
	req.From = "a@x.ours.test"
	if got := selected(t, c, req).Settings.Virus.Admin; got != "signer@ours.test" {
		t.Errorf("admin %s by the signer", got)
	}
}
