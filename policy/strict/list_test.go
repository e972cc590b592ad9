package strict

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"list": "# comment\n\none # comment\ntwo#three\n/a #b/\n", "bad": "file:list\nx\x01\n" + strings.Repeat("y", maxEntry+1) + "\nz\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		list      []string
		want, err string
	}{
		{[]string{" a ", "file:list", "b"}, "a; one (list:3); two#three (list:4); /a #b/ (list:5); b", ""},
		{[]string{"file: " + filepath.Join(dir, "list")}, "one (list:3); two#three (list:4); /a #b/ (list:5)", ""},
		{[]string{"file:bad"}, "z (bad:4)", `bad:1: "file:list": a list cannot name another one` + "\n" + `bad:2: this is no entry of a list: "x\x01"` + "\n" +
			`bad:3: this is no entry of a list: "` + strings.Repeat("y", 60) + `..."`},
		{[]string{"file:", "a"}, "a", "want the path of a list after file:, not nothing"},
		{[]string{"file:."}, "", fmt.Sprintf("reading list %s: %s: no regular file", dir, dir)},
	} {
		entries, err := Expand(dir, tt.list)
		var got []string
		for _, e := range entries {
			got = append(got, e.String())
		}
		if s := strings.Join(got, "; "); s != tt.want || fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
			t.Errorf("%q gives %s, %v; want %s, %s", tt.list, s, err, tt.want, tt.err)
		}
	}
}
