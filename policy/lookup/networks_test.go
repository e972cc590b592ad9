package lookup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestNetworks(t *testing.T) {
	t.Parallel()
	article := []string{"!84.200.7.154/32", "84.200.7.144/28"}
	tests := []struct {
		list  []string
		addr  string
		entry string // "" for no match
	}{
		{article, "84.200.7.149", "84.200.7.144/28"},
		{article, "84.200.7.154", ""},
		{article, "84.200.7.160", ""},
		{article, "::ffff:84.200.7.149", "84.200.7.144/28"},
		{article, "", ""},
		// the first entry decides, not the longest prefix
		{[]string{"84.200.7.144/28", "!84.200.7.154"}, "84.200.7.154", "84.200.7.144/28"},
		{[]string{"10.0.0.0/8", "10.1.0.0/16"}, "10.1.2.3", "10.0.0.0/8"},
		{[]string{"10.1.0.0/16", "10.0.0.0/8"}, "10.1.2.3", "10.1.0.0/16"},
		{[]string{"!10.0.0.0/8", "10.0.0.0/8"}, "10.1.2.3", ""},
		{[]string{"10.1.2.3", "!10.0.0.0/8", "0.0.0.0/0"}, "10.1.2.3", "10.1.2.3"},
		{[]string{"10.1.2.3", "!10.0.0.0/8", "0.0.0.0/0"}, "10.1.2.4", ""},
		{[]string{"10.1.2.3", "!10.0.0.0/8", "0.0.0.0/0"}, "11.1.2.4", "0.0.0.0/0"},
		// a plain address is that address only
		{[]string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"192.0.2.1"}, "192.0.2.2", ""},
		{[]string{"2001:db8::1"}, "2001:db8::1", "2001:db8::1"},
		{[]string{"2001:db8::1"}, "2001:db8::2", ""},
		// brackets, host bits, zones, mapped addresses
		{[]string{"[::1]"}, "::1", "[::1]"},
		{[]string{"[fe80::]/10"}, "fe80::1%eth0", "[fe80::]/10"},
		{[]string{"! [2001:db8::]/32", "::/0"}, "2001:db8::5", ""},
		{[]string{"10.9.8.7/8"}, "10.1.2.3", "10.9.8.7/8"},
		{[]string{"::ffff:10.0.0.0/104"}, "10.1.2.3", "::ffff:10.0.0.0/104"},
		{[]string{"::ffff:10.1.2.3"}, "::ffff:10.1.2.3", "::ffff:10.1.2.3"},
		// one family says nothing about the other
		{[]string{"::/0"}, "10.1.2.3", ""},
		{[]string{"0.0.0.0/0"}, "::1", ""},
		// an unknown client is in no network, whatever the list
		{[]string{"0.0.0.0/0", "::/0"}, "", ""},
		{nil, "10.1.2.3", ""},
	}
	for _, tt := range tests {
		n, err := ParseNetworks("", tt.list)
		if err != nil {
			t.Errorf("%q: %v", tt.list, err)
			continue
		}
		var a netip.Addr
		if tt.addr != "" {
			a = netip.MustParseAddr(tt.addr)
		}
		entry, ok := n.Match(a)
		if entry != tt.entry || ok != (tt.entry != "") {
			t.Errorf("%q holds %q: got %q %v, want %q", tt.list, tt.addr, entry, ok, tt.entry)
		}
	}
	if _, ok := (*Networks)(nil).Match(netip.MustParseAddr("::1")); ok {
		t.Error("a nil list matched")
	}
}

func TestNetworkMistakes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "!", "10", "10/8", "10.0.0/24", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/",
		"010.0.0.1", "localhost", "::1/129", "[::1", "::1]", "[::1/128]", "[10.0.0.1]", "fe80::1%eth0",
		"::ffff:10.0.0.0/8", "!!10.0.0.1", "10.0.0.1 10.0.0.2", "10.0.0.0/255.0.0.0",
	} {
		if _, err := ParseNetworks("", []string{s}); err == nil {
			t.Errorf("%q was taken for a network", s)
		} else if !strings.Contains(err.Error(), "network ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: message %q", s, err)
		}
	}
	_, err := ParseNetworks("", []string{"a", "10.0.0.0/8", "b", "file:missing"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"a"`, `"b"`, "missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the mistakes: %v", want, err)
		}
	}
}

func TestNetworkFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "own.txt", "# offices\n\n 10.0.0.0/8  # Berlin\n!192.0.2.7\t# the proxy\r\n192.0.2.0/24\n")
	n, err := ParseNetworks(dir, []string{"!10.1.0.0/16", "file:own.txt", "0.0.0.0/0"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.1.0.1": "", "10.2.0.1": "10.0.0.0/8 (own.txt:3)", "192.0.2.7": "",
		"192.0.2.8": "192.0.2.0/24 (own.txt:5)", "198.51.100.1": "0.0.0.0/0",
	} {
		if got, _ := n.Match(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	write(t, dir, "bad.txt", "10.0.0.0/8\nten\n")
	if _, err := ParseNetworks(dir, []string{"file:bad.txt"}); err == nil || !strings.HasPrefix(err.Error(), "bad.txt:2: ") {
		t.Errorf("mistake in a file: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "."} {
		if _, err := ParseNetworks(dir, []string{"file:" + name}); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// matchInOrder is the definition of Match.
func matchInOrder(list []string, a netip.Addr) string {
	for _, s := range list {
		text, not := strings.CutPrefix(s, "!")
		p, err := parsePrefix(strings.TrimSpace(text))
		if err != nil || !p.Contains(a.Unmap().WithZone("")) {
			continue
		}
		if not {
			return ""
		}
		return s
	}
	return ""
}

func TestNetworksKeepOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	// few different bits, so that networks overlap
	addr := func() netip.Addr {
		if r.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0: 0x20, 1: byte(r.IntN(4)), 15: byte(r.IntN(4))})
		}
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))})
	}
	for range 200 {
		var list []string
		for range 1 + r.IntN(30) {
			a := addr()
			s := fmt.Sprintf("%s/%d", a, r.IntN(a.BitLen()+1))
			if r.IntN(3) == 0 {
				s = "!" + s
			}
			list = append(list, s)
		}
		n, err := ParseNetworks("", list)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			a := addr()
			if got, _ := n.Match(a); got != matchInOrder(list, a) {
				t.Fatalf("%s in %q: got %q, want %q", a, list, got, matchInOrder(list, a))
			}
		}
	}
}

func FuzzNetworks(f *testing.F) {
	f.Add("!84.200.7.154/32\n84.200.7.144/28", "84.200.7.149")
	f.Add("[::1]\n::ffff:10.0.0.0/104\nfe80::/10", "::ffff:10.2.3.4")
	f.Add("10.0.0.0/8\n!0.0.0.0/0", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, text, addr string) {
		var list []string
		for _, s := range strings.Split(text, "\n") {
			if s = strings.TrimSpace(s); !strings.HasPrefix(s, "file:") {
				list = append(list, s)
			}
		}
		n, err := ParseNetworks("", list)
		if err != nil {
			return
		}
		a, _ := netip.ParseAddr(addr)
		want := ""
		if a.IsValid() {
			want = matchInOrder(list, a)
		}
		if got, _ := n.Match(a); got != want {
			t.Errorf("%s in %q: got %q, want %q", a, list, got, want)
		}
	})
}
