package auth

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Lookup asks the DNS. *net.Resolver is one; tests bring their own. No answer
// is either an error *net.DNSError with IsNotFound, which means that the name
// does not exist, or an empty answer without error, which means that the name
// exists but has no such record. Every other error means that nothing is known.
type Lookup interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// ResolverOptions bound what a [Resolver] may take. Zero values mean the
// defaults given.
type ResolverOptions struct {
	Lookup     Lookup        // who is asked; nil: the servers
	Servers    []string      // addresses with ports; empty: those of /etc/resolv.conf
	Timeout    time.Duration // for one question, its wait for a free place included; 3 s
	Concurrent int           // questions under way at the same time; 64
	Entries    int           // answers that are remembered; 10000
	Octets     int           // what these take, about; 8 MiB
	// An answer is remembered as long as its TTL says, within these bounds; one
	// without a TTL for MinTTL. 1 minute and 1 hour.
	MinTTL, MaxTTL time.Duration
	// MaxNegative bounds how long it is remembered that there is no answer
	// (RFC 2308); 5 minutes.
	MaxNegative time.Duration
	Now         func() time.Time // time.Now
}

// Resolver asks the DNS for all that this package wants to know, within bounds
// of time and memory, and remembers answers, failures only for a moment. It is
// a [Lookup] itself: its errors are always *net.DNSError and either IsNotFound
// or Temporary. Answers are shared and must not be changed.
type Resolver struct {
	opts  ResolverOptions
	slots chan struct{}

	mu     sync.Mutex // guards what follows
	known  map[question]*list.Element
	recent *list.List // of *answer, the one used last in front
	octets int
}

type question struct {
	kind byte // 't', 'm', 'i' or 'a'
	name string
}

type answer struct {
	question
	value   any   // nil if there is none
	err     error // a *net.DNSError or nil
	octets  int
	expires time.Time
}

// NewResolver makes a resolver with an empty memory.
func NewResolver(o ResolverOptions) *Resolver {
	o.Timeout = cmp.Or(o.Timeout, 3*time.Second)
	o.Concurrent = cmp.Or(o.Concurrent, 64)
	o.Entries = cmp.Or(o.Entries, 10000)
	o.Octets = cmp.Or(o.Octets, 8<<20)
	o.MinTTL = cmp.Or(o.MinTTL, time.Minute)
	o.MaxTTL = cmp.Or(o.MaxTTL, time.Hour)
	o.MaxNegative = cmp.Or(o.MaxNegative, 5*time.Minute)
	if o.Lookup == nil {
		o.Lookup = systemLookup(o.Servers, o.Timeout)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Resolver{opts: o, slots: make(chan struct{}, o.Concurrent), known: map[question]*list.Element{}, recent: list.New()}
}

// LookupTXT returns the TXT records of name, the strings of each joined.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return ask(ctx, r, 't', name, r.opts.Lookup.LookupTXT, func(s string) int { return len(s) })
}

// LookupMX returns the MX records of name.
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, r, 'm', name, r.opts.Lookup.LookupMX, func(m *net.MX) int { return len(m.Host) })
}

// LookupIPAddr returns the addresses of host.
func (r *Resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return ask(ctx, r, 'i', host, r.opts.Lookup.LookupIPAddr, func(net.IPAddr) int { return 0 })
}

// LookupAddr returns the names of an address.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return ask(ctx, r, 'a', addr, r.opts.Lookup.LookupAddr, func(s string) int { return len(s) })
}

// Exists reports whether there is anything at or below name in the DNS (RFC
// 8020). An error means that it is not known.
func (r *Resolver) Exists(ctx context.Context, name string) (bool, error) {
	_, err := r.LookupTXT(ctx, name)
	if notFound(err) {
		return false, nil
	}
	return err == nil, err
}

func notFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}

// failureTime is how long a failure is remembered (RFC 2308 section 7 allows
// five minutes): a name whose servers are dead costs many messages the wait of
// one.
const failureTime = 20 * time.Second

// noAnswer is an error for others to read: which server of ours failed how is
// not for them.
func noAnswer(name string, err error) *net.DNSError {
	out := &net.DNSError{Err: "no name server can be reached", Name: name, IsTemporary: true}
	d, ok := errors.AsType[*net.DNSError](err)
	switch {
	case ok && d.IsTimeout || errors.Is(err, context.DeadlineExceeded):
		out.Err, out.IsTimeout = "no answer in time", true
	case ok && d.Err == "server misbehaving":
		out.Err = "the name server failed"
	}
	return out
}

func noSuchName(name string) *net.DNSError {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// ask answers from memory, or asks and remembers. size is what one record
// takes beyond its fixed part.
func ask[T any](ctx context.Context, r *Resolver, kind byte, name string, lookup func(context.Context, string) ([]T, error), size func(T) int) ([]T, error) {
	q := question{kind, strings.ToLower(strings.TrimSuffix(name, "."))}
	if kind != 'a' && !isName(q.name) {
		return nil, noSuchName(name)
	}
	if a, ok := r.remembered(q); ok {
		value, _ := a.value.([]T)
		return value, a.err
	}
	asker := ctx
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, &net.DNSError{Err: "no time, or too many questions under way", Name: name, IsTimeout: true, IsTemporary: true}
	}
	seen := &observation{}
	full := q.name
	if kind != 'a' {
		full += "." // else the search list of resolv.conf would be tried as well
	}
	values, err := lookup(context.WithValue(ctx, observationKey{}, seen), full)
	switch {
	case len(values) > 0:
		// what net.Resolver has an error for beside good records is a bad one
		err = nil
	case notFound(err) && seen.exists():
		err = nil
	case notFound(err):
		err = noSuchName(name)
	case err != nil:
		// RFC 7208 section 2.6.6: all but success and "no such name" may pass
		failed := noAnswer(name, err)
		if asker.Err() == nil { // else it did not have its time
			r.remember(&answer{question: q, err: failed, octets: 400 + len(q.name), expires: r.opts.Now().Add(failureTime)})
		}
		return nil, failed
	}
	a := &answer{question: q, err: err, octets: 200 + len(q.name)}
	if len(values) > 0 {
		a.value = values
	}
	for _, v := range values {
		a.octets += 48 + size(v)
	}
	most := r.opts.MaxTTL
	if len(values) == 0 {
		most = r.opts.MaxNegative
	}
	a.expires = r.opts.Now().Add(min(max(seen.ttl(), r.opts.MinTTL), most))
	r.remember(a)
	return values, err
}

func (r *Resolver) remembered(q question) (*answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.known[q]
	if e == nil {
		return nil, false
	}
	a := e.Value.(*answer)
	if !r.opts.Now().Before(a.expires) {
		r.forget(e)
		return nil, false
	}
	r.recent.MoveToFront(e)
	return a, true
}

func (r *Resolver) remember(a *answer) {
	// one answer must not push out all others
	if a.octets > r.opts.Octets/16 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[a.question]; e != nil {
		r.forget(e)
	}
	r.known[a.question] = r.recent.PushFront(a)
	r.octets += a.octets
	for r.recent.Len() > r.opts.Entries || r.octets > r.opts.Octets {
		r.forget(r.recent.Back())
	}
}

// forget needs r.mu.
func (r *Resolver) forget(e *list.Element) {
	a := r.recent.Remove(e).(*answer)
	delete(r.known, a.question)
	r.octets -= a.octets
}

// observation is what the replies to one question say and net.Resolver does
// not tell: how long they hold, and whether the name exists, which DMARC wants
// to know (RFC 9989 section 3.2.13).
type observation struct {
	mu      sync.Mutex // guards what follows: A and AAAA are asked at once
	seconds uint32
	timed   bool
	noError bool
}

type observationKey struct{}

func (o *observation) exists() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.noError
}

func (o *observation) ttl() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Duration(o.seconds) * time.Second
}

// see reads one reply. What it cannot read it leaves alone.
func (o *observation) see(reply []byte) {
	if o == nil { // asked by somebody else than a Resolver
		return
	}
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil || !h.Response || h.Truncated || p.SkipAllQuestions() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.RCode == dnsmessage.RCodeSuccess {
		o.noError = true
	}
	for {
		rh, err := p.AnswerHeader()
		if err != nil {
			break
		}
		o.limit(rh.TTL)
		if p.SkipAnswer() != nil {
			return
		}
	}
	for { // RFC 2308 section 5: without an answer the SOA of the zone says how long
		rh, err := p.AuthorityHeader()
		if err != nil {
			return
		}
		if rh.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				return
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return
		}
		o.limit(min(rh.TTL, soa.MinTTL))
	}
}

func (o *observation) limit(seconds uint32) {
	if !o.timed || seconds < o.seconds {
		o.seconds, o.timed = seconds, true
	}
}

// systemLookup asks the servers, or those of /etc/resolv.conf, and shows each
// reply to the observation in the context. A server that does not answer within
// half of the time is left for the next, which is then asked by all.
func systemLookup(servers []string, timeout time.Duration) *net.Resolver {
	var d net.Dialer
	var current atomic.Uint32 // counts on for ever
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		n := current.Load()
		if len(servers) > 0 {
			address = servers[int(n)%len(servers)]
		}
		failed := func() { current.CompareAndSwap(n, n+1) }
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			failed()
			return nil, err
		}
		until := time.Now().Add(timeout / 2)
		// A UDP socket gives one whole reply with each Read. Long answers come by
		// TCP, in pieces; they go unseen and have the shortest time to live.
		seen, _ := ctx.Value(observationKey{}).(*observation)
		if udp, ok := conn.(*net.UDPConn); ok {
			return &observedConn{udp, seen, until, failed}, nil
		}
		return &impatientConn{conn, until}, nil
	}}
}

// impatientConn is a connection by TCP with a deadline that nobody can put off.
type impatientConn struct {
	net.Conn
	until time.Time
}

func (c *impatientConn) SetDeadline(t time.Time) error {
	return c.Conn.SetDeadline(earlier(t, c.until))
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// observedConn is the same by UDP; net.Resolver knows it for a packet
// connection by its methods.
type observedConn struct {
	*net.UDPConn
	seen   *observation
	until  time.Time
	failed func()
}

func (c *observedConn) SetDeadline(t time.Time) error {
	return c.UDPConn.SetDeadline(earlier(t, c.until))
}

func (c *observedConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err != nil {
		c.failed()
	} else {
		c.seen.see(b[:n])
	}
	return n, err
}
