package ask

// Why a message goes on without a signature of ours.

import (
	"fmt"
	"slices"
	"strings"

	"postern/filter"
	"postern/filter/auth"
	"postern/filter/mail"
)

// notSigned says why recipient i gets the message without a DKIM signature of
// ours; "" where it has one, or is not handed on.
func (d *DryRun) notSigned(ex *filter.Examination, r *dryResult, i int) string {
	k := slices.IndexFunc(r.sent, func(s drySent) bool {
		return s.out.Kind == mail.KindMessage && slices.ContainsFunc(s.out.Rcpts, func(x mail.Recipient) bool { return x.Address == r.tx.Rcpts[i].Address })
	})
	if k < 0 || signed(r.sent[k].out) {
		return ""
	}
	sel, s, v := ex.Selection, ex.Selection.Rcpts[i].Settings, &ex.Verdicts[i]
	switch {
	case !sel.Originating:
		return "not originating, " + sel.Reason
	case !s.DKIM.Sign:
		return fmt.Sprintf("dkim.sign is false (%s)", s.Origin("dkim.sign"))
	case slices.ContainsFunc(ex.Findings, func(f mail.Finding) bool { return f.Category == mail.Infected }):
		return "infected"
	case v.Is(mail.Spam, mail.Spammy):
		return "spam"
	}
	// what is wrong is found out by trying once more
	again := *r.sent[k].out
	again.Edits = slices.Clone(again.Edits)
	if signatures, err := d.filter.Keys.Sign(&again, auth.SignOptions{Selectors: sel.Settings.DKIM.Selectors}); err != nil {
		return err.Error()
	} else if len(signatures) > 0 {
		// the recipients share one copy, and another has decided about it
		return "the copy is that of another recipient, who gets none"
	}
	domains := auth.Responsible(r.tx.Message.Header(), r.tx.From)
	if len(domains) == 0 {
		return "no key, since neither author nor sender has a domain"
	}
	return "no key for the domains of author and sender, " + strings.Join(domains, ", ")
}

func signed(o *mail.Outgoing) bool {
	return slices.ContainsFunc(o.Edits, func(e mail.Edit) bool { return e.Op == mail.Add && e.Name == "DKIM-Signature" })
}
