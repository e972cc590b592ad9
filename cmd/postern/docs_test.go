package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/policy"
)

// What the documents show must work as it stands there.

func readDoc(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fenced returns the code blocks of a language, without their indentation.
func fenced(doc, lang string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^( *)```"+lang+"\n(.*?)^ *```").FindAllStringSubmatch(doc, -1) {
		out = append(out, strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n"))
	}
	return out
}

func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	blocks := fenced(readDoc(t, "README.md"), "yaml")
	if len(blocks) == 0 {
		t.Fatal("README.md has no configuration")
	}
	for _, b := range blocks {
		if _, err := policy.Parse("README.md", []byte("hostname: mail.example.org\n"+b), engines()); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
	}
	examples, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatal("no examples", err)
	}
	for _, e := range examples {
		if strings.HasSuffix(e, ".test.yaml") {
			continue
		}
		if _, err := policy.Load(e, engines()); err != nil {
			t.Error(err)
		}
	}
}

// Every command and flag that a document names exists.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	used := regexp.MustCompile("(?m)(?:`|^ {4,})(?:go run \\./cmd/)?postern ([a-z][^`\n]*)")
	n := 0
	for _, doc := range []string{"README.md", "CHANGELOG.md", "deploy/postfix/README.md"} {
		for _, m := range used.FindAllStringSubmatch(readDoc(t, doc), -1) {
			words := strings.Fields(m[1])
			cmd, rest, err := newRoot().Find(words)
			if err != nil || cmd.Name() == "postern" {
				t.Errorf("%s: there is no command %q", doc, m[1])
				continue
			}
			n++
			for _, w := range rest {
				name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
				if strings.HasPrefix(w, "--") && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: %q has no flag %s", doc, m[1], w)
				}
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d commands found", n)
	}
}

// The commands for Postfix that the README names hold every line of the files.
func TestDocumentedPostfixLines(t *testing.T) {
	t.Parallel()
	if !strings.Contains(readDoc(t, "README.md"), "\n       postern postfix show --commands\n") {
		t.Error("README.md does not say how to set Postfix up")
	}
	commands, _, err := postern(t, "postfix", "show", "--commands", "-c", writeFiles(t, "postern.yaml", plainConfig)+"/postern.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commands = strings.NewReplacer("'", "", " = ", "=").Replace(commands)
	n := 0
	for _, file := range []string{"master.cf", "main.cf"} {
		for line := range strings.Lines(readDoc(t, "deploy/postfix/"+file)) {
			if line[0] == '#' || strings.TrimSpace(line) == "" {
				continue
			}
			n++
			if want := strings.ReplaceAll(strings.Join(strings.Fields(line), " "), " = ", "="); !strings.Contains(commands, want) {
				t.Errorf("%s has %q, the commands have not:\n%s", file, want, commands)
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d lines in the files", n)
	}
}

// The README names the Go that the module asks for.
func TestDocumentedGo(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(readDoc(t, "go.mod"))
	if m == nil || !strings.Contains(readDoc(t, "README.md"), "It needs Go "+m[1]+" or\n") {
		t.Errorf("README.md does not say that a build needs Go %q", m)
	}
}
