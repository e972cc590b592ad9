package check

// A server that takes no connections is not asked for a while: a dead engine
// then costs no mail any time. That is no answer, so the mail is not clean.

import (
	"sync"
	"time"
)

const (
	// failuresToDown is how many messages in a row get no connection until a server
	// is down: one may have come while it starts anew.
	failuresToDown = 3
	// restWhenDown is how long a server that is down is not asked; then one
	// message tries it.
	restWhenDown = 2 * time.Second
	// restAfterFailure is how long a server that failed is asked after the others.
	restAfterFailure = 30 * time.Second
)

// Server is one server of an engine.
type Server struct {
	network, address string

	mu      sync.Mutex // guards what follows
	failed  time.Time  // when it failed last
	row     int        // how often it has failed since it answered last
	err     error      // the last failure of that row
	trying  bool       // it is down, and a message tries it
	changed func(down error)
	now     func() time.Time // nil: time.Now
}

// Served is implemented by checks that ask servers.
type Served interface {
	Servers() []*Server
}

func (s *Server) self() *Server { return s }

// String returns the address as it is configured, for example
// "unix:/run/clamav/clamd.ctl".
func (s *Server) String() string { return s.network + ":" + s.address }

// OnChange has f called when the server goes down, with the reason, and with nil
// when it answers again. f must not ask the server.
func (s *Server) OnChange(f func(down error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

// Down returns why the server is not asked, nil if it is.
func (s *Server) Down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.row < failuresToDown {
		return nil
	}
	return s.err
}

func (s *Server) time() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}

// enter reports whether the server may be asked; then leave or abandon must
// follow.
func (s *Server) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.row < failuresToDown {
		return nil
	}
	if s.trying || s.time().Sub(s.failed) < restWhenDown {
		return fail(FailedNotAsked, "not asked, since it failed %d times in a row: %w", s.row, s.err)
	}
	s.trying = true
	return nil
}

// leave says whether the server has answered.
func (s *Server) leave(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasDown := s.row >= failuresToDown
	s.trying = false
	if err != nil {
		s.failed = s.time()
	}
	switch {
	case err == nil:
		s.row, s.err, s.failed = 0, nil, time.Time{}
	// whatever comes after the connection may be the fault of a message, and
	// whoever could put a server down by such would have his spam passed without
	// a score
	case FailureWord(err) == FailedConnect:
		s.row, s.err = s.row+1, err
	default:
		s.row, s.err = 0, nil
	}
	if down := s.row >= failuresToDown; down != wasDown && s.changed != nil {
		s.changed(s.err)
	}
}

// abandon says that nothing is known: the message had no more time, or was too
// much for the server.
func (s *Server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trying = false
}

// failedLately reports whether others are better asked first.
func (s *Server) failedLately() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time().Sub(s.failed) < restAfterFailure
}

// inOrder puts servers that failed lately behind the others.
func inOrder[S remote](servers []S) []S {
	var good, bad []S
	for _, s := range servers {
		if s.self().failedLately() {
			bad = append(bad, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, bad...)
}

// allServers are the servers of an engine.
func allServers[S remote](lists ...[]S) []*Server {
	var out []*Server
	for _, list := range lists {
		for _, s := range list {
			out = append(out, s.self())
		}
	}
	return out
}
