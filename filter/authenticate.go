package filter

// Who answers for a message: what there is to find out, what may come of it for
// the selection, and the field that tells it.

import (
	"context"
	"slices"
	"strings"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

// authShare is the part of the time for all checks that authentication may
// take, which comes before them.
const authShare = 4

// authenticate finds out who answers for the message, as far as the settings of
// some recipient ask for it. This is in two steps, since who has signed may
// select banks, and whether signatures are verified is itself a setting, of the
// banks that the envelope selects.
func (f *Filter) authenticate(ctx context.Context, tx *mail.Transaction, ex *Examination) error {
	q := questions(tx, ex.Selection)
	if f.Authenticate == nil || q == (auth.Questions{}) {
		return nil
	}
	askCtx, cancel := context.WithTimeout(ctx, f.Policy.CheckDeadline(tx.Input)/authShare)
	defer cancel()
	a := f.Authenticate(askCtx, tx, q)
	if len(a.Signers) > 0 && len(f.Policy.SignerBanks) > 0 {
		sel, err := f.Select(ctx, tx, a)
		if err != nil {
			return err
		}
		ex.Selection = sel
	}
	ex.Authentication, ex.Selection.Senders = a, sendersOf(tx, a)
	if a.DMARC != nil {
		ex.Selection.DMARC = a.DMARC.Wish
	}
	return nil
}

// questions says what there is to find out. Mail of our own people has no client
// to ask about, nor has mail from an address that nobody can publish.
func questions(tx *mail.Transaction, sel *policy.Selection) auth.Questions {
	some := func(wants func(*policy.Settings) bool) bool {
		return slices.ContainsFunc(sel.Rcpts, func(r policy.RcptSelection) bool { return wants(r.Settings) })
	}
	stranger := !sel.Originating && tx.Client.Login == "" && tx.Client.Addr.IsValid() && public(tx.Client.Addr.Unmap())
	return auth.Questions{
		Signatures: some(func(s *policy.Settings) bool { return s.DKIM.Verify }),
		Client:     stranger && some(func(s *policy.Settings) bool { return s.SPF.Verify }),
	}
}

// tells reports whether there is something to tell of a message: of one whose
// client nobody can be asked about, only that it is signed.
func tells(a *mail.Authentication) bool {
	return a != nil && (len(a.DKIM) > 0 || len(a.SPF) > 0)
}

// resultsEdits tells recipients of ours who answers for the message.
func resultsEdits(f *copyFacts) []mail.Edit {
	s := f.rcpt.Settings
	if f.results == "" || !f.rcpt.Local || !s.DKIM.Verify && !s.SPF.Verify {
		return nil
	}
	return add(auth.ResultsField, f.results)
}

// results adds the removal of Authentication-Results that only we may write.
func (m *forgedMarks) results(tx *mail.Transaction, cfg *policy.Config) {
	h := tx.Message.Header()
	for _, i := range auth.ForgedResults(h, fieldsOfFeed(tx), cfg.AuthservID, cfg.TrustedResults) {
		m.always = append(m.always, mail.Edit{Op: mail.Remove, Name: auth.ResultsField, Index: i})
	}
}

// fieldsOfFeed counts the fields that the feeding MTA has put above its own
// Received field, by a policy service for example: nobody else can have written
// them. Its field is known by the id that the message has in its queue.
func fieldsOfFeed(tx *mail.Transaction) int {
	if !tx.Input.AfterQueue() || tx.Client.Ident == "" {
		return 0
	}
	for i, field := range tx.Message.Header() {
		if field.Is("Received") {
			words := strings.FieldsFunc(field.Value(), func(r rune) bool { return r == ' ' || r == '\t' || r == ';' })
			for k := range len(words) - 1 {
				if words[k] == "id" && words[k+1] == tx.Client.Ident {
					return i
				}
			}
			return 0
		}
	}
	return 0
}
