package mail

import (
	"strings"
	"testing"
	"unicode"
)

// Promise 9: whatever comes in, the log gets one printable, bounded line.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "plain", "a\r\nb", "\x1b[31m", "\u202eexe.txt", "\xff\xfe", `back\slash`, strings.Repeat("ü", 2000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if len(got) > maxEscaped+8 {
			t.Errorf("%d octets", len(got))
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q holds %U", got, r)
			}
		}
	})
}
