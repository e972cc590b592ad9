package budget

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// Member is one file of a container, or one reading of it where readers of
// that container would see different bytes.
type Member struct {
	Names     []string // every name that some reader would show, foreign text; empty if the format has none
	Data      []byte   // nil when it was not read; valid until the callback returns, unless it lies in the container
	Size      int64    // octets as declared, or as decoded when data is set
	Dir       bool     // directory
	Link      bool     // symbolic or hard link
	Special   bool     // device, socket, fifo
	Encrypted bool     // content needs a password, or says so
	Opened    bool     // content needed a password, and one was right
	Note      string   // why data is missing or incomplete
}

// name returns the first name, or the empty string.
func (m Member) name() string {
	if len(m.Names) == 0 {
		return ""
	}
	return m.Names[0]
}

// Outcome says how much of a container the members given stand for.
type Outcome struct {
	Encrypted    bool   // names or contents are encrypted
	Opened       bool   // they were, and a password was right
	Damaged      bool   // cut, broken, or of a kind that cannot be opened: not everything was seen
	OverLimits   bool   // the budget ended first
	Disagreement string // two readings of the container give different names or bytes
	Reason       string // what is damaged, for reports
}

// Reader opens one container: it hands the members that it finds in data to the
// opener. Its error says why it could not go on; what was found until then
// counts. One format is one Reader, in archive or document.
type Reader func(x *Opener, data []byte) error

// Search opens the archives of one kind, a short type, or all if it is empty,
// that begin inside data. It knows all readers.
type Search func(x *Opener, data []byte, kind string) error

// Opener is one container that is being opened. It is used by one goroutine.
type Opener struct {
	Budget *Budget
	add    func(Member) error
	out    Outcome
	buf    []byte // for decoded members, used again for the next one
	room   []byte // the memory map that buf is in when it is large
	held   int64  // octets of buf that the budget granted
	window int64  // octets that the budget granted to the windows of decoders
	stop   error  // what add returned
	within bool   // the container lies in other data, which is searched for more

	search Search
}

// NewOpener returns an opener for one container, paid by b, which hands the
// members to add. An error of add ends the work; see Run. Free must be called.
func NewOpener(b *Budget, add func(Member) error, search Search) *Opener {
	return &Opener{Budget: b, add: add, search: search}
}

// Outcome says how it went, up to now.
func (x *Opener) Outcome() Outcome { return x.out }

// Inside opens the archives of one kind, or all if it is empty, that begin
// inside data.
func (x *Opener) Inside(data []byte, kind string) error {
	before := x.within
	x.within = true
	defer func() { x.within = before }()
	return x.search(x, data, kind)
}

// NoteEncrypted records that names or contents are encrypted.
func (x *Opener) NoteEncrypted() { x.out.Encrypted = true }

// NoteOpened records that a password was right.
func (x *Opener) NoteOpened() { x.out.Opened = true }

// Damaged reports whether something was not read so far.
func (x *Opener) Damaged() bool { return x.out.Damaged }

// KeepWindow says that the window of the last decoder is not given back.
func (x *Opener) KeepWindow() { x.window = 0 }

// Run calls one reader and turns its error or panic into the outcome.
func (x *Opener) Run(kind string, read Reader, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			x.Damage("%s: reader gave up: %v", kind, p)
		}
		err = x.stop
	}()
	if err := read(x, data); err != nil && x.stop == nil {
		x.Fail(kind, err)
	}
	return nil
}

// Fail records err, which is none of add.
func (x *Opener) Fail(what string, err error) {
	if errors.Is(err, ErrOverLimits) {
		x.out.OverLimits = true
		return
	}
	x.Damage("%s: %v", what, err)
}

// Damage records that something was not read. The first reason is kept.
func (x *Opener) Damage(format string, args ...any) {
	x.out.Damaged = true
	if x.out.Reason == "" {
		x.out.Reason = bounded(format, args...)
	}
}

// Differ records that readers see different things. The first one is kept.
func (x *Opener) Differ(format string, args ...any) {
	if x.out.Disagreement == "" {
		x.out.Disagreement = bounded(format, args...)
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

// Give hands m to the caller and pays for the entry.
func (x *Opener) Give(m Member) error {
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	return x.Hand(m)
}

// Hand is Give for an entry that is paid.
func (x *Opener) Hand(m Member) error {
	if m.Encrypted {
		x.out.Encrypted = true
	}
	x.out.Opened = x.out.Opened || m.Opened
	if m.Data != nil {
		m.Size = int64(len(m.Data))
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

// Pay takes n octets that members share, or that an index claims twice.
func (x *Opener) Pay(n, claimed, have int) error {
	if claimed <= have {
		return nil
	}
	return x.Budget.Take(int64(n))
}

// GiveStored hands over content that lies in the container as it is.
func (x *Opener) GiveStored(m Member, data []byte) error {
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	if err := x.Budget.Take(int64(len(data))); err != nil {
		return err
	}
	m.Data = data
	return x.Hand(m)
}

// GiveDecoded decodes r, which should yield about size octets (-1 if not
// known), and hands over what came out even if the end is missing. Only an
// error that must end the container is returned.
func (x *Opener) GiveDecoded(m Member, r io.Reader, size int64) error {
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	data, err := x.Decode(r, size)
	m.Data = data
	return x.HandDecoded(m, "member", err)
}

// HandDecoded hands over m, whose decoding ended with err.
func (x *Opener) HandDecoded(m Member, what string, err error) error {
	if err != nil {
		m.Note = err.Error()
		x.Fail(fmt.Sprintf("%s: %q", what, m.name()), err)
		if len(m.Data) == 0 {
			m.Data = nil
		}
	}
	if herr := x.Hand(m); herr != nil {
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

// Decode reads r to its end and pays for each step. The result holds what came
// before an error, and is good until the next call. size, in octets, is a
// hint, not to be trusted.
func (x *Opener) Decode(r io.Reader, size int64) ([]byte, error) {
	if size > int64(cap(x.buf)) && size <= decodeLarge {
		x.buf = make([]byte, 0, size+1)
	}
	return x.DecodeAfter(0, r)
}

// DecodeAfter is Decode that leaves the first n octets of the last result as
// they are. They are part of the new one.
func (x *Opener) DecodeAfter(n int, r io.Reader) ([]byte, error) {
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
		if terr := x.Budget.Take(int64(n)); terr != nil {
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
func (x *Opener) grow() error {
	n := max(2*cap(x.buf), decodeStep)
	if n <= decodeLarge {
		x.buf = append(make([]byte, 0, n), x.buf...)
		return nil
	}
	n = int(x.held+max(x.Budget.memory, 0)+x.Budget.extra()) + decodeStep
	if n <= cap(x.buf) {
		x.Budget.Note("memory")
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

// Hold has the budget grant n octets instead of the fewer ones in held.
func (x *Opener) hold(held *int64, n int64) error {
	more := n - *held
	if more <= 0 {
		return nil
	}
	if !x.Budget.Hold(more) {
		x.Budget.Note("memory")
		return ErrOverLimits
	}
	*held += more
	return nil
}

// Needs has the budget grant the next decoder n octets for its window. That of
// the decoder before it in the same container is not used any more.
func (x *Opener) Needs(n int64) error {
	if err := x.Budget.Check(); err != nil {
		return err
	}
	if err := x.hold(&x.window, n); err != nil {
		return fmt.Errorf("decoder that takes %d octets: %w", n, err)
	}
	x.Budget.Collect(n)
	return nil
}

// Free gives back all that was granted. Nothing that was handed over by then
// may be used any more.
func (x *Opener) Free() {
	x.unmap()
	x.Budget.Release(x.held + x.window)
	x.buf, x.held, x.window = nil, 0, 0
}

func (x *Opener) unmap() {
	if x.room != nil {
		_ = syscall.Munmap(x.room)
		x.room = nil
	}
}

// GiveTail hands over what follows the end of a container, if it is more than
// padding: another archive may be there.
func (x *Opener) GiveTail(tail []byte) error {
	if x.within || len(bytes.Trim(tail, "\x00")) < 4 {
		return nil
	}
	return x.GiveStored(Member{Note: "after the end of the archive"}, bytes.TrimLeft(tail, "\x00"))
}
