// Package quarantine keeps blocked mail on disk until somebody has it released
// or its time is over. A copy is on disk, with all folders that lead to it,
// before anybody is told that the message was taken.
//
// Each message is two files in one of 62 folders: the octets as they came, and
// beside them what is known about it ([mail.Kept]) in JSON. The second file is
// what counts: a message without one was never taken. No name comes from the
// mail. An index holds one line for each message in the order in which they
// came; it only makes searching fast, and is made anew from the files.
//
// Several processes may work on one folder at the same time: what changes it is
// done under a lock.
//
// Start with [Store], which keeps, finds and forgets, and [Releaser], which
// hands on.
package quarantine

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/filter/mail"
)

// Store is one folder of kept mail. It is safe for concurrent use.
type Store struct {
	dir  string
	opts Options
	sync func(*os.File) error // os.File.Sync

	mu      sync.Mutex // guards what follows
	total   int64      // octets of all messages, as far as this process knows
	cleaned time.Time  // when room was looked for the last time
}

// Options bound a [Store].
type Options struct {
	Size int64         // of all messages together, in octets; 0: no bound
	Keep time.Duration // how long a message is kept; 0: without end
	Log  *slog.Logger  // gets what was found damaged; nil: nobody
	Now  func() time.Time
}

// untouched is the age below which no message goes for want of room: whoever
// could fill the store could else make mail vanish that nobody has seen.
const untouched = 7 * 24 * time.Hour

// format begins every file about a message; it has a version.
const format = "postern quarantine 1"

// Errors that callers tell apart.
var (
	ErrFull     = errors.New("the quarantine is full, and nothing in it is older than seven days")
	ErrNotFound = errors.New("there is no such message in the quarantine")
)

// Open makes the folder if it is not there, and takes stock: an index that does
// not name every message is made anew. It is for the daemon; see [Use].
func Open(dir string, o Options) (*Store, error) {
	s, err := use(dir, o)
	if err != nil {
		return nil, err
	}
	if err := s.makeFolders(); err != nil {
		return nil, fmt.Errorf("the folder of the quarantine: %w", err)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s, s.takeStock()
}

// makeFolders makes what is missing of the folder, and of those that lead to it,
// so that it stays.
func (s *Store) makeFolders() error {
	changed := []string{s.dir}
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		changed = append(changed, filepath.Dir(dir))
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	for _, c := range folders {
		if err := os.Mkdir(s.file(string(c)), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, dir := range changed {
		if err := s.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Use works on a folder that is there, beside the daemon or without it.
func Use(dir string, o Options) (*Store, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("the folder of the quarantine: %w", err)
	}
	s, err := use(dir, o)
	if err != nil {
		return nil, err
	}
	if s.forward(func(entry) error { return errStop }) == nil {
		return s, nil
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s, s.rebuild()
}

func use(dir string, o Options) (*Store, error) {
	if dir == "" {
		return nil, errors.New("no folder for the quarantine")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{dir: dir, opts: o, sync: (*os.File).Sync}, nil
}

// folders are the first characters that a mail id can have.
const folders = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// prefixes are the beginnings of file names, by category, as in Amavis.
var prefixes = map[string]string{
	"virus": "virus", "banned": "banned", "spam": "spam", "bad_header": "badh",
	"unchecked": "unchecked", "oversized": "oversized", "other": "other",
}

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{10,14}[A-Za-z0-9]$`)

// ParseID returns the mail id in what people and amavisd-release write: the id
// itself, or the path that stands in the log.
func ParseID(s string) (string, bool) {
	s = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(s), ".json"), ".gz")
	s = s[strings.LastIndexByte(s, '/')+1:]
	for _, p := range prefixes {
		if id, ok := strings.CutPrefix(s, p+"-"); ok && validID.MatchString(id) {
			return id, true
		}
	}
	return s, validID.MatchString(s)
}

// Item is one message of the store.
type Item struct {
	*mail.Kept
	Path string // below the folder of the store, as in the log: "V/virus-VabcdefghiJk"
}

// sidecar is the form of the file about a message.
type sidecar struct {
	Format string `json:"format"`
	*mail.Kept
}

// Keep writes a message down. When it returns, the message is found after a loss
// of power too. For a message that is there already only what is known about it
// is written anew. It sets Size and Digest of k. path is for log and people.
func (s *Store) Keep(k *mail.Kept, m *mail.Message) (path string, err error) {
	if !validID.MatchString(k.MailID) {
		return "", fmt.Errorf("mail id %q is none", k.MailID)
	}
	path = filepath.Join(k.MailID[:1], cmp.Or(prefixes[k.Category], "other")+"-"+k.MailID)
	if old, err := s.find(k.MailID); err == nil {
		path = old // it was kept before, maybe for another reason
	}
	sum := sha256.Sum256(m.Bytes())
	k.Size, k.Digest = m.Size(), hex.EncodeToString(sum[:])
	if err := s.room(k.Size); err != nil {
		return "", err
	}
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := s.put(path, k, m); err != nil {
		return "", fmt.Errorf("keeping a message in the quarantine: %w", err)
	}
	return path, nil
}

// put writes both files of a message, or the second if the first is there.
func (s *Store) put(path string, k *mail.Kept, m *mail.Message) error {
	_, err := os.Lstat(s.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		// a line about a message that is not there does no harm
		if err := s.appendIndex(k, path); err != nil {
			return err
		}
		if err := s.write(path, m.Bytes()); err != nil {
			return err
		}
		s.mu.Lock()
		s.total += k.Size
		s.mu.Unlock()
		if err := s.writeSidecar(path, k); err != nil {
			// without it nobody would ever find the message
			return errors.Join(err, s.remove(path))
		}
		return nil
	} else if err != nil {
		return err
	}
	return s.writeSidecar(path, k)
}

// room makes room for a message, or says that there is none.
func (s *Store) room(size int64) error {
	if s.opts.Size == 0 {
		return nil
	}
	over := func() bool { return s.total+size > s.opts.Size }
	s.mu.Lock()
	full, look := over(), s.opts.Now().Sub(s.cleaned) > time.Minute
	if full && look {
		s.cleaned = s.opts.Now()
	}
	s.mu.Unlock()
	switch {
	case !full:
		return nil
	case !look:
		return ErrFull
	}
	if _, err := s.expire(size, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if over() {
		return ErrFull
	}
	return nil
}

func (s *Store) file(path string) string { return filepath.Join(s.dir, path) }

// write makes a file that is there as a whole, and stays, or not at all.
func (s *Store) write(path string, data []byte) error {
	final := s.file(path)
	temp := filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = cmp.Or(err, f.Chmod(0o640), s.giveAway(f), s.sync(f), f.Close())
	if err == nil {
		err = os.Rename(temp, final)
	}
	if err != nil {
		f.Close()
		os.Remove(temp)
		return err
	}
	return s.syncDir(filepath.Dir(final))
}

// giveAway gives a file of root to the owner of the folder: the daemon must be
// able to read what root wrote for it.
func (s *Store) giveAway(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid == 0 && st.Gid == 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

func (s *Store) writeSidecar(path string, k *mail.Kept) error {
	data, err := json.MarshalIndent(sidecar{format, k}, "", "  ")
	if err != nil {
		return err
	}
	return s.write(path+".json", append(data, '\n'))
}

func (s *Store) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return s.sync(d)
}

// find returns the path of a message.
func (s *Store) find(id string) (string, error) {
	if !validID.MatchString(id) {
		return "", ErrNotFound
	}
	for _, p := range prefixes {
		path := filepath.Join(id[:1], p+"-"+id)
		if s.has(path) {
			return path, nil
		}
	}
	return "", ErrNotFound
}

// has reports whether there is a message at path.
func (s *Store) has(path string) bool {
	_, err := os.Lstat(s.file(path) + ".json")
	return err == nil
}

// Load returns what is known about a message.
func (s *Store) Load(id string) (*Item, error) {
	path, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return s.load(path)
}

// load reads the file about a message. One that cannot be read is set aside, and
// its message stays where it is.
func (s *Store) load(path string) (*Item, error) {
	file := s.file(path) + ".json"
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, err
	}
	var c sidecar
	if err := json.Unmarshal(data, &c); err == nil && c.Format == format && c.Kept != nil && validID.MatchString(c.MailID) {
		return &Item{Kept: c.Kept, Path: path}, nil
	}
	s.opts.Log.Error("a file of the quarantine cannot be read and is set aside", "file", file, "as", file+".bad")
	if err := os.Rename(file, file+".bad"); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s cannot be read: it is set aside as %[1]s.bad", file)
}

// Octets returns the message itself. It must be closed.
func (s *Store) Octets(it *Item) (*mail.Message, error) {
	data, err := os.ReadFile(s.file(it.Path))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != it.Digest {
		return nil, fmt.Errorf("%s is not what was kept: its SHA-256 is another", s.file(it.Path))
	}
	return mail.NewMessage(data), nil
}

// Update changes what is known about a message, under the lock. An error of
// change leaves it as it is.
func (s *Store) Update(id string, change func(*mail.Kept) error) (*Item, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	it, err := s.Load(id)
	if err != nil {
		return nil, err
	}
	if err := change(it.Kept); err != nil {
		return it, err
	}
	return it, s.writeSidecar(it.Path, it.Kept)
}

// Delete forgets a message.
func (s *Store) Delete(id string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	path, err := s.find(id)
	if err != nil {
		return err
	}
	return s.remove(path)
}

// remove takes the file about a message first: without it there is no message.
func (s *Store) remove(path string) error {
	info, err := os.Lstat(s.file(path))
	if err := os.Remove(s.file(path) + ".json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return nil // the message was not there
	}
	if err := os.Remove(s.file(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.total = max(0, s.total-info.Size())
	s.mu.Unlock()
	return nil
}

// lock keeps other processes, and other goroutines, from changing the folder.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(s.file("lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := s.giveAway(f); err != nil {
		f.Close()
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		// said in words: a child that is just being started may hold the file as well
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}, nil
}

// Expire forgets what is older than its time, and if the store is too large the
// oldest that may go. gone is told of each, if it is not nil. It returns how many
// went.
func (s *Store) Expire(gone func(*Item)) (int, error) { return s.expire(0, gone) }

// expire makes room for need octets, or a tenth of the store, if it is too large.
func (s *Store) expire(need int64, gone func(*Item)) (int, error) {
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	now, removed, live, left := s.opts.Now(), 0, int64(0), 0
	drop := func(e entry) error {
		it := &Item{Kept: &mail.Kept{}, Path: e.path}
		if gone != nil {
			if read, err := s.load(e.path); err == nil {
				it = read
			}
		}
		if err := s.remove(e.path); err != nil {
			return err
		}
		removed++
		if gone != nil {
			gone(it)
		}
		return nil
	}
	err = s.forward(func(e entry) error {
		if !s.has(e.path) {
			left++
			return nil
		}
		if s.opts.Keep > 0 && now.Sub(e.time) > s.opts.Keep {
			left++
			return drop(e)
		}
		live += e.size
		return nil
	})
	if goal := s.opts.Size - max(s.opts.Size/10, need); err == nil && s.opts.Size > 0 && live > goal {
		err = s.forward(func(e entry) error {
			if live <= goal || now.Sub(e.time) < untouched {
				return errStop
			}
			if !s.has(e.path) {
				return nil
			}
			live -= e.size
			left++
			return drop(e)
		})
	}
	s.mu.Lock()
	s.total = live
	s.mu.Unlock()
	if err != nil || left == 0 {
		return removed, err
	}
	return removed, s.compact()
}

// removeStale removes what writes have left that were cut off.
func (s *Store) removeStale(dir string, names []string) {
	for _, name := range names {
		if strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// namesIn returns what is in a folder, in no order.
func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
