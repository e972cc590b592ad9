// Package virusname says what the names mean that virus scanners give. Not all
// of them are names of viruses: some are guesses, about phishing for example,
// which on their own must not block a message.
package virusname

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"postern/policy/strict"
)

// NameRule says what some names of virus scanners mean.
type NameRule struct {
	// Shell patterns for the name that the scanner gives: * is any text, ? any
	// character. Case counts.
	Match []string `yaml:"match"`
	// What such a name is: score, points for or against the message; unchecked,
	// a doubt; or infected, the name of a virus.
	As Meaning `yaml:"as"`
	// Points of as: score, 0 for a name that means nothing.
	Score *float64 `yaml:"score"`
	// The built-in entries are put here.
	BuiltIn bool `yaml:"built_in"`
}

// Meaning is what the name that a scanner gives can mean.
type Meaning string

// The meanings.
const (
	Score     Meaning = "score"
	Unchecked Meaning = "unchecked"
	Infected  Meaning = "infected"
)

// BuiltIn is the default of virus.names: Amavis'
// @virus_name_to_spam_score_maps, in its order. Where ClamAV has put
// "Heuristics." before a name since, both are here. Nobody writes to them.
var BuiltIn = []NameRule{
	pointsFor(0.1, "Structured.*", "Heuristics.Structured.*", "Phishing.*", "Heuristics.Phishing.*"),
	viruses("Email.Phishing.*Sanesecurity*", "HTML.Phishing.*Sanesecurity*"),
	pointsFor(0.1, "Email.Phishing.*", "HTML.Phishing.*"),
	viruses("Sanesecurity.Malware.*", "Sanesecurity.Rogue.*", "Sanesecurity.Trojan.*"),
	pointsFor(0.1, "Sanesecurity.Foxhole.Zip_exe*", "Sanesecurity.Foxhole.Zip_bat*", "Sanesecurity.Foxhole.Mail_gz*", "Sanesecurity.Foxhole.Mail_ace*"),
	pointsFor(0, "Sanesecurity.Foxhole.Mail_tar*"),
	viruses("Sanesecurity.Foxhole.*"),
	pointsFor(0.1, "Sanesecurity.*"),
	pointsFor(0, "Sanesecurity_PhishBar_*", "Sanesecurity_TestSig_*", "Email.Spam.Bounce*.Sanesecurity.*"),
	pointsFor(0.1, "Email.Spammail*", "MSRBL-Images*", "MSRBL-SPAM*"),
	pointsFor(0.1, "VX.Honeypot-SecuriteInfo.com.Joke*", "VX.not-virus_Hoax.*-SecuriteInfo.com*", "VX.not-virus_Joke.*-SecuriteInfo.com*", "Email.Spam*-SecuriteInfo.com*"),
	pointsFor(0.1, "Safebrowsing.*", "winnow.phish.*", "winnow.spam.*", "INetMsg.SpamDomain*",
		"Doppelstern.Spam*", "Doppelstern.Scam*", "Doppelstern.Phishing*", "Doppelstern.Junk*", "Doppelstern.Lott*", "Doppelstern.Loan*",
		"Bofhland.Phishing*", "ScamNailer.*", "HTML/Bankish*", "PORCUPINE_JUNK*", "PORCUPINE_PHISHING*", "Porcupine.Junk*",
		"PhishTank.Phishing.*", "MBL_NA.UNOFFICIAL*"),
}

func pointsFor(points float64, match ...string) NameRule {
	return NameRule{Match: match, As: Score, Score: &points}
}

func viruses(match ...string) NameRule { return NameRule{Match: match, As: Infected} }

// Check says what is wrong with the entry.
func (r *NameRule) Check() (what, hint string) {
	const example = `for example {match: "PUA.*", as: score, score: 0.1}`
	switch {
	case r.BuiltIn && (len(r.Match) > 0 || r.As != "" || r.Score != nil):
		return "built_in stands alone", "make two entries of it: the first one that fits decides"
	case r.BuiltIn:
		return "", ""
	case len(r.Match) == 0:
		return "no match", example
	case r.As == "":
		return "no as: what are such names?", example
	case r.As == Score && r.Score == nil:
		return "no score", "0 is for names that mean nothing; " + example
	case r.As != Score && r.Score != nil:
		return "a score is for as: score only", example
	}
	for _, p := range r.Match {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return strict.Quote(p) + " is no shell pattern", `for example "Heuristics.Phishing.*"; a bracket must be closed`
		}
	}
	return "", ""
}

// String writes the entry as in a file.
func (r NameRule) String() string {
	if r.BuiltIn {
		return "{built_in: true}"
	}
	quoted := make([]string, len(r.Match))
	for i, m := range r.Match {
		quoted[i] = strconv.Quote(m)
	}
	s := "{match: [" + strings.Join(quoted, ", ") + "], as: " + string(r.As)
	if r.Score != nil {
		s += ", score: " + Points(*r.Score)
	}
	return s + "}"
}

// MarshalText returns the entry as String does, for JSON.
func (r NameRule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Points writes points as in a file.
func Points(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// fits reports whether the entry is for that name.
func (r *NameRule) fits(name string) bool {
	// for path.Match a "*" ends at a slash, but in a name of a virus that is a
	// character like any other
	noSlash := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	return slices.ContainsFunc(r.Match, func(p string) bool {
		ok, err := path.Match(noSlash(p), noSlash(name))
		return ok && err == nil
	})
}

// WithBuiltIn puts the built-in entries where one asks for them.
func WithBuiltIn(rules []NameRule) []NameRule {
	i := slices.IndexFunc(rules, func(r NameRule) bool { return r.BuiltIn })
	if i < 0 {
		return rules
	}
	return slices.Concat(rules[:i], BuiltIn, WithBuiltIn(rules[i+1:]))
}

// Hiding returns the pattern of an earlier entry that fits all that p fits.
func Hiding(rules []NameRule, p string) string {
	for _, r := range WithBuiltIn(rules) {
		for _, earlier := range r.Match {
			// where "*" is the only sign, what fits the signs of p fits all
			// that they stand for
			one := NameRule{Match: []string{earlier}}
			if !strings.ContainsAny(earlier, "?[\\") && one.fits(p) {
				return earlier
			}
		}
	}
	return ""
}

var isVirus = NameRule{As: Infected}

// MeaningOf returns the first entry that fits a name. What none fits is a virus.
func MeaningOf(rules []NameRule, name string) *NameRule {
	for i := range rules {
		if rules[i].fits(name) {
			return &rules[i]
		}
	}
	return &isVirus
}
