package listen

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filter/listen/ampdp"
	"postern/filter/mail"
)

// startAMPDP serves on a socket of its own until the test ends, and fails the
// test when a session is left then.
func startAMPDP(t testing.TB, h Handler, o AMPDPOptions) (*AMPDP, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "am.pdp")
	l, err := Listen("unix:"+path, "0600", "")
	if err != nil {
		t.Fatal(err)
	}
	return serveAMPDP(t, l, h, o), path
}

func serveAMPDP(t testing.TB, l net.Listener, h Handler, o AMPDPOptions) *AMPDP {
	t.Helper()
	if o.SpoolDir == "" {
		o.SpoolDir = t.TempDir()
	}
	a := NewAMPDP(h, o)
	done := make(chan error, 1)
	go func() { done <- a.Serve(l) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		select {
		case <-a.drained:
		case <-time.After(10 * time.Second):
			t.Error("a session or handler is left")
		}
	})
	return a
}

// helper is amavisd-milter's side of a session.
type helper struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func dialAMPDP(t testing.TB, path string) *helper {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &helper{t: t, Conn: c, in: bufio.NewReader(c)}
}

// ask sends a request as it stands and reads the answer to it.
func (h *helper) ask(request string) heard {
	h.t.Helper()
	if _, err := io.WriteString(h, request); err != nil {
		h.t.Fatal(err)
	}
	return hear(h.t, h.in)
}

// heard is what amavisd-milter makes of an answer.
type heard struct {
	result string // empty: it could not read the answer
	reply  string // of the last setreply with 4xx or 5xx
	edits  []string
	lines  []string // as they came
}

// hear reads an answer as amavisd-milter 1.7.2 does (amavisd.c, mlfi.c), and
// fails the test on what it would call wrong.
func hear(t testing.TB, in *bufio.Reader) heard {
	t.Helper()
	got := heard{}
	for {
		raw, err := in.ReadString('\n')
		if err != nil {
			if raw != "" || got.lines != nil {
				t.Fatalf("the answer ends in %q after %q: %v", raw, got.lines, err)
			}
			return heard{}
		}
		line, ok := strings.CutSuffix(raw, "\r\n")
		if !ok || len(raw) > 64<<10-3 || strings.ContainsAny(line, "\r\x00") {
			t.Fatalf("%q is no line for it", raw)
		}
		if line == "" {
			return got
		}
		got.lines = append(got.lines, line)
		text, err := ampdp.Decoded(line)
		name, value, found := strings.Cut(text, "=")
		if err != nil || !found || strings.IndexByte(text, 0) >= 0 {
			t.Fatalf("%q is malformed", raw)
		}
		got.attribute(t, name, value)
	}
}

func (g *heard) attribute(t testing.TB, name, value string) {
	t.Helper()
	fields := map[string]int{"insheader": 3, "chgheader": 3, "delheader": 2, "setreply": 3}[name]
	parts := strings.SplitN(value, " ", fields)
	if fields > 0 && len(parts) != fields {
		t.Fatalf("%s=%q has %d fields", name, value, len(parts))
	}
	switch name {
	case "version_server":
		if value != "2" {
			t.Fatalf("version %q", value)
		}
	case "log_id", "exit_code":
	case "insheader", "chgheader", "delheader":
		if n, err := strconv.Atoi(parts[0]); err != nil || n < 0 || (n == 0) != (name == "insheader") {
			t.Fatalf("%s=%q", name, value)
		}
		g.edits = append(g.edits, name+" "+value)
	case "delrcpt", "addrcpt":
		g.edits = append(g.edits, name+" "+value)
	case "return_value":
		if !slices.Contains([]string{"continue", "reject", "discard", "tempfail"}, value) || g.result != "" {
			t.Fatalf("return_value=%q after %q", value, g.result)
		}
		g.result = value
	case "setreply":
		code, status, text := parts[0], parts[1], parts[2]
		// libmilter, and Postfix behind it
		if len(code) != 3 || status[:1] != code[:1] || !enhancedCode.MatchString(status) || len(text) > 980 || control(text) ||
			strings.Contains(strings.ReplaceAll(text, "%%", ""), "%") {
			t.Fatalf("setreply=%q", value)
		}
		if g.reply = ""; code[0] == '4' || code[0] == '5' {
			g.reply = strings.ReplaceAll(value, "%%", "%")
		}
	default:
		t.Fatalf("it does not know %q", name)
	}
}

// agrees fails the test when the reply does not fit the result.
func (g *heard) agrees(t testing.TB) {
	t.Helper()
	want := map[string]string{"tempfail": "4", "reject": "5"}[g.result]
	if g.reply[:min(1, len(g.reply))] != want || g.result == "" {
		t.Errorf("%s with reply %q", g.result, g.reply)
	}
	if g.result != "continue" && len(g.edits) > 0 {
		t.Errorf("%s with edits %q", g.result, g.edits)
	}
}

// mailDir returns the folder of the helper with a message in af1/email.txt.
func mailDir(t testing.TB, message string) string {
	t.Helper()
	dir := t.TempDir()
	writeMail(t, filepath.Join(dir, "af1"), message)
	return dir
}

func writeMail(t testing.TB, dir, message string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "email.txt"), []byte(message), 0o640); err != nil {
		t.Fatal(err)
	}
}

// coded writes a value as amavisd-milter does.
func coded(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 0x80:
			b.WriteString("%ff")
		case c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// request writes a check request for dir/af1; more are further lines, which
// come first.
func request(dir string, more ...string) string {
	lines := append([]string{"request=AM.PDP"}, more...)
	lines = append(lines, "sender="+coded("<a@example.net>"), "recipient="+coded("<b@example.org>"),
		"tempdir="+coded(dir+"/af1"), "tempdir_removed_by=client")
	return strings.Join(lines, "\n") + "\n\n"
}

const plainMail = "From: a@example.net\nSubject: one\n two\n\nhello\n.\n"

// TestAMPDPTransaction: the handler gets what the request of amavisd-milter
// says, and the message as the MTA has it.
func TestAMPDPTransaction(t *testing.T) {
	t.Parallel()
	received := "Received: from c.example.net (mx.example.net [198.51.100.9])\n\tby mail.example.org (amavisd-milter) with ESMTP id 4AAAA1;\n" +
		"\tFri, 27 Nov 2026 11:00:00 +0000 (UTC)\n\t(envelope-from <a@example.net>)\n"
	dir := mailDir(t, received+plainMail)
	h := &milterHandler{}
	_, path := startAMPDP(t, h, AMPDPOptions{Listener: "unix:/x", Folders: []string{"/nowhere", dir}, AllowBanks: []string{"SMTP_AUTH", "MX"}})
	c := dialAMPDP(t, path)
	for range 2 { // several requests in a session
		got := c.ask(request(dir, "queue_id=4AAAA1", "protocol_name=esmtp", "client_address=198%2e51%2e100%2e9", "client_port: 4711", "client_source=REMOTE",
			"client_name="+coded("mx.example.net"), "helo_name="+coded("c.example.net"), "mail_file="+coded(dir+"/af1/email.txt"),
			"delivery_care_of=client", "policy_bank="+coded("MX, SMTP_AUTH,SMTP_AUTH_PLAIN"), "later_version=%zz", "recipient="+coded("<\"c d\"@example.org>")))
		if got.agrees(t); got.result != "continue" || len(got.edits) > 0 {
			t.Fatalf("%+v", got)
		}
		if want := []string{"version_server=2", "log_id=" + h.txs[len(h.txs)-1].ID, "setreply=250 2.6.0 Ok,%20accepted", "return_value=continue", "exit_code=0"}; !slices.Equal(got.lines, want) {
			t.Errorf("%q", got.lines)
		}
	}
	if want := strings.ReplaceAll(plainMail, "\n", "\r\n"); len(h.raw) != 2 || h.raw[0] != want || h.raw[1] != want {
		t.Fatalf("%q", h.raw)
	}
	tx := h.txs[1]
	client := mail.Client{
		Name: "mx.example.net", Addr: netip.MustParseAddr("198.51.100.9"), Port: 4711, Proto: "esmtp", Helo: "c.example.net",
		Ident: "4AAAA1", Source: "REMOTE",
	}
	if tx.Client != client || tx.Input != mail.InputAMPDP || tx.Protocol != "ESMTP" || tx.Listener != "unix:/x" || tx.ID == h.txs[0].ID {
		t.Errorf("%+v", tx)
	}
	if tx.From != "a@example.net" || len(tx.Rcpts) != 2 || tx.Rcpts[0].Address != `"c d"@example.org` || tx.Rcpts[1].Address != "b@example.org" ||
		!slices.Equal(tx.Banks, []string{"MX", "SMTP_AUTH"}) || tx.Size != int64(len(h.raw[1])) {
		t.Errorf("%+v", tx)
	}
	if _, err := os.Stat(dir + "/af1/email.txt"); err != nil {
		t.Error("the client's file is gone", err)
	}
}

// TestAMPDPClients: what is not known, or was not verified, is nothing.
func TestAMPDPClients(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	h := &milterHandler{}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	for _, tt := range []struct{ lines, addr, name string }{
		{"client_address=192.0.2.1\nclient_name=mx.test", "192.0.2.1", "mx.test"},
		{"client_address=IPv6%3a2001%3adb8%3a%3a1\nclient_name=%5b2001:db8::1%5d", "2001:db8::1", ""},
		{"client_address=[192.0.2.1]\nclient_name=unknown", "192.0.2.1", ""},
		{"client_address=::ffff:192.0.2.1", "192.0.2.1", ""},
		{"client_address\nclient_name=localhost", "invalid IP", "localhost"},
		{"client_address=not%0aone\nclient_port=99999\nclient_source=x\nprotocol_name=(x)", "invalid IP", ""},
		{"client_address=fe80::1%25eth0\nhelo_name=" + strings.Repeat("x", 300), "invalid IP", ""},
		{"client_name=a%0ab\nhelo_name=%1b[1m\nqueue_id=%09", "invalid IP", "a?b"},
	} {
		c.ask(request(dir, strings.Split(tt.lines, "\n")...))
		got := h.txs[len(h.txs)-1].Client
		if got.Addr.String() != tt.addr || got.Name != tt.name || got.Port != 0 || got.Source != "" || got.Proto != "" || control(got.Helo+got.Ident) || len(got.Helo) > 255 {
			t.Errorf("%q: %+v", tt.lines, got)
		}
	}
}

// TestAMPDPReplies: every reply of a handler becomes a result that means the
// same.
func TestAMPDPReplies(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	var reply mail.Reply
	var send bool
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		if send {
			tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts, Edits: []mail.Edit{{Op: mail.Add, Name: "X-A", Value: "b"}}})
		}
		if reply.Text == "panic" {
			panic("asked for")
		}
		return reply
	}}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	long := strings.Repeat("%", 600)
	for _, tt := range []struct {
		reply        mail.Reply
		send         bool
		result, text string
		code         string
	}{
		{mail.NewReply(250, 0, 0, "Ok"), true, "continue", "", "0"},
		{mail.NewReply(250, 7, 0, "Ok, discarded"), false, "discard", "", "99"},
		{mail.Reply{Code: 554, Enhanced: [3]int{5, 7, 0}, Text: "Reject, 100% – no"}, false, "reject", "554 5.7.0 Reject, 100% ? no", "69"},
		{mail.NewReply(554, 7, 0, "Reject"), true, "reject", "554 5.7.0 Reject", "69"},
		{mail.NewReply(451, 3, 0, "later"), true, "tempfail", "451 4.3.0 later", "75"},
		{mail.NewReply(450, 7, 0, "Temporary failure"), false, "tempfail", "450 4.7.0 Temporary failure", "75"},
		{mail.Reply{Code: 554, Enhanced: [3]int{2, 0, 0}, Text: "no\r\nreturn_value=continue\r\n\r\n"}, true, "reject", "554 5.0.0 no??return_value=continue????", "69"},
		{mail.Reply{Code: 554, Enhanced: [3]int{5, 12345, -1}}, true, "reject", "554 5.0.0 ", "69"},
		{mail.Reply{Code: 450, Enhanced: [3]int{4, 0, 0}, Text: long}, false, "tempfail", "450 4.0.0 " + long[:490], "75"},
		{mail.Reply{}, true, "tempfail", "451 4.3.0 Error in processing", "75"},
		{mail.Reply{Code: 354, Text: "go on"}, true, "tempfail", "451 4.3.0 Error in processing", "75"},
		{mail.Reply{Code: 250, Text: "panic"}, true, "tempfail", "451 4.3.0 Error in processing", "75"},
	} {
		reply, send = tt.reply, tt.send
		got := c.ask(request(dir))
		if got.agrees(t); got.result != tt.result || got.reply != tt.text || got.lines[len(got.lines)-1] != "exit_code="+tt.code {
			t.Errorf("%v: %+v", tt.reply, got)
		}
		if (len(got.edits) > 0) != (tt.result == "continue") {
			t.Errorf("%v: edits %q", tt.reply, got.edits)
		}
	}
}

// TestAMPDPEdits: removals go from the last field to the first, new fields come
// on top, the topmost last, and all octets arrive.
func TestAMPDPEdits(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, "X-Bad: 1\nSubject: x\nx-bad: 2\nReceived: a\nSubject: y\n\nx\n")
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		rcpts := []mail.Recipient{tx.Rcpts[1].Extended("+", "spam")}
		return tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: rcpts, Edits: []mail.Edit{
			{Op: mail.Add, Name: "X-One", Value: "first, 100%41"}, {Op: mail.Add, Name: "X-Two", Value: "folded\r\n\tvalue"},
			{Op: mail.Remove, Name: "X-Bad"}, {Op: mail.Replace, Name: "Subject", Index: 1, Value: "tägged\xff = x"},
		}})[0].Reply
	}}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	got := dialAMPDP(t, path).ask(request(dir, "recipient=c@example.org", "recipient=<d@example.org>", "recipient=<c@example.org>"))
	want := []string{
		"delrcpt c@example.org", "delrcpt <d@example.org>", "delrcpt <b@example.org>", "addrcpt <d+spam@example.org>", "delheader 2 x-bad", "chgheader 1 Subject tägged\xff = x", "delheader 1 X-Bad",
		"insheader 0 X-Two folded\n\tvalue", "insheader 0 X-One first, 100%41",
	}
	if got.agrees(t); got.result != "continue" || !slices.Equal(got.edits, want) {
		t.Errorf("%+v", got)
	}
}

// TestAMPDPUnsayable: the message is put off, and the handler knows it, where
// the client cannot be told what to do.
func TestAMPDPUnsayable(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	var o mail.Outgoing
	var receipts []mail.Receipt
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		o.Message, o.Rcpts = tx.Message, tx.Rcpts[:1]
		receipts = tx.Back.Send(ctx, &o)
		return receipts[0].Reply
	}}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	add := func(n int) []mail.Edit { return []mail.Edit{{Op: mail.Add, Name: "X", Value: strings.Repeat("x", n)}} }
	for _, tt := range []struct {
		edits  []mail.Edit
		more   string
		result string
	}{
		{add(maxSaid - 20), "recipient=c@example.org", "continue"},
		{add(maxSaid), "recipient=c@example.org", "tempfail"},
		{[]mail.Edit{{Op: mail.Add, Name: "X", Value: strings.Repeat("ä", maxSaid/6)}}, "recipient=c@example.org", "tempfail"},
		{nil, "recipient=c%ff@example.org", "continue"}, // it stays
		{nil, "recipient=c@example.org\nrecipient=d%ff@example.org", "tempfail"},
		{nil, "recipient=c@example.org\nrecipient=d%c3%a4@example.org", "continue"},
	} {
		o.Edits = tt.edits
		got := c.ask(request(dir, strings.Split(tt.more, "\n")...))
		if got.agrees(t); got.result != tt.result || (receipts[0].Disposal == mail.Relayed) != (tt.result == "continue") {
			t.Errorf("%.60q: %.200q, %+v", tt.more, got.lines, receipts[0])
		}
	}
}

// TestAMPDPIncomplete: what is no whole request is a delay, and a session that
// can go on does.
func TestAMPDPIncomplete(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	h := &milterHandler{}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}, Limits: Limits{Recipients: 3}})
	whole := request(dir)
	without := func(name string) string {
		var out string
		for line := range strings.Lines(whole) {
			if !strings.HasPrefix(line, name+"=") {
				out += line
			}
		}
		return out
	}
	for what, text := range map[string]string{
		"empty":                "\r\n",
		"no request":           without("request"),
		"another":              strings.Replace(whole, "AM.PDP", "smtpd_access_policy", 1),
		"no sender":            without("sender"),
		"no recipient":         without("recipient"),
		"no file":              without("tempdir"),
		"empty recipient":      request(dir, "recipient=<>"),
		"two senders":          request(dir, "sender=<x@example.net>"),
		"bad sender":           strings.Replace(whole, "sender=", "sender=<", 1),
		"line end in address":  request(dir, "recipient=c%0d%0a@example.org"),
		"more after address":   request(dir, "recipient=<c@example.org>%20NOTIFY=NEVER"),
		"NUL":                  request(dir, "queue_id=a\x00b"),
		"coded NUL":            request(dir, "queue_id=%00"),
		"bad coding":           request(dir, "helo_name=%zz"),
		"cut coding":           request(dir, "helo_name=%4"),
		"care of nobody":       request(dir, "delivery_care_of=both"),
		"removed by nobody":    strings.Replace(whole, "=client", "=none", 1),
		"many policy banks":    request(dir, slices.Repeat([]string{"policy_bank=x"}, ampdp.MaxBankValues+1)...),
		"names are not folded": strings.Replace(whole, "sender=", "Sender=", 1),
	} {
		c := dialAMPDP(t, path)
		got := c.ask(text)
		if got.agrees(t); got.result != "tempfail" || got.reply != "450 4.5.0 Incomplete request" {
			t.Errorf("%s: %+v", what, got)
		}
		if got := c.ask(whole); got.result != "continue" {
			t.Errorf("after %s: %+v", what, got)
		}
	}
	seen := len(h.txs)
	for what, text := range map[string]string{
		"no end":    whole[:len(whole)-1],
		"half":      "request=AM.PDP\nsender=<a@exam",
		"long line": request(dir, "x="+strings.Repeat("y", ampdp.MaxAttribute)),
		"many":      request(dir, slices.Repeat([]string{"x=y"}, ampdp.MaxAttributes)...),
		"large":     request(dir, slices.Repeat([]string{"x=" + strings.Repeat("y", ampdp.MaxAttribute-10)}, ampdp.MaxRequest/ampdp.MaxAttribute+1)...),
	} {
		c := dialAMPDP(t, path)
		go func() { // the answer may come before all is said
			_, _ = io.WriteString(c, text)
			_ = c.Conn.(*net.UnixConn).CloseWrite()
		}()
		if got := hear(t, c.in); got.result != "tempfail" || got.reply != "450 4.5.0 Incomplete request" {
			t.Errorf("%s: %+v", what, got)
		}
		if _, err := c.in.ReadByte(); err == nil {
			t.Errorf("%s: the session goes on", what)
		}
	}
	if len(h.txs) != seen {
		t.Error("a handler was called for what has no end")
	}
}

// TestAMPDPLimits: what is too large, or for too many, goes to the handler's
// other half; a full disk too.
func TestAMPDPLimits(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, "Subject: large\n\n"+strings.Repeat("x", 3000)+"\n")
	h := &recorder{}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}, Limits: Limits{Size: 2000, Recipients: 2}})
	if got := dialAMPDP(t, path).ask(request(dir)); got.result != "reject" || !strings.HasPrefix(got.reply, "552 5.3.4 ") {
		t.Errorf("%+v", got)
	}
	if tx := h.refused[0]; tx.Size < 3000 || tx.Message.Header().Count("Subject") != 1 {
		t.Errorf("%+v", tx)
	}
	writeMail(t, dir+"/af1", plainMail)
	if got := dialAMPDP(t, path).ask(request(dir, "recipient=c@example.org", "recipient=d@example.org")); got.result != "tempfail" || !strings.HasPrefix(got.reply, "452 4.5.3 ") {
		t.Errorf("%+v", got)
	}
	if len(h.refused) != 2 || len(h.txs) != 0 || len(h.refused[1].Rcpts) != 2 {
		t.Errorf("%d refused, %d processed", len(h.refused), len(h.txs))
	}
	_, path = startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}, SpoolDir: dir + "/none", SpoolMemory: 1})
	if got := dialAMPDP(t, path).ask(request(dir)); got.result != "tempfail" || !strings.HasPrefix(got.reply, "452 4.3.1 ") {
		t.Errorf("%+v", got)
	}
	// one in a file
	writeMail(t, dir+"/af1", strings.Repeat("0123456789\n", 100000))
	m := &milterHandler{}
	_, path = startAMPDP(t, m, AMPDPOptions{Folders: []string{dir}})
	if got := dialAMPDP(t, path).ask(request(dir)); got.result != "continue" || m.raw[0] != strings.Repeat("0123456789\r\n", 100000) {
		t.Errorf("%+v", got)
	}
}

// TestAMPDPServerCares: where the client asks us to hand the message on, it
// gets its message back only in a refusal or delay.
func TestAMPDPServerCares(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	for local, want := range map[string]string{"ok": "discard", "virus": "reject", "plain": "tempfail"} {
		h := &recorder{}
		_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
		got := dialAMPDP(t, path).ask("request=AM.PDP\nsender=<a@example.net>\nrecipient=" + local + "@example.org\ntempdir=" + coded(dir+"/af1") +
			"\ntempdir_removed_by=client\ndelivery_care_of=server\n\n")
		if got.agrees(t); got.result != want || h.txs[0].Back != nil {
			t.Errorf("%s: %+v", local, got)
		}
	}
}

// TestAMPDPReleases: they get an answer that amavisd-release prints, one for
// each recipient.
func TestAMPDPReleases(t *testing.T) {
	t.Parallel()
	_, path := startAMPDP(t, &milterHandler{}, AMPDPOptions{Release: describesRelease})
	c := dialAMPDP(t, path)
	for _, tt := range []struct{ request, want string }{
		{"request=release\r\nmail_id=V/virus-ABCDEFGHIJKL\r\nsecret_id=x\r\nrequested_by=root%40host\r\n\r\n", `setreply=250 2.0.0 V/virus-ABCDEFGHIJKL,%20secret%20x,%20by%20root@host,%20false`},
		{"request=requeue\r\nmail_id=A%0d%0aB\r\nrecipient=<a@b>\r\nrecipient=c@d\r\n\r\n",
			`setreply=250 2.0.0 A??B,%20secret%20,%20by%20,%20true%20for%20<a@b>` + "\n" + `setreply=250 2.0.0 A??B,%20secret%20,%20by%20,%20true%20for%20<c@d>`},
		{"request=release\r\nmail_id=ABCDEFGHIJKL\r\nrecipient=c%0a\r\n\r\n", `setreply=450 4.5.0 Incomplete%20request,%20id=ID`},
		{"request=report\nmail_id=ABCDEFGHIJKL\nquar_type=Z\n\n", `setreply=450 4.5.1 Cannot%20report,%20id=ID:%20not%20offered%20here`},
		{"request=release\n\n", `setreply=450 4.5.0 Incomplete%20request,%20id=ID`},
	} {
		got := c.ask(tt.request)
		text := strings.Join(got.lines, "\n")
		if _, after, ok := strings.Cut(text, "id="); ok {
			id, _, _ := strings.Cut(after, ":")
			text = strings.ReplaceAll(text, id, "ID")
		}
		if text != tt.want {
			t.Errorf("%s\nwant %s", text, tt.want)
		}
	}
}

// describesRelease answers with what was asked.
func describesRelease(_ context.Context, q Release) []mail.Reply {
	about := fmt.Sprintf("%s, secret %s, by %s, %v", q.MailID, q.Secret, q.By, q.Requeue)
	if len(q.To) == 0 {
		return []mail.Reply{mail.NewReply(250, 0, 0, "%s", about)}
	}
	var out []mail.Reply
	for _, to := range q.To {
		out = append(out, mail.NewReply(250, 0, 0, "%s for %s", about, to))
	}
	return out
}

// logged keeps log lines.
type logged struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// TestAMPDPSaid: who set it up finds in the log why a message waits.
func TestAMPDPSaid(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	var log logged
	_, path := startAMPDP(t, &milterHandler{}, AMPDPOptions{Folders: []string{dir}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := dialAMPDP(t, path)
	c.ask(request(dir, "policy_bank=ADMIN,%1b", "mail_file=/etc/shadow", "queue_id=4AAAA1"))
	c.ask(request(dir, "helo_name=%zz"))
	for _, want := range []string{`banks="[ADMIN \x1b]"`, `\"/etc/shadow\" is in none of the allowed folders`, "queue_id=4AAAA1", "attribute helo_name: % without two hex digits"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in\n%s", want, log.String())
		}
	}
}
