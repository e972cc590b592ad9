package policy

import (
	"slices"

	"postern/filter/mail"
	"postern/policy/virusname"
)

// Change is one setting that another value would make the verdict different.
type Change struct {
	Key    string // dotted key of the settings, for example "virus.destiny"
	Value  string // the value that it would need
	Origin Origin // where the value in force stands
}

// Flip returns the fewest changes of settings that would turn the verdict for
// recipient i: a blocked message would pass, one that passed in spite of a
// finding would be rejected. It returns nil where no setting would help, as
// for a message in which nothing was found.
func Flip(sel *Selection, i int, findings []mail.Finding, score *mail.Score) []Change {
	s := sel.Rcpts[i].Settings.clone()
	v := sel.decide(s, i, findings, score)
	if v.Destiny == Pass {
		if out := flipToReject(sel.Rcpts[i].Settings, &v, sel.Unanswerable); out != nil {
			return out
		}
		return flipName(sel.Rcpts[i].Settings, i, findings)
	}
	var out []Change
	for v.Destiny != Pass {
		change := s.letPass(&v)
		if change.Key == "" || slices.Contains(out, change) {
			return nil
		}
		out = append(out, change)
		v = sel.decide(s, i, findings, score)
	}
	return out
}

// letPass changes the setting that made v block, and says which that was. No
// key says that there is none.
func (s *Settings) letPass(v *Verdict) Change {
	c := v.Blocking.Category
	if key := v.waits(s); c == mail.Unchecked && key != "" {
		switch key {
		case "virus.on_error":
			s.Virus.OnError = CategoryOnError(OnErrorPass)
		case "banned.on_error":
			s.Banned.OnError = CategoryOnError(OnErrorPass)
		case "spam.on_error":
			s.Spam.OnError = CategoryOnError(OnErrorPass)
		default:
			s.OnError = OnErrorPass
		}
		return Change{key, string(OnErrorPass), s.Origin(key)}
	}
	if c == mail.Spam && v.Listed.Black() {
		s.Spam.SenderList = nil
		return Change{"spam.sender_list", "without " + v.Listed.entry, s.Origin("spam.sender_list")}
	}
	found := slices.ContainsFunc(v.Findings, func(f mail.Finding) bool { return f.Category == c })
	if c == mail.Spam && !found {
		s.Spam.KillLevel = mail.Thousandths(mail.Thousandths(v.Score.Value) + 0.001)
		return Change{"spam.kill_level", virusname.Points(s.Spam.KillLevel), s.Origin("spam.kill_level")}
	}
	if CategoryKey(c) == "" {
		return Change{}
	}
	s.category(c).Destiny = Pass
	key := CategoryKey(c) + ".destiny"
	return Change{key, string(Pass), s.Origin(key)}
}

// flipToReject says what would block: the highest category that was let pass.
func flipToReject(s *Settings, v *Verdict, unanswerable bool) []Change {
	for _, c := range v.Categories {
		key := CategoryKey(c.Category)
		if c.Category == mail.Spammy && v.Score != nil && !v.Is(mail.Spam) {
			return []Change{{"spam.kill_level", mail.ScoreText(v.Score.Value), s.Origin("spam.kill_level")}}
		}
		if key == "" || c.Category == mail.Unchecked && v.Unscored() {
			continue
		}
		var out []Change
		set := s.Category(c.Category)
		if set.Destiny == Pass || set.excused(c.Category, unanswerable) {
			out = append(out, Change{key + ".destiny", string(Reject), s.Origin(key + ".destiny")})
		}
		if set.Lover {
			out = append(out, Change{key + ".lover", "false", s.Origin(key + ".lover")})
		}
		return out
	}
	return nil
}

// flipName says what would block a message for which a scanner had a name that
// gives points only.
func flipName(s *Settings, rcpt int, findings []mail.Finding) []Change {
	if s.Virus.Bypass {
		return nil
	}
	i := slices.IndexFunc(findings, func(f mail.Finding) bool {
		return f.Category == mail.Infected && (f.Rcpt == mail.AllRcpts || f.Rcpt == rcpt)
	})
	if i < 0 {
		return nil
	}
	virus := virusname.NameRule{Match: []string{findings[i].Name}, As: virusname.Infected}
	out := []Change{{"virus.names", mail.Escape(virus.String()), s.Origin("virus.names")}}
	if s.Virus.Destiny == Pass {
		out = append(out, Change{"virus.destiny", string(Reject), s.Origin("virus.destiny")})
	}
	if s.Virus.Lover {
		out = append(out, Change{"virus.lover", "false", s.Origin("virus.lover")})
	}
	return out
}
