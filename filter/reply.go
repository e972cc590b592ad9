package filter

import (
	"fmt"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// replies is the only place where a final reply is made, and it makes them
// from receipts: one per recipient, or one for all where the input takes no
// more.
func (j *job) replies() []mail.Reply {
	receipts := make([]mail.Receipt, len(j.rcpts))
	for i := range j.rcpts {
		receipts[i] = j.rcpts[i].receipt
	}
	if j.tx.Input.OneReply() {
		return []mail.Reply{mergeReplies(receipts, j.tx.ID)}
	}
	out := make([]mail.Reply, len(receipts))
	for i, r := range receipts {
		out[i] = finalReply(r)
	}
	return out
}

// finalReply turns a receipt into a reply. A receipt whose reply does not fit
// its disposal is a mistake of ours, and mistakes keep the message in the
// feeding queue.
func finalReply(r mail.Receipt) mail.Reply {
	want := 4
	switch r.Disposal {
	case mail.Relayed, mail.Quarantined, mail.Bounced, mail.Discarded:
		want = 2
	case mail.Refused:
		want = 5
	}
	if r.Reply.Class() != want {
		return mail.NewReply(451, 3, 0, "Error in processing")
	}
	return r.Reply
}

// mergeReplies makes one reply for all recipients (Amavis:
// one_response_for_all): any delay delays all; a refusal only if nobody was
// accepted; else the text of the first delivery and what became of the rest.
func mergeReplies(receipts []mail.Receipt, id string) mail.Reply {
	var relayed, refused, bounced, discarded *mail.Reply
	count := map[mail.Disposal]int{}
	for _, r := range receipts {
		reply := finalReply(r)
		if reply.Class() == 4 {
			return reply
		}
		if r.Disposal == mail.Quarantined {
			r.Disposal = mail.Discarded // to whom it concerns it is the same
		}
		count[r.Disposal]++
		switch r.Disposal {
		case mail.Relayed:
			relayed = first(relayed, reply)
		case mail.Refused:
			refused = first(refused, reply)
		case mail.Bounced:
			bounced = first(bounced, reply)
		case mail.Discarded:
			discarded = first(discarded, reply)
		}
	}
	switch {
	case len(receipts) == 0: // nobody to answer for: a mistake of ours
		return mail.NewReply(451, 3, 0, "Error in processing")
	case relayed == nil && bounced == nil && refused != nil:
		return *refused
	case relayed == nil && refused == nil && bounced == nil && discarded != nil:
		return *discarded
	case relayed == nil && refused == nil && discarded == nil && bounced != nil:
		return *bounced
	}
	reply, but := mail.NewReply(250, 5, 0, "Ok, id=%s", id), ""
	if relayed != nil {
		reply, but = *relayed, "but "
	}
	var rest []string
	for _, d := range []struct {
		disposal mail.Disposal
		word     string
	}{{mail.Refused, "REJECT"}, {mail.Bounced, "BOUNCE"}, {mail.Discarded, "DISCARD"}} {
		if n := count[d.disposal]; n > 0 {
			rest = append(rest, fmt.Sprintf("%d %s", n, d.word))
		}
	}
	if len(rest) == 0 {
		return reply
	}
	return mail.NewReply(reply.Code, reply.Enhanced[1], reply.Enhanced[2], "%s, %s%s", reply.Text, but, strings.Join(rest, ", and "))
}

func first(old *mail.Reply, r mail.Reply) *mail.Reply {
	if old != nil {
		return old
	}
	return &r
}

// policyReply is the reply for a blocked recipient: Amavis' codes and words.
func policyReply(tx *mail.Transaction, v *policy.Verdict) mail.Reply {
	return blockedReply(tx, v, v.Destiny)
}

// blockedReply is that reply with another destiny than that of the policy.
func blockedReply(tx *mail.Transaction, v *policy.Verdict, destiny policy.Destiny) mail.Reply {
	code, subject, detail := blockingCode(v.Blocking)
	reason := "id=" + tx.ID + " - " + reasonText(v)
	switch destiny {
	case policy.Discard:
		return mail.NewReply(250, subject, detail, "Ok, discarded, %s", reason)
	case policy.Tempfail:
		return mail.NewReply(451, subject, detail, "Temporary failure, %s", reason)
	case policy.Bounce:
		return mail.NewReply(code, subject, detail, "Bounce, %s", reason)
	}
	return mail.NewReply(code, subject, detail, "Reject, %s", reason)
}

// blockingCode returns the code of a refusal, and subject and detail of its
// enhanced status code (RFC 3463).
func blockingCode(c policy.ContentCategory) (code, subject, detail int) {
	switch c.Category {
	case mail.Oversized:
		return 552, 3, 4
	case mail.BadHeader:
		if c.Minor == mail.BadHeader8Bit {
			return 554, 6, 3
		}
		return 554, 6, 0
	}
	return 554, 7, 0
}

// reportReply tells the feeding MTA that recipient i is done with, and whether
// the sender was told of inner: "Ok <r>, DSN was sent (554 5.7.0 ...)".
func reportReply(tx *mail.Transaction, i int, what string, inner mail.Reply) mail.Reply {
	return mail.NewReply(250, 5, 0, "Ok %s, %s (%s)", tx.Rcpts[i].Address, what, inner)
}

// pastReply tells the feeding queue that the message was dealt with when it came
// before.
func pastReply(t *mail.Trace) mail.Reply {
	what := map[mail.Disposal]string{mail.Relayed: "was delivered before", mail.Bounced: "DSN was sent before", mail.Quarantined: "was kept before"}[t.Disposal]
	return mail.NewReply(250, 0, 0, "Ok, %s, id=%s: %s", what, t.LogID, t.Note)
}

// reasonText says in one phrase why a recipient is blocked.
func reasonText(v *policy.Verdict) string {
	c := decisive(v)
	names := strings.Join(v.ShortNames(c.Category), ", ")
	switch c.Category {
	case mail.Infected:
		return "INFECTED: " + names
	case mail.Banned:
		return "BANNED: " + names
	case mail.Unchecked:
		return "UNCHECKED: " + mail.UncheckedPhrase(c.Minor)
	case mail.Spam:
		return "spam"
	case mail.Spammy:
		return "spammy"
	case mail.BadHeader:
		if names == "" {
			return "BAD HEADER"
		}
		return "BAD HEADER: " + names
	case mail.Oversized:
		return "Message size exceeds recipient's size limit"
	}
	return c.Category.String()
}
