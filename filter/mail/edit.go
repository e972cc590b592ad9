package mail

import (
	"io"
	"strings"
)

// EditOp says what an [Edit] does.
type EditOp uint8

// The edits that a header can get. There is none for the body.
const (
	// Add puts a new field above the header. Of several, the first in the
	// list stands on top.
	Add EditOp = iota
	// Remove takes fields out.
	Remove
	// Replace gives fields a new value.
	Replace
)

// Edit is one change to the header of a message. Fields that no edit names
// keep their bytes, folding included.
type Edit struct {
	Op   EditOp
	Name string
	// Index picks one instance by its place from the top, 1 for the first
	// (as a milter counts); 0 means all. Add ignores it.
	Index int
	// Value is the new value without the final CRLF, folded by the caller
	// with CRLF and a blank. It must not be taken from a message unescaped:
	// WriteTo writes a line end that is not a fold as a blank.
	Value string
}

// WriteTo writes the message as it will be sent: edits applied, line ends
// CRLF, no dot-stuffing, no final dot.
func (o *Outgoing) WriteTo(w io.Writer) (int64, error) {
	cw := &countWriter{w: w}
	o.writeHeader(cw)
	cw.write(o.Message.Rest())
	return cw.n, cw.err
}

// Size returns the number of octets that WriteTo writes.
func (o *Outgoing) Size() int64 {
	if len(o.Edits) == 0 {
		return o.Message.Size()
	}
	cw := &countWriter{w: io.Discard}
	o.writeHeader(cw)
	return cw.n + int64(len(o.Message.Rest()))
}

func (o *Outgoing) writeHeader(cw *countWriter) {
	changed := false
	for _, e := range o.Edits {
		if e.Op == Add {
			cw.write(e.field())
		} else {
			changed = true
		}
	}
	if !changed {
		cw.write(o.Message.HeaderBytes())
		return
	}
	o.EachField(func(f Field, _ int, e *Edit) {
		if e == nil {
			cw.write(f.Raw)
		} else if e.Op == Replace {
			cw.write(e.field())
		}
	})
}

// EachField visits the fields that the message has, from the top: n is the place
// among those of its name, counted from 1, and e the last edit that concerns
// it, nil for none.
func (o *Outgoing) EachField(visit func(f Field, n int, e *Edit)) {
	type instance struct {
		name  string // in lower case
		index int
	}
	last := map[instance]int{} // the number of the last edit, by what it is for
	for i, e := range o.Edits {
		if e.Op != Add {
			last[instance{strings.ToLower(e.Name), e.Index}] = i + 1
		}
	}
	seen := map[string]int{}
	for _, f := range o.Message.Header() {
		key := strings.ToLower(f.Name)
		seen[key]++
		var e *Edit
		if n := max(last[instance{key, 0}], last[instance{key, seen[key]}]); n > 0 {
			e = &o.Edits[n-1]
		}
		visit(f, seen[key], e)
	}
}

// field returns the bytes of the new field. Whatever Value holds, the result
// is exactly one field.
func (e *Edit) field() []byte {
	b := make([]byte, 0, len(e.Name)+len(e.Value)+4)
	b = append(b, e.Name...)
	b = append(b, ':', ' ')
	return append(e.appendValue(b), '\r', '\n')
}

// Folded returns the value as it is written: whatever Value holds, lines end
// only in folds, CRLF and a blank.
func (e *Edit) Folded() string { return string(e.appendValue(nil)) }

func (e *Edit) appendValue(b []byte) []byte {
	v := e.Value
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\r' && i+2 < len(v) && v[i+1] == '\n' && (v[i+2] == ' ' || v[i+2] == '\t') && strings.TrimLeft(foldLine(v[i+2:]), " \t") != "":
			b = append(b, '\r', '\n')
			i++
		case c == '\r' || c == '\n' || c == 0:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return b
}

// foldLine returns v up to its next line end: a continuation line of blanks
// only would be taken for the end of the header by some readers.
func foldLine(v string) string {
	if i := strings.IndexAny(v, "\r\n"); i >= 0 {
		return v[:i]
	}
	return v
}

type countWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *countWriter) write(p []byte) {
	if c.err != nil || len(p) == 0 {
		return
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
}
