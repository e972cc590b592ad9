package notify

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/policy"
)

const originalHeader = "Received: from client.example.net (unknown [91.11.190.91])\r\n\tby mail.no-uce.de (Postfix) with ESMTPSA id 60AE113F8F9\r\n" +
	"Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: himself@jeanbruenn.info\r\nTo: xxx@gmail.com\r\n" +
	"Subject: virus test\r\nMessage-ID: <v03@lab.test>\r\nMIME-Version: 1.0\r\n"

// virusReport is an infected message of an own user, golden case v03.
func virusReport() *Report {
	c := openCase()
	now := time.Date(2026, 11, 22, 11, 4, 11, 0, time.UTC)
	c.tx.ID, c.tx.MailID = "10382-03", "6N75Q-qJK5q7"
	c.tx.Received = now
	c.tx.Helo, c.tx.PeerAddr = "mail.no-uce.de", netip.MustParseAddrPort("127.0.0.1:4000")
	c.tx.Client = mail.Client{Addr: netip.MustParseAddr("91.11.190.91"), Port: 59010, Helo: "client.example.net", Ident: "60AE113F8F9"}
	c.tx.Message = mail.NewMessage([]byte(originalHeader + "\r\nX5O!P%@AP THE BODY\r\n"))
	c.v.Findings[0].Name = "Eicar-Signature"
	c.sel.Path = []policy.Step{{Bank: "ORIGINATING", Reason: "listener"}}
	c.sel.Rcpts[0].Path = c.sel.Path
	c.sel.Reason = "bank ORIGINATING, postern.yaml:30"
	c.settings().Virus.Admin = "postmaster@no-uce.de"
	return &Report{
		Hostname: "mail.no-uce.de", From: "postmaster@mail.no-uce.de", Now: now, Tx: c.tx, Selection: c.sel,
		Outcomes: []Outcome{{Verdict: c.v, Receipt: mail.Receipt{
			Disposal: mail.Refused, Reply: mail.NewReply(554, 7, 0, "Bounce, id=10382-03 - INFECTED: Eicar-Signature"),
		}}},
	}
}

// addRcpt appends a recipient with the verdict of the first.
func (r *Report) addRcpt(a mail.Address, receipt mail.Receipt) {
	r.Tx.Rcpts = append(r.Tx.Rcpts, mail.Recipient{Address: a})
	sel := r.Selection.Rcpts[0]
	sel.Address = a
	r.Selection.Rcpts = append(r.Selection.Rcpts, sel)
	r.Outcomes = append(r.Outcomes, Outcome{Verdict: r.Outcomes[0].Verdict, Receipt: receipt})
}

// parsed is a mail of ours as a foreign library sees it.
type parsed struct {
	header message.Header
	types  []string
	parts  []string
}

func parse(t *testing.T, o *mail.Outgoing) *parsed {
	t.Helper()
	e, err := message.Read(bytes.NewReader(o.Message.Bytes()))
	if err != nil {
		t.Fatalf("%v\n%s", err, o.Message.Bytes())
	}
	p := &parsed{header: e.Header}
	mr := e.MultipartReader()
	if mr == nil {
		t.Fatalf("not a multipart\n%s", o.Message.Bytes())
	}
	for {
		part, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil && !message.IsUnknownCharset(err) {
			t.Fatal(err)
		}
		b, err := io.ReadAll(part.Body)
		if err != nil {
			t.Fatal(err)
		}
		ct, _, err := part.Header.ContentType()
		if err != nil {
			t.Fatal(err)
		}
		p.types = append(p.types, ct)
		p.parts = append(p.parts, string(b))
	}
}

// blocks returns the groups of fields of a delivery status.
func blocks(t *testing.T, status string) []textproto.Header {
	t.Helper()
	var out []textproto.Header
	r := bufio.NewReader(strings.NewReader(status + "\r\n"))
	for {
		if _, err := r.Peek(1); err != nil {
			return out
		}
		h, err := textproto.ReadHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h)
	}
}

func names(h textproto.Header) []string {
	var out []string
	for f := h.Fields(); f.Next(); {
		out = append(out, f.Key())
	}
	return out
}

// checkWire holds for whatever leaves this package.
func checkWire(t *testing.T, o *mail.Outgoing) {
	t.Helper()
	b := o.Message.Bytes()
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		t.Error("does not end in CRLF")
	}
	for n, l := range bytes.Split(bytes.TrimSuffix(b, []byte("\r\n")), []byte("\r\n")) {
		if len(l) > 998 || bytes.ContainsAny(l, "\r\n\x00") {
			t.Errorf("line %d: %.100q, %d octets", n, l, len(l))
		}
	}
	head := o.Message.HeaderBytes()
	if i := bytes.IndexFunc(b, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
		if !o.FromOpts.UTF8 || !utf8.Valid(head) || i >= len(head) {
			t.Errorf("eight-bit at %d: %.60q", i, b[max(0, i-20):])
		}
	}
	if o.FromOpts.UTF8 != (o.FromOpts.Body == smtp.Body8BitMIME) {
		t.Errorf("%+v", o.FromOpts)
	}
}

var topFields = []string{"From", "To", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Auto-Submitted", "Mime-Version", "Content-Type"}

func checkTop(t *testing.T, p *parsed) {
	t.Helper()
	got := names(p.header.Header)
	want := slices.DeleteFunc(slices.Clone(topFields), func(s string) bool {
		return (s == "In-Reply-To" || s == "References") && !slices.Contains(got, s)
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("top fields %q, want %q", got, want)
	}
}

func ndr(t *testing.T, r *Report, rcpts ...int) (*mail.Outgoing, *parsed) {
	t.Helper()
	o, err := r.NDR(rcpts)
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, o)
	p := parse(t, o)
	checkTop(t, p)
	if len(p.parts) != 3 {
		t.Fatalf("%d parts", len(p.parts))
	}
	return o, p
}

func contains(t *testing.T, what, s string, subs ...string) {
	t.Helper()
	for _, sub := range subs {
		if !strings.Contains(s, sub) {
			t.Errorf("%s lacks %q:\n%s", what, sub, s)
		}
	}
}

func fieldsAre(t *testing.T, h textproto.Header, want ...string) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		if got := h.Get(want[i]); got != want[i+1] {
			t.Errorf("%s: %q, want %q", want[i], got, want[i+1])
		}
	}
	if h.Len() != len(want)/2 {
		t.Errorf("fields %q", names(h))
	}
}

// TestNDR follows golden case v03.
func TestNDR(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.Tx.FromOpts = smtp.MailOptions{Return: smtp.DSNReturnFull, EnvelopeID: "QQ314159"}
	r.Tx.Rcpts[0].ORCPT = "rfc822;Xxx@gmail.com"
	o, p := ndr(t, r, 0)
	if o.From != "" || len(o.Rcpts) != 1 || o.Rcpts[0].Address != "himself@jeanbruenn.info" || o.FromOpts.UTF8 {
		t.Errorf("envelope %+v", o)
	}
	fieldsAre(t, p.header.Header,
		"From", `"Content-filter at mail.no-uce.de" <postmaster@mail.no-uce.de>`,
		"To", "<himself@jeanbruenn.info>",
		"Subject", "Your message was not delivered: it holds a virus (Eicar-Signature)",
		"Date", "Sun, 22 Nov 2026 11:04:11 +0000",
		"Message-ID", "<ndr.6N75Q-qJK5q7@mail.no-uce.de>",
		"In-Reply-To", "<v03@lab.test>", "References", "<v03@lab.test>",
		"Auto-Submitted", "auto-replied", "MIME-Version", "1.0",
		"Content-Type", p.header.Get("Content-Type"))
	ct, params, err := p.header.ContentType()
	if err != nil || ct != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("%s %v %v", ct, params, err)
	}
	if !slices.Equal(p.types, []string{"text/plain", "message/delivery-status", "text/rfc822-headers"}) {
		t.Errorf("parts %q", p.types)
	}
	contains(t, "text", p.parts[0], "<xxx@gmail.com>", "because a virus was found in it:", "  Eicar-Signature",
		"postmaster@mail.no-uce.de", "10382-03/6N75Q-qJK5q7", "Subject: virus test", "change its password")
	b := blocks(t, p.parts[1])
	if len(b) != 2 {
		t.Fatalf("%d blocks", len(b))
	}
	fieldsAre(t, b[0], "Reporting-MTA", "dns; mail.no-uce.de", "Received-From-MTA", "dns; mail.no-uce.de ([127.0.0.1])",
		"Arrival-Date", "Sun, 22 Nov 2026 11:04:11 +0000", "Original-Envelope-Id", "QQ314159")
	fieldsAre(t, b[1], "Original-Recipient", "rfc822;Xxx@gmail.com", "Final-Recipient", "rfc822;xxx@gmail.com",
		"Action", "failed", "Status", "5.7.0",
		"Diagnostic-Code", "smtp; 554 5.7.0 Bounce, id=10382-03 - INFECTED: Eicar-Signature",
		"Last-Attempt-Date", "Sun, 22 Nov 2026 11:04:11 +0000", "Final-Log-ID", "10382-03/6N75Q-qJK5q7")
	if p.parts[2] != originalHeader {
		t.Errorf("header part %q", p.parts[2])
	}
	if bytes.Contains(o.Message.Bytes(), []byte("THE BODY")) {
		t.Error("the report holds the body")
	}
}

// TestNDRMixed follows golden cases r13 and d02: one recipient handed on, one
// refused by the next hop, one blocked.
func TestNDRMixed(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.addRcpt("friend@example.net", mail.Receipt{Disposal: mail.Refused, NextHop: "smtp:[127.0.0.1]:10025",
		Reply: mail.NewReply(550, 1, 1, "<friend@example.net>: User unknown")})
	r.addRcpt("ok@example.org", mail.Receipt{Disposal: mail.Relayed, NextHop: "lmtp:unix:/run/x", QueuedAs: "LAB1", NoDSN: true,
		Reply: mail.NewReply(250, 0, 0, "Ok: queued as LAB1")})
	r.addRcpt("unasked@example.org", mail.Receipt{Disposal: mail.Relayed})
	_, p := ndr(t, r, 0, 1, 2)
	contains(t, "text", p.parts[0], "because a virus was found", "550 5.1.1 <friend@example.net>: User unknown",
		"because the next mail server refused it", "was handed on to the next mail server")
	if strings.Contains(p.parts[0]+p.parts[1], "unasked") {
		t.Error("tells about a recipient that nobody asked for")
	}
	b := blocks(t, p.parts[1])
	if len(b) != 4 {
		t.Fatalf("%d blocks", len(b))
	}
	for i, want := range [][4]string{
		{"rfc822;xxx@gmail.com", "failed", "5.7.0", ""},
		{"rfc822;friend@example.net", "failed", "5.1.1", "dns; [127.0.0.1]:10025"},
		{"rfc822;ok@example.org", "relayed", "2.0.0", ""},
	} {
		h := b[i+1]
		got := [4]string{h.Get("Final-Recipient"), h.Get("Action"), h.Get("Status"), h.Get("Remote-MTA")}
		if got != want {
			t.Errorf("block %d: %q, want %q", i+1, got, want)
		}
	}
	_, p = ndr(t, r, 2)
	if got := p.header.Get("Subject"); got != "Your message was handed on" {
		t.Errorf("subject %q", got)
	}
}

func TestNDRWordsForEachCategory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cc   policy.ContentCategory
		want string
	}{
		{policy.ContentCategory{Category: mail.Banned}, "kind of file"},
		{policy.ContentCategory{Category: mail.Unchecked}, "could not be checked for viruses."},
		{policy.ContentCategory{Category: mail.Unchecked, Minor: mail.Encrypted}, "encrypted"},
		{policy.ContentCategory{Category: mail.Unchecked, Minor: mail.OverLimits}, "too large"},
		{policy.ContentCategory{Category: mail.Unchecked, Minor: mail.Ambiguous}, "would not agree"},
		{policy.ContentCategory{Category: mail.Spam}, "spam"},
		{policy.ContentCategory{Category: mail.BadHeader}, "standard for mail"},
		{policy.ContentCategory{Category: mail.Oversized}, "larger"},
		{policy.ContentCategory{Category: mail.MTABlocked}, "could not be delivered"},
	} {
		r := virusReport()
		r.Outcomes[0].Verdict.Blocking = tt.cc
		_, p := ndr(t, r, 0)
		contains(t, tt.cc.Category.String(), p.parts[0], tt.want)
	}
}

func TestNDRRefusesToWriteToNobody(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Report){
		"null sender":        func(r *Report) { r.Tx.From = "" },
		"line end in sender": func(r *Report) { r.Tx.From = "a@b.example>\r\nBcc: <x@y.example" },
		"no From address":    func(r *Report) { r.From = "" },
	} {
		r := virusReport()
		change(r)
		if o, err := r.NDR([]int{0}); err == nil {
			t.Errorf("%s: %s", name, o.Message.Bytes())
		}
	}
	if _, err := virusReport().NDR(nil); err == nil {
		t.Error("no recipients: no error")
	}
}

func TestNDRInternational(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		from, to mail.Address
		header   string
		utf8     bool
		types    []string
		final    string
	}{
		{"recipient", "himself@jeanbruenn.info", "käse@example.org", "Subject: x\r\n", false,
			[]string{"text/plain", "message/global-delivery-status", "text/rfc822-headers"}, "utf-8;käse@example.org"},
		{"sender and header", "jürgen@jeanbruenn.info", "a@example.org", "Subject: grün\r\n", true,
			[]string{"text/plain", "message/global-delivery-status", "message/global-headers"}, "rfc822;a@example.org"},
		{"only the header", "himself@jeanbruenn.info", "a@example.org", "Subject: grün\r\n", false,
			[]string{"text/plain", "message/delivery-status", "text/rfc822-headers"}, "rfc822;a@example.org"},
		{"header in no charset", "himself@jeanbruenn.info", "käse@example.org", "Subject: gr\xfcn\r\n", false,
			[]string{"text/plain", "message/global-delivery-status", "text/rfc822-headers"}, "utf-8;käse@example.org"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := virusReport()
			r.Tx.From, r.Tx.Rcpts[0].Address = tt.from, tt.to
			r.Tx.Message = mail.NewMessage([]byte(tt.header + "\r\n"))
			o, p := ndr(t, r, 0)
			if o.FromOpts.UTF8 != tt.utf8 {
				t.Errorf("SMTPUTF8 %v", o.FromOpts.UTF8)
			}
			if !slices.Equal(p.types, tt.types) {
				t.Errorf("parts %q", p.types)
			}
			if got := blocks(t, p.parts[1])[1].Get("Final-Recipient"); got != tt.final {
				t.Errorf("Final-Recipient %q", got)
			}
			if p.parts[2] != tt.header {
				t.Errorf("header %q", p.parts[2])
			}
		})
	}
}

func TestForeignHeader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 5000)
	for _, tt := range []struct {
		name, header, want string
		subject            string // in the text
		reply              string // In-Reply-To
	}{
		{"encoded line end", "Subject: =?utf-8?q?x=0D=0ABcc:_y?=\r\n", "Subject: =?utf-8?q?x=0D=0ABcc:_y?=\r\n", "  Subject: x??Bcc: y\r\n", ""},
		{"bare CR", "Subject: x\rBcc: y\r\n", "Subject: x?Bcc: y\r\n", "  Subject: x?Bcc: y\r\n", ""},
		{"bare LF and NUL", "Subject: x\nBcc: \x00y\r\n", "Subject: x?Bcc: ?y\r\n", "  Subject: x?Bcc: ?y\r\n", ""},
		{"line over 998", "Subject: " + long + "\r\n", "Subject: " + long + "\r\n", "  Subject: " + strings.Repeat("y", 197) + "...\r\n", ""},
		{"no final line end", "Subject: x", "Subject: x\r\n", "  Subject: x\r\n", ""},
		{"bidi override", "Subject: a\u202eb\r\n", "Subject: a\u202eb\r\n", "  Subject: a?b\r\n", ""},
		{"no header", "", "", "Your message:\r\n\r\n", ""},
		{"id", "Message-ID:\r\n <a.b@c.d>\r\n", "Message-ID:\r\n <a.b@c.d>\r\n", "Message-ID: <a.b@c.d>", "<a.b@c.d>"},
		{"two ids", "Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n", "Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n", "", ""},
		{"id with blank", "Message-ID: <a b@c>\r\n", "Message-ID: <a b@c>\r\n", "", ""},
		{"two in one", "Message-ID: <a@b> <c@d>\r\n", "Message-ID: <a@b> <c@d>\r\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := virusReport()
			m := tt.header
			if strings.HasSuffix(m, "\r\n") {
				m += "\r\nbody\r\n"
			}
			r.Tx.Message = mail.NewMessage([]byte(m))
			_, p := ndr(t, r, 0)
			if p.parts[2] != tt.want {
				t.Errorf("header part %.200q, want %.200q", p.parts[2], tt.want)
			}
			contains(t, "text", p.parts[0], tt.subject)
			if got := p.header.Get("In-Reply-To"); got != tt.reply || p.header.Get("References") != tt.reply {
				t.Errorf("In-Reply-To %q", got)
			}
		})
	}
}

func TestLongHeaderIsCutAtAField(t *testing.T) {
	t.Parallel()
	r := virusReport()
	field := "X-Long: " + strings.Repeat("z", 990) + "\r\n"
	r.Tx.Message = mail.NewMessage([]byte(strings.Repeat(field, 1000) + "\r\n"))
	o, p := ndr(t, r, 0)
	kept, note, ok := strings.Cut(p.parts[2], "X-Postern-Note: ")
	if !ok || strings.Repeat(field, 65) != kept || note != "the header goes on, 65000 of 1000000 octets are shown\r\n" {
		t.Errorf("note %q, %d octets kept", note, len(kept))
	}
	if o.Message.Size() > 80<<10 {
		t.Errorf("%d octets", o.Message.Size())
	}
}

// TestNotice follows golden case v03.
func TestNotice(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.Outcomes[0].Receipt.Disposal = mail.Bounced
	r.addRcpt("friend@example.net", mail.Receipt{Disposal: mail.Discarded})
	admins := r.Admins()
	if !slices.Equal(admins, []mail.Address{"postmaster@no-uce.de"}) {
		t.Fatalf("admins %q", admins)
	}
	o, err := r.Notice(append(admins, "second@no-uce.de"))
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, o)
	p := parse(t, o)
	checkTop(t, p)
	if o.From != "postmaster@mail.no-uce.de" || len(o.Rcpts) != 2 {
		t.Errorf("envelope %+v", o)
	}
	fieldsAre(t, p.header.Header,
		"From", `"Content-filter at mail.no-uce.de" <postmaster@mail.no-uce.de>`,
		"To", "<postmaster@no-uce.de>, <second@no-uce.de>",
		"Subject", "VIRUS (Eicar-Signature) in mail FROM LOCAL [91.11.190.91]:59010 <himself@jeanbruenn.info>",
		"Date", "Sun, 22 Nov 2026 11:04:11 +0000",
		"Message-ID", "<notice.6N75Q-qJK5q7@mail.no-uce.de>",
		"Auto-Submitted", "auto-generated", "MIME-Version", "1.0",
		"Content-Type", p.header.Get("Content-Type"))
	if !slices.Equal(p.types, []string{"text/plain", "text/rfc822-headers"}) {
		t.Errorf("parts %q", p.types)
	}
	contains(t, "text", p.parts[0], "INFECTED by clamav: Eicar-Signature", "10382-03/6N75Q-qJK5q7", "ORIGINATING (bank ORIGINATING, postern.yaml:30)",
		"LOCAL [91.11.190.91]:59010, client.example.net", "<himself@jeanbruenn.info>", "<v03@lab.test>", "virus test", "60AE113F8F9",
		"not quarantined", "<xxx@gmail.com>", "the sender was told: INFECTED, Outbound", "554 5.7.0 Bounce", "the sender was not told")
	if strings.Count(p.parts[0], "by clamav") != 1 {
		t.Error("a finding is told twice")
	}
	if p.parts[1] != originalHeader {
		t.Errorf("header %q", p.parts[1])
	}
}

func TestNoticeSubjects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cc     policy.ContentCategory
		client mail.Client
		want   string
	}{
		{policy.ContentCategory{Category: mail.Banned}, mail.Client{}, "BANNED contents (Eicar-Signature) in mail FROM LOCAL <himself@jeanbruenn.info>"},
		{policy.ContentCategory{Category: mail.Unchecked}, mail.Client{}, "UNCHECKED contents in mail FROM LOCAL <himself@jeanbruenn.info>"},
		{policy.ContentCategory{Category: mail.Spam}, mail.Client{}, "SPAM in mail FROM LOCAL <himself@jeanbruenn.info>"},
		{policy.ContentCategory{Category: mail.BadHeader}, mail.Client{}, "BAD HEADER (Eicar-Signature) in mail FROM LOCAL <himself@jeanbruenn.info>"},
		{policy.ContentCategory{Category: mail.Infected}, mail.Client{Addr: netip.MustParseAddr("2001:db8::1")}, "VIRUS (Eicar-Signature) in mail FROM LOCAL [2001:db8::1] <himself@jeanbruenn.info>"},
	} {
		r := virusReport()
		r.Tx.Client = tt.client
		r.Outcomes[0].Verdict.Blocking = tt.cc
		r.Outcomes[0].Verdict.Findings[0].Category = tt.cc.Category
		o, err := r.Notice([]mail.Address{"a@b.example"})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, o).header.Get("Subject"); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestAdmins(t *testing.T) {
	t.Parallel()
	r := virusReport()
	v := r.Outcomes[0].Verdict
	s := r.Selection.Rcpts[0].Settings
	s.Spam.Admin = "spam@no-uce.de"
	for _, tt := range []struct {
		blocking, main mail.Category
		want           []mail.Address
	}{
		{mail.Infected, mail.Infected, []mail.Address{"postmaster@no-uce.de"}},
		{mail.CatchAll, mail.Infected, []mail.Address{"postmaster@no-uce.de"}}, // passes for lovers
		{mail.Spam, mail.Infected, []mail.Address{"spam@no-uce.de"}},
		{mail.CatchAll, mail.Spammy, nil},
		{mail.Banned, mail.Banned, nil}, // nobody named
		{mail.CatchAll, mail.Clean, nil},
	} {
		v.Blocking.Category, v.Categories[0].Category = tt.blocking, tt.main
		if got := r.Admins(); !slices.Equal(got, tt.want) {
			t.Errorf("%v/%v: %q, want %q", tt.blocking, tt.main, got, tt.want)
		}
	}
	if _, err := r.Notice(nil); err == nil {
		t.Error("a notice to nobody")
	}
}

// Encoded-words in a name are foreign text: what they stand for must not become
// part of our own fields, least of all marks of direction.
func TestForeignEncodedWords(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.Outcomes[0].Verdict.Findings[0].Name = "=?utf-8?q?=E2=80=AE?="
	for name, build := range map[string]func() (*mail.Outgoing, error){
		"ndr":    func() (*mail.Outgoing, error) { return r.NDR([]int{0}) },
		"notice": func() (*mail.Outgoing, error) { return r.Notice([]mail.Address{"postmaster@no-uce.de"}) },
	} {
		o, err := build()
		if err != nil {
			t.Fatal(err)
		}
		v, _ := o.Message.Header().First("Subject")
		subject, err := new(mime.WordDecoder).DecodeHeader(v)
		if err != nil || strings.Contains(subject, "\u202e") || !strings.Contains(subject, "(=?utf-8?q?=E2=80=AE?=)") {
			t.Errorf("%s: subject %q, %v", name, subject, err)
		}
	}
}

// FuzzReport: whatever comes in, what leaves is one mail with our fields.
func FuzzReport(f *testing.F) {
	f.Add([]byte(originalHeader+"\r\nbody"), "himself@jeanbruenn.info", "xxx@gmail.com", "Eicar", "Bounce, INFECTED", "QQ314", "mail.no-uce.de")
	f.Add([]byte("Subject: x\rBcc: y\r\n --\xff\r\n \r\n"), "a b@c", "\"x\r\ny\"@z", "v\r\n\r\nbody", "multi\r\nline", "\r\nTo: x", "ho\"st>\r\n")
	f.Add([]byte("\xff\x00\n\n"), "jürgen@x", "\xff@x", "\u202e\u2028", strings.Repeat("x", 3000), strings.Repeat("y ", 3000), "")
	f.Fuzz(func(t *testing.T, msg []byte, from, to, virus, text, foreign, host string) {
		r := virusReport()
		r.Tx.Message = mail.NewMessage(msg)
		r.Tx.From, r.Tx.Rcpts[0].Address = mail.Address(from), mail.Address(to)
		r.Tx.Rcpts[0].ORCPT = mail.ORCPT(foreign)
		r.Tx.FromOpts.EnvelopeID, r.Tx.Helo, r.Tx.Client.Name, r.Tx.Client.Ident = foreign, foreign, foreign, foreign
		r.Outcomes[0].Verdict.Findings[0].Name, r.Outcomes[0].Verdict.Findings[0].Detail = virus, foreign
		r.Outcomes[0].Receipt.Reply.Text = text
		r.addRcpt("friend@example.net", mail.Receipt{Disposal: mail.Refused, NextHop: foreign, Reply: mail.Reply{Code: 550, Text: text}})
		r.Hostname, r.Selection.Reason, r.Quarantine = host, foreign, foreign
		sheet := &Sheet{Hostname: host, From: "postmaster@no-uce.de", To: "postmaster@no-uce.de"}
		kept := &mail.Kept{From: r.Tx.From, Subject: foreign, Reason: virus, Category: text, Rcpts: []mail.KeptRcpt{{Address: mail.Address(to), Due: true}}}
		held := &Summary{To: sheet.To, Held: map[string]int{r.Headline(): 1}}
		for name, build := range map[string]func() (*mail.Outgoing, error){
			"ndr":       func() (*mail.Outgoing, error) { return r.NDR([]int{0, 1}) },
			"notice":    func() (*mail.Outgoing, error) { return r.Notice([]mail.Address{"postmaster@no-uce.de"}) },
			"recipient": func() (*mail.Outgoing, error) { return r.RecipientNotice(0) },
			"digest":    func() (*mail.Outgoing, error) { return sheet.Digest(r.Now, slices.Values([]*mail.Kept{kept})) },
			"held":      func() (*mail.Outgoing, error) { return sheet.Held(held) },
			"own ndr": func() (*mail.Outgoing, error) {
				own := *r
				own.Templates = everyField
				return own.NDR([]int{0, 1})
			},
			"own notice": func() (*mail.Outgoing, error) {
				own := *r
				own.Templates = everyField
				return own.Notice([]mail.Address{"postmaster@no-uce.de"})
			},
		} {
			o, err := build()
			if err != nil {
				if strings.HasSuffix(name, "ndr") && checkAddress(r.Tx.From) != nil || name == "recipient" && checkAddress(mail.Address(to)) != nil {
					continue
				}
				t.Fatal(name, err)
			}
			checkWire(t, o)
			p := parse(t, o)
			checkTop(t, p)
			if want := map[string]int{"notice": 2, "own notice": 2, "recipient": 1, "digest": 1, "held": 1}[name]; want > 0 {
				if len(p.parts) != want {
					t.Errorf("%s has %d parts", name, len(p.parts))
				}
				continue
			}
			if len(p.parts) != 3 {
				t.Fatalf("report has %d parts", len(p.parts))
			}
			if b := blocks(t, p.parts[1]); len(b) != 3 {
				t.Errorf("status has %d blocks\n%s", len(b), p.parts[1])
			} else {
				known := []string{"Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-Mta", "Diagnostic-Code", "Last-Attempt-Date", "Final-Log-Id"}
				for _, n := range append(names(b[1]), names(b[2])...) {
					if !slices.Contains(known, n) {
						t.Errorf("field %q in the status", n)
					}
				}
			}
		}
	})
}

func BenchmarkNDR(b *testing.B) {
	r := virusReport()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.NDR([]int{0}); err != nil {
			b.Fatal(err)
		}
	}
}
