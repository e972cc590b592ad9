package document

import (
	"fmt"
	"strings"
	"testing"
)

func TestPDFString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"(a)b": "a|b", "(a(b)c)d": "a(b)c|d", `(\(\)\\\n\r\t\b\f\x)`: "()\\\n\r\t\b\fx|", `(\0531\53\0053)`: "+1+\x053|",
		"(a\\\r\nb\\\nc\r\nd\re)": "abc\nd\ne|", "<41 4g2>x": "AB|x", "<414>": "A@|", "<>": "|", "()": "|",
		"(a": "-", "<41": "-", "<<41>>": "-", "a": "-", "": "-", `(\`: "-",
	} {
		s, rest := pdfString([]byte(in))
		got := string(s) + "|" + string(rest)
		if s == nil {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPDFValue(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<</A/B /C 1 0 R/D[1 2]/E(x)/F<</G#41 true>>>>z": "map[/A:/B /C:1 /D:[ /E:[120] /F:map[/GA:true]] z",
		" %c\r<<%d\n/A%e\n-4>>":                          "map[/A:-4] ",
		"<</A 1/A 2>>":                                   "<nil> ",
		"<</A":                                           "<nil> ",
		"<</A(>>":                                        "<nil> ",
		strings.Repeat("<</A ", 9) + "1" + strings.Repeat(">>", 9): "<nil> ",
		strings.Repeat("<<", 30):                                   "<nil> ",
		"%":                                                        "<nil> ",
	} {
		v, rest := pdfValue([]byte(in), 0)
		if got := fmt.Sprintf("%v %s", v, rest); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
