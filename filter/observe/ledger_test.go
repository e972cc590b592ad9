package observe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

// event is a message with those ends.
func event(id string, ends ...mail.Disposal) *mail.Event {
	e := &mail.Event{
		LogID: "1-" + id, MailID: id, QueueID: "Q" + id, From: "a@example.org", Size: 1234, Listener: "127.0.0.1:10023",
		Input: mail.InputLMTP, Rcpts: len(ends),
	}
	for i, end := range ends {
		e.Recipients = append(e.Recipients, mail.RecipientEvent{Address: mail.Address(fmt.Sprintf("r%d@example.net", i)), End: end.String()})
	}
	return e
}

// records reads all of a ledger.
func records(t *testing.T, dir string, since time.Time) (out []LedgerRecord) {
	t.Helper()
	if err := ReadLedger(dir, since, func(r *LedgerRecord) error {
		out = append(out, *r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// words tells what records are: the mail ids of messages, and what else there
// is.
func words(records []LedgerRecord) string {
	var out []string
	for _, r := range records {
		switch {
		case r.Damage != Whole:
			out = append(out, [...]string{Torn: "torn", Garbled: "garbled", Foreign: "foreign"}[r.Damage])
		case r.Lost > 0:
			out = append(out, fmt.Sprintf("lost %d", r.Lost))
		case r.Action != "":
			out = append(out, r.Action+" "+r.MailID)
		default:
			out = append(out, r.MailID)
		}
	}
	return strings.Join(out, ", ")
}

func openTest(t *testing.T, dir string) (*Ledger, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	l, err := OpenLedger(dir, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, &said
}

func TestLedgerKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	l, _ := openTest(t, dir)
	e := event("one", mail.Relayed, mail.Quarantined)
	e.From = "evil\r\n\xff{\"time\":\"@example.org"
	e.Quarantine = []string{"a/b"}
	e.Recipients[0].QueuedAs = "4X"
	l.Observe(e)
	l.Observe(event("many", make([]mail.Disposal, 21)...))
	if err := AppendAction(dir, LedgerAction{MailID: "one", Action: "released", By: "admin", Rcpts: []mail.Address{"r1@example.net"}}); err != nil {
		t.Fatal(err)
	}
	got := records(t, dir, time.Time{})
	if words(got) != "one, many, released one" {
		t.Fatal(words(got))
	}
	day := time.Now().Format(ledgerDay)
	if got[0].Time.IsZero() || got[0].File != day || got[0].Line != 2 {
		t.Errorf("%+v", got[0])
	}
	got[0].Time, got[0].File, got[0].Line = time.Time{}, "", 0
	want := LedgerRecord{
		LogID: "1-one", MailID: "one", QueueID: "Qone", From: "evil\r\n\ufffd{\"time\":\"@example.org", Size: 1234, Listener: "127.0.0.1:10023", Input: "lmtp",
		Recipients: 2, Ends: map[string]int{"relayed": 1, "quarantined": 1}, Quarantine: []string{"a/b"},
		Rcpts: []LedgerRcpt{{"r0@example.net", "relayed", "4X"}, {"r1@example.net", "quarantined", ""}},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if got[1].Recipients != 21 || got[1].Ends["not handled"] != 21 || got[1].Rcpts != nil {
		t.Errorf("%+v", got[1])
	}
	if got[2].By != "admin" || len(got[2].Rcpts) != 1 || got[2].Rcpts[0].Address != "r1@example.net" {
		t.Errorf("%+v", got[2])
	}
	for path, mode := range map[string]os.FileMode{dir: 0o750, filepath.Join(dir, day): 0o640} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm()&^mode != 0 {
			t.Errorf("%s: mode %v, %v", path, st.Mode(), err)
		}
	}
	if err := AppendAction(dir, LedgerAction{MailID: "one"}); err == nil {
		t.Error("an action without a name is noted")
	}
	if _, err := OpenLedger(filepath.Join(dir, day), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a ledger is opened where a file is")
	}
}

// Records that many goroutines and others write at once stay whole.
func TestLedgerTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, said := openTest(t, dir)
	const writers, each = 16, 50
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if w%4 == 0 {
					if err := AppendAction(dir, LedgerAction{MailID: "x", Action: "expired"}); err != nil {
						t.Error(err)
					}
					continue
				}
				l.Observe(event(fmt.Sprintf("%d-%d", w, i), mail.Relayed))
			}
		})
	}
	all.Wait()
	seen := map[string]int{}
	for _, r := range records(t, dir, time.Time{}) {
		if r.Damage != Whole {
			t.Fatalf("%+v", r)
		}
		seen[r.MailID]++
	}
	if seen["x"] != writers/4*each || len(seen) != writers*3/4*each+1 || said.Len() > 0 {
		t.Errorf("%d actions, %d ids, said %s", seen["x"], len(seen), said)
	}
}

// A death at any octet of the last record costs no more than that record, and
// the next begins on a line of its own.
func TestLedgerAfterDeath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := openTest(t, dir)
	l.Observe(event("one", mail.Relayed))
	l.Observe(event("two", mail.Refused))
	path := filepath.Join(dir, l.day)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := event("last", mail.Relayed)
	e.Recipients[0].Address = "bücher@example.net"
	l.Observe(e)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n++ {
		if n > len(ledgerFormat)+2 && n < len(before) {
			n = len(before)
		}
		if err := os.WriteFile(path, whole[:n], 0o640); err != nil {
			t.Fatal(err)
		}
		want := "one, two"
		switch {
		case n <= len(ledgerFormat):
			want = ""
		case n < len(before):
			want = "torn"
		case n >= len(whole)-1:
			want = "one, two, last"
		case n > len(before):
			want = "one, two, torn"
		}
		if got := words(records(t, dir, time.Time{})); got != want {
			t.Fatalf("%d of %d octets: %s, want %s", n, len(whole), got, want)
		}
		l, _ := openTest(t, dir)
		l.Observe(event("next", mail.Relayed))
		if got := words(records(t, dir, time.Time{})); got != strings.TrimPrefix(want+", next", ", ") {
			t.Fatalf("%d of %d octets, then the next: %s", n, len(whole), got)
		}
	}
}

// A record is found even behind one that was torn by another process at that
// very moment.
func TestLedgerBehindTornRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := openTest(t, dir)
	l.Observe(event("one", mail.Relayed))
	path := filepath.Join(dir, l.day)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := string(text[len(ledgerFormat):])
	for _, c := range []struct{ add, want string }{
		{line[:40] + line, "one, torn, one"},
		{"x" + line, "one, garbled, one"},
		{strings.Repeat("\x00", 4096) + "\n" + line, "one, garbled, one"},
		{ledgerFormat + "\n\n" + line, "one, one"},
		{"{}\n[]\nnull\n" + line, "one, garbled, garbled, garbled, one"},
		{`{"time":"2026-11-27T10:00:00Z","lost":-3}` + "\n", "one, garbled"},
		{`{"time":"2026-11-27T10:00:00Z","mail_id":"x","ends":7}` + "\n", "one, garbled"},
		{`{"time":"2026-11-27T10:00:00Z","mail_id":"later","news":true}` + "\n", "one, later"},
		{strings.Repeat(line[:len(line)-1], maxLedgerLine/len(line)+1000) + "\n" + line, "one, garbled, one"},
	} {
		if err := os.WriteFile(path, append(text[:len(text):len(text)], c.add...), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := words(records(t, dir, time.Time{})); got != c.want {
			t.Errorf("%.60q: %s, want %s", c.add, got, c.want)
		}
	}
}

func TestLedgerSetsAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, time.Now().Format(ledgerDay))
	for _, text := range []string{"postern ledger 2\n{}\n", "x", "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := words(records(t, dir, time.Time{})); !strings.HasPrefix(got, "foreign") {
			t.Errorf("%q: %s", text, got)
		}
		l, said := openTest(t, dir)
		l.Observe(event("one", mail.Relayed))
		if got := words(records(t, dir, time.Time{})); got != "one, foreign" || !strings.Contains(said.String(), ".bad") {
			t.Errorf("%q: %s, said %s", text, got, said)
		}
		if aside, err := os.ReadFile(path + ".bad"); err != nil || string(aside) != text {
			t.Errorf("%q was set aside as %q, %v", text, aside, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if err := AppendAction(dir, LedgerAction{MailID: "x", Action: "deleted"}); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link was followed: %v", err)
	}
}

// A file a day, and none older than ninety days.
func TestLedgerDays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2025, 11, 27, 23, 59, 59, 0, time.Local)
	l, said := openTest(t, dir)
	if err := os.Remove(filepath.Join(dir, l.day)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"2025-08-29", "2025-08-30", "2025-08-28.bad", "2025-01-01", "notes", "2024"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(ledgerFormat), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	l.day, l.now = "", func() time.Time { return now }
	names := func() string {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range files {
			out = append(out, f.Name())
		}
		return strings.Join(out, " ")
	}
	l.Observe(event("one", mail.Relayed))
	if got := names(); got != "2024 2025-08-29 2025-08-30 2025-11-27 notes" {
		t.Errorf("%s, said %s", got, said)
	}
	now = now.Add(2 * time.Second)
	l.Observe(event("two", mail.Relayed))
	if got := names(); got != "2024 2025-08-30 2025-11-27 2025-11-28 notes" {
		t.Errorf("%s, said %s", got, said)
	}
	now = now.Add(-2 * time.Second) // it was overtaken
	l.Observe(event("three", mail.Relayed))
	if got := words(records(t, dir, now.Add(-time.Hour))); got != "one, three, two" {
		t.Error(got)
	}
	if got := words(records(t, dir, now.Add(time.Second))); got != "two" {
		t.Error(got)
	}
}

// A full disk holds no mail up, is logged once, and the ledger tells in the end
// how much is missing, wherever a write was cut.
func TestLedgerDiskFull(t *testing.T) {
	t.Parallel()
	for room := -1; room < 120; room++ {
		dir := t.TempDir()
		l, said := openTest(t, dir)
		l.Observe(event("before", mail.Relayed))
		l.write = func(f *os.File, b []byte) (int, error) {
			n := 0
			if room > 0 {
				n, _ = f.Write(b[:min(room, len(b))])
			}
			return n, syscall.ENOSPC
		}
		const missing = 5
		for i := range missing {
			l.Observe(event(fmt.Sprint(i), mail.Relayed))
		}
		if n := strings.Count(said.String(), "level=ERROR"); n != 1 {
			t.Fatalf("logged %d times: %s", n, said)
		}
		l.write = (*os.File).Write
		l.Observe(event("after", mail.Relayed))
		l.Observe(event("end", mail.Relayed))
		lost := 0
		var got []string
		for _, r := range records(t, dir, time.Time{}) {
			lost += r.Lost
			switch {
			case r.Damage == Garbled:
				t.Fatalf("%+v", r)
			case r.Damage == Whole && r.Lost == 0:
				got = append(got, r.MailID)
			}
		}
		if lost != missing || strings.Join(got, " ") != "before after end" || !strings.Contains(said.String(), "written again") {
			t.Fatalf("room for %d octets: %d lost, %v, said %s", room, lost, got, said)
		}
	}
}

// A folder that goes away and comes back is no more than a gap; what cannot be
// told at the end is an error.
func TestLedgerFolderGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	l, _ := openTest(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Observe(event("one", mail.Relayed))
	if err := l.Close(); err == nil {
		t.Error("a missing record is no error at the end")
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := words(records(t, dir, time.Time{})); got != "lost 1" {
		t.Error(got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := ReadLedger(dir, time.Time{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestReadLedgerStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := openTest(t, dir)
	l.Observe(event("one", mail.Relayed))
	l.Observe(event("two", mail.Relayed))
	n := 0
	if err := ReadLedger(dir, time.Time{}, func(*LedgerRecord) error { n++; return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}

// Whatever stands in a file, the reader comes to its end, and finds a record
// that was added on a line of its own.
func FuzzLedger(f *testing.F) {
	line := recordOf(event("one", mail.Relayed, mail.Deferred), time.Unix(1, 0)).line()
	f.Add([]byte(ledgerFormat))
	f.Add([]byte(ledgerFormat + string(line) + string(line[:50])))
	f.Add([]byte(ledgerFormat + `{"time":"2026-11-27T10:00:00Z","lost":3}` + "\n{\x00\n\n"))
	f.Add([]byte("postern"))
	last := recordOf(event("last one", mail.Relayed), time.Unix(2, 0)).line()
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func(text []byte) (out []LedgerRecord) {
			r := &ledgerReader{visit: func(r *LedgerRecord) error {
				_ = r.Broken()
				out = append(out, *r)
				return nil
			}}
			if err := r.read(bytes.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			return out
		}
		before := read(text)
		if !bytes.HasPrefix(text, []byte(ledgerFormat)) {
			if len(before) > 1 || len(before) == 1 && before[0].Damage != Foreign {
				t.Fatalf("%+v", before)
			}
			return
		}
		after := read(append(append(bytes.Clone(text), '\n'), last...))
		if len(after) != len(before)+1 || after[len(before)].MailID != "last one" {
			t.Fatalf("before %+v, after %+v", before, after)
		}
	})
}

// BenchmarkReadLedger reads a million records, and reports how much more
// memory was in use while it did.
func BenchmarkReadLedger(b *testing.B) {
	dir := b.TempDir()
	e := event("abcdefghijkl", mail.Relayed, mail.Relayed, mail.Quarantined)
	e.Quarantine = []string{"a/abcdefghijkl"}
	const records = 1_000_000
	f, err := os.Create(filepath.Join(dir, "2026-11-27"))
	if err != nil {
		b.Fatal(err)
	}
	line := recordOf(e, time.Now()).line()
	_, _ = io.WriteString(f, ledgerFormat)
	for range records / 1000 {
		if _, err := f.Write(bytes.Repeat(line, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)) * records)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	start := heap()
	for b.Loop() {
		n, most := 0, start
		if err := ReadLedger(dir, time.Time{}, func(*LedgerRecord) error {
			if n++; n%50_000 == 0 {
				most = max(most, heap())
			}
			return nil
		}); err != nil || n != records {
			b.Fatal(n, err)
		}
		b.ReportMetric(float64(most-start)/(1<<20), "MiB-more")
	}
}

func BenchmarkLedgerObserve(b *testing.B) {
	l, err := OpenLedger(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	e := event("one", mail.Relayed)
	for b.Loop() {
		l.Observe(e)
	}
}

// What root begins by a command the daemon can go on with.
func TestLedgerOfRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 12346); err != nil {
		t.Fatal(err)
	}
	ledger := filepath.Join(dir, "ledger")
	if err := AppendAction(ledger, LedgerAction{MailID: "x", Action: "released"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{ledger, filepath.Join(ledger, time.Now().Format(ledgerDay))} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s := st.Sys().(*syscall.Stat_t); s.Uid != 12345 || s.Gid != 12346 {
			t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
		}
	}
}
