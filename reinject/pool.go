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
	maxAge   time.Duration
	now      func() time.Time

	mu      sync.Mutex // guards what follows and the timers of idle sessions
	idle    []*session
	closed  bool
	renewed time.Time // sessions from before are not used any more
	ending  sync.WaitGroup
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
		if p.old(s) {
			p.end(s)
			p.mu.Unlock()
			continue
		}
		p.mu.Unlock()
		if s.conn.quiet() {
			return s
		}
		s.close()
	}
}

// old reports whether s has had its time: under load a session would never be
// idle, and the process behind it works by the configuration that it began
// with. The caller holds mu.
func (p *pool) old(s *session) bool {
	return p.now().Sub(s.begun) >= p.maxAge || !s.begun.After(p.renewed)
}

// renew has all sessions end, those in use after their transaction.
func (p *pool) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed = p.now()
	p.endIdle()
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
	if s.uses >= p.maxUses || len(p.idle) >= p.max || p.old(s) {
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
	p.endIdle()
	p.mu.Unlock()
	p.ending.Wait()
}

// endIdle ends the sessions that are kept. The caller holds mu.
func (p *pool) endIdle() {
	for _, s := range p.idle {
		s.idle.Stop()
		p.end(s)
	}
	p.idle = nil
}
