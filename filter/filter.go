// Package filter takes a message from input to reply. [Filter.Process] is the
// whole way and reads from top to bottom: examine (no side effects), then
// enact, in the order in which failing is still harmless.
//
// Checks report, policy decides, transports act; this package only connects
// them, and computes every final reply from receipts (see reply.go). It opens
// no connection of its own. Start with [Filter] and [Examination].
package filter

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
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
	Mark   Mark       // by which mail is known that was here before
	Keys   *auth.Keys // DKIM signing keys, nil for none
	// Relay returns the transport to a next hop.
	Relay func(mail.NextHop) mail.Transport
	// Room is the memory for taking messages apart, shared with the filters
	// before this one; nil for no bound. A message that waits for it in vain
	// gets 451.
	Room *unpack.Room
	// Authenticate finds out who answers for a message, see
	// [auth.Verifier.Authenticate]; nil: nobody asks. It should end when ctx does.
	Authenticate func(ctx context.Context, tx *mail.Transaction, q auth.Questions) *mail.Authentication
	// Quarantine keeps blocked mail; nil: there is none, and what would have to be
	// kept waits in the feeding queue.
	Quarantine Store
	// Templates are the texts of settings that name a folder of them.
	Templates map[string]*notify.Templates
	// Reports bounds the non-delivery reports to one sender, Notices the notices to
	// one administrator or recipient; nil: no bound.
	Reports, Notices *notify.Tally
	// Journal remembers what was done in case the message comes again; nil: nobody
	// does.
	Journal Journal
	// Observers get the event of every message.
	Observers []mail.Observer
	// Log gets warnings.
	Log *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Examination is all that is known about a message before anything is done
// with it.
type Examination struct {
	Authentication *mail.Authentication // nil if nobody has asked
	Selection      *policy.Selection
	Results        []check.Result
	Findings       []mail.Finding
	Verdicts       []policy.Verdict // one per recipient
	Score          *mail.Score      // of all spam engines together, nil if none scored
	Fields         []mail.Edit      // that engines want and may add
	Scanned        bool             // a virus scanner gave a complete answer
}

// job is one message in Process.
type job struct {
	*Filter
	tx     *mail.Transaction
	ex     *Examination
	gate   *notify.Gate
	rcpts  []rcptState
	signed []mail.Signature
	copies []string        // where copies are kept, for log and notices
	keys   []mail.TraceKey // of the recipients in the journal, nil if it is off
	digest [32]byte        // of the message, if it is on
}

// rcptState is what Enact knows about one recipient besides its verdict: what
// is to be done, and the proof of what was done.
type rcptState struct {
	plan    plan
	kept    bool // a copy is in the quarantine, or was taken by who collects them
	receipt mail.Receipt
	byMTA   bool // the next hop said so
	// the copy has an alert, a subject tag or an extension, or says that it is spam
	tagged    bool
	extension string // behind the user name of the copy's recipient
	notSigned string // why the copy of our own people's mail is not
}

// Process takes one message from input to reply: one reply per recipient, in
// the order of tx.Rcpts, or a single one where the input takes no more.
// A reply of 2xx is always backed by a receipt.
func (f *Filter) Process(ctx context.Context, tx *mail.Transaction) (replies []mail.Reply) {
	defer func() {
		if p := recover(); p != nil {
			f.Log.Error("panic", "id", tx.ID, "panic", p, "stack", string(debug.Stack()))
			replies = f.dismiss(ctx, tx, nil, mail.NewReply(451, 3, 0, "Error in processing, id=%s", tx.ID))
		}
	}()
	if reply, loops := f.loop(tx); loops {
		f.Log.Warn("mail loop", "id", tx.ID, "queue_id", tx.Client.Ident, "from", tx.From, "reply", reply.Text, "hint", "is content_filter= empty on the service that takes mail back?")
		return f.Refuse(ctx, tx, reply)
	}
	ex, err := f.Examine(ctx, tx)
	if err != nil {
		f.Log.Error("message deferred", "id", tx.ID, "queue_id", tx.Client.Ident, "err", err)
		return f.dismiss(ctx, tx, ex.Selection, mail.NewReply(451, 3, 0, "Error in processing, id=%s", tx.ID))
	}
	for _, r := range ex.Results {
		if r.Err != nil {
			f.Log.Warn("check failed", "id", tx.ID, "check", r.Check, "err", r.Err)
		}
	}
	if err := ex.Selection.Failed; err != nil {
		f.Log.Error("settings of recipients are not known, those of the configuration are used (on_error: pass)", "id", tx.ID, "err", err)
	}
	replies, event := f.Enact(ctx, tx, ex)
	f.observe(event)
	return replies
}

// Refuse answers a message that nobody looks into, because a listener cannot
// take it, or because it goes in circles. refusal is what there is to say; a 5xx
// is said only where no stranger hears of it.
func (f *Filter) Refuse(ctx context.Context, tx *mail.Transaction, refusal mail.Reply) []mail.Reply {
	sel, err := f.Select(ctx, tx, nil)
	if err != nil {
		f.Log.Error("message deferred", "id", tx.ID, "queue_id", tx.Client.Ident, "err", err)
		sel, refusal = nil, mail.NewReply(451, 3, 0, "Error in processing, id=%s", tx.ID)
	}
	return f.dismiss(ctx, tx, sel, refusal)
}

// dismiss gives all recipients of a message that was not examined the same
// answer. sel is nil if it is not known.
func (f *Filter) dismiss(ctx context.Context, tx *mail.Transaction, sel *policy.Selection, reply mail.Reply) []mail.Reply {
	if sel == nil {
		sel = &policy.Selection{}
		for _, r := range tx.Rcpts {
			sel.Rcpts = append(sel.Rcpts, policy.RcptSelection{Address: r.Address})
		}
	}
	if tx.MailID == "" {
		tx.MailID, tx.SecretID = mail.NewMailID()
	}
	v := policy.Verdict{Destiny: policy.Reject}
	if reply.Enhanced[1] == 3 && reply.Enhanced[2] == 4 { // RFC 3463: message too big
		v.Blocking.Category = mail.Oversized
	}
	v.Categories = []policy.ContentCategory{v.Blocking}
	j := &job{
		Filter: f, tx: tx, gate: notify.NewGate(tx, sel), rcpts: make([]rcptState, len(tx.Rcpts)),
		ex: &Examination{Selection: sel, Verdicts: slices.Repeat([]policy.Verdict{v}, len(tx.Rcpts))},
	}
	for i, p := range dismissals(tx, reply, &v, j.gate) {
		j.rcpts[i].plan = p
	}
	j.recall()
	j.keep(ctx)
	if p := j.rcpts[0].plan; p.unsaid != "" {
		fate := "it waits in the queue until that gives up"
		if j.rcpts[0].kept {
			fate = "it is kept in the quarantine"
		}
		f.Log.Error("a message cannot be taken, and its sender must not be told: "+fate,
			"id", tx.ID, "queue_id", tx.Client.Ident, "from", tx.From, "refusal", p.unsaid, "reason", p.noReport)
	}
	j.settle()
	f.observe(j.event())
	return j.replies()
}

// observe gives the event to all observers. A panic of one must not reach
// Process: what was handed on would be put off, and told of twice.
func (f *Filter) observe(e *mail.Event) {
	for _, o := range f.Observers {
		func() {
			defer func() {
				if p := recover(); p != nil {
					f.Log.Error("panic in an observer", "id", e.LogID, "panic", p, "stack", string(debug.Stack()))
				}
			}()
			o.Observe(e)
		}()
	}
}

// Enact does what the verdicts say, in the order in which failing is still
// harmless, and returns the replies and what there is to log. What was handed
// on cannot be taken back, so a report goes out only after it: a next hop that
// delays the message, which then comes again, must not get the sender the same
// report with each try.
func (f *Filter) Enact(ctx context.Context, tx *mail.Transaction, ex *Examination) ([]mail.Reply, *mail.Event) {
	tx.MailID, tx.SecretID = mail.NewMailID()
	j := &job{Filter: f, tx: tx, ex: ex, gate: notify.NewGate(tx, ex.Selection), rcpts: make([]rcptState, len(tx.Rcpts))}
	for i, p := range plans(tx, ex.Verdicts, ex.Selection, j.gate) {
		j.rcpts[i].plan = p
	}
	j.recall()
	j.keep(ctx)
	j.forward(ctx)
	j.keep(ctx)
	j.report(ctx)
	j.settle()
	j.warnAgain()
	j.reportRelayed(ctx)
	j.notify(ctx)
	return j.replies(), j.event()
}

// Examine finds out who answers for the message, selects the settings, takes
// the message apart, runs the checks and decides. It has no side effects; an
// error means that no verdict could be reached, and then the examination holds
// what is known.
func (f *Filter) Examine(ctx context.Context, tx *mail.Transaction) (*Examination, error) {
	ex := &Examination{}
	sel, err := f.Select(ctx, tx, nil)
	if err != nil {
		return ex, err
	}
	ex.Selection = sel
	// what is left of the deadline is for handing the message on
	checkCtx, cancel := context.WithTimeout(ctx, f.Policy.CheckDeadline(tx.Input))
	defer cancel()
	if err := f.authenticate(checkCtx, tx, ex); err != nil {
		return ex, err
	}
	sel = ex.Selection
	in := &check.Input{Tx: tx, Hostname: f.Policy.Hostname, Banks: sel.Banks(), Login: tx.Client.Login}
	apart := newUnpacking(f.Policy)
	looked := check.Named{Name: "unpack", Check: apart, Categories: []mail.Category{mail.Infected, mail.Banned}}
	if ex.needs(looked) {
		if err := apart.enter(checkCtx, f.Room, tx.Message.Size()); err != nil {
			return ex, fmt.Errorf("waiting for memory to take the message apart: %w", err)
		}
		defer apart.leave()
		ex.run(checkCtx, in, []check.Named{looked})
		in.Parts = apart.root()
	}
	ex.measure(tx)
	banned := check.Named{Name: "banned", Check: bannedFiles{sel}, Categories: []mail.Category{mail.Banned}}
	var first, spam []check.Named
	for _, c := range f.Checks {
		if givesScoreOnly(c) {
			spam = append(spam, c)
		} else {
			first = append(first, c)
		}
	}
	ex.run(checkCtx, in, append(first, banned))
	// spam engines take the most time, and most of it is for nothing here
	if ex.Verdicts = policy.Decide(sel, ex.Findings, ex.Score); ex.decided() != "" {
		ex.skip(spam, ex.decided())
	} else if len(spam) > 0 {
		ex.run(checkCtx, in, spam)
		ex.Verdicts = policy.Decide(sel, ex.Findings, ex.Score)
	}
	return ex, nil
}

// measure finds recipients for whom the message is too large.
func (ex *Examination) measure(tx *mail.Transaction) {
	for i := range ex.Selection.Rcpts {
		if most, size := ex.Selection.Rcpts[i].Settings.MessageSize, tx.Message.Size(); most > 0 && size > int64(most) {
			ex.Findings = append(ex.Findings, mail.Finding{
				Category: mail.Oversized, Check: "size", Rcpt: i, Detail: fmt.Sprintf("%d octets, message_size is %s", size, most),
			})
		}
	}
}

// givesScoreOnly reports whether c finds nothing but spam.
func givesScoreOnly(c check.Named) bool {
	return len(c.Categories) > 0 && mail.SetOf(c.Categories...)&^mail.SetOf(mail.Spam, mail.Spammy) == 0
}

// decided says why no score can change what becomes of the message: no recipient
// gets it, for a reason that comes before spam, or it is known beforehand
// whether it is spam. Empty: one can.
func (ex *Examination) decided() string {
	listed := false
	for i := range ex.Verdicts {
		v := &ex.Verdicts[i]
		if v.Blocking.Category > mail.Spam {
			continue
		}
		if v.Listed.As == "" {
			return ""
		}
		listed = true
	}
	if listed {
		return "the sender is whitelisted or blacklisted"
	}
	return "it is blocked for all recipients already"
}

// skip says of checks that they were not needed, and why.
func (ex *Examination) skip(checks []check.Named, why string) {
	for _, c := range checks {
		if ex.needs(c) {
			ex.Results = append(ex.Results, check.Result{Check: c.Name, Answer: check.Answer{Skipped: why}})
		}
	}
}

// Select finds the settings of the envelope, and of those who have signed the
// message if auth is not nil.
func (f *Filter) Select(ctx context.Context, tx *mail.Transaction, auth *mail.Authentication) (*policy.Selection, error) {
	req := requestOf(tx)
	req.Senders = sendersOf(tx, auth)
	if tx.From != "" { // else it is a report
		req.Automatic = notify.Automatic(tx)
	}
	if auth != nil {
		req.Signers = auth.Signers
	}
	for _, r := range tx.Rcpts {
		req.Rcpts = append(req.Rcpts, r.Address)
	}
	sel, err := f.Policy.Select(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("selecting the policy: %w", err)
	}
	return sel, nil
}

// requestOf is what the envelope says to the selection of banks, without its
// recipients.
func requestOf(tx *mail.Transaction) policy.Request {
	return policy.Request{
		Listener: tx.Listener, Client: tx.Client.Addr, Login: tx.Client.Login, Daemon: tx.Daemon,
		Local: tx.Input == mail.InputLocal, From: tx.From, Banks: tx.Banks,
	}
}

// Fits reports whether the last recipient of tx has the settings and the
// direction of the first, so that both can share one answer and one copy. The
// message need not be there yet. What cannot be found out fits: it will be
// asked again at the end of the message, where it can be said.
func (f *Filter) Fits(ctx context.Context, tx *mail.Transaction) bool {
	n := len(tx.Rcpts)
	if n < 2 {
		return true
	}
	req := requestOf(tx)
	req.Rcpts = []mail.Address{tx.Rcpts[0].Address, tx.Rcpts[n-1].Address}
	sel, err := f.Policy.Select(ctx, req)
	if err != nil {
		f.Log.Warn("not known whether recipients fit together", "from", tx.From, "err", err)
		return true
	}
	a, b := &sel.Rcpts[0], &sel.Rcpts[1]
	return a.Local == b.Local && (a.Settings == b.Settings || a.Settings.Fingerprint() == b.Settings.Fingerprint())
}

// run runs the checks that some recipient needs and adds what they say.
func (ex *Examination) run(ctx context.Context, in *check.Input, checks []check.Named) {
	checks = slices.DeleteFunc(checks, func(c check.Named) bool { return !ex.needs(c) })
	for i, r := range check.Run(ctx, checks, in) {
		if in.Tx.Input.AfterQueue() {
			r.Findings = now(r.Findings)
		}
		ex.Results = append(ex.Results, r)
		ex.Findings = append(ex.Findings, ex.addressed(checks[i], r)...)
		ex.Fields = append(ex.Fields, r.Fields...)
		ex.Scanned = ex.Scanned || r.Scanned
		if r.Score != nil {
			ex.addScore(r.Score)
		}
	}
}

// now makes a failed check of what an engine wants to see again later: a queue
// would come again and again, until it tells the sender.
func now(findings []mail.Finding) []mail.Finding {
	out := slices.Clone(findings)
	for i := range out {
		if f := &out[i]; f.Category == mail.Unchecked && f.Minor == mail.Later {
			f.Minor = mail.CheckFailed
		}
	}
	return out
}

// addScore adds what one more engine says.
func (ex *Examination) addScore(s *mail.Score) {
	if ex.Score == nil {
		ex.Score = &mail.Score{}
	}
	ex.Score.Value += s.Value
	ex.Score.Tests = append(ex.Score.Tests, s.Tests...)
	ex.Score.Autolearn = cmp.Or(ex.Score.Autolearn, s.Autolearn)
	ex.Score.SubjectPrefix = cmp.Or(ex.Score.SubjectPrefix, s.SubjectPrefix)
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
			if r.kept {
				r.receipt.Disposal = mail.Quarantined
			}
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
