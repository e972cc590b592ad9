package filter

// Mail of our own: reports to senders and notices to administrators.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
	"postern/notify"
	"postern/policy"
)

// noticeTime bounds what nobody's mail depends on: while notices are handed on,
// the feeding MTA waits for the reply about a message that is done with.
const noticeTime = 30 * time.Second

// reportOn is what the notify package needs to know, as things stand now.
func (j *job) reportOn() *notify.Report {
	r := &notify.Report{
		Hostname: j.Policy.Hostname, From: j.Policy.NotifyFrom, Now: j.now(),
		Tx: j.tx, Selection: j.ex.Selection,
		Outcomes: make([]notify.Outcome, len(j.rcpts)), Quarantine: strings.Join(j.copies, ", "), Templates: j.templates(j.ex.Selection.Settings),
	}
	for i := range j.rcpts {
		o := notify.Outcome{Verdict: &j.ex.Verdicts[i], Receipt: j.rcpts[i].receipt}
		if o.Receipt.Disposal == mail.NotHandled {
			o.Receipt.Reply = policyReply(j.tx, o.Verdict)
		}
		r.Outcomes[i] = o
	}
	return r
}

// report sends one non-delivery report about all recipients whose plan says so.
// What cannot be reported is given back to the feeding MTA.
func (j *job) report(ctx context.Context) {
	var due []int
	for i := range j.rcpts {
		if j.rcpts[i].plan.action == report {
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return
	}
	if j.keepInstead(ctx, due) {
		return
	}
	// not handed on for a reason that may pass, unless the receipt says more
	result := mail.Receipt{Disposal: mail.Deferred}
	if o, err := j.reportOn().NDR(due); err != nil {
		j.Log.Error("no report to the sender", "id", j.tx.ID, "err", err)
	} else {
		o.BeforeDot = func([]int) { j.note(mail.NotHandled, "", due...) }
		result = j.sendOwn(ctx, o)[0]
		j.noteEnds(slices.Repeat([]mail.Receipt{result}, len(due)), mail.Bounced, due)
	}
	for _, i := range due {
		j.reported(i, result, len(due) == len(j.rcpts))
	}
	if j.tx.Input.OneReply() && j.any(mail.Deferred) {
		j.delayRest()
	}
}

// keepInstead keeps what the sender would be told of, if he was told too much in
// this hour. Where the policy keeps nothing he is told all the same.
func (j *job) keepInstead(ctx context.Context, due []int) bool {
	for _, i := range due {
		if s := j.ex.Selection.Rcpts[i].Settings; s.Category(decisive(&j.ex.Verdicts[i]).Category).Quarantine == policy.CopyFalse {
			return false
		}
	}
	if j.Reports.Allow(j.tx.From, j.now()) {
		return false
	}
	j.Log.Warn("the sender had too many reports in this hour (limits.reports): the message is kept", "id", j.tx.ID, "from", j.tx.From)
	for _, i := range due {
		inner := policyReply(j.tx, &j.ex.Verdicts[i])
		if j.rcpts[i].byMTA {
			inner = j.rcpts[i].receipt.Reply
		}
		p := plan{action: drop, noReport: "rate-limit", copy: j.rcpts[i].plan.copy, reply: reportReply(j.tx, i, "DSN suppressed", inner)}
		if p.copy.Address() == "" {
			p.copy = policy.CopyTrue
		}
		j.rcpts[i].plan = p
	}
	j.keep(ctx)
	return true
}

// reported settles recipient i by what became of the report. A report that is
// refused for good leaves it to the feeding MTA to tell the sender, who is one
// of ours; alone says that nothing else depends on the reply.
func (j *job) reported(i int, result mail.Receipt, alone bool) {
	r := &j.rcpts[i]
	inner := policyReply(j.tx, &j.ex.Verdicts[i])
	if r.byMTA {
		inner = r.receipt.Reply
	}
	switch {
	case result.Disposal == mail.Relayed:
		r.receipt = mail.Receipt{Disposal: mail.Bounced, Reply: reportReply(j.tx, i, "DSN was sent", inner)}
	case result.Disposal == mail.Refused && (alone || !j.tx.Input.OneReply()):
		j.Log.Warn("the report to the sender was refused, the feeding MTA has to tell", "id", j.tx.ID, "reply", result.Reply.Text)
		if !r.byMTA {
			r.receipt.Reply = blockedReply(j.tx, &j.ex.Verdicts[i], policy.Reject)
		}
		r.receipt.Disposal = mail.Refused
	default:
		r.receipt = mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 4, 0, "id=%s - the report to the sender cannot be handed on now", j.tx.ID)}
	}
}

// warnAgain names who has the message and gets it again, because the one reply
// for all has to be a delay.
func (j *job) warnAgain() {
	if !j.comesAgain() {
		return
	}
	var again []string
	for i := range j.rcpts {
		if j.rcpts[i].receipt.Disposal == mail.Relayed {
			again = append(again, j.tx.Rcpts[i].Address.String())
		}
	}
	if len(again) > 0 {
		j.Log.Warn("the message was handed on and comes again, since one reply must do for all recipients", "id", j.tx.ID, "recipients", again)
	}
}

// comesAgain reports whether the message waits in the feeding queue for all
// recipients, whatever became of some.
func (j *job) comesAgain() bool {
	waits := func(r rcptState) bool { return r.receipt.Disposal == mail.Deferred }
	if j.tx.Input.OneReply() {
		return slices.ContainsFunc(j.rcpts, waits)
	}
	return !slices.ContainsFunc(j.rcpts, func(r rcptState) bool { return !waits(r) })
}

// reportRelayed tells senders who asked for it that a message went to a next
// hop that will not tell them (RFC 3461 section 5.2.2). The message is on its
// way, so a failure is only logged.
func (j *job) reportRelayed(ctx context.Context) {
	var due []int
	for i := range j.rcpts {
		if r := &j.rcpts[i].receipt; r.Disposal == mail.Relayed && r.NoDSN && j.gate.Success(i).Open() {
			due = append(due, i)
		}
	}
	if len(due) == 0 || j.comesAgain() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	o, err := j.reportOn().NDR(due)
	if err == nil {
		if r := j.sendOwn(ctx, o)[0]; r.Disposal == mail.Relayed {
			return
		}
	}
	j.Log.Warn("no report of success to the sender", "id", j.tx.ID, "err", err)
}

// notify tells administrators of what was found for their recipients, and
// recipients of what they did not get. A message that waits in the feeding queue
// comes again, so it is not worth a notice yet.
func (j *job) notify(ctx context.Context) {
	if j.comesAgain() || !slices.ContainsFunc(j.rcpts, func(r rcptState) bool { return r.plan.action != past }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	report := j.reportOn()
	tooMany := func(a mail.Address) bool { return !j.Notices.AllowNotice(a, report.Headline(), j.now()) }
	if admins := slices.DeleteFunc(report.Admins(), tooMany); len(admins) > 0 {
		o, err := report.Notice(admins)
		j.sendNotice(ctx, o, err)
	}
	for _, i := range report.WarnedRecipients() {
		if tooMany(j.tx.Rcpts[i].Address) {
			continue
		}
		report.Templates = j.templates(j.ex.Selection.Rcpts[i].Settings)
		o, err := report.RecipientNotice(i)
		j.sendNotice(ctx, o, err)
	}
}

// sendNotice sends a notice, or says why there is none: no mail depends on it.
func (j *job) sendNotice(ctx context.Context, o *mail.Outgoing, err error) {
	if err != nil {
		j.Log.Error("no notice", "id", j.tx.ID, "err", err)
		return
	}
	for i, r := range j.sendOwn(ctx, o) {
		if r.Disposal != mail.Relayed {
			j.Log.Error("notice not accepted", "id", j.tx.ID, "to", o.Rcpts[i].Address, "reply", r.Reply.Text)
		}
	}
}

// templates are the texts of some settings, nil for ours.
func (f *Filter) templates(s *policy.Settings) *notify.Templates {
	if s == nil {
		return nil
	}
	return f.Templates[s.Templates]
}

// SendOwn sends a mail of our own that is about no single message, under the
// settings of the base.
func (f *Filter) SendOwn(ctx context.Context, o *mail.Outgoing) error {
	s := &f.Policy.Settings
	j := &job{Filter: f, tx: &mail.Transaction{ID: "own"}, ex: &Examination{Selection: &policy.Selection{Settings: s}}}
	for i, r := range j.sendOwn(ctx, o) {
		if r.Disposal != mail.Relayed {
			return fmt.Errorf("not accepted for %s: %s", o.Rcpts[i].Address, r.Reply)
		}
	}
	return nil
}

// sendOwn signs a mail of our own if there is a key for its author, and hands
// it to the next hop for notices. It returns a receipt for every recipient.
func (j *job) sendOwn(ctx context.Context, o *mail.Outgoing) []mail.Receipt {
	if _, err := j.Keys.Sign(o, j.signOptions(j.ex.Selection)); err != nil {
		j.Log.Error("not signed", "id", j.tx.ID, "err", err)
	}
	return j.relay(ctx, j.ex.Selection.Settings.NotifyTo, o)
}
