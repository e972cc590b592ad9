package observe

// The ledger is the account of all mail: one record for each message and its
// end, and for each thing done to a copy in the quarantine. This file writes
// it, ledgerread.go reads it, account.go adds it up.
//
// A file holds a day in local time. Its first line is ledgerFormat, each other
// line a record in JSON. Records are only added, each by one write(2) with
// O_APPEND, so that several processes can write; the file is opened anew for
// each, which costs some microseconds and needs no care about a file that was
// moved away, a tail that somebody else has torn, or a new day. There is no
// fsync: the reply to a message waits for its record, and a machine that loses
// power loses the replies as well.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/filter/mail"
)

// ledgerFormat is the first line of each file, with its version.
const ledgerFormat = "postern ledger 1\n"

// ledgerDay is the name of a file, for time.Format.
const ledgerDay = "2006-01-02"

// ledgerKept is how many days the files stay.
const ledgerKept = 90

// maxNamed is up to how many recipients a record names them: a mailing to
// thousands is no mail that somebody asks after by name.
const maxNamed = 20

// maxLedgerText bounds one foreign value in a record.
const maxLedgerText = 1024

// LedgerRecord is one line of the ledger: a message and its end, a number of
// records that are missing, or something done to a copy in the quarantine. A
// reader gives lines that it cannot read as records with Damage.
type LedgerRecord struct {
	Time       time.Time      `json:"time"`
	LogID      string         `json:"log_id,omitempty"`
	MailID     string         `json:"mail_id,omitempty"`
	QueueID    string         `json:"queue_id,omitempty"`
	From       mail.Address   `json:"from,omitempty"`
	Size       int64          `json:"size,omitempty"`
	Listener   string         `json:"listener,omitempty"`
	Input      mail.Input     `json:"input,omitempty"`
	Recipients int            `json:"recipients,omitempty"` // how many were received, named or not
	Ends       map[string]int `json:"ends,omitempty"`       // how many came to which end
	Quarantine []string       `json:"quarantine,omitempty"` // as in [mail.Event]
	Rcpts      []LedgerRcpt   `json:"rcpts,omitempty"`      // all of them, or none if they are more than twenty

	// Lost is how many records are missing here, because they could not be
	// written.
	Lost int `json:"lost,omitempty"`

	Action string `json:"action,omitempty"` // what was done to the copy MailID
	By     string `json:"by,omitempty"`     // and who did it

	File   string     `json:"-"` // where the record stands
	Line   int        `json:"-"`
	Damage DamageKind `json:"-"` // why the line holds no record; then nothing else is set
}

// LedgerRcpt is a recipient and his end, which records of actions have not.
type LedgerRcpt struct {
	Address  mail.Address `json:"to"`
	End      string       `json:"end,omitempty"`
	QueuedAs string       `json:"queued_as,omitempty"`
}

// LedgerAction is something done to a copy in the quarantine.
type LedgerAction struct {
	Time   time.Time // zero: now
	MailID string    // of the message that was kept
	Action string    // released, deleted, expired, requeued
	By     string    // who did it
	Rcpts  []mail.Address
}

// Ledger is the observer that writes the ledger. Mail goes on whether it can
// write or not.
type Ledger struct {
	dir   string
	log   *slog.Logger
	now   func() time.Time
	write func(*os.File, []byte) (int, error) // for tests: a disk that is full

	mu      sync.Mutex // guards what follows
	day     string     // of the last record
	lost    int        // records that are missing and of which the ledger does not know yet
	failing bool       // the last write failed, which was logged
}

// OpenLedger opens the ledger in the folder dir, which it makes if need be. An
// error means that nothing could be written there now.
func OpenLedger(dir string, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{dir: dir, log: log, now: time.Now, write: (*os.File).Write}
	if err := makeLedger(dir); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.add(l.now(), nil); err != nil {
		return nil, err
	}
	return l, nil
}

// Observe implements mail.Observer.
func (l *Ledger) Observe(e *mail.Event) {
	now := l.now()
	line := recordOf(e, now).line()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(now, line)
}

// Close tells how many records are missing, if they still can be told.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return nil
	}
	n := l.lost
	if l.put(l.now(), nil); l.lost > 0 {
		return fmt.Errorf("%d records of the ledger are missing", n)
	}
	return nil
}

// put writes a record, and before it how many are missing. It is called under
// the lock.
func (l *Ledger) put(now time.Time, line []byte) {
	var gap []byte
	if l.lost > 0 {
		gap = (&LedgerRecord{Time: now.Local(), Lost: l.lost}).line()
	}
	n, err := l.add(now, append(gap[:len(gap):len(gap)], line...))
	missing := l.lost
	if n >= len(gap)-1 { // it is whole without the end of its line, too
		l.lost = 0
	}
	switch {
	case err == nil && l.failing:
		l.failing = false
		l.log.Info("the ledger is written again", "dir", l.dir, "missing", missing)
	case err != nil && !l.failing:
		l.failing = true
		l.log.Error("the ledger cannot be written: mail goes on, and what is missing is counted", "dir", l.dir, "err", err)
	}
	if len(line) > 0 && n < len(gap)+len(line)-1 {
		l.lost++
	}
}

// add writes lines to the file of the day, and removes old files when that is
// a new one. It returns how much of lines was written.
func (l *Ledger) add(now time.Time, lines []byte) (int, error) {
	day := now.Format(ledgerDay)
	aside, n, err := appendLedger(l.dir, day, lines, l.write)
	if aside != "" {
		l.log.Warn("a file of the ledger was in no format that is known here, and is set aside", "file", aside)
	}
	if err == nil && day > l.day { // a record that was overtaken at midnight is of the day before
		l.day = day
		l.expire(now)
	}
	return n, err
}

// expire removes the files of days long ago, those set aside as well.
func (l *Ledger) expire(now time.Time) {
	first := now.AddDate(0, 0, -ledgerKept).Format(ledgerDay)
	files, err := os.ReadDir(l.dir)
	for _, f := range files {
		day := strings.TrimSuffix(f.Name(), ".bad")
		if _, bad := time.Parse(ledgerDay, day); bad == nil && day < first {
			err = errors.Join(err, os.Remove(filepath.Join(l.dir, f.Name())))
		}
	}
	if err != nil {
		l.log.Warn("old files of the ledger are not removed", "dir", l.dir, "err", err)
	}
}

// AppendAction notes in the ledger in dir what was done to a copy in the
// quarantine. Any process may call it.
func AppendAction(dir string, a LedgerAction) error {
	now := time.Now()
	if a.Time.IsZero() {
		a.Time = now
	}
	r := &LedgerRecord{Time: a.Time.Local(), MailID: cutText(a.MailID), Action: cutText(a.Action), By: cutText(a.By), Recipients: len(a.Rcpts)}
	if r.MailID == "" || r.Action == "" {
		return errors.New("noting an action in the ledger: it has no mail id, or no name")
	}
	if len(a.Rcpts) <= maxNamed {
		for _, to := range a.Rcpts {
			r.Rcpts = append(r.Rcpts, LedgerRcpt{Address: mail.Address(cutText(string(to)))})
		}
	}
	if err := makeLedger(dir); err != nil {
		return err
	}
	_, _, err := appendLedger(dir, now.Format(ledgerDay), r.line(), (*os.File).Write)
	return err
}

// recordOf is the record of a message.
func recordOf(e *mail.Event, now time.Time) *LedgerRecord {
	r := &LedgerRecord{
		Time: now.Local(), LogID: e.LogID, MailID: e.MailID, QueueID: cutText(e.QueueID), From: mail.Address(cutText(string(e.From))),
		Size: e.Size, Listener: e.Listener, Input: e.Input, Recipients: e.Rcpts, Ends: map[string]int{},
	}
	for _, copied := range e.Quarantine {
		r.Quarantine = append(r.Quarantine, cutText(copied))
	}
	for _, to := range e.Recipients {
		r.Ends[to.End]++
		if len(e.Recipients) <= maxNamed {
			r.Rcpts = append(r.Rcpts, LedgerRcpt{Address: mail.Address(cutText(string(to.Address))), End: to.End, QueuedAs: cutText(to.QueuedAs)})
		}
	}
	return r
}

// cutText bounds foreign text. JSON escapes what is not printable.
func cutText(s string) string {
	if len(s) > maxLedgerText {
		return s[:maxLedgerText-3] + "..."
	}
	return s
}

// line is the record as it stands in the file.
func (r *LedgerRecord) line() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		// only a year of five digits does that
		return fmt.Appendf(nil, "%q\n", err)
	}
	return b.Bytes()
}

// makeLedger makes the folder.
func makeLedger(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of the ledger: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return adopt(f)
}

// appendLedger adds lines to the file of a day. If that is in another format
// it is set aside under the name that is returned. n is how much of lines was
// written.
func appendLedger(dir, day string, lines []byte, write func(*os.File, []byte) (int, error)) (aside string, n int, err error) {
	path := filepath.Join(dir, day)
	f, head, err := openLedger(path)
	if errors.Is(err, errFormat) {
		aside = path + ".bad"
		if err := os.Rename(path, aside); err != nil {
			return "", 0, fmt.Errorf("setting a file of the ledger aside: %w", err)
		}
		f, head, err = openLedger(path)
	}
	if err != nil {
		return aside, 0, fmt.Errorf("opening the ledger: %w", err)
	}
	defer f.Close()
	if len(head)+len(lines) == 0 {
		return aside, 0, nil
	}
	n, err = write(f, append(head[:len(head):len(head)], lines...))
	if err != nil {
		err = fmt.Errorf("writing the ledger: %w", err)
	}
	return aside, max(0, n-len(head)), err
}

// errFormat is for a file that begins with something else than ledgerFormat.
var errFormat = errors.New("no file of this ledger")

// openLedger opens a file, and says what has to come before the next record:
// the first line, or what is missing of it, or the end of a line that a death
// has torn. When two processes make the file at once both may write a first
// line, and when one looks while another writes there may be an empty line;
// the reader knows both.
func openLedger(path string) (f *os.File, head []byte, err error) {
	// no link: a command of root must not write where the daemon's user points
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	first := make([]byte, len(ledgerFormat))
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	if !strings.HasPrefix(ledgerFormat, string(first[:n])) {
		return nil, nil, errFormat
	}
	if n < len(ledgerFormat) {
		if n == 0 {
			if err := adopt(f); err != nil {
				return nil, nil, err
			}
		}
		return f, []byte(ledgerFormat[n:]), nil
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, nil, err
	}
	if _, err := f.ReadAt(first[:1], end-1); err != nil {
		return nil, nil, err
	}
	if first[0] != '\n' {
		head = []byte("\n")
	}
	return f, head, nil
}

// adopt gives what root has made to the owner of the folder where it is: the
// daemon could not write on in a file that root began by a command.
func adopt(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	own, err := f.Stat()
	if err != nil {
		return err
	}
	folder, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	is, ok := own.Sys().(*syscall.Stat_t)
	want, too := folder.Sys().(*syscall.Stat_t)
	if !ok || !too || is.Uid != 0 || want.Uid == 0 {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
