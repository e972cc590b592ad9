package listen

// The sessions of one listener, from the first to the end of the last.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// openSession is what an open set needs of one.
type openSession interface {
	comparable
	// interrupt ends it unless a message is under way; then it ends after that.
	interrupt()
	// cut ends it at once.
	cut()
}

// open is the sessions of one listener: those that are open, and closed ones
// whose handler still runs.
type open[S openSession] struct {
	stop    context.CancelFunc // ends what all handlers run under
	drained chan struct{}      // closed when closing and sessions is empty
	closing atomic.Bool        // no lock: sessions ask under their own

	mu       sync.Mutex // guards what follows
	listener net.Listener
	sessions map[S]struct{}
}

// newOpen returns an empty set and the context that handlers run under.
func newOpen[S openSession]() (*open[S], context.Context) {
	base, stop := context.WithCancel(context.Background())
	return &open[S]{stop: stop, drained: make(chan struct{}), sessions: map[S]struct{}{}}, base
}

// serve has accept take sessions from l until it fails. After Shutdown or Close
// that is no error. name is the listener as configured.
func (o *open[S]) serve(l net.Listener, name string, accept func() error) error {
	o.mu.Lock()
	if o.closing.Load() {
		o.mu.Unlock()
		return l.Close()
	}
	o.listener = l
	o.mu.Unlock()
	err := accept()
	if o.closing.Load() {
		return nil
	}
	return fmt.Errorf("accepting sessions on %s: %w", name, err)
}

// remove gives the slot of a session back. o.mu is held.
func (o *open[S]) remove(s S) {
	delete(o.sessions, s)
	if o.closing.Load() && len(o.sessions) == 0 {
		close(o.drained)
	}
}

// Shutdown stops accepting, ends the sessions in which no message is under way
// and waits for the others. When ctx ends first, it does as Close does and
// returns the error of ctx.
func (o *open[S]) Shutdown(ctx context.Context) error {
	err := o.stopAccepting()
	select {
	case <-o.drained:
		o.stop()
		return err
	case <-ctx.Done():
		_ = o.Close() // what it says, stopAccepting has said
		return ctx.Err()
	}
}

// Close ends everything at once: sessions are cut, and the context of running
// handlers is cancelled. The client keeps what was not answered.
func (o *open[S]) Close() error {
	err := o.stopAccepting()
	o.stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.sessions {
		s.cut()
	}
	return err
}

func (o *open[S]) stopAccepting() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing.Swap(true) {
		return nil
	}
	if len(o.sessions) == 0 {
		close(o.drained)
	}
	for s := range o.sessions {
		s.interrupt()
	}
	if o.listener == nil {
		return nil
	}
	if err := o.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
