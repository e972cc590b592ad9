package listen

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"postern/filter/mail"
)

func TestXforward(t *testing.T) {
	t.Parallel()
	before := mail.Client{Name: "old", Addr: netip.MustParseAddr("192.0.2.9"), Port: 9, Proto: "SMTP", Helo: "h", Ident: "i", Source: "REMOTE"}
	with := func(f func(*mail.Client)) mail.Client { c := before; f(&c); return c }
	for _, c := range []struct {
		arg  string
		want mail.Client
		code int
	}{
		{"NAME=new", with(func(c *mail.Client) { c.Name = "new" }), 250},
		{"name=a+2Bb+3D", with(func(c *mail.Client) { c.Name = "a+b=" }), 250},
		{"NAME=a+zz", with(func(c *mail.Client) { c.Name = "a+zz" }), 250},
		{"NAME=a+0", with(func(c *mail.Client) { c.Name = "a+0" }), 250},
		{"NAME=a=b", with(func(c *mail.Client) { c.Name = "a=b" }), 250},
		{"NAME=a+0D+0Ab+00", with(func(c *mail.Client) { c.Name = "a??b?" }), 250},
		{"NAME=+C3+A4+FF", with(func(c *mail.Client) { c.Name = "ä?" }), 250},
		{"NAME=[UNAVAILABLE] ADDR=[unavailable] PORT=[TEMPUNAVAIL] PROTO= SOURCE=[UNAVAILABLE]", mail.Client{Helo: "h", Ident: "i"}, 250},
		{"ADDR=198.51.100.1 PORT=65535", with(func(c *mail.Client) { c.Addr, c.Port = netip.MustParseAddr("198.51.100.1"), 65535 }), 250},
		{"ADDR=ipv6:2001:db8::1", with(func(c *mail.Client) { c.Addr = netip.MustParseAddr("2001:db8::1") }), 250},
		{"ADDR=2001:db8::1", with(func(c *mail.Client) { c.Addr = netip.MustParseAddr("2001:db8::1") }), 250},
		{"ADDR=IPV6:::ffff:198.51.100.1", with(func(c *mail.Client) { c.Addr = netip.MustParseAddr("198.51.100.1") }), 250},
		{"SOURCE=local PROTO=ESMTP", with(func(c *mail.Client) { c.Source, c.Proto = "LOCAL", "ESMTP" }), 250},
		{"HELO=" + strings.Repeat("x", 255), with(func(c *mail.Client) { c.Helo = strings.Repeat("x", 255) }), 250},
		{"", before, 501},
		{"NAME", before, 501},
		{"NAME=new ADDR=nonsense", with(func(c *mail.Client) { c.Name, c.Addr = "new", netip.Addr{} }), 250},
		{"ADDR=fe80::1%25eth0", with(func(c *mail.Client) { c.Addr = netip.Addr{} }), 250},
		{"ADDR=localhost", with(func(c *mail.Client) { c.Addr = netip.Addr{} }), 250},
		{"PORT=65536", with(func(c *mail.Client) { c.Port = 0 }), 250},
		{"PORT=-1", with(func(c *mail.Client) { c.Port = 0 }), 250},
		{"SOURCE=elsewhere", with(func(c *mail.Client) { c.Source = "" }), 250},
		{"PROTO=E;SMTP", with(func(c *mail.Client) { c.Proto = "" }), 250},
		// a stranger's long greeting does not take the queue id away
		{"IDENT=new HELO=" + strings.Repeat("x", 256), with(func(c *mail.Client) { c.Ident, c.Helo = "new", "" }), 250},
		{"NAME=new LOGIN=me", before, 501},
		{"LOGIN=me", before, 501},
		{"=x", before, 501},
	} {
		got, _, wrong := xforward(before, c.arg)
		if got != c.want || (wrong != nil) != (c.code == 501) {
			t.Errorf("%q: %+v, %v; want %+v, %d", c.arg, got, wrong, c.want, c.code)
		}
	}
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"plain", "a+2Bb", "+", "+4", "+C3+A4", "+0A", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := xtext(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q: %q", s, got)
		}
		var enc strings.Builder
		for _, b := range []byte(got) {
			enc.WriteByte('+')
			enc.WriteByte("0123456789ABCDEF"[b>>4])
			enc.WriteByte("0123456789ABCDEF"[b&15])
		}
		if again := xtext(enc.String()); again != got {
			t.Fatalf("%q: encoded and decoded %q", got, again)
		}
	})
}
