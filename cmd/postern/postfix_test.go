package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"postern/deploy/postfix"
)

var updatePostfix = flag.Bool("update-postfix", false, "write what testdata/postfix says into its cases")

// aPostfix is a Postfix 3.7.11 that is set up with the shipped pieces.
type aPostfix struct{ main, master string }

const plainMain = `mail_version = 3.7.11
compatibility_level = 3.6
mynetworks = 127.0.0.0/8 192.0.2.0/24
`

const plainMaster = `smtp inet n - y - - smtpd -o content_filter=amavisfeed:[127.0.0.1]:10024
submission inet n - y - - smtpd -o content_filter=amavisfeed:[127.0.0.1]:10023 -o local_header_rewrite_clients=static:all
pickup unix n - y 60 1 pickup
cleanup unix n - y - 0 cleanup
smtp unix - - y - - smtp
lmtp unix - - y - - lmtp
`

const plainConfig = "local_domains: [.example.org]\nown_networks: [192.0.2.0/24]\n"

func shippedPostfix(t testing.TB) aPostfix {
	t.Helper()
	p := aPostfix{plainMain, plainMaster}
	for name, to := range map[string]*string{"main.cf": &p.main, "master.cf": &p.master} {
		text, err := os.ReadFile(filepath.Join("../../deploy/postfix", name))
		if err != nil {
			t.Fatal(err)
		}
		*to += string(text)
	}
	return p
}

// with lays entries of the same kind over text: one with the same key takes
// the place of the old one, "- key" removes it.
func with(text, changes string, key func(string) string) string {
	entries := func(s string) []string {
		var out []string
		for line := range strings.Lines(s) {
			if strings.HasPrefix(line, " ") && len(out) > 0 {
				out[len(out)-1] += line
			} else if strings.TrimSpace(line) != "" && line[0] != '#' {
				out = append(out, line)
			}
		}
		return out
	}
	var b strings.Builder
	rest := entries(changes)
	for _, e := range entries(text) {
		k := key(e)
		for i, c := range rest {
			if removed, ok := strings.CutPrefix(c, "- "); ok && strings.TrimSpace(removed) == k {
				e = ""
			} else if !ok && c != "" && key(c) == k {
				e, rest[i] = c, ""
			}
		}
		b.WriteString(e)
	}
	for _, c := range rest {
		if c != "" && !strings.HasPrefix(c, "- ") {
			b.WriteString(c)
		}
	}
	return b.String()
}

func mainKey(e string) string { return strings.Fields(e)[0] }

func masterKey(e string) string { return strings.Join(strings.Fields(e)[:2], "/") }

// judgePostfix runs the check on files.
func judgePostfix(t testing.TB, p aPostfix, config string, asJSON bool) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var out bytes.Buffer
	source := postfixSource{main: file("main", p.main), master: file("master", p.master)}
	err := checkPostfix(t.Context(), &out, file("postern.yaml", config), source, asJSON)
	return out.String(), err
}

// TestPostfixCheck runs testdata/postfix: each case says what differs from the
// shipped pieces in main, master (see with) and postern.yaml, and what is
// found.
func TestPostfixCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/postfix/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, config, want := shippedPostfix(t), plainConfig, -1
			for i, f := range archive.Files {
				switch f.Name {
				case "main":
					p.main = with(p.main, string(f.Data), mainKey)
				case "master":
					p.master = with(p.master, string(f.Data), masterKey)
				case "postern.yaml":
					config = string(f.Data)
				case "want":
					want = i
				default:
					t.Fatalf("%s: what is %q?", file, f.Name)
				}
			}
			got, err := judgePostfix(t, p, config, false)
			checkExit(t, err, !strings.HasPrefix(got, "good"))
			if *updatePostfix {
				if want < 0 {
					archive.Files, want = append(archive.Files, txtar.File{Name: "want"}), len(archive.Files)
				}
				archive.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want < 0 || string(archive.Files[want].Data) != got {
				t.Errorf("%s: got\n%s", file, got)
			}
		})
	}
}

func checkExit(t *testing.T, err error, found bool) {
	t.Helper()
	var e *exitError
	if found != (errors.As(err, &e) && e.code == exitFound && e.Error() == "") || !found && err != nil {
		t.Errorf("error %v, something found: %v", err, found)
	}
}

// What is shipped fits, and so does what show prints: both are what check
// takes for right.
func TestPostfixShipped(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3.5.25", "3.7.9", "3.7.11", "3.8.4", "3.8.6", "3.10.5"} {
		p := shippedPostfix(t)
		p.main = with(p.main, "mail_version = "+version+"\n", mainKey)
		if got, err := judgePostfix(t, p, plainConfig, false); err != nil {
			t.Errorf("Postfix %s: %v\n%s", version, err, got)
		}
	}
}

func TestPostfixCheckJSON(t *testing.T) {
	t.Parallel()
	p := shippedPostfix(t)
	p.main += "message_size_limit = 0\n"
	got, err := judgePostfix(t, p, plainConfig, true)
	checkExit(t, err, true)
	want := `{
  "mail_version": "3.7.11",
  "findings": [
    {
      "rule": "message-size",
      "where": "main.cf",
      "what": "message_size_limit is 0, limits.message_size of Postern is 104857600",
      "why": "Postfix takes mail that is too large for Postern. Let limits.message_size be at least as much, or lower the limit here.",
      "mend": [
        "postconf -e message_size_limit=104857600"
      ]
    }
  ]
}
`
	if got != want {
		t.Errorf("got %s", got)
	}
	got, err = judgePostfix(t, shippedPostfix(t), plainConfig, true)
	if err != nil || !strings.Contains(got, `"findings": []`) {
		t.Errorf("nothing found: %v, %s", err, got)
	}
}

// TestPostfixShow runs testdata/postfix/show: a configuration, the text that is
// printed for it, and the commands for a shell.
func TestPostfixShow(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/postfix/show/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases, %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil || len(archive.Files) != 3 {
			t.Fatalf("%s: %v, want postern.yaml, text and commands", file, err)
		}
		config := writeFiles(t, "postern.yaml", string(archive.Files[0].Data)) + "/postern.yaml"
		for i, args := range [][]string{nil, {"--commands"}} {
			got, code, err := postern(t, append([]string{"postfix", "show", "-c", config}, args...)...)
			if err != nil || code != 0 {
				t.Fatal(file, err, code)
			}
			if *updatePostfix {
				archive.Files[i+1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(archive.Files[i+1].Data); got != want {
				t.Errorf("%s %v: got\n%s", file, args, got)
			}
		}
	}
}

func TestPostfixShowJSON(t *testing.T) {
	t.Parallel()
	out, code, err := postern(t, "postfix", "show", "--json", "-c", writeFiles(t, "postern.yaml", plainConfig)+"/postern.yaml")
	var got postfix.Pieces
	if jsonErr := json.Unmarshal([]byte(out), &got); jsonErr != nil || err != nil || code != 0 {
		t.Fatal(jsonErr, err, code, out)
	}
	if got.Main["smtp_line_length_limit"] != "0" || len(got.Services) < 2 || got.Services[0].Service != "amavisfeed/unix" ||
		got.Services[0].Settings["lmtp_send_xforward_command"] != "yes" || !strings.HasPrefix(got.Services[0].Entry, "amavisfeed unix ") {
		t.Error(out)
	}
	if len(got.Add) != 2 || got.Add[0].Service != "submission/inet" || got.Add[0].Settings["local_header_rewrite_clients"] != "static:all" {
		t.Error(out)
	}
}

func TestPostfixCheckErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		main, master string
		config       string
		code         int
		says         string
	}{
		{"main.cf", "nonsense\n", "", plainConfig, exitOSErr, `main.cf: "nonsense" is no "name = value"`},
		{"master.cf", "", "smtp inet n\n", plainConfig, exitOSErr, "3 fields"},
		{"braces", "", "smtp inet n - - - - smtpd -o {a = b\n", plainConfig, exitOSErr, "{ without }"},
		{"config", "", "", "listner: []\n", exitConfig, "listner"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := judgePostfix(t, aPostfix{c.main, c.master}, c.config, false)
			var e *exitError
			if !errors.As(err, &e) || e.code != c.code || !strings.Contains(e.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
