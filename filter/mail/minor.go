package mail

// uncheckedMinors has the words for the minors of UNCHECKED: the one that
// people write, and the phrase that peers read.
var uncheckedMinors = [...]struct{ word, phrase string }{
	CheckFailed: {"failed", "a check could not be done"},
	Encrypted:   {"encrypted", "encrypted"},
	OverLimits:  {"over-limits", "over limits"},
	Ambiguous:   {"ambiguous", "ambiguous content"},
	Suspicious:  {"suspicious", "suspicious content"},
	Later:       {"later", "try again later"},
}

// UncheckedWords returns the words for the minors of UNCHECKED, by minor:
// "failed", "encrypted", "over-limits", "ambiguous", "suspicious",
// "later".
func UncheckedWords() []string {
	out := make([]string, len(uncheckedMinors))
	for i, m := range uncheckedMinors {
		out[i] = m.word
	}
	return out
}

// UncheckedWord returns the word for a minor of UNCHECKED, for example
// "over-limits".
func UncheckedWord(minor int) string { return uncheckedMinors[known(minor)].word }

// UncheckedPhrase returns what replies and header fields say of a minor of
// UNCHECKED, for example "over limits".
func UncheckedPhrase(minor int) string { return uncheckedMinors[known(minor)].phrase }

// known takes a minor that does not exist for a check that failed.
func known(minor int) int {
	if minor < 0 || minor >= len(uncheckedMinors) {
		return CheckFailed
	}
	return minor
}
