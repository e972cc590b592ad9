package quarantine

// The index: one line for each message, in the order in which they came.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/filter/mail"
)

// indexFormat is the first line of the index.
const indexFormat = "postern index 1"

// errStop ends a walk early.
var errStop = errors.New("enough")

// entry is one line of the index.
type entry struct {
	time time.Time
	size int64
	path string
	line string // all of it, for searching
}

// maxIndexed bounds each foreign value in a line.
const maxIndexed = 200

func indexLine(k *mail.Kept, path string) string {
	short := func(s string) string {
		if s = mail.Escape(s); len(s) > maxIndexed {
			s = s[:maxIndexed]
		}
		return s
	}
	var rcpts []string
	for i, r := range k.Rcpts {
		if i == 10 {
			break
		}
		rcpts = append(rcpts, short(string(r.Address)))
	}
	return strings.Join([]string{
		k.Time.UTC().Format(time.RFC3339), strconv.FormatInt(k.Size, 10), path, k.Category,
		short(string(k.From)), strings.Join(rcpts, ","), short(k.Author), short(k.Subject), short(k.MessageID), short(k.QueueID),
	}, "\t") + "\n"
}

func parseLine(line string) (e entry, ok bool) {
	f := strings.SplitN(line, "\t", 5)
	if len(f) < 5 {
		return e, false
	}
	at, err := time.Parse(time.RFC3339, f[0])
	size, err2 := strconv.ParseInt(f[1], 10, 64)
	if err != nil || err2 != nil || filepath.Clean(f[2]) != f[2] || !filepath.IsLocal(f[2]) {
		return e, false
	}
	return entry{at, size, f[2], line}, true
}

// appendIndex adds a line in one write, so that a line is whole or at the end.
func (s *Store) appendIndex(k *mail.Kept, path string) error {
	f, err := os.OpenFile(s.file("index"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	line := indexLine(k, path)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		line = indexFormat + "\n" + line
		if err := s.giveAway(f); err != nil {
			return err
		}
	} else if last := make([]byte, 1); true {
		// a write that was cut off, on a full disk for example
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return err
}

// forward visits the lines of the index, the oldest first.
func (s *Store) forward(visit func(entry) error) error {
	f, err := os.Open(s.file("index"))
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && !first {
			return nil // a line that was cut off is about no message
		} else if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if first && line != indexFormat {
			return errors.New("the index of the quarantine has another format")
		}
		if e, ok := parseLine(line); ok {
			if err := visit(e); errors.Is(err, errStop) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// All returns the messages, the newest first, that hold all words in what the
// index has of them: time, category, path, sender, recipients, From, subject,
// Message-ID and queue id; the case of letters does not count. What cannot be
// read is left out.
func (s *Store) All(words ...string) iter.Seq[*Item] {
	for i := range words {
		words[i] = strings.ToLower(mail.Escape(words[i]))
	}
	return func(yield func(*Item) bool) {
		for line := range s.backward() {
			if lower := strings.ToLower(line); slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(lower, w) }) {
				continue
			}
			e, ok := parseLine(line)
			if !ok || !s.has(e.path) {
				continue
			}
			it, err := s.load(e.path)
			if err != nil {
				continue
			}
			if !yield(it) {
				return
			}
		}
	}
}

// backward returns the lines of the index from its end.
func (s *Store) backward() iter.Seq[string] {
	return func(yield func(string) bool) {
		f, err := os.Open(s.file("index"))
		if err != nil {
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return
		}
		const block = 64 << 10
		var rest []byte // the beginning of the block behind, up to its first line end
		for at := info.Size(); at > 0; {
			n := min(at, block)
			at -= n
			buf := make([]byte, n, n+int64(len(rest)))
			if _, err := f.ReadAt(buf, at); err != nil {
				return
			}
			buf = append(buf, rest...)
			for {
				i := bytes.LastIndexByte(buf, '\n')
				if i < 0 {
					break
				}
				if line := string(buf[i+1:]); line != "" && !yield(line) {
					return
				}
				buf = buf[:i]
			}
			if rest = buf; len(rest) > 1<<20 {
				return // no line is that long: this is no index
			}
		}
	}
}

// compact writes the index anew without what is gone.
func (s *Store) compact() error {
	return s.writeIndex(func(w *bufio.Writer) error {
		return s.forward(func(e entry) error {
			if !s.has(e.path) {
				return nil
			}
			_, err := w.WriteString(e.line + "\n")
			return err
		})
	})
}

// writeIndex puts another index in the place of the old one.
func (s *Store) writeIndex(lines func(*bufio.Writer) error) error {
	temp := s.file("index.tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 64<<10)
	_, err = w.WriteString(indexFormat + "\n")
	if err == nil {
		err = lines(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = s.giveAway(f)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing the index of the quarantine: %w", err)
	}
	return os.Rename(temp, s.file("index"))
}

// takeStock compares the index with the files, and makes it anew if a message is
// missing there: the index is not synced, so after a loss of power it may be.
func (s *Store) takeStock() error {
	there := map[string]bool{}
	for _, c := range folders {
		dir := s.file(string(c))
		names, err := namesIn(dir)
		if err != nil {
			return err
		}
		s.removeStale(dir, names)
		for _, name := range names {
			if path, ok := strings.CutSuffix(name, ".json"); ok {
				there[filepath.Join(string(c), path)] = true
			}
		}
	}
	known, total := 0, int64(0)
	err := s.forward(func(e entry) error {
		if there[e.path] {
			delete(there, e.path)
			known++
			total += e.size
		}
		return nil
	})
	if err == nil && len(there) == 0 {
		s.total = total
		return nil
	}
	if known+len(there) > 0 {
		s.opts.Log.Warn("the index of the quarantine is made anew from its files", "known", known, "missing", len(there), "err", err)
	}
	return s.rebuild()
}

// rebuild makes the index from the files.
func (s *Store) rebuild() error {
	type known struct {
		time time.Time
		line string
	}
	var all []known
	s.total = 0
	for _, c := range folders {
		names, err := namesIn(s.file(string(c)))
		if err != nil {
			return err
		}
		for _, name := range names {
			path, ok := strings.CutSuffix(name, ".json")
			if !ok {
				continue
			}
			it, err := s.load(filepath.Join(string(c), path))
			if err != nil {
				continue // set aside
			}
			all = append(all, known{it.Time, indexLine(it.Kept, it.Path)})
			s.total += it.Size
		}
	}
	slices.SortStableFunc(all, func(a, b known) int { return a.time.Compare(b.time) })
	return s.writeIndex(func(w *bufio.Writer) error {
		for _, k := range all {
			if _, err := w.WriteString(k.line); err != nil {
				return err
			}
		}
		return nil
	})
}
