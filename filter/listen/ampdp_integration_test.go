//go:build integration

package listen

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d--j/go-milter"

	"postern/filter/mail"
)

// AM.PDP with the programs that speak it, unchanged from Debian:
// amavisd-milter, between a small MTA of the test and us, and amavisd-release
// (package amavisd-new). Root is needed: the socket of the latter is fixed, so
// it gets a mount name space in which ours lies there.

// startHelper runs amavisd-milter until the test ends. It returns the folder in
// which it works and the addresses of its sockets.
func startHelper(t *testing.T) (dir, milterSocket, ampdpSocket string) {
	t.Helper()
	// the path of a socket has room for 104 octets
	top, err := os.MkdirTemp("", "ampdp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, milterSocket, ampdpSocket = top+"/tmp", top+"/milter.sock", top+"/am.pdp.sock"
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(top + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/amavisd-milter", "-f", "-d", "3", "-B", "-s", "unix:"+milterSocket, "-S", ampdpSocket, "-w", dir, "-p", top+"/pid")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it takes 5 s to end by itself, and leaves nothing that is not ours
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("amavisd-milter:\n%s", text)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(milterSocket); err == nil {
			return dir, milterSocket, ampdpSocket
		}
		if time.Now().After(end) {
			t.Fatal("amavisd-milter does not listen")
		}
	}
}

// helperMTA is a session with amavisd-milter, as Postfix has it.
func helperMTA(t *testing.T, socket string) *mta {
	t.Helper()
	macros := milter.NewMacroBag()
	macros.Set(milter.MacroMTAFQDN, "mail.example.org")
	macros.Set(milter.MacroDaemonName, "smtpd")
	macros.Set("{client_name}", "mx.example.net")
	s, err := milter.NewClient("unix", socket, milter.WithoutDefaultMacros(),
		milter.WithMacroRequest(milter.StageConnect, []milter.MacroName{milter.MacroMTAFQDN, milter.MacroDaemonName, "{client_name}"}),
		milter.WithMacroRequest(milter.StageMail, []milter.MacroName{milter.MacroAuthType, milter.MacroAuthAuthen}),
		milter.WithMacroRequest(milter.StageEOM, []milter.MacroName{milter.MacroQueueId})).Session(macros)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &mta{ClientSession: s, t: t, macros: macros}
}

// mail sends one message and returns the edits, as lines, and the decision.
func (m *mta) mail(helo string, rcpts []string, fields [][2]string, body string) (edits []string, a *milter.Action) {
	m.t.Helper()
	m.must(m.Helo(helo))
	m.must(m.Mail("a@example.net", ""))
	for _, r := range rcpts {
		m.must(m.Rcpt(r, ""))
	}
	m.must(m.DataStart())
	acts, a := m.send(fields, body)
	for _, e := range acts {
		switch e.Type {
		case milter.ActionDelRcpt:
			edits = append(edits, "delete "+e.Rcpt)
		case milter.ActionAddRcpt:
			edits = append(edits, "add "+e.Rcpt)
		case milter.ActionInsertHeader:
			edits = append(edits, fmt.Sprintf("insert %d %s:%q", e.HeaderIndex, e.HeaderName, e.HeaderValue))
		case milter.ActionChangeHeader:
			edits = append(edits, fmt.Sprintf("change %d %s:%q", e.HeaderIndex, e.HeaderName, e.HeaderValue))
		default:
			m.t.Errorf("the helper does %+v", e)
		}
	}
	return edits, a
}

// byWord answers by the first recipient.
func byWord(ctx context.Context, tx *mail.Transaction) mail.Reply {
	word, _ := tx.Rcpts[0].Address.Split()
	o := &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts}
	switch word {
	case "virus":
		return mail.NewReply(554, 7, 0, "Reject, id=%s - INFECTED: 100%%1 \"x\"", tx.ID)
	case "later":
		return mail.NewReply(450, 7, 0, "Temporary failure")
	case "drop":
		return mail.NewReply(250, 7, 0, "Ok, discarded")
	case "spam":
		o.Rcpts = []mail.Recipient{tx.Rcpts[0].Extended("+", "spam")}
	case "plain":
	case "long":
		o.Edits = []mail.Edit{{Op: mail.Add, Name: "X-Long", Value: strings.Repeat("0123456789", 5900)}}
	case "toolong":
		o.Edits = []mail.Edit{{Op: mail.Add, Name: "X-Long", Value: strings.Repeat("0123456789", 7000)}}
	default:
		o.Rcpts = tx.Rcpts[:1]
		o.Edits = []mail.Edit{
			{Op: mail.Add, Name: "X-Virus-Scanned", Value: "Postern at example.org, 100%41"}, {Op: mail.Add, Name: "X-Two", Value: "folded\r\n value"},
			{Op: mail.Remove, Name: "X-Bad"}, {Op: mail.Replace, Name: "Subject", Index: 1, Value: "***SPAM*** t\xc3\xa4gged = x"},
		}
	}
	return tx.Back.Send(ctx, o)[0].Reply
}

var helperFields = [][2]string{
	{"X-Bad", "1"}, {"Subject", "one\n two"}, {"x-bad", "2"}, {"Received", "from y by z; date"},
	{"DKIM-Signature", "v=1;\n\tb=x"}, {"From", "a@example.net"},
}

// hideInHelper tries to hide a field of the message in the one of the helper,
// which a long HELO makes it cut.
func hideInHelper(t *testing.T, socket string, h *milterHandler) {
	t.Helper()
	before := len(h.txs)
	for n := 1800; n < 2048; n += 3 {
		// a session of its own: the buffer stays as large as it ever was
		m := helperMTA(t, socket)
		m.must(m.Conn("mx.example.net", milter.FamilyInet, 4711, "198.51.100.9"))
		_, act := m.mail(strings.Repeat("h", n), []string{"plain@example.org"}, helperFields, "x\r\n")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if got := said(act, ""); got != "" && got != "450 4.5.0 The file of the message cannot be read" {
			t.Fatalf("HELO of %d octets: %q", n, got)
		}
		for _, raw := range h.raw[before:] {
			if !strings.HasPrefix(raw, "X-Bad: 1\r\nSubject: one\r\n two\r\n") {
				t.Fatalf("HELO of %d octets: %.100q", n, raw)
			}
		}
	}
	if seen := len(h.raw) - before; seen == 0 || seen > 80 {
		t.Errorf("%d messages with long HELOs were taken", seen)
	}
}

// TestAMPDPHelper: the real amavisd-milter does what the handler decided.
func TestAMPDPHelper(t *testing.T) {
	dir, milterSocket, ampdpSocket := startHelper(t)
	l, err := Listen("unix:"+ampdpSocket, "0600", "")
	if err != nil {
		t.Fatal(err)
	}
	h := &milterHandler{do: byWord}
	a := serveAMPDP(t, l, h, AMPDPOptions{Folders: []string{dir}, AllowBanks: []string{"smtpd", "SMTP_AUTH"}})
	m := helperMTA(t, milterSocket)
	m.must(m.Conn("mx.example.net", milter.FamilyInet, 4711, "198.51.100.9"))
	m.macros.Set(milter.MacroAuthType, "PLAIN")
	m.macros.Set(milter.MacroQueueId, "4AAAA1")
	const body = "hello\r\n.\r\n\r\r\n8 bit: \xe4\r\n"
	for _, tt := range []struct {
		rcpts []string
		reply string // empty: it goes on
		edits []string
	}{
		{[]string{"spam@example.org"}, "", []string{"delete <spam@example.org>", "add <spam+spam@example.org>"}},
		{[]string{"b@example.org", "c@example.org", "b@example.org", "c@example.org"}, "", []string{
			"delete <c@example.org>", `change 2 x-bad:""`, `change 1 Subject:"***SPAM*** tägged = x"`, `change 1 X-Bad:""`,
			`insert 0 X-Two:"folded\n value"`, `insert 0 X-Virus-Scanned:"Postern at example.org, 100%41"`}},
		{[]string{"plain@example.org"}, "", nil},
		{[]string{"virus@example.org"}, `554 5.7.0 Reject, id=ID - INFECTED: 100%%1 "x"`, nil},
		{[]string{"later@example.org"}, "450 4.7.0 Temporary failure", nil},
		{[]string{"drop@example.org"}, "discard", nil},
		{[]string{"long@example.org"}, "", []string{fmt.Sprintf("insert 0 X-Long:%q", strings.Repeat("0123456789", 5900))}},
		{[]string{"toolong@example.org"}, "451 4.3.0 Error in processing", nil},
		// the helper sends %ff for what is not ASCII, and Postfix would not know the address
		{[]string{"b@example.org", "\xc3\xa4@example.org"}, "451 4.3.0 Error in processing", nil},
		{[]string{"plain@example.org", "\xc3\xa4@example.org"}, "", nil},
	} {
		edits, act := m.mail("c.example.net", tt.rcpts, helperFields, body)
		if len(h.txs) == 0 {
			t.Fatalf("nobody asks us: %+v", act)
		}
		if got := said(act, h.txs[len(h.txs)-1].ID); got != tt.reply || !slices.Equal(edits, tt.edits) {
			t.Errorf("%q: %q, %q", tt.rcpts, got, edits)
		}
	}
	var message strings.Builder
	for _, f := range helperFields {
		message.WriteString(f[0] + ": " + strings.ReplaceAll(f[1], "\n", "\r\n") + "\r\n")
	}
	message.WriteString("\r\n" + body)
	for i, raw := range h.raw {
		if raw != message.String() {
			t.Fatalf("message %d is %q", i, raw)
		}
	}
	tx := h.txs[0]
	if c := tx.Client; c.Addr.String() != "198.51.100.9" || c.Name != "mx.example.net" || c.Helo != "c.example.net" || c.Ident != "4AAAA1" ||
		tx.From != "a@example.net" || !slices.Equal(tx.Banks, []string{"smtpd", "SMTP_AUTH"}) {
		t.Errorf("%+v", tx)
	}

	hideInHelper(t, milterSocket, h)

	// we are gone, and come back
	a.Close()
	if _, act := m.mail("c.example.net", []string{"plain@example.org"}, helperFields, body); said(act, "") != "451 4.6.0 Content scanner malfunction" {
		t.Errorf("without us: %+v", act)
	}
	if l, err = Listen("unix:"+ampdpSocket, "0600", ""); err != nil {
		t.Fatal(err)
	}
	serveAMPDP(t, l, h, AMPDPOptions{Folders: []string{dir}})
	if _, act := m.mail("c.example.net", []string{"plain@example.org"}, helperFields, body); said(act, "") != "" {
		t.Errorf("with us again: %+v", act)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	empties(t, dir)
}

// empties waits until the helper has removed its files.
func empties(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := filepath.Glob(dir + "/*")
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left in the folder: %v", left)
		}
	}
}

const helperPostfix = `
compatibility_level = 3.6
config_directory = %[1]s/postfix
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mail.example.org
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.org
virtual_transport = lmtp:inet:%[2]s
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_milters = unix:%[3]s
milter_default_action = tempfail
milter_connect_macros = j {client_name} {daemon_name} v
`

const helperMaster = `
%s inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
proxymap  unix - - n - - proxymap
error     unix - - n - - error
retry     unix - - n - - error
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
`

// startHelperPostfix starts a Postfix that asks the helper and delivers to an
// LMTP server. It returns the address of its smtpd.
func startHelperPostfix(t *testing.T, milterSocket, lmtp string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	dir, err := os.MkdirTemp("", "ampdp-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	script := `set -e; chmod 755 "$1"; cd "$1"; mkdir -m 755 postfix spool data; chown postfix data; printf %s "$2" >postfix/main.cf; printf %s "$3" >postfix/master.cf`
	for _, cmd := range []*exec.Cmd{
		exec.Command("sh", "-c", script, "sh", dir, fmt.Sprintf(helperPostfix, dir, lmtp, milterSocket), fmt.Sprintf(helperMaster, addr)),
		exec.Command("/usr/sbin/postfix", "-c", dir+"/postfix", "start"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", cmd.Args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("/usr/sbin/postfix", "-c", dir+"/postfix", "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v %s", err, out)
		}
		if t.Failed() {
			text, _ := os.ReadFile(dir + "/mail.log")
			t.Logf("mail.log:\n%s", text)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatal("Postfix does not listen")
		}
	}
}

// TestAMPDPPostfix: the same with Postfix before amavisd-milter: what its client
// hears, and what arrives.
func TestAMPDPPostfix(t *testing.T) {
	dir, milterSocket, ampdpSocket := startHelper(t)
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, milterSocket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Listen("unix:"+ampdpSocket, "0600", "")
	if err != nil {
		t.Fatal(err)
	}
	h := &milterHandler{do: byWord}
	a := serveAMPDP(t, l, h, AMPDPOptions{Folders: []string{dir}})
	boxes := &recorder{}
	_, lmtp := startFeed(t, boxes, FeedOptions{})
	c := dial(t, startHelperPostfix(t, milterSocket, lmtp))
	c.want("220 ...")
	c.send("XCLIENT ADDR=198.51.100.9 NAME=mx.example.net")
	c.hello("EHLO")
	mail := func(want string, rcpts ...string) {
		t.Helper()
		c.send("MAIL FROM:<a@example.net>")
		c.want("250 2.1.0 ...")
		for _, r := range rcpts {
			c.send("RCPT TO:<" + r + "@example.org>")
			c.want("250 2.1.5 ...")
		}
		c.send("DATA")
		c.want("354 ...")
		c.send("X-Bad: 1", "Subject: one", "  two", "x-bad: 2", "From: a@example.net", "Date: x", "Message-Id: <x@y>", "", "hello", "..", "", ".")
		line, err := c.r.ReadString('\n')
		if ids := logIDs(h); len(ids) > 0 {
			line = strings.ReplaceAll(line, ids[len(ids)-1], "ID")
		}
		if err != nil || !match(want, strings.TrimSuffix(line, "\r\n")) {
			t.Errorf("%q: %q, want %q", rcpts, line, want)
		}
	}
	mail("250 2.0.0 Ok: queued as ...", "b", "c")
	mail("554 5.7.0 Reject, id=ID - INFECTED: 100%1 \"x\"", "virus")
	mail("450 4.7.0 Temporary failure", "later")
	mail("250 2.0.0 Ok: queued as ...", "drop")
	mail("451 4.3.0 Error in processing", "toolong")
	a.Close()
	mail("451 4.6.0 Content scanner malfunction", "plain")
	c.send("QUIT")
	c.want("221 ...")
	for end := time.Now().Add(20 * time.Second); len(boxes.transactions()) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if got := boxes.transactions(); len(got) != 1 || len(got[0].Rcpts) != 1 || got[0].Rcpts[0].Address != "b@example.org" {
		t.Fatalf("%d deliveries", len(got))
	}
	got := boxes.messages()[0]
	const changed = "\r\nSubject: ***SPAM*** tägged = x\r\nFrom: a@example.net\r\nDate: x\r\nMessage-Id: <x@y>\r\n\r\nhello\r\n.\r\n\r\n"
	if !strings.Contains(got, "X-Virus-Scanned: Postern at example.org, 100%41\r\nX-Two: folded\r\n value\r\n") || !strings.HasSuffix(got, changed) ||
		strings.Contains(got, "X-Bad") || strings.Contains(got, "amavisd-milter") {
		t.Errorf("%q", got)
	}
	if c := h.txs[0].Client; c.Addr.String() != "198.51.100.9" || c.Name != "mx.example.net" || c.Ident == "" {
		t.Errorf("%+v", c)
	}
}

func logIDs(h *milterHandler) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, tx := range h.txs {
		ids = append(ids, tx.ID)
	}
	return ids
}

// said returns the reply of a decision, empty if the message goes on.
func said(a *milter.Action, id string) string {
	switch a.Type {
	case milter.ActionContinue, milter.ActionAccept:
		return ""
	case milter.ActionDiscard:
		return "discard"
	}
	text := a.SMTPReply
	if id != "" {
		text = strings.ReplaceAll(text, id, "ID")
	}
	return text
}

// TestAMPDPReleaseTool: the real amavisd-release prints our answers.
func TestAMPDPReleaseTool(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	dir := t.TempDir()
	l, err := Listen("unix:"+dir+"/amavisd.sock", "0600", "")
	if err != nil {
		t.Fatal(err)
	}
	serveAMPDP(t, l, &milterHandler{}, AMPDPOptions{Release: describesRelease})
	release := func(stdin string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$1" /var/lib/amavis && shift && exec /usr/sbin/amavisd-release "$@"`, "sh", dir}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	const text = "250 2.0.0 "
	for _, tt := range []struct {
		stdin string
		args  []string
		want  []string
	}{
		{"", []string{"a/virus-aBCDEFGHIJK2.gz"}, []string{text + "aBCDEFGHIJK2, secret , by "}},
		{"", []string{"aBCDEFGHIJK2", "b@example.org", "c@example.org"}, []string{text + "aBCDEFGHIJK2, secret , by ", text + "aBCDEFGHIJK2, secret , by "}},
		{"aBCDEFGHIJK2\nbBCDEFGHIJK2 secret d@example.org\n", []string{"-"}, []string{text + "aBCDEFGHIJK2, secret , by ", text + "bBCDEFGHIJK2, secret secret, by "}},
	} {
		lines := strings.Split(strings.TrimSpace(release(tt.stdin, tt.args...)), "\n")
		if len(lines) != len(tt.want) {
			t.Errorf("%q: %q", tt.args, lines)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%q: %q, want %q", tt.args, lines[i], want)
			}
		}
	}
}
