package policy

// What the names mean that virus scanners give. Not all of them are names of
// viruses: some are guesses, about phishing for example, which on their own must
// not block a message.

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
)

// NameRule says what some names of virus scanners mean.
type NameRule struct {
	// Shell patterns for the name that the scanner gives: * is any text, ? any
	// character. Case counts.
	Match []string `yaml:"match"`
	// What such a name is: score, points for or against the message; unchecked,
	// a doubt; or infected, the name of a virus.
	As NameMeaning `yaml:"as"`
	// Points of as: score, 0 for a name that means nothing.
	Score *float64 `yaml:"score"`
	// The built-in entries are put here.
	BuiltIn bool `yaml:"built_in"`
}

// NameMeaning is what the name that a scanner gives can mean.
type NameMeaning string

// The meanings.
const (
	NameScore     NameMeaning = "score"
	NameUnchecked NameMeaning = "unchecked"
	NameInfected  NameMeaning = "infected"
)

// builtInNames are the default of virus.names: Amavis'
// @virus_name_to_spam_score_maps, in its order. Where ClamAV has put
// "Heuristics." before a name since, both are here. Nobody writes to them.
var builtInNames = []NameRule{
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
	return NameRule{Match: match, As: NameScore, Score: &points}
}

func viruses(match ...string) NameRule { return NameRule{Match: match, As: NameInfected} }

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
	case r.As == NameScore && r.Score == nil:
		return "no score", "0 is for names that mean nothing; " + example
	case r.As != NameScore && r.Score != nil:
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
		s += ", score: " + points(*r.Score)
	}
	return s + "}"
}

// MarshalText returns the entry as String does, for JSON.
func (r NameRule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func points(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

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

// withBuiltInNames puts the built-in entries where one asks for them.
func withBuiltInNames(rules []NameRule) []NameRule {
	i := slices.IndexFunc(rules, func(r NameRule) bool { return r.BuiltIn })
	if i < 0 {
		return rules
	}
	return slices.Concat(rules[:i], builtInNames, withBuiltInNames(rules[i+1:]))
}

// virusNames finds entries of virus.names that can never decide.
func (d *doubts) virusNames() {
	lists := []overlayValue{{origin: d.cfg.Settings.Origin("virus.names"), value: reflect.ValueOf(d.cfg.Settings.Virus.Names)}}
	add := func(o *Overlay) {
		for _, x := range o.values {
			if settingsLeaves().list[x.leaf].key == "virus.names" {
				lists = append(lists, x)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.cfg.Banks)) {
		add(d.cfg.Banks[name])
	}
	for _, r := range slices.Concat(d.cfg.Senders, d.cfg.Recipients) {
		add(r.Settings)
	}
	for _, x := range lists {
		if x.origin.File == BuiltIn {
			continue
		}
		key := strings.TrimPrefix(x.origin.Bank+": virus.names", ": ")
		d.nameRules(x.origin, key, x.value.Interface().([]NameRule))
	}
}

func (d *doubts) nameRules(at Origin, key string, rules []NameRule) {
	for i := range rules {
		for _, p := range rules[i].Match {
			where := fmt.Sprintf("%s[%d]", key, i)
			if strings.HasPrefix(p, "Heuristics.Limits.") || strings.HasPrefix(p, "Heuristics.Email.ExceedsMax") || strings.HasPrefix(p, "Heuristics.Encrypted.") {
				d.in(at, where, strict.Quote(p)+" is never asked for: it says that not all was looked at, which is UNCHECKED", "its destiny is unchecked.destiny")
				continue
			}
			if by := hiding(rules[:i], p); by != "" {
				d.in(at, where, strict.Quote(p)+" is never asked, since "+strict.Quote(by)+" stands before it", "the first entry that fits a name decides: put the special ones first")
			}
		}
	}
}

// hiding returns the pattern of an earlier entry that fits all that p fits.
func hiding(rules []NameRule, p string) string {
	for _, r := range withBuiltInNames(rules) {
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

var isVirus = NameRule{As: NameInfected}

// meaning returns the first entry that fits a name. What none fits is a virus.
func meaning(rules []NameRule, name string) *NameRule {
	for i := range rules {
		if rules[i].fits(name) {
			return &rules[i]
		}
	}
	return &isVirus
}

// Infected reports whether by the names of s a virus is among findings, also
// for those who bypass the check.
func (s *Settings) Infected(findings []mail.Finding) bool {
	rules := withBuiltInNames(s.Virus.Names)
	return slices.ContainsFunc(findings, func(f mail.Finding) bool {
		return f.Category == mail.Infected && meaning(rules, f.Name).As == NameInfected
	})
}

// weighNames makes of the names that scanners gave what they mean by s, and adds
// their points to the score. Of one scanner the highest points count; where it
// names a virus too, its names stay together and give no points (Amavis).
func (v *Verdict) weighNames(s *Settings) {
	if !v.Is(mail.Infected) {
		return
	}
	rules := withBuiltInNames(s.Virus.Names)
	virus := map[string]bool{} // by scanner
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Category != mail.Infected {
			continue
		}
		switch meaning(rules, f.Name).As {
		case NameInfected:
			virus[f.Check] = true
		case NameUnchecked:
			f.Category, f.Minor = mail.Unchecked, mail.Suspicious
			v.because(fmt.Sprintf("%s is UNCHECKED: virus.names, %s", mail.Escape(f.Name), s.source(mail.Infected, "names")))
		}
	}
	highest := map[string]float64{} // by scanner
	var tests []mail.ScoreTest
	v.Findings = slices.DeleteFunc(v.Findings, func(f mail.Finding) bool {
		if f.Category != mail.Infected || virus[f.Check] {
			return false
		}
		test := mail.ScoreTest{Name: "AV:" + f.Name}
		if p := meaning(rules, f.Name).Score; p != nil {
			test.Score = *p
		}
		if slices.Contains(tests, test) {
			return true
		}
		tests = append(tests, test)
		if most, known := highest[f.Check]; !known || test.Score > most {
			highest[f.Check] = test.Score
		}
		v.because(fmt.Sprintf("%s counts as score %s: virus.names, %s", mail.Escape(f.Name), points(test.Score), s.source(mail.Infected, "names")))
		return true
	})
	if len(tests) > 0 {
		v.addScore(highest, tests)
	}
	v.Categories = categories(v.Findings)
}

// addScore adds points by scanner to a score that others share.
func (v *Verdict) addScore(highest map[string]float64, tests []mail.ScoreTest) {
	sum := mail.Score{Tests: tests}
	if v.Score != nil {
		sum.Value, sum.Tests = v.Score.Value, slices.Concat(v.Score.Tests, tests)
	}
	for _, p := range highest {
		sum.Value += p
	}
	v.Score = &sum
}
