package ask

import (
	"slices"
	"strings"
	"testing"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

// What is configured and not done is said aloud.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, config, want string }{
		{"good", "hostname: a.example.org\nengines: {builtin: {}}\n", ""},
		{"no engine", "hostname: a.example.org\n", "NO ENGINE IS CONFIGURED"},
		{"short name", "hostname: a\nengines: {builtin: {}}\n", `hostname "a" has no domain: other servers may refuse to hear it in greetings, and nobody can answer to the author of reports, <postmaster@a>`},
		{"milter", "hostname: a.example.org\nengines: {builtin: {}}\nlisteners: [{protocol: milter, address: \"127.0.0.1:10026\"}, {protocol: am.pdp, address: \"unix:/a\"}]\n", ""},
		{"quarantine", "hostname: a.example.org\nengines: {builtin: {}}\nquarantine: {dir: /var/q}\n", "postern.yaml:3: NO COPY IS KEPT in /var/q"},
	} {
		cfg, err := policy.Parse("postern.yaml", []byte(c.config), engines())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(Warnings(cfg), "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Of checks that could not be made anything is taken to be found, so that
// nothing that may be lost is left out; of those that were made only what they
// look for.
func TestDoubtsAboutWhatIsFound(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [.example.org]\n"), engines())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		checks []check.Named
		want   string
	}{
		{nil, "drops INFECTED, BANNED, SPAM ("},
		{[]check.Named{{Categories: []mail.Category{mail.Infected}}}, "drops INFECTED, BANNED ("},
		{[]check.Named{check.Header()}, "drops BANNED ("},
	} {
		remarks, err := Doubts(t.Context(), &filter.Filter{Policy: cfg, Checks: c.checks})
		if err != nil || !slices.ContainsFunc(remarks, func(r Remark) bool { return strings.Contains(r.What, c.want) && r.Hint != "" }) {
			t.Errorf("%v: %v, %q is not in\n%s", c.checks, err, c.want, remarks)
		}
	}
}
