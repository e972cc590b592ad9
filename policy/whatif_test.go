package policy

import (
	"testing"

	"postern/filter/mail"
)

// A flip must really flip: applied to the settings it gives the other verdict.
func TestFlip(t *testing.T) {
	t.Parallel()
	infected := mail.Finding{Category: mail.Infected, Rcpt: mail.AllRcpts}
	banned := mail.Finding{Category: mail.Banned, Rcpt: mail.AllRcpts}
	failed := mail.Finding{Category: mail.Unchecked, Rcpt: mail.AllRcpts}
	for _, c := range []struct {
		name     string
		settings string
		findings []mail.Finding
		want     []string
	}{
		{"clean", "", nil, nil},
		{"one category", "virus: {destiny: reject}", []mail.Finding{infected}, []string{"virus.destiny=pass"}},
		{"two categories", "virus: {destiny: bounce}\n  banned: {destiny: discard}", []mail.Finding{infected, banned}, []string{"virus.destiny=pass", "banned.destiny=pass"}},
		{"the lower one passes", "virus: {destiny: reject}\n  banned: {destiny: pass}", []mail.Finding{infected, banned}, []string{"virus.destiny=pass"}},
		{"a check failed", "unchecked: {destiny: pass}", []mail.Finding{failed}, []string{"on_error=pass"}},
		{"a check failed, unchecked blocks", "unchecked: {destiny: reject}", []mail.Finding{failed}, []string{"on_error=pass", "unchecked.destiny=pass"}},
		{"passed", "virus: {destiny: pass}", []mail.Finding{infected}, []string{"virus.destiny=reject"}},
		{"lover", "virus: {destiny: reject, lover: true}", []mail.Finding{infected}, []string{"virus.lover=false"}},
	} {
		cfg, err := Parse("postern.yaml", []byte("hostname: mail.example.org\nsettings:\n  originating: false\n  "+c.settings+"\n"), nil)
		if err != nil {
			t.Fatal(c.name, err)
		}
		sel, err := cfg.Select(t.Context(), Request{Rcpts: []mail.Address{"a@example.org"}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range Flip(sel, 0, c.findings, nil) {
			got = append(got, f.Key+"="+f.Value)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}
