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

// keepsNothing switches the quarantine off for all that is found.
const keepsNothing = "settings: {dkim: {sign: false}, virus: {quarantine: false}, banned: {quarantine: false}, spam: {quarantine: false}}\n"

// That accepted mail would vanish is a mistake, unless discard stands there; that
// nobody would hear of it is a doubt.
func TestVanishingMail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ config, mistake, doubt string }{
		{"", "", ""},
		{keepsNothing, "drops INFECTED, BANNED, SPAM (Inbound, OpenRelay, destiny reject) and no copy is kept", ""},
		{"settings: {virus: {quarantine: false, admin: postmaster@example.org}}\n", "drops INFECTED (", ""},
		{"settings: {virus: {destiny: discard}}\n", "", "drops INFECTED (Inbound, OpenRelay, destiny discard) and nobody hears of it"},
		{"settings: {virus: {destiny: discard, quarantine: true}}\n", "", ""},
		{"quarantine: {digest: never}\n", "", "keeps INFECTED, BANNED, SPAM (Inbound, OpenRelay, destiny reject) in the quarantine and nobody hears of it"},
		{"settings: {virus: {quarantine: blocked@example.org}}\n", "", ""},
	} {
		cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [.example.org]\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:1\"}]\n"+tt.config), engines())
		if err != nil {
			t.Fatal(err)
		}
		doubts, mistakes, err := Doubts(t.Context(), &filter.Filter{Policy: cfg})
		if err != nil {
			t.Fatal(err)
		}
		about := func(remarks []Remark) string {
			var out []string
			for _, r := range remarks {
				if strings.HasPrefix(r.What, "listener ") {
					out = append(out, r.What)
				}
			}
			return strings.Join(out, "\n")
		}
		if got := about(mistakes); !strings.Contains(got, tt.mistake) || tt.mistake == "" && got != "" {
			t.Errorf("%s: mistakes %q", tt.config, got)
		}
		if got := about(doubts); !strings.Contains(got, tt.doubt) || tt.doubt == "" && got != "" {
			t.Errorf("%s: doubts %q", tt.config, got)
		}
	}
}

// Of checks that could not be made anything is taken to be found, so that
// nothing that may be lost is left out; of those that were made only what they
// look for.
func TestDoubtsAboutWhatIsFound(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlocal_domains: [.example.org]\n"+keepsNothing), engines())
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
		_, remarks, err := Doubts(t.Context(), &filter.Filter{Policy: cfg, Checks: c.checks})
		if err != nil || !slices.ContainsFunc(remarks, func(r Remark) bool { return strings.Contains(r.What, c.want) && r.Hint != "" }) {
			t.Errorf("%v: %v, %q is not in\n%s", c.checks, err, c.want, remarks)
		}
	}
}

// What a stranger sends is dropped after the queue only: before it he hears of a
// refusal. Mail without a connection has a queue behind it.
func TestNothingIsLostBeforeTheQueue(t *testing.T) {
	t.Parallel()
	const head = "hostname: mail.example.org\nlocal_domains: [.example.org]\nengines: {builtin: {}}\nbanks: {A: {}}\n" + keepsNothing
	for listener, want := range map[string][]string{
		`{protocol: lmtp, address: "127.0.0.1:1"}`:                                          {"drops INFECTED, BANNED, SPAM (Inbound, OpenRelay, destiny reject)"},
		`{protocol: smtp, address: "127.0.0.1:1"}`:                                          {"drops INFECTED, BANNED, SPAM (Inbound, OpenRelay, destiny reject)"},
		`{protocol: smtp-proxy, address: "127.0.0.1:1"}`:                                    nil,
		`{protocol: milter, address: "127.0.0.1:1"}`:                                        nil,
		`{protocol: am.pdp, address: "127.0.0.1:1", folders: /}`:                            nil,
		`{protocol: milter, address: "127.0.0.1:1", local_bank: A}`:                         {"drops INFECTED, BANNED, SPAM (Inbound, OpenRelay, destiny reject)"},
		`{protocol: milter, address: "127.0.0.1:1", bank: ORIGINATING, local_bank: MYNETS}`: {"refused after the queue", "drops INFECTED, BANNED, SPAM (Internal, Outbound, destiny reject)"},
	} {
		cfg, err := policy.Parse("postern.yaml", []byte(head+"listeners:\n  - "+strings.Replace(listener, "folders: /", "folders: "+t.TempDir(), 1)+"\n"), engines())
		if err != nil {
			t.Fatal(err)
		}
		doubts, mistakes, err := Doubts(t.Context(), &filter.Filter{Policy: cfg})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range append(doubts, mistakes...) {
			if strings.Contains(r.What, "drops ") || strings.Contains(r.What, "refused after the queue") {
				got = append(got, r.What)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %s", listener, strings.Join(got, "\n"))
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q is not in %s", listener, want[i], got[i])
			}
		}
	}
}
