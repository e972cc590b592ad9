package codec

import (
	"slices"
	"testing"
)

func TestQuotedPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                     {""},
		"plain":                {"plain"},
		"a=3Db":                {"a=b"},
		"a=3db=e4":             {"a=b\xe4"},
		"a=\r\nb":              {"ab"},
		"a=\nb":                {"ab"},
		"a=":                   {"a"},
		"a=4":                  {"a=4"},
		"a=ZZ":                 {"a=ZZ"},
		"a==41":                {"a=A"},
		"a= \t\r\nb=41":        {"abA", "a= \t\r\nbA"},
		"a= b":                 {"a= b"},
		"=41=  \n=42= \r\n=43": {"ABC", "A=  \nB= \r\nC"},
	} {
		var got []string
		for _, d := range QuotedPrintable([]byte(in)) {
			got = append(got, string(d))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzQuotedPrintable(f *testing.F) {
	f.Add([]byte("a=3Db=\r\nc= \t\r\nd=4"))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, out := range QuotedPrintable(src) {
			if len(out) > len(src) {
				t.Errorf("%d octets from %d", len(out), len(src))
			}
		}
	})
}
