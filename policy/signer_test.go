package policy

import (
	"testing"

	"postern/filter/mail"
)

// A valid signature of the author loads its banks after MYUSERS and before the
// sender rules; the first entry that names the domain is taken.
func TestSignerBanks(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("postern.yaml", []byte(`
hostname: mail.example.org
signer_banks:
  - {domains: [exact.test], bank: [PARTNER, SECOND]}
  - {domains: [.test], bank: OTHER}
banks:
  PARTNER: {originating: true, virus: {destiny: pass}}
  SECOND: {virus: {destiny: discard}}
  OTHER: {virus: {destiny: bounce}}
senders:
  - {match: [boss@exact.test], settings: {virus: {destiny: tempfail}}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		signers     []string
		from        string
		path        string
		destiny     Destiny
		originating bool
	}{
		{nil, "a@exact.test", "", Reject, false},
		{[]string{"exact.test"}, "a@exact.test", "PARTNER/SECOND", Discard, true},
		{[]string{"Exact.Test"}, "a@exact.test", "PARTNER/SECOND", Discard, true},
		{[]string{"sub.exact.test"}, "a@sub.exact.test", "OTHER", Bounce, false},
		{[]string{"foreign.example", "other.test"}, "a@other.test", "OTHER", Bounce, false},
		{[]string{"foreign.example"}, "a@other.test", "", Reject, false},
		{[]string{"exact.test"}, "boss@exact.test", "PARTNER/SECOND", Tempfail, true},
	} {
		sel, err := cfg.Select(t.Context(), Request{From: mail.Address(c.from), Rcpts: []mail.Address{"b@example.org"}, Signers: c.signers})
		if err != nil {
			t.Fatal(err)
		}
		if got := sel.Settings.Virus.Destiny; sel.BankPath() != c.path || got != c.destiny || sel.Originating != c.originating {
			t.Errorf("%v %s: banks %q, destiny %s, originating %v; want %q, %s, %v", c.signers, c.from, sel.BankPath(), got, sel.Originating, c.path, c.destiny, c.originating)
		}
	}
}
