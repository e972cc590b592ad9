package filter

// Mail of the quarantine under the policy of now: judged anew, scanned before
// somebody has it released, and signed then.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/filter/check"
	"postern/filter/mail"
)

// keptTime bounds judging a message of the quarantine.
const keptTime = 4 * time.Minute

// ExamineKept judges a message of the quarantine as if it came again, for all its
// recipients.
func (f *Filter) ExamineKept(ctx context.Context, k *mail.Kept, m *mail.Message) (*Examination, error) {
	ctx, cancel := context.WithTimeout(ctx, keptTime)
	defer cancel()
	return f.Examine(ctx, transactionOf(k, m))
}

// transactionOf is what a message was kept from.
func transactionOf(k *mail.Kept, m *mail.Message) *mail.Transaction {
	tx := &mail.Transaction{
		ID: "rel-" + k.MailID, MailID: k.MailID, Received: k.Time, Input: k.Input, Protocol: "ESMTP", Listener: k.Listener,
		Client: k.Client, Daemon: k.Daemon, Banks: k.NamedBanks, From: k.From, Message: m, Size: m.Size(),
	}
	tx.FromOpts.UTF8 = k.UTF8
	for _, r := range k.Rcpts {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: r.Address, ORCPT: r.ORCPT})
	}
	return tx
}

// Infection names the virus that is found in a message of the quarantine today,
// empty for none. An error says that nobody knows. Other engines are not asked:
// what a postmaster releases is no spam, and may be a forbidden file.
func (f *Filter) Infection(ctx context.Context, k *mail.Kept, m *mail.Message) (string, error) {
	g := *f
	g.Checks = slices.DeleteFunc(slices.Clone(f.Checks), func(c check.Named) bool { return !slices.Contains(c.Categories, mail.Infected) })
	g.Authenticate = nil
	ex, err := g.ExamineKept(ctx, k, m)
	if err != nil {
		return "", err
	}
	for i := range ex.Verdicts {
		if v := &ex.Verdicts[i]; v.Is(mail.Infected) {
			return strings.Join(v.ShortNames(mail.Infected), ", "), nil
		}
	}
	for _, r := range ex.Results {
		if r.Err != nil {
			return "", fmt.Errorf("%s: %w", r.Check, r.Err)
		}
	}
	return "", nil
}

// SignKept signs a copy of a message of the quarantine with the keys that its
// banks select.
func (f *Filter) SignKept(ctx context.Context, k *mail.Kept, o *mail.Outgoing) error {
	sel, err := f.Select(ctx, transactionOf(k, o.Message), nil)
	if err != nil {
		return err
	}
	_, err = f.Keys.Sign(o, f.signOptions(sel))
	return err
}
