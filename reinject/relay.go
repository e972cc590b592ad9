// Package reinject is how mail goes on: the relay hands a message to its next
// hop, most often the Postfix that fed us, on its reinjection port.
//
// Start with [Relay], a [mail.Transport] for one next hop with its pool of
// kept sessions, and [Transports], the set of them. A relay changes nothing
// but line ends, keeps no queue and tries nothing later: what it could not
// hand on is a 4xx receipt, and the feeding MTA has the message still.
package reinject

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern/filter/mail"
)

// Options are the same for all next hops. The zero value is usable.
type Options struct {
	// Helo is the name given in EHLO or LHLO, "localhost" if empty.
	Helo string

	Timeouts Timeouts

	// MaxIdle is the number of sessions kept per next hop while unused, 20
	// if 0; negative keeps none.
	MaxIdle int
	// IdleTime is how long an unused session is kept, 8 s if 0: below the
	// 10 s after which Postfix under stress hangs up (smtpd_timeout), and
	// short because each one holds an smtpd process.
	IdleTime time.Duration
	// MaxUses is the number of transactions on one session, 100 if 0.
	MaxUses int
	// MaxAge is how long a session is used at all, 60 s if 0: who changes
	// the next hop expects it to take effect soon, and Postfix' smtpd works
	// by what it was started with until its client leaves.
	MaxAge time.Duration

	// Log gets what a reply must not say; nil logs nothing.
	Log *slog.Logger
}

// Timeouts bound the steps of a transaction; the context given to Send bounds
// all of them together. Zero values stand for the defaults, which are those of
// Amavis and RFC 5321 section 4.5.3.2.
type Timeouts struct {
	Connect time.Duration // 35 s
	Command time.Duration // greeting, EHLO, XFORWARD, MAIL, RCPT: 300 s
	Data    time.Duration // reply to DATA: 120 s
	Block   time.Duration // each write of message data: 180 s
	Dot     time.Duration // reply to the final dot: 600 s
}

// resetTimeout bounds RSET, which only serves to keep a session.
const resetTimeout = 20 * time.Second

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&o.Timeouts.Connect, 35*time.Second)
	set(&o.Timeouts.Command, 300*time.Second)
	set(&o.Timeouts.Data, 120*time.Second)
	set(&o.Timeouts.Block, 180*time.Second)
	set(&o.Timeouts.Dot, 600*time.Second)
	set(&o.IdleTime, 8*time.Second)
	set(&o.MaxAge, 60*time.Second)
	if o.Helo == "" {
		o.Helo = "localhost"
	}
	if o.MaxIdle == 0 {
		o.MaxIdle = 20
	}
	if o.MaxUses == 0 {
		o.MaxUses = 100
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Relay is the transport to one next hop. It is safe for concurrent use.
type Relay struct {
	hop  mail.NextHop
	opts Options
	log  *slog.Logger
	pool pool
}

var _ mail.Transport = (*Relay)(nil)

// New returns a relay that connects when there is something to send.
func New(hop mail.NextHop, opts Options) *Relay {
	opts = opts.withDefaults()
	return &Relay{
		hop:  hop,
		opts: opts,
		log:  opts.Log.With("next_hop", hop.String()),
		pool: pool{max: opts.MaxIdle, idleTime: opts.IdleTime, maxUses: opts.MaxUses, maxAge: opts.MaxAge, now: time.Now},
	}
}

// Close ends the kept sessions. Transactions under way go on, their sessions
// are closed afterwards.
func (r *Relay) Close() { r.pool.close() }

// Send hands o to the next hop. There is one receipt per recipient, in order:
// Relayed, Refused or Deferred with the next hop's reply in the form
// "from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as X", or Deferred
// with a reply of our own when the next hop could not be talked to.
func (r *Relay) Send(ctx context.Context, o *mail.Outgoing) []mail.Receipt {
	receipts := make([]mail.Receipt, len(o.Rcpts))
	todo := make([]int, len(o.Rcpts))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		t := &transaction{relay: r, o: o, todo: todo, receipts: receipts}
		t.send(ctx)
		todo = t.later
	}
	return receipts
}

// transaction is one MAIL to final dot, for those recipients of o that todo
// names. It ends with a receipt for each of them that is not in later.
type transaction struct {
	relay    *Relay
	o        *mail.Outgoing
	todo     []int
	receipts []mail.Receipt // of all recipients of o

	accepted []int // by RCPT
	later    []int // beyond what the next hop takes in one transaction
	dot      []int // for whom a final dot was sent
}

// send runs the transaction on a kept session or a new one. A kept session
// may turn out to be dead, most often because the MTA was restarted: as long
// as DATA was not accepted, nothing can have been delivered, and one try on a
// new connection is safe.
func (t *transaction) send(ctx context.Context) {
	if err := ctx.Err(); err != nil {
		t.fail(&stepError{step: "connecting", err: err})
		return
	}
	if s := t.relay.pool.take(); s != nil {
		err := t.use(ctx, s)
		if !stale(s, err) || ctx.Err() != nil {
			t.fail(err)
			return
		}
		t.relay.log.Debug("kept session was dead, trying a new one", "error", err)
	}
	s, err := t.relay.dial(ctx)
	if err == nil {
		err = t.use(ctx, s)
	}
	t.fail(err)
}

func stale(s *session, err error) bool {
	return err != nil && !s.dataBegun && !timedOut(err)
}

// use runs the transaction on s and then keeps or closes s.
func (t *transaction) use(ctx context.Context, s *session) error {
	for _, i := range t.todo {
		t.receipts[i] = mail.Receipt{}
	}
	t.accepted, t.later = nil, nil

	stop := context.AfterFunc(ctx, s.abort)
	err := t.run(s)
	if err == nil && s.mailOpen {
		if rerr := s.reset(); rerr != nil {
			s.broken = true
			t.relay.log.Debug("session not kept", "error", rerr)
		}
	}
	if !stop() && err != nil && ctx.Err() != nil {
		err = &stepError{step: s.step, err: ctx.Err()}
	}
	if err != nil || s.broken || ctx.Err() != nil {
		s.close()
	} else {
		t.relay.pool.put(s)
	}
	return err
}

// run is the dialogue. An error means that the session is gone; a refusal is
// none, it is a receipt.
func (t *transaction) run(s *session) error {
	o := t.o
	s.dataBegun = false
	utf8, ok := t.checkAddresses(s)
	if !ok {
		return nil
	}
	if err := s.xforward(o.Client); err != nil {
		return err
	}
	rep, err := s.mail(o, utf8)
	if err != nil {
		return err
	}
	if !rep.ok() {
		t.settle(t.blame(rep, atMail), t.todo...)
		return nil
	}
	if stop, err := t.rcpt(s); err != nil || stop {
		return err
	}
	rep, err = s.data()
	if err != nil {
		return err
	}
	if rep.code != 354 {
		t.settle(t.blame(rep, atData), t.accepted...)
		return nil
	}
	replies, err := s.message(o, t.replies(), t.beforeDot)
	for n, rep := range replies {
		if t.relay.hop.LMTP {
			t.settle(rep, t.accepted[n])
		} else {
			t.settle(rep, t.accepted...)
		}
	}
	return err
}

// beforeDot notes whose message the next hop may have from now on.
func (t *transaction) beforeDot() {
	t.dot = append(t.dot, t.accepted...)
	if t.o.BeforeDot != nil {
		t.o.BeforeDot(t.accepted)
	}
}

// blame marks a refusal of us, and tells the postmaster.
func (t *transaction) blame(rep reply, at step) reply {
	if !rep.aboutUs(at) {
		return rep
	}
	rep.us = true
	t.relay.log.Error("the next hop refuses us, not the mail, which waits", "reply", rep.text(),
		"hint", "does the service there take mail from this machine without encryption, and has it smtpd_*_restrictions of its own? See postern postfix check")
	return rep
}

// replies is how many answers the final dot gets (RFC 2033 section 4.2).
func (t *transaction) replies() int {
	if t.relay.hop.LMTP {
		return len(t.accepted)
	}
	return 1
}

// rcpt sends the recipients. It reports stop when there is nothing to send
// DATA for.
func (t *transaction) rcpt(s *session) (stop bool, err error) {
	for n, i := range t.todo {
		rcpt := t.o.Rcpts[i]
		if t.receipts[i].Disposal != mail.NotHandled {
			continue
		}
		rep, err := s.rcpt(rcpt)
		if err != nil {
			return true, err
		}
		rep = t.blame(rep, atRcpt)
		switch {
		case rep.ok():
			t.accepted = append(t.accepted, i)
			t.receipts[i].NoDSN = !s.has("DSN") && wantsSuccess(rcpt.Opts.Notify)
		case t.o.AllOrNone && (rep.class() == 4 || rep.us):
			t.giveUp(rep, i)
			return true, nil
		case rep.tooMany() && len(t.accepted) > 0:
			t.later = t.todo[n:]
			return false, nil
		default:
			t.settle(rep, i)
		}
	}
	if t.o.RefuseAll {
		t.refuseRest()
	}
	return len(t.accepted) == 0, nil
}

// refuseRest refuses the accepted recipients if one was refused: the feeding
// MTA gets that refusal for all of them, and tells the sender.
func (t *transaction) refuseRest() {
	for _, i := range t.todo {
		if r := t.receipts[i]; r.Disposal == mail.Refused {
			e := r.Reply.Enhanced
			r.Reply = mail.NewReply(r.Reply.Code, e[1], e[2], "not sent because another recipient was refused: %s", r.Reply.Text)
			for _, k := range t.accepted {
				t.receipts[k] = r
			}
			t.accepted = nil
			return
		}
	}
}

// settle writes the receipts for the recipients that rep is about.
func (t *transaction) settle(rep reply, rcpts ...int) {
	hop := t.relay.hop.String()
	for _, i := range rcpts {
		if d := t.receipts[i].Disposal; d == mail.NotHandled {
			noDSN := t.receipts[i].NoDSN
			t.receipts[i] = rep.receipt(hop)
			t.receipts[i].NoDSN = noDSN && rep.ok()
		}
	}
}

// giveUp defers all recipients because the i-th was. Also those refused for
// good: the feeding MTA will ask for them again.
func (t *transaction) giveUp(rep reply, i int) {
	hop := t.relay.hop.String()
	rest := mail.Receipt{
		Disposal: mail.Deferred, NextHop: hop,
		Reply: mail.NewReply(451, 5, 0, "not sent because MTA(%s) put off another recipient: %s", hop, rep.text()),
	}
	for n := range t.receipts {
		t.receipts[n] = rest
	}
	t.receipts[i] = rep.receipt(hop)
	t.accepted = nil
}

// fail defers what is not settled yet, if err is not nil. The peer learns what
// happened in our words, the log in those of the error.
func (t *transaction) fail(err error) {
	if err == nil {
		return
	}
	r := t.relay
	hop := r.hop.String()
	rc := mail.Receipt{Disposal: mail.Deferred, NextHop: hop, Reply: ownReply(hop, err)}
	var left *leavingError
	if errors.As(err, &left) && !left.greeting {
		rc = left.reply.receipt(hop)
	}
	n := 0
	for _, i := range t.todo {
		if t.receipts[i].Disposal == mail.NotHandled {
			t.receipts[i] = rc
			// with 421 the one reply of SMTP says that nobody has the message
			t.receipts[i].InDoubt = slices.Contains(t.dot, i) && (left == nil || r.hop.LMTP)
			n++
		}
	}
	t.later = nil
	r.log.Warn("relaying failed", "error", err, "deferred", n)
}

// checkAddresses settles what cannot be written to this next hop at all, and
// says whether SMTPUTF8 is needed. It reports false when nothing is left.
func (t *transaction) checkAddresses(s *session) (utf8, ok bool) {
	o := t.o
	if !sendable(o.From) {
		t.settle(reply{code: 553, lines: "5.1.7 Bad sender address syntax", own: true}, t.todo...)
		return false, false
	}
	noUTF8 := reply{code: 550, lines: "5.6.7 Message needs SMTPUTF8, which the next hop does not offer", own: true}
	offered := s.has("SMTPUTF8")
	// RFC 6531 section 3.2. A message that was only announced as such and is
	// ASCII throughout may go anywhere. One that was not announced goes on as
	// it came, whatever its addresses: Postfix takes such mail
	// (strict_smtputf8 is "no"), and few mailboxes offer SMTPUTF8.
	utf8 = o.FromOpts.UTF8
	if utf8 && !offered && (!o.From.ASCII() || has8bit(o.Message.HeaderBytes())) {
		t.settle(noUTF8, t.todo...)
		return false, false
	}
	left := 0
	for _, i := range t.todo {
		a := o.Rcpts[i].Address
		switch {
		case !sendable(a) || a == "":
			t.settle(reply{code: 553, lines: "5.1.3 Bad recipient address syntax", own: true}, i)
			continue
		case !a.ASCII() && utf8 && !offered:
			t.settle(noUTF8, i)
			continue
		}
		left++
	}
	return utf8 && offered, left > 0
}

// Transports is a set of relays, one for each next hop that is asked for.
type Transports struct {
	opts Options

	mu     sync.Mutex
	relays map[mail.NextHop]*Relay
	closed bool
}

// NewTransports returns an empty set; all its relays will have opts.
func NewTransports(opts Options) *Transports {
	return &Transports{opts: opts, relays: map[mail.NextHop]*Relay{}}
}

// For returns the relay for hop, which is made at the first call.
func (t *Transports) For(hop mail.NextHop) mail.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.relays[hop]
	if r == nil {
		r = New(hop, t.opts)
		if t.closed {
			r.Close()
		}
		t.relays[hop] = r
	}
	return r
}

// Renew ends all kept sessions, so that the next hops are greeted anew. What is
// under way goes on.
func (t *Transports) Renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.relays {
		r.pool.renew()
	}
}

// Close closes all relays.
func (t *Transports) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, r := range t.relays {
		r.Close()
	}
}
