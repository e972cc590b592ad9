package journal

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filter/mail"
)

func key(n int) mail.TraceKey {
	return mail.KeyOf(fmt.Sprint("4AAAA", n), [32]byte{1}, "a@example.org", &mail.Recipient{Address: "b@example.net"})
}

func open(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func begun(id string) mail.Trace { return mail.Trace{Ident: "4AAAA", LogID: id} }
func relayed(id string) mail.Trace {
	return mail.Trace{Disposal: mail.Relayed, Ident: "4AAAA", LogID: id, Note: "250 Ok: queued as\tX\r\n"}
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir, Options{})
	j.Note(begun("1"), key(1), key(2))
	j.Note(relayed("1"), key(1))
	check := func(j *Journal) {
		t.Helper()
		if got, ok := j.Find(key(1)); !ok || got.Disposal != mail.Relayed || got.LogID != "1" || got.Ident != "4AAAA" || strings.ContainsAny(got.Note, "\r\n\t") {
			t.Errorf("%+v, %v", got, ok)
		}
		if _, ok := j.Find(key(3)); ok {
			t.Error("found what was never noted")
		}
	}
	check(j)
	if got, ok := j.Find(key(2)); !ok || got.Disposal != mail.NotHandled {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("opened twice: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	j.Note(relayed("9"), key(9)) // nothing to write to
	j = open(t, dir, Options{})
	check(j)
	if d := j.Doubtful(); len(d) != 1 || d[0].LogID != "1" {
		t.Errorf("in doubt: %+v", d)
	}
	j.Close()
	if d := open(t, dir, Options{}).Doubtful(); len(d) != 0 {
		t.Errorf("named again: %+v", d)
	}
	named := 0
	err := Read(dir, func(tr mail.Trace, keys []mail.TraceKey) error {
		if tr.Note == InDoubt && len(keys) == 1 && keys[0] == key(2) {
			named++
		}
		return nil
	})
	if named != 1 || err != nil {
		t.Errorf("named %d times, %v", named, err)
	}
}

// Whatever octet is the last that was written: what stood before it is found, and
// what comes after it too.
func TestEveryEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir, Options{})
	j.Note(relayed("1"), key(1))
	before := j.size
	j.Note(relayed("2"), key(2))
	j.Close()
	data, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal"), data[:n], 0o640); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir, Options{})
		if _, ok := j.Find(key(1)); ok != (int64(n) >= before) {
			t.Errorf("%d of %d octets: the first is found: %v", n, len(data), ok)
		}
		if _, ok := j.Find(key(2)); ok {
			t.Errorf("%d of %d octets: the second is found", n, len(data))
		}
		j.Note(relayed("3"), key(3))
		if _, ok := j.Find(key(3)); !ok {
			t.Errorf("%d of %d octets: what is noted afterwards is not found", n, len(data))
		}
		j.Close()
		j = open(t, dir, Options{})
		if _, ok := j.Find(key(3)); !ok {
			t.Errorf("%d of %d octets: it is not found after a restart", n, len(data))
		}
		j.Close()
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"postern journal 2\n", "\x00\x01", "postern journal 1", strings.Repeat("x", 100000)} {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir, Options{})
		j.Note(relayed("1"), key(1))
		if _, ok := j.Find(key(1)); !ok {
			t.Errorf("%.20q: not usable", text)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%.20q: not set aside: %v", text, err)
		}
	}
}

// The files are bounded, and so is the time; what is under way is found over the
// turn of the files.
func TestBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	j := open(t, dir, Options{Size: 5000, Now: func() time.Time { return now }})
	for n := range 1000 {
		j.Note(begun(fmt.Sprint(n)), key(n))
		j.Note(relayed(fmt.Sprint(n)), key(n))
		for _, back := range []int{0, 5, 15} {
			if tr, ok := j.Find(key(n - back)); n >= back && (!ok || tr.Disposal != mail.Relayed) {
				t.Fatalf("%d is not found after %d", n-back, n)
			}
		}
	}
	for _, name := range []string{"journal", "journal.old"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() > 5200 {
			t.Errorf("%s: %d octets, %v", name, info.Size(), err)
		}
	}
	if len(j.now)+len(j.old) > 200 {
		t.Errorf("%d traces in memory", len(j.now)+len(j.old))
	}
	now = now.Add(6 * 24 * time.Hour)
	if _, ok := j.Find(key(999)); ok {
		t.Error("found after six days")
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir(), Options{Size: 100000})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				k := key(g*1000 + i)
				j.Note(begun("x"), k)
				j.Note(relayed("x"), k)
				if tr, ok := j.Find(k); !ok || tr.Disposal != mail.Relayed {
					t.Errorf("%d.%d: %+v, %v", g, i, tr, ok)
				}
			}
		})
	}
	all.Wait()
}

// TestKilled: what was noted outlives the process. The child tells each number
// after it was noted.
func TestKilled(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("JOURNAL_OF_CHILD"); dir != "" {
		j := open(t, dir, Options{})
		for n := 0; ; n++ {
			j.Note(relayed("1"), key(n))
			fmt.Println("noted", n)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "JOURNAL_OF_CHILD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for range 500 {
		if _, err := fmt.Fscanf(out, "noted %d\n", &last); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	j := open(t, dir, Options{})
	for n := range last + 1 {
		if _, ok := j.Find(key(n)); !ok {
			t.Errorf("%d of %d is not found", n, last)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(format + "\nr\t1795000000\t4A\t1-1\t250 Ok\t000102030405060708090a0b0c0d0e0f\n"))
	f.Add([]byte(format + "\nb\t1\t\t\t\t00,\n\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = read(bytes.NewReader(data), func(at int64, tr mail.Trace, keys []mail.TraceKey) error {
			if len(keys) == 0 || at >= int64(len(data)) || letters[tr.Disposal] != data[at] {
				t.Errorf("at %d: %+v of %q", at, tr, data)
			}
			return nil
		})
	})
}

func BenchmarkNote(b *testing.B) {
	j := open(b, b.TempDir(), Options{})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for n := 0; p.Next(); n++ {
			j.Note(begun("08643-02-3"), key(n%100))
		}
	})
}

func BenchmarkFind(b *testing.B) {
	j := open(b, b.TempDir(), Options{})
	for n := range 1000 {
		j.Note(relayed("08643-02-3"), key(n))
	}
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			j.Find(key(7))
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			j.Find(key(-1))
		}
	})
}
