// Package budget says what taking messages apart may cost, and holds the purse:
// octets, parts, members, nesting, memory, windows of decoders, rounds of
// hashing for passwords, and time. It decodes and reads no format itself, and
// does not say what happens to a message that is over its limits.
//
// Start with Budget, which is what one message has left, and Opener, which a
// reader of containers is given: it pays for each member that the reader hands
// over and keeps what went wrong. Room is the memory of all messages together.
package budget

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// ErrOverLimits says that the budget of a message is spent. What was found
// until then stays; the message is UNCHECKED, over limits.
var ErrOverLimits = errors.New("over limits")

// Limits bound the work on one message, all containers together.
type Limits struct {
	Bytes   int64         // decoded octets in all
	Ratio   int64         // decoded octets per octet of the message
	Parts   int           // MIME parts
	Entries int           // members of archives
	Depth   int           // nesting of MIME parts
	Nesting int           // nesting of archives
	Header  int           // octets of one header block that are parsed
	Fields  int           // header fields of one block that are parsed
	Time    time.Duration // for one message
	// More grants Extra octets of memory once, when a message needs them, or
	// says that it has to do without. Nil: it has.
	More func(context.Context) bool
}

// DefaultLimits are the figures of the documentation.
var DefaultLimits = Limits{
	Bytes: 200 << 20, Ratio: 500, Parts: 10000, Entries: 5000, Depth: 20, Nesting: 14,
	Header: 1 << 20, Fields: 10000, Time: 30 * time.Second,
}

// Budget is what is left of the limits for one message. It is used by one
// goroutine.
type Budget struct {
	ctx     context.Context
	bytes   int64
	parts   int
	entries int
	memory  int64 // octets of decoded data that may still be held at a time
	asked   bool  // for Extra, granted or not
	windows int64 // octets of windows made since the last collection
	rounds  int64 // of hashing, left for making keys of passwords
	idle    int64 // octets that decoders have read and yielded nothing for
	limits  Limits
	end     time.Time
	spent   error
	why     string

	passwords []string // see Tries
}

// memoryFloor is the memory beyond what grows with the message: its size for
// what MIME decodes, and once more for what comes out of containers. It does not
// grow with what an archive claims to hold.
const memoryFloor = 48 << 20

// New starts the budget of a message of size octets. When ctx ends, it is spent.
func New(ctx context.Context, l Limits, size int64) *Budget {
	b := &Budget{ctx: ctx, bytes: l.Bytes, parts: l.Parts, entries: l.Entries, limits: l, end: time.Now().Add(l.Time)}
	b.memory, b.rounds = memoryFloor+2*size, MaxRounds
	// small messages still get room for an ordinary archive
	if n := max(size, 64<<10) * l.Ratio; n < b.bytes {
		b.bytes = n
	}
	return b
}

// Take pays for n decoded octets. The error, if any, is ErrOverLimits, as with
// all that is paid here.
func (b *Budget) Take(n int64) error {
	b.idle = max(b.idle-n, 0)
	if b.bytes -= n; b.bytes < 0 {
		return b.over("decoded size")
	}
	return b.Check()
}

// fetch counts n octets that a decoder reads. They are paid when it yields none
// for them.
func (b *Budget) fetch(n int64) error {
	if b.idle += n; b.idle > idleFree {
		n, b.idle = b.idle, 0
		return b.Take(n)
	}
	return b.Check()
}

// Hold asks for n octets of memory and reports whether they are granted.
// Without them what needs them is over the limits, the message may go on.
func (b *Budget) Hold(n int64) bool {
	if n > b.memory && n <= b.memory+b.extra() {
		b.askMore()
	}
	if n > b.memory {
		return false
	}
	b.memory -= n
	return true
}

// Extra is the memory that one message at a time may have beyond what each
// has: large tables and what packs them by default take it, seldom.
const Extra = 128 << 20

// extra is what can still be asked for.
func (b *Budget) extra() int64 {
	if b.asked || b.limits.More == nil {
		return 0
	}
	return Extra
}

// askMore asks for Extra, which may mean to wait for another message, but not
// longer than there is time.
func (b *Budget) askMore() {
	b.asked = true
	ctx, cancel := context.WithDeadline(b.ctx, b.end)
	defer cancel()
	if b.limits.More(ctx) {
		b.memory += Extra
	}
}

// Release gives back n octets that Hold granted.
func (b *Budget) Release(n int64) { b.memory += n }

// collectAfter is how much memory of windows may wait for the collector.
const collectAfter = 8 << 20

// Collect is told of each window of n octets before it is made. Left to
// itself the collector lets them pile up to the size of all that is in use.
func (b *Budget) Collect(n int64) {
	if b.windows > 0 && b.windows+n > collectAfter {
		runtime.GC()
		b.windows = 0
	}
	b.windows += n
}

// Limits are those that the budget began with.
func (b *Budget) Limits() Limits { return b.limits }

// EntriesLeft is how many members of archives can still be paid for.
func (b *Budget) EntriesLeft() int { return max(b.entries, 0) }

// MemoryLeft is how many octets Hold would grant without asking for more.
func (b *Budget) MemoryLeft() int64 { return b.memory }

// Part pays for one MIME part.
func (b *Budget) Part() error {
	if b.parts--; b.parts < 0 {
		return b.over("number of parts")
	}
	return b.Check()
}

// Entry pays for one member of an archive.
func (b *Budget) Entry() error {
	if b.entries--; b.entries < 0 {
		return b.over("number of archive members")
	}
	return b.Check()
}

// Check returns ErrOverLimits when the budget is spent or time is up.
func (b *Budget) Check() error {
	if b.spent != nil {
		return b.spent
	}
	if b.ctx.Err() != nil || time.Now().After(b.end) {
		return b.over("time")
	}
	return nil
}

func (b *Budget) over(why string) error {
	if b.spent == nil {
		b.spent, b.why = ErrOverLimits, why
	}
	return b.spent
}

// Note records that a limit was met which ends only one branch of the work,
// such as nesting.
func (b *Budget) Note(why string) {
	if b.why == "" {
		b.why = why
	}
}

// Spent says which limit was reached, or returns the empty string.
func (b *Budget) Spent() string { return b.why }
