package mail

import "testing"

func TestUncheckedWords(t *testing.T) {
	t.Parallel()
	for minor, want := range map[int]string{
		CheckFailed: "failed: a check could not be done", Encrypted: "encrypted: encrypted",
		OverLimits: "over-limits: over limits", Ambiguous: "ambiguous: ambiguous content",
		Suspicious: "suspicious: suspicious content",
	} {
		if got := UncheckedWord(minor) + ": " + UncheckedPhrase(minor); got != want {
			t.Errorf("minor %d is %q, want %q", minor, got, want)
		}
	}
	for _, minor := range []int{-1, len(uncheckedMinors)} {
		if got := UncheckedPhrase(minor); got != UncheckedPhrase(CheckFailed) {
			t.Errorf("minor %d is %q", minor, got)
		}
	}
	if got := UncheckedWords(); len(got) != len(uncheckedMinors) || got[OverLimits] != "over-limits" {
		t.Errorf("words are %q", got)
	}
}
