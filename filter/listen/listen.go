// Package listen is how mail comes in: it turns a session with a feeding MTA
// into a [mail.Transaction], hands it to the [Handler] and gives the handler's
// replies back in the words of the protocol.
//
// Start with [Feed], which speaks LMTP and SMTP, and [Listen], which opens its
// socket. The package decides nothing about a message but what the protocol
// and the limits demand, and it never turns doubt into success: a handler that
// panics, overruns or answers nonsense becomes a 4xx.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/filter/mail"
)

// Handler takes a message from its envelope to the final replies.
type Handler interface {
	// Process returns one reply per recipient in the order of tx.Rcpts, or
	// exactly one if tx.Input.OneReply(). It should return when ctx ends.
	// tx.Message is valid until Process returns.
	Process(ctx context.Context, tx *mail.Transaction) []mail.Reply
	// Refuse answers a message that came to its end and cannot be taken, in
	// the form of Process. refusal is what the listener would say; what may be
	// said to whom is for the handler to know. tx.Message may be no more than
	// the beginning, tx.Size is then what came.
	Refuse(ctx context.Context, tx *mail.Transaction, refusal mail.Reply) []mail.Reply
}

// Listen opens a listening socket: "127.0.0.1:10023", "[::1]:10023" or
// "unix:/path". For Unix sockets mode is octal, for example "0660", and owner
// is "user:group", "user" or ":group", by name or number; both may be empty.
// The socket of a dead process is replaced, the one of a living process is an
// error. Closing the listener removes the socket file.
func Listen(address, mode, owner string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		// Go sets TCP_NODELAY on every accepted connection
		return net.Listen("tcp", address)
	}
	perm, err := parseMode(mode)
	if err != nil {
		return nil, err
	}
	uid, gid, err := lookupOwner(owner)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// A new socket has no write permission for others than its owner under
	// any usual umask, so there is no moment in which it is too open.
	if uid >= 0 || gid >= 0 {
		err = os.Chown(path, uid, gid)
	}
	if err == nil && mode != "" {
		err = os.Chmod(path, perm)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func parseMode(mode string) (fs.FileMode, error) {
	if mode == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode %q of a socket: want octal permissions such as 0660", mode)
	}
	return fs.FileMode(n), nil
}

// CheckOwner says whether this system knows the owner of a socket, in the form
// that Listen takes.
func CheckOwner(owner string) error {
	_, _, err := lookupOwner(owner)
	return err
}

// lookupOwner returns -1 for what is not given.
func lookupOwner(owner string) (uid, gid int, err error) {
	uid, gid = -1, -1
	name, group, _ := strings.Cut(owner, ":")
	if name != "" {
		if uid, err = strconv.Atoi(name); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return 0, 0, fmt.Errorf("owner %q of a socket: no user %q", owner, name)
			}
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return 0, 0, fmt.Errorf("owner %q of a socket: no group %q", owner, group)
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}

// removeStale removes a socket on which nobody listens.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listening on %s: a file of that name is there and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("listening on %s: another process listens there (%w)", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listening on %s: cannot tell whether another process listens there: %w", path, err)
	}
	return os.Remove(path)
}
