package observe

// Messages that were deferred: they come again under the id that they have in
// the feeding queue, until there is an end for each recipient.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern/filter/mail"
)

// waiting is a message in the feeding queue.
type waiting struct {
	first, last time.Time // deferral
	logID       string    // of the last
	mailID      string
	from        mail.Address
	tries       int
	rcpts       map[mail.Address]bool
	unnamed     int // more of them, from records that name none
}

// follow notes who was deferred, and who has come to an end since. Only queues
// behind which we are come again under the same id: before the queue it is the
// client who does, and sendmail(1)'s mail gets a new id with each try.
func (a *audit) follow(r *LedgerRecord) {
	if r.Input != mail.InputLMTP && r.Input != mail.InputSMTP {
		return
	}
	deferred := r.Ends[mail.Deferred.String()]
	if r.QueueID == "" {
		a.Unknown += max(deferred, 0)
		return
	}
	w := a.waiting[r.QueueID]
	if w == nil {
		if deferred <= 0 {
			return
		}
		w = &waiting{first: r.Time, rcpts: map[mail.Address]bool{}}
		a.waiting[r.QueueID] = w
	}
	if deferred > 0 {
		w.last, w.logID, w.mailID, w.from = r.Time, r.LogID, r.MailID, r.From
		w.tries++
	}
	w.note(r, deferred)
	if len(w.rcpts)+w.unnamed == 0 {
		delete(a.waiting, r.QueueID)
	}
}

// note brings who waits up to date. Of recipients without a name it is taken
// that they are those that waited, unless they are more: then they are another
// part of the message, which a queue sends in pieces.
func (w *waiting) note(r *LedgerRecord, deferred int) {
	if len(r.Rcpts) == 0 {
		if before := len(w.rcpts) + w.unnamed; r.Recipients <= before {
			clear(w.rcpts)
			w.unnamed = before - r.Recipients
		}
		w.unnamed += max(0, deferred)
		return
	}
	for _, to := range r.Rcpts {
		if !w.rcpts[to.Address] {
			w.unnamed = max(0, w.unnamed-1)
		}
		delete(w.rcpts, to.Address)
	}
	for _, to := range r.Rcpts {
		if to.End == mail.Deferred.String() {
			w.rcpts[to.Address] = true
		}
	}
}

// overdue lists who has waited too long.
func (a *audit) overdue(now time.Time) {
	a.Waiting = len(a.waiting)
	byAge := func(x, y string) int {
		return cmp.Or(a.waiting[x].first.Compare(a.waiting[y].first), cmp.Compare(x, y))
	}
	for _, id := range slices.SortedFunc(maps.Keys(a.waiting), byAge) {
		w := a.waiting[id]
		if now.Sub(w.first) <= QueueLifetime {
			continue
		}
		a.list(AccountFinding{
			Kind: FindingWaiting, Time: w.first, LogID: w.logID, MailID: w.mailID, QueueID: id, From: w.from,
			What: fmt.Sprintf("%d recipients were deferred and came to no end since: %d tries, the last at %s", len(w.rcpts)+w.unnamed, w.tries, w.last.Format(time.DateTime)),
		})
	}
}
