package listen

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postern/filter/mail"
)

// TestAMPDPSessions: no more than allowed at a time, and not for ever.
func TestAMPDPSessions(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	a, path := startAMPDP(t, &milterHandler{}, AMPDPOptions{Folders: []string{dir}, Limits: Limits{Sessions: 1, Idle: 50 * time.Millisecond}})
	c := dialAMPDP(t, path)
	if got := c.ask(request(dir)); got.result != "continue" {
		t.Fatalf("%+v", got)
	}
	if got := hear(t, dialAMPDP(t, path).in); got.result != "" {
		t.Errorf("%+v", got)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("an idle session: %v", err)
	}
	if p := NewAMPDP(nil, AMPDPOptions{}).proc; p.time+p.grace > 280*time.Second || p.base == nil {
		t.Errorf("%v after that", p.time)
	}
	a.Close()
	if err := a.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAMPDPAllow: by TCP, this machine comes in, and who is allowed.
func TestAMPDPAllow(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	for _, tt := range []struct {
		allow func(netip.Addr, bool) bool
		want  string
	}{
		{nil, "continue"},
		{func(peer netip.Addr, here bool) bool { return peer.IsLoopback() && here }, "continue"},
		{func(netip.Addr, bool) bool { return false }, ""},
	} {
		l, err := Listen("127.0.0.1:0", "", "")
		if err != nil {
			t.Fatal(err)
		}
		h := &milterHandler{}
		serveAMPDP(t, l, h, AMPDPOptions{Folders: []string{dir}, Allow: tt.allow})
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, request(dir)) // who is not let in may be gone
		got := heard{}
		if in := bufio.NewReader(c); tt.want != "" {
			got = hear(t, in)
		} else if b, err := in.ReadByte(); err == nil {
			t.Errorf("it says %q", b)
		}
		if got.result != tt.want || (len(h.txs) == 1) != (tt.want != "") || tt.want != "" && h.txs[0].PeerAddr.String() != c.LocalAddr().String() {
			t.Errorf("%+v", got)
		}
	}
}

// TestAMPDPShutdown: a request under way is answered, a session that waits for
// one ends.
func TestAMPDPShutdown(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	called, goOn := make(chan struct{}), make(chan struct{})
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		close(called)
		<-goOn
		return passAll(ctx, tx)
	}}
	a, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	busy, idle := dialAMPDP(t, path), dialAMPDP(t, path)
	if got := idle.ask("\n"); got.result != "tempfail" {
		t.Fatalf("%+v", got)
	}
	if _, err := io.WriteString(busy, request(dir)); err != nil {
		t.Fatal(err)
	}
	<-called
	down := make(chan error)
	go func() { down <- a.Shutdown(context.Background()) }()
	if _, err := idle.in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	close(goOn)
	if got := hear(t, busy.in); got.result != "continue" {
		t.Errorf("%+v", got)
	}
	if _, err := busy.in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("it still listens")
	}
}

// TestAMPDPOverrun: after its time a handler has no way back, and the session
// ends, but keeps its slot.
func TestAMPDPOverrun(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	goOn, receipt := make(chan struct{}), make(chan mail.Receipt, 1)
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		<-goOn
		receipt <- tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts})[0]
		return mail.NewReply(250, 0, 0, "Ok")
	}}
	path := t.TempDir() + "/s"
	l, err := Listen("unix:"+path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	a := NewAMPDP(h, AMPDPOptions{Folders: []string{dir}, Limits: Limits{Process: time.Millisecond}})
	a.proc.grace = time.Millisecond
	served := make(chan error, 1)
	go func() { served <- a.Serve(l) }()
	c := dialAMPDP(t, path)
	got := c.ask(request(dir))
	if got.agrees(t); got.result != "tempfail" || got.reply != "451 4.4.2 Processing took too long" {
		t.Errorf("%+v", got)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	a.Close()
	select {
	case <-a.drained:
		t.Error("the slot is free")
	default:
	}
	close(goOn)
	if r := <-receipt; r.Disposal != mail.Deferred || r.Reply.Class() != 4 {
		t.Errorf("%+v", r)
	}
	<-a.drained
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// ampdpInMemory plays a session in memory.
func ampdpInMemory(t testing.TB, in []byte, h Handler, o AMPDPOptions) *memConn {
	c := &memConn{in: in, piece: 1 << 20, closed: make(chan struct{})}
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- c
	a := NewAMPDP(h, o)
	served := make(chan error, 1)
	go func() { served <- a.Serve(l) }()
	<-c.closed
	a.Close()
	<-a.drained
	if err := <-served; err != nil {
		t.Error(err)
	}
	return c
}

// TestAMPDPOneWrite: edits and result leave together, or a client could do the
// ones without the other.
func TestAMPDPOneWrite(t *testing.T) {
	t.Parallel()
	dir := mailDir(t, plainMail)
	c := ampdpInMemory(t, []byte(request(dir)+request(dir)), &milterHandler{}, AMPDPOptions{Folders: []string{dir}})
	if len(c.writes) != 2 || !strings.HasSuffix(c.writes[0], "exit_code=0\r\n\r\n") {
		t.Errorf("%q", c.writes)
	}
}

// anyEdits answers with what a fuzzed request holds.
type anyEdits struct{ milterHandler }

func (h *anyEdits) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	o := &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts[:len(tx.Rcpts)/2+1]}
	for _, f := range tx.Message.Header() {
		if f.Name != "" {
			o.Edits = append(o.Edits, mail.Edit{Op: mail.EditOp(len(f.Raw) % 3), Name: f.Name, Index: len(f.Raw) % 4, Value: string(f.RawValue())})
		}
	}
	reply := mail.Reply{Code: 200 + 50*int(tx.Size%8), Enhanced: [3]int{int(tx.Size % 6), 0, 7}, Text: string(tx.Message.Body()) + string(tx.From)}
	if tx.Back != nil {
		if r := tx.Back.Send(ctx, o)[0]; r.Reply.Class() != 2 {
			reply = r.Reply
		}
	}
	return []mail.Reply{reply}
}

// FuzzAMPDP: whatever a client asks, and whatever lies in the file, the answers
// are such that amavisd-milter understands them, and an edit never comes with a
// refusal.
func FuzzAMPDP(f *testing.F) {
	dir := f.TempDir()
	for _, s := range [][2]string{
		{request("DIR"), plainMail},
		{request("DIR", "recipient=<c%ff@d>", "recipient=<e%c3%a4@d>", "helo_name=x", "policy_bank=A,B"), "Received: from x (\n\t(envelope-from <a@example.net>)\na: b\n\nc%d\r\n"},
		{"\r\n" + request("DIR", "delivery_care_of=server", "client_address", "client_port:7") + "request=release\nmail_id=x\n\n", ""},
		{request("DIR", "mail_file=DIR/../x", "x=%zz"), "\x00: \x00\n \n\n"},
		{"request=AM.PDP\nsender=\nrecipient=a", "x"},
		{request("DIR") + request("DIR"), "X-A: " + strings.Repeat("\xe4", 25000) + "\n\n"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	o := AMPDPOptions{Folders: []string{dir}, AllowBanks: []string{"A"}, Limits: Limits{Recipients: 3, Size: 100000}}
	f.Fuzz(func(t *testing.T, asked, message []byte) {
		if len(asked) > 1<<16 || len(message) > 1<<18 {
			return
		}
		// every process of the fuzzer has another folder
		asked = bytes.ReplaceAll(asked, []byte("DIR"), []byte(coded(dir)))
		writeMail(t, dir+"/af1", string(message))
		defer os.RemoveAll(dir + "/af1")
		c := ampdpInMemory(t, asked, &anyEdits{}, o)
		out := bufio.NewReader(bytes.NewReader(c.out.Bytes()))
		answers := 0
		for ; ; answers++ {
			got := hear(t, out)
			if got.lines == nil {
				break
			}
			if strings.HasPrefix(got.lines[0], "version_server=") {
				got.agrees(t)
			} else if !strings.HasPrefix(got.lines[0], "setreply=450 ") {
				t.Fatalf("%q", got.lines)
			}
			for _, l := range got.lines {
				if !utf8.ValidString(l) || control(l) {
					t.Fatalf("%q", l)
				}
			}
		}
		if answers != len(c.writes) {
			t.Fatalf("%d answers in %d writes", answers, len(c.writes))
		}
	})
}
