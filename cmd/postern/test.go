package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/mail"
	"postern/policy"
)

func newTestCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Run policy tests",
		Long: `Run policy tests: cases that say for an envelope, a client and what the checks
found which banks must apply and what must become of the mail. The files are
those named, or all *.test.yaml beside the configuration. A case:

  tests:
    - name: a virus from one of us is refused
      listener: 127.0.0.1:10023
      client: 192.0.2.7
      from: a@example.org
      to: b@example.net
      findings: [INFECTED Eicar-Test]
      want:
        banks: ORIGINATING
        direction: Outbound
        action: RejectedOutbound
        notices: [postmaster@example.org]

Only what stands in want is compared: banks, originating, direction, destiny,
action, reply, notices, report, signed. Nothing is sent, no key is read.
The exit code is 1 if a case fails.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			return runTests(cmd.Context(), cmd.OutOrStdout(), config, files, asJSON)
		},
	}
	addConfigFlag(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// testResult is what became of one case.
type testResult struct {
	Name     string         `json:"name"`
	Place    string         `json:"place"`
	Failures []*testFailure `json:"failures,omitempty"`
}

// testFailure is one want that was not met.
type testFailure struct {
	Place  string `json:"place"`
	Key    string `json:"key"`
	Got    string `json:"got"`
	Want   string `json:"want"`
	Reason string `json:"reason"` // what decided, and where it stands
}

func runTests(ctx context.Context, out io.Writer, config string, files []string, asJSON bool) error {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	run, err := newDryRun(&filter.Filter{Policy: cfg})
	if err != nil {
		return exit(exitConfig, err)
	}
	cases, err := readTests(config, files)
	if err != nil {
		return err
	}
	results := make([]testResult, len(cases))
	failed := 0
	for i := range cases {
		if results[i], err = runTest(ctx, run, &cases[i]); err != nil {
			if _, ok := errors.AsType[*caseError](err); ok {
				return exit(exitConfig, err)
			}
			return exit(exitSoftware, err)
		}
		if len(results[i].Failures) > 0 {
			failed++
		}
	}
	if asJSON {
		err = printJSON(out, results)
	} else {
		err = printTests(out, results, failed)
	}
	if err == nil && failed > 0 {
		err = exit(exitFound, errSaid)
	}
	return err
}

// readTests reads all files; all mistakes are reported together.
func readTests(config string, files []string) ([]policy.Test, error) {
	if len(files) == 0 {
		var err error
		pattern := filepath.Join(filepath.Dir(config), "*.test.yaml")
		if files, err = filepath.Glob(pattern); err != nil || len(files) == 0 {
			return nil, exit(exitUsage, fmt.Errorf("there are no tests: no file is called %s (hint: postern test --help shows a case)", pattern))
		}
	}
	var cases []policy.Test
	var errs []error
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		more, err := policy.ParseTests(file, data)
		if err != nil {
			errs = append(errs, err)
		}
		cases = append(cases, more...)
	}
	return cases, exit(exitConfig, errors.Join(errs...))
}

// caseError says that a case names what the configuration does not have.
type caseError struct {
	place policy.Origin
	err   error
}

func (e *caseError) Error() string { return fmt.Sprintf("%s: %v", e.place, e.err) }
func (e *caseError) Unwrap() error { return e.err }

// runTest takes one case through the filter.
func runTest(ctx context.Context, run *dryRun, t *policy.Test) (testResult, error) {
	cfg := run.filter.Policy
	result := testResult{Name: t.Name, Place: t.Origin.String()}
	l, err := listenerOf(cfg, t.Listener)
	if err != nil {
		return result, &caseError{t.Origin, err}
	}
	for _, b := range t.Banks {
		if cfg.Bank(b) == nil {
			return result, &caseError{t.Origin, fmt.Errorf("there is no bank %q", b)}
		}
	}
	tx := dryTransaction(l, t.ClientAddr(), t.From, t.To)
	tx.Banks = t.Banks
	sel, err := run.filter.Select(ctx, tx, nil)
	if err != nil {
		return result, fmt.Errorf("%s: %w", t.Origin, err)
	}
	var findings []mail.Finding
	for _, f := range t.Findings {
		findings = append(findings, f.Finding)
	}
	ex, became := run.suppose(ctx, tx, sel, findings)
	result.Failures = compareTest(t, ex, became)
	return result, nil
}

// compareTest returns the wants that were not met, in the order of TestWant.
func compareTest(t *policy.Test, ex *filter.Examination, r *dryResult) []*testFailure {
	var out []*testFailure
	compare := func(key, got, want, reason string) {
		if at, given := t.Wants(key); given && got != want {
			out = append(out, &testFailure{at.String(), key, got, want, reason})
		}
	}
	sel, w := ex.Selection, &t.Want
	compare("banks", orBase(sel.BankPath()), orBase(w.Banks), pathReason(sel.Path))
	compare("originating", yesNo(sel.Originating), yesNo(w.Originating), sel.Reason)

	// of each recipient: what is, what is wanted
	each := func(key string, wants []string, got func(i int) string, same func(got, want string) bool, reason func(i int) string) {
		for i := range sel.Rcpts {
			if len(wants) == 0 {
				return // an empty want is a mistake of the file
			}
			want := wants[min(i, len(wants)-1)]
			if g := got(i); !same(g, want) {
				who := ""
				if len(sel.Rcpts) > 1 {
					who = " for " + sel.Rcpts[i].Address.String()
				}
				compare(key, g+who, want, reason(i))
			}
		}
	}
	equal := func(got, want string) bool { return got == want }
	begins := func(got, want string) bool { return got == want || strings.HasPrefix(got, want) }
	verdict := func(i int) string { return verdictReason(ex, r, i) }
	each("direction", texts(w.Direction), func(i int) string { return string(sel.Rcpts[i].Direction) }, equal, func(i int) string {
		return directionReason(sel, i)
	})
	each("destiny", texts(w.Destiny), func(i int) string { return string(ex.Verdicts[i].Destiny) }, equal, verdict)
	each("action", w.Action, func(i int) string { return r.event.Recipients[i].Action }, equal, verdict)
	each("reply", w.Reply, r.reply, begins, verdict)

	compare("notices", list(r.notices()), list(sorted(w.Notices)), adminReason(ex))
	var report []mail.Address
	if w.Report != "" {
		report = []mail.Address{mail.Address(w.Report)}
	}
	compare("report", list(r.reports()), list(report), verdict(0))
	compare("signed", list(r.signers()), list(sorted(w.Signed)), signReason(sel))
	return out
}

func orBase(path string) string {
	if path == "" {
		return "none, the base settings"
	}
	return path
}

func yesNo(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func texts[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

func sorted[T ~string](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

func list[T ~string](in []T) string {
	if len(in) == 0 {
		return "none"
	}
	return strings.Join(texts(in), ", ")
}

// pathReason says why each bank was loaded.
func pathReason(path []policy.Step) string {
	if len(path) == 0 {
		return "no listener, client or request names a bank"
	}
	var out []string
	for _, s := range path {
		out = append(out, strings.TrimPrefix(s.Bank+" by "+s.Reason, " by "))
	}
	return strings.Join(out, ", ")
}

func directionReason(sel *policy.Selection, i int) string {
	local := "is in local_domains"
	if !sel.Rcpts[i].Local {
		local = "is not in local_domains"
	}
	return fmt.Sprintf("originating is %s, %s; %s %s", yesNo(sel.Originating), sel.Reason, sel.Rcpts[i].Address, local)
}

// verdictReason says what decided about recipient i.
func verdictReason(ex *filter.Examination, r *dryResult, i int) string {
	why := strings.Join(ex.Verdicts[i].Reasons, ", ")
	if no := r.event.Recipients[i].NoReport; no != "" {
		why += "; the sender must not be told: " + no
	}
	return why
}

// adminReason says for the category of each recipient who is to get a notice.
func adminReason(ex *filter.Examination) string {
	var out []string
	for i := range ex.Verdicts {
		v := &ex.Verdicts[i]
		c := v.Blocking.Category
		if v.Destiny == policy.Pass {
			c = v.Main().Category
		}
		key := policy.CategoryKey(c)
		if key == "" {
			continue
		}
		set := ex.Selection.Rcpts[i].Settings
		admin := "empty"
		if a := set.AdminFor(c); a != "" {
			admin = string(a)
		}
		why := fmt.Sprintf("%s.admin is %s, %s", key, admin, set.Origin(key+".admin"))
		if !slices.Contains(out, why) {
			out = append(out, why)
		}
	}
	if len(out) == 0 {
		return "there is nothing to tell of"
	}
	return strings.Join(out, ", ")
}

func signReason(sel *policy.Selection) string {
	return fmt.Sprintf("originating is %s, %s; dkim.sign is %s, %s",
		yesNo(sel.Originating), sel.Reason, yesNo(sel.Settings.DKIM.Sign), sel.Settings.Origin("dkim.sign"))
}

func printTests(out io.Writer, results []testResult, failed int) error {
	for _, r := range results {
		for _, f := range r.Failures {
			if _, err := fmt.Fprintf(out, "%s: %s: %s is %s, want %s\n    because %s\n", f.Place, r.Name, f.Key, f.Got, f.Want, f.Reason); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(out, "%d passed, %d failed\n", len(results)-failed, failed)
	return err
}
