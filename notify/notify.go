// Package notify writes what Postern tells people by mail: delivery status
// notifications to senders (NDRs, RFC 3464) and notices to administrators. It
// also holds the gate that keeps reports away from strangers, whether Postern
// or, because of a 5xx of Postern's, the feeding MTA would write them.
//
// The package builds messages and sends nothing. Start with [Gate], which says
// whether a sender may be told, and [Report], which knows what there is to tell.
package notify

import (
	"time"

	"postern/filter/mail"
	"postern/policy"
)

// Report is what there is to tell about one message that has been dealt with.
type Report struct {
	Hostname  string       // our own name, for Reporting-MTA and Message-ID
	From      mail.Address // notify_from: stands in From, is the sender of notices, and is whom people may ask
	Now       time.Time
	Tx        *mail.Transaction
	Selection *policy.Selection
	Outcomes  []Outcome // in the order of Tx.Rcpts

	// Quarantine is where copies are kept, empty if there is none.
	Quarantine string
	// Templates are texts in the place of ours; nil: there are none.
	Templates *Templates
}

// Outcome is what became of one recipient. In an NDR the recipient counts as
// relayed if the receipt says so, and as failed otherwise; Receipt.Reply is
// then the reason: of the next hop if NextHop is set, else of our policy.
type Outcome struct {
	Verdict *policy.Verdict
	Receipt mail.Receipt
}

// refusedByNextHop reports whether not we but the next hop refused.
func (o *Outcome) refusedByNextHop() bool {
	return o.Receipt.NextHop != "" && o.Receipt.Disposal != mail.Relayed && !o.Receipt.Reply.IsZero()
}

// category is the one that people are told: the one that decided, or else the
// highest.
func (o *Outcome) category() policy.ContentCategory {
	if o.Verdict.Blocking.Category != mail.CatchAll {
		return o.Verdict.Blocking
	}
	return o.Verdict.Main()
}

// reference names the message in our log and in every mail about it.
func (r *Report) reference() string { return r.Tx.ID + "/" + r.Tx.MailID }
