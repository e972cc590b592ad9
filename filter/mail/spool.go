package mail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Spool takes the bytes of a message while it arrives: in memory up to a
// limit, then in an unlinked temporary file, so that nothing stays behind
// when the process is killed. A Spool is used by one goroutine.
type Spool struct {
	Dir    string // folder for temporary files, os.TempDir() if empty
	Memory int    // octets kept in memory, 256 KiB if 0

	buf  []byte
	file *os.File
	size int64
	err  error
}

const defaultSpoolMemory = 256 << 10

// Write adds p. After an error, most likely a full disk, the spool stays in
// that error and takes no more.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	limit := s.Memory
	if limit == 0 {
		limit = defaultSpoolMemory
	}
	if s.file == nil && len(s.buf)+len(p) <= limit {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if s.err = s.toFile(); s.err != nil {
			return 0, s.err
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	s.err = err
	return n, err
}

func (s *Spool) toFile() error {
	f, err := tempFile(s.Dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.file = f
	if _, err = f.Write(s.buf); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.buf = nil
	return nil
}

// tempFile returns a file without a name. O_TMPFILE is not known to every
// file system; the fallback unlinks at once.
func tempFile(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	const oTmpfile = 0x400000 | syscall.O_DIRECTORY
	f, err := os.OpenFile(dir, os.O_RDWR|oTmpfile, 0o600)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOSPC) {
		return nil, err
	}
	f, err = os.CreateTemp(dir, "postern-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Size returns the octets taken so far.
func (s *Spool) Size() int64 { return s.size }

// Message ends the spool and returns what it holds. The Spool must not be
// used afterwards; the caller closes the message.
func (s *Spool) Message() (*Message, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.file == nil {
		m := NewMessage(s.buf)
		s.buf = nil
		return m, nil
	}
	f := s.file
	data, err := syscall.Mmap(int(f.Fd()), 0, int(s.size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("spool: mmap: %w", err)
	}
	s.file = nil
	return &Message{data: data, file: f, free: func() {
		_ = syscall.Munmap(data)
		f.Close()
	}}, nil
}

// Discard gives up what was taken. It is safe after Message.
func (s *Spool) Discard() {
	if s.file != nil {
		s.file.Close()
	}
	s.buf, s.file = nil, nil
}
