package ask

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"postern/filter/mail"
)

// TestExplainAsAmavis compares bank path and directions with what the log of
// Amavis said of the same mail. A difference must be listed with its reason.
func TestExplainAsAmavis(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/golden.txtar")
	if err != nil {
		t.Fatal(err)
	}
	section := map[string]string{}
	for _, f := range archive.Files {
		section[f.Name] = string(f.Data)
	}
	variants := map[string]string{}
	for line := range strings.Lines(section["variants"]) {
		f := strings.Fields(line)
		variants[f[0]] = f[1]
	}
	differs := map[string][]string{}
	for line := range strings.Lines(section["differs"]) {
		f := strings.Fields(line)
		if len(f) < 4 {
			t.Fatalf("no reason: %q", line)
		}
		differs[f[0]] = f[1:3]
	}
	runs := map[string]*DryRun{}
	cases := 0
	for line := range strings.Lines(section["cases"]) {
		f := strings.Fields(line)
		name, file := f[0], variants[f[1]]
		if runs[file] == nil {
			runs[file] = goldenRun(t, file, section)
		}
		e := explainGolden(t, runs[file], f[2], f[3], f[4], f[5])
		path, directions := orDash(e.BankPath), directionsOf(e)
		switch want, listed := differs[name]; {
		case !listed && (path != f[6] || directions != f[7]):
			t.Errorf("%s: %s %s, Amavis says %s %s", name, path, directions, f[6], f[7])
		case listed && (path != want[0] || directions != want[1]):
			t.Errorf("%s: %s %s, listed is %s %s", name, path, directions, want[0], want[1])
		case listed && path == f[6] && directions == f[7]:
			t.Errorf("%s: as Amavis, although it is listed as different", name)
		}
		cases++
	}
	if cases < 100 {
		t.Errorf("only %d cases", cases)
	}
}

// goldenRun loads a configuration of the archive; without a name the shipped one.
func goldenRun(t *testing.T, file string, section map[string]string) *DryRun {
	t.Helper()
	if file != "" {
		return dryRunOf(t, file, section[file])
	}
	text, err := os.ReadFile(articleConfig)
	if err != nil {
		t.Fatal(err)
	}
	return dryRunOf(t, articleConfig, string(text))
}

func explainGolden(t *testing.T, run *DryRun, listener, client, from, to string) *Explanation {
	t.Helper()
	address := "127.0.0.1:" + listener
	if listener == "milter" {
		address = "unix:/var/spool/postfix/postern/milter.sock"
	}
	l, err := Listener(run.filter.Policy, address)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netip.ParseAddr(client)
	if err != nil && client != "-" {
		t.Fatal(err)
	}
	var rcpts []mail.Address
	for _, r := range strings.Split(to, ",") {
		rcpts = append(rcpts, mail.Address(r))
	}
	tx, err := (&Envelope{Listener: l, Client: addr, From: mail.Address(strings.Trim(from, "<>")), To: rcpts}).Transaction(run.filter.Policy)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Explain(t.Context(), run, tx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func directionsOf(e *Explanation) string {
	var out []string
	for _, r := range e.Recipients {
		out = append(out, string(r.Direction))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}
