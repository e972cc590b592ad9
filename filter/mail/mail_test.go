package mail

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	t.Parallel()
	m := NewMessage([]byte("Subject: a\r\n b\r\nX-Y : z \r\nno field\r\nSUBJECT:\r\n\tc\r\nB\xffad: x\r\n\r\nSubject: body\r\n"))
	h := m.Header()
	if got := strings.Join(h.All("subject"), "|"); got != "a b|c" {
		t.Errorf("Subject: %q", got)
	}
	if v, ok := h.First("x-y"); !ok || v != "z" {
		t.Errorf("X-Y: %q, %v", v, ok)
	}
	if _, ok := h.First("B\xffad"); ok {
		t.Error("a name that is not US-ASCII counts as a field")
	}
	if h.Count("subject") != 2 || len(h) != 5 {
		t.Errorf("%d fields, %d named Subject", len(h), h.Count("subject"))
	}
	if got := string(m.Body()); got != "Subject: body\r\n" {
		t.Errorf("body %q", got)
	}
	for data, rest := range map[string]string{"": "", "A: b": "", "A: b\r\n": "", "\r\nx": "\r\nx", "A: b\r\n\r\n": "\r\n", "A: b\r\n \r\n\r\nx": "\r\nx"} {
		if got := string(NewMessage([]byte(data)).Rest()); got != rest {
			t.Errorf("%q: rest %q, want %q", data, got, rest)
		}
	}
}

// The fields together are always the header block, byte for byte.
func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{"", "A: b\r\n\r\nc", " x\r\nA:b", "\r\n", "A\r\n\r\r\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, n := ParseHeader(data)
		var all []byte
		for _, f := range h {
			all = append(all, f.Raw...)
			if f.Name != "" && !bytes.HasPrefix(f.Raw, []byte(f.Name)) {
				t.Errorf("field %q has the name %q", f.Raw, f.Name)
			}
			if strings.Contains(f.Value(), "\r\n") {
				t.Errorf("value %q is not unfolded", f.Value())
			}
		}
		if !bytes.Equal(all, data[:n]) {
			t.Errorf("%q: fields %q", data[:n], all)
		}
		if n < len(data) && !bytes.HasPrefix(data[n:], []byte("\r\n")) {
			t.Errorf("the header of %q ends at %d", data, n)
		}
	})
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, local, domain, text string }{
		{"", "", "", "<>"},
		{"a@Example.ORG", "a", "example.org", "<a@Example.ORG>"},
		{"postmaster", "postmaster", "", "<postmaster>"},
		{`"a b"@x.test`, "a b", "x.test", `<"a b"@x.test>`},
		{`"a@b"@x.test`, "a@b", "x.test", `<"a@b"@x.test>`},
		{`"a\"b\\"@x.test`, `a"b\`, "x.test", `<"a\"b\\"@x.test>`},
		{`"a@b"`, "a@b", "", `<"a@b">`},
		{"jürgen@bücher.test", "jürgen", "bücher.test", "<jürgen@bücher.test>"},
	} {
		a := Address(c.in)
		if a.Local() != c.local || a.Domain() != c.domain || a.String() != c.text {
			t.Errorf("%q: local %q, domain %q, text %q", c.in, a.Local(), a.Domain(), a)
		}
		if a.ASCII() != !strings.Contains(c.in, "ü") {
			t.Errorf("%q: ASCII %v", c.in, a.ASCII())
		}
	}
}

func TestWithExtension(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, delimiters, want string }{
		{"user@example.org", "+", "user+spam@example.org"},
		{"user+lists@example.org", "+", "user+spam@example.org"},
		{"user+a+b@example.org", "+", "user+spam@example.org"},
		{"+user@example.org", "+", "+user+spam@example.org"},
		{"postmaster", "+", "postmaster+spam"},
		{`"a b+c"@example.org`, "+", `"a b+spam"@example.org`},
		{`"a@b"@example.org`, "+", `"a@b+spam"@example.org`},
		{"user-x@example.org", "+-", "user+spam@example.org"},
		{"user-x@example.org", "-", "user-spam@example.org"},
		{"Owner-list@example.org", "-", "Owner-list-spam@example.org"},
		{"list-request@example.org", "-", "list-request-spam@example.org"},
		{"user@example.org", "", "user@example.org"},
		{"", "+", ""},
	} {
		if got := Address(c.address).WithExtension(c.delimiters, "spam"); got != Address(c.want) {
			t.Errorf("%q with %q: %q, want %q", c.address, c.delimiters, got, c.want)
		}
	}
	r := Recipient{Address: "a+b=c@example.org"}.Extended("+", "spam")
	if r.Address != "a+spam@example.org" || r.Was != "a+b=c@example.org" || r.ORCPT != "rfc822;a+2Bb+3Dc@example.org" || r.ORCPT.Address() != r.Was {
		t.Errorf("%+v", r)
	}
	if r := (Recipient{Address: "ü@example.org"}).Extended("+", "spam"); r.ORCPT != "" {
		t.Errorf("%+v", r)
	}
	if r := (Recipient{Address: "a@example.org", ORCPT: "rfc822;b@example.org"}).Extended("+", "spam"); r.ORCPT != "rfc822;b@example.org" {
		t.Errorf("%+v", r)
	}
}

func TestNextHop(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"smtp://127.0.0.1:10025":       "smtp:[127.0.0.1]:10025",
		"lmtp://[::1]:24":              "lmtp:[::1]:24",
		"smtp://mail.example.org:25":   "smtp:[mail.example.org]:25",
		"lmtp:unix:/run/dovecot/lmtp":  "lmtp:unix:/run/dovecot/lmtp",
		"smtp:unix:/run/postfix/10025": "smtp:unix:/run/postfix/10025",
	} {
		if h, err := ParseNextHop(in); err != nil || h.String() != want {
			t.Errorf("%s: %s, %v", in, h, err)
		}
	}
	for _, in := range []string{"", "smtp", "127.0.0.1:10025", "http://x:25", "smtp://x", "smtp://:25", "smtp://x:0", "smtp://x:99999", "smtp://::1:25", "smtp:[127.0.0.1]:10025", "lmtp:unix:relative"} {
		if h, err := ParseNextHop(in); err == nil {
			t.Errorf("%q: taken as %s", in, h)
		}
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	r := NewReply(554, 7, 0, "Reject, id=%s", "1\r\n250 Ok\x00\u2028 ü\u202egpj.exe \xff")
	if got := r.String(); got != `554 5.7.0 Reject, id=1??250 Ok?\x{2028} \x{fc}\x{202e}gpj.exe \xff` {
		t.Errorf("%q", got)
	}
	for code, want := range map[int]int{0: 451, 250: 250, 354: 451, 451: 451, 554: 554, 999: 451} {
		if got := (Reply{Code: code, Enhanced: [3]int{code / 100, 0, 0}}).SMTP(); got.Code != want {
			t.Errorf("%d goes out as %d", code, got.Code)
		}
	}
}

// A reply is one printable line of US-ASCII of bounded length, whatever went into
// it, and goes through unchanged when it is part of another one.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"", "a\r\nb", "\xff", strings.Repeat("ü", 400), "a\u202eb\\", strings.Repeat("x", 450), strings.Repeat("x", 447) + "üü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := NewReply(250, 0, 0, "%s", s).Text
		if len(text) > maxReplyText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", text)
		}
		if again := NewReply(250, 0, 0, "%s", text).Text; again != text {
			t.Errorf("%q became %q", text, again)
		}
	})
}

func TestSpool(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 99, 100, 101, 5000} {
		dir := t.TempDir()
		s := &Spool{Dir: dir, Memory: 100}
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		for rest := want; len(rest) > 0; {
			n := min(7, len(rest))
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if s.Size() != int64(size) {
			t.Errorf("size %d, want %d", s.Size(), size)
		}
		m, err := s.Message()
		if err != nil {
			t.Fatal(err)
		}
		s.Discard()
		if !bytes.Equal(m.Bytes(), want) || (m.File() != nil) != (size > 100) {
			t.Errorf("%d octets: %d came back, in a file %v", size, len(m.Bytes()), m.File() != nil)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		m.Close()
		m.Close()
	}
}

func TestSpoolErrors(t *testing.T) {
	t.Parallel()
	s := &Spool{Dir: filepath.Join(t.TempDir(), "missing"), Memory: 1}
	if _, err := s.Write([]byte("ab")); err == nil {
		t.Fatal("no error for a folder that is missing")
	}
	if _, err := s.Write([]byte("c")); err == nil {
		t.Error("the spool takes more after an error")
	}
	if _, err := s.Message(); err == nil {
		t.Error("a part of a message is given out")
	}
	s.Discard()
}
