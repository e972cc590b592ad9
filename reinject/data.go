package reinject

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// errEarlyReply ends the writing of a message that the next hop has already
// answered.
var errEarlyReply = errors.New("next hop replied before the end of the message")

// blockSize is what goes to the network in one write.
const blockSize = 64 << 10

var blocks = sync.Pool{New: func() any { b := make([]byte, 0, blockSize); return &b }}

// dataWriter is the form of a message on the wire (RFC 5321 section 4.5.2): a
// dot is put before every line that begins with one, a line end is CR LF. No
// LF ever leaves without its CR, because some servers take LF for a line end
// and could then be shown an end of data that we did not send. All else keeps
// its bytes, a CR alone too.
type dataWriter struct {
	write func(block []byte, last bool) error
	buf   []byte
	mid   bool // not at the start of a line
	cr    bool // the last octet was CR
}

// writeMessage writes o and the final dot in blocks. An error of write ends it.
func writeMessage(o *mail.Outgoing, write func(block []byte, last bool) error) error {
	b := blocks.Get().(*[]byte)
	defer blocks.Put(b)
	w := &dataWriter{write: write, buf: (*b)[:0]}
	if _, err := o.WriteTo(w); err != nil {
		return err
	}
	return w.end()
}

func (w *dataWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if !w.mid && p[0] == '.' {
			if err := w.put("."); err != nil {
				return 0, err
			}
		}
		line := p
		i := bytes.IndexByte(p, '\n')
		if i >= 0 {
			line = p[:i]
		}
		if err := w.copy(line); err != nil {
			return 0, err
		}
		if len(line) > 0 {
			w.cr = line[len(line)-1] == '\r'
		}
		w.mid = true
		if i < 0 {
			break
		}
		end := "\n"
		if !w.cr {
			end = "\r\n"
		}
		if err := w.put(end); err != nil {
			return 0, err
		}
		w.mid, w.cr = false, false
		p = p[i+1:]
	}
	return n, nil
}

func (w *dataWriter) end() error {
	dot := ".\r\n"
	if w.mid {
		dot = "\r\n.\r\n"
	}
	if err := w.put(dot); err != nil {
		return err
	}
	return w.write(w.buf, true)
}

func (w *dataWriter) put(s string) error {
	if len(w.buf)+len(s) > cap(w.buf) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, s...)
	return nil
}

func (w *dataWriter) copy(p []byte) error {
	for len(p) > 0 {
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
	}
	return nil
}

func (w *dataWriter) flush() error {
	err := w.write(w.buf, false)
	w.buf = w.buf[:0]
	return err
}

// needs8bit reports whether BODY=8BITMIME is due (RFC 6152).
func needs8bit(o *mail.Outgoing) bool {
	if o.FromOpts.Body == smtp.Body8BitMIME || has8bit(o.Message.Bytes()) {
		return true
	}
	for _, e := range o.Edits {
		if has8bit([]byte(e.Value)) {
			return true
		}
	}
	return false
}

func has8bit(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b)&high != 0 {
			return true
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
