package main

// Handing on what is in the quarantine, for the command and for requests of
// AM.PDP: the same thing, with the daemon or without it.

import (
	"context"
	"errors"
	"log/slog"

	"postern/filter"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
	"postern/reinject/quarantine"
)

// newReleaser makes what hands messages of the store on under the policy and with
// the engines of f. judged is told of what is judged anew, if it is not nil.
func newReleaser(f *filter.Filter, store *quarantine.Store, judged func(*filter.Examination)) *quarantine.Releaser {
	return &quarantine.Releaser{
		Store: store, Relay: f.Relay, Scan: f.Infection, Sign: f.SignKept,
		Judge: func(ctx context.Context, k *mail.Kept, m *mail.Message) ([]bool, error) {
			ex, err := f.ExamineKept(ctx, k, m)
			if err != nil {
				return nil, err
			}
			if judged != nil {
				judged(ex)
			}
			passes := make([]bool, len(ex.Verdicts))
			for i := range passes {
				passes[i] = ex.Verdicts[i].Destiny == policy.Pass
			}
			return passes, nil
		},
	}
}

// Release answers a request of AM.PDP that came in at l.
func (d *daemon) Release(ctx context.Context, l policy.Listener, q listen.Release) []mail.Reply {
	if d.store == nil {
		return []mail.Reply{mail.NewReply(450, 3, 0, "The quarantine cannot be used")}
	}
	f := d.filter.Load()
	id, ok := quarantine.ParseID(q.MailID)
	if !ok {
		return []mail.Reply{mail.NewReply(450, 5, 0, "%s is no mail_id", mail.Escape(brief(q.MailID, 60)))}
	}
	settings := &f.Policy.Settings
	if bank := f.Policy.Bank(l.Bank); bank != nil {
		settings = bank.Over(settings)
	}
	want := quarantine.Request{ID: id, Secret: q.Secret, NeedSecret: settings.AuthRequiredRelease, To: q.To, Requeue: q.Requeue, By: "AM.PDP " + q.By}
	results, err := newReleaser(f, d.store, nil).Release(ctx, want)
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

// silent is for commands, which print what there is to say.
var silent = slog.New(slog.DiscardHandler)
