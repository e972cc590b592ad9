package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/filter/mail"
	"postern/policy/lookup"
)

// selector is what [Config.Select] needs of a configuration in a form that is
// fast to ask. Nobody writes to it once the configuration is in use, except
// for the layers, which guard themselves.
type selector struct {
	base    *layer // the settings that no overlay has changed
	domain  string // of addresses without one
	local   *lookup.Domains
	daemons []wordRule
	clients []clientRule
	logins  []wordRule
	signers []signerRule

	senders, recipients *lookup.Addresses[*Overlay]
	foreign             []Lookup // recipients, outside the configuration
	timeout             time.Duration
	layers              atomic.Int64 // kept so far
}

// clientRule loads banks for the clients in some networks.
type clientRule struct {
	networks *lookup.Networks
	banks    []*Overlay
}

// wordRule loads banks for the names in a list.
type wordRule struct {
	names *lookup.Words
	banks []*Overlay
}

// loadWord loads the banks of the first rule that holds the name.
func (s *selector) loadWord(sel *Selection, rules []wordRule, what, name string) {
	for _, r := range rules {
		entry, ok := r.names.Match(name)
		if !ok {
			continue
		}
		reason := what + " " + mail.Escape(name)
		if entry != name {
			reason += " in " + entry
		}
		for _, o := range r.banks {
			s.load(sel, o, reason)
		}
		return
	}
}

// signerRule loads banks for mail that some domains have signed.
type signerRule struct {
	domains *lookup.Domains
	banks   []*Overlay
}

// loadSigner loads the banks of the first rule that names a signer.
func (s *selector) loadSigner(sel *Selection, signers []string) {
	for _, r := range s.signers {
		for _, d := range signers {
			if !r.domains.Match(d) {
				continue
			}
			for _, o := range r.banks {
				s.load(sel, o, "valid signature of "+d)
			}
			return
		}
	}
}

// lookupTimeout bounds the lookups of one message outside the configuration,
// whatever the number of its recipients.
const lookupTimeout = 5 * time.Second

// compile prepares a valid c for Select. It reads the lists that c names;
// their paths are relative to dir. All mistakes are reported together.
func (c *Config) compile(dir string) error {
	c.dir = dir
	s := &selector{
		base: &layer{settings: &c.Settings}, domain: c.Domain, timeout: lookupTimeout,
		senders: &lookup.Addresses[*Overlay]{}, recipients: &lookup.Addresses[*Overlay]{},
	}
	var errs []error
	note := func(at Origin, key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", at, key, err))
		}
	}
	var err error
	s.local, err = lookup.ParseDomains(dir, c.LocalDomains)
	note(c.Origin("local_domains"), "local_domains", err)
	for i := range c.Listeners {
		if l := &c.Listeners[i]; len(l.Allow) > 0 {
			l.allow, err = lookup.ParseNetworks(dir, l.Allow)
			note(l.Origin, "allow", err)
		}
	}
	for _, x := range c.DaemonBanks {
		names, err := lookup.ParseWords(dir, x.Daemons, false)
		note(x.Origin, "daemon_banks", err)
		s.daemons = append(s.daemons, wordRule{names, c.banks(x.Banks)})
	}
	for _, x := range c.AuthBanks {
		names, err := lookup.ParseWords(dir, x.Users, true)
		note(x.Origin, "auth_banks", err)
		s.logins = append(s.logins, wordRule{names, c.banks(x.Banks)})
	}
	for _, cb := range c.ClientBanks {
		var r clientRule
		r.networks, err = lookup.ParseNetworks(dir, cb.Networks)
		note(cb.Origin, "client_banks", err)
		r.banks = c.banks(cb.Banks)
		s.clients = append(s.clients, r)
	}
	own, err := lookup.ParseNetworks(dir, c.OwnNetworks)
	note(c.Origin("own_networks"), "own_networks", err)
	if len(c.ClientBanks) == 0 {
		s.clients = []clientRule{{own, []*Overlay{c.Bank("MYNETS")}}}
	}
	for _, sb := range c.SignerBanks {
		var r signerRule
		r.domains, err = lookup.ParseDomains(dir, sb.Domains)
		note(sb.Origin, "signer_banks", err)
		r.banks = c.banks(sb.Banks)
		s.signers = append(s.signers, r)
	}
	for _, r := range c.Senders {
		note(r.Origin, "senders", s.senders.AddAll(dir, r.Match, r.Settings))
	}
	for _, r := range c.Recipients {
		note(r.Origin, "recipients", s.recipients.AddAll(dir, r.Match, r.Settings))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.selector = s
	return nil
}

// banks returns the banks of those names.
func (c *Config) banks(names []string) []*Overlay {
	out := make([]*Overlay, len(names))
	for i, name := range names {
		out[i] = c.Bank(name)
	}
	return out
}

// Lookup finds the overlays for an address outside the configuration, in a
// database for example. They come back in the order in which they are laid
// over the settings: the least specific first. No match is no error. Lookup
// must be safe for concurrent use and return soon after ctx has ended.
type Lookup interface {
	Lookup(ctx context.Context, a mail.Address) ([]*Overlay, error)
}

// AddLookup adds a source of recipient settings, a database for example. Its
// overlays go over those of the configuration, those of a later one over
// those of an earlier one. It must be called before c is in use.
//
// A lookup that fails, or does not answer within a few seconds, makes
// [Config.Select] fail, unless on_error is pass for the recipient.
func (c *Config) AddLookup(l Lookup) { c.selector.foreign = append(c.selector.foreign, l) }

// IsLocal reports whether the domain of a is in local_domains. An address
// without a domain gets that of the configuration first, as Postfix appends
// $myorigin. The null address is not local.
func (c *Config) IsLocal(a mail.Address) bool { return c.selector.isLocal(a) }

func (s *selector) isLocal(a mail.Address) bool {
	_, domain := s.complete(a).Split()
	return s.local.Match(domain)
}

// routed reports whether the local part names another way on: Postfix resolves
// a%b@ours and b!a@ours (allow_percent_hack, swap_bangpath), and what has an "@"
// inside, to addresses elsewhere. Whoever sends under such an address is not
// one of our own people.
func routed(a mail.Address) bool {
	return strings.ContainsAny(a.Local(), "%!@")
}

// complete appends our domain to an address without one.
func (s *selector) complete(a mail.Address) mail.Address {
	if a == "" || strings.Contains(string(a), "@") {
		return a
	}
	return a + "@" + mail.Address(s.domain)
}

// Select finds the banks that apply to a message and the settings of each
// recipient; c must come from [Load] or [Parse]. Banks and rules are laid over
// the base in this order, the later one wins: listener, daemon, client, banks
// named by the request, login, MYUSERS, signer, sender rules, recipient rules. A bank is not loaded
// twice in a row.
//
// Select fails only when a lookup outside the configuration fails and
// on_error is tempfail: the message must then be answered with 451. With
// on_error: pass the recipient gets the settings without the lookup, and its
// Path says so.
func (c *Config) Select(ctx context.Context, req Request) (*Selection, error) {
	s := c.selector
	sel := &Selection{
		SenderLocal: s.isLocal(req.From) && !routed(req.From), Senders: req.Senders,
		Automatic: req.Automatic, Unanswerable: req.From == "" || req.Automatic != "",
	}
	sel.settle(s.base)
	if l := c.Listener(req.Listener); l != nil && l.Bank != "" {
		s.load(sel, c.Bank(l.Bank), "listener "+req.Listener)
	}
	s.loadWord(sel, s.daemons, "daemon", req.Daemon)
	for _, r := range s.clients {
		if entry, ok := r.networks.Match(req.Client); ok {
			for _, o := range r.banks {
				s.load(sel, o, "client "+req.Client.Unmap().String()+" in "+entry)
			}
			break
		}
	}
	by := "request"
	if req.Local {
		by = "mail without a connection"
	}
	for _, name := range req.Banks {
		// a bank that does not exist is no error here: milters name banks
		// such as SMTP_AUTH for whoever wants to define them
		if o := c.Bank(name); o != nil {
			s.load(sel, o, by)
		}
	}
	s.loadWord(sel, s.logins, "login", req.Login)
	if o := c.Bank("MYUSERS"); o != nil && sel.SenderLocal && sel.Settings.Originating {
		s.load(sel, o, "originating with local sender "+req.From.String())
	}
	s.loadSigner(sel, req.Signers)
	sel.Originating = sel.Settings.Originating
	sel.Reason = sel.originatingReason()

	for _, o := range rulesFor(s.senders, s.complete(req.From)) {
		sel.Path = append(sel.Path, ruleStep(o, "sender", req.From))
		sel.settle(s.over(sel.layer, o))
	}
	return sel, s.selectRcpts(ctx, sel, req.Rcpts)
}

// load lays a bank over the settings of the message.
func (s *selector) load(sel *Selection, o *Overlay, reason string) {
	if n := len(sel.Path); n > 0 && sel.Path[n-1].Bank == o.Name {
		return
	}
	sel.Path = append(sel.Path, Step{Bank: o.Name, Reason: reason})
	sel.settle(s.over(sel.layer, o))
}

func (sel *Selection) settle(l *layer) { sel.layer, sel.Settings = l, l.settings }

func (s *selector) selectRcpts(ctx context.Context, sel *Selection, rcpts []mail.Address) error {
	if len(s.foreign) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	// an append for one recipient must not be seen by the next
	sel.Path = sel.Path[:len(sel.Path):len(sel.Path)]
	sel.Rcpts = make([]RcptSelection, len(rcpts))
	var failed error
	for i, a := range rcpts {
		r := &sel.Rcpts[i]
		*r = RcptSelection{Address: a, Local: s.isLocal(a), Path: sel.Path}
		r.Direction = direction(sel.Originating, r.Local)
		at := sel.layer
		for _, o := range rulesFor(s.recipients, s.complete(a)) {
			r.Path = append(r.Path, ruleStep(o, "recipient", a))
			at = s.over(at, o)
		}
		r.Settings = at.settings
		var overlays []*Overlay
		if failed == nil {
			overlays, failed = s.askForeign(ctx, a)
		}
		if failed != nil {
			if r.Settings.OnError != OnErrorPass {
				return failed
			}
			sel.Failed = failed
			r.Path = append(r.Path, Step{Reason: failed.Error() + ": settings without it (on_error: pass)"})
			continue
		}
		for _, o := range overlays {
			r.Path = append(r.Path, ruleStep(o, "recipient", a))
			if o.Local != nil {
				r.Local = *o.Local
				r.Direction = direction(sel.Originating, r.Local)
			}
			r.Settings = o.Over(r.Settings)
		}
	}
	return nil
}

// askForeign asks the lookups outside the configuration. One that does not
// heed ctx, as some database drivers do not, is left behind.
func (s *selector) askForeign(ctx context.Context, a mail.Address) ([]*Overlay, error) {
	if len(s.foreign) == 0 {
		return nil, nil
	}
	type answer struct {
		overlays []*Overlay
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		var ans answer
		defer func() {
			if p := recover(); p != nil {
				ans = answer{err: fmt.Errorf("panic: %v", p)}
			}
			done <- ans
		}()
		for _, l := range s.foreign {
			overlays, err := l.Lookup(ctx, a)
			if err != nil {
				ans = answer{err: err}
				return
			}
			ans.overlays = append(ans.overlays, overlays...)
		}
	}()
	ans := answer{}
	select {
	case ans = <-done:
	case <-ctx.Done():
		ans.err = ctx.Err()
	}
	if ans.err != nil {
		return nil, fmt.Errorf("looking up settings of %s: %w", a, ans.err)
	}
	return ans.overlays, nil
}

func direction(originating, local bool) Direction {
	switch {
	case originating && local:
		return Internal
	case originating:
		return Outbound
	case local:
		return Inbound
	}
	return OpenRelay
}

// rulesFor returns the overlays for a, the least specific first.
func rulesFor(t *lookup.Addresses[*Overlay], a mail.Address) []*Overlay {
	out := t.Find(a)
	slices.Reverse(out)
	return out
}

// ruleStep is the step of an overlay that is no bank.
func ruleStep(o *Overlay, what string, a mail.Address) Step {
	return Step{Reason: o.Origin.String() + " by " + what + " " + a.String()}
}

// BankPath returns the names of the loaded banks joined by "/", as it stands
// in the log line; empty when only the base applies.
func (sel *Selection) BankPath() string {
	var b strings.Builder
	for _, st := range sel.Path {
		if st.Bank == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(st.Bank)
	}
	return b.String()
}

// originatingReason says where the value of originating comes from:
// "bank ORIGINATING (postern.yaml:12) by listener 127.0.0.1:10023".
func (sel *Selection) originatingReason() string {
	o := sel.Settings.Origin("originating")
	for i := len(sel.Path) - 1; i >= 0; i-- {
		if st := sel.Path[i]; st.Bank == o.Bank {
			return o.source() + " by " + st.Reason
		}
	}
	return o.source()
}

// source names the place for people: "bank INT-MTA (postern.yaml:31)".
func (o Origin) source() string {
	place := Origin{File: o.File, Line: o.Line}.String()
	switch {
	case o.Bank == "" && o.File == BuiltIn:
		return "built-in default"
	case o.Bank == "":
		return "base settings (" + place + ")"
	case strings.HasSuffix(o.Bank, "]"): // recipients[0]
		return o.Bank + " (" + place + ")"
	}
	return "bank " + o.Bank + " (" + place + ")"
}

// layer is what a chain of overlays of the configuration made of the base, and
// what the next ones made of it. There are only few chains of banks and rules,
// so that a message costs no overlay. Layers are found by the overlays that
// made them, never by the settings that they hold: those that a lookup gives
// are new for every message, and are not kept.
type layer struct {
	settings *Settings
	above    sync.Map // *Overlay to *layer
}

// maxLayers bounds what is kept: a request may name banks in any order.
const maxLayers = 1 << 14

// over returns the layer that o, of the configuration, makes above l.
func (s *selector) over(l *layer, o *Overlay) *layer {
	if above, ok := l.above.Load(o); ok {
		return above.(*layer)
	}
	made := &layer{settings: o.Over(l.settings)}
	if s.layers.Load() >= maxLayers {
		return made
	}
	kept, loaded := l.above.LoadOrStore(o, made)
	if !loaded {
		s.layers.Add(1)
	}
	return kept.(*layer)
}
