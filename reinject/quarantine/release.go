package quarantine

// Handing on what was kept: the octets as they came, once, to those who did not
// get them.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// Releaser hands messages of a store on. Nobody needs the daemon for it.
type Releaser struct {
	Store *Store
	Relay func(mail.NextHop) mail.Transport
	// Scan says which virus is found in a message today, empty for none. An error
	// means that nobody knows.
	Scan func(context.Context, *mail.Kept, *mail.Message) (string, error)
	// Judge says for each recipient whether the policy of now lets the message pass.
	Judge func(context.Context, *mail.Kept, *mail.Message) ([]bool, error)
	// Sign signs a copy of mail of our own people; nil: nobody does.
	Sign func(context.Context, *mail.Kept, *mail.Outgoing) error
	Now  func() time.Time
}

// Request is what somebody wants to have released.
type Request struct {
	ID string
	// Secret must be the secret_id of the message, if NeedSecret is set.
	Secret     string
	NeedSecret bool
	// To are who shall get it: recipients of the message, or others. None: all who
	// did not get it.
	To      []mail.Address
	Requeue bool // judge it anew, and hand on what passes
	Force   bool // though a virus is found
	Again   bool // though they have it, or may have it
	By      string
}

// Errors that callers tell apart, besides those of the store.
var (
	ErrSecret   = errors.New("the secret_id is missing or wrong")
	ErrInfected = errors.New("a virus is found in it")
	ErrScan     = errors.New("it cannot be scanned now")
	ErrDone     = errors.New("nobody is left who did not get it")
)

// Result is what became of one recipient.
type Result struct {
	To      mail.Address
	Receipt mail.Receipt
}

// Release hands a message on. Results are those whom a next hop was asked about;
// an error means that there are none.
func (r *Releaser) Release(ctx context.Context, q Request) ([]Result, error) {
	it, err := r.Store.Load(q.ID)
	if err != nil {
		return nil, err
	}
	if q.NeedSecret && !mail.SecretFits(it.MailID, q.Secret) {
		return nil, ErrSecret
	}
	m, err := r.Store.Octets(it)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if q.Requeue {
		passes, err := r.Judge(ctx, it.Kept, m)
		if err != nil {
			return nil, err
		}
		if q.To = passing(it.Kept, &q, passes); len(q.To) == 0 {
			return nil, fmt.Errorf("%w, or the policy blocks it still", ErrDone)
		}
	} else if !q.Force && r.Scan != nil {
		found, err := r.Scan(ctx, it.Kept, m)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrScan, err)
		}
		if found != "" {
			return nil, fmt.Errorf("%w: %s", ErrInfected, found)
		}
	}
	// what is about to be done is written down first: after our death nobody gets
	// the message twice unless somebody wants it
	var todo []int
	it, err = r.Store.Update(q.ID, func(k *mail.Kept) (err error) {
		if todo, err = chosen(k, q); err != nil {
			return err
		}
		for _, i := range todo {
			k.Rcpts[i].Released = &mail.Released{Time: r.now(), By: q.By}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := r.send(ctx, it.Kept, m, todo)
	_, err = r.Store.Update(q.ID, func(k *mail.Kept) error {
		for n, i := range todo {
			done := k.Rcpts[i].Released
			if done == nil {
				continue
			}
			switch rc := out[n].Receipt; {
			case rc.Disposal == mail.Relayed:
				done.Done, done.Reply = true, mail.Escape(rc.Reply.Text)
			case !rc.InDoubt: // else the next hop may have it, and nobody knows
				k.Rcpts[i].Released = nil
			}
		}
		return nil
	})
	return out, err
}

// passing returns the recipients that are meant and may have the message now.
func passing(k *mail.Kept, q *Request, passes []bool) []mail.Address {
	var out []mail.Address
	for i := range k.Rcpts {
		r := &k.Rcpts[i]
		meant := len(q.To) == 0 && r.Due && (r.Released == nil || q.Again) || slices.Contains(q.To, r.Address)
		if meant && passes[i] {
			out = append(out, r.Address)
		}
	}
	return out
}

// chosen returns the recipients of k that are meant. Others than those of the
// message are added to it.
func chosen(k *mail.Kept, q Request) ([]int, error) {
	var out []int
	if len(q.To) == 0 {
		doubt := false
		for i := range k.Rcpts {
			if r := &k.Rcpts[i]; r.Due && (r.Released == nil || q.Again) {
				out = append(out, i)
			} else if r.Released != nil && !r.Released.Done {
				doubt = true
			}
		}
		switch {
		case len(out) > 0:
			return out, nil
		case doubt:
			return nil, fmt.Errorf("%w for certain: a release was cut off, or is under way", ErrDone)
		}
		return nil, ErrDone
	}
	for _, to := range q.To {
		i := slices.IndexFunc(k.Rcpts, func(r mail.KeptRcpt) bool { return r.Address == to })
		if i < 0 {
			i = len(k.Rcpts)
			k.Rcpts = append(k.Rcpts, mail.KeptRcpt{Address: to, Category: "released", NextHop: k.Rcpts[0].NextHop})
		} else if r := &k.Rcpts[i]; !q.Again && (r.Released != nil || !r.Due && r.Category != "released") {
			return nil, fmt.Errorf("%w: %s has it already", ErrDone, to)
		}
		if !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out, nil
}

// send hands the message to the next hops of some recipients.
func (r *Releaser) send(ctx context.Context, k *mail.Kept, m *mail.Message, todo []int) []Result {
	out := make([]Result, len(todo))
	hops := map[string][]int{} // places in todo
	var order []string
	for n, i := range todo {
		hop := k.Rcpts[i].NextHop
		if hops[hop] == nil {
			order = append(order, hop)
		}
		hops[hop] = append(hops[hop], n)
		out[n] = Result{To: k.Rcpts[i].Address, Receipt: mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 5, "no next hop")}}
	}
	for _, hop := range order {
		h, err := mail.ParseNextHop(hop)
		if err != nil {
			continue
		}
		o := &mail.Outgoing{Kind: mail.KindRelease, Client: k.Client, From: k.From, Message: m}
		o.FromOpts = smtp.MailOptions{Return: k.Return, EnvelopeID: k.EnvelopeID, UTF8: k.UTF8}
		for _, n := range hops[hop] {
			rcpt := &k.Rcpts[todo[n]]
			to := mail.Recipient{Address: rcpt.Address, ORCPT: rcpt.ORCPT}
			to.Opts.Notify = rcpt.Notify
			if !k.Originating {
				// the next hop must not tell a sender who may be forged
				to.Opts.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
			}
			o.Rcpts = append(o.Rcpts, to)
		}
		if k.Sign && r.Sign != nil {
			if err := r.Sign(ctx, k, o); err != nil {
				r.Store.opts.Log.Error("released mail is not signed", "mail_id", k.MailID, "err", err)
			}
		}
		for n, rc := range r.Relay(h).Send(ctx, o) {
			out[hops[hop][n]].Receipt = rc
		}
	}
	return out
}

func (r *Releaser) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}
