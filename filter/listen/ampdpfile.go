package listen

// The message of an AM.PDP request, as the helper has written it into a file.

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"postern/filter/mail"
)

// crlfWriter writes CRLF for LF. A CRLF stays: amavisd-milter has left the CR of
// CR CR LF there.
type crlfWriter struct {
	w    io.Writer
	last byte
}

// Write implements io.Writer.
func (c *crlfWriter) Write(p []byte) (int, error) {
	for b := p; len(b) > 0; {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.last = b[len(b)-1]
			_, err := c.w.Write(b)
			return len(p), err
		}
		if i > 0 {
			c.last = b[i-1]
		}
		end := crlf
		if c.last == '\r' {
			end = crlf[1:]
		}
		if _, err := c.w.Write(b[:i]); err != nil {
			return 0, err
		}
		if _, err := c.w.Write(end); err != nil {
			return 0, err
		}
		c.last, b = '\n', b[i+1:]
	}
	return len(p), nil
}

// errCut is for a message whose first field cannot be told from that of the
// helper.
var errCut = errors.New("the helper has cut its Received field, and joined it with the first one of the message")

// fetch reads a message up to the limit of in, without the field of the helper.
func (c *ampdpCheck) fetch(in *incoming, r io.Reader) error {
	buf := make([]byte, readBuffer)
	n, err := io.ReadFull(r, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	var head bytes.Buffer
	w := &crlfWriter{w: &head}
	_, _ = w.Write(buf[:n])
	own, whole := c.helperReceived(head.Bytes())
	if !whole {
		return errCut
	}
	_, _ = in.Write(head.Bytes()[own:]) // it keeps its error
	w.w = in
	for err == nil && !in.over() && in.err == nil {
		if n, err = r.Read(buf); n > 0 {
			_, _ = w.Write(buf[:n])
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// helperBuffer is the room that amavisd-milter has for its Received field at
// first; what does not fit is cut, the line end too.
const helperBuffer = 2 << 10

// helperReceived returns the length of the Received field that amavisd-milter
// writes above the message, 0 if there is none. The MTA does not have that
// field: it is not counted in edits, not signed and not looked at; what it says
// stands in the request as well.
//
// When it is cut, the first field of the message goes on in its last line: a
// client with a long HELO could hide a field from us that readers see. whole is
// false where that may be.
func (c *ampdpCheck) helperReceived(message []byte) (length int, whole bool) {
	fields, _ := mail.ParseHeader(message)
	if len(fields) == 0 {
		return 0, true
	}
	helo := c.helo
	if helo == "" {
		helo = "unknown"
	}
	start := "Received: from " + helo
	start = start[:min(len(start), helperBuffer-1)]
	field := asMangled(string(fields[0].Raw))
	if !strings.HasPrefix(field, asMangled(start)) {
		return 0, true
	}
	if inFile := len(field) - strings.Count(field, "\r\n"); inFile >= helperBuffer {
		return 0, false
	}
	if strings.Contains(field, " (amavisd-milter)") && strings.HasSuffix(field, asMangled("\r\n\t(envelope-from "+c.sender+")\r\n")) {
		return len(field), true
	}
	return 0, true
}
