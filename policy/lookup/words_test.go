package lookup

import (
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "staff.txt", "# ours\nann\nbob@b.test # him\n")
	for _, tt := range []struct {
		list  []string
		fold  bool
		name  string
		entry string // "" for no match
	}{
		{[]string{"ann", "bob"}, true, "bob", "bob"},
		{[]string{"ann", "bob"}, true, "BOB", "bob"},
		{[]string{"ann", "BOB"}, true, "bob", "BOB"},
		{[]string{"ann", "bob"}, false, "BOB", ""},
		{[]string{"\u212ate"}, true, "kate", ""}, // the sign for kelvin
		{[]string{"kate"}, true, "\u212ate", ""},
		// a name is the whole name
		{[]string{"ann"}, true, "ann@b.test", ""},
		{[]string{"ann@b.test"}, true, "ann", ""},
		{[]string{"ann"}, true, "annabel", ""},
		// the first entry decides
		{[]string{"!guest", "*"}, true, "guest", ""},
		{[]string{"!guest", "*"}, true, "ann", "*"},
		{[]string{"*", "!guest"}, true, "guest", "*"},
		{[]string{"guest", "!guest"}, true, "guest", "guest"},
		{[]string{"!guest", "guest"}, true, "Guest", ""},
		{[]string{"!*", "ann"}, true, "ann", ""},
		// who has no name is nobody, and a client that calls itself so is no wildcard
		{[]string{"*"}, true, "", ""},
		{[]string{"ann"}, true, "*", ""},
		{nil, true, "ann", ""},
		{[]string{"file:staff.txt"}, true, "Bob@B.test", "bob@b.test (staff.txt:3)"},
		{[]string{"!ann", "file:staff.txt"}, true, "ann", ""},
	} {
		w, err := ParseWords(dir, tt.list, tt.fold)
		if err != nil {
			t.Errorf("%q: %v", tt.list, err)
		} else if got, ok := w.Match(tt.name); got != tt.entry || ok != (got != "") {
			t.Errorf("%q in %q: got %q, want %q", tt.name, tt.list, got, tt.entry)
		}
	}
	if _, ok := (*Words)(nil).Match("ann"); ok {
		t.Error("a nil list matched")
	}
	for s, want := range map[string]string{
		"": "empty", "!": "empty", "!!a": "one exclamation", "a*": "whole name", "*@b.test": "whole name",
		"/a/": "regular", "a b": "entry of its own", "a,b": "entry of its own", "file:nowhere": "nowhere",
	} {
		if _, err := ParseWords(dir, []string{s}, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", s, err, want)
		}
	}
}
