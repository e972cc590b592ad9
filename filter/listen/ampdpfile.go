package listen

// The file in which the message of an AM.PDP request lies. Its path comes from
// the client: whoever may write to the socket must not have other files read,
// or removed, than those of the helper.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"postern/filter/mail"
)

// within splits a path into one of the folders and the names below it.
func within(folders []string, path string) (folder string, names []string, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", nil, fmt.Errorf("%q is no plain absolute path", cut(path))
	}
	for _, f := range folders {
		if f = filepath.Clean(f); filepath.IsAbs(f) {
			if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(f, "/")+"/"); ok && rest != "" {
				return f, strings.Split(rest, "/"), nil
			}
		}
	}
	return "", nil, fmt.Errorf("%q is in none of the allowed folders", cut(path))
}

// openMail opens a regular file below one of the folders for reading. No link
// is followed below the folder, the file has no second name, and it belongs to
// whom it may.
func openMail(folders []string, path string) (f *os.File, size int64, err error) {
	folder, names, err := within(folders, path)
	if err != nil {
		return nil, 0, err
	}
	const dirFlags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	// links in the folder's own path are the postmaster's
	dir, err := openAt(-1, folder, dirFlags)
	if err != nil {
		return nil, 0, fmt.Errorf("opening %s: %w", folder, err)
	}
	var top, st syscall.Stat_t
	if err := syscall.Fstat(dir, &top); err != nil {
		syscall.Close(dir)
		return nil, 0, fmt.Errorf("looking at %s: %w", folder, err)
	}
	for i, name := range names {
		flags := dirFlags | syscall.O_NOFOLLOW
		if i == len(names)-1 {
			// not to wait for the writer of a pipe
			flags = syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC
		}
		next, err := openAt(dir, name, flags)
		syscall.Close(dir)
		if err != nil {
			return nil, 0, fmt.Errorf("opening %q in %q: %w", name, cut(path), err)
		}
		dir = next
	}
	f = os.NewFile(uintptr(dir), path)
	if err := syscall.Fstat(dir, &st); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("looking at %q: %w", cut(path), err)
	}
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		err = errors.New("no regular file")
	case st.Nlink != 1:
		err = errors.New("a file with several names")
	case !mayOwn(st.Uid, top.Uid):
		err = notOwned(st.Uid, folder, top.Uid)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%q: %w", cut(path), err)
	}
	return f, st.Size, nil
}

// openAt opens a name in a folder, once more if a signal comes in between.
func openAt(dir int, name string, flags int) (fd int, err error) {
	for {
		if dir < 0 {
			fd, err = syscall.Open(name, flags, 0)
		} else {
			fd, err = syscall.Openat(dir, name, flags, 0)
		}
		if !errors.Is(err, syscall.EINTR) {
			return fd, err
		}
	}
}

// mayOwn says who may own what a client names: the owner of the folder, and who
// could read and remove everything there anyway.
func mayOwn(uid, folder uint32) bool {
	return uid == folder || uid == 0 || uid == uint32(os.Geteuid())
}

func notOwned(uid uint32, folder string, owner uint32) error {
	return fmt.Errorf("it belongs to user %d, not to user %d as %s does, to root or to us", uid, owner, folder)
}

// removeTempdir removes a folder that lies right in one of the allowed folders,
// with all that is in it.
func removeTempdir(folders []string, path string) error {
	folder, names, err := within(folders, path)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return fmt.Errorf("%q is not right below %s", cut(path), folder)
	}
	top, err := os.Stat(folder)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Lstat(names[0])
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%q is no folder", cut(path))
	}
	uid, owner := fi.Sys().(*syscall.Stat_t).Uid, top.Sys().(*syscall.Stat_t).Uid
	if !mayOwn(uid, owner) {
		return notOwned(uid, folder, owner)
	}
	return root.RemoveAll(names[0]) // of a link it would remove the link
}

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
