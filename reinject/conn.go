package reinject

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"syscall"
)

// What makes a conversation useless, apart from the errors of the network.
var (
	errReplyTooLong = errors.New("reply of more than 128 lines or a line of more than 2000 octets")
	errNoReply      = errors.New("no SMTP reply")
	errUnasked      = errors.New("reply that nobody asked for")
)

const (
	maxReplyLine  = 2000
	maxReplyLines = 128
)

const bodyParam = " BODY=8BITMIME"

// conn stands between go-smtp's client and the network and makes up for what
// the client lacks. It hands on replies line by line, so that the client never
// holds more than the reply it waits for and we can read the next one
// ourselves; it bounds replies; and it mends the wire in three small places,
// see Read and Write.
type conn struct {
	net.Conn
	r     *bufio.Reader
	line  []byte // rest of the line that is being handed on
	lines int    // lines of the reply so far
	ehlo  bool   // the reply is that to EHLO or LHLO

	// noBody is the offset of BODY=8BITMIME in the next command if it is not
	// wanted there, else 0: the client adds it whenever the next hop takes it.
	noBody int
}

func newConn(c net.Conn) *conn {
	return &conn{Conn: c, r: bufio.NewReaderSize(c, maxReplyLine)}
}

// Read returns at most one line. A reply without text gets the blank that
// net/textproto insists on (RFC 5321 section 4.2 does not), and EHLO keywords
// become upper case, because the client compares them as they stand.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.line) == 0 {
		line, err := c.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return 0, errReplyTooLong
		}
		if err != nil {
			return 0, err
		}
		if c.lines++; c.lines > maxReplyLines {
			return 0, errReplyTooLong
		}
		// net/textproto would wait for more after "SSH-2.0"
		if c.lines == 1 && !startsWithCode(line) {
			return 0, errNoReply
		}
		c.line = c.mendReply(line)
	}
	n := copy(p, c.line)
	c.line = c.line[n:]
	return n, nil
}

func (c *conn) mendReply(line []byte) []byte {
	text := bytes.TrimRight(line, "\r\n")
	if len(text) == 3 {
		return []byte(string(text) + " \r\n")
	}
	if c.ehlo && len(text) > 4 && text[0] == '2' {
		key, _, _ := bytes.Cut(text[4:], []byte(" "))
		for i, b := range key {
			if 'a' <= b && b <= 'z' {
				key[i] = b - 'a' + 'A'
			}
		}
	}
	return line
}

func startsWithCode(line []byte) bool {
	if len(line) < 4 {
		return false
	}
	for _, b := range line[:3] {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}

// Write sends one command.
func (c *conn) Write(p []byte) (int, error) {
	if c.pending() {
		return 0, errUnasked
	}
	c.lines = 0
	c.ehlo = bytes.HasPrefix(p, []byte("EHLO ")) || bytes.HasPrefix(p, []byte("LHLO "))
	out := p
	if n := c.noBody; n > 0 && n < len(p) && bytes.HasPrefix(p[n:], []byte(bodyParam)) {
		out = append(bytes.Clone(p[:n]), p[n+len(bodyParam):]...)
	}
	c.noBody = 0
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// pending reports whether something came that nobody has read yet.
func (c *conn) pending() bool { return len(c.line) > 0 || c.r.Buffered() > 0 }

// quiet reports whether the peer neither sent anything nor hung up, without
// waiting.
func (c *conn) quiet() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok || c.pending() {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}
