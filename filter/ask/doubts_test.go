package ask

import (
	"strings"
	"testing"

	"postern/policy"
)

// afterQueue stands for a version that serves no other listeners.
func afterQueue(l policy.Listener) bool { return l.Protocol.AfterQueue() }

// What is configured and not done is said aloud.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, config, want string }{
		{"good", "hostname: a.example.org\nengines: {builtin: {}}\n", ""},
		{"no engine", "hostname: a.example.org\n", "NO ENGINE IS CONFIGURED"},
		{"short name", "hostname: a\nengines: {builtin: {}}\n", `hostname "a" has no domain: other servers may refuse to hear it in greetings, and nobody can answer to the author of reports, <postmaster@a>`},
		{"milter", "hostname: a.example.org\nengines: {builtin: {}}\nlisteners: [{protocol: milter, address: \"127.0.0.1:10026\"}]\n", "postern.yaml:3: listener 127.0.0.1:10026 IS NOT SERVED"},
		{"quarantine", "hostname: a.example.org\nengines: {builtin: {}}\nquarantine: {dir: /var/q}\n", "postern.yaml:3: NO COPY IS KEPT in /var/q"},
	} {
		cfg, err := policy.Parse("postern.yaml", []byte(c.config), engines())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(Warnings(cfg, afterQueue), "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
