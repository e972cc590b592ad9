package listen

import (
	"strings"
	"testing"

	"postern/filter/mail"
)

func TestParsePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		addr mail.Address
		rest string
		ok   bool
	}{
		{"<>", "", "", true},
		{"<> SIZE=1", "", " SIZE=1", true},
		{" <a@b>", "a@b", "", true},
		{"a@b X=y", "a@b", " X=y", true},
		{"<postmaster>", "postmaster", "", true},
		{"<root> NOTIFY=NEVER", "root", " NOTIFY=NEVER", true},
		{"<@a.test:b@c>", "b@c", "", true},
		{"<@a.test,@b.test:b@c>", "b@c", "", true},
		{`<"a b"@c>`, `"a b"@c`, "", true},
		{`<"a\"@\\"@c>`, `"a\"@\\"@c`, "", true},
		{`<"a@b"@c>`, `"a@b"@c`, "", true},
		{`<"lonely">`, `"lonely"`, "", true},
		{`<"">`, `""`, "", true},
		{"<.a..b.@c>", ".a..b.@c", "", true},
		{"<a+tag=x/y@b-c.d_e>", "a+tag=x/y@b-c.d_e", "", true},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]", "", true},
		{"<a@[IPv6:::1]> X", "a@[IPv6:::1]", " X", true},
		{"<ä@ö.test>", "ä@ö.test", "", true},
		// Postfix and Amavis take them
		{"<a@b@c>", "a@b@c", "", true},
		{"<a(x),[y]:z;@c>", "a(x),[y]:z;@c", "", true},
		{`<"a"."b"c@d>`, `"a"."b"c@d`, "", true},
		{"<a@b*;!c> X", "a@b*;!c", " X", true},
		{"<a@[fe80::1%eth0]>", "a@[fe80::1%eth0]", "", true},
		{"", "", "", false},
		{"<", "", "", false},
		{"<>x", "", "", false},
		{"<a@b", "", "", false},
		{"<a@b>x", "", "", false},
		{"a@b>", "", "", false},
		{"<a@>", "", "", false},
		{"<@b>", "", "", false},
		{"<@b:>", "", "", false},
		{"@b:c@d", "", "", false},
		{"<a b@c>", "a b@c", "", true},
		{"<a@b c> X", "a@b c", " X", true},
		{"<\"a\x01\"@c>", "\"a\x01\"@c", "", true},
		{"<a\x7f@c>", "a\x7f@c", "", true},
		{"<\xff@b>", "\xff@b", "", true},
		{`<a\b@c>`, `a\b@c`, "", true},
		{"<a<b@c>", "", "", false},
		{`<"a@b>`, "", "", false},
		{`<"a\`, "", "", false},
		{`<a@"b">`, "", "", false},
		{`<"a">@b`, "", "", false},
	} {
		addr, rest, ok := parsePath(c.in)
		if ok != c.ok || ok && (addr != c.addr || rest != c.rest) {
			t.Errorf("%q: %q, rest %q, %v; want %q, rest %q, %v", c.in, addr, rest, ok, c.addr, c.rest, c.ok)
		}
	}
}

// What is accepted reads the same again and fits into a command line.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<>", "<a@b> X", `<"a\"b"@c>`, "<@a:b@c>", "<a@[::1]>", "a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, rest, ok := parsePath(s)
		if !ok {
			return
		}
		if !strings.HasSuffix(s, rest) || rest != "" && rest[0] != ' ' {
			t.Fatalf("%q: rest %q", s, rest)
		}
		again, rest, ok := parsePath(addr.String())
		if !ok || again != addr || rest != "" {
			t.Fatalf("%q: read again %q, %q, %v", addr, again, rest, ok)
		}
	})
}
