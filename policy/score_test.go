package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

func shown(v *Verdict) string {
	var out []string
	for _, c := range v.Categories {
		out = append(out, fmt.Sprintf("%s,%d", c.Category, c.Minor))
	}
	return strings.Join(out, " ")
}

// TestLevels: each level holds from its very score on, to three decimals.
func TestLevels(t *testing.T) {
	t.Parallel()
	three := func(s *Settings) { s.Spam.Tag3Level, s.Spam.KillLevel = 8, 12 }
	for _, tt := range []struct {
		score   float64
		set     func(*Settings)
		cats    string
		destiny Destiny
		reason  string
	}{
		{1.999, nil, "CLEAN,0", Pass, "score 1.999 is below spam.tag_level 2, built-in default"},
		{2, nil, "CLEAN,1", Pass, "score 2 reaches spam.tag_level 2, built-in default"},
		{-3, func(s *Settings) { s.Spam.TagLevel = -999 }, "CLEAN,1", Pass, "score -3 reaches spam.tag_level -999"},
		{6.309, nil, "CLEAN,1", Pass, "reaches spam.tag_level"},
		{6.31, nil, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, "score 6.31 reaches spam.kill_level 6.31, built-in default"},
		{6.30951, nil, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, "score 6.31 reaches spam.kill_level"}, // as it is shown
		{4.1 + 2.2 + 0.01, nil, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, "score 6.31 reaches"},        // the sum is less, in the machine
		{7.999, three, "SPAMMY,0 CLEAN,1", Pass, "reaches spam.tag2_level"},
		{8, three, "SPAMMY,1 SPAMMY,0 CLEAN,1", Pass, "reaches spam.tag3_level 8"},
		{12, three, "SPAM,0 SPAMMY,1 SPAMMY,0 CLEAN,1", Reject, "reaches spam.kill_level 12"},
		{12, func(s *Settings) { s.Spam.Destiny = Bounce }, "SPAM,0 SPAMMY,0 CLEAN,1", Bounce, "SPAM: destiny bounce"},
		{12, func(s *Settings) { s.Spam.Lover = true }, "SPAM,0 SPAMMY,0 CLEAN,1", Pass, "SPAM skipped: recipient is a lover"},
		{12, func(s *Settings) { s.Spam.Bypass = true }, "CLEAN,0", Pass, "score 12 not counted: recipient bypasses the check"},
		{0, func(s *Settings) { s.Spam.Tag3Level = 0 }, "CLEAN,0", Pass, "below"},
		{5, func(s *Settings) { s.Spam.TagLevel, s.Spam.Tag2Level, s.Spam.KillLevel = 9, 9, 4 }, "SPAM,0 CLEAN,0", Reject, "kill_level 4"},
	} {
		s := Default().Settings
		if tt.set != nil {
			tt.set(&s)
		}
		engines := &mail.Score{Value: tt.score}
		v := Decide(selectionOf(&s), nil, engines)[0]
		if got := shown(&v); got != tt.cats || v.Destiny != tt.destiny {
			t.Errorf("%v: %s %s, want %s %s", tt.score, got, v.Destiny, tt.cats, tt.destiny)
		}
		if !strings.Contains(strings.Join(v.Reasons, "; "), tt.reason) {
			t.Errorf("%v: reasons %q, want %q", tt.score, v.Reasons, tt.reason)
		}
		if (v.Score == nil) != s.Spam.Bypass || engines.Value != tt.score {
			t.Errorf("%v: score %v", tt.score, v.Score)
		}
	}
}

// What a score is not makes no mail spam, and none clean that is something else.
func TestLevelsBesideFindings(t *testing.T) {
	t.Parallel()
	s := Default().Settings
	spam := &mail.Score{Value: 20}
	if v := Decide(selectionOf(&s), []mail.Finding{found(mail.Infected, 0)}, spam)[0]; shown(&v) != "INFECTED,0 SPAM,0 SPAMMY,0 CLEAN,1" || v.Blocking.Category != mail.Infected {
		t.Errorf("%+v", v)
	}
	if v := Decide(selectionOf(&s), []mail.Finding{found(mail.Spam, 0)}, &mail.Score{Value: 1})[0]; shown(&v) != "SPAM,0 CLEAN,0" || v.Destiny != Reject {
		t.Errorf("%+v", v)
	}
	if v := Decide(selectionOf(&s), nil, &mail.Score{Value: math.NaN()})[0]; v.Main().Category != mail.Clean {
		t.Errorf("%+v", v)
	}
}

// TestOnError: which on_error answers for a check that failed, by what it would
// have found.
func TestOnError(t *testing.T) {
	t.Parallel()
	virus, spam, both := mail.SetOf(mail.Infected), mail.SetOf(mail.Spam, mail.Spammy), mail.SetOf(mail.Infected, mail.Spam)
	failed := func(of ...mail.CategorySet) []mail.Finding {
		var out []mail.Finding
		for _, m := range of {
			f := found(mail.Unchecked, mail.CheckFailed)
			f.Missing = m
			out = append(out, f)
		}
		return out
	}
	for _, tt := range []struct {
		name     string
		settings string
		findings []mail.Finding
		destiny  Destiny
		reason   string
	}{
		{"a scanner", "{}", failed(virus), Tempfail, "on_error is tempfail, built-in default"},
		{"a spam engine passes without a score", "{}", failed(spam), Pass, "UNCHECKED: passes without its spam score, built-in default"},
		{"whatever is done with what is unchecked", "{unchecked: {destiny: reject}}", failed(spam), Pass, "passes without its spam score"},
		{"but not when something else is unchecked too", "{unchecked: {destiny: reject}}", append(failed(spam), found(mail.Unchecked, mail.Encrypted)), Reject, "UNCHECKED: destiny reject"},
		{"a spam engine and a scanner", "{}", failed(spam, virus), Tempfail, "on_error is tempfail"},
		{"an engine for both", "{}", failed(both), Tempfail, "on_error is tempfail"},
		{"what the file sets for all holds for spam", "{on_error: tempfail}", failed(spam), Tempfail, "on_error is tempfail, base settings (postern.yaml:2)"},
		{"but not before its own", "{on_error: tempfail, spam: {on_error: pass}}", failed(spam), Pass, "base settings (postern.yaml:2)"},
		{"its own", "{spam: {on_error: tempfail}}", failed(spam), Tempfail, "spam.on_error is tempfail, base settings (postern.yaml:2)"},
		{"that of viruses", "{virus: {on_error: pass}}", failed(virus), Pass, "UNCHECKED: destiny pass"},
		{"that of banned files", "{on_error: pass, banned: {on_error: tempfail}}", failed(mail.SetOf(mail.Infected, mail.Banned)), Tempfail, "banned.on_error is tempfail"},
		{"who bypasses the one waits for the other only", "{on_error: pass, banned: {on_error: tempfail, bypass: true}}", failed(mail.SetOf(mail.Infected, mail.Banned)), Pass, "UNCHECKED: destiny pass"},
		{"what nobody knows", "{spam: {on_error: pass}, virus: {on_error: pass}}", failed(0), Tempfail, "on_error is tempfail"},
	} {
		s := mustParse(t, "hostname: mail.example.org\nsettings: "+tt.settings+"\n").Settings
		v := Decide(selectionOf(&s), tt.findings, nil)[0]
		if v.Destiny != tt.destiny || v.Main().Category != mail.Unchecked || !strings.Contains(strings.Join(v.Reasons, "; "), tt.reason) {
			t.Errorf("%s: %s %s, %q", tt.name, v.Main().Category, v.Destiny, v.Reasons)
		}
		if v.Destiny == Tempfail {
			// what would have to be another is what was the reason
			if flip := Flip(selectionOf(&s), 0, tt.findings, nil); len(flip) == 0 || !slices.ContainsFunc(v.Reasons, func(r string) bool { return strings.Contains(r, flip[0].Key+" is tempfail") }) {
				t.Errorf("%s: flip %v", tt.name, flip)
			}
		}
	}
}

// TestFlipScore: a level above the score lets mail pass, one at the score blocks.
func TestFlipScore(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "hostname: mail.example.org\nsettings:\n  spam: {tag2_level: 4, kill_level: 6}\n").Settings
	flip := func(score float64) string {
		return fmt.Sprint(Flip(selectionOf(&s), 0, nil, &mail.Score{Value: score}))
	}
	for score, want := range map[float64]string{
		6.5: "[{spam.kill_level 6.501 postern.yaml:3}]",
		4.5: "[{spam.kill_level 4.5 postern.yaml:3}]",
		1:   "[]",
	} {
		if got := flip(score); got != want {
			t.Errorf("%v: %s, want %s", score, got, want)
		}
	}
	s.Spam.Destiny = Pass
	if got, want := flip(6.5), "[{spam.destiny reject built-in}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
