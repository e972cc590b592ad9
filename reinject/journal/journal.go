// Package journal remembers what was done with mail whose answer the feeding
// queue may not have got. If the process dies between the next hop's 250 and our
// own, the queue sends the message again; then the journal has it, and nobody
// gets it twice.
//
// It is for the death of the process, not for a loss of power: no mail waits for
// an fsync, since what was written outlives the process in the memory of the
// kernel. What no journal can know is whether a next hop took a message whose
// final dot was sent and whose answer had not come when we died. Such mail goes
// again, and the journal names it.
//
// A journal is two files of text: the one that is written, and the one before
// it, which goes when the first is full. Start with [Journal].
package journal

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/filter/mail"
)

// Options bound a [Journal].
type Options struct {
	Size int64         // of one file, in octets; 64 MiB if 0: about an hour of 100 messages a second, and Postfix waits that long at most before it tries again
	Keep time.Duration // how long a trace counts; five days if 0, as long as Postfix keeps mail
	Log  *slog.Logger  // gets what could not be written or read; nil: nobody
	Now  func() time.Time
}

// format is the first line of a file.
const format = "postern journal 1"

// Journal is the traces in one folder. It is safe for concurrent use.
type Journal struct {
	dir   string
	opts  Options
	locks *os.File // held as long as the journal is open

	mu       sync.Mutex // guards what follows
	file     *os.File
	size     int64
	begun    bool // a line is in the file that has no end
	failing  bool // the last write failed
	now, old map[mail.TraceKey]place

	doubtful []mail.Trace
}

// place is where the last line about a key stands.
type place struct {
	at   int64
	done mail.Disposal
}

// letters are the disposals as they stand in the file.
var letters = map[mail.Disposal]byte{mail.NotHandled: 'b', mail.Relayed: 'r', mail.Bounced: 'n', mail.Quarantined: 'q', mail.Deferred: 'd'}

// Open reads the journal in dir, or begins one there. Two processes cannot have
// the same one open. What cannot be read is set aside.
func Open(dir string, o Options) (*Journal, error) {
	if o.Size == 0 {
		o.Size = 64 << 20
	}
	if o.Keep == 0 {
		o.Keep = 5 * 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("the folder of the journal: %w", err)
	}
	j := &Journal{dir: dir, opts: o, now: map[mail.TraceKey]place{}, old: map[mail.TraceKey]place{}}
	var err error
	if j.locks, err = os.OpenFile(j.path("lock"), os.O_RDWR|os.O_CREATE, 0o640); err != nil {
		return nil, fmt.Errorf("the journal: %w", err)
	}
	if err := syscall.Flock(int(j.locks.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		j.locks.Close()
		return nil, fmt.Errorf("the journal in %s is in use: another daemon runs with this state.dir", dir)
	}
	if err := j.load(); err != nil {
		j.locks.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// load reads both files.
func (j *Journal) load() error {
	open := map[mail.TraceKey]mail.Trace{}
	for _, f := range []struct {
		name  string
		index map[mail.TraceKey]place
	}{{"journal.old", j.old}, {"journal", j.now}} {
		err := readFile(j.path(f.name), func(at int64, t mail.Trace, keys []mail.TraceKey) error {
			for _, k := range keys {
				if known := j.old[k]; done(known.done) && !done(t.Disposal) {
					continue // what was done stays done
				}
				f.index[k] = place{at, t.Disposal}
				if delete(open, k); t.Disposal == mail.NotHandled && j.opts.Now().Sub(t.Time) < j.opts.Keep {
					open[k] = t
				}
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			j.opts.Log.Error("the journal cannot be read and is set aside", "file", j.path(f.name), "err", err)
			if err := os.Rename(j.path(f.name), j.path(f.name)+".bad"); err != nil {
				return fmt.Errorf("the journal: %w", err)
			}
			clear(f.index)
		}
	}
	if err := j.begin(); err != nil {
		return err
	}
	j.name(open)
	return nil
}

// InDoubt is the note about mail that was begun when the process died.
const InDoubt = "in doubt: it may come twice"

// name collects the messages that have no end, and writes down that they were
// named, so that it is done once.
func (j *Journal) name(open map[mail.TraceKey]mail.Trace) {
	keys := map[string][]mail.TraceKey{}
	for k, t := range open {
		if keys[t.LogID] == nil {
			j.doubtful = append(j.doubtful, t)
		}
		keys[t.LogID] = append(keys[t.LogID], k)
	}
	slices.SortFunc(j.doubtful, func(a, b mail.Trace) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.LogID, b.LogID)) })
	for _, t := range j.doubtful {
		j.Note(mail.Trace{Disposal: mail.Deferred, Ident: t.Ident, LogID: t.LogID, Note: InDoubt}, keys[t.LogID]...)
	}
}

// done reports whether nothing is left to do.
func done(d mail.Disposal) bool {
	return d == mail.Relayed || d == mail.Bounced || d == mail.Quarantined
}

// begin opens the file that is written.
func (j *Journal) begin() error {
	f, err := os.OpenFile(j.path("journal"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("the journal: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		_, err = f.WriteString(format + "\n")
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("the journal: %w", err)
	}
	j.file, j.size = f, max(info.Size(), int64(len(format)+1))
	if last := make([]byte, 1); info.Size() > 0 {
		_, err := f.ReadAt(last, info.Size()-1)
		j.begun = err == nil && last[0] != '\n'
	}
	return nil
}

// Doubtful returns the mail that was begun before the start and has no end: it
// may come twice. Each message is there once.
func (j *Journal) Doubtful() []mail.Trace { return j.doubtful }

// Find returns what is known of a recipient.
func (j *Journal) Find(k mail.TraceKey) (mail.Trace, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p, ok := j.now[k]
	name := "journal"
	if old, was := j.old[k]; was && (!ok || done(old.done) && !done(p.done)) {
		p, ok, name = old, true, "journal.old"
	}
	if !ok {
		return mail.Trace{}, false
	}
	t, err := lineAt(j.path(name), p.at)
	if err != nil || j.opts.Now().Sub(t.Time) > j.opts.Keep {
		return mail.Trace{}, false
	}
	return t, true
}

// maxNote bounds what is kept of an answer.
const maxNote = 300

// Note writes down what was done for some recipients. A journal that cannot be
// written is no reason to hold mail up: the worst is a mail that comes twice.
func (j *Journal) Note(t mail.Trace, keys ...mail.TraceKey) {
	if len(keys) == 0 {
		return
	}
	note := mail.Escape(t.Note)
	if len(note) > maxNote {
		note = note[:maxNote]
	}
	line := make([]byte, 0, 200+33*len(keys))
	line = append(line, letters[t.Disposal], '\t')
	line = strconv.AppendInt(line, j.opts.Now().Unix(), 10)
	for _, s := range []string{mail.Escape(t.Ident), mail.Escape(t.LogID), note} {
		line = append(append(line, '\t'), s...)
	}
	for i, k := range keys {
		line = append(line, "\t,"[min(i, 1)])
		line = hex.AppendEncode(line, k[:])
	}
	line = append(line, '\n')

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return
	}
	if j.begun {
		line = append([]byte{'\n'}, line...)
	}
	n, err := j.file.Write(line)
	at := j.size
	j.size += int64(n)
	if j.begun {
		at++
	}
	if err != nil {
		j.begun = j.begun && n == 0 || n > 0
		if !j.failing {
			j.opts.Log.Error("the journal cannot be written: after a crash mail may come twice", "err", err)
		}
		j.failing = true
		return
	}
	j.begun, j.failing = false, false
	for _, k := range keys {
		j.now[k] = place{at, t.Disposal}
	}
	if j.size > j.opts.Size {
		j.turn()
	}
}

// turn begins a new file. What is under way keeps its trace: it stands in the file
// before it.
func (j *Journal) turn() {
	if err := os.Rename(j.path("journal"), j.path("journal.old")); err != nil {
		j.opts.Log.Error("the journal grows beyond its size", "err", err)
		j.opts.Size *= 2
		return
	}
	j.file.Close()
	j.file = nil
	j.old, j.now = j.now, map[mail.TraceKey]place{}
	if err := j.begin(); err != nil {
		j.opts.Log.Error("the journal ends: after a crash mail may come twice", "err", err)
	}
}

// Close ends the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.file != nil {
		err = j.file.Close()
		j.file = nil
	}
	// said in words: a child that is just being started may hold the file as well
	return errors.Join(err, syscall.Flock(int(j.locks.Fd()), syscall.LOCK_UN), j.locks.Close())
}

// Read visits what is in a journal, the oldest first, without opening it for
// writing.
func Read(dir string, visit func(mail.Trace, []mail.TraceKey) error) error {
	for _, name := range []string{"journal.old", "journal"} {
		err := readFile(filepath.Join(dir, name), func(_ int64, t mail.Trace, keys []mail.TraceKey) error { return visit(t, keys) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

func readFile(path string, visit func(at int64, t mail.Trace, keys []mail.TraceKey) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f, visit)
}

var errFormat = errors.New("want a file that begins with " + format)

// read visits the lines that are whole. One that is not was cut off by the end of
// a process or of the disk, and nobody has relied on it.
func read(r io.Reader, visit func(at int64, t mail.Trace, keys []mail.TraceKey) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	at := int64(0)
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		text := string(line)
		for errors.Is(err, bufio.ErrBufferFull) { // many recipients
			line, err = in.ReadSlice('\n')
			if text += string(line); len(text) > maxLine {
				return errors.New("a line is too long")
			}
		}
		if errors.Is(err, io.EOF) {
			if first {
				return errFormat
			}
			return nil
		} else if err != nil {
			return err
		}
		if first {
			if text != format+"\n" {
				return errFormat
			}
		} else if t, keys, ok := parse(strings.TrimSuffix(text, "\n")); ok {
			if err := visit(at, t, keys); err != nil {
				return err
			}
		}
		at += int64(len(text))
	}
}

// maxLine is more than the recipients of one message take.
const maxLine = 8 << 20

func parse(line string) (t mail.Trace, keys []mail.TraceKey, ok bool) {
	f := strings.Split(line, "\t")
	if len(f) != 6 || len(f[0]) != 1 {
		return t, nil, false
	}
	found := false
	for d, letter := range letters {
		if letter == f[0][0] {
			t.Disposal, found = d, true
		}
	}
	seconds, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || !found {
		return t, nil, false
	}
	t.Time, t.Ident, t.LogID, t.Note = time.Unix(seconds, 0), f[2], f[3], f[4]
	for text := range strings.SplitSeq(f[5], ",") {
		var k mail.TraceKey
		if len(text) != 2*len(k) {
			return t, nil, false
		}
		if _, err := hex.Decode(k[:], []byte(text)); err != nil {
			return t, nil, false
		}
		keys = append(keys, k)
	}
	return t, keys, true
}

// lineAt reads the line that begins there.
func lineAt(path string, at int64) (mail.Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return mail.Trace{}, err
	}
	defer f.Close()
	text, err := bufio.NewReader(io.NewSectionReader(f, at, maxLine)).ReadString('\n')
	if err != nil {
		return mail.Trace{}, err
	}
	t, _, ok := parse(strings.TrimSuffix(text, "\n"))
	if !ok {
		return t, errors.New("no line begins there")
	}
	return t, nil
}
