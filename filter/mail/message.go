package mail

import (
	"bytes"
	"os"
	"sync"
)

// Message is the bytes of one message as they came: lines end in CRLF, there
// is no bare LF, dot-stuffing is removed. It is read-only, and safe for
// concurrent readers until Close; who may still read then says so by Hold.
type Message struct {
	data []byte
	file *os.File
	free func()

	mu      sync.Mutex // guards what follows
	holders int
	closed  bool

	once    sync.Once
	header  Header
	bodyOff int
}

// NewMessage wraps data, which must not change afterwards. Tests and notices
// use it; messages from a client come from a [Spool].
func NewMessage(data []byte) *Message { return &Message{data: data} }

// Bytes returns the whole message. The slice may be a read-only memory map:
// writing to it is a fault, and it is invalid after Close.
func (m *Message) Bytes() []byte { return m.data }

// Size returns the number of octets, as RFC 1870 counts them.
func (m *Message) Size() int64 { return int64(len(m.data)) }

// File returns the unlinked file that holds the message, or nil if it is in
// memory only. Its read position is shared: use ReadAt or pass it to a peer
// that seeks.
func (m *Message) File() *os.File { return m.file }

// Header returns the top header, field by field.
func (m *Message) Header() Header {
	m.once.Do(m.split)
	return m.header
}

// HeaderBytes returns the header block without the empty line.
func (m *Message) HeaderBytes() []byte {
	m.once.Do(m.split)
	return m.data[:m.bodyOff]
}

// Rest returns all after the header block: the empty line that ends it, if
// there is one, and the body.
func (m *Message) Rest() []byte {
	m.once.Do(m.split)
	return m.data[m.bodyOff:]
}

// Body returns the octets after the empty line.
func (m *Message) Body() []byte {
	return bytes.TrimPrefix(m.Rest(), crlf)
}

// Hold keeps memory and file alive, even beyond Close, until release is called
// for the first time. It is for readers that the owner of the message cannot
// wait for; they must hold before the owner closes.
func (m *Message) Hold() (release func()) {
	m.mu.Lock()
	m.holders++
	m.mu.Unlock()
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.holders--
		m.freeUnused()
	})
}

// Close releases memory and file as soon as nobody holds them. Further calls,
// and Close of a nil message, do nothing.
func (m *Message) Close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.freeUnused()
}

func (m *Message) freeUnused() {
	if !m.closed || m.holders > 0 || m.free == nil {
		return
	}
	m.free()
	m.free, m.data = nil, nil
}

func (m *Message) split() { m.header, m.bodyOff = ParseHeader(m.data) }

var crlf = []byte("\r\n")

// Field is one header field with its continuation lines, or one line of the
// header block that is no field (Name is then empty).
type Field struct {
	Name string // as written, without trailing blanks
	Raw  []byte // whole field with its final CRLF (missing only at the end of the message)
	off  int    // start of the value in Raw
}

// RawValue returns what stands after the colon, folds and final CRLF included.
func (f Field) RawValue() []byte { return f.Raw[f.off:] }

// Value returns the unfolded value without surrounding blanks.
func (f Field) Value() string {
	v := bytes.ReplaceAll(f.Raw[f.off:], crlf, nil)
	return string(bytes.Trim(v, " \t"))
}

// Is reports whether the field has that name, in any case.
func (f Field) Is(name string) bool {
	return len(f.Name) == len(name) && equalFold(f.Name, name)
}

func equalFold(a, b string) bool {
	for i := 0; i < len(a); i++ {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// Header is a header block in order of appearance, topmost first.
type Header []Field

// First returns the value of the topmost field of that name.
func (h Header) First(name string) (string, bool) {
	for _, f := range h {
		if f.Is(name) {
			return f.Value(), true
		}
	}
	return "", false
}

// All returns the values of all fields of that name, topmost first.
func (h Header) All(name string) []string {
	var out []string
	for _, f := range h {
		if f.Is(name) {
			out = append(out, f.Value())
		}
	}
	return out
}

// Count returns how often a field of that name occurs.
func (h Header) Count(name string) int {
	n := 0
	for _, f := range h {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// ParseHeader splits the header block off data. It never fails: a line that is
// neither field nor continuation is kept as a field without a name, so that
// the fields together are always the block, byte for byte. The block ends
// before the first empty line; bodyOff is its length.
func ParseHeader(data []byte) (h Header, bodyOff int) {
	h = make(Header, 0, 24)
	for bodyOff < len(data) {
		line := data[bodyOff:]
		if bytes.HasPrefix(line, crlf) {
			break
		}
		end := fieldEnd(line)
		h = append(h, newField(line[:end:end]))
		bodyOff += end
	}
	return h, bodyOff
}

// fieldEnd returns the length of the field at the start of b, continuation
// lines included.
func fieldEnd(b []byte) int {
	n := 0
	for {
		i := bytes.Index(b[n:], crlf)
		if i < 0 {
			return len(b)
		}
		n += i + 2
		if n >= len(b) || (b[n] != ' ' && b[n] != '\t') {
			return n
		}
	}
}

func newField(raw []byte) Field {
	i := bytes.IndexByte(raw, ':')
	if i <= 0 {
		return Field{Raw: raw}
	}
	name := bytes.TrimRight(raw[:i], " \t")
	for _, c := range name {
		// RFC 5322 section 2.2: printable US-ASCII without the colon
		if c <= ' ' || c >= 0x7f {
			return Field{Raw: raw}
		}
	}
	if len(name) == 0 {
		return Field{Raw: raw}
	}
	return Field{Name: string(name), Raw: raw, off: i + 1}
}
