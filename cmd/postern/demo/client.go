package demo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Client is a session of LMTP or SMTP. It keeps the first error, so that a
// dialogue reads as one: after an error all methods do nothing.
type Client struct {
	conn net.Conn // nil if it could not be had
	r    *bufio.Reader
	Err  error // the first one
}

// Dial begins a session and reads the greeting. The session must end within
// that time.
func Dial(addr string, within time.Duration) *Client {
	c := &Client{}
	if c.conn, c.Err = net.DialTimeout("tcp", addr, 10*time.Second); c.Err != nil {
		return c
	}
	c.r, c.Err = bufio.NewReader(c.conn), c.conn.SetDeadline(time.Now().Add(within))
	c.Expect("2")
	return c
}

// Close ends the connection.
func (c *Client) Close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

// Write sends octets as they are.
func (c *Client) Write(s string) {
	if c.Err == nil {
		_, c.Err = io.WriteString(c.conn, s)
	}
}

// Send sends one line, without its end, and reads the reply, which must begin
// with class.
func (c *Client) Send(class, format string, args ...any) {
	c.Write(fmt.Sprintf(format, args...) + "\r\n")
	c.Expect(class)
}

// Expect reads one reply, which must begin with class, and returns its last
// line without the end.
func (c *Client) Expect(class string) string {
	for c.Err == nil {
		line, err := c.r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		switch {
		case err != nil:
			c.Err = err
		case len(line) > 3 && line[3] == '-':
		case !strings.HasPrefix(line, class):
			c.Err = fmt.Errorf("unexpected reply %q", line)
		default:
			return line
		}
	}
	return ""
}
