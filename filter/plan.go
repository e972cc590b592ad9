package filter

// What is to be done for each recipient. A plan proves nothing: replies are
// made of receipts (reply.go).

import (
	"cmp"

	"postern/filter/mail"
	"postern/notify"
	"postern/policy"
)

// action is what is to be done for one recipient.
type action uint8

const (
	delay  action = iota // answer 4xx: the client keeps the message
	pass                 // hand the message on
	report               // do not hand it on, and tell the sender by a report of ours
	refuse               // answer 5xx
	drop                 // answer 2xx, and nobody gets it
	past                 // answer 2xx: it was done when the message came before
)

// plan is what is to be done for one recipient. The zero plan delays.
type plan struct {
	action   action
	reply    mail.Reply    // of delay, refuse and drop
	noReport string        // why a sender who was to be told is not
	unsaid   string        // the refusal that reply stands for, for the event
	copy     policy.CopyTo // whether a copy is kept: CopyTrue, CopyFalse or an address
}

// plans gives each recipient his plan, from the verdict, the gate and the way
// by which the message came in. It does nothing and knows of nothing that was
// done. Where one reply must do for all, it is another plan that changes:
//
//   - one delay delays all;
//   - a queue gets a refusal only if it holds for everybody; else who sends us
//     such mail is told by a report;
//   - before the queue one refusal refuses all.
func plans(tx *mail.Transaction, verdicts []policy.Verdict, sel *policy.Selection, gate *notify.Gate) []plan {
	out := make([]plan, len(verdicts))
	for i := range out {
		out[i] = planFor(tx, i, &verdicts[i], gate)
	}
	if tx.Input.OneReply() {
		plansOfOneReply(tx, out, verdicts, gate)
	}
	for i := range out {
		out[i].copy = out[i].copyTo(&verdicts[i], sel.Rcpts[i].Settings)
	}
	return out
}

// plansOfOneReply changes what must be another plan where one reply must do for
// all.
func plansOfOneReply(tx *mail.Transaction, out []plan, verdicts []policy.Verdict, gate *notify.Gate) {
	if firstWith(out, delay) >= 0 {
		for i := range out {
			if out[i].action != delay {
				out[i] = waiting(tx)
			}
		}
		return
	}
	refused := firstWith(out, refuse)
	switch {
	case refused < 0:
	case !tx.Input.AfterQueue():
		for i := range out {
			out[i] = out[refused]
		}
	case !all(out, refuse):
		for i := range out {
			if out[i].action == refuse {
				out[i] = planReport(tx, i, &verdicts[i], gate)
			}
		}
	}
}

// copyTo says whether a copy is to be kept. By itself it is where the message
// was accepted, nobody gets it and nobody is told, unless the policy says discard.
func (p plan) copyTo(v *policy.Verdict, s *policy.Settings) policy.CopyTo {
	if p.action == delay {
		return policy.CopyFalse
	}
	if s.NoCopyAt(v) {
		return policy.CopyFalse
	}
	set := policy.CopyAuto
	if c := decisive(v).Category; s != nil && policy.CategoryKey(c) != "" {
		set = cmp.Or(s.Category(c).Quarantine, set)
	}
	if set == policy.CopyAuto {
		set = policy.CopyFalse
		if p.action == drop && v.Destiny != policy.Discard {
			set = policy.CopyTrue
		}
	}
	return set
}

// planFor is the plan of recipient i if nobody else were there.
func planFor(tx *mail.Transaction, i int, v *policy.Verdict, gate *notify.Gate) plan {
	switch v.Destiny {
	case policy.Pass:
		return plan{action: pass}
	case policy.Tempfail:
		return plan{action: delay, reply: policyReply(tx, v)}
	case policy.Discard:
		return plan{action: drop, reply: policyReply(tx, v)}
	case policy.Bounce:
		return planReport(tx, i, v, gate)
	case policy.Reject:
		if tx.Input == mail.InputLocal && tx.From == "" {
			// a report of the MTA's own: refused, it would be lost
			return planUntold(tx, i, v, gate.Failure(i, v))
		}
		if why := gate.Refusal(i, v); !why.Open() {
			return planUntold(tx, i, v, why)
		}
		return plan{action: refuse, reply: policyReply(tx, v)}
	}
	return plan{action: delay, reply: mail.NewReply(451, 3, 0, "Error in processing, id=%s", tx.ID)}
}

// planReport tells the sender by a report. Where none may be written, a client
// that is still there gets a refusal.
func planReport(tx *mail.Transaction, i int, v *policy.Verdict, gate *notify.Gate) plan {
	why := gate.Failure(i, v)
	switch {
	case why.Open():
		return plan{action: report}
	case !tx.Input.AfterQueue():
		return plan{action: refuse, reply: blockedReply(tx, v, policy.Reject), noReport: why.Word}
	}
	return planUntold(tx, i, v, why)
}

// planUntold drops what would else be told to a stranger.
func planUntold(tx *mail.Transaction, i int, v *policy.Verdict, why notify.Reason) plan {
	return plan{action: drop, noReport: why.Word, reply: reportReply(tx, i, "DSN suppressed", policyReply(tx, v))}
}

// dismissals gives each recipient the same answer, which nothing in the message
// is the reason of. A refusal that the feeding queue would turn into a report to
// a stranger is not said: the message is put off. So it is for all where one
// reply must do for all.
func dismissals(tx *mail.Transaction, reply mail.Reply, v *policy.Verdict, gate *notify.Gate) []plan {
	out := make([]plan, len(tx.Rcpts))
	closed := notify.Reason{}
	for i := range out {
		switch why := gate.Refusal(i, v); {
		case reply.Class() != 5:
			out[i] = plan{action: delay, reply: reply}
		case why.Open():
			out[i] = plan{action: refuse, reply: reply}
		default:
			out[i], closed = unsaid(tx, i, reply, why), why
		}
	}
	if !closed.Open() && tx.Input.OneReply() {
		for i := range out {
			out[i] = unsaid(tx, i, reply, closed)
		}
	}
	return out
}

// unsaid is the plan for recipient i where a refusal must not be said: the message
// is kept if it is there as a whole, for to come again would not help it.
func unsaid(tx *mail.Transaction, i int, refusal mail.Reply, why notify.Reason) plan {
	p := plan{action: delay, noReport: why.Word, unsaid: refusal.String(), reply: later(refusal)}
	if tx.Message.Size() >= max(tx.Size, 1) {
		p.action, p.copy = drop, policy.CopyTrue
		p.reply = reportReply(tx, i, "DSN suppressed", refusal)
	}
	return p
}

// later is a refusal as one that may pass.
func later(refusal mail.Reply) mail.Reply {
	return mail.NewReply(451, refusal.Enhanced[1], refusal.Enhanced[2], "%s", refusal.Text)
}

// waiting is the plan for those whose message comes again because of another
// recipient.
func waiting(tx *mail.Transaction) plan {
	return plan{action: delay, reply: mail.NewReply(451, 5, 0, "id=%s - waits for another recipient of the message", tx.ID)}
}

// firstWith returns the index of the first plan with that action, or -1.
func firstWith(plans []plan, a action) int {
	for i := range plans {
		if plans[i].action == a {
			return i
		}
	}
	return -1
}

func all(plans []plan, a action) bool {
	for i := range plans {
		if plans[i].action != a {
			return false
		}
	}
	return true
}
