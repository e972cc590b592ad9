package entity

import (
	"slices"
	"strings"
	"testing"
)

func FuzzParameters(f *testing.F) {
	for _, s := range []string{`text/plain; charset=utf-8; name="a b"`, `a/b; x*0*=utf-8''%41; x*1="b\"c"`, `=?utf-8?q?a/b?=; (x(y)) x = =?utf-8?b?YQ==?= y="`, "a/b; x=\"\n b\"; x*9999999999=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		word, clean, params := ParseValue(s)
		if clean && !isToken(word) {
			t.Errorf("word %q is called clean", word)
		}
		for _, p := range params {
			readings, spelled := Lookup(params, p.name)
			for _, v := range append(readings, spelled...) {
				if len(v) > 6*len(s)+16 {
					t.Errorf("value of %d octets from %d", len(v), len(s))
				}
			}
		}
	})
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?a_=41?=", "=?UTF-16BE?B?AGE=?= =?x?y?", "x=?utf-8*en?b?/w?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if out := DecodeWords(s); len(out) > 6*len(s)+16 {
			t.Errorf("%d octets from %d", len(out), len(s))
		} else if !strings.Contains(s, "=?") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}

func TestParameters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, word string
		clean    bool
		readings []string // of x
	}{
		{"text/plain; x=1", "text/plain", true, []string{"1"}},
		{"Text/Plain;x=1", "text/plain", true, []string{"1"}},
		{"text/plain (comment; x=2); x=1", "text/plain", false, []string{"1"}},
		{`text/plain; y="a;x=2"; x=1`, "text/plain", true, []string{"1"}},
		{`text/plain; y="a\";x=2"; x=1`, "text/plain", true, []string{"1"}},
		{`text/plain; x="a b"`, "text/plain", true, []string{"a b"}},
		{`text/plain; x=a b`, "text/plain", true, []string{"a b", "a"}},
		{`text/plain; x="a`, "text/plain", true, []string{"a"}},
		{`text/plain; x=1; x=2; X=1`, "text/plain", true, []string{"1", "2"}},
		{`text/plain; x*0*=utf-8'en'%C3; x*1*=%A4`, "text/plain", true, []string{"ä"}},
		{`text/plain; x*1=b; x*0=a`, "text/plain", true, []string{"ab", "ba"}},
		{`text/plain; x*0=a; x*2=c`, "text/plain", true, []string{"a", "ac"}},
		{`x=1`, "", false, []string{"1"}},
		{"text/plain; x=\"a\n b\"", "text/plain", true, []string{"a b", "ab"}},
		{"text/plain; x=", "text/plain", true, []string{""}},
		{"", "", false, nil},
		{";;;;=;=;", "", false, nil},
	} {
		word, clean, params := ParseValue(tt.in)
		readings, _ := Lookup(params, "x")
		if word != tt.word || clean != tt.clean || !slices.Equal(readings, tt.readings) {
			t.Errorf("%q: %q %v %q, want %q %v %q", tt.in, word, clean, readings, tt.word, tt.clean, tt.readings)
		}
	}
}

func TestDecodeWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                         "plain",
		"=?utf-8?q?a_b?=":               "a b",
		"=?UTF-8?B?w6Q=?=":              "ä",
		"=?iso-8859-1?q?=e4?=":          "ä",
		"=?windows-1251?B?8uXx8g==?=":   "тест",
		"=?utf-8*en?q?a?=":              "a",
		"=?utf-8?q?a?= =?utf-8?q?b?=":   "ab",
		"=?utf-8?q?a?= x =?utf-8?q?b?=": "a x b",
		"x=?utf-8?q?a?=y":               "xay",
		"=?utf-8?x?a?=":                 "=?utf-8?x?a?=",
		"=?utf-8?q?open":                "open",
		"=?nope?q?=61?=":                "a",
		"=?=?=?":                        "=?=?=?",
	} {
		if got := DecodeWords(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
