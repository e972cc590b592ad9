package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"postern/cmd/postern/demo"
)

var update = flag.Bool("update", false, "write what is printed into the test files")

// changing are the parts of the output that no two runs share, and the checks
// that found nothing, of which there may be more.
var changing = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`mail_id: \S+,`), "mail_id: ID,"},
	{regexp.MustCompile(`, \d+ ms\b`), ", 0 ms"},
	{regexp.MustCompile(`"ms": [0-9.]+`), `"ms": 0`},
	{regexp.MustCompile(`\{\s+"check": "\w+",\s+"ms": 0\s+\},?\s*`), ""},
	{regexp.MustCompile(`\},\s+\],`), "} ],"},
	{regexp.MustCompile(`(?m)^(checks)? +(\w+), [0-9.]+[µm]?s: `), "check $2: "},
	{regexp.MustCompile(`(?m)^check \w+: nothing found\n`), ""},
}

// runScript compares what commands print. Sections of the file that begin with
// the name of a command are the command line and the output; the others are
// files. JSON is compared too: it is an interface for programs.
func runScript(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := 0
	for i := range archive.Files {
		f := &archive.Files[i]
		args := strings.Fields(f.Name)
		if len(args) == 1 && strings.Contains(f.Name, ".") {
			text := strings.NewReplacer("EICAR", demo.EICAR, "[CR]", "\r").Replace(string(f.Data))
			if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		commands++
		for k, a := range args {
			if _, err := os.Stat(filepath.Join(dir, a)); err == nil {
				args[k] = filepath.Join(dir, a)
			}
		}
		if !slices.Contains(args, "-c") && !slices.Contains(args, "--diff") {
			args = append(args, "-c", filepath.Join(dir, "postern.yaml"))
		}
		got, code, err := postern(t, args...)
		if err != nil && err.Error() != "" {
			got += err.Error() + "\n"
		}
		if code != 0 {
			got += fmt.Sprintf("exit code %d\n", code)
		}
		got = strings.ReplaceAll(got, dir+"/", "")
		for _, c := range changing {
			got = c.re.ReplaceAllString(got, c.by)
		}
		if *update {
			f.Data = []byte(got)
		} else if got != string(f.Data) {
			t.Errorf("%s:\n%s\nwant:\n%s", f.Name, got, f.Data)
		}
	}
	if commands == 0 {
		t.Error("no commands")
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/explain.txtar")
}

func TestBeforeTheQueue(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/milter.txtar")
}

func TestExplainErrors(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", testedConfig, "mbox", "From a@b.c Mon Nov  2 10:00:00 2026\nFrom: a@b.c\n\nx\n",
		"large.eml", "From: a@b.c\n\n"+strings.Repeat("x\n", 100000))
	file := filepath.Join(dir, "postern.yaml")
	if err := os.WriteFile(file, []byte(testedConfig+"limits: {message_size: 256KiB}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--to <a@b.c", exitUsage, `"<a@b.c" is no address`},
		{"--to nonsense", exitUsage, `"nonsense" is no address: want user@example.org`},
		{"--to a@b@c.test", exitUsage, `"a@b@c.test" is no address`},
		{"--to a@b..c", exitUsage, `"a@b..c" is no address`},
		{"--to a@", exitUsage, `"a@" is no address`},
		{"--to a;b@c.test", exitUsage, `"a;b@c.test" is no address`},
		{"--to a@[192.0.2.300]", exitUsage, `"a@[192.0.2.300]" is no address`},
		{"--from b.c --to a@b.c", exitUsage, `--from: "b.c" is no address`},
		{"--to <>", exitUsage, `"<>" is no recipient`},
		{"--to a@b.c --from <<a@b.c>>", exitUsage, `"<<a@b.c>>" is no address`},
		{"--to a@b.c " + dir + "/mbox", exitUsage, "a mailbox, not a message"},
		{"--to a@b.c " + dir + "/large.eml", exitUsage, "it would be refused with 552, since limits.message_size is 256KiB (" + file + ":"},
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

// An address may be given as it stands in the log.
func TestExplainBrackets(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, "postern.yaml", testedConfig)
	ask := func(from, to, client string) string {
		out, code, err := postern(t, "explain", "-c", dir+"/postern.yaml", "--from", from, "--to", to, "--client", client)
		if code != 0 || err != nil {
			t.Fatal(code, err)
		}
		return out
	}
	if plain, brackets := ask("a@example.org", `"a b"@example.org`, "192.0.2.7"), ask("<a@example.org>", `<"a b"@example.org>`, "[192.0.2.7]"); plain != brackets {
		t.Errorf("without brackets:\n%s\nwith them:\n%s", plain, brackets)
	}
	for _, odd := range []string{"a..b@example.org", `"a@b"@example.org`, "a@[192.0.2.7]", "a@[IPv6:2001:db8::1]", "jürgen@münchen.example", "a=b+c@x_y.example"} {
		ask(odd, odd, "")
	}
	if plain, brackets := ask("", "b@example.org", ""), ask("<>", "b@example.org", ""); plain != brackets {
		t.Errorf("null sender:\n%s\nwith brackets:\n%s", plain, brackets)
	}
}

func TestExplainSigners(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/signers.txtar")
}
