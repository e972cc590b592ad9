package policy

// What the names of scanners mean for a verdict, by the table of each recipient.

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
	"postern/policy/virusname"
)

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
		d.nameRules(x.origin, key, x.value.Interface().([]virusname.NameRule))
	}
}

func (d *doubts) nameRules(at Origin, key string, rules []virusname.NameRule) {
	for i := range rules {
		for _, p := range rules[i].Match {
			where := fmt.Sprintf("%s[%d]", key, i)
			if strings.HasPrefix(p, "Heuristics.Limits.") || strings.HasPrefix(p, "Heuristics.Email.ExceedsMax") || strings.HasPrefix(p, "Heuristics.Encrypted.") {
				d.in(at, where, strict.Quote(p)+" is never asked for: it says that not all was looked at, which is UNCHECKED", "its destiny is unchecked.destiny")
				continue
			}
			if by := virusname.Hiding(rules[:i], p); by != "" {
				d.in(at, where, strict.Quote(p)+" is never asked, since "+strict.Quote(by)+" stands before it", "the first entry that fits a name decides: put the special ones first")
			}
		}
	}
}

// Infected reports whether by the names of s a virus is among findings, also
// for those who bypass the check.
func (s *Settings) Infected(findings []mail.Finding) bool {
	rules := virusname.WithBuiltIn(s.Virus.Names)
	return slices.ContainsFunc(findings, func(f mail.Finding) bool {
		return f.Category == mail.Infected && virusname.MeaningOf(rules, f.Name).As == virusname.Infected
	})
}

// weighNames makes of the names that scanners gave what they mean by s, and adds
// their points to the score. Of one scanner the highest points count; where it
// names a virus too, its names stay together and give no points (Amavis).
func (v *Verdict) weighNames(s *Settings) {
	if !v.Is(mail.Infected) {
		return
	}
	rules := virusname.WithBuiltIn(s.Virus.Names)
	virus := map[string]bool{} // by scanner
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Category != mail.Infected {
			continue
		}
		switch virusname.MeaningOf(rules, f.Name).As {
		case virusname.Infected:
			virus[f.Check] = true
		case virusname.Unchecked:
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
		if p := virusname.MeaningOf(rules, f.Name).Score; p != nil {
			test.Score = *p
		}
		if slices.Contains(tests, test) {
			return true
		}
		tests = append(tests, test)
		if most, known := highest[f.Check]; !known || test.Score > most {
			highest[f.Check] = test.Score
		}
		v.because(fmt.Sprintf("%s counts as score %s: virus.names, %s", mail.Escape(f.Name), virusname.Points(test.Score), s.source(mail.Infected, "names")))
		return true
	})
	if len(tests) > 0 {
		v.addScore(highest, tests)
	}
	v.Categories = categories(v.Findings)
}

// addScore adds points by scanner to a score that others share.
func (v *Verdict) addScore(highest map[string]float64, tests []mail.ScoreTest) {
	sum := mail.Score{}
	if v.Score != nil {
		sum = *v.Score
	}
	sum.Tests = slices.Concat(sum.Tests, tests)
	for _, p := range highest {
		sum.Value += p
	}
	v.Score = &sum
}
