package policy

import (
	"fmt"
	"strings"
	"testing"

	"postern/filter/mail"
)

// mixed is a message with these parts.
func mixed(parts ...*mail.Part) *mail.Part {
	root := &mail.Part{Place: "1", Media: []string{"multipart/mixed"}}
	for i, p := range parts {
		p.Place, p.Parent = fmt.Sprint("1/", i+1), root
		root.Children = append(root.Children, p)
	}
	return root
}

// TestBannedRecipients: each recipient gets what its rules say.
func TestBannedRecipients(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
local_domains: [.]
recipients:
  - {match: open@, settings: {banned: {bypass: true}}}
  - {match: lover@, settings: {banned: {lover: true}}}
  - {match: strict@, settings: {banned: {rules: [{block: {type: pdf}, comment: no pdf}]}}}
  - {match: none@, settings: {banned: {rules: []}}}
`)
	root := mixed(&mail.Part{Types: []string{"pdf"}, Names: []string{"a.pdf"}}, &mail.Part{Types: []string{"exe", "exe-ms"}, Names: []string{"a.exe"}})
	for _, tt := range []struct{ rcpts, want string }{
		{"a b", "-1 .exe,.exe-ms,a.exe"},
		{"a lover", "-1 .exe,.exe-ms,a.exe"},
		{"a open b", "0 .exe,.exe-ms,a.exe; 2 .exe,.exe-ms,a.exe"},
		{"none open", ""},
		{"strict strict", "-1 no pdf:.pdf,a.pdf"},
		{"a strict none", "0 .exe,.exe-ms,a.exe; 1 no pdf:.pdf,a.pdf"},
	} {
		req := Request{}
		for r := range strings.FieldsSeq(tt.rcpts) {
			req.Rcpts = append(req.Rcpts, mail.Address(r+"@example.org"))
		}
		sel, err := c.Select(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range BannedFindings(sel, root) {
			got = append(got, fmt.Sprint(f.Rcpt, " ", f.Name))
			if f.Category != mail.Banned || f.Check != "banned" || !strings.HasPrefix(f.Detail, "banned.rules, ") || !strings.HasPrefix(f.Part, "1/") {
				t.Errorf("finding %+v", f)
			}
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.rcpts, s, tt.want)
		}
	}
}

// TestBannedEqualRules: whether recipients share a finding hangs on what their
// rules say and where they stand, not on whether it is the same list: settings
// from a database are new for every message.
func TestBannedEqualRules(t *testing.T) {
	t.Parallel()
	const rules = "settings: {banned: {rules: [{block: {name: '*.pdf', is: encrypted}}, {block: {type: pdf}, comment: no pdf}]}}"
	one, two := mustParse(t, rules).Settings, mustParse(t, rules).Settings
	elsewhere := mustParse(t, "\n"+rules).Settings
	root := mixed(&mail.Part{Types: []string{"pdf"}, Names: []string{"a.pdf"}})
	for _, tt := range []struct {
		rcpts []*Settings
		want  string
	}{
		{[]*Settings{&one, &two}, "-1 base settings (postern.yaml:1)"},
		{[]*Settings{&one, &elsewhere, &two}, "0 base settings (postern.yaml:1); 2 base settings (postern.yaml:1); 1 base settings (postern.yaml:2)"},
	} {
		sel := &Selection{Settings: tt.rcpts[0]}
		for _, s := range tt.rcpts {
			sel.Rcpts = append(sel.Rcpts, RcptSelection{Settings: s})
		}
		var got []string
		for _, f := range BannedFindings(sel, root) {
			place, _, _ := strings.Cut(strings.TrimPrefix(f.Detail, "banned.rules, "), ": {")
			got = append(got, fmt.Sprint(f.Rcpt, " ", place))
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("got %s, want %s", s, tt.want)
		}
	}
}

// TestBannedExample loads the example in the comment of the rules.
func TestBannedExample(t *testing.T) {
	t.Parallel()
	ex := example(readComments(t).docs["BannedSettings.Rules"])
	if !strings.HasPrefix(ex, "rules:") {
		t.Fatalf("no example: %q", ex)
	}
	mustParse(t, "settings:\n  banned:\n    "+strings.ReplaceAll(strings.TrimSpace(ex), "\n", "\n    ")+"\n")
}

func BenchmarkBannedPlainText(b *testing.B) {
	c := mustParse(b, "")
	sel := &Selection{Settings: &c.Settings, Rcpts: []RcptSelection{{Settings: &c.Settings}}}
	root := &mail.Part{Place: "1", Media: []string{"text/plain"}, Types: []string{"asc"}}
	b.ReportAllocs()
	for b.Loop() {
		BannedFindings(sel, root)
	}
}
