package strict

// Lists whose entries stand in the configuration or, a line each, in files that
// it names.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// Entry is one entry of a list with the file it was read from, if it does
// not stand in the configuration itself.
type Entry struct {
	Text string
	File string // base name, "" for the configuration
	Line int    // from 1 in that file
}

// String returns the entry for people: "10.0.0.0/8 (networks.txt:3)".
func (e Entry) String() string {
	if e.File == "" {
		return e.Text
	}
	return e.Text + " (" + e.File + ":" + strconv.Itoa(e.Line) + ")"
}

// Wrap puts the place of the entry in front of an error about it.
func (e Entry) Wrap(err error) error {
	if e.File == "" {
		return err
	}
	return fmt.Errorf("%s:%d: %w", e.File, e.Line, err)
}

// maxEntry bounds one line of a list, in octets.
const maxEntry = 1000

// check finds what no list of ours holds.
func (e Entry) check() error {
	switch {
	case len(e.Text) > maxEntry || !utf8.ValidString(e.Text) || strings.ContainsFunc(e.Text, unicode.IsControl):
		return fmt.Errorf("this is no entry of a list: %s", Quote(e.Text))
	case strings.HasPrefix(e.Text, "file:"):
		return fmt.Errorf("%s: a list cannot name another one", Quote(e.Text))
	}
	return nil
}

// Expand puts the lines of "file:PATH" entries in the place of the entry. Paths
// are relative to dir. It returns what it could read along with the errors, all
// of them joined.
func Expand(dir string, list []string) ([]Entry, error) {
	out := make([]Entry, 0, len(list))
	var errs []error
	for _, s := range list {
		s = strings.TrimSpace(s)
		path, ok := strings.CutPrefix(s, "file:")
		if !ok {
			out = append(out, Entry{Text: s})
			continue
		}
		path = strings.TrimSpace(path)
		if path == "" {
			errs = append(errs, errors.New("want the path of a list after file:, not nothing"))
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		entries, err := readListFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading list %s: %w", path, err))
		}
		for _, e := range entries {
			if err := e.check(); err != nil {
				errs = append(errs, e.Wrap(err))
				continue
			}
			out = append(out, e)
		}
	}
	return out, errors.Join(errs...)
}

func readListFile(path string) ([]Entry, error) {
	// a pipe must not hold up the reload until somebody writes
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: no regular file", path)
	}
	return readList(f, filepath.Base(path))
}

// readList reads one entry a line. A comment starts with "#" at the start of
// a line or after a blank, since "#" may stand in a local part; a regular
// expression, "/.../", has no comment behind it.
func readList(r io.Reader, file string) ([]Entry, error) {
	var out []Entry
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		s := strings.TrimSpace(sc.Text())
		if s == "" || s[0] == '#' {
			continue
		}
		if s[0] != '/' {
			for _, mark := range []string{" #", "\t#"} {
				if i := strings.Index(s, mark); i >= 0 {
					s = strings.TrimSpace(s[:i])
				}
			}
		}
		out = append(out, Entry{Text: s, File: file, Line: line})
	}
	return out, sc.Err()
}
