package observe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

// Account is the ledger added up, and what does not add up: every recipient
// that was received must have come to one of the ends.
type Account struct {
	Since      time.Time        `json:"since,omitzero"`
	First      time.Time        `json:"first,omitzero"` // record that was read
	Last       time.Time        `json:"last,omitzero"`
	Messages   int              `json:"messages"`
	Recipients int              `json:"recipients"`
	Ends       map[string]int   `json:"ends"`
	Actions    map[string]int   `json:"actions,omitempty"` // that were taken with copies
	Lost       int              `json:"lost"`              // records that could not be written
	Torn       int              `json:"torn"`              // lines that end too soon, which is no fault
	Waiting    int              `json:"waiting"`           // messages in the feeding queue
	Unknown    int              `json:"waiting_unknown"`   // deferrals that no queue id follows
	Findings   []AccountFinding `json:"findings"`
	More       int              `json:"more_findings,omitempty"` // than Findings holds
}

// AccountFinding is one thing that does not add up.
type AccountFinding struct {
	Kind    FindingKind  `json:"kind"`
	Time    time.Time    `json:"time"`
	What    string       `json:"what"`
	LogID   string       `json:"log_id,omitempty"`
	MailID  string       `json:"mail_id,omitempty"`
	QueueID string       `json:"queue_id,omitempty"`
	From    mail.Address `json:"from,omitempty"`
	File    string       `json:"file,omitempty"` // of the ledger
	Line    int          `json:"line,omitempty"`
}

// FindingKind says which promise is broken.
type FindingKind string

// The kinds of findings.
const (
	FindingLaw     FindingKind = "law"     // recipients and ends differ
	FindingGap     FindingKind = "gap"     // records are missing
	FindingCopy    FindingKind = "copy"    // what was quarantined is not there
	FindingWaiting FindingKind = "waiting" // deferred, and no end came in time
)

// Right reports whether everything adds up.
func (a *Account) Right() bool { return len(a.Findings) == 0 }

// QueueLifetime is how long a message may wait in the feeding queue: Postfix'
// maximal_queue_lifetime.
const QueueLifetime = 5 * 24 * time.Hour

// maxFindings bounds what is listed, and maxRecent how many messages back one
// that is there twice is known.
const (
	maxFindings = 1000
	maxRecent   = 4096
)

// AuditOptions say what an audit looks at.
type AuditOptions struct {
	Since time.Time // zero: all that is there
	Now   time.Time // zero: time.Now
	// Kept reports whether a copy, as in [mail.Event], is in the quarantine; nil:
	// nobody looks. An error means that this cannot be seen.
	Kept func(path string) (bool, error)
}

// Audit adds up the ledger in dir.
func Audit(dir string, o AuditOptions) (*Account, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	a := &audit{
		Account: Account{Since: o.Since, Ends: map[string]int{}, Actions: map[string]int{}, Findings: []AccountFinding{}},
		copies:  map[string]copyOf{}, waiting: map[string]*waiting{}, recent: map[string]bool{},
	}
	if err := ReadLedger(dir, o.Since, a.add); err != nil {
		return nil, err
	}
	if err := a.missing(dir, o); err != nil {
		return nil, err
	}
	a.overdue(o.Now)
	return &a.Account, nil
}

// audit is the state of an audit. It remembers what is still open, and else
// only sums.
type audit struct {
	Account
	copies  map[string]copyOf   // in the quarantine, see copyID
	waiting map[string]*waiting // in the feeding queue, by queue id
	recent  map[string]bool     // mail ids of the last messages
	ring    []string            // the same in the order in which they came
	next    int                 // in ring
}

// copyOf is a copy in the quarantine, and the message for which it was kept.
type copyOf struct {
	path                   string
	at                     time.Time
	logID, mailID, queueID string
	from                   mail.Address
}

// copyID names a copy by the mail id at the end of its path: actions name that.
// A message that comes again has a copy under the id that it had before.
func copyID(path string) string {
	const n = len("l-lKDmN1sSk1")
	return path[max(0, len(path)-n):]
}

func (a *audit) add(r *LedgerRecord) error {
	if a.First.IsZero() {
		a.First = r.Time
	}
	a.Last = r.Time
	switch {
	case r.Damage == Torn:
		a.Torn++
	case r.Damage == Garbled:
		a.find(FindingGap, r, fmt.Sprintf("line %d of %s is no record", r.Line, r.File))
	case r.Damage == Foreign:
		a.find(FindingGap, r, r.File+" is in another format, and what it holds is not counted")
	case r.Lost > 0:
		a.Lost += r.Lost
		a.find(FindingGap, r, fmt.Sprintf("%d records before this time could not be written", r.Lost))
	case r.Action != "":
		a.Actions[r.Action]++
		delete(a.copies, copyID(r.MailID))
	default:
		a.message(r)
	}
	return nil
}

func (a *audit) message(r *LedgerRecord) {
	a.Messages++
	a.Recipients += r.Recipients
	for end, n := range r.Ends {
		a.Ends[end] += n
	}
	if broken := r.Broken(); broken != "" {
		a.find(FindingLaw, r, broken)
	}
	if a.seen(r.MailID) {
		a.find(FindingLaw, r, "this message has two records")
	}
	for _, path := range r.Quarantine {
		if !strings.Contains(path, "@") { // else it was sent to that address
			a.copies[copyID(path)] = copyOf{path, r.Time, r.LogID, r.MailID, r.QueueID, r.From}
		}
	}
	a.follow(r)
}

// seen remembers a mail id, and reports whether one of the last messages has
// it. An id of nine random octets comes but once.
func (a *audit) seen(id string) bool {
	switch {
	case id == "":
		return false
	case a.recent[id]:
		return true
	case len(a.ring) < maxRecent:
		a.ring = append(a.ring, id)
	default:
		delete(a.recent, a.ring[a.next])
		a.ring[a.next] = id
		a.next = (a.next + 1) % maxRecent
	}
	a.recent[id] = true
	return false
}

func (a *audit) find(kind FindingKind, r *LedgerRecord, what string) {
	a.list(AccountFinding{Kind: kind, Time: r.Time, What: what, LogID: r.LogID, MailID: r.MailID, QueueID: r.QueueID, From: r.From, File: r.File, Line: r.Line})
}

func (a *audit) list(f AccountFinding) {
	if len(a.Findings) >= maxFindings {
		a.More++
		return
	}
	a.Findings = append(a.Findings, f)
}

// Broken says what is wrong with the record of a message: each recipient that
// was received must have come to one end, and one that is in the quarantine
// must be there as a copy. Empty: nothing is.
func (r *LedgerRecord) Broken() string {
	sum := 0
	var ends []string
	for _, end := range slices.Sorted(maps.Keys(r.Ends)) {
		n := r.Ends[end]
		if n < 1 || n > 1<<31 {
			return fmt.Sprintf("it counts %d recipients as %s", n, mail.Escape(end))
		}
		if !isEnd(end) {
			return fmt.Sprintf("%d of %d recipients came to no end: %s", n, r.Recipients, mail.Escape(end))
		}
		sum += n
		ends = append(ends, fmt.Sprintf("%d %s", n, end))
	}
	if sum != r.Recipients {
		return fmt.Sprintf("%d recipients were received, %d came to an end: %s", r.Recipients, sum, cmp.Or(strings.Join(ends, ", "), "none"))
	}
	if len(r.Rcpts) > 0 {
		named := map[string]int{}
		for _, to := range r.Rcpts {
			named[to.End]++
		}
		if !maps.Equal(named, r.Ends) {
			return "the recipients that it names came to other ends than it counts"
		}
	}
	if r.Ends[mail.Quarantined.String()] > 0 && len(r.Quarantine) == 0 {
		return "recipients were quarantined, and no copy is named"
	}
	return ""
}

// isEnd reports whether a word is that of an end.
func isEnd(word string) bool {
	return slices.Contains(Ends(), word)
}

// Ends returns the words of all ends.
func Ends() []string {
	var out []string
	for d := mail.Relayed; d <= mail.Discarded; d++ {
		out = append(out, d.String())
	}
	return out
}

// missing lists the copies that are not there. What expired while we read the
// ledger has its record by now, so that is looked for again.
func (a *audit) missing(dir string, o AuditOptions) error {
	if o.Kept == nil {
		return nil
	}
	gone := map[string]string{}
	for id, c := range a.copies {
		switch kept, err := o.Kept(c.path); {
		case err != nil:
			gone[id] = "not known whether the copy is there: " + err.Error()
		case !kept:
			gone[id] = "the copy in the quarantine is not there, and nobody noted why: " + mail.Escape(c.path)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	err := ReadLedger(dir, o.Now.Add(-time.Hour), func(r *LedgerRecord) error {
		if r.Action != "" {
			delete(gone, copyID(r.MailID))
		}
		return nil
	})
	byAge := func(x, y string) int {
		return cmp.Or(a.copies[x].at.Compare(a.copies[y].at), cmp.Compare(x, y))
	}
	for _, id := range slices.SortedFunc(maps.Keys(gone), byAge) {
		c := a.copies[id]
		a.list(AccountFinding{Kind: FindingCopy, Time: c.at, What: gone[id], LogID: c.logID, MailID: c.mailID, QueueID: c.queueID, From: c.from})
	}
	return err
}
