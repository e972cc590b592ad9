package reinject

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// Replies in the tables have HOP for the next hop's address; "..." stands for
// any end.
func checkReplies(t *testing.T, h *fakeHop, got []mail.Receipt, want ...string) {
	t.Helper()
	for i, rc := range got {
		reply := strings.ReplaceAll(rc.Reply.String(), h.hop().String(), "HOP")
		if start, more := strings.CutSuffix(want[min(i, len(want)-1)], "..."); reply != start && !(more && strings.HasPrefix(reply, start)) {
			t.Errorf("recipient %d:\n got %s\nwant %s", i, reply, want[i])
		}
		disposal := map[int]mail.Disposal{2: mail.Relayed, 4: mail.Deferred, 5: mail.Refused}[rc.Reply.Class()]
		if rc.Disposal != disposal {
			t.Errorf("recipient %d: disposal %d with %s", i, rc.Disposal, reply)
		}
		if rc.NextHop != h.hop().String() {
			t.Errorf("recipient %d: next hop %q", i, rc.NextHop)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d receipts, want %d", len(got), len(want))
	}
}

const (
	mailOk = "MAIL: 250 2.1.0 Ok"
	rcptOk = "RCPT: 250 2.1.5 Ok"
	dataOk = "DATA: 354 go"
	rset   = "RSET: 250 2.0.0 Ok"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		script  []string
		rcpts   int  // 1 if 0
		size    int  // octets of body, small if 0
		all     bool // AllOrNone
		refuse  bool // RefuseAll
		want    []string
		arrived int // messages read to the dot
	}{
		{name: "good", script: script(good("A1")...), want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as A1"}, arrived: 1},
		{name: "no enhanced codes", script: script("MAIL: 250 ok", "RCPT: 250 ok", dataOk, "DOT: 250"), want: []string{"250 2.0.0 from MTA(HOP): 250"}, arrived: 1},
		{name: "multi-line reply", script: script(mailOk, rcptOk, dataOk, "DOT: 250-2.0.0 one\n250-2.0.0  two \n250 2.0.0 three"),
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 one two three"}, arrived: 1},
		{name: "enhanced code of another class", script: script(mailOk, "RCPT: 550 2.1.5 no", rset), want: []string{"550 5.0.0 from MTA(HOP): 550 2.1.5 no"}},
		{name: "greeting 421", script: []string{"CONNECT: 421 4.3.2 All server ports are busy", "cut"},
			want: []string{"451 4.3.2 MTA(HOP) is not ready: 421 4.3.2 All server ports are busy"}},
		{name: "greeting 554", script: []string{"CONNECT: 554 5.7.1 go away", "cut"}, want: []string{"451 4.3.2 MTA(HOP) is not ready: 554 5.7.1 go away"}},
		{name: "closes at connect", script: []string{"cut"}, want: []string{"451 4.4.2 MTA(HOP): lost connection while performing the handshake"}},
		{name: "closes at EHLO", script: []string{"CONNECT: 220 hi", "EHLO: ", "cut"}, want: []string{"451 4.4.2 MTA(HOP): lost connection while performing the handshake"}},
		{name: "EHLO 550", script: []string{"CONNECT: 220 hi", "EHLO: 550 no", "cut"}, want: []string{"451 4.3.2 MTA(HOP) is not ready: 550 no"}},
		{name: "HELO only", script: append([]string{"CONNECT: 220 hi", "EHLO: 502 what", "HELO: 250 hop"}, good("A2")...),
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as A2"}, arrived: 1},
		{name: "greeting is garbage", script: []string{"CONNECT: SSH-2.0-OpenSSH", "hang"}, want: []string{"451 4.4.2 MTA(HOP): lost connection while performing the handshake"}},
		{name: "MAIL 4xx", script: script("MAIL: 450 4.1.8 later"), want: []string{"450 4.1.8 from MTA(HOP): 450 4.1.8 later"}},
		{name: "MAIL 5xx", script: script("MAIL: 500 5.3.0 no"), rcpts: 2, want: []string{"451 4.3.0 MTA(HOP) refuses us: 500 5.3.0 no", "451 4.3.0 MTA(HOP) refuses us: 500 5.3.0 no"}},
		{name: "MAIL 421", script: script("MAIL: 421 4.3.0 bye", "cut"), want: []string{"421 4.3.0 from MTA(HOP): 421 4.3.0 bye"}},
		{name: "MAIL cut", script: script("MAIL: ", "cut"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL 354", script: script("MAIL: 354 what"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL 220", script: script("MAIL: 220 what"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL garbage", script: script("MAIL: \x00\xff\x80", "hang"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL endless line", script: script("MAIL: 250 "+strings.Repeat("x", 5000), "hang"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL endless reply", script: script("MAIL: "+strings.Repeat("250-x\n", 500), "hang"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending MAIL"}},
		{name: "MAIL with two replies", script: script("MAIL: 250 ok\n250 ok", "hang"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending RCPT"}},
		{name: "RCPT all 4xx", script: script(mailOk, "RCPT: 450 4.2.0 greylisted", rset), want: []string{"450 4.2.0 from MTA(HOP): 450 4.2.0 greylisted"}},
		{name: "RCPT 5xx and good", script: script(mailOk, rcptOk, "RCPT: 550 5.1.1 <r1@x.test>: User unknown", dataOk, "DOT: 250 2.0.0 Ok: queued as B"), rcpts: 2,
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as B", "550 5.1.1 from MTA(HOP): 550 5.1.1 <r1@x.test>: User unknown"}, arrived: 1},
		{name: "RCPT 4xx and good", script: script(mailOk, "RCPT: 450 4.2.0 greylisted", rcptOk, dataOk, "DOT: 250 2.0.0 Ok: queued as B"), rcpts: 2,
			want: []string{"450 4.2.0 from MTA(HOP): 450 4.2.0 greylisted", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as B"}, arrived: 1},
		{name: "all or none: 4xx stops", script: script(mailOk, rcptOk, "RCPT: 550 5.1.1 unknown", "RCPT: 450 4.2.0 greylisted", rset), rcpts: 4, all: true,
			want: []string{
				"451 4.5.0 not sent because MTA(HOP) put off another recipient: 450 4.2.0 greylisted",
				"451 4.5.0 not sent because MTA(HOP) put off another recipient: 450 4.2.0 greylisted",
				"450 4.2.0 from MTA(HOP): 450 4.2.0 greylisted",
				"451 4.5.0 not sent because MTA(HOP) put off another recipient: 450 4.2.0 greylisted",
			}},
		{name: "all or none: 5xx does not", script: script(mailOk, rcptOk, "RCPT: 550 5.1.1 unknown", dataOk, "DOT: 250 2.0.0 Ok"), rcpts: 2, all: true,
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok", "550 5.1.1 from MTA(HOP): 550 5.1.1 unknown"}, arrived: 1},
		{name: "refuse all: 5xx stops", script: script(mailOk, rcptOk, "RCPT: 550 5.1.1 unknown", rcptOk, rset), rcpts: 3, refuse: true,
			want: []string{"550 5.1.1 not sent because another recipient was refused: from MTA(HOP): 550 5.1.1 unknown", "550 5.1.1 from MTA(HOP): 550 5.1.1 unknown",
				"550 5.1.1 not sent because another recipient was refused: from MTA(HOP): 550 5.1.1 unknown"}},
		{name: "refuse all: 4xx comes first", script: script(mailOk, "RCPT: 550 5.1.1 unknown", "RCPT: 450 4.2.0 greylisted", rset), rcpts: 2, all: true, refuse: true,
			want: []string{"451 4.5.0 not sent because MTA(HOP) put off another recipient: 450 4.2.0 greylisted", "450 4.2.0 from MTA(HOP): 450 4.2.0 greylisted"}},
		{name: "refuse all: none refused", script: script(mailOk, rcptOk, rcptOk, dataOk, "DOT: 250 2.0.0 Ok"), rcpts: 2, refuse: true,
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok"}, arrived: 1},
		{name: "all or none: too many", script: script(mailOk, rcptOk, "RCPT: 452 4.5.3 too many", rset), rcpts: 2, all: true,
			want: []string{"451 4.5.0 not sent because MTA(HOP) put off another recipient: 452 4.5.3 too many", "452 4.5.3 from MTA(HOP): 452 4.5.3 too many"}},
		{name: "too many recipients", script: script(mailOk, rcptOk, rcptOk, "RCPT: 452 4.5.3 too many", dataOk, "DOT: 250 2.0.0 Ok: queued as C1",
			mailOk, rcptOk, rcptOk, dataOk, "DOT: 250 2.0.0 Ok: queued as C2"), rcpts: 4,
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as C1", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as C1",
				"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as C2", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as C2"}, arrived: 2},
		{name: "mailbox full is not too many", script: script(mailOk, rcptOk, "RCPT: 452 4.2.2 full", rcptOk, dataOk, "DOT: 250 2.0.0 Ok"), rcpts: 3,
			want: []string{"250 2.0.0 from MTA(HOP): 250 2.0.0 Ok", "452 4.2.2 from MTA(HOP): 452 4.2.2 full", "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok"}, arrived: 1},
		{name: "one is too many", script: script(mailOk, "RCPT: 452 4.5.3 too many", rset), want: []string{"452 4.5.3 from MTA(HOP): 452 4.5.3 too many"}},
		{name: "RCPT 421 keeps the refused", script: script(mailOk, "RCPT: 550 5.1.1 no", rcptOk, "RCPT: 421 4.7.0 bye", "cut"), rcpts: 3,
			want: []string{"550 5.1.1 from MTA(HOP): 550 5.1.1 no", "421 4.7.0 from MTA(HOP): 421 4.7.0 bye", "421 4.7.0 from MTA(HOP): 421 4.7.0 bye"}},
		{name: "DATA 4xx", script: script(mailOk, rcptOk, "DATA: 450 4.3.0 no", rset), want: []string{"450 4.3.0 from MTA(HOP): 450 4.3.0 no"}},
		{name: "DATA 5xx", script: script(mailOk, rcptOk, "DATA: 554 5.5.1 no", rset), want: []string{"451 4.5.1 MTA(HOP) refuses us: 554 5.5.1 no"}},
		{name: "DATA 250", script: script(mailOk, rcptOk, "DATA: 250 2.0.0 queued as LIE"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending DATA"}},
		{name: "DATA cut", script: script(mailOk, rcptOk, "DATA: ", "cut"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending DATA"}},
		{name: "550 at once, stops reading", script: script(mailOk, rcptOk, "DATA: 354 go\n550 5.7.1 no", "stuck"), size: 16 << 20, want: []string{"550 5.7.1 from MTA(HOP): 550 5.7.1 no"}},
		{name: "550 at once, small message", script: script(mailOk, rcptOk, "DATA: 354 go\n550 5.7.1 no", "stuck"), want: []string{"550 5.7.1 from MTA(HOP): 550 5.7.1 no"}},
		{name: "250 before the data", script: script(mailOk, rcptOk, "DATA: 354 go\n250 2.0.0 queued as LIE", "stuck"), want: []string{"451 4.4.2 MTA(HOP): lost connection while sending the message"}},
		{name: "250 within the data", script: script(mailOk, rcptOk, dataOk, "eat 100000", "say 250 2.0.0 queued as LIE", "stuck"), size: 16 << 20,
			want: []string{"451 4.4.2 MTA(HOP): lost connection while sending the message"}},
		{name: "550 within the data", script: script(mailOk, rcptOk, dataOk, "eat 100000", "say 550 5.7.1 no", "stuck"), size: 16 << 20, want: []string{"550 5.7.1 from MTA(HOP): 550 5.7.1 no"}},
		{name: "550 within the data, then cut", script: script(mailOk, rcptOk, dataOk, "eat 100000", "say 550 5.7.1 no", "cut"), size: 16 << 20, want: []string{"550 5.7.1 from MTA(HOP): 550 5.7.1 no"}},
		{name: "cut within the data", script: script(mailOk, rcptOk, dataOk, "eat 100000", "cut"), size: 16 << 20, want: []string{"451 4.4.2 MTA(HOP): lost connection while sending the message"}},
		{name: "RST within the data", script: script(mailOk, rcptOk, dataOk, "eat 100000", "rst"), size: 16 << 20, want: []string{"451 4.4.2 MTA(HOP): lost connection while sending the message"}},
		{name: "dot 4xx", script: script(mailOk, rcptOk, dataOk, "DOT: 451 4.3.0 Error: queue file write error"), want: []string{"451 4.3.0 from MTA(HOP): 451 4.3.0 Error: queue file write error"}, arrived: 1},
		{name: "dot 5xx", script: script(mailOk, rcptOk, dataOk, "DOT: 552 5.3.4 too big"), want: []string{"552 5.3.4 from MTA(HOP): 552 5.3.4 too big"}, arrived: 1},
		{name: "dot 421", script: script(mailOk, rcptOk, dataOk, "DOT: 421 4.3.0 bye", "cut"), want: []string{"421 4.3.0 from MTA(HOP): 421 4.3.0 bye"}, arrived: 1},
		{name: "dot 354", script: script(mailOk, rcptOk, dataOk, "DOT: 354 more"), want: []string{"451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot"}, arrived: 1},
		{name: "dot cut", script: script(mailOk, rcptOk, dataOk, "DOT: ", "cut"), want: []string{"451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot"}, arrived: 1},
		{name: "dot rst", script: script(mailOk, rcptOk, dataOk, "DOT: ", "rst"), want: []string{"451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot"}, arrived: 1},
		{name: "dot half a reply", script: script(mailOk, rcptOk, dataOk, "DOT: 250-2.0.0 Ok", "cut"), want: []string{"451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot"}, arrived: 1},
		{name: "control characters in a reply", script: script(mailOk, rcptOk, dataOk, "DOT: 550 5.0.0 a\x00\x1b[2Jb\u2028c\xff"), want: []string{`550 5.0.0 from MTA(HOP): 550 5.0.0 a??[2Jb\x{2028}c\xff`}, arrived: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, tt.script)
			o := outgoing()
			for i := range max(tt.rcpts, 1) {
				o.Rcpts = append(o.Rcpts, mail.Recipient{Address: mail.Address(fmt.Sprintf("r%d@x.test", i))})
			}
			o.AllOrNone, o.RefuseAll = tt.all, tt.refuse
			if tt.size > 0 {
				o.Message = mail.NewMessage([]byte("Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", tt.size/18)))
			}
			dots := map[int]int{}
			o.BeforeDot = func(rcpts []int) {
				for _, i := range rcpts {
					dots[i]++
				}
				if _, _, messages := h.seen(); len(messages) > 1 {
					t.Errorf("%d messages arrived before the dot", len(messages))
				}
			}
			receipts := sendTo(t, newRelay(t, h.hop()), o)
			checkReplies(t, h, receipts, tt.want...)
			for i, rc := range receipts {
				waiting := strings.HasSuffix(rc.Reply.Text, "waiting for the reply to the final dot")
				switch {
				case rc.Disposal == mail.Relayed && dots[i] != 1:
					t.Errorf("recipient %d has the message, and %d dots", i, dots[i])
				case waiting != rc.InDoubt && !strings.HasSuffix(rc.Reply.Text, "sending the message"):
					t.Errorf("recipient %d, in doubt: %v, %s", i, rc.InDoubt, rc.Reply)
				case tt.size > 0 && dots[i] > 0:
					t.Errorf("recipient %d has a dot that was never sent", i)
				}
			}
			conns, _, messages := h.seen()
			if len(messages) != tt.arrived || conns != 1 {
				t.Errorf("%d messages arrived on %d connections, want %d on 1", len(messages), conns, tt.arrived)
			}
		})
	}
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, hello)
	hop := h.hop()
	h.stop()
	got := sendTo(t, newRelay(t, hop), outgoing("a@x.test"))
	checkReplies(t, h, got, "451 4.4.1 MTA(HOP): no connection")
}

func TestHangs(t *testing.T) {
	t.Parallel()
	const short = 50 * time.Millisecond
	for _, tt := range []struct {
		name, step string
		shorten    func(*Timeouts)
		script     []string
	}{
		{"connect", "performing the handshake", func(o *Timeouts) { o.Command = short }, []string{"hang"}},
		{"EHLO", "performing the handshake", func(o *Timeouts) { o.Command = short }, []string{"CONNECT: 220 hi", "hang"}},
		{"DATA", "sending DATA", func(o *Timeouts) { o.Data = short }, script(mailOk, rcptOk, "hang")},
		{"message", "sending the message", func(o *Timeouts) { o.Block = short }, script(mailOk, rcptOk, dataOk, "stuck")},
		{"dot", "waiting for the reply to the final dot", func(o *Timeouts) { o.Dot = short }, script(mailOk, rcptOk, dataOk, "hang")},
	} {
		o := outgoing("a@x.test")
		if tt.name == "message" {
			o.Message = mail.NewMessage([]byte(strings.Repeat("0123456789abcdef\r\n", 1<<20)))
		}
		t.Run("own timeout/"+tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, tt.script)
			r := newRelay(t, h.hop(), func(o *Options) { tt.shorten(&o.Timeouts) })
			checkReplies(t, h, sendTo(t, r, o), "451 4.4.2 MTA(HOP): timeout while "+tt.step)
		})
		t.Run("deadline/"+tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, tt.script)
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			checkReplies(t, h, newRelay(t, h.hop()).Send(ctx, o), "451 4.4.2 MTA(HOP): timeout while ...")
		})
	}
	t.Run("cancelled before", func(t *testing.T) {
		t.Parallel()
		h := newFakeHop(t, hello)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		checkReplies(t, h, newRelay(t, h.hop()).Send(ctx, outgoing("a@x.test")), "451 4.4.2 MTA(HOP): timeout while connecting")
	})
}

func join(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func TestKeptSession(t *testing.T) {
	t.Parallel()
	h := newFakeHop(t, script(join(good("A"), good("B"), []string{mailOk, "RCPT: 550 5.1.1 no", rset}, good("C"))...))
	r := newRelay(t, h.hop())
	for _, want := range []string{"A", "B", "", "C"} {
		if got := sendTo(t, r, outgoing("a@x.test"))[0]; got.QueuedAs != want {
			t.Errorf("queued as %q, want %q", got.QueuedAs, want)
		}
	}
	r.Close()
	conns, cmds, _ := h.seen()
	var verbs []string
	for _, c := range cmds {
		verbs = append(verbs, strings.Fields(c)[0])
	}
	const want = "EHLO MAIL RCPT DATA MAIL RCPT DATA MAIL RCPT RSET MAIL RCPT DATA QUIT"
	if got := strings.Join(verbs, " "); got != want || conns != 1 {
		t.Errorf("on %d connections: %s\nwant on one: %s", conns, got, want)
	}
}

func TestStaleSession(t *testing.T) {
	t.Parallel()
	fresh := script(good("NEW")...)
	for _, tt := range []struct {
		name  string
		end   []string // of the first connection, after one good transaction
		then  []string // script of the second connection
		want  string
		conns int
	}{
		{"closed while idle", []string{"cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"421 while idle", []string{"say 421 4.4.2 timeout", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"421 to MAIL", []string{"MAIL: 421 4.4.2 timeout", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"closed at MAIL", []string{"MAIL: ", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"reset at MAIL", []string{"MAIL: ", "rst"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"closed at RCPT", []string{mailOk, "RCPT: ", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"closed at DATA", []string{mailOk, rcptOk, "DATA: ", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"421 to DATA", []string{mailOk, rcptOk, "DATA: 421 4.3.0 bye", "cut"}, fresh, "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as NEW", 2},
		{"450 is an answer", []string{"MAIL: 450 4.1.0 later"}, fresh, "450 4.1.0 from MTA(HOP): 450 4.1.0 later", 1},
		{"new one fails too", []string{"MAIL: ", "cut"}, script("MAIL: ", "cut"), "451 4.4.2 MTA(HOP): lost connection while sending MAIL", 2},
		{"never after 354", []string{mailOk, rcptOk, dataOk, "cut"}, fresh, "451 4.4.2 MTA(HOP): lost connection while ...", 1},
		{"never after the dot", []string{mailOk, rcptOk, dataOk, "DOT: ", "cut"}, fresh, "451 4.4.2 MTA(HOP): lost connection while waiting for the reply to the final dot", 1},
		{"421 to the dot", []string{mailOk, rcptOk, dataOk, "DOT: 421 4.3.0 bye", "cut"}, fresh, "421 4.3.0 from MTA(HOP): 421 4.3.0 bye", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHop(t, script(join(good("OLD"), tt.end)...), tt.then)
			r := newRelay(t, h.hop())
			checkReplies(t, h, sendTo(t, r, outgoing("a@x.test")), "250 2.0.0 from MTA(HOP): 250 2.0.0 Ok: queued as OLD")
			got := sendTo(t, r, outgoing("a@x.test"))
			checkReplies(t, h, got, tt.want)
			if conns, _, _ := h.seen(); conns != tt.conns {
				t.Errorf("%d connections, want %d", conns, tt.conns)
			}
		})
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	client := mail.Client{Addr: netip.MustParseAddr("91.11.190.91"), Port: 59010, Proto: "ESMTP", Helo: "client.example.net", Ident: "60AE113F8F9", Source: "REMOTE"}
	xfw := "XFORWARD NAME=[UNAVAILABLE] ADDR=91.11.190.91 PORT=59010 PROTO=ESMTP HELO=client.example.net IDENT=60AE113F8F9 SOURCE=REMOTE"
	bare := "EHLO: 250 hop"
	lower := "EHLO: 250-hop\n250-size 1000\n250-dsn\n250-xforward name addr\n250 smtputf8"
	tests := []struct {
		name   string
		ehlo   string
		change func(*mail.Outgoing)
		want   []string // commands but EHLO, DATA and QUIT
		reply  string   // of the first recipient
	}{
		{name: "plain", want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27", "RCPT TO:<a@x.test>"}},
		{name: "plain, no extensions", ehlo: bare, want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<a@x.test>"}},
		{name: "null sender", change: func(o *mail.Outgoing) { o.From = "" }, want: []string{"MAIL FROM:<> SIZE=27", "RCPT TO:<a@x.test>"}},
		{name: "postmaster", change: func(o *mail.Outgoing) { o.Rcpts[0].Address = "postmaster" }, want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27", "RCPT TO:<postmaster>"}},
		{name: "quoted", change: func(o *mail.Outgoing) {
			o.From, o.Rcpts[0].Address = `"a> BODY=8BITMIME b"@x.test`, `"x \" y"@x.test`
		}, want: []string{`MAIL FROM:<"a> BODY=8BITMIME b"@x.test> SIZE=27`, `RCPT TO:<"x \" y"@x.test>`}},
		{name: "8 bit", change: func(o *mail.Outgoing) { o.Message = mail.NewMessage([]byte("\r\nabcdefgh\xe4\r\n")) },
			want: []string{"MAIL FROM:<himself@jeanbruenn.info> BODY=8BITMIME SIZE=13", "RCPT TO:<a@x.test>"}},
		{name: "8 bit in an edit", change: func(o *mail.Outgoing) { o.Edits = []mail.Edit{{Name: "X", Value: "\xe4"}} },
			want: []string{"MAIL FROM:<himself@jeanbruenn.info> BODY=8BITMIME SIZE=33", "RCPT TO:<a@x.test>"}},
		{name: "8 bit asked", change: func(o *mail.Outgoing) { o.FromOpts.Body = smtp.Body8BitMIME },
			want: []string{"MAIL FROM:<himself@jeanbruenn.info> BODY=8BITMIME SIZE=27", "RCPT TO:<a@x.test>"}},
		{name: "8 bit, not offered", ehlo: bare, change: func(o *mail.Outgoing) { o.Message = mail.NewMessage([]byte("\r\n\xe4\r\n")) },
			want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<a@x.test>"}},
		{name: "DSN", change: func(o *mail.Outgoing) {
			o.FromOpts = smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "QQ+1"}
			o.Rcpts[0].Opts = smtp.RcptOptions{Notify: []smtp.DSNNotify{"FAILURE", "SUCCESS", "FAILURE"}}
			o.Rcpts[0].ORCPT = "rfc822;bj+C3+B6rn@gmail.com"
		}, want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27 RET=HDRS ENVID=QQ+2B1", "RCPT TO:<a@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bj+C3+B6rn@gmail.com"}},
		{name: "DSN, not offered", ehlo: bare, change: func(o *mail.Outgoing) {
			o.FromOpts = smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "QQ+1"}
			o.Rcpts[0].Opts = smtp.RcptOptions{Notify: []smtp.DSNNotify{"NEVER"}}
		}, want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<a@x.test>"}},
		{name: "rubbish DSN", change: func(o *mail.Outgoing) {
			o.FromOpts = smtp.MailOptions{Return: "X", EnvelopeID: "a\r\nDATA"}
			o.Rcpts[0].Opts = smtp.RcptOptions{Notify: []smtp.DSNNotify{"NEVER", "SUCCESS", "X"}}
			o.Rcpts[0].ORCPT = "rfc822;y z\r\nDATA"
		}, want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27", "RCPT TO:<a@x.test> NOTIFY=NEVER"}},
		{name: "XFORWARD", change: func(o *mail.Outgoing) { o.Client = client }, want: []string{xfw, "MAIL FROM:<himself@jeanbruenn.info> SIZE=27", "RCPT TO:<a@x.test>"}},
		{name: "XFORWARD, lower case keywords", ehlo: lower, change: func(o *mail.Outgoing) { o.Client = client },
			want: []string{"XFORWARD NAME=[UNAVAILABLE] ADDR=91.11.190.91", "MAIL FROM:<himself@jeanbruenn.info> SIZE=27", "RCPT TO:<a@x.test>"}},
		{name: "XFORWARD, not offered", ehlo: bare, change: func(o *mail.Outgoing) { o.Client = client }, want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<a@x.test>"}},
		{name: "UTF8", change: func(o *mail.Outgoing) { o.FromOpts.UTF8, o.Rcpts[0].Address = true, "jürgen@x.test" }, want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27 SMTPUTF8", "RCPT TO:<jürgen@x.test>"}},
		{name: "UTF8 not asked", change: func(o *mail.Outgoing) { o.From, o.Rcpts[0].Address = "ü@x.test", "jürgen@x.test" }, want: []string{"MAIL FROM:<ü@x.test> SIZE=27", "RCPT TO:<jürgen@x.test>"}},
		{name: "UTF8 not asked, not offered", ehlo: bare, change: func(o *mail.Outgoing) { o.From, o.Rcpts[0].Address = "ü@x.test", "jürgen@x.test" }, want: []string{"MAIL FROM:<ü@x.test>", "RCPT TO:<jürgen@x.test>"}},
		{name: "UTF8 asked", change: func(o *mail.Outgoing) { o.FromOpts.UTF8 = true }, want: []string{"MAIL FROM:<himself@jeanbruenn.info> SIZE=27 SMTPUTF8", "RCPT TO:<a@x.test>"}},
		{name: "UTF8 asked, not offered, not needed", ehlo: bare, change: func(o *mail.Outgoing) { o.FromOpts.UTF8 = true }, want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<a@x.test>"}},
		{name: "UTF8 header, not offered", ehlo: bare, change: func(o *mail.Outgoing) {
			o.FromOpts.UTF8, o.Message = true, mail.NewMessage([]byte("Subject: ü\r\n\r\n"))
		}, reply: "550 5.6.7 Message needs SMTPUTF8, which the next hop does not offer"},
		{name: "UTF8 sender, not offered", ehlo: bare, change: func(o *mail.Outgoing) { o.FromOpts.UTF8, o.From = true, "ü@x.test" }, reply: "550 5.6.7 Message needs SMTPUTF8, which the next hop does not offer"},
		{name: "UTF8 recipient, not offered", ehlo: bare, change: func(o *mail.Outgoing) {
			o.FromOpts.UTF8, o.Rcpts = true, []mail.Recipient{{Address: "ü@x.test"}, {Address: "b@x.test"}}
		}, want: []string{"MAIL FROM:<himself@jeanbruenn.info>", "RCPT TO:<b@x.test>"}, reply: "550 5.6.7 Message needs SMTPUTF8, which the next hop does not offer"},
		{name: "injection by sender", change: func(o *mail.Outgoing) { o.From = "a@x.test> SIZE=1 <" }, reply: "553 5.1.7 Bad sender address syntax"},
		{name: "injection by recipient", change: func(o *mail.Outgoing) { o.Rcpts[0].Address = "a@x.test\r\nDATA" }, reply: "553 5.1.3 Bad recipient address syntax"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.ehlo == "" {
				tt.ehlo = ehlo
			}
			o := outgoing("a@x.test")
			if tt.change != nil {
				tt.change(o)
			}
			steps := []string{"CONNECT: 220 hop", tt.ehlo}
			for _, c := range tt.want {
				steps = append(steps, strings.Fields(c)[0]+": 250 ok")
			}
			h := newFakeHop(t, append(steps, dataOk, "DOT: 250 2.0.0 Ok"))
			r := newRelay(t, h.hop())
			got := sendTo(t, r, o)
			r.Close()
			_, cmds, _ := h.seen()
			var seen []string
			for _, c := range cmds {
				if !strings.HasPrefix(c, "EHLO") && c != "DATA" && c != "QUIT" {
					seen = append(seen, c)
				}
			}
			if !reflect.DeepEqual(seen, tt.want) {
				t.Errorf("\n got %q\nwant %q", seen, tt.want)
			}
			if tt.reply == "" {
				tt.reply = "250 2.0.0 from MTA(" + h.hop().String() + "): 250 2.0.0 Ok"
			}
			if reply := got[0].Reply.String(); reply != tt.reply {
				t.Errorf("got %s\nwant %s", reply, tt.reply)
			}
			wantNoDSN := got[0].Disposal == mail.Relayed && tt.ehlo == bare && wantsSuccess(o.Rcpts[0].Opts.Notify)
			if got[0].NoDSN != wantNoDSN {
				t.Errorf("NoDSN is %v", got[0].NoDSN)
			}
		})
	}
}
