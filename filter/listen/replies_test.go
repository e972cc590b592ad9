package listen

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/filter/mail"
)

// provoked has for each refusal of refusals what a peer says to get it, the
// last line of it.
var provoked = map[*refusal][]string{
	lineTooLong:  {"MAIL FROM:<" + strings.Repeat("x", maxCommand) + ">"},
	badSender:    {"MAIL FROM:<a@"},
	badRecipient: {"MAIL FROM:<a@x.test>", "RCPT TO:<a@"},
	badSize:      {"MAIL FROM:<a@x.test> SIZE=many"},
	badParameter: {"MAIL FROM:<a@x.test> BODY=\x01"},
	nestedMail:   {"MAIL FROM:<a@x.test>", "MAIL FROM:<a@x.test>"},
	badCharacter: {"NOOP \x01"},
	notKnown:     {"XYZZY"},
	noChunking:   {"BDAT 1"},
	inMail:       {"MAIL FROM:<a@x.test>", "XFORWARD NAME=x"},
	badAttribute: {"XFORWARD NAME"},
	noAttribute:  {"XFORWARD"},
}

// TestRefusals drives every refusal of the listener: what is about mail leaves
// as 4xx in both dialects, since a queue makes a report of a 5xx, and nobody
// knows yet who would get it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		say, ok := provoked[r]
		if !ok {
			t.Errorf("nobody provokes %s", r)
			continue
		}
		for _, hello := range []string{"LHLO", "EHLO"} {
			_, addr := startFeed(t, &recorder{}, FeedOptions{})
			p := dial(t, addr).hello(hello)
			for _, l := range say[:len(say)-1] {
				p.send(l)
				p.want("250 ...")
			}
			p.send(say[len(say)-1])
			want := r.String()
			if r.mail {
				want = later(r.Reply).String()
			}
			p.want(want)
		}
	}
}

// TestRefusalsOfTheLibrary: what go-smtp refuses of MAIL, RCPT and DATA is put
// off as well.
func TestRefusalsOfTheLibrary(t *testing.T) {
	t.Parallel()
	for _, say := range [][]string{
		{"MAIL FROM:<a@x.test> BODY=BINARYMIME"}, {"MAIL FROM:<a@x.test> RET=ALL"}, {"MAIL FROM:<a@x.test> ENVID=+"},
		{"MAIL FROM:<a@x.test> X=Y"}, {"RCPT TO:<b@y.test>"}, {"DATA"},
		{"MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test> NOTIFY=MAYBE"}, {"MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test> X=Y"},
		{"MAIL FROM:<a@x.test>", "DATA"}, {"MAIL FROM:<a@x.test>", "DATA x"},
	} {
		_, addr := startFeed(t, &recorder{}, FeedOptions{})
		p := dial(t, addr).hello("LHLO")
		for _, l := range say[:len(say)-1] {
			p.send(l)
			p.want("250 ...")
		}
		p.send(say[len(say)-1])
		p.want("451 ...")
	}
}

// TestRefusalsAreListed: a 5xx that is written anywhere else would be missed.
func TestRefusalsAreListed(t *testing.T) {
	t.Parallel()
	written := regexp.MustCompile(`NewReply\(5|Code: *5`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source", err)
	}
	for _, f := range files {
		if f == "replies.go" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m := written.Find(data); m != nil {
			t.Errorf("%s refuses by itself: %s", f, m)
		}
	}
}

// TestProxyRefuses: before the queue a refusal is one, and a message that is put
// into several hands gets one reply.
func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, addr := startFeed(t, h, FeedOptions{Proxy: true})
	p := dial(t, addr)
	p.want("220 ...")
	p.send("LHLO x")
	p.want("500 5.5.2 ...")
	p = dial(t, addr).hello("EHLO")
	p.send("MAIL FROM:<a@")
	p.want("501 5.1.7 ...")
	p.send("XFORWARD ADDR=192.0.2.1", "MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "RCPT TO:<c@y.test>", "DATA")
	p.want("250 ...", "250 ...", "250 ...", "250 ...", "354 ...")
	// headers that ask for encryption stay, and nothing in the body is a command
	p.send("Require-TLS-ESMTP: yes", "TLS-Required: No", "", "x", "..", "MAIL FROM:<evil@x.test>", ".")
	p.want("250 ...")
	txs := h.transactions()
	if len(txs) != 1 || txs[0].Input != mail.InputProxy || txs[0].Client.Addr.String() != "192.0.2.1" ||
		h.messages()[0] != "Require-TLS-ESMTP: yes\r\nTLS-Required: No\r\n\r\nx\r\n.\r\nMAIL FROM:<evil@x.test>\r\n" {
		t.Errorf("%+v, %q", txs, h.messages())
	}
}
