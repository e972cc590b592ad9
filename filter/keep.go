package filter

// Keeping a copy of what is blocked.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// Store is where blocked mail is kept, see reinject/quarantine.
type Store interface {
	// Keep returns when the copy outlives a loss of power. What is kept a second
	// time under its mail id stays, with what is known of it now. path is for log
	// and people.
	Keep(k *mail.Kept, m *mail.Message) (path string, err error)
}

// keep keeps a copy for all recipients whose plan says so and who have none yet.
// If it cannot be kept, they must come again.
func (j *job) keep(ctx context.Context) {
	groups := map[mail.Address][]int{} // by who gets the copy; empty: the quarantine
	for i := range j.rcpts {
		r := &j.rcpts[i]
		if to := r.plan.copy.Address(); !r.kept && (to != "" || r.plan.copy == policy.CopyTrue) {
			groups[to] = append(groups[to], i)
		}
	}
	for _, to := range slices.Sorted(maps.Keys(groups)) {
		rcpts := groups[to]
		dropped, err := j.dropped(rcpts), error(nil)
		where, before := j.keptBefore(to)
		if !before || len(dropped) > 0 {
			j.note(mail.NotHandled, "", dropped...)
			if where, err = j.copyTo(ctx, to, rcpts); err == nil {
				j.noteCopy(to, where)
			}
		}
		j.copied(rcpts, where, err)
	}
}

// copyTo makes the copy for some recipients, in the quarantine or by mail.
func (j *job) copyTo(ctx context.Context, to mail.Address, rcpts []int) (where string, err error) {
	switch {
	case to != "":
		return string(to), j.mailCopy(ctx, to)
	case j.Quarantine == nil:
		return "", errors.New("there is no quarantine")
	}
	return j.Quarantine.Keep(j.about(rcpts), j.tx.Message)
}

// dropped are those of rcpts for whom the copy is all that is left of the message.
func (j *job) dropped(rcpts []int) []int {
	return slices.DeleteFunc(slices.Clone(rcpts), func(i int) bool { return j.rcpts[i].plan.action != drop })
}

// copied notes where the copy for some recipients is, or puts them off.
func (j *job) copied(rcpts []int, where string, err error) {
	if err == nil {
		j.note(mail.Quarantined, where, j.dropped(rcpts)...)
		for _, i := range rcpts {
			j.rcpts[i].kept = true
		}
		if !slices.Contains(j.copies, where) {
			j.copies = append(j.copies, where)
		}
		return
	}
	j.note(mail.Deferred, "", j.dropped(rcpts)...)
	j.Log.Error("a message cannot be kept, and waits in the feeding queue", "id", j.tx.ID, "queue_id", j.tx.Client.Ident, "err", err,
		"hint", "is there room, and may the daemon write to quarantine.dir? See postern check")
	reply := mail.NewReply(451, 3, 0, "id=%s - the message cannot be kept in the quarantine now", j.tx.ID)
	for _, i := range rcpts {
		r := &j.rcpts[i]
		if r.receipt.Disposal == mail.Relayed {
			continue // its copy alone is missing
		}
		r.plan = plan{action: delay, reply: reply, noReport: r.plan.noReport, unsaid: r.plan.unsaid}
		if r.receipt.Disposal != mail.NotHandled {
			r.receipt.Disposal, r.receipt.Reply = mail.Deferred, reply
		}
	}
	if j.tx.Input.OneReply() {
		for i := range j.rcpts {
			if r := &j.rcpts[i]; r.receipt.Disposal == mail.NotHandled && r.plan.action != delay {
				r.plan = waiting(j.tx)
			}
		}
	}
}

// about is what is written down beside the message, which is kept for some
// recipients.
func (j *job) about(rcpts []int) *mail.Kept {
	tx, e := j.tx, j.event()
	k := &mail.Kept{
		MailID: tx.MailID, SecretID: tx.SecretID, LogID: tx.ID, QueueID: e.QueueID, Time: j.now(),
		Input: tx.Input, Listener: tx.Listener, Client: tx.Client, Daemon: tx.Daemon, NamedBanks: tx.Banks, Banks: e.Banks, Originating: e.Originating,
		From: tx.From, EnvelopeID: tx.FromOpts.EnvelopeID, Return: tx.FromOpts.Return, UTF8: tx.FromOpts.UTF8,
		MessageID: e.MessageID, Score: e.Score, Tests: e.Tests, Checks: e.Checks,
	}
	h := tx.Message.Header()
	k.Author, _ = h.First("From")
	k.Subject, _ = h.First("Subject")
	top := policy.ContentCategory{}
	for i := range j.rcpts {
		v, sel, r := &j.ex.Verdicts[i], &j.ex.Selection.Rcpts[i], &j.rcpts[i]
		kept := r.kept || slices.Contains(rcpts, i)
		out := mail.KeptRcpt{
			Address: tx.Rcpts[i].Address, ORCPT: tx.Rcpts[i].ORCPT, Notify: tx.Rcpts[i].Opts.Notify,
			Due: kept && r.plan.action != pass, Direction: string(sel.Direction),
			Category: e.Recipients[i].Category, Destiny: string(v.Destiny), NoReport: r.plan.noReport, Reasons: v.Reasons,
		}
		if r.byMTA {
			out.Reasons = append(slices.Clone(out.Reasons), r.receipt.Reply.String())
		}
		if s := sel.Settings; s != nil {
			out.NextHop = s.ForwardTo
			k.Sign = k.Sign || e.Originating && s.DKIM.Sign
		}
		k.Rcpts = append(k.Rcpts, out)
		if c := decisive(v); kept && (k.Category == "" || c.Category > top.Category) {
			top, k.Category, k.Reason = c, policy.CategoryKey(c.Category), reasonText(v)
			if k.Category == "" || r.byMTA || r.plan.unsaid != "" {
				k.Category, k.Reason = "other", reasonNot(r)
			}
		}
	}
	return k
}

// reasonNot says why a message is kept in which nothing was found.
func reasonNot(r *rcptState) string {
	switch {
	case r.plan.unsaid != "":
		return "refused: " + r.plan.unsaid
	case r.byMTA:
		return "refused by the next hop: " + r.receipt.Reply.String()
	}
	return r.plan.reply.String()
}

// decisive is the category that decided, or else the highest.
func decisive(v *policy.Verdict) policy.ContentCategory {
	if v.Blocking.Category != mail.CatchAll {
		return v.Blocking
	}
	return v.Main()
}

// mailCopy sends the message to who collects blocked mail. The sender is null, so
// that nobody else hears of a mailbox that is full.
func (j *job) mailCopy(ctx context.Context, to mail.Address) error {
	var rcpts, blocked []string
	for i := range j.rcpts {
		a := j.tx.Rcpts[i].Address.String()
		rcpts = append(rcpts, a)
		if j.rcpts[i].plan.action != pass {
			blocked = append(blocked, a)
		}
	}
	o := &mail.Outgoing{Kind: mail.KindCopy, Message: j.tx.Message, Rcpts: []mail.Recipient{{Address: to}}}
	o.FromOpts.UTF8 = j.tx.FromOpts.UTF8
	for _, f := range [][2]string{
		{"X-Envelope-From", mail.EncodeText(j.tx.From.String(), maxShown)}, {"X-Envelope-To", folded(rcpts)}, {"X-Envelope-To-Blocked", folded(blocked)},
		{"X-Quarantine-ID", "<" + j.tx.MailID + ">"},
	} {
		if f[1] != "" {
			o.Edits = append(o.Edits, mail.Edit{Op: mail.Add, Name: f[0], Value: f[1]})
		}
	}
	r := j.relay(ctx, j.ex.Selection.Settings.NotifyTo, o)[0]
	if r.Disposal != mail.Relayed {
		return fmt.Errorf("the copy for %s is not accepted: %s", to, r.Reply)
	}
	return nil
}

// folded is a list of addresses as the value of a field.
func folded(addresses []string) string {
	for i, a := range addresses {
		addresses[i] = mail.EncodeText(a, maxShown)
	}
	return strings.Join(addresses, ",\r\n\t")
}

// maxShown bounds an address in a field.
const maxShown = 320
