package mail

import (
	"mime"
	"strings"
	"testing"
)

func TestEncodeText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                       "",
		"plain, (text) <x> a=?b": `=?utf-8?q?plain,_(text)_<x>_a=3D=3Fb?=`,
		"plain, (text) <x>":      "plain, (text) <x>",
		"Rechnung-ü.exe":         "=?utf-8?q?Rechnung-=C3=BC.exe?=",
		"a\u202egpj.exe":         `a\x{202e}gpj.exe`,
		"ü\u200b":                `=?utf-8?q?=C3=BC\x{200b}?=`,
		"a\r\nBcc: b\x00\x7f":    "a??Bcc: b??",
		"\xff\u0085\ufe0f\u3164": `\xff\x{85}\x{fe0f}\x{3164}`,
		"=?utf-8?q?=E2=80=AE?=":  "=?utf-8?q?=3D=3Futf-8=3Fq=3F=3DE2=3D80=3DAE=3F=3D?=",
		strings.Repeat("ü", 12):  "=?utf-8?q?" + strings.Repeat("=C3=BC", 10) + "?= =?utf-8?q?" + strings.Repeat("=C3=BC", 2) + "?=",
		strings.Repeat("x", 100): strings.Repeat("x", 77) + "...",
		strings.Repeat("x", 80):  strings.Repeat("x", 80),
	} {
		if got := EncodeText(in, 80); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What a header field of ours shows is the text that went in, or an escape of
// what cannot be seen; it is US-ASCII, and every word is as short as RFC 2047
// wants it.
func FuzzEncodeText(f *testing.F) {
	for _, s := range []string{"", "a ü b", "=?utf-8?q?=E2=80=AE?=", "\xff\u202e\u2028", strings.Repeat("日本語 ", 60), "a=?b?=", "_ _", "? ?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const most = 200
		want, got := shown(s, most, func(r rune) bool { return !hidden(r) }), EncodeText(s, most)
		if len(want) > most || strings.ContainsFunc(want, hidden) {
			t.Errorf("%q is shown as %q", s, want)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: %q", s, got)
		}
		decoded, err := new(mime.WordDecoder).DecodeHeader(got)
		if err != nil || decoded != want {
			t.Errorf("%q: %q is read as %q, want %q, %v", s, got, decoded, want, err)
		}
		if strings.HasPrefix(got, "=?") {
			for word := range strings.SplitSeq(got, " ") {
				if len(word) > 75 || !strings.HasPrefix(word, "=?utf-8?q?") || !strings.HasSuffix(word, "?=") {
					t.Errorf("%q: word %q", s, word)
				}
			}
		}
	})
}
