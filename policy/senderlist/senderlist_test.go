package senderlist

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filter/mail"
)

func rule(t *testing.T, as Meaning, verified *bool, keys ...string) Rule {
	t.Helper()
	r := Rule{Match: keys, As: as, Verified: verified}
	r.At("postern.yaml:" + string(as))
	if err := r.Compile(""); err != nil {
		t.Fatal(err)
	}
	return r
}

// The first entry that holds decides, and an entry that asks for proof holds for
// nobody who has none.
func TestFind(t *testing.T) {
	t.Parallel()
	no, yes := false, true
	rules := []Rule{
		rule(t, Whitelisted, nil, "ann@a.test"),
		rule(t, Whitelisted, &no, "bob@a.test"),
		rule(t, Blacklisted, &yes, "cat@a.test"),
		rule(t, Neutral, nil, "dan@a.test"),
		rule(t, Blacklisted, nil, ".a.test"),
	}
	for _, tt := range []struct {
		senders  []Sender
		want     Meaning
		unproven int
	}{
		{[]Sender{{Address: "ann@a.test", Proof: "SPF"}}, Whitelisted, 0},
		{[]Sender{{Address: "ann@a.test"}}, Blacklisted, 1},
		{[]Sender{{Address: "ANN@A.TEST"}, {Address: "ann@a.test"}}, Blacklisted, 1},
		{[]Sender{{Address: "ann@a.test"}, {Address: "ann@a.test", Proof: "DMARC"}}, Whitelisted, 0},
		{[]Sender{{Address: "bob@a.test"}}, Whitelisted, 0},
		{[]Sender{{Address: "cat@a.test"}}, Blacklisted, 1},
		{[]Sender{{Address: "dan@a.test"}}, Neutral, 0},
		{[]Sender{{Address: "x@sub.a.test"}}, Blacklisted, 0},
		{[]Sender{{Address: "x@b.test"}, {Address: "y@a.test"}}, Blacklisted, 0},
		{[]Sender{{Address: "x@b.test"}}, "", 0},
		{[]Sender{{Address: ""}}, "", 0},
		{nil, "", 0},
	} {
		hit, unproven := Find(rules, tt.senders)
		got := Meaning("")
		if hit != nil {
			got = hit.Rule.As
		}
		if got != tt.want || len(unproven) != tt.unproven {
			t.Errorf("%v: %q, %d not proven", tt.senders, got, len(unproven))
		}
	}
	if hit, _ := Find([]Rule{{Match: []string{"."}, As: Blacklisted}}, []Sender{{Address: "x@b.test"}}); hit != nil {
		t.Error("an entry that was never compiled holds")
	}
}

func TestFileOfSenders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "unwanted"), []byte("x@a.test # since May\n.b.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Rule{Match: []string{"file:unwanted"}, As: Blacklisted}
	r.At("postern.yaml:1")
	if err := r.Compile(dir); err != nil {
		t.Fatal(err)
	}
	if hit, _ := Find([]Rule{r}, []Sender{{Address: "z@sub.b.test"}}); hit == nil || hit.Rule.Place() != "postern.yaml:1" {
		t.Errorf("%v", hit)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for row, want := range map[string]string{
		"a@b.test": "a@b.test", "@b.test": "b.test", "@.b.test": ".b.test", "@.": ".", "a@": "a@", "a": "a@", " a@b.test ": "a@b.test",
	} {
		if got, err := Key(row); got != want || err != nil {
			t.Errorf("%q: %q, %v", row, got, err)
		}
	}
	for _, row := range []string{"", "@", " ", "/x/", "@/x/", "a b", "*@b.test", "a@b..test"} {
		if got, err := Key(row); err == nil {
			t.Errorf("%q: %q", row, got)
		}
	}
}

// No row of a database makes an entry that cannot be entered, or a pattern.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"a@b.test", "@.", "@/x/", `"a b"@c`, "user"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, row string) {
		key, err := Key(row)
		if err != nil {
			return
		}
		r, err := New("row", []string{key}, Blacklisted, 0, false)
		if err != nil || strings.HasPrefix(key, "/") {
			t.Fatalf("%q: %q: %v", row, key, err)
		}
		Find([]Rule{r}, []Sender{{Address: mail.Address(row)}})
	})
}
