package filter

// Mail that comes again although it was dealt with, because the answer did not
// arrive: what the journal has of it is not done a second time.

import (
	"crypto/sha256"
	"sync"

	"postern/filter/mail"
)

// Journal remembers what was done, see reinject/journal.
type Journal interface {
	Find(mail.TraceKey) (mail.Trace, bool)
	Note(mail.Trace, ...mail.TraceKey)
}

// untraced has the listeners of which it was said that their mail has no trace.
var untraced sync.Map

// recall makes the keys of all recipients, and gives a receipt to whom the journal
// has an end for. Mail that does not come from a queue, or whose queue does not
// tell its id (XFORWARD IDENT), has no trace.
func (j *job) recall() {
	tx := j.tx
	if j.Journal == nil || !tx.Input.AfterQueue() || tx.Back != nil {
		return
	}
	if tx.Client.Ident == "" {
		if _, told := untraced.LoadOrStore(tx.Listener, true); !told {
			j.Log.Warn("the feeding queue does not tell its id: there is no journal of its mail, and after a crash of this program some may come twice", "listener", tx.Listener,
				"hint", "set lmtp_send_xforward_command=yes (smtp_send_xforward_command for smtp) in master.cf")
		}
		return
	}
	j.keys = make([]mail.TraceKey, len(tx.Rcpts))
	j.digest = sha256.Sum256(tx.Message.Bytes())
	for i := range tx.Rcpts {
		j.keys[i] = mail.KeyOf(tx.Client.Ident, j.digest, tx.From, &tx.Rcpts[i])
		t, ok := j.Journal.Find(j.keys[i])
		if !ok {
			continue
		}
		r := &j.rcpts[i]
		switch t.Disposal {
		case mail.Quarantined:
			r.kept = true
			j.copies = append(j.copies, t.Note)
		case mail.Relayed, mail.Bounced:
		default:
			j.Log.Warn("a message comes again, and nobody knows whether it was delivered: it may come twice", "id", tx.ID, "queue_id", tx.Client.Ident, "first_id", t.LogID, "recipient", tx.Rcpts[i].Address)
			continue
		}
		r.receipt = mail.Receipt{Disposal: t.Disposal, Reply: pastReply(&t)}
		r.plan = plan{action: past}
		j.Log.Info("a message comes again and was dealt with", "id", tx.ID, "queue_id", tx.Client.Ident, "first_id", t.LogID, "recipient", tx.Rcpts[i].Address, "end", t.Disposal.String())
	}
}

// note writes down what was done, or is about to be, for some recipients.
func (j *job) note(d mail.Disposal, note string, rcpts ...int) {
	if j.keys == nil || len(rcpts) == 0 {
		return
	}
	keys := make([]mail.TraceKey, len(rcpts))
	for n, i := range rcpts {
		keys[n] = j.keys[i]
	}
	j.Journal.Note(j.trace(d, note), keys...)
}

func (j *job) trace(d mail.Disposal, note string) mail.Trace {
	return mail.Trace{Disposal: d, Ident: j.tx.Client.Ident, LogID: j.tx.ID, Note: note}
}

// copyKey names the copy in the quarantine, or that for an address, in the journal.
func (j *job) copyKey(to mail.Address) mail.TraceKey {
	return mail.KeyOf(j.tx.Client.Ident, j.digest, j.tx.From, &mail.Recipient{ORCPT: mail.ORCPT("copy;" + to)})
}

// keptBefore returns where a copy is that was kept when the message came before, and
// had to come again for another reason.
func (j *job) keptBefore(to mail.Address) (where string, ok bool) {
	if j.keys == nil {
		return "", false
	}
	t, ok := j.Journal.Find(j.copyKey(to))
	return t.Note, ok && t.Disposal == mail.Quarantined
}

// noteCopy writes down where a copy is.
func (j *job) noteCopy(to mail.Address, where string) {
	if j.keys != nil {
		j.Journal.Note(j.trace(mail.Quarantined, where), j.copyKey(to))
	}
}

// noteEnds writes down what became of the recipients of a transaction. Where the
// next hop may have the message, that stays.
func (j *job) noteEnds(receipts []mail.Receipt, done mail.Disposal, rcpts []int) {
	if j.keys == nil {
		return
	}
	ends := map[string][]int{} // by the answer; most often there is one
	var order []string
	var failed []int
	for n := range receipts {
		switch r := &receipts[n]; {
		case r.Disposal == mail.Relayed:
			if ends[r.Reply.Text] == nil {
				order = append(order, r.Reply.Text)
			}
			ends[r.Reply.Text] = append(ends[r.Reply.Text], rcpts[n])
		case !r.InDoubt:
			failed = append(failed, rcpts[n])
		}
	}
	for _, text := range order {
		j.note(done, text, ends[text]...)
	}
	j.note(mail.Deferred, "", failed...)
}
