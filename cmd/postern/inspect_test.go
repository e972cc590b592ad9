package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"postern/policy"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	runScript(t, "testdata/inspect.txtar")
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"aaaa bbbb", []string{"aaaa bbbb"}},
		{"aaaa bbbb cccc", []string{"aaaa bbbb", "cccc"}},
		{"aaaa bbbbb cccc", []string{"aaaa bbbbb", "cccc"}},
		{"aaaa bbbbbb cccc", []string{"aaaa bbbbb", "b cccc"}},
		{"üüüüüüüüüüüü", []string{"üüüüüüüüüü", "üü"}},
	} {
		if got := wrap(tt.text, 10); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestHeaderCheckIsAlwaysThere: also without engines, and then it does not
// hide that nothing looks for viruses.
func TestHeaderCheckIsAlwaysThere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"engines: {builtin: {}}\n": 2, "local_domains: [example.org]\n": 1} {
		dir := writeFiles(t, "postern.yaml", text)
		cfg, err := policy.Load(dir+"/postern.yaml", engines())
		if err != nil {
			t.Fatal(err)
		}
		checks, err := newChecks(cfg)
		if err != nil || len(checks) != want || checks[want-1].Name != "header" {
			t.Errorf("%q: %v, %v", text, checks, err)
		}
		out, _, err := postern(t, "check", "-c", dir+"/postern.yaml")
		if warned := strings.Contains(out, "NO ENGINE"); warned != (want == 1) {
			t.Errorf("%q: %v, %s", text, err, out)
		}
	}
}

func TestInspectStdin(t *testing.T) {
	t.Parallel()
	message := "Date: x\r\nFrom: y\r\nContent-Type: text/plain; name=\"\x1b[31m" + strings.Repeat("n", 5000) + "\"\r\n\r\nHello.\r\n"
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"inspect", "-"})
	root.SetIn(strings.NewReader(message))
	root.SetOut(&out)
	if err := root.ExecuteContext(context.Background()); err == nil || err.Error() != "" {
		t.Errorf("%v, want the exit code of a finding: the name holds a control character", err)
	}
	if !strings.HasPrefix(out.String(), "-: ") || strings.ContainsRune(out.String(), '\x1b') || !strings.Contains(out.String(), `\x1B[31mnnn`) {
		t.Errorf("%q", out.String())
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > maxColumns+1 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
}
