package policy

// What a spam score means by the levels of each recipient.

import (
	"fmt"
	"slices"

	"postern/filter/mail"
	"postern/policy/virusname"
)

// Minors that a score gives.
const (
	tagged = 1 // of CLEAN: tag_level is reached
	tag3   = 1 // of SPAMMY: tag3_level is reached
)

// Tagged reports whether the score has reached tag_level.
func (v *Verdict) Tagged() bool {
	return slices.Contains(v.Categories, ContentCategory{mail.Clean, tagged})
}

// Tag3 reports whether the score has reached tag3_level.
func (v *Verdict) Tag3() bool {
	return slices.Contains(v.Categories, ContentCategory{mail.Spammy, tag3})
}

// weighScore adds the categories that the score has reached. Who bypasses the
// check has no score.
func (v *Verdict) weighScore(s *Settings) {
	if v.Listed.Black() {
		v.Categories = append(slices.Clone(v.Categories), ContentCategory{mail.Spam, 0}, ContentCategory{mail.Spammy, 0}, ContentCategory{mail.Clean, tagged})
		defer v.tidy()
	}
	if v.Score == nil {
		return
	}
	points := mail.ScoreText(v.Score.Value)
	if s.Spam.Bypass {
		v.Score = nil
		v.because("score " + points + " not counted: recipient bypasses the check, " + s.source(mail.Spam, "bypass"))
		return
	}
	type level struct {
		ContentCategory
		key   string
		level float64
	}
	levels := []level{
		{ContentCategory{mail.Spam, 0}, "kill_level", s.Spam.KillLevel},
		{ContentCategory{mail.Spammy, tag3}, "tag3_level", s.Spam.Tag3Level},
		{ContentCategory{mail.Spammy, 0}, "tag2_level", s.Spam.Tag2Level},
		{ContentCategory{mail.Clean, tagged}, "tag_level", s.Spam.TagLevel},
	}
	value := v.Score.Value
	if v.Listed.White() {
		value -= whitelistedLess
		levels = levels[len(levels)-1:]
	}
	told := false
	for _, l := range levels {
		reached := mail.Thousandths(value) >= mail.Thousandths(l.level)
		if !reached || l.key == "tag3_level" && l.level == 0 {
			continue
		}
		v.Categories = append(slices.Clone(v.Categories), l.ContentCategory)
		if !told {
			told = true
			v.because(fmt.Sprintf("score %s reaches spam.%s %s, %s", points, l.key, virusname.Points(l.level), s.Origin("spam."+l.key).source()))
		}
	}
	if !told {
		v.because(fmt.Sprintf("score %s is below spam.tag_level %s, %s", points, virusname.Points(s.Spam.TagLevel), s.Origin("spam.tag_level").source()))
	}
	v.tidy()
}

// whitelistedLess is what the score of a whitelisted sender lacks to tag_level
// (Amavis).
const whitelistedLess = 10

// tidy puts the categories in order.
func (v *Verdict) tidy() {
	v.Categories = distinct(v.Categories)
	if n := len(v.Categories); n > 1 && v.Categories[n-2].Category == mail.Clean {
		v.Categories = v.Categories[:n-1] // CLEAN with fields, and CLEAN
	}
}
