package auth

import (
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

func TestAddressDomains(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list string
		want string // domains joined by blanks
	}{
		{"a@x.test", "x.test"},
		{"A@X.Test.", "x.test"},
		{"<a@x.test>", "x.test"},
		{"", ""},
		{"a", ""},
		{"a@", ""},
		{"@x.test", "x.test"},
		{"a@[192.0.2.1]", ""},
		{"a@[IPv6:::1]", ""},
		{"Ann <a@x.test>, b@y.test", "x.test y.test"},
		{`"Doe, John <j@evil.test>" <a@x.test>`, "x.test"},
		{`"Doe \" , <j@evil.test>" <a@x.test>, "q" <b@y.test>`, "x.test y.test"},
		{`=?utf-8?Q?J=C3=BCrgen=2C?= <a@x.test>`, "x.test"},
		{"J\xc3\xbcrgen, \xfcber <a@x.test>", "x.test"},
		{`a@x.test (Ann, <b@evil.test>)`, "x.test"},
		{`a@x.test (one (two) \) @evil.test)`, "x.test"},
		{`a@(comment)x.test`, "x.test"},
		{`Friends: a@x.test, B <b@y.test>; c@z.test`, "x.test y.test z.test"},
		{`undisclosed-recipients:;`, ""},
		{`<@relay.test,@other.test:a@x.test>`, "x.test"},
		{`"a@evil.test"@x.test`, "x.test"},
		{`"a,b"@x.test, c@y.test`, "x.test y.test"},
		{`"Ann <a@x.test>`, "x.test"},
		{`Ann (never closed <a@x.test>`, "x.test"},
		{"a@x.test,\r\n\tb@y.test", "x.test y.test"},
		{`a@x.test, a@x.test`, "x.test x.test"},
		{`jürgen@bücher.test`, "xn--bcher-kva.test"},
		{`a@BÜCHER.test`, "xn--bcher-kva.test"},
		{"a@x y.test", ""},
		{"a@x..test", ""},
		{"a@x\x00.test", ""},
		{"a@under_score.test", "under_score.test"},
		{"a@" + strings.Repeat("l", 64) + ".test", ""},
	}
	for _, tt := range tests {
		if got := strings.Join(addressDomains(tt.list), " "); got != tt.want {
			t.Errorf("addressDomains(%q) = %q, want %q", tt.list, got, tt.want)
		}
	}
}

func TestResponsible(t *testing.T) {
	t.Parallel()
	header, _ := mail.ParseHeader([]byte(strings.ReplaceAll(`Resent-Sender: s@rs2.test
Resent-From: f@rf2.test
Resent-From: f@rf1.test
Resent-Date: then
Resent-Sender: s@rs1.test
Received: by somebody
Resent-From: f@rf0.test
Sender: s@sender.test
From: A <a@author.test>,
 b@second.test
`, "\n", "\r\n")))
	want := []string{"author.test", "second.test", "rf2.test", "rs2.test", "rf1.test", "rs1.test", "rf0.test", "sender.test", "envelope.test"}
	if got := Responsible(header, "e@envelope.test"); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := Responsible(header[:0], ""); len(got) != 0 {
		t.Errorf("a message without addresses: got %q", got)
	}
}

func FuzzAddressDomains(f *testing.F) {
	f.Add(`"Doe, John" <a@x.test>, group: b@y.test;`)
	f.Add(`a(b(c)@x.test`)
	f.Add("j\xfc@b\u00fccher.test, <@r.test:a@x.test>")
	f.Fuzz(func(t *testing.T, list string) {
		for _, d := range addressDomains(list) {
			if !isName(d) || d != strings.ToLower(d) {
				t.Errorf("%q gave %q", list, d)
			}
			if again := addressDomains("a@" + d); len(again) != 1 || again[0] != d {
				t.Errorf("%q of %q is not stable: %q", d, list, again)
			}
		}
	})
}

// Openers that are never closed and long U-labels must not take quadratic time.
func BenchmarkAddressDomainsHostile(b *testing.B) {
	for _, s := range []string{"(", `"`, `(\`, "<", "a@x,", "\u00fc"} {
		list := "a@" + strings.Repeat(s, maxAddressList)
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				addressDomains(list)
			}
		})
	}
}

// The authors are named with their user, whatever stands around the address.
func TestAuthors(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"a@x.test":                        "a@x.test",
		"Ann <a@x.test>":                  "a@x.test",
		`"b@y.test" <a@x.test>`:           "a@x.test",
		`"b@y.test" <a@x.test>, c@z.test`: "a@x.test c@z.test",
		`"a b"@x.test`:                    `"a b"@x.test`,
		`<"a, b"@x.test>`:                 `"a, b"@x.test`,
		"a@x.test (b@y.test)":             "a@x.test",
		"Group: a@x.test, b@y.test;":      "a@x.test b@y.test",
		"undisclosed":                     "",
		"a@[192.0.2.1]":                   "",
		`"a@x.test`:                       `"a@x.test`,
	} {
		var got []string
		for _, a := range Authors(mail.NewMessage([]byte("From: " + from + "\r\n\r\n")).Header()) {
			got = append(got, string(a))
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: %q, want %q", from, g, want)
		}
	}
}

func FuzzAuthors(f *testing.F) {
	f.Add(`"x" <a@b.test>, (c) "d"@e.test;`)
	f.Fuzz(func(t *testing.T, value string) {
		h := mail.NewMessage([]byte("From: " + value + "\r\n\r\n")).Header()
		for _, a := range Authors(h) {
			if DomainOf(a) == "" {
				t.Errorf("%q has no domain", a)
			}
		}
	})
}
