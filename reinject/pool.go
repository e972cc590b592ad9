package reinject

import (
	"slices"
	"sync"
	"time"
)

// pool keeps the sessions that no transaction uses. Of several the one used
// last is taken first, so that those beyond the need grow old and go.
type pool struct {
	max      int
	idleTime time.Duration
	maxUses  int

	mu     sync.Mutex // guards idle, closed and the timers of idle sessions
	idle   []*session
	closed bool
	ending sync.WaitGroup
}

// take returns a session on which MAIL can be sent, or nil. Those that the
// peer closed meanwhile are dropped.
func (p *pool) take() *session {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		s := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		s.idle.Stop()
		p.mu.Unlock()
		if s.conn.quiet() {
			return s
		}
		s.close()
	}
}

// put takes s back after a good transaction, or ends it.
func (p *pool) put(s *session) {
	s.uses++
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.close()
		return
	}
	if s.uses >= p.maxUses || len(p.idle) >= p.max {
		p.end(s)
		return
	}
	_ = s.conn.SetDeadline(time.Time{})
	s.idle = time.AfterFunc(p.idleTime, func() { p.expire(s) })
	p.idle = append(p.idle, s)
}

func (p *pool) expire(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, s); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		p.end(s)
	}
}

// end says QUIT without making anyone wait. The caller holds mu.
func (p *pool) end(s *session) { p.ending.Go(s.quit) }

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.idle {
		s.idle.Stop()
		p.end(s)
	}
	p.idle = nil
	p.mu.Unlock()
	p.ending.Wait()
}
