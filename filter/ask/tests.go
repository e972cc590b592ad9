package ask

// Policy tests: is what becomes of a mail what a file wants?

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/filter"
	"postern/filter/mail"
	"postern/policy"
)

// TestResult is what became of one case, in the form of its JSON.
type TestResult struct {
	Name     string         `json:"name"`
	Place    string         `json:"place"`              // FILE:LINE of the case
	Failures []*TestFailure `json:"failures,omitempty"` // nil where the case passed
}

// TestFailure is one want that was not met, in the form of its JSON.
type TestFailure struct {
	Place  string `json:"place"` // FILE:LINE of the want
	Key    string `json:"key"`   // of policy.TestWant
	Got    string `json:"got"`
	Want   string `json:"want"`
	Reason string `json:"reason"` // what decided, and where it stands
}

// CaseError says that a case names what the configuration does not have.
type CaseError struct {
	Place policy.Origin // of the case
	Err   error
}

// Error returns one line with the place.
func (e *CaseError) Error() string { return fmt.Sprintf("%s: %v", e.Place, e.Err) }

// Unwrap returns what is wrong, without the place.
func (e *CaseError) Unwrap() error { return e.Err }

// Test takes one case through the filter. The error is a [CaseError] where the
// case does not fit the configuration; any other means that the settings could
// not be found.
func Test(ctx context.Context, run *DryRun, t *policy.Test) (TestResult, error) {
	cfg := run.filter.Policy
	result := TestResult{Name: t.Name, Place: t.Origin.String()}
	l, err := Listener(cfg, t.Listener)
	if err != nil {
		return result, &CaseError{t.Origin, err}
	}
	tx, err := (&Envelope{
		Listener: l, Client: t.ClientAddr(), Login: t.Login, Daemon: t.Daemon, Local: t.Local, Banks: t.Banks, From: t.From, To: t.To,
	}).Transaction(cfg)
	if err != nil {
		return result, &CaseError{t.Origin, err}
	}
	sel, err := run.selectSigned(ctx, tx, t.Signers)
	if err != nil {
		return result, fmt.Errorf("%s: %w", t.Origin, err)
	}
	var findings []mail.Finding
	for _, f := range t.Findings {
		findings = append(findings, f.Finding)
	}
	var score *mail.Score
	if t.Score != nil {
		score = &mail.Score{Value: *t.Score}
	}
	ex, became := run.suppose(ctx, tx, sel, findings, score)
	result.Failures = compareTest(t, ex, became)
	return result, nil
}

// compareTest returns the wants that were not met, in the order of TestWant.
func compareTest(t *policy.Test, ex *filter.Examination, r *dryResult) []*TestFailure {
	var out []*TestFailure
	compare := func(key, got, want, reason string) {
		if at, given := t.Wants(key); given && got != want {
			out = append(out, &TestFailure{at.String(), key, got, want, reason})
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
		return "no listener, daemon, client, request or login names a bank"
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
