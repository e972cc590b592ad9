package filter

import (
	"log/slog"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

// More hops than the limit, or the third time here, is a loop; the fields of
// another filter that calls itself as we do are not ours.
func TestLoop(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler)}
	own := "Received: from a ([127.0.0.1])\r\n by localhost (mail.example.org [127.0.0.1]) (Postern, port 10023)\r\n with LMTP id x; Mon, 9 Aug 2021 09:36:36 +0200\r\n"
	foreign := strings.ReplaceAll(own, "mail.example.org", "mx.example.net")
	for _, c := range []struct {
		name, header string
		want         bool
	}{
		{"none", "", false},
		{"limit", strings.Repeat("Received: x\r\n", 50), false},
		{"over the limit", strings.Repeat("Received: x\r\n", 51), true},
		{"twice here", strings.Repeat(own, 2), false},
		{"three times here", strings.Repeat(own, 3), true},
		{"three times elsewhere", strings.Repeat(foreign, 3), false},
		{"forged by a stranger", "Received: from b (unknown [203.0.113.9])\r\n by mail.example.org (Postfix)\r\n" + strings.Repeat(own, 3), false},
		{"from this machine", "Received: from localhost (localhost [127.0.0.1])\r\n by mail.example.org (Postfix)\r\n" + strings.Repeat(own, 3), true},
		{"in the body", "\r\n" + strings.Repeat("Received: x\r\n", 60), false},
	} {
		tx := &mail.Transaction{ID: "1", Message: mail.NewMessage([]byte(c.header + "\r\n"))}
		reply, loops := f.loop(tx)
		if loops != c.want || loops && reply.Status() != "5.4.6" {
			t.Errorf("%s: %v %s", c.name, loops, reply)
		}
	}
	// what we write ourselves is what we count
	ours := receivedValue(&mail.Transaction{Helo: "a", Protocol: "LMTP", MailID: "x"}, "mail.example.org")
	field := mail.Outgoing{Message: mail.NewMessage(nil), Edits: []mail.Edit{{Name: "Received", Value: ours}}}
	var b strings.Builder
	if _, err := field.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	tx := &mail.Transaction{Message: mail.NewMessage([]byte(strings.Repeat(b.String(), 3)))}
	if _, loops := f.loop(tx); !loops {
		t.Errorf("our own field is not counted: %s", b.String())
	}
}
