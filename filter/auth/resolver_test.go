package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a DNS of our own. Keys are "TXT name", "A name", "MX name" and "PTR
// address"; the value FAIL is a server that does not answer. A name that has
// any record, or names below it, exists.
type zone map[string][]string

func (z zone) get(kind, name string) ([]string, error) {
	name = strings.TrimSuffix(name, ".")
	values, ok := z[kind+" "+name]
	if len(values) == 1 && values[0] == "FAIL" {
		return nil, &net.DNSError{Err: "server misbehaving", Name: name}
	}
	if ok {
		return values, nil
	}
	for key := range z {
		_, n, _ := strings.Cut(key, " ")
		if n == name || strings.HasSuffix(n, "."+name) {
			return nil, nil
		}
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) { return z.get("TXT", name) }
func (z zone) LookupAddr(_ context.Context, a string) ([]string, error)   { return z.get("PTR", a) }

func (z zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	var out []*net.MX
	values, err := z.get("MX", name)
	for _, v := range values {
		out = append(out, &net.MX{Host: v, Pref: 10})
	}
	return out, err
}

func (z zone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	var out []net.IPAddr
	values, err := z.get("A", name)
	for _, v := range values {
		out = append(out, net.IPAddr{IP: net.ParseIP(v)})
	}
	return out, err
}

// counting counts the TXT questions.
type counting struct {
	Lookup
	mu    sync.Mutex
	asked []string
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.mu.Lock()
	c.asked = append(c.asked, strings.TrimSuffix(name, "."))
	c.mu.Unlock()
	return c.Lookup.LookupTXT(ctx, name)
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

func verifier(l Lookup) *Verifier {
	return &Verifier{DNS: NewResolver(ResolverOptions{Lookup: l})}
}

func TestResolverErrors(t *testing.T) {
	t.Parallel()
	r := NewResolver(ResolverOptions{Lookup: zone{"TXT a.test": {"one"}, "TXT down.test": {"FAIL"}, "A x.only-a.test": {"192.0.2.1"}}})
	for _, c := range []struct{ name, want string }{
		{"a.test", "[one] <nil>"},
		{"A.Test.", "[one] <nil>"},
		{"only-a.test", "[] <nil>"},
		{"gone.test", "not found"},
		{"down.test", "temporary"},
		{"", "not found"},
		{strings.Repeat("a", 64) + ".test", "not found"},
		{strings.Repeat("a.", 200) + "test", "not found"},
		{"a b.test", "not found"},
	} {
		values, err := r.LookupTXT(t.Context(), c.name)
		got := fmt.Sprint(values, err)
		// the SPF library wants exactly this type
		if d, ok := err.(*net.DNSError); ok { //nolint:errorlint // as above
			got = "neither"
			if d.IsNotFound && !d.Temporary() {
				got = "not found"
			} else if d.Temporary() && !d.IsNotFound {
				got = "temporary"
			}
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
	for name, want := range map[string]string{"a.test": "true <nil>", "only-a.test": "true <nil>", "gone.test": "false <nil>"} {
		ok, err := r.Exists(t.Context(), name)
		if got := fmt.Sprint(ok, err); got != want {
			t.Errorf("Exists(%s): %s", name, got)
		}
	}
	if _, err := r.Exists(t.Context(), "down.test"); err == nil {
		t.Error("no answer is no error")
	}
}

func TestResolverRemembers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	dns := &counting{Lookup: zone{"TXT a.test": {"one"}, "TXT down.test": {"FAIL"}}}
	r := NewResolver(ResolverOptions{Lookup: dns, Now: func() time.Time { return now }})
	for i, c := range []struct {
		name  string
		after time.Duration
		asked int
	}{
		{"a.test", 0, 1},
		{"A.TEST.", 59 * time.Second, 1},
		{"a.test", 2 * time.Second, 2},
		{"gone.test", 0, 3},
		{"gone.test", 59 * time.Second, 3},
		{"gone.test", 2 * time.Second, 4},
		{"down.test", 0, 5},
		{"down.test", 19 * time.Second, 5},
		{"down.test", 2 * time.Second, 6},
	} {
		now = now.Add(c.after)
		_, _ = r.LookupTXT(t.Context(), c.name)
		if dns.count() != c.asked {
			t.Errorf("%d, %s: %d questions, want %d", i, c.name, dns.count(), c.asked)
		}
	}
	_, again := r.LookupTXT(t.Context(), "down.test")
	if d, ok := errors.AsType[*net.DNSError](again); !ok || !d.Temporary() || d.IsNotFound {
		t.Errorf("a failure is remembered as %v", again)
	}
	// who had no time says nothing about the name
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hung := &counting{Lookup: &stuck{}}
	r = NewResolver(ResolverOptions{Lookup: hung, Timeout: time.Millisecond})
	var counts []int
	for _, c := range []context.Context{ctx, t.Context(), t.Context()} {
		if _, err := r.LookupTXT(c, "hung.test"); err == nil {
			t.Error("hung.test is answered")
		}
		counts = append(counts, hung.count())
	}
	if counts[1] != counts[0]+1 || counts[2] != counts[1] {
		t.Errorf("questions after each: %v", counts)
	}
}

// The memory stays within its bounds, whatever is asked.
func TestResolverBounds(t *testing.T) {
	t.Parallel()
	z := zone{"TXT huge.test": {strings.Repeat("x", 60000)}}
	for i := range 500 {
		z[fmt.Sprintf("TXT n%d.test", i)] = []string{strings.Repeat("x", 10*i)}
	}
	for _, o := range []ResolverOptions{{Lookup: z, Entries: 7}, {Lookup: z, Octets: 20000}} {
		r := NewResolver(o)
		for i := range 500 {
			_, _ = r.LookupTXT(t.Context(), fmt.Sprintf("n%d.test", i))
			_, _ = r.LookupTXT(t.Context(), fmt.Sprintf("gone%d.test", i))
		}
		if got, err := r.LookupTXT(t.Context(), "huge.test"); err != nil || len(got[0]) != 60000 {
			t.Errorf("huge: %v", err)
		}
		sum := 0
		for e := r.recent.Front(); e != nil; e = e.Next() {
			sum += e.Value.(*answer).octets
		}
		if r.recent.Len() > r.opts.Entries || r.octets > r.opts.Octets || sum != r.octets || len(r.known) != r.recent.Len() {
			t.Errorf("%d answers of %d, %d octets of %d, summed up %d", r.recent.Len(), r.opts.Entries, r.octets, r.opts.Octets, sum)
		}
	}
}

// stuck answers when its context ends.
type stuck struct {
	zone
	under, most atomic.Int32
}

func (s *stuck) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	n := s.under.Add(1)
	defer s.under.Add(-1)
	for {
		m := s.most.Load()
		if n <= m || s.most.CompareAndSwap(m, n) {
			break
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestResolverTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := &stuck{}
		r := NewResolver(ResolverOptions{Lookup: dns, Timeout: 50 * time.Millisecond, Concurrent: 3})
		start := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				_, err := r.LookupTXT(t.Context(), fmt.Sprintf("n%d.test", i))
				if d, ok := errors.AsType[*net.DNSError](err); !ok || !d.Temporary() || d.IsNotFound {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if n := dns.most.Load(); n > 3 {
			t.Errorf("%d questions at once", n)
		}
	})
}

// What net.Resolver does not tell: how long an answer holds, and whether a name
// without the record exists. A server on the loopback answers.
func TestSystemLookup(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := answerKinds(buf[:n]); err == nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); served.Wait() })
	// the first server is not there
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	r := NewResolver(ResolverOptions{Servers: []string{gone.LocalAddr().String(), conn.LocalAddr().String()}, MinTTL: time.Second})
	for _, c := range []struct {
		name   string
		want   string
		exists bool
		ttl    time.Duration
	}{
		{"good.test", "[v]", true, 77 * time.Second},
		{"empty.test", "[]", true, 33 * time.Second},
		{"gone.test", "[]", false, 33 * time.Second},
	} {
		values, err := r.LookupTXT(t.Context(), c.name)
		if got := fmt.Sprint(values); got != c.want || (err != nil) == c.exists {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
		if ok, err := r.Exists(t.Context(), c.name); ok != c.exists || err != nil {
			t.Errorf("%s exists: %v, %v", c.name, ok, err)
		}
		e := r.known[question{'t', c.name}]
		if e == nil {
			t.Errorf("%s is not remembered", c.name)
		} else if left := time.Until(e.Value.(*answer).expires); left > c.ttl || left < c.ttl-20*time.Second {
			t.Errorf("%s is remembered for %v", c.name, left)
		}
	}
	_, err = r.LookupTXT(t.Context(), "servfail.test")
	if d, ok := errors.AsType[*net.DNSError](err); !ok || !d.Temporary() {
		t.Errorf("servfail: %v", err)
	}
}

func answerKinds(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	soa := dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("test."), Class: q.Class, TTL: 900},
		Body:   &dnsmessage.SOAResource{NS: q.Name, MBox: q.Name, MinTTL: 33},
	}
	switch q.Name.String() {
	case "good.test.":
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 77},
			Body:   &dnsmessage.TXTResource{TXT: []string{"v"}},
		}}
	case "empty.test.":
		m.Authorities = []dnsmessage.Resource{soa}
	case "gone.test.":
		m.RCode = dnsmessage.RCodeNameError
		m.Authorities = []dnsmessage.Resource{soa}
	default:
		m.RCode = dnsmessage.RCodeServerFailure
	}
	return m.Pack()
}
