package main

// Handing on what is in the quarantine, for the command and for requests of
// AM.PDP: the same thing, with the daemon or without it.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"postern/filter"
	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
	"postern/reinject/quarantine"
)

// releaseTime bounds the scan of a message of the quarantine, and releasing it.
const releaseTime = 4 * time.Minute

// newReleaser makes what hands messages of the store on under the policy and with
// the engines of f.
func newReleaser(f *filter.Filter, store *quarantine.Store) *quarantine.Releaser {
	return &quarantine.Releaser{
		Store: store, Relay: f.Relay,
		Scan: func(ctx context.Context, k *mail.Kept, m *mail.Message) (string, error) {
			ex, err := examineKept(ctx, onlyViruses(f), k, m)
			if err != nil {
				return "", err
			}
			return infection(ex)
		},
		Sign: func(o *mail.Outgoing) error {
			_, err := f.Keys.Sign(o, auth.SignOptions{})
			return err
		},
	}
}

// onlyViruses is f with the engines that look for viruses: what a postmaster
// releases is no spam, and may be a forbidden file.
func onlyViruses(f *filter.Filter) *filter.Filter {
	g := *f
	g.Checks = slices.DeleteFunc(slices.Clone(f.Checks), func(c check.Named) bool { return !slices.Contains(c.Categories, mail.Infected) })
	g.Authenticate = nil
	return &g
}

// examineKept judges a message of the quarantine by the policy of now, for those
// who did not get it.
func examineKept(ctx context.Context, f *filter.Filter, k *mail.Kept, m *mail.Message) (*filter.Examination, error) {
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	tx := &mail.Transaction{
		ID: "rel-" + k.MailID, MailID: k.MailID, Received: k.Time, Input: k.Input, Protocol: "ESMTP", Listener: k.Listener,
		Client: k.Client, From: k.From, Message: m, Size: m.Size(),
	}
	tx.FromOpts.UTF8 = k.UTF8
	for _, r := range k.Rcpts {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: r.Address, ORCPT: r.ORCPT})
	}
	return f.Examine(ctx, tx)
}

// infection names the virus that was found. An error says that a scanner gave no
// answer.
func infection(ex *filter.Examination) (string, error) {
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

// requeue judges a message anew and hands it on for those whom the policy of now
// lets have it. The verdicts are in the order of the recipients.
func requeue(ctx context.Context, f *filter.Filter, r *quarantine.Releaser, q quarantine.Request) ([]quarantine.Result, *filter.Examination, error) {
	it, err := r.Store.Load(q.ID)
	if err != nil {
		return nil, nil, err
	}
	m, err := r.Store.Octets(it)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	if q.NeedSecret && !mail.SecretFits(it.MailID, q.Secret) {
		return nil, nil, quarantine.ErrSecret
	}
	ex, err := examineKept(ctx, f, it.Kept, m)
	if err != nil {
		return nil, nil, err
	}
	wanted := q.To
	q.To, q.Force = nil, true // it has just been scanned
	for i := range ex.Verdicts {
		rcpt := &it.Rcpts[i]
		named := len(wanted) == 0 && rcpt.Due && (rcpt.Released == nil || q.Again) || slices.Contains(wanted, rcpt.Address)
		if named && ex.Verdicts[i].Destiny == policy.Pass {
			q.To = append(q.To, rcpt.Address)
		}
	}
	if len(q.To) == 0 {
		return nil, ex, fmt.Errorf("%w, or the policy blocks it still", quarantine.ErrDone)
	}
	results, err := r.Release(ctx, q)
	return results, ex, err
}

// Release answers a request of AM.PDP that came in at l.
func (d *daemon) Release(ctx context.Context, l policy.Listener, q listen.Release) []mail.Reply {
	if d.store == nil {
		return []mail.Reply{mail.NewReply(450, 3, 0, "The quarantine cannot be used")}
	}
	f := d.filter.Load()
	id, ok := quarantine.ParseID(q.MailID)
	if !ok {
		return []mail.Reply{mail.NewReply(450, 5, 0, "%s is no mail_id", cutText(q.MailID))}
	}
	settings := &f.Policy.Settings
	if bank := f.Policy.Bank(l.Bank); bank != nil {
		settings = bank.Over(settings)
	}
	want := quarantine.Request{ID: id, Secret: q.Secret, NeedSecret: settings.AuthRequiredRelease, To: q.To, By: "AM.PDP " + q.By}
	r := newReleaser(f, d.store)
	var results []quarantine.Result
	var err error
	if q.Requeue {
		results, _, err = requeue(ctx, f, r, want)
	} else {
		results, err = r.Release(ctx, want)
	}
	var out []mail.Reply
	done := observe.LedgerAction{MailID: id, Action: "released", By: want.By}
	for _, x := range results {
		if out = append(out, x.Receipt.Reply); x.Receipt.Disposal == mail.Relayed {
			done.Rcpts = append(done.Rcpts, x.To)
		}
	}
	if len(done.Rcpts) > 0 {
		d.noted(done)
	}
	if err != nil {
		d.log.Warn("not released from the quarantine", "mail_id", id, "by", want.By, "err", err)
		if len(out) == 0 {
			out = []mail.Reply{releaseRefusal(id, err)}
		}
	}
	return out
}

// releaseRefusal says why a message is not released.
func releaseRefusal(id string, err error) mail.Reply {
	switch {
	case errors.Is(err, quarantine.ErrNotFound), errors.Is(err, quarantine.ErrSecret), errors.Is(err, quarantine.ErrDone):
		return mail.NewReply(550, 5, 0, "%s: %s", id, err)
	case errors.Is(err, quarantine.ErrInfected):
		return mail.NewReply(550, 7, 0, "%s: %s (postern quarantine release --force)", id, err)
	}
	return mail.NewReply(450, 3, 0, "%s cannot be released now, the log says why", id)
}

func cutText(s string) string {
	if s = mail.Escape(s); len(s) > 60 {
		return s[:60]
	}
	return s
}

// silent is for commands, which print what there is to say.
var silent = slog.New(slog.DiscardHandler)
