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

// The lines for Postfix that the README shows are those of the files.
func TestDocumentedPostfixLines(t *testing.T) {
	t.Parallel()
	files := readDoc(t, "deploy/postfix/master.cf") + readDoc(t, "deploy/postfix/README.md")
	readme := readDoc(t, "README.md")
	options := regexp.MustCompile(`(?m)^\s+-o (\S+=\S*)$`).FindAllStringSubmatch(readme, -1)
	if len(options) < 5 {
		t.Fatalf("only %d options in README.md", len(options))
	}
	for _, o := range options {
		if !strings.Contains(files, o[1]) {
			t.Errorf("README.md has -o %s, deploy/postfix has not", o[1])
		}
	}
}
