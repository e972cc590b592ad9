package listen

import (
	"bytes"
	"io"

	"postern/filter/mail"
)

// dataDecoder turns the octets after 354 into the message: CRLF.CRLF and
// nothing else ends it, the dot that starts a line is taken away (RFC 5321
// section 4.5.2), a bare LF becomes CRLF. A line starts only after CRLF: what
// follows a bare LF or CR is never taken for an end or a stuffed dot, or a
// client and we could see different messages. All other octets stay.
type dataDecoder struct {
	state  dataState
	bareLF bool // a bare LF was seen
}

type dataState uint8

const (
	lineStart dataState = iota // after CRLF, and at the beginning
	dot                        // a dot at the start of a line is held back
	dotCR                      // dot and CR at the start of a line are held back
	inLine                     // anywhere else
	inLineCR                   // the same, and the last octet was CR
)

var (
	cr   = []byte("\r")
	crlf = []byte("\r\n")
)

// decode writes what p adds to the message. It returns the number of octets
// used, which is less than len(p) only at the end of the message.
func (d *dataDecoder) decode(w io.Writer, p []byte) (n int, end bool) {
	kept := 0 // p[kept:n] is still to be written, unchanged
	for n < len(p) {
		switch d.state {
		case lineStart:
			if d.state = inLine; p[n] == '.' {
				w.Write(p[kept:n])
				n++
				kept = n
				d.state = dot
			}
		case dot:
			if d.state = inLine; p[n] == '\r' {
				n++
				kept = n
				d.state = dotCR
			}
		case dotCR:
			if p[n] == '\n' {
				return n + 1, true
			}
			w.Write(cr)
			d.state = inLineCR
		default:
			i := bytes.IndexByte(p[n:], '\n')
			if i < 0 {
				if d.state = inLine; p[len(p)-1] == '\r' {
					d.state = inLineCR
				}
				n = len(p)
				break
			}
			afterCR := i > 0 && p[n+i-1] == '\r' || i == 0 && d.state == inLineCR
			n += i + 1
			if afterCR {
				d.state = lineStart
				break
			}
			w.Write(p[kept : n-1])
			w.Write(crlf)
			kept = n
			d.state, d.bareLF = inLine, true
		}
	}
	w.Write(p[kept:n])
	return n, false
}

// incoming takes a message from the decoder. After an error or over the limit
// it goes on counting and keeps nothing, so that the message is read to its
// end and the session lives on.
type incoming struct {
	spool mail.Spool
	size  int64
	limit int64
	head  []byte // of a message over the limit
	err   error
}

// maxHead is what is kept of a message over the limit: its header says whether
// anybody waits for an answer to it.
const maxHead = 64 << 10

func (m *incoming) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	switch {
	case m.err != nil || len(p) == 0 || m.head != nil:
	case m.size > m.limit:
		m.head = m.beginning(p)
	default:
		_, m.err = m.spool.Write(p)
	}
	return len(p), nil
}

// beginning ends the spool and returns the first octets of what it held, and of
// p after that.
func (m *incoming) beginning(p []byte) []byte {
	head := make([]byte, 0, maxHead)
	if msg, err := m.spool.Message(); err == nil {
		head = append(head, msg.Bytes()[:min(msg.Size(), maxHead)]...)
		msg.Close()
	}
	return append(head, p[:min(len(p), maxHead-len(head))]...)
}

func (m *incoming) over() bool { return m.size > m.limit }
