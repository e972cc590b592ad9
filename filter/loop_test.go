package filter

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

// More hops than the limit, or the third time here, is a loop. Marks that we
// did not make, or made for another message, are none of ours, whatever address
// stands beside them.
func TestLoop(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler), Mark: NewMark()}
	const body = "hello\r\n"
	field := func(mark Mark, id, body string) string {
		tx := &mail.Transaction{Helo: "a", Protocol: "LMTP", MailID: id}
		o := mail.Outgoing{Message: mail.NewMessage(nil), Edits: add("Received", receivedValue(tx, "mail.example.org", mark.tag(id, []byte(body))))}
		var b strings.Builder
		if _, err := o.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	ids := []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb", "c-c_cccccccc", "dddddddddddd"}
	marks := func(mark Mark, body string, n int) string {
		var s string
		for _, id := range ids[:n] {
			s += field(mark, id, body)
		}
		return s
	}
	forged := strings.Repeat("Received: from x by localhost (mail.example.org [127.0.0.1]) (Postern, port 10024) with LMTP id abc; Mon, 1 Jan 2024 00:00:00 +0000\r\n", 3)
	inside := "Received: from [127.0.0.1] (unknown [203.0.113.9])\r\n by mail.example.org (Postfix)\r\n"
	for _, c := range []struct {
		name, header string
		want         bool
	}{
		{"none", "", false},
		{"limit", strings.Repeat("Received: x\r\n", 50), false},
		{"over the limit", strings.Repeat("Received: x\r\n", 51), true},
		{"twice here", marks(f.Mark, body, 2), false},
		{"three times here", marks(f.Mark, body, 3), true},
		{"three times here, from outside", inside + marks(f.Mark, body, 3), true},
		{"three times elsewhere", marks(NewMark(), body, 3), false},
		{"another message was here", marks(f.Mark, "other\r\n", 4), false},
		{"one mark, copied", strings.Repeat(field(f.Mark, ids[0], body), 5), false},
		{"forged without a mark", inside + forged, false},
		{"forged with a mark", strings.ReplaceAll(forged, "port 10024)", "port 10024, mark AAAAAAAAAAAAAAAA)"), false},
		{"in the body", "\r\n" + strings.Repeat("Received: x\r\n", 60), false},
	} {
		tx := &mail.Transaction{ID: "1", Message: mail.NewMessage([]byte(c.header + "\r\n" + body))}
		reply, loops := f.loop(tx)
		if loops != c.want || loops && reply.Status() != "5.4.6" {
			t.Errorf("%s: %v %s", c.name, loops, reply)
		}
	}
}

// TestLoadMark: the key outlives a restart, and one that is damaged is no reason
// not to start.
func TestLoadMark(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	first, err := LoadMark(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadMark(dir)
	if err != nil || string(first) != string(again) {
		t.Errorf("%x, then %x, %v", first, again, err)
	}
	path := filepath.Join(dir, "mark.key")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := os.WriteFile(path, []byte("postern mark 1\nzz\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := LoadMark(dir)
	if err != nil || len(other) != 32 || string(other) == string(first) {
		t.Errorf("%x, %v", other, err)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Error(err)
	}
	if _, err := LoadMark("/proc/nowhere"); err == nil {
		t.Error("a folder that cannot be made is no error")
	}
}
