package budget

import (
	"context"
	"slices"
	"sync"
)

// Room is the memory for taking messages apart, of all that are in work
// together. A message claims the most that it can need, waits until that is
// free, and gives back what it does not need after all.
type Room struct {
	mu    sync.Mutex // guards what follows
	size  int64
	free  int64
	queue []*Claim    // who waits, first come first served
	extra chan *Claim // who has Extra at the moment
}

// NewRoom returns a room of size octets.
func NewRoom(size int64) *Room { return &Room{size: size, free: size, extra: make(chan *Claim, 1)} }

// Claim is the share of one message. A nil Claim is none of any Room.
type Claim struct {
	room    *Room
	n       int64
	granted chan struct{} // closed under room.mu
	more    bool          // has Extra; for the goroutine that takes the message apart
}

// A message costs at most this and so many times its size.
const (
	maxMemory      = 64 << 20
	maxMemoryTimes = 3
)

// Claim waits until a message of size octets may be taken apart. The error is
// that of ctx. A message that needs more than there is in all has it alone.
func (r *Room) Claim(ctx context.Context, size int64) (*Claim, error) {
	c := &Claim{room: r, n: min(maxMemory+maxMemoryTimes*size, r.size), granted: make(chan struct{})}
	r.mu.Lock()
	r.queue = append(r.queue, c)
	r.grant()
	r.mu.Unlock()
	select {
	case <-c.granted:
		return c, nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.queue, c); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	} else {
		r.free += c.n
	}
	r.grant() // it may have stood before smaller ones
	return nil, context.Cause(ctx)
}

// More gives the message Extra octets besides its share, as soon as no other
// one has them, and reports whether it got them before ctx ended. They are not
// of the room's size: it is never more than one that has them, and who waits
// for them holds what nobody else waits for.
func (c *Claim) More(ctx context.Context) bool {
	if c == nil {
		return true
	}
	select {
	case c.room.extra <- c:
		c.more = true
		return true
	case <-ctx.Done():
		return false
	}
}

// grant lets in who is first as long as there is room.
func (r *Room) grant() {
	for len(r.queue) > 0 && r.queue[0].n <= r.free {
		r.free -= r.queue[0].n
		close(r.queue[0].granted)
		r.queue[0] = nil
		r.queue = r.queue[1:]
	}
}

// Keep gives back all but n octets.
func (c *Claim) Keep(n int64) {
	if c == nil {
		return
	}
	if c.more {
		c.more = false
		<-c.room.extra
	}
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if n < c.n {
		c.room.free += c.n - n
		c.n = n
		c.room.grant()
	}
}
