package policy

import (
	"cmp"
	"slices"

	"postern/filter/mail"
)

var (
	onlyClean    = []ContentCategory{{Category: mail.Clean}}
	cleanReasons = []string{"CLEAN: nothing found"}
)

// Decide returns a verdict for each recipient of sel, in that order.
//
// The categories of a recipient are walked from the highest to the lowest, as
// Amavis does: pass goes on, lover goes on, the first other destiny decides.
// Findings of a category whose check the recipient bypasses do not count at
// all; UNCHECKED is no check, so it cannot be bypassed. A check that failed
// is answered by on_error before lover and destiny of UNCHECKED are asked:
// with tempfail the message stays with the feeding MTA unless a higher
// category decides. Mail that only lacks its spam score then passes. What an
// engine wants to see again later ([mail.Later]) stays as well. A faulty header that is to bounce passes if nobody waits
// for an answer: a fault of form is no reason to lose mail.
//
// A name that a virus scanner gives is INFECTED, UNCHECKED or points by
// virus.names of the recipient. score is that of the spam engines, nil if none
// scored the message; the points of names are added to it. By the levels of the
// recipient it is CLEAN, CLEAN with fields (minor 1), SPAMMY or SPAM. Mail of a
// sender whom spam.sender_list calls blacklisted is SPAM at any score, and mail
// of one who is whitelisted at none.
//
// A finding with [mail.AllRcpts] counts for every recipient, so a check that
// only some recipients want must name them.
//
// The slices of the verdicts are shared and must not be written to.
func Decide(sel *Selection, findings []mail.Finding, score *mail.Score) []Verdict {
	out := make([]Verdict, len(sel.Rcpts))
	for i := range out {
		out[i] = sel.decide(sel.Rcpts[i].Settings, i, findings, score)
	}
	return out
}

// decide returns the verdict for one recipient with settings s, which need not be
// those of the selection.
func (sel *Selection) decide(s *Settings, rcpt int, findings []mail.Finding, score *mail.Score) Verdict {
	score, dmarc := sel.withDMARC(s, score)
	v := Verdict{Categories: onlyClean, Destiny: Pass, Score: score, Reasons: cleanReasons}
	var bypassed []ContentCategory
	for _, f := range findings {
		if f.Rcpt != mail.AllRcpts && f.Rcpt != rcpt {
			continue
		}
		if f.Category != mail.Unchecked && s.Category(f.Category).Bypass {
			bypassed = append(bypassed, ContentCategory{Category: f.Category})
			continue
		}
		v.Findings = append(v.Findings, f)
	}
	if len(v.Findings) == 0 && len(bypassed) == 0 && score == nil && (len(s.Spam.SenderList) == 0 || len(sel.Senders) == 0) {
		return v
	}
	v.Categories = categories(v.Findings)
	v.Reasons = nil
	if dmarc != "" {
		v.because(dmarc)
	}
	for _, c := range distinct(bypassed) {
		v.Reasons = append(v.Reasons, c.Category.String()+" not counted: recipient bypasses the check, "+
			s.source(c.Category, "bypass"))
	}
	v.weighNames(s)
	v.weighSender(s, sel.proven())
	v.weighScore(s)
	v.walk(s, sel.Unanswerable)
	first := v.Main().Category
	if v.Destiny != Pass {
		first = v.Blocking.Category
	}
	rank := func(f mail.Finding) int {
		if f.Category == first {
			return int(mail.Infected) + 1
		}
		return int(f.Category)
	}
	slices.SortStableFunc(v.Findings, func(a, b mail.Finding) int { return cmp.Compare(rank(b), rank(a)) })
	return v
}

// walk sets Destiny and Blocking, and gives the reasons.
func (v *Verdict) walk(s *Settings, unanswerable bool) {
	last := mail.CatchAll
	for _, c := range v.Categories {
		if c == (ContentCategory{mail.Unchecked, mail.Later}) {
			v.Blocking, v.Destiny = c, Tempfail
			v.because("UNCHECKED: an engine wants to see the message again later")
			return
		}
		if c.Category == mail.Unchecked {
			if key := v.waits(s); key != "" {
				v.Blocking, v.Destiny = ContentCategory{Category: mail.Unchecked, Minor: mail.CheckFailed}, Tempfail
				v.because("UNCHECKED: a check failed and " + key + " is tempfail, " + s.Origin(key).source())
				return
			}
		}
		// of several minors the highest, which comes first, stands for all
		if c.Category == last {
			continue
		}
		last = c.Category
		set := s.Category(c.Category)
		switch {
		case c.Category == mail.Clean:
			v.because("CLEAN: nothing blocks")
		case c.Category == mail.Unchecked && v.Unscored():
			v.because("UNCHECKED: passes without its spam score, " + s.spamOnError().source())
		case set.Destiny == Pass:
			v.because(c.Category.String() + ": destiny pass, " + s.source(c.Category, "destiny"))
		case set.Lover:
			v.because(c.Category.String() + " skipped: recipient is a lover, " + s.source(c.Category, "lover"))
		case set.excused(c.Category, unanswerable):
			v.because("BAD-HEADER passes in spite of destiny bounce, " + s.source(c.Category, "destiny") + ": nobody waits for an answer to a report, or to mail of a list or a program")
		default:
			// settings that were not loaded may have no destiny
			v.Blocking, v.Destiny = c, cmp.Or(set.Destiny, Tempfail)
			v.because(c.Category.String() + ": destiny " + string(v.Destiny) + ", " + s.source(c.Category, "destiny"))
			return
		}
	}
}

// excused reports whether mail of that category passes because the sender is
// not to be told.
func (s CategorySettings) excused(c mail.Category, unanswerable bool) bool {
	return c == mail.BadHeader && s.Destiny == Bounce && unanswerable
}

// Unscored reports whether all that is UNCHECKED is that a spam engine failed.
func (v *Verdict) Unscored() bool {
	unscored := false
	for i := range v.Findings {
		if f := &v.Findings[i]; f.Category == mail.Unchecked {
			if f.Minor != mail.CheckFailed || f.Missing == 0 || f.Missing&^mail.SetOf(mail.Spam, mail.Spammy) != 0 {
				return false
			}
			unscored = true
		}
	}
	return unscored
}

// waits returns the key of the on_error by which the message stays with the
// feeding MTA because a check failed, empty if it goes on.
func (v *Verdict) waits(s *Settings) string {
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Category != mail.Unchecked || f.Minor != mail.CheckFailed {
			continue
		}
		if key := s.WaitsFor(f.Missing); key != "" {
			return key
		}
	}
	return ""
}

// WaitsFor returns the key of the on_error by which mail stays with the feeding
// MTA if a check for these categories failed, empty if it goes on. None means
// that it is not known what the check would have found.
func (s *Settings) WaitsFor(missing mail.CategorySet) string {
	if missing == 0 && s.OnError != OnErrorPass {
		return "on_error"
	}
	for c := mail.Infected; c > mail.Clean; c-- {
		if answer, key := s.onError(c); missing.Has(c) && !s.Category(c).Bypass && answer != OnErrorPass {
			return key
		}
	}
	return ""
}

// onError returns what is to be done when a check for category c failed, and
// the key that says so.
func (s *Settings) onError(c mail.Category) (answer OnError, key string) {
	switch c {
	case mail.Infected:
		answer, key = OnError(s.Virus.OnError), "virus.on_error"
	case mail.Banned:
		answer, key = OnError(s.Banned.OnError), "banned.on_error"
	case mail.Spam, mail.Spammy:
		answer, key = OnError(s.Spam.OnError), "spam.on_error"
		if answer != OnErrorTempfail && s.Origin("on_error").File == BuiltIn {
			answer = OnErrorPass
		}
	}
	if answer == OnErrorTempfail || answer == OnErrorPass {
		return answer, key
	}
	return s.OnError, "on_error"
}

// spamOnError is where what holds for a spam engine that failed comes from.
func (s *Settings) spamOnError() Origin {
	_, key := s.onError(mail.Spam)
	return s.Origin(key)
}

func (v *Verdict) because(reason string) { v.Reasons = append(v.Reasons, reason) }

// categories returns the distinct categories of findings, the highest first,
// with CLEAN at the end.
func categories(findings []mail.Finding) []ContentCategory {
	var out []ContentCategory
	for _, f := range findings {
		if f.Category > mail.Clean {
			out = append(out, ContentCategory{f.Category, f.Minor})
		}
	}
	return append(distinct(out), ContentCategory{Category: mail.Clean})
}

func distinct(c []ContentCategory) []ContentCategory {
	slices.SortFunc(c, func(a, b ContentCategory) int {
		return cmp.Or(cmp.Compare(b.Category, a.Category), cmp.Compare(b.Minor, a.Minor))
	})
	return slices.Compact(c)
}

// section returns the key under which the settings that hold for a category
// stand; SPAMMY has those of SPAM.
func section(c mail.Category) string {
	if c == mail.Spammy {
		c = mail.Spam
	}
	return CategoryKey(c)
}

// source says where a setting of a category comes from.
func (s *Settings) source(c mail.Category, key string) string {
	if section(c) == "" || c == mail.Spammy && key == "destiny" {
		return "as always"
	}
	return s.Origin(section(c) + "." + key).source()
}

// AdminFor returns who gets a notice about mail in a category; empty: nobody.
// No category falls back to another one. SPAMMY has no notices: it is mail
// that goes to its recipient with a mark.
func (s *Settings) AdminFor(c mail.Category) mail.Address {
	if c == mail.Spammy {
		return ""
	}
	return s.Category(c).Admin
}

// NoCopyAt reports whether no copy is kept of mail with that verdict because its
// score is that of spam that nobody would look for.
func (s *Settings) NoCopyAt(v *Verdict) bool {
	return s != nil && v.Blocking.Category == mail.Spam && v.Score != nil &&
		s.Spam.QuarantineCutoffLevel != 0 && v.Score.Value >= s.Spam.QuarantineCutoffLevel
}
