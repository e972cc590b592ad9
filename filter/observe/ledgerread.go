package observe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DamageKind says why a line of the ledger holds no record.
type DamageKind uint8

// The kinds of damage.
const (
	// Whole is a line that is a record.
	Whole DamageKind = iota
	// Torn is the beginning of a record: the writer died, or the disk was full.
	// What was to be told is no loss: a message whose record was not written
	// has had no reply, and of what a full disk did not take there is a count.
	Torn
	// Garbled is anything else: somebody wrote into the file, or the disk did.
	Garbled
	// Foreign is a file in another format, of which nothing was read.
	Foreign
)

// maxLedgerLine bounds a line: the longest record, of a message with a copy
// for each of a thousand recipients, stays far below.
const maxLedgerLine = 4 << 20

// ReadLedger gives visit the records in the ledger in dir that are not older
// than since, a file after the other, each from its beginning. It ends with the
// first error of visit. It holds one record at a time, and a record is not used
// again.
func ReadLedger(dir string, since time.Time, visit func(*LedgerRecord) error) error {
	files, err := os.ReadDir(dir) // sorted by name, and so by day
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	// a day less: who wrote may have lived in another time zone
	first := since.Local().AddDate(0, 0, -1).Format(ledgerDay)
	for _, f := range files {
		name, aside := strings.CutSuffix(f.Name(), ".bad")
		day, bad := time.ParseInLocation(ledgerDay, name, time.Local)
		if bad != nil || name < first {
			continue
		}
		if aside {
			err = visit(&LedgerRecord{File: f.Name(), Time: day, Damage: Foreign})
		} else {
			err = readLedgerFile(filepath.Join(dir, name), day, since, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readLedgerFile(path string, day, since time.Time, visit func(*LedgerRecord) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its time was over while we read the others
	}
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	defer f.Close()
	r := &ledgerReader{name: filepath.Base(path), last: day, since: since, visit: visit}
	return r.read(f)
}

// ledgerReader reads one file.
type ledgerReader struct {
	name  string
	since time.Time
	visit func(*LedgerRecord) error

	n    int       // number of the line
	last time.Time // of the last record, for lines that have none
}

func (r *ledgerReader) read(f io.Reader) error {
	in := bufio.NewReaderSize(f, 64<<10)
	if head, err := in.Peek(len(ledgerFormat)); string(head) != ledgerFormat {
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("reading the ledger %s: %w", r.name, err)
		case bytes.HasPrefix([]byte(ledgerFormat), head):
			return nil // a death in the first write
		}
		return r.give(&LedgerRecord{Damage: Foreign})
	}
	var line []byte
	for {
		piece, err := in.ReadSlice('\n')
		more := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !more && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the ledger %s: %w", r.name, err)
		}
		whole := piece
		if len(line) > 0 || more {
			if len(line) <= maxLedgerLine { // what is longer is no record, its rest is read over
				line = append(line, piece...)
			}
			whole = line
		}
		if more {
			continue
		}
		r.n++
		if visitErr := r.line(whole); visitErr != nil || err != nil {
			return visitErr
		}
		line = line[:0]
	}
}

// ledgerStart is how each record begins. It stands nowhere else: a quote in a
// value is escaped.
var ledgerStart = []byte(`{"time":`)

// line gives the record of a line. A record may stand behind one that was torn,
// if its writer did not see that.
func (r *ledgerReader) line(line []byte) error {
	if len(line) > maxLedgerLine {
		return r.give(&LedgerRecord{Damage: Garbled})
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) == 0 || string(line) == ledgerFormat[:len(ledgerFormat)-1] {
		return nil
	}
	if i := bytes.LastIndex(line, ledgerStart); i > 0 {
		if err := r.record(line[:i]); err != nil {
			return err
		}
		line = line[i:]
	}
	return r.record(line)
}

func (r *ledgerReader) record(text []byte) error {
	rec := &LedgerRecord{}
	err := json.Unmarshal(text, rec)
	switch {
	case err != nil && isCut(text):
		rec = &LedgerRecord{Damage: Torn}
	case err != nil || rec.Time.IsZero() || rec.MailID == "" && rec.LogID == "" && rec.Lost <= 0:
		rec = &LedgerRecord{Damage: Garbled}
	}
	return r.give(rec)
}

// isCut reports whether text is the beginning of a record.
func isCut(text []byte) bool {
	n := min(len(text), len(ledgerStart))
	return bytes.Equal(text[:n], ledgerStart[:n]) &&
		errors.Is(json.NewDecoder(bytes.NewReader(text)).Decode(&struct{}{}), io.ErrUnexpectedEOF)
}

func (r *ledgerReader) give(rec *LedgerRecord) error {
	rec.File, rec.Line = r.name, r.n
	if rec.Damage != Whole {
		rec.Time = r.last
	}
	r.last = rec.Time
	if rec.Time.Before(r.since) {
		return nil
	}
	return r.visit(rec)
}
