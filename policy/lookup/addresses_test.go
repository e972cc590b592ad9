package lookup

import (
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

func TestFindOrder(t *testing.T) {
	t.Parallel()
	// every key that can match, the rule being the key itself
	var table Addresses[string]
	keys := []string{
		"user+ext@sub.dom.example", "user@sub.dom.example", "user+ext@", "user@",
		"/^user.*@sub/", "/dom/", "sub.dom.example",
		".sub.dom.example", ".dom.example", ".example", ".",
	}
	for i := range keys {
		// regular expressions keep the order of the file, all else goes by kind
		k := keys[len(keys)-1-i]
		if strings.HasPrefix(k, "/") {
			k = keys[slices.Index(keys, "/^user.*@sub/")+slices.Index(keys, "/dom/")-slices.Index(keys, k)]
		}
		if err := table.Add(k, k); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		addr string
		want []string
	}{
		{"user+ext@sub.dom.example", keys},
		{"User+EXT@Sub.DOM.example.", keys},
		{`"user+ext"@sub.dom.example`, keys},
		{"user@sub.dom.example", []string{"user@sub.dom.example", "user@", "/^user.*@sub/", "/dom/", "sub.dom.example", ".sub.dom.example", ".dom.example", ".example", "."}},
		{"user+other@sub.dom.example", []string{"user@sub.dom.example", "user@", "/^user.*@sub/", "/dom/", "sub.dom.example", ".sub.dom.example", ".dom.example", ".example", "."}},
		{"user+@else.test", []string{"user@", "."}},
		{"user+ext@dom.example", []string{"user+ext@", "user@", "/dom/", ".dom.example", ".example", "."}},
		{"other@sub.dom.example", []string{"/dom/", "sub.dom.example", ".sub.dom.example", ".dom.example", ".example", "."}},
		{"other@a.b.sub.dom.example", []string{"/dom/", ".sub.dom.example", ".dom.example", ".example", "."}},
		{"other@xsub.dom.example", []string{"/dom/", ".dom.example", ".example", "."}},
		{"other@notexample", []string{"."}},
		{"user", []string{"user@", "."}},
		{"+ext@else.test", []string{"."}},
		{"x@[192.0.2.1]", []string{"."}},
		{"", []string{"."}},
	}
	for _, tt := range tests {
		if got := table.Find(mail.Address(tt.addr)); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.addr, got, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key, addr string
		want      bool
	}{
		{"a@b.test", "a@b.test", true},
		{"a@b.test", "A@B.TEST", true},
		{"A@B.test", "a@b.test", true},
		{"a@b.test", "a@x.b.test", false},
		{"a@b.test", "xa@b.test", false},
		{"a+x@b.test", "a@b.test", false},
		{"a+x@b.test", "a+x@b.test", true},
		{"a+x@b.test", "a+x+y@b.test", false},
		{"a@b.test", "a+x+y@b.test", true},
		{"a@", "a@anything.test", true},
		{"b.test", "a@b.test", true},
		{"b.test", "a@x.b.test", false},
		{".b.test", "a@b.test", true},
		{".b.test", "a@x.b.test", true},
		{".b.test", "a@xb.test", false},
		{".", "a@b.test", true},
		// quoting is not part of a local part
		{`"a b"@b.test`, `"a b"@b.test`, true},
		{`"a b"@b.test`, `"a\ b"@b.test`, true},
		{`a@b.test`, `"a"@b.test`, true},
		{`"a@evil.test"@b.test`, `"a@evil.test"@b.test`, true},
		{"evil.test", `"a@evil.test"@b.test`, false},
		// not RFC 5321, but seen
		{".a@b.test", ".a@b.test", true},
		{".a@b.test", "x@x.a@b.test", false},
		{`""@b.test`, `""@b.test`, true},
		{`""@b.test`, "+x@b.test", false},
		{"a@evil.test", `"a@evil.test"`, false},
		// both spellings of an international domain
		{"bücher.test", "a@xn--bcher-kva.test", true},
		{"xn--bcher-kva.test", "a@bücher.test", true},
		{".BÜCHER.test", "a@x.bücher.TEST", true},
		{"jürgen@b.test", "JÜRGEN@b.test", true},
		// a domain that is no IDN is still compared
		{"-ü.test", "a@-Ü.test", true},
		// domain literals
		{"[192.0.2.1]", "a@[192.0.2.1]", true},
		{".2.1]", "a@[192.0.2.1]", false},
		// regular expressions
		{"/^sales-[0-9]+@b\\.test$/", "Sales-12@B.test", true},
		{"/^SALES@/", "sales@b.test", true},
		{"/^sales-[0-9]+@b\\.test$/", "sales-x@b.test", false},
		{"/a|b/", "xbx@c.test", true},
	}
	for _, tt := range tests {
		var table Addresses[bool]
		if err := table.Add(tt.key, true); err != nil {
			t.Errorf("%s: %v", tt.key, err)
			continue
		}
		if got := len(table.Find(mail.Address(tt.addr))) > 0; got != tt.want {
			t.Errorf("key %s, address %s: got %v", tt.key, tt.addr, got)
		}
	}
}

func TestAddressKeyMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "vip.txt", "a@b.test\n@b.test # wrong\n/x/ # wrong\n")
	for key, want := range map[string]string{
		"":             "empty",
		"!a@b.test":    "exclusions",
		"@b.test":      `".b.test"`,
		"*@b.test":     "wildcards",
		"*.b.test":     "wildcards",
		"a@b.test c":   "blank",
		"a b@c.test":   "blank",
		"a@.b.test":    "empty label",
		"b..test":      "empty label",
		"..":           "empty label",
		"/a":           "slashes",
		"//":           "slashes",
		"/(/":          "missing closing",
		"/(?=x)/":      "invalid or unsupported",
		"file:nowhere": "nowhere",
		"file:vip.txt": "vip.txt:2: ",
	} {
		err := CheckAddresses(dir, []string{key})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", key, err, want)
		}
	}
	if err := CheckAddresses(dir, []string{"a@b.test", "a@", ".", ".test", "test", "/x #y/", `"a b"@c.test`}); err != nil {
		t.Error(err)
	}
	if err := CheckAddresses(dir, []string{"file:vip.txt"}); !strings.Contains(err.Error(), "vip.txt:3: ") {
		t.Errorf("the second mistake is not reported: %v", err)
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "domains.txt", "# ours\n.three.test\nfour.test # only\n")
	tests := []struct {
		list   []string
		domain string
		want   bool
	}{
		{[]string{".no-uce.de", ".jeanbruenn.info"}, "jeanbruenn.info", true},
		{[]string{".no-uce.de", ".jeanbruenn.info"}, "mail.no-uce.de", true},
		{[]string{".no-uce.de", ".jeanbruenn.info"}, "gmail.com", false},
		{[]string{".no-uce.de", ".jeanbruenn.info"}, "no-uce.de.evil.test", false},
		{[]string{".no-uce.de", ".jeanbruenn.info"}, "xno-uce.de", false},
		{[]string{"one.test"}, "one.test", true},
		{[]string{"one.test"}, "ONE.test.", true},
		{[]string{"one.test"}, "sub.one.test", false},
		{[]string{"!guest.one.test", ".one.test"}, "guest.one.test", false},
		{[]string{"!guest.one.test", ".one.test"}, "x.guest.one.test", true},
		{[]string{"!.guest.one.test", ".one.test"}, "x.guest.one.test", false},
		// the first entry decides, not the most specific one
		{[]string{".one.test", "!guest.one.test"}, "guest.one.test", true},
		{[]string{"one.test", "!one.test"}, "one.test", true},
		{[]string{"!one.test", "one.test"}, "one.test", false},
		{[]string{"!.evil.test", "."}, "any.test", true},
		{[]string{"!.evil.test", "."}, "evil.test", false},
		{[]string{"."}, "", false},
		{nil, "one.test", false},
		{[]string{".bücher.test"}, "xn--bcher-kva.test", true},
		{[]string{".xn--bcher-kva.test"}, "x.BÜCHER.test", true},
		{[]string{"file:domains.txt"}, "x.three.test", true},
		{[]string{"file:domains.txt"}, "four.test", true},
		{[]string{"!x.three.test", "file:domains.txt"}, "x.three.test", false},
	}
	for _, tt := range tests {
		d, err := ParseDomains(dir, tt.list)
		if err != nil {
			t.Errorf("%q: %v", tt.list, err)
		} else if got := d.Match(tt.domain); got != tt.want {
			t.Errorf("%q in %q: got %v", tt.domain, tt.list, got)
		}
	}
	for _, s := range []string{"", "!", "a@b.test", "@b.test", "*.b.test", "a b", "a..b", "..b", "/x/", "!!a.test"} {
		if _, err := ParseDomains(dir, []string{s}); err == nil {
			t.Errorf("%q was taken for a domain", s)
		}
	}
}

func FuzzAddressKeys(f *testing.F) {
	f.Add("user+ext@sub.dom", "user+ext@sub.dom")
	f.Add(".bücher.test", "a@xn--bcher-kva.test")
	f.Add(`"a b"@c.test`, `"a\ b"@c.test`)
	f.Add("/^x/", "x@y.test")
	f.Add(".", "")
	f.Fuzz(func(t *testing.T, key, addr string) {
		var table Addresses[string]
		if table.Add(key, key) == nil && !strings.HasPrefix(key, "/") {
			probe := mail.Address(key)
			switch local, domain := probe.Split(); {
			case strings.HasPrefix(key, ".") && !strings.Contains(key, "@"):
				probe = mail.Address("any@x" + key)
				if key == "." {
					probe = "any@x"
				}
			case !strings.Contains(key, "@"):
				probe = "any@" + probe
			case domain == "":
				probe = mail.Address(local + "@any.test")
			}
			if len(table.Find(probe)) != 1 {
				t.Errorf("key %q does not match %q", key, probe)
			}
		}
		table = Addresses[string]{}
		for _, k := range []string{addr, addr + "@", "."} {
			_ = table.Add(k, k)
		}
		if got := table.Find(mail.Address(addr)); got == nil || got[len(got)-1] != "." {
			t.Errorf("%q: the key for all did not match: %q", addr, got)
		}
	})
}
