package policy

import (
	"fmt"
	"testing"

	"postern/filter/mail"
)

// The points of DMARC are those of each recipient, for mail that is not of our
// own people, and say where they come from.
func TestDMARCScore(t *testing.T) {
	t.Parallel()
	c := parse(t, `settings: {dmarc: {score: {reject: 3.5, quarantine: 1}}}
signer_banks: [{domains: own.test, bank: OWN}]
banks: {OWN: {originating: true}}
recipients: [{match: [b@], settings: {dmarc: {score: {reject: 0}}}}]
`)
	of := &mail.Score{Value: 2, Tests: []mail.ScoreTest{{Name: "X", Score: 2}}}
	for _, tt := range []struct {
		wish    mail.DMARCPolicy
		score   *mail.Score
		signers []string
		a, b    string
	}{
		{mail.DMARCReject, nil, nil, "3.5 [{AM.DMARC_REJECT 3.5}]", "none"},
		{mail.DMARCReject, of, nil, "5.5 [{X 2} {AM.DMARC_REJECT 3.5}]", "2 [{X 2}]"},
		{mail.DMARCQuarantine, of, nil, "3 [{X 2} {AM.DMARC_QUARANTINE 1}]", "3 [{X 2} {AM.DMARC_QUARANTINE 1}]"},
		{mail.DMARCNone, nil, nil, "none", "none"},
		{"", nil, nil, "none", "none"},
		{mail.DMARCReject, nil, []string{"own.test"}, "none", "none"},
	} {
		sel := selected(t, c, Request{From: "x@else.test", Rcpts: []mail.Address{"a@ours.test", "b@ours.test"}, Signers: tt.signers})
		sel.DMARC = tt.wish
		verdicts := Decide(sel, nil, tt.score)
		for i, want := range []string{tt.a, tt.b} {
			got := "none"
			if s := verdicts[i].Score; s != nil {
				got = fmt.Sprint(s.Value, " ", s.Tests)
			}
			if got != want || verdicts[i].Destiny != Pass {
				t.Errorf("%s, %v, recipient %d: %s, %s, want %s", tt.wish, tt.signers, i, got, verdicts[i].Destiny, want)
			}
		}
	}
	sel := selected(t, c, Request{Rcpts: []mail.Address{"a@ours.test"}})
	sel.DMARC = mail.DMARCReject
	reasons := Decide(sel, nil, nil)[0].Reasons
	if want := "DMARC fails, and the domain of the author wishes reject: score 3.5, dmarc.score.reject, base settings (postern.yaml:1)"; reasons[0] != want || len(cleanReasons) != 1 {
		t.Errorf("%q", reasons)
	}
}
