package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// milterConn is the net.Conn between go-milter and the MTA. go-milter trusts
// the lengths and the forms of packets: it takes memory for half a gigabyte on
// demand, and a string without its NUL is a panic that ends the process. So it
// gets whole packets that have been looked at. What it writes leaves in one
// piece when it reads again, edits and decision together; progress at once.
//
// It also knows whether a message is under way, so that a shutdown can end the
// session between two messages.
type milterConn struct {
	net.Conn
	idle time.Duration // how long the MTA may be silent

	packet []byte // rest of the packet that go-milter has not read
	out    []byte

	mu      sync.Mutex
	message bool // between MAIL and the decision about it
	ended   bool // the message has come, and the decision is the next that leaves
	closing bool
	onClose func()
}

// maxPacket bounds one packet: MTAs send at most 64 KiB of body in one, and
// larger ones are not offered.
const maxPacket = 128 << 10

var errPacket = errors.New("malformed milter packet")

// Read gives go-milter what it asks for of the next packet.
func (c *milterConn) Read(p []byte) (int, error) {
	if len(c.packet) == 0 {
		if err := c.flush(); err != nil {
			return 0, err
		}
		c.decided()
		packet, err := c.next()
		if err != nil {
			return 0, err
		}
		c.packet = packet
	}
	n := copy(p, c.packet)
	c.packet = c.packet[n:]
	return n, nil
}

// next reads one packet, its length included.
func (c *milterConn) next() ([]byte, error) {
	c.mu.Lock()
	if c.closing && !c.message {
		c.mu.Unlock()
		return nil, io.EOF
	}
	err := c.Conn.SetReadDeadline(time.Now().Add(c.idle))
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		if c.isClosing() && errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, io.EOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxPacket {
		return nil, fmt.Errorf("%w: %d octets", errPacket, n)
	}
	packet := make([]byte, 4+n)
	copy(packet, head[:])
	if _, err := io.ReadFull(c.Conn, packet[4:]); err != nil {
		return nil, err
	}
	code := packet[4]
	if !wellFormed(code, packet[5:]) {
		return nil, fmt.Errorf("%w: command %q", errPacket, code)
	}
	c.note(code)
	return packet, nil
}

// note follows the state of the session.
func (c *milterConn) note(code byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch code {
	case 'M':
		c.message = true
	case 'E':
		c.ended = true
	case 'A', 'K', 'Q':
		c.message = false
	}
}

func (c *milterConn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// wellFormed says whether a packet has the form of its command (Postfix
// milter8.c, libmilter mfdef.h). Unknown commands are none.
func wellFormed(code byte, data []byte) bool {
	strings := bytes.Count(data, []byte{0})
	closed := len(data) > 0 && data[len(data)-1] == 0
	switch code {
	case 'O': // version, actions, protocol
		return len(data) >= 12
	case 'D': // a command and pairs of names and values
		return len(data) >= 1 && (len(data) == 1 || closed)
	case 'C': // host, family, and for some port and address
		host := bytes.IndexByte(data, 0)
		if host < 0 || host+1 >= len(data) {
			return false
		}
		switch rest := data[host+2:]; data[host+1] {
		case 'U':
			return true
		case '4', '6', 'L':
			return len(rest) > 2 && rest[len(rest)-1] == 0
		}
		return false
	case 'H', 'M', 'R', 'U': // strings
		return closed
	case 'L': // name and value
		return closed && strings == 2
	case 'B', 'E', 'N', 'T', 'A', 'K', 'Q':
		return true
	}
	return false
}

// Write keeps what go-milter says until it reads again.
func (c *milterConn) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	if bytes.Equal(c.out, []byte{0, 0, 0, 1, 'p'}) {
		return len(p), c.flush()
	}
	return len(p), nil
}

// flush sends what was kept, within a time that a living MTA never needs.
func (c *milterConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// decided ends the message whose decision has left.
func (c *milterConn) decided() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		c.ended, c.message = false, false
	}
}

// interrupt lets the session end when no message is under way.
func (c *milterConn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if !c.message {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// cut ends the session at once.
func (c *milterConn) cut() { c.Conn.Close() }

// The deadlines are ours.

// SetDeadline does nothing.
func (c *milterConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *milterConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *milterConn) SetWriteDeadline(time.Time) error { return nil }

// Close sends what is left and gives the slot of the session back.
func (c *milterConn) Close() error {
	_ = c.flush()
	err := c.Conn.Close()
	c.mu.Lock()
	done := c.onClose
	c.onClose = nil
	c.mu.Unlock()
	if done != nil {
		done()
	}
	return err
}
