package filter

// Handing the message on: one copy per group of recipients with equal next hop
// and equal edits, signed last. What the next hop says gives the receipts.

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/notify"
	"postern/policy"
)

// group is the recipients of one copy, as indexes into tx.Rcpts.
type group struct {
	mail.Copy
	rcpts []int
}

// forward hands the message on for every recipient whose plan says so.
func (j *job) forward(ctx context.Context) {
	groups := j.groups()
	if j.tx.Back != nil {
		groups = j.merge(groups)
	}
	for _, g := range groups {
		if j.tx.Input.OneReply() && j.any(mail.Deferred) {
			// the one reply is a delay already: what is not sent now
			// cannot arrive twice
			break
		}
		j.send(ctx, g)
		if j.tx.Input.OneReply() && !j.tx.Input.AfterQueue() && j.any(mail.Refused) && !j.othersDone() {
			j.refuseRest()
			break
		}
	}
	j.planRefused()
	if j.tx.Input.OneReply() && j.any(mail.Deferred) {
		j.delayRest()
	}
}

// groups gives every recipient his copy; those with equal copies share it.
func (j *job) groups() []group {
	var out []group
	m := j.tx.Message
	received := ""
	if j.tx.Back == nil {
		received = receivedValue(j.tx, j.Policy.Hostname, j.Mark.tag(j.tx.MailID, m.Body()))
	}
	forged := findForged(m.Header(), j.Policy.Domain, j.Policy.Hostname)
	forged.results(j.tx, j.Policy)
	results := ""
	if tells(j.ex.Authentication) {
		results = auth.AuthenticationResults(j.Policy.AuthservID, j.ex.Authentication)
	}
	for i := range j.rcpts {
		if j.rcpts[i].plan.action != pass {
			continue
		}
		c := j.copyFor(i, m, received, results, forged)
		k := slices.IndexFunc(out, func(g group) bool { return g.Equal(&c) })
		if k < 0 {
			k = len(out)
			out = append(out, group{Copy: c})
		}
		out[k].rcpts = append(out[k].rcpts, i)
	}
	return out
}

// copyFor returns the copy of m that recipient i gets.
func (j *job) copyFor(i int, m *mail.Message, received, results string, forged *forgedMarks) mail.Copy {
	v, sel := &j.ex.Verdicts[i], &j.ex.Selection.Rcpts[i]
	f := &copyFacts{
		tx: j.tx, header: m.Header(), verdict: v, rcpt: sel,
		scanned: j.ex.Scanned, domain: j.Policy.Domain, hostname: j.Policy.Hostname, engines: j.ex.Fields, received: received, results: results, forged: forged,
	}
	j.rcpts[i].extension = f.extension()
	j.rcpts[i].tagged = f.alerted() != mail.CatchAll || f.subjectTag() != "" || f.extension() != "" ||
		sel.Local && f.spam()
	c := mail.Copy{NextHop: sel.Settings.ForwardTo, Message: m, Edits: f.edits()}
	if j.ex.Selection.Originating {
		switch {
		case !sel.Settings.DKIM.Sign:
			j.rcpts[i].notSigned = mail.NotSignedOff
		case sel.Settings.Infected(j.ex.Findings): // whoever bypasses the check
			j.rcpts[i].notSigned = mail.NotSignedInfected
		case v.Is(mail.Spam, mail.Spammy):
			j.rcpts[i].notSigned = mail.NotSignedSpam
		default:
			c.Sign = true
		}
	}
	return c
}

// merge makes one copy of all, for a client that can take only one: the one of
// the recipient who needs to be warned most.
func (j *job) merge(groups []group) []group {
	if len(groups) < 2 {
		return groups
	}
	main := func(g group) policy.ContentCategory { return j.ex.Verdicts[g.rcpts[0]].Main() }
	strictest := slices.MaxFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(main(a).Category, main(b).Category), cmp.Compare(main(a).Minor, main(b).Minor))
	})
	one := group{Copy: strictest.Copy}
	for _, g := range groups {
		one.rcpts = append(one.rcpts, g.rcpts...)
	}
	slices.Sort(one.rcpts)
	names := make([]string, len(one.rcpts))
	for k, i := range one.rcpts {
		names[k] = j.tx.Rcpts[i].Address.String()
	}
	j.Log.Warn("all recipients get the header of one of them", "id", j.tx.ID,
		"recipients", names, "as", j.tx.Rcpts[strictest.rcpts[0]].Address.String())
	return []group{one}
}

// send hands one copy on and keeps the receipts.
func (j *job) send(ctx context.Context, g group) {
	o := &mail.Outgoing{
		Kind: mail.KindMessage, Client: j.tx.Client, From: j.tx.From, FromOpts: j.tx.FromOpts,
		Message: g.Message, Edits: g.Edits, AllOrNone: j.tx.Input.OneReply(),
	}
	for _, i := range g.rcpts {
		rcpt := j.tx.Rcpts[i]
		if e := j.rcpts[i].extension; e != "" {
			rcpt = rcpt.Extended(j.Policy.RecipientDelimiter, e)
		}
		o.Rcpts = append(o.Rcpts, rcpt)
	}
	o.RefuseAll = j.mustRefuse()
	o.BeforeDot = func(rcpts []int) {
		begun := make([]int, len(rcpts))
		for k, n := range rcpts {
			begun[k] = g.rcpts[n]
		}
		j.note(mail.NotHandled, "", begun...)
	}
	why := ""
	if g.Sign {
		why = j.sign(o)
	}
	for _, i := range g.rcpts {
		switch r := &j.rcpts[i]; {
		case g.Sign:
			r.notSigned = why
		case r.notSigned == "" && j.ex.Selection.Originating:
			r.notSigned = mail.NotSignedOther
		}
	}
	receipts := j.relay(ctx, g.NextHop, o)
	j.noteEnds(receipts, mail.Relayed, g.rcpts)
	for k, r := range receipts {
		s := &j.rcpts[g.rcpts[k]]
		s.receipt, s.byMTA = r, r.Disposal == mail.Deferred || r.Disposal == mail.Refused
		why := "Rejected by next-hop MTA on relaying, "
		switch {
		case r.NextHop == "": // our own word
			why = ""
		case r.Disposal == mail.Deferred:
			why = "Temporary MTA failure on relaying, "
		}
		if s.byMTA {
			s.receipt.Reply.Text = mail.NewReply(451, 0, 0, "id=%s - %s%s", j.tx.ID, why, r.Reply.Text).Text
		}
	}
	j.holdBack(g.rcpts)
}

// sign signs a copy, and says why it has no signature that receivers would
// count as the author's.
func (j *job) sign(o *mail.Outgoing) (notSigned string) {
	signed, err := j.Keys.Sign(o, j.signOptions(j.ex.Selection))
	if err != nil {
		// an unsigned mail arrives, a lost one does not
		j.Log.Error("not signed", "id", j.tx.ID, "err", err)
		return mail.NotSignedError
	}
	j.addSigned(signed)
	switch {
	case len(signed) == 0:
		return mail.NotSignedNoKey
	case !auth.Aligned(o.Message.Header(), signed):
		return mail.NotSignedUnaligned
	}
	return ""
}

// signOptions are those of the banks of the message.
func (f *Filter) signOptions(sel *policy.Selection) auth.SignOptions {
	s := sel.Settings
	if s == nil {
		return auth.SignOptions{}
	}
	return auth.SignOptions{Selectors: s.DKIM.Selectors, Expire: s.DKIM.Expire, Now: f.now()}
}

// refuseRest gives those who have no receipt yet the refusal that a client which
// is there hears for all.
func (j *job) refuseRest() {
	k := slices.IndexFunc(j.rcpts, func(r rcptState) bool { return r.receipt.Disposal == mail.Refused })
	for i := range j.rcpts {
		if r := &j.rcpts[i]; r.receipt.Disposal == mail.NotHandled {
			r.plan = plan{action: refuse, reply: j.rcpts[k].receipt.Reply}
		}
	}
}

// holdBack plans to keep what the next hop refuses and the feeding queue would
// report to a stranger: to come again would not help it. Where one reply must do
// for all and others are done with, planRefused does the same.
func (j *job) holdBack(rcpts []int) {
	if j.tx.Input.OneReply() && j.othersDone() {
		return
	}
	var held []string
	var refusal, reason string
	for _, i := range rcpts {
		r := &j.rcpts[i]
		why := j.gate.HandOn(i)
		if r.receipt.Disposal != mail.Refused || why.Open() {
			continue
		}
		r.plan = j.planKept(i, why)
		r.plan.unsaid = r.receipt.Reply.String()
		held = append(held, j.tx.Rcpts[i].Address.String())
		refusal, reason = r.plan.unsaid, why.Word
	}
	if len(held) > 0 {
		j.Log.Error("the next hop refuses mail whose sender must not be told: it is kept in the quarantine",
			"id", j.tx.ID, "queue_id", j.tx.Client.Ident, "from", j.tx.From, "recipients", held, "refusal", refusal, "reason", reason)
	}
}

// planKept is the plan for recipient i, whom the next hop refused, where the
// sender may not be told.
func (j *job) planKept(i int, why notify.Reason) plan {
	return plan{action: drop, noReport: why.Word, reply: reportReply(j.tx, i, "DSN suppressed", j.rcpts[i].receipt.Reply), copy: policy.CopyTrue}
}

// mustRefuse reports whether nobody may have the message if the next hop does
// not take one recipient: a client that is there hears it for all. A queue hears
// nothing of it; for whom it was refused the message is kept.
func (j *job) mustRefuse() bool {
	return j.tx.Input.OneReply() && !j.tx.Input.AfterQueue() && !j.othersDone()
}

// othersDone reports whether somebody has the message, or the sender is to get a
// report about somebody, or a queue is not to tell him of one who does not get
// it: then a refusal for all would be wrong.
func (j *job) othersDone() bool {
	return j.any(mail.Relayed) || slices.ContainsFunc(j.rcpts, func(r rcptState) bool {
		return r.plan.action == report || r.plan.action == drop && j.tx.Input.AfterQueue()
	})
}

// planRefused makes a new plan for recipients that the next hop refused while
// others are done with, where one reply must do for all. If that is a delay,
// the refusals come again. What mustRefuse is about comes here only when others
// have the message already, and then nobody can be told.
func (j *job) planRefused() {
	if !j.tx.Input.OneReply() || j.any(mail.Deferred) || !j.othersDone() {
		return
	}
	for i := range j.rcpts {
		r := &j.rcpts[i]
		if r.receipt.Disposal != mail.Refused || !r.byMTA {
			continue
		}
		if why := j.gate.Failure(i, &j.ex.Verdicts[i]); why.Open() {
			r.plan = plan{action: report}
		} else {
			r.plan = j.planKept(i, why)
		}
	}
}

// delayRest makes those wait who are not done with: the one reply is a delay,
// and the message comes again for everybody.
func (j *job) delayRest() {
	for i := range j.rcpts {
		switch r := &j.rcpts[i]; r.receipt.Disposal {
		case mail.NotHandled, mail.Refused:
			r.plan = waiting(j.tx)
		}
	}
}

// relay sends o to the next hop written as hop, or back to a client that still
// has the message. It always returns a receipt for every recipient.
func (j *job) relay(ctx context.Context, hop string, o *mail.Outgoing) []mail.Receipt {
	fail := func(err error) []mail.Receipt {
		j.Log.Error("not relayed", "id", j.tx.ID, "next_hop", hop, "err", err)
		out := make([]mail.Receipt, len(o.Rcpts))
		for i := range out {
			out[i] = mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 5, "no next hop")}
		}
		return out
	}
	transport := j.tx.Back
	if transport == nil || o.Kind != mail.KindMessage {
		h, err := mail.ParseNextHop(hop)
		if err != nil {
			return fail(err)
		}
		transport = j.Relay(h)
	}
	receipts := transport.Send(ctx, o)
	if len(receipts) != len(o.Rcpts) {
		return fail(fmt.Errorf("%d receipts for %d recipients", len(receipts), len(o.Rcpts)))
	}
	return receipts
}

func (j *job) addSigned(signed []mail.Signature) {
	for _, s := range signed {
		if !slices.Contains(j.signed, s) {
			j.signed = append(j.signed, s)
		}
	}
}
