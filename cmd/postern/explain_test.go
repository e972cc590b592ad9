package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what is printed into the test files")

// changing are the parts of the output that no two runs share.
var changing = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`mail_id: \S+,`), "mail_id: ID,"},
	{regexp.MustCompile(`, \d+ ms\b`), ", 0 ms"},
	{regexp.MustCompile(`"ms": [0-9.]+`), `"ms": 0`},
	{regexp.MustCompile(`(checks +\w+), [0-9.]+[µm]?s:`), "$1, 0s:"},
}

// TestExplain compares text and JSON, which is an interface for programs.
func TestExplain(t *testing.T) {
	t.Parallel()
	const file = "testdata/explain.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := 0
	for i := range archive.Files {
		f := &archive.Files[i]
		command, ok := strings.CutPrefix(f.Name, "explain ")
		if !ok {
			text := strings.Replace(string(f.Data), "EICAR", eicar, 1)
			if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		commands++
		args := append([]string{"explain", "-c", filepath.Join(dir, "postern.yaml")}, strings.Fields(command)...)
		if last := len(args) - 1; strings.HasSuffix(args[last], ".eml") {
			args[last] = filepath.Join(dir, args[last])
		}
		got, _, err := postern(t, args...)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		got = strings.ReplaceAll(got, dir+"/", "")
		for _, c := range changing {
			got = c.re.ReplaceAllString(got, c.by)
		}
		if *update {
			f.Data = []byte(got)
		} else if got != string(f.Data) {
			t.Errorf("%s:\n%s\nwant:\n%s", command, got, f.Data)
		}
	}
	if commands < 6 {
		t.Errorf("only %d commands", commands)
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExplainErrors(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", testedConfig)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--from a@b.c", exitUsage, `"to" not set`},
		{"--to a@b.c --listener 127.0.0.1:1", exitUsage, "there are 127.0.0.1:10023, 127.0.0.1:10024"},
		{"--to a@b.c --client localhost", exitUsage, `"localhost" is no IP address`},
		{"--to a@b.c " + dir + "/none.eml", exitUsage, "no such file"},
		{"--to a@b.c --bank NONE", exitUsage, `there is no bank "NONE"`},
	} {
		_, code, err := postern(t, append([]string{"explain", "-c", dir + "/postern.yaml"}, strings.Fields(tt.args)...)...)
		if code != tt.code || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: code %d, %v; want %d, %s", tt.args, code, err, tt.code, tt.want)
		}
	}
}
