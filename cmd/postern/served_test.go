package main

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"postern/policy"
)

// Every protocol that a configuration may name is spoken, by what is made for
// it.
func TestEveryProtocolIsServed(t *testing.T) {
	t.Parallel()
	_, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlisteners: [{protocol: none, address: \"unix:/x\"}]\n"), nil)
	m := regexp.MustCompile(`want (.*), not "none"`).FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatal(err)
	}
	made := map[string]string{"lmtp": "*listen.Feed", "smtp": "*listen.Feed", "smtp-proxy": "*listen.Feed", "milter": "*listen.Milter", "am.pdp": "*listen.AMPDP"}
	words := strings.Fields(strings.NewReplacer(",", " ", " or ", " ").Replace(m[1]))
	if len(words) != len(made) {
		t.Errorf("protocols %q", words)
	}
	for _, word := range words {
		cfg, err := policy.Parse("postern.yaml", []byte("hostname: mail.example.org\nlisteners: [{protocol: "+word+", address: \"127.0.0.1:10024\"}]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		l := cfg.Listeners[0]
		d, err := newDaemon(cfg, slog.New(slog.DiscardHandler), noDNS{})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%T", d.newServer(cfg, l)); got != made[word] {
			t.Errorf("%s is served by %s, want %s", word, got, made[word])
		}
	}
}
