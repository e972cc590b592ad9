package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/policy/strict"
)

func TestFormerly(t *testing.T) {
	t.Parallel()
	for name, key := range formerly {
		section, _, _ := strings.Cut(key, ".")
		if !slices.Contains(SettingsKeys(), key) && !slices.Contains(strict.Keys(reflect.TypeFor[Config]()), section) {
			t.Errorf("%s is said to be %s, which does not exist", name, key)
		}
		if formerName(name) != name {
			t.Errorf("%s is never found: it is looked up as %s", name, formerName(name))
		}
	}
	for word, want := range map[string]string{
		"$final_virus_destiny": "a word of Amavis: here it is virus.destiny, in settings or a bank",
		"@local_domains_maps":  "a word of Amavis: here it is local_domains, at the top of the file",
		"QUARANTINEDIR":        "a word of Amavis: here it is quarantine.dir, at the top of the file",
		"destiny":              "",
	} {
		if got := formerHint(word); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
