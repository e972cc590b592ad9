package filter

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"Postern at example.org":                               true,
		"amavis at mail.example.org":                           true,
		"Debian amavisd-new at example.org":                    true,
		"by POSTERN\tat  EXAMPLE.org.":                         true,
		"amavisd (version 2) at (this) example.org; ok":        true,
		"=?us-ascii?b?UG9zdGVybiBhdCBleGFtcGxlLm9yZw==?=":      true,
		"Pos\u200btern at example.org":                         true,
		"clean, \"Postern at example.org\"":                    true,
		"Postern at example.net":                               false,
		"Postern at example.org.evil.example":                  false,
		"Postern at sub.example.org":                           false,
		"ClamAV at example.org":                                false,
		"Postern for example.org":                              false,
		"(Postern at example.org)":                             false,
		"Postern at":                                           false,
		"":                                                     false,
		strings.Repeat("(", 1<<20) + " Postern at example.org": true, // and soon
	} {
		if got := claims(value, []string{"example.org", "mail.example.org"}); got != want {
			t.Errorf("%.60q: %v", value, got)
		}
	}
}

// isForged says by itself what is to go, in a plain way.
func isForged(f mail.Field, local bool) bool {
	name := strings.ToLower(f.Name)
	return strings.HasPrefix(name, "x-amavis-") || local && strings.HasPrefix(name, "x-spam-") ||
		name == "x-virus-scanned" && claims(f.Value(), []string{"example.org", "mail.example.org"})
}

// FuzzForged: marks that pretend to be ours go, every one of them, and all other
// bytes stay where they are.
func FuzzForged(f *testing.F) {
	f.Add([]byte("X-Amavis-Alert: a\r\nSubject: x\r\n y\r\nX-AMAVIS-alert : b\r\n\r\nX-Amavis-Alert: body\r\n"), true)
	f.Add([]byte("X-Virus-Scanned: amavis at example.net\r\nX-Virus-Scanned: Postern\r\n at example.org\r\nx-virus-scanned:ClamAV\r\n\r\n"), false)
	f.Add([]byte("X-Spam-Flag: NO\r\nnot a field\r\nX-Spam-Flag: YES\r\nX-Spam-X:\r\n"), true)
	f.Add([]byte("X-Spam-Flag: NO\r\n\r\nX-Spam-Flag: NO\r\n"), false)
	f.Add([]byte("\x00\r\n:\r\nX-Amavis-"), true)
	f.Fuzz(func(t *testing.T, data []byte, local bool) {
		m := mail.NewMessage(data)
		facts := &copyFacts{
			header: m.Header(), rcpt: &policy.RcptSelection{Local: local, Settings: &policy.Settings{}},
			forged: findForged(m.Header(), "example.org", "mail.example.org"),
		}
		var want []byte
		for _, h := range m.Header() {
			if !isForged(h, local) {
				want = append(want, h.Raw...)
			}
		}
		want = append(want, m.Rest()...)
		var got bytes.Buffer
		if _, err := (&mail.Outgoing{Message: m, Edits: forgedEdits(facts)}).WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%q\nbecame %q\n  want %q", data, got.Bytes(), want)
		}
	})
}

// Thousands of different marks are removed in a time that grows with their number.
func TestManyForged(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100_000 {
		b.WriteString("X-Amavis-" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i%37) + ": z\r\nX-Virus-Scanned: amavis at example.org\r\n")
	}
	b.WriteString("Subject: x\r\n\r\nbody\r\n")
	m := mail.NewMessage([]byte(b.String()))
	o := &mail.Outgoing{Message: m, Edits: findForged(m.Header(), "example.org").always}
	var got bytes.Buffer
	if _, err := o.WriteTo(&got); err != nil || got.String() != "Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("%d octets, %v", got.Len(), err)
	}
	if !slices.ContainsFunc(o.Edits, func(e mail.Edit) bool { return e.Index == 100_000 }) {
		t.Error("the last instance has no edit")
	}
}
