package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// member is one file of a container, or one reading of it where readers of
// that container would see different bytes.
type member struct {
	names     []string // every name that some reader would show, foreign text; empty if the format has none
	data      []byte   // nil when it was not read; valid until the callback returns, unless it lies in the container
	size      int64    // octets as declared, or as decoded when data is set
	dir       bool     // directory
	link      bool     // symbolic or hard link
	special   bool     // device, socket, fifo
	encrypted bool     // content needs a password, or says so
	opened    bool     // content needed a password, and one was right
	note      string   // why data is missing or incomplete
}

// name returns the first name, or the empty string.
func (m member) name() string {
	if len(m.names) == 0 {
		return ""
	}
	return m.names[0]
}

// outcome says how much of a container the members given stand for.
type outcome struct {
	encrypted    bool   // names or contents are encrypted
	opened       bool   // they were, and a password was right
	damaged      bool   // cut, broken, or of a kind that cannot be opened: not everything was seen
	overLimits   bool   // the budget ended first
	disagreement string // two readings of the container give different names or bytes
	reason       string // what is damaged, for reports
}

// expander is the state of one expand.
type expander struct {
	budget *Budget
	add    func(member) error
	out    outcome
	buf    []byte // for decoded members, used again for the next one
	room   []byte // the memory map that buf is in when it is large
	held   int64  // octets of buf that the budget granted
	window int64  // octets that the budget granted to the windows of decoders
	stop   error  // what add returned
	within bool   // the container lies in other data, which is searched for more

	// search opens what lies in other data; it knows all readers
	search func(x *expander, data []byte, kind string) error
}

// newOpener returns an opener for one container, which hands the members to
// add. search opens the archives of one kind, or all if it is empty, that
// begin inside data.
func newOpener(b *Budget, add func(member) error, search func(x *expander, data []byte, kind string) error) *expander {
	return &expander{budget: b, add: add, search: search}
}

// outcome says how it went, up to now.
func (x *expander) outcome() outcome { return x.out }

// inside opens the archives of one kind, or all if it is empty, that begin
// inside data.
func (x *expander) inside(data []byte, kind string) error {
	before := x.within
	x.within = true
	defer func() { x.within = before }()
	return x.search(x, data, kind)
}

// noteEncrypted records that names or contents are encrypted.
func (x *expander) noteEncrypted() { x.out.encrypted = true }

// noteOpened records that a password was right.
func (x *expander) noteOpened() { x.out.opened = true }

// damaged reports whether something was not read so far.
func (x *expander) damaged() bool { return x.out.damaged }

// keepWindow says that the window of the last decoder is not given back.
func (x *expander) keepWindow() { x.window = 0 }

// run calls one reader and turns its error or panic into the outcome.
func (x *expander) run(kind string, read func(*expander, []byte) error, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			x.damage("%s: reader gave up: %v", kind, p)
		}
		err = x.stop
	}()
	if err := read(x, data); err != nil && x.stop == nil {
		x.fail(kind, err)
	}
	return nil
}

// fail records err, which is none of add.
func (x *expander) fail(what string, err error) {
	if errors.Is(err, ErrOverLimits) {
		x.out.overLimits = true
		return
	}
	x.damage("%s: %v", what, err)
}

// damage records that something was not read. The first reason is kept.
func (x *expander) damage(format string, args ...any) {
	x.out.damaged = true
	if x.out.reason == "" {
		x.out.reason = bounded(format, args...)
	}
}

// differ records that readers see different things. The first one is kept.
func (x *expander) differ(format string, args ...any) {
	if x.out.disagreement == "" {
		x.out.disagreement = bounded(format, args...)
	}
}

// bounded formats a report that may quote foreign names.
func bounded(format string, args ...any) string {
	const limit = 300
	s := fmt.Sprintf(format, args...)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// give hands m to the caller and pays for the entry.
func (x *expander) give(m member) error {
	if err := x.budget.Entry(); err != nil {
		return err
	}
	return x.hand(m)
}

// hand is give for an entry that is paid.
func (x *expander) hand(m member) error {
	if m.encrypted {
		x.out.encrypted = true
	}
	x.out.opened = x.out.opened || m.opened
	if m.data != nil {
		m.size = int64(len(m.data))
	}
	if err := x.add(m); err != nil {
		if errors.Is(err, ErrOverLimits) {
			return err
		}
		x.stop = err
		return err
	}
	return nil
}

// pay takes n octets that members share, or that an index claims twice.
func (x *expander) pay(n, claimed, have int) error {
	if claimed <= have {
		return nil
	}
	return x.budget.Take(int64(n))
}

// giveStored hands over content that lies in the container as it is.
func (x *expander) giveStored(m member, data []byte) error {
	if err := x.budget.Entry(); err != nil {
		return err
	}
	if err := x.budget.Take(int64(len(data))); err != nil {
		return err
	}
	m.data = data
	return x.hand(m)
}

// giveDecoded decodes r, which should yield about size octets (-1 if not
// known), and hands over what came out even if the end is missing. Only an
// error that must end the container is returned.
func (x *expander) giveDecoded(m member, r io.Reader, size int64) error {
	if err := x.budget.Entry(); err != nil {
		return err
	}
	data, err := x.decode(r, size)
	m.data = data
	return x.handDecoded(m, "member", err)
}

// handDecoded hands over m, whose decoding ended with err.
func (x *expander) handDecoded(m member, what string, err error) error {
	if err != nil {
		m.note = err.Error()
		x.fail(fmt.Sprintf("%s: %q", what, m.name()), err)
		if len(m.data) == 0 {
			m.data = nil
		}
	}
	if herr := x.hand(m); herr != nil {
		return herr
	}
	if errors.Is(err, ErrOverLimits) {
		return err
	}
	return nil
}

const (
	decodeStep  = 64 << 10
	decodeLarge = 1 << 20
)

// decode reads r to its end and pays for each step. The result is in x.buf
// and holds what came before an error. size is a hint, not to be trusted.
func (x *expander) decode(r io.Reader, size int64) ([]byte, error) {
	if size > int64(cap(x.buf)) && size <= decodeLarge {
		x.buf = make([]byte, 0, size+1)
	}
	return x.decodeAfter(0, r)
}

// decodeAfter is decode that leaves n octets in x.buf as they are. They are
// part of the result.
func (x *expander) decodeAfter(n int, r io.Reader) ([]byte, error) {
	x.buf = x.buf[:n]
	var err error
	for err == nil {
		if len(x.buf) == cap(x.buf) {
			if err = x.grow(); err != nil {
				break
			}
		}
		var n int
		n, err = r.Read(x.buf[len(x.buf):min(cap(x.buf), len(x.buf)+decodeStep)])
		x.buf = x.buf[:len(x.buf)+n]
		if terr := x.budget.Take(int64(n)); terr != nil {
			err = terr
		} else if herr := x.hold(&x.held, int64(len(x.buf))); herr != nil {
			err = herr
		}
	}
	if err == io.EOF {
		err = nil
	}
	return x.buf, err
}

// grow makes room. A large buffer is a memory map with room for all that the
// budget still allows: what is not written costs nothing, nothing is copied
// again, and it is gone with the container. On the heap as much garbage again
// would stay.
func (x *expander) grow() error {
	n := max(2*cap(x.buf), decodeStep)
	if n <= decodeLarge {
		x.buf = append(make([]byte, 0, n), x.buf...)
		return nil
	}
	n = int(x.held+max(x.budget.memory, 0)) + decodeStep
	if n <= cap(x.buf) {
		x.budget.note("memory")
		return ErrOverLimits
	}
	room, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("memory for a member: %w", err)
	}
	x.buf = append(room[:0], x.buf...)
	x.unmap()
	x.room = room
	return nil
}

// hold has the budget grant n octets instead of the fewer ones in held.
func (x *expander) hold(held *int64, n int64) error {
	more := n - *held
	if more <= 0 {
		return nil
	}
	if !x.budget.hold(more) {
		x.budget.note("memory")
		return ErrOverLimits
	}
	*held += more
	return nil
}

// needs has the budget grant the next decoder n octets for its window. That of
// the decoder before it in the same container is not used any more.
func (x *expander) needs(n int64) error {
	if err := x.hold(&x.window, n); err != nil {
		return fmt.Errorf("decoder that takes %d octets: %w", n, err)
	}
	x.budget.collect(n)
	return nil
}

// free gives back all that was granted. Nothing that was handed over by then
// may be used any more.
func (x *expander) free() {
	x.unmap()
	x.budget.release(x.held + x.window)
	x.buf, x.held, x.window = nil, 0, 0
}

func (x *expander) unmap() {
	if x.room != nil {
		_ = syscall.Munmap(x.room)
		x.room = nil
	}
}

// giveTail hands over what follows the end of a container, if it is more than
// padding: another archive may be there.
func (x *expander) giveTail(tail []byte) error {
	if x.within || len(bytes.Trim(tail, "\x00")) < 4 {
		return nil
	}
	return x.giveStored(member{note: "after the end of the archive"}, bytes.TrimLeft(tail, "\x00"))
}
