package entity

import (
	"strings"
	"testing"
)

func TestMailbox(t *testing.T) {
	t.Parallel()
	const one, two = "From a@b Mon Jun  1 10:00:00 2026\nFrom: a@b\nTo: c@d\n\nhello\n\n", "From c@d Tue Jun  2 10:00:00 +0200 2026\nSubject: x\nDate: y\n\nhello\n"
	for what, tt := range map[string]struct {
		data string
		want int
	}{
		"two":                        {one + two, 2},
		"with the line ends of mail": {strings.ReplaceAll(one+two, "\n", "\r\n"), 2},
		"one":                        {one, 1},
		"a line of prose":            {strings.Replace(one, "hello", "From here at 10:00 in 2026 on\nwe go", 1), 1},
		"prose behind an empty line": {one + "From here at 10:00 in 2026 on\nwe go\n", 1},
		"no empty line before":       {strings.TrimRight(one, "\n") + "\n" + two, 1},
		"a message":                  {"From: a@b\nTo: c@d\n\n" + one, 0},
		"a text":                     {"hello\n\n" + one + two, 0},
		"nothing":                    {"", 0},
	} {
		letters := Mailbox([]byte(tt.data))
		if len(letters) != tt.want {
			t.Errorf("%s: %d messages, want %d", what, len(letters), tt.want)
		}
		if got := strings.Join(asStrings(letters), ""); tt.want > 0 && got != tt.data {
			t.Errorf("%s: put together %q", what, got)
		}
	}
}

func asStrings(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}
