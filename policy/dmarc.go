package policy

// What the result of DMARC means for a verdict.

import (
	"fmt"
	"slices"

	"postern/filter/mail"
	"postern/policy/virusname"
)

// withDMARC adds the points of dmarc.score to the score of the engines, which
// others share, and says why. Mail of our own people gets none, whatever it looks like.
func (sel *Selection) withDMARC(s *Settings, score *mail.Score) (sum *mail.Score, reason string) {
	var test mail.ScoreTest
	switch sel.DMARC {
	case mail.DMARCReject:
		test = mail.ScoreTest{Name: "AM.DMARC_REJECT", Score: s.DMARC.Score.Reject}
	case mail.DMARCQuarantine:
		test = mail.ScoreTest{Name: "AM.DMARC_QUARANTINE", Score: s.DMARC.Score.Quarantine}
	}
	if test.Score == 0 || sel.Originating {
		return score, ""
	}
	key := "dmarc.score." + string(sel.DMARC)
	reason = fmt.Sprintf("DMARC fails, and the domain of the author wishes %s: score %s, %s, %s", sel.DMARC, virusname.Points(test.Score), key, s.Origin(key).source())
	sum = &mail.Score{}
	if score != nil {
		*sum = *score
	}
	sum.Value, sum.Tests = sum.Value+test.Score, append(slices.Clip(sum.Tests), test)
	return sum, reason
}
