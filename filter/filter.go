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

// rcptState is what Process knows about one recipient besides its verdict.
type rcptState struct {
	receipt  mail.Receipt
	toReport bool   // blocked, and the sender is to get a non-delivery report
	noReport string // why there is none although the policy asked for one
	byMTA    bool   // the next hop refused
	tagged   bool   // delivered with an alert or a subject tag
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
// harmless, and returns the replies and what there is to log.
func (f *Filter) Enact(ctx context.Context, tx *mail.Transaction, ex *Examination) ([]mail.Reply, *Event) {
	tx.MailID = newMailID()
	j := &job{Filter: f, tx: tx, ex: ex, gate: notify.NewGate(tx, ex.Selection), rcpts: make([]rcptState, len(tx.Rcpts))}
	j.settle()
	if tx.Input.OneReply() {
		// A single reply cannot say that some recipients are done: the
		// report goes out while nothing else has, and one failure stops all.
		j.report(ctx)
		if j.deferred() {
			j.deferRest()
		}
	}
	j.forward(ctx)
	j.report(ctx)
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

// settle deals with all that the policy alone decides: refusals, discards and
// delays. What is left is to be forwarded or reported.
func (j *job) settle() {
	for i := range j.rcpts {
		v, r := &j.ex.Verdicts[i], &j.rcpts[i]
		switch v.Destiny {
		case policy.Pass:
		case policy.Tempfail:
			r.receipt = mail.Receipt{Disposal: mail.Deferred, Reply: j.policyReply(v)}
		case policy.Discard:
			r.receipt = mail.Receipt{Disposal: mail.Discarded, Reply: j.policyReply(v)}
		case policy.Bounce:
			j.settleBounce(i)
		case policy.Reject:
			j.settleReject(i)
		default:
			r.receipt = mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 0, "Error in processing, id=%s", j.tx.ID)}
		}
	}
	if j.tx.Input.OneReply() && j.deferred() {
		j.deferRest()
	}
}

// settleBounce marks recipient i for a report, or discards with the reason
// why there must be none.
func (j *job) settleBounce(i int) {
	if why := j.gate.Failure(i, &j.ex.Verdicts[i], 0); !why.Open() {
		j.suppress(i, why)
		return
	}
	j.rcpts[i].toReport = true
}

// settleReject refuses recipient i, unless the refusal would make the feeding
// queue tell a stranger, or cannot be said because the one reply must be
// another for the other recipients.
func (j *job) settleReject(i int) {
	if j.tx.Input.OneReply() && j.tx.Input.AfterQueue() && !j.allRefusable() {
		j.settleBounce(i)
		return
	}
	v := &j.ex.Verdicts[i]
	if why := j.gate.Refusal(i, v, 0); !why.Open() {
		j.suppress(i, why)
		return
	}
	j.rcpts[i].receipt = mail.Receipt{Disposal: mail.Refused, Reply: j.policyReply(v)}
}

// suppress discards for recipient i what would else be told to a stranger.
func (j *job) suppress(i int, why notify.Reason) {
	r := &j.rcpts[i]
	r.noReport = why.Word
	r.receipt.Disposal, r.receipt.Reply = mail.Discarded, j.reportReply(i, "DSN suppressed")
}

// allRefusable reports whether one 5xx can be the reply for every recipient.
func (j *job) allRefusable() bool {
	for i := range j.rcpts {
		v := &j.ex.Verdicts[i]
		if v.Destiny != policy.Reject || !j.gate.Refusal(i, v, 0).Open() {
			return false
		}
	}
	return true
}

// deferred reports whether some recipient got a temporary refusal.
func (j *job) deferred() bool { return j.any(mail.Deferred) }

// any reports whether one of these became of some recipient.
func (j *job) any(disposals ...mail.Disposal) bool {
	return slices.ContainsFunc(j.rcpts, func(r rcptState) bool { return slices.Contains(disposals, r.receipt.Disposal) })
}

// deferRest makes the whole message wait: nothing has been sent yet.
func (j *job) deferRest() {
	for i := range j.rcpts {
		if r := &j.rcpts[i]; r.receipt.Disposal != mail.Deferred {
			*r = rcptState{receipt: mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 5, 0, "id=%s - waits for another recipient of the message", j.tx.ID)}}
		}
	}
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
