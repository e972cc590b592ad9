package unpack_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
	"postern/policy"
)

// eicarScanner finds the EICAR test string in the message and in its parts.
type eicarScanner struct{}

var eicar = []byte(strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}`, `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!`, `H+H*`}, "$"))

func (eicarScanner) Scanner() bool { return true }

func (eicarScanner) Check(_ context.Context, in *check.Input) (check.Answer, error) {
	found := bytes.Contains(in.Tx.Message.Bytes(), eicar)
	for p := range in.Parts.All() {
		found = found || bytes.Contains(p.Data, eicar)
	}
	if found {
		return check.Answer{Findings: []mail.Finding{{Category: mail.Infected, Name: "EICAR", Rcpt: mail.AllRcpts}}}, nil
	}
	return check.Answer{}, nil
}

// filterOf is the whole filter with these settings.
func filterOf(t *testing.T, settings string, checks ...check.Named) *filter.Filter {
	t.Helper()
	cfg, err := policy.Parse("postern.yaml", []byte("settings:\n"+settings), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &filter.Filter{Policy: cfg, Checks: checks, Log: slog.New(slog.DiscardHandler)}
}

// verdict says what a message is for its recipient.
func verdict(t *testing.T, f *filter.Filter, message string) *policy.Verdict {
	t.Helper()
	tx := &mail.Transaction{Listener: "127.0.0.1:10024", From: "a@example.net", Message: mail.NewMessage([]byte(message))}
	tx.Rcpts = []mail.Recipient{{Address: "b@example.org"}}
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ex.Results {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Check, r.Err)
		}
	}
	return &ex.Verdicts[0]
}

var doubtWords = map[int]string{mail.Encrypted: " (encrypted)", mail.OverLimits: " (over limits)", mail.Ambiguous: " (ambiguous)"}

func word(v *policy.Verdict) string {
	c := v.Main()
	if c.Category == mail.Unchecked {
		return c.Category.String() + doubtWords[c.Minor]
	}
	return c.Category.String()
}

// onlyByContent are tricks whose program is not at the beginning of a file:
// its name and type cannot tell, a scanner can.
var onlyByContent = []string{"D17", "D31"}

// TestEvasionEndToEnd sends every trick of the evasion suite through the
// filter, with a scanner alone and with the built-in banned rules alone. Each
// must stop all that it can see, and nothing is CLEAN.
//
//	go test ./filter/unpack -run TestEvasionEndToEnd -v
//
// prints the comparison with Amavis.
func TestEvasionEndToEnd(t *testing.T) {
	t.Parallel()
	scanner := check.Named{Name: "scanner", Check: eicarScanner{}, Categories: []mail.Category{mail.Infected}}
	scan := filterOf(t, "  banned: {bypass: true}\n", scanner)
	rules := filterOf(t, "  virus: {bypass: true}\n")
	strict := filterOf(t, "  banned: {rules: [{built_in: true}, {block: {is: [external-body, partial, html-smuggling]}}]}\n", scanner)
	amavis := amavisVerdicts(t)
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-8s %-46s %-25s %-25s %-26s %s\n", "trick", "", "with a scanner", "banned files only", "Amavis with ClamAV", "Amavis, banned files only")
	tricks := unpack.EvasionTricks()
	for _, tr := range tricks {
		byScan, byRules := verdict(t, scan, tr.Message), verdict(t, rules, tr.Message)
		fail := func(what string, v *policy.Verdict) {
			t.Errorf("%s, %s: %s says %s\n%s", tr.ID, tr.What, what, word(v), strings.Join(v.Reasons, "\n"))
		}
		infected := byScan.Main().Category == mail.Infected
		banned := byRules.Main().Category == mail.Banned
		doubted := func(v *policy.Verdict) bool { return v.Main().Category == mail.Unchecked }
		switch {
		case strings.HasPrefix(tr.ID, "clean"):
			if byScan.Main().Category != mail.Clean || byRules.Main().Category != mail.Clean {
				fail("the control", byScan)
			}
		case tr.OnlyFact:
			byScan, byRules = verdict(t, strict, tr.Message), verdict(t, strict, tr.Message)
			if byRules.Main().Category != mail.Banned {
				fail("a rule for facts", byRules)
			}
		case tr.NameOnly:
			if !banned {
				fail("the name", byRules)
			}
		default:
			if !infected && !(tr.MayBeUnchecked && doubted(byScan)) {
				fail("the scanner", byScan)
			}
			if !banned && !(tr.MayBeUnchecked && doubted(byRules)) && !slices.Contains(onlyByContent, tr.ID) {
				fail("the rules", byRules)
			}
		}
		with, without := word(byScan), word(byRules)
		if tr.NameOnly {
			with = "-"
		}
		a := amavis[tr.ID]
		delete(amavis, tr.ID)
		fmt.Fprintf(&table, "%-8s %-46.46s %-25s %-25s %-26s %s\n", tr.ID, tr.What, with, without, a[0], a[1])
	}
	t.Log(table.String())
	if len(tricks) < 200 {
		t.Errorf("only %d tricks", len(tricks))
	}
	if len(amavis) > 0 {
		t.Errorf("not tried: %q", slices.Sorted(maps.Keys(amavis)))
	}
}

// amavisVerdicts reads what Amavis made of the tricks, with ClamAV and without.
func amavisVerdicts(t *testing.T) map[string][2]string {
	t.Helper()
	data, err := os.ReadFile("testdata/amavis-evasion.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for l := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(l), " | "); len(f) == 3 {
			out[f[0]] = [2]string{f[1], f[2]}
		}
	}
	if len(out) < 130 {
		t.Fatalf("%d verdicts of Amavis", len(out))
	}
	return out
}

// TestTypesAreKnown: rules can name every type that a file of the suite has.
func TestTypesAreKnown(t *testing.T) {
	t.Parallel()
	types := map[string]bool{}
	for _, tr := range unpack.EvasionTricks() {
		for _, p := range unpack.Parts(t.Context(), mail.NewMessage([]byte(tr.Message)), unpack.DefaultLimits).Parts {
			for _, w := range p.Types {
				types[w] = true
			}
		}
	}
	if len(types) < 25 {
		t.Errorf("only %d types", len(types))
	}
	filterOf(t, "  banned: {rules: [{block: {type: ["+strings.Join(slices.Sorted(maps.Keys(types)), ", ")+"]}}]}\n")
}
