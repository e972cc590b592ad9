package listen

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d--j/go-milter"

	"postern/filter/mail"
)

// milterHandler keeps what comes, and answers by what do says.
type milterHandler struct {
	mu  sync.Mutex
	txs []*mail.Transaction
	raw []string
	do  func(ctx context.Context, tx *mail.Transaction) mail.Reply
}

func (h *milterHandler) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	h.mu.Lock()
	h.txs, h.raw = append(h.txs, tx), append(h.raw, string(tx.Message.Bytes()))
	h.mu.Unlock()
	if h.do != nil {
		return []mail.Reply{h.do(ctx, tx)}
	}
	return []mail.Reply{passAll(ctx, tx)}
}

func (h *milterHandler) Refuse(_ context.Context, _ *mail.Transaction, refusal mail.Reply) []mail.Reply {
	return []mail.Reply{refusal}
}

// passAll gives the message back unchanged for everybody.
func passAll(ctx context.Context, tx *mail.Transaction) mail.Reply {
	r := tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts})
	return r[0].Reply
}

// startMilter serves on a port of its own until the test ends.
func startMilter(t testing.TB, h Handler, o MilterOptions) (*Milter, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.SpoolDir == "" {
		o.SpoolDir = t.TempDir()
	}
	m := NewMilter(h, o)
	done := make(chan error, 1)
	go func() { done <- m.Serve(l) }()
	t.Cleanup(func() {
		m.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m, l.Addr().String()
}

// mta is the MTA's side of a session.
type mta struct {
	*milter.ClientSession
	t       testing.TB
	macros  *milter.MacroBag
	skipped bool // the rest of a body was not asked for
}

func dialMilter(t testing.TB, addr string, opts ...milter.Option) *mta {
	t.Helper()
	macros := milter.NewMacroBag()
	macros.Set(milter.MacroDaemonName, "smtpd")
	s, err := milter.NewClient("tcp", addr, opts...).Session(macros)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &mta{ClientSession: s, t: t, macros: macros}
}

// must fails the test unless the milter lets the session go on.
func (m *mta) must(a *milter.Action, err error) {
	m.t.Helper()
	if err != nil || a == nil || a.Type != milter.ActionContinue {
		m.t.Fatalf("%v, %v", a, err)
	}
}

func (m *mta) connect() *mta {
	m.t.Helper()
	m.must(m.Conn("mail.example.net", milter.FamilyInet, 4711, "198.51.100.9"))
	m.must(m.Helo("client.example.net"))
	return m
}

// envelope opens a transaction.
func (m *mta) envelope(from string, rcpts ...string) {
	m.t.Helper()
	m.macros.Set(milter.MacroQueueId, "")
	m.must(m.Mail(from, "SIZE=100 BODY=8BITMIME RET=HDRS ENVID=a+2Bb"))
	for _, r := range rcpts {
		m.must(m.Rcpt(r, "NOTIFY=NEVER ORCPT=rfc822;"+r))
	}
	m.macros.Set(milter.MacroQueueId, "4AAAA1")
	m.must(m.DataStart())
}

// send gives a message as Postfix does: values with their blank, folds as LF.
func (m *mta) send(fields [][2]string, body string) ([]milter.ModifyAction, *milter.Action) {
	m.t.Helper()
	for _, f := range fields {
		m.must(m.HeaderField(f[0], f[1], nil))
	}
	m.must(m.HeaderEnd())
	for len(body) > 0 {
		n := min(len(body), 65535)
		a, err := m.BodyChunk([]byte(body[:n]))
		if err != nil {
			m.t.Fatal(err)
		}
		if body = body[n:]; a.Type == milter.ActionSkip || m.Skip() {
			m.skipped = true
			break
		}
	}
	edits, a, err := m.End()
	if err != nil {
		m.t.Fatal(err)
	}
	return edits, a
}

var plainFields = [][2]string{{"From", " a@example.net"}, {"Subject", " one\n two"}, {"X-Odd", "no blank"}}

func TestMilterMessage(t *testing.T) {
	t.Parallel()
	h := &milterHandler{}
	_, addr := startMilter(t, h, MilterOptions{Listener: "unix:/x"})
	m := dialMilter(t, addr).connect()
	m.macros.Set(milter.MacroTlsVersion, "TLSv1.3")
	m.must(m.Helo("client.example.net")) // after STARTTLS
	m.macros.Set(milter.MacroAuthAuthen, "ann")
	m.macros.Set(milter.MacroAuthType, "PLAIN")
	for n := range 2 { // several messages in a session
		m.envelope("a@example.net", "b@example.org", "c@example.org")
		if edits, a := m.send(plainFields, "hello\r\n.\r\n"); len(edits) != 0 || a.Type != milter.ActionContinue && a.Type != milter.ActionAccept {
			t.Fatalf("message %d: %v, %v", n, edits, a)
		}
		if err := m.Abort(nil); err != nil {
			t.Fatal(err)
		}
	}
	want := "From: a@example.net\r\nSubject: one\r\n two\r\nX-Odd:no blank\r\n\r\nhello\r\n.\r\n"
	if len(h.raw) != 2 || h.raw[0] != want || h.raw[1] != want {
		t.Fatalf("%q", h.raw)
	}
	tx := h.txs[1]
	client := mail.Client{
		Name: "mail.example.net", Addr: netip.MustParseAddr("198.51.100.9"), Port: 4711, Helo: "client.example.net",
		Ident: "4AAAA1", Login: "ann", AuthType: "PLAIN", TLS: "TLSv1.3",
	}
	if tx.Client != client || tx.Daemon != "smtpd" || tx.Input != mail.InputMilter || tx.Protocol != "ESMTPSA" || tx.Listener != "unix:/x" {
		t.Errorf("%+v", tx)
	}
	if tx.From != "a@example.net" || tx.FromOpts.EnvelopeID != "a+b" || tx.FromOpts.Return != "HDRS" || len(tx.Rcpts) != 2 ||
		tx.Rcpts[1].Address != "c@example.org" || tx.Rcpts[1].ORCPT != "rfc822;c@example.org" || tx.Rcpts[1].Opts.Notify[0] != "NEVER" {
		t.Errorf("%+v", tx)
	}
	if h.txs[0].ID == tx.ID {
		t.Errorf("both messages are %s", tx.ID)
	}
}

// TestMilterClients: a name that was not verified is none, and only port 0 with
// localhost is mail without a connection.
func TestMilterClients(t *testing.T) {
	t.Parallel()
	h := &milterHandler{}
	_, addr := startMilter(t, h, MilterOptions{LocalBank: "LOCAL"})
	for _, tt := range []struct {
		host   string
		family milter.ProtoFamily
		port   uint16
		addr   string
		input  mail.Input
		name   string
		client string
	}{
		{"mx.example.net", milter.FamilyInet, 25, "192.0.2.1", mail.InputMilter, "mx.example.net", "192.0.2.1"},
		{"[192.0.2.1]", milter.FamilyInet, 25, "192.0.2.1", mail.InputMilter, "", "192.0.2.1"},
		{"unknown", milter.FamilyInet6, 25, "2001:db8::1", mail.InputMilter, "", "2001:db8::1"},
		{"x", milter.FamilyUnknown, 0, "", mail.InputMilter, "x", "invalid IP"},
		{"localhost", milter.FamilyInet, 0, "127.0.0.1", mail.InputLocal, "localhost", "127.0.0.1"},
		{"localhost", milter.FamilyInet6, 0, "::1", mail.InputLocal, "localhost", "::1"},
		{"localhost", milter.FamilyInet, 4711, "127.0.0.1", mail.InputMilter, "localhost", "127.0.0.1"},
		{"localhost", milter.FamilyInet, 0, "192.0.2.1", mail.InputMilter, "localhost", "192.0.2.1"},
	} {
		m := dialMilter(t, addr)
		m.must(m.Conn(tt.host, tt.family, tt.port, tt.addr))
		m.must(m.Helo("h"))
		m.envelope("a@example.net", "b@example.org")
		m.send(plainFields, "x\r\n")
		tx := h.txs[len(h.txs)-1]
		if tx.Input != tt.input || tx.Client.Name != tt.name || tx.Client.Addr.String() != tt.client || (len(tx.Banks) == 1) != (tt.input == mail.InputLocal) {
			t.Errorf("%+v: %s, %+v, banks %v", tt, tx.Input, tx.Client, tx.Banks)
		}
	}
}

// TestMilterEdits: removals go from the last field to the first, new fields
// come on top in their order, who is not to get the message is removed, and who
// gets it at another address comes back with that.
func TestMilterEdits(t *testing.T) {
	t.Parallel()
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		rcpts := []mail.Recipient{tx.Rcpts[0], tx.Rcpts[3].Extended("+", "spam"), tx.Rcpts[4].Extended("+", "spam")}
		o := &mail.Outgoing{Message: tx.Message, Rcpts: rcpts, Edits: []mail.Edit{
			{Op: mail.Add, Name: "X-One", Value: "first"}, {Op: mail.Add, Name: "X-Two", Value: "folded\r\n value"},
			{Op: mail.Remove, Name: "X-Bad"}, {Op: mail.Replace, Name: "Subject", Index: 1, Value: "tagged"},
		}}
		return tx.Back.Send(ctx, o)[0].Reply
	}}
	_, addr := startMilter(t, h, MilterOptions{})
	m := dialMilter(t, addr).connect()
	m.envelope("a@example.net", "b@example.org", "c@example.org", "c@example.org", "d@example.org", "d@example.org")
	edits, a := m.send([][2]string{{"X-Bad", " 1"}, {"Subject", " x"}, {"x-bad", " 2"}, {"Subject", " y"}}, "x\r\n")
	var got []string
	for _, e := range edits {
		got = append(got, fmt.Sprintf("%d %d %s %q %s", e.Type, e.HeaderIndex, e.HeaderName, e.HeaderValue, e.Rcpt))
	}
	want := []string{
		fmt.Sprintf("%d 2 x-bad %q ", milter.ActionChangeHeader, ""),
		fmt.Sprintf("%d 1 Subject %q ", milter.ActionChangeHeader, " tagged"),
		fmt.Sprintf("%d 1 X-Bad %q ", milter.ActionChangeHeader, ""),
		fmt.Sprintf("%d 0 X-Two %q ", milter.ActionInsertHeader, " folded\n value"),
		fmt.Sprintf("%d 0 X-One %q ", milter.ActionInsertHeader, " first"),
		fmt.Sprintf("%d 0  %q <c@example.org>", milter.ActionDelRcpt, ""),
		fmt.Sprintf("%d 0  %q <d@example.org>", milter.ActionDelRcpt, ""),
		fmt.Sprintf("%d 0  %q <d+spam@example.org>", milter.ActionAddRcpt, ""),
	}
	if !slices.Equal(got, want) || a.StopProcessing() {
		t.Errorf("%v\ngot  %q\nwant %q", a, got, want)
	}
}

// TestRecipientEdits: whoever is to get the message is among those who are left,
// also where the address of one becomes that of another who gets nothing.
func TestRecipientEdits(t *testing.T) {
	t.Parallel()
	alice, plus, bob := mail.Recipient{Address: "alice@x.test"}, mail.Recipient{Address: "alice+spam@x.test"}, mail.Recipient{Address: "bob@x.test"}
	sorted := alice.Extended("+", "spam")
	for _, tt := range []struct {
		named, passing []mail.Recipient
		gone           []int
		added          []mail.Address
	}{
		{[]mail.Recipient{alice, bob}, []mail.Recipient{alice, bob}, nil, nil},
		{[]mail.Recipient{alice, bob, alice}, []mail.Recipient{bob}, []int{0}, nil},
		{[]mail.Recipient{alice, bob}, []mail.Recipient{sorted, bob}, []int{0}, []mail.Address{plus.Address}},
		{[]mail.Recipient{alice, plus}, []mail.Recipient{sorted}, []int{0}, nil},
		{[]mail.Recipient{plus, alice}, []mail.Recipient{sorted, plus}, []int{1}, nil},
		{[]mail.Recipient{alice, alice}, []mail.Recipient{sorted, sorted}, []int{0}, []mail.Address{plus.Address}},
	} {
		gone, added := recipientEdits(tt.named, tt.passing)
		if !slices.Equal(gone, tt.gone) || !slices.Equal(added, tt.added) {
			t.Errorf("%v to %v: %v, %v", tt.named, tt.passing, gone, added)
		}
	}
}

// TestMilterAnswers: a reply that is no success takes no edits with it, nobody
// who gets it means that it is discarded, and doubt is a delay.
func TestMilterAnswers(t *testing.T) {
	t.Parallel()
	withEdits := func(r mail.Reply) func(context.Context, *mail.Transaction) mail.Reply {
		return func(ctx context.Context, tx *mail.Transaction) mail.Reply {
			tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts, Edits: []mail.Edit{{Op: mail.Add, Name: "X", Value: "y"}}})
			return r
		}
	}
	for _, tt := range []struct {
		name string
		do   func(context.Context, *mail.Transaction) mail.Reply
		want milter.ActionType
		text string
	}{
		{"refused", withEdits(mail.NewReply(554, 7, 0, "Reject, 100%% \u202e bad")), milter.ActionRejectWithCode, `554 5.7.0 Reject, 100%% `},
		{"put off", withEdits(mail.NewReply(451, 3, 0, "later")), milter.ActionRejectWithCode, "451 4.3.0 later"},
		{"discarded", func(context.Context, *mail.Transaction) mail.Reply { return mail.NewReply(250, 7, 0, "Ok, discarded") }, milter.ActionDiscard, ""},
		{"nonsense", withEdits(mail.Reply{Code: 354, Text: "x"}), milter.ActionTempFail, ""},
		{"line ends", withEdits(mail.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "a\r\n250 2.0.0 b\x00"}), milter.ActionRejectWithCode, "554 5.7.1 a??250 2.0.0 b?"},
		{"panic", func(context.Context, *mail.Transaction) mail.Reply { panic("handler") }, milter.ActionRejectWithCode, "451 4.3.0 Error in processing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, addr := startMilter(t, &milterHandler{do: tt.do}, MilterOptions{})
			m := dialMilter(t, addr).connect()
			m.envelope("a@example.net", "b@example.org")
			edits, a := m.send(plainFields, "x\r\n")
			if len(edits) != 0 || a.Type != tt.want || tt.text != "" && !strings.HasPrefix(a.SMTPReply, tt.text) {
				t.Errorf("%v, %v", edits, a)
			}
			// the session goes on
			m.envelope("a@example.net", "b@example.org")
		})
	}
}

// TestMilterLimits: too large is refused at the end, of too many recipients one
// by one; mail without a connection is never refused before its end.
func TestMilterLimits(t *testing.T) {
	t.Parallel()
	h := &milterHandler{}
	_, addr := startMilter(t, h, MilterOptions{Limits: Limits{Size: 100 << 10, Recipients: 2, Sessions: 2}})
	m := dialMilter(t, addr).connect()
	m.must(m.Mail("a@b", ""))
	for i := range 3 {
		a, err := m.Rcpt(fmt.Sprintf("%d@example.org", i), "")
		if refused := err == nil && a.Type == milter.ActionRejectWithCode && a.SMTPCode == 452; refused != (i == 2) {
			t.Errorf("recipient %d: %v, %v", i, a, err)
		}
	}
	m.must(m.DataStart())
	if _, a := m.send(plainFields, strings.Repeat("x", 200<<10)); a.Type != milter.ActionRejectWithCode || a.SMTPCode != 552 {
		t.Errorf("too large: %v", a)
	}
	if !m.skipped {
		t.Error("the rest of a body that is too large is asked for")
	}
	local := dialMilter(t, addr)
	local.must(local.Conn("localhost", milter.FamilyInet, 0, "127.0.0.1"))
	local.must(local.Helo("localhost"))
	local.envelope("a@b", "1@example.org", "2@example.org", "3@example.org")
	if _, a := local.send(plainFields, "x\r\n"); a.Type != milter.ActionRejectWithCode || a.SMTPCode != 452 {
		t.Errorf("too many recipients without a connection: %v", a)
	}
	// the third session is closed at once
	if _, err := milter.NewClient("tcp", addr).Session(milter.NewMacroBag()); err == nil {
		t.Error("a third session")
	}
}

// TestMilterSplit: recipients that do not fit together are put off one by one.
func TestMilterSplit(t *testing.T) {
	t.Parallel()
	_, addr := startMilter(t, &milterHandler{}, MilterOptions{Fits: func(_ context.Context, tx *mail.Transaction) bool {
		return tx.Rcpts[0].Address.Domain() == tx.Rcpts[len(tx.Rcpts)-1].Address.Domain()
	}})
	m := dialMilter(t, addr).connect()
	m.must(m.Mail("a@b", ""))
	m.must(m.Rcpt("a@one.test", ""))
	if a, err := m.Rcpt("b@two.test", ""); err != nil || a.SMTPCode != 452 {
		t.Errorf("%v, %v", a, err)
	}
	m.must(m.Rcpt("c@one.test", ""))
}

// TestMilterNegotiation: what the MTA did not offer is not asked for, and one
// under which a message could not be marked gets no session.
func TestMilterNegotiation(t *testing.T) {
	t.Parallel()
	h := &milterHandler{}
	_, addr := startMilter(t, h, MilterOptions{})
	m := dialMilter(t, addr, milter.WithProtocols(0), milter.WithMaximumVersion(2))
	m.must(m.Conn("x", milter.FamilyInet, 1, "192.0.2.1"))
	m.must(m.Helo("h"))
	m.must(m.Mail("a@b", ""))
	m.must(m.Rcpt("c@d", ""))
	m.must(m.DataStart())
	m.send([][2]string{{"From", "a@b"}}, "x\r\n")
	if h.raw[0] != "From: a@b\r\n\r\nx\r\n" {
		t.Errorf("%q", h.raw[0])
	}
	if _, err := milter.NewClient("tcp", addr, milter.WithActions(milter.OptAddHeader)).Session(milter.NewMacroBag()); err == nil {
		t.Error("a session without the actions that are needed")
	}
}

// TestMilterShutdown: a session between two messages ends, one in a message
// gets its answer first.
func TestMilterShutdown(t *testing.T) {
	t.Parallel()
	goOn, inside := make(chan struct{}), make(chan struct{})
	srv, addr := startMilter(t, &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		close(inside)
		<-goOn
		return passAll(ctx, tx)
	}}, MilterOptions{})
	idle := dialMilter(t, addr).connect()
	busy := dialMilter(t, addr).connect()
	busy.envelope("a@b", "c@d")
	answered := make(chan *milter.Action, 1)
	go func() {
		_, a := busy.send(plainFields, "x\r\n")
		answered <- a
	}()
	<-inside
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Shutdown(t.Context()) }()
	if _, err := idle.Mail("a@b", ""); err == nil {
		// the packet may have been on its way before the end was seen
		if _, err := idle.Rcpt("c@d", ""); err == nil {
			t.Error("an idle session goes on")
		}
	}
	select {
	case err := <-stopped:
		t.Errorf("did not wait: %v", err)
	default:
	}
	close(goOn)
	if a := <-answered; a.StopProcessing() {
		t.Errorf("%v", a)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestMilterManySessions: two hundred at once, and a message of 50 MB, which goes
// to a file.
func TestMilterManySessions(t *testing.T) {
	t.Parallel()
	h := &milterHandler{}
	_, addr := startMilter(t, h, MilterOptions{Limits: Limits{Sessions: 200}, SpoolMemory: 64 << 10})
	var all sync.WaitGroup
	for range 199 {
		m := dialMilter(t, addr).connect()
		all.Go(func() {
			m.envelope("a@example.net", "b@example.org")
			if _, a := m.send(plainFields, "hello\r\n"); a.StopProcessing() {
				t.Errorf("%v", a)
			}
		})
	}
	all.Wait()
	if len(h.txs) != 199 {
		t.Errorf("%d messages", len(h.txs))
	}
	h.do = func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		if tx.Message.File() == nil {
			t.Error("a large message is in memory")
		}
		return passAll(ctx, tx)
	}
	m := dialMilter(t, addr).connect()
	m.envelope("a@example.net", "b@example.org")
	body := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 50_000)
	if _, a := m.send(plainFields, body); a.StopProcessing() {
		t.Errorf("%v", a)
	}
	if got := h.raw[len(h.raw)-1]; !strings.HasSuffix(got, body) {
		t.Errorf("%d octets", len(got))
	}
}

// TestMilterProgress: while a message is looked at, the MTA hears that we are
// alive, at once and not with the decision.
func TestMilterProgress(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewMilter(&milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		<-goOn
		return passAll(ctx, tx)
	}}, MilterOptions{SpoolDir: t.TempDir()})
	srv.progress = 10 * time.Millisecond
	go srv.Serve(l)
	defer srv.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	for _, p := range [][]byte{
		packet('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"), packet('M', "<a@b>\x00"), packet('R', "<c@d>\x00"),
		packet('N', ""), packet('B', "x\r\n"), packet('E', ""),
	} {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	var codes []byte
	for len(codes) == 0 || codes[len(codes)-1] != 'p' {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatalf("after %q: %v", codes, err)
		}
		codes = append(codes, head[4])
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:4]))-1); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	// negotiation, the answers to RCPT and to the body
	if s := string(codes); s != "Occp" {
		t.Errorf("%q", s)
	}
}

// packet is one as it stands on the wire.
func packet(code byte, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))
	return append(append(b, code), data...)
}

// milterPackets are those of one mail, in order; the first is the negotiation.
func milterPackets() [][]byte {
	return [][]byte{
		packet('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"),
		packet('D', "Cj\x00mx\x00{daemon_name}\x00smtpd\x00"), packet('C', "mx\x004\x12\x34192.0.2.1\x00"), packet('H', "x\x00"),
		packet('M', "<a@b>\x00SIZE=1\x00"), packet('R', "<c@d>\x00"), packet('T', ""), packet('L', "Subject\x00 x\n y\x00"),
		packet('N', ""), packet('B', "x\r\n"), packet('E', ""), packet('A', ""), packet('K', ""), packet('Q', ""),
	}
}

// endsAfter sends data and waits for the end of the session.
func endsAfter(t *testing.T, addr string, data []byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(data) // it may be closed already
	_ = c.(*net.TCPConn).CloseWrite()
	var sink [4096]byte
	for {
		if _, err := c.Read(sink[:]); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatalf("still there after %q", data)
			}
			return
		}
	}
}

// TestMilterHostilePackets: 10,000 packets in any order, with wrong lengths,
// without their NUL, with one too many, and cut.
func TestMilterHostilePackets(t *testing.T) {
	t.Parallel()
	_, addr := startMilter(t, &milterHandler{}, MilterOptions{})
	r := rand.New(rand.NewPCG(1, 2))
	good := milterPackets()
	for sent := 0; sent < 10_000; {
		data := slices.Clone(good[0])
		for range 1 + r.IntN(30) {
			p := slices.Clone(good[r.IntN(len(good))])
			switch r.IntN(12) {
			case 0:
				binary.BigEndian.PutUint32(p, r.Uint32())
			case 1:
				binary.BigEndian.PutUint32(p, binary.BigEndian.Uint32(p)+uint32(r.IntN(5))-2)
			case 2:
				p = packet(p[4], string(bytes.ReplaceAll(p[5:], []byte{0}, nil)))
			case 3:
				p = packet(p[4], string(p[5:])+"\x00")
			case 4:
				p = p[:r.IntN(len(p))]
			case 5:
				p[4] = byte(r.Uint32())
			}
			data = append(data, p...)
			sent++
		}
		endsAfter(t, addr, data)
	}
	// the next client is served as ever
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(good[0]); err != nil {
		t.Fatal(err)
	}
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil || head[4] != 'O' {
		t.Errorf("%q, %v", head, err)
	}
}

// FuzzMilter: whatever an MTA says, the process lives on, and so does the next
// session.
func FuzzMilter(f *testing.F) {
	good := milterPackets()
	hello := good[0]
	for _, p := range good[1:] {
		f.Add(slices.Concat(hello, p))
	}
	f.Add(slices.Concat(good...))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0x1f, 0xff, 0xff, 0xff, 'B'})
	for _, p := range [][]byte{packet('C', "no end"), packet('M', "no end"), packet('C', "x\x00"), packet('E', "")} {
		f.Add(slices.Concat(hello, p))
	}
	_, addr := startMilter(f, &milterHandler{}, MilterOptions{})
	f.Fuzz(func(t *testing.T, data []byte) { endsAfter(t, addr, data) })
}

// FuzzMilterReply: whatever is to be said, Postfix takes it, and the class stays.
func FuzzMilterReply(f *testing.F) {
	f.Add(554, 5, "Reject, 100% \u202e\r\nx\x00")
	f.Add(451, 4, strings.Repeat("x ", 3000))
	f.Add(250, 2, "Ok")
	f.Add(599, 4, "")
	f.Add(554, 4, "2.0.0 Ok")
	f.Fuzz(func(t *testing.T, code, class int, text string) {
		r := milterReply(mail.Reply{Code: code, Enhanced: [3]int{class, 7, 1}, Text: text})
		if r == milter.RespTempFail || r == milter.RespReject && code/100 == 5 {
			return
		}
		data := string(r.Response().Data)
		if r.Continue() || !validReply(data, code) || code/100 != 4 && code/100 != 5 {
			t.Fatalf("%d %q: %q", code, text, data)
		}
	})
}
