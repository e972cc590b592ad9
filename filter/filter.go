// Package filter takes a message from input to reply. [Filter.Process] is the
// whole way and reads from top to bottom: examine (no side effects), then
// enact, in the order in which failing is still harmless.
//
// Checks report, policy decides, transports act; this package only connects
// them, and computes every final reply from receipts (see reply.go). It opens
// no connection of its own. Start with [Filter] and [Examination].
package filter

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
	"postern/notify"
	"postern/policy"
)

// Filter is what one message needs on its way. It is immutable: a reload makes
// a new one, and messages in work finish under the old.
type Filter struct {
	Policy *policy.Config
	Checks []check.Named
	Keys   *auth.Keys // DKIM signing keys, nil for none
	// Relay returns the transport to a next hop.
	Relay func(mail.NextHop) mail.Transport
	// Room is the memory for taking messages apart, shared with the filters
	// before this one; nil for no bound. A message that waits for it in vain
	// gets 451.
	Room *unpack.Room
	// Log gets one record per message with an *Event under the key "event",
	// and warnings.
	Log *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Examination is all that is known about a message before anything is done
// with it.
type Examination struct {
	Selection *policy.Selection
	Results   []check.Result
	Findings  []mail.Finding
	Verdicts  []policy.Verdict // one per recipient
	Scanned   bool             // a virus scanner gave a complete answer
}

// job is one message in Process.
type job struct {
	*Filter
	tx     *mail.Transaction
	ex     *Examination
	gate   *notify.Gate
	rcpts  []rcptState
	signed []auth.Signature
}

// rcptState is what Enact knows about one recipient besides its verdict: what
// is to be done, and the proof of what was done.
type rcptState struct {
	plan    plan
	receipt mail.Receipt
	byMTA   bool // the next hop said so
	tagged  bool // the copy has an alert or a subject tag
}

// Process takes one message from input to reply: one reply per recipient, in
// the order of tx.Rcpts, or a single one where the input takes no more.
// A reply of 2xx is always backed by a receipt.
func (f *Filter) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	if reply, loops := f.loop(tx); loops {
		f.Log.Warn("mail loop", "id", tx.ID, "queue_id", tx.Client.Ident, "from", tx.From, "reply", reply.Text, "hint", "is content_filter= empty on the service that takes mail back?")
		return f.answerAll(tx, mail.Receipt{Disposal: mail.Refused, Reply: reply})
	}
	ex, err := f.Examine(ctx, tx)
	if err != nil {
		f.Log.Error("message deferred", "id", tx.ID, "queue_id", tx.Client.Ident, "err", err)
		reply := mail.NewReply(451, 3, 0, "Error in processing, id=%s", tx.ID)
		return f.answerAll(tx, mail.Receipt{Disposal: mail.Deferred, Reply: reply})
	}
	for _, r := range ex.Results {
		if r.Err != nil {
			f.Log.Warn("check failed", "id", tx.ID, "check", r.Check, "err", r.Err)
		}
	}
	replies, event := f.Enact(ctx, tx, ex)
	for _, line := range event.Lines() {
		f.Log.Info(line, "event", event)
	}
	return replies
}

// Enact does what the verdicts say, in the order in which failing is still
// harmless, and returns the replies and what there is to log. What was handed
// on cannot be taken back, so a report goes out only after it: a next hop that
// delays the message, which then comes again, must not get the sender the same
// report with each try.
func (f *Filter) Enact(ctx context.Context, tx *mail.Transaction, ex *Examination) ([]mail.Reply, *Event) {
	tx.MailID = newMailID()
	j := &job{Filter: f, tx: tx, ex: ex, gate: notify.NewGate(tx, ex.Selection), rcpts: make([]rcptState, len(tx.Rcpts))}
	for i, p := range plans(tx, ex.Verdicts, j.gate) {
		j.rcpts[i].plan = p
	}
	j.forward(ctx)
	j.report(ctx)
	j.settle()
	j.warnAgain()
	j.reportRelayed(ctx)
	j.notifyAdmins(ctx)
	return j.replies(), j.event()
}

// answerAll gives every recipient the same receipt.
func (f *Filter) answerAll(tx *mail.Transaction, r mail.Receipt) []mail.Reply {
	j := &job{Filter: f, tx: tx, rcpts: make([]rcptState, len(tx.Rcpts))}
	for i := range j.rcpts {
		j.rcpts[i].receipt = r
	}
	return j.replies()
}

// Examine selects the settings, takes the message apart, runs the checks and
// decides. It has no side effects; an error means that no verdict could be
// reached.
func (f *Filter) Examine(ctx context.Context, tx *mail.Transaction) (*Examination, error) {
	sel, err := f.Select(ctx, tx)
	if err != nil {
		return nil, err
	}
	ex := &Examination{Selection: sel}
	// what is left of the deadline is for handing the message on
	checkCtx, cancel := context.WithTimeout(ctx, f.Policy.Limits.CheckDeadline)
	defer cancel()
	in := &check.Input{Tx: tx}
	apart := newUnpacking(f.Policy)
	looked := check.Named{Name: "unpack", Check: apart, Categories: []mail.Category{mail.Infected, mail.Banned}}
	if ex.needs(looked) {
		if err := apart.enter(checkCtx, f.Room, tx.Message.Size()); err != nil {
			return nil, fmt.Errorf("waiting for memory to take the message apart: %w", err)
		}
		defer apart.leave()
		ex.run(checkCtx, in, []check.Named{looked})
		in.Parts = apart.root()
	}
	banned := check.Named{Name: "banned", Check: bannedFiles{sel}, Categories: []mail.Category{mail.Banned}}
	ex.run(checkCtx, in, append(slices.Clone(f.Checks), banned))
	ex.Verdicts = policy.Decide(sel, ex.Findings)
	return ex, nil
}

// Select finds the settings of the envelope.
func (f *Filter) Select(ctx context.Context, tx *mail.Transaction) (*policy.Selection, error) {
	req := policy.Request{Listener: tx.Listener, Client: tx.Client.Addr, From: tx.From, Banks: tx.Banks}
	for _, r := range tx.Rcpts {
		req.Rcpts = append(req.Rcpts, r.Address)
	}
	sel, err := f.Policy.Select(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("selecting the policy: %w", err)
	}
	sel.Unanswerable = notify.Unanswerable(tx)
	return sel, nil
}

// run runs the checks that some recipient needs and adds what they say.
func (ex *Examination) run(ctx context.Context, in *check.Input, checks []check.Named) {
	checks = slices.DeleteFunc(checks, func(c check.Named) bool { return !ex.needs(c) })
	for i, r := range check.Run(ctx, checks, in) {
		ex.Results = append(ex.Results, r)
		ex.Findings = append(ex.Findings, ex.addressed(checks[i], r)...)
		ex.Scanned = ex.Scanned || r.Scanned
	}
}

// needs reports whether some recipient needs c.
func (ex *Examination) needs(c check.Named) bool {
	return slices.ContainsFunc(ex.Selection.Rcpts, func(r policy.RcptSelection) bool { return !bypassed(r.Settings, c.Categories) })
}

// addressed returns the findings of a check. What it could not check concerns
// only the recipients who want the check.
func (ex *Examination) addressed(c check.Named, r check.Result) []mail.Finding {
	rcpts := ex.Selection.Rcpts
	if !slices.ContainsFunc(rcpts, func(r policy.RcptSelection) bool { return bypassed(r.Settings, c.Categories) }) {
		return r.Findings
	}
	var out []mail.Finding
	for _, finding := range r.Findings {
		if finding.Category != mail.Unchecked || finding.Rcpt != mail.AllRcpts {
			out = append(out, finding)
			continue
		}
		for i := range rcpts {
			if !bypassed(rcpts[i].Settings, c.Categories) {
				finding.Rcpt = i
				out = append(out, finding)
			}
		}
	}
	return out
}

func (ex *Examination) infected() bool {
	return slices.ContainsFunc(ex.Findings, func(f mail.Finding) bool { return f.Category == mail.Infected })
}

func bypassed(s *policy.Settings, categories []mail.Category) bool {
	for _, c := range categories {
		if !s.Category(c).Bypass {
			return false
		}
	}
	return len(categories) > 0
}

// settle gives those a receipt for whom there was nothing to do but to answer.
func (j *job) settle() {
	for i := range j.rcpts {
		r := &j.rcpts[i]
		switch open := r.receipt.Disposal == mail.NotHandled; {
		case r.plan.action == drop: // of what a next hop refused, too
			r.receipt.Disposal, r.receipt.Reply = mail.Discarded, r.plan.reply
		case open && r.plan.action == delay:
			r.receipt = mail.Receipt{Disposal: mail.Deferred, Reply: r.plan.reply}
		case open && r.plan.action == refuse:
			r.receipt = mail.Receipt{Disposal: mail.Refused, Reply: r.plan.reply}
		}
	}
}

// any reports whether one of these became of some recipient.
func (j *job) any(disposals ...mail.Disposal) bool {
	return slices.ContainsFunc(j.rcpts, func(r rcptState) bool { return slices.Contains(disposals, r.receipt.Disposal) })
}

func (f *Filter) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

// newMailID returns 12 characters of base64url that begin and end with a
// letter or digit, as in Amavis, so that they are safe in names and logs.
func newMailID() string {
	var b [9]byte
	for {
		// crypto/rand.Read never fails (it ends the program instead)
		_, _ = rand.Read(b[:])
		id := base64.URLEncoding.EncodeToString(b[:])
		if alnum(id[0]) && alnum(id[11]) {
			return id
		}
	}
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
