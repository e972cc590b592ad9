package quarantine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// kept is a message with its text, kept for one recipient who did not get it.
func kept(at time.Time, category, text string) (*mail.Kept, *mail.Message) {
	id, secret := mail.NewMailID()
	return &mail.Kept{
		MailID: id, SecretID: secret, Time: at, Category: category, From: "eve@example.com", Subject: "about " + text,
		Rcpts: []mail.KeptRcpt{
			{Address: "bob@example.org", Due: true, NextHop: "smtp://127.0.0.1:10025"},
			{Address: "carol@example.org", NextHop: "smtp://127.0.0.1:10025"},
		},
	}, mail.NewMessage([]byte("Subject: about " + text + "\r\n\r\n" + text + "\r\n.\r\nend"))
}

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keep(t *testing.T, s *Store, at time.Time, category, text string) *mail.Kept {
	t.Helper()
	k, m := kept(at, category, text)
	if _, err := s.Keep(k, m); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeepAndFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	first := keep(t, s, monday, "virus", "one")
	keep(t, s, monday.Add(time.Hour), "spam", "two")
	it, err := s.Load(first.MailID)
	if err != nil {
		t.Fatal(err)
	}
	if want := first.MailID[:1] + "/virus-" + first.MailID; it.Path != want {
		t.Errorf("path %s, want %s", it.Path, want)
	}
	m, err := s.Octets(it)
	if err != nil || string(m.Bytes()) != "Subject: about one\r\n\r\none\r\n.\r\nend" {
		t.Errorf("octets %q, %v", m.Bytes(), err)
	}
	for _, name := range []string{it.Path, it.Path + ".json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if got := subjects(s); got != "about two, about one" {
		t.Errorf("all: %s", got)
	}
	if got := subjects(s, "EVE@", "about ONE"); got != "about one" {
		t.Errorf("search: %s", got)
	}
	for _, written := range []string{it.MailID, it.Path, "virus-" + it.MailID, it.Path + ".gz", " " + it.MailID + "\n"} {
		if id, ok := ParseID(written); id != it.MailID || !ok {
			t.Errorf("ParseID(%q) = %q, %v", written, id, ok)
		}
	}
	for _, bad := range []string{"", "../etc/passwd", "x", "a/../../bbbbbbbbbbbb/", strings.Repeat("a", 17), "-aaaaaaaaaaa"} {
		if id, ok := ParseID(bad); ok {
			t.Errorf("ParseID(%q) = %q", bad, id)
		}
		if _, err := s.Load(bad); !errors.Is(err, ErrNotFound) {
			t.Errorf("Load(%q): %v", bad, err)
		}
	}
}

func subjects(s *Store, words ...string) string {
	var out []string
	for it := range s.All(words...) {
		out = append(out, it.Subject)
	}
	return strings.Join(out, ", ")
}

// Kept a second time, a message stays where it is, with what is known now.
func TestKeepAgain(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	k, m := kept(monday, "virus", "one")
	before, err := s.Keep(k, m)
	if err != nil {
		t.Fatal(err)
	}
	k.Category, k.Rcpts[1].Due = "other", true
	after, err := s.Keep(k, m)
	if err != nil || after != before {
		t.Fatalf("%s, then %s, %v", before, after, err)
	}
	it, err := s.Load(k.MailID)
	if err != nil || !it.Rcpts[1].Due || subjects(s) != "about one" || s.total != k.Size {
		t.Errorf("%+v, %v, %s, %d octets", it, err, subjects(s), s.total)
	}
}

// A store that is away or full keeps nothing and says so, and what it has stays.
func TestKeepFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := monday
	s := open(t, dir, Options{Size: 300, Now: func() time.Time { return now }})
	keep(t, s, monday, "virus", strings.Repeat("a", 100))
	k, m := kept(monday, "virus", strings.Repeat("b", 100))
	if _, err := s.Keep(k, m); !errors.Is(err, ErrFull) {
		t.Errorf("a second message: %v", err)
	}
	if _, err := s.Load(k.MailID); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was not kept: %v", err)
	}
	// after a week the oldest gives way
	now = monday.Add(8 * 24 * time.Hour)
	if _, err := s.Keep(k, m); err != nil {
		t.Error(err)
	}
	if got := subjects(s); strings.Contains(got, "aaa") || !strings.Contains(got, "bbb") {
		t.Errorf("after a week: %s", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	k, m = kept(monday, "virus", "c")
	if _, err := s.Keep(k, m); err == nil {
		t.Error("kept without a folder")
	}
}

// Whatever moment the power goes, there is no half message that counts, and
// what was answered is there: the folder is copied after each step of a write.
func TestNoHalfMessage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	done := keep(t, s, monday, "virus", "one")
	k, _ := kept(monday, "virus", "two")
	folder := filepath.Join(dir, k.MailID[:1])
	path := filepath.Join(folder, "virus-"+k.MailID)
	steps := []func(){
		func() {},
		func() {
			writeFile(t, filepath.Join(dir, "index"), indexLine(k, k.MailID[:1]+"/virus-"+k.MailID)[:20], true)
		},
		func() { writeFile(t, filepath.Join(folder, ".virus-"+k.MailID+".tmp"), "Subj", false) },
		func() { writeFile(t, path, "Subject: about two\r\n", false) },
		func() { writeFile(t, filepath.Join(folder, ".virus-"+k.MailID+".json.tmp"), "{", false) },
	}
	for i, step := range steps {
		step()
		copied := t.TempDir()
		if err := os.CopyFS(filepath.Join(copied, "q"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		after := open(t, filepath.Join(copied, "q"), Options{})
		if got := subjects(after); got != "about one" {
			t.Errorf("step %d: %q", i, got)
		}
		if _, err := after.Load(done.MailID); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		keep(t, after, monday.Add(time.Hour), "spam", "three")
		if got := subjects(after); got != "about three, about one" {
			t.Errorf("step %d, kept after it: %q", i, got)
		}
		if left, _ := filepath.Glob(filepath.Join(copied, "q", "*", ".*.tmp")); len(left) > 0 {
			t.Errorf("step %d: left %v", i, left)
		}
	}
}

func writeFile(t *testing.T, path, text string, more bool) {
	t.Helper()
	flags := os.O_WRONLY | os.O_CREATE
	if more {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(path, flags, 0o640)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An index that is missing, foreign or behind is made anew from the files.
func TestIndexIsRebuilt(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"foreign": func(p string) error { return os.WriteFile(p, []byte("postern index 9\nx\n"), 0o640) },
		"empty":   func(p string) error { return os.Truncate(p, 0) },
		"cut": func(p string) error {
			info, err := os.Stat(p)
			if err != nil {
				return err
			}
			return os.Truncate(p, info.Size()-30)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir, Options{})
			keep(t, s, monday, "virus", "one")
			keep(t, s, monday.Add(time.Hour), "spam", "two")
			if err := damage(filepath.Join(dir, "index")); err != nil {
				t.Fatal(err)
			}
			if got := subjects(open(t, dir, Options{})); got != "about two, about one" {
				t.Error(got)
			}
		})
	}
}

// A file that cannot be read is set aside and no reason not to start.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	bad, good := keep(t, s, monday, "virus", "one"), keep(t, s, monday, "virus", "two")
	path := filepath.Join(dir, bad.MailID[:1], "virus-"+bad.MailID)
	for _, text := range []string{"", "{", `{"format":"postern quarantine 9","mail_id":"` + bad.MailID + `"}`, `{"format":"postern quarantine 1"}`} {
		if err := os.WriteFile(path+".json", []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		s := open(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if _, err := s.Load(bad.MailID); err == nil {
			t.Errorf("%q: read", text)
		}
		if got := subjects(s); got != "about two" {
			t.Errorf("%q: %s", text, got)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: the message is gone: %v", text, err)
		}
		if _, err := os.Stat(path + ".json.bad"); err != nil || !strings.Contains(log.String(), "set aside") {
			t.Errorf("%q: %v, log %q", text, err, log.String())
		}
	}
	// the message itself is not what was kept
	path = filepath.Join(dir, good.MailID[:1], "virus-"+good.MailID)
	if err := os.WriteFile(path, []byte("forged"), 0o640); err != nil {
		t.Fatal(err)
	}
	it, err := s.Load(good.MailID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Octets(it); err == nil {
		t.Error("a forged message is handed out")
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	now := monday.Add(40 * 24 * time.Hour)
	s := open(t, t.TempDir(), Options{Keep: 30 * 24 * time.Hour, Now: func() time.Time { return now }})
	keep(t, s, monday, "virus", "old")
	keep(t, s, now.Add(-29*24*time.Hour), "virus", "younger")
	var gone []string
	n, err := s.Expire(func(it *Item) { gone = append(gone, it.Subject) })
	if n != 1 || err != nil || !slices.Equal(gone, []string{"about old"}) || subjects(s) != "about younger" {
		t.Errorf("%d, %v, %v, left %s", n, err, gone, subjects(s))
	}
	if files, _ := filepath.Glob(filepath.Join(s.dir, "*", "virus-*")); len(files) != 2 {
		t.Errorf("left %v", files)
	}
}

// Two stores on one folder, as daemon and command are, do not get in each
// other's way.
func TestTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	daemon := open(t, dir, Options{})
	command, err := Use(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 20 {
				k, m := kept(monday, "spam", fmt.Sprintf("%d.%d", n, i))
				if _, err := daemon.Keep(k, m); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := command.Delete(k.MailID); err != nil {
						t.Error(err)
					}
				}
				if i%7 == 0 {
					if _, err := command.Expire(nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	n := 0
	for range daemon.All() {
		n++
	}
	if n != 80 {
		t.Errorf("%d messages, want 80", n)
	}
}

// hop answers with one code and remembers what it got.
type hop struct {
	code    int
	inDoubt bool
	got     []*mail.Outgoing
	data    []string
}

func (h *hop) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	h.got = append(h.got, o)
	var b strings.Builder
	_, _ = o.WriteTo(&b) // a Builder takes everything
	h.data = append(h.data, b.String())
	d := map[int]mail.Disposal{2: mail.Relayed, 4: mail.Deferred, 5: mail.Refused}[h.code/100]
	return slices.Repeat([]mail.Receipt{{Disposal: d, Reply: mail.NewReply(h.code, 0, 0, "hop"), InDoubt: h.inDoubt}}, len(o.Rcpts))
}

func TestRelease(t *testing.T) {
	t.Parallel()
	h := &hop{code: 250}
	s := open(t, t.TempDir(), Options{})
	found, scanErr := "", error(nil)
	r := &Releaser{
		Store: s, Relay: func(mail.NextHop) mail.Transport { return h },
		Scan: func(context.Context, *mail.Kept, *mail.Message) (string, error) { return found, scanErr },
	}
	k := keep(t, s, monday, "virus", "one")
	release := func(q Request) (string, error) {
		t.Helper()
		h.got, h.data = nil, nil
		q.ID = k.MailID
		results, err := r.Release(t.Context(), q)
		var out []string
		for _, x := range results {
			out = append(out, fmt.Sprint(x.To, x.Receipt.Reply.Code))
		}
		return strings.Join(out, " "), err
	}
	want := func(what string, q Request, result string, wanted error) {
		t.Helper()
		got, err := release(q)
		if got != result || !errors.Is(err, wanted) {
			t.Errorf("%s: %q, %v; want %q, %v", what, got, err, result, wanted)
		}
	}
	found = "Eicar"
	want("a virus", Request{}, "", ErrInfected)
	found, scanErr = "", errors.New("clamd is away")
	want("not scanned", Request{}, "", scanErr)
	want("not scanned, in one word", Request{}, "", ErrScan)
	scanErr = nil
	want("no secret", Request{NeedSecret: true}, "", ErrSecret)
	want("a wrong secret", Request{NeedSecret: true, Secret: "AAAAAAAAAAAA"}, "", ErrSecret)
	h.code = 450
	want("put off", Request{NeedSecret: true, Secret: k.SecretID}, "<bob@example.org>450", nil)
	h.code = 250
	want("who did not get it", Request{By: "root"}, "<bob@example.org>250", nil)
	if len(h.data) != 1 || h.data[0] != "Subject: about one\r\n\r\none\r\n.\r\nend" {
		t.Errorf("sent %q", h.data)
	}
	if o := h.got[0]; o.From != "eve@example.com" || len(o.Rcpts[0].Opts.Notify) != 1 || o.Rcpts[0].Opts.Notify[0] != "NEVER" || o.Kind != mail.KindRelease {
		t.Errorf("envelope %+v", o)
	}
	want("once", Request{}, "", ErrDone)
	want("again", Request{Again: true}, "<bob@example.org>250", nil)
	want("who has it", Request{To: []mail.Address{"carol@example.org"}}, "", ErrDone)
	want("who has it, again", Request{To: []mail.Address{"carol@example.org"}, Again: true}, "<carol@example.org>250", nil)
	want("another", Request{To: []mail.Address{"boss@example.org"}}, "<boss@example.org>250", nil)
	want("another, once", Request{To: []mail.Address{"boss@example.org"}}, "", ErrDone)
	found = "Eicar"
	want("by force", Request{Force: true, Again: true}, "<bob@example.org>250", nil)
}

// What is handed on is signed if it would have been, and comes from the client
// that it came from.
func TestReleasedAsItCame(t *testing.T) {
	t.Parallel()
	for _, sign := range []bool{false, true} {
		h := &hop{code: 250}
		s := open(t, t.TempDir(), Options{})
		r := &Releaser{
			Store: s, Relay: func(mail.NextHop) mail.Transport { return h },
			Sign: func(_ context.Context, k *mail.Kept, o *mail.Outgoing) error {
				o.Edits = append(o.Edits, mail.Edit{Op: mail.Add, Name: "DKIM-Signature", Value: k.Listener})
				return nil
			},
		}
		k, m := kept(monday, "virus", "one")
		k.Sign, k.Originating, k.Listener = sign, true, "127.0.0.1:10023"
		k.Client = mail.Client{Addr: netip.MustParseAddr("192.0.2.7"), Name: "client.example.com"}
		k.Rcpts[0].Notify, k.Rcpts[0].ORCPT, k.EnvelopeID, k.UTF8 = []smtp.DSNNotify{smtp.DSNNotifyFailure}, "rfc822;b@example.org", "e1", true
		if _, err := s.Keep(k, m); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Release(t.Context(), Request{ID: k.MailID}); err != nil {
			t.Fatal(err)
		}
		o := h.got[0]
		if o.Client != k.Client || o.FromOpts.EnvelopeID != "e1" || !o.FromOpts.UTF8 || o.Rcpts[0].ORCPT != "rfc822;b@example.org" || !slices.Equal(o.Rcpts[0].Opts.Notify, k.Rcpts[0].Notify) {
			t.Errorf("envelope %+v", o)
		}
		if signed := strings.HasPrefix(h.data[0], "DKIM-Signature: 127.0.0.1:10023\r\nSubject: "); signed != sign {
			t.Errorf("signed: %v, want %v\n%s", signed, sign, h.data[0])
		}
	}
}

// After a death in the middle of a release nobody gets the message twice by
// mistake.
func TestReleaseCutOff(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	k := keep(t, s, monday, "virus", "one")
	_, err := s.Update(k.MailID, func(k *mail.Kept) error {
		k.Rcpts[0].Released = &mail.Released{Time: monday}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{code: 250}
	r := &Releaser{Store: s, Relay: func(mail.NextHop) mail.Transport { return h }}
	if _, err := r.Release(t.Context(), Request{ID: k.MailID}); !errors.Is(err, ErrDone) || !strings.Contains(err.Error(), "cut off") {
		t.Error(err)
	}
	if _, err := r.Release(t.Context(), Request{ID: k.MailID, Again: true}); err != nil || len(h.got) != 1 {
		t.Errorf("%v, sent %d", err, len(h.got))
	}
}

// A next hop that may have the message gets it again only if somebody wants that.
func TestReleaseInDoubt(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	k := keep(t, s, monday, "virus", "one")
	h := &hop{code: 451, inDoubt: true}
	r := &Releaser{Store: s, Relay: func(mail.NextHop) mail.Transport { return h }}
	for want := range 2 {
		_, err := r.Release(t.Context(), Request{ID: k.MailID})
		if (err == nil) != (want == 0) || len(h.got) != 1 {
			t.Errorf("%v, sent %d", err, len(h.got))
		}
	}
}

// BenchmarkMany is a store of 100,000 messages: the first page of the list, a
// search for one message and an expiry that finds nothing to do.
func BenchmarkMany(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{Keep: 1000 * 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for i := range 100000 {
		k, m := kept(now, "spam", fmt.Sprint("mail ", i))
		path := k.MailID[:1] + "/spam-" + k.MailID
		k.Size = m.Size()
		if err := errors.Join(s.appendIndex(k, path), os.WriteFile(s.file(path), m.Bytes(), 0o640)); err != nil {
			b.Fatal(err)
		}
		line := fmt.Sprintf(`{"format":%q,"mail_id":%q,"time":%q,"category":"spam","recipients":[{"rcpt_to":"bob@example.org"}],"subject":%q}`,
			format, k.MailID, k.Time.Format(time.RFC3339), k.Subject)
		if err := os.WriteFile(s.file(path)+".json", []byte(line), 0o640); err != nil {
			b.Fatal(err)
		}
	}
	run := func(name string, do func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
	run("list", func() {
		n := 0
		for range s.All() {
			if n++; n == 50 {
				break
			}
		}
	})
	run("search", func() {
		for range s.All("mail 17 ") {
			b.Fatal("found")
		}
	})
	run("expire", func() {
		if _, err := s.Expire(nil); err != nil {
			b.Fatal(err)
		}
	})
	run("open", func() {
		if _, err := Open(dir, Options{}); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkKeep is what a reply waits for.
func BenchmarkKeep(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		k, m := kept(monday, "virus", strings.Repeat("x", 50000))
		if _, err := s.Keep(k, m); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRequeue: what is judged anew goes to those alone whom the policy of now lets
// have it, and who did not get it.
func TestRequeue(t *testing.T) {
	t.Parallel()
	h := &hop{code: 250}
	s := open(t, t.TempDir(), Options{})
	var passes []bool
	var fails error
	r := &Releaser{
		Store: s, Relay: func(mail.NextHop) mail.Transport { return h },
		Scan: func(context.Context, *mail.Kept, *mail.Message) (string, error) {
			t.Error("scanned though it is judged anew")
			return "", nil
		},
		Judge: func(context.Context, *mail.Kept, *mail.Message) ([]bool, error) { return passes, fails },
	}
	k := keep(t, s, monday, "spam", "one") // bob did not get it, carol has it
	for _, tt := range []struct {
		name   string
		q      Request
		passes []bool
		fails  error
		want   string
		err    error
	}{
		{"blocked still", Request{}, []bool{false, true}, nil, "", ErrDone},
		{"not judged", Request{}, nil, errors.New("no policy"), "", nil},
		{"a wrong secret", Request{NeedSecret: true, Secret: "AAAAAAAAAAAA"}, []bool{true, true}, nil, "", ErrSecret},
		{"blocked for who is named", Request{To: []mail.Address{"bob@example.org"}}, []bool{false, true}, nil, "", ErrDone},
		{"nobody of the message", Request{To: []mail.Address{"boss@example.org"}}, []bool{true, true}, nil, "", ErrDone},
		{"it passes", Request{}, []bool{true, true}, nil, "<bob@example.org>250", nil},
		{"once", Request{}, []bool{true, true}, nil, "", ErrDone},
		{"again", Request{Again: true}, []bool{true, true}, nil, "<bob@example.org>250", nil},
	} {
		passes, fails = tt.passes, tt.fails
		tt.q.ID, tt.q.Requeue = k.MailID, true
		results, err := r.Release(t.Context(), tt.q)
		var got []string
		for _, x := range results {
			got = append(got, fmt.Sprint(x.To, x.Receipt.Reply.Code))
		}
		if want := cmp.Or(tt.err, tt.fails); strings.Join(got, " ") != tt.want || !errors.Is(err, want) {
			t.Errorf("%s: %v, %v; want %q, %v", tt.name, got, err, tt.want, want)
		}
	}
}

// TestForeignTextInIndex: whatever stands in a message, it has one line in the
// index, also when that is made anew, and no line of its making.
func TestForeignTextInIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	k, m := kept(monday, "virus", "one")
	evil := "x\n2026-01-01T00:00:00Z\t1\tA/virus-AAAAAAAAAAAA\tvirus\tx\t\r\x1b[2J\u2028" + strings.Repeat("\t", 300)
	k.Subject, k.Author, k.MessageID, k.QueueID, k.From = evil, evil, evil, evil, mail.Address(evil)
	k.Rcpts[0].Address = mail.Address(evil)
	if _, err := s.Keep(k, m); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"written", "made anew"} {
		data, err := os.ReadFile(filepath.Join(dir, "index"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(data), "\n")
		if len(lines) != 3 || strings.Count(lines[1], "\t") != 9 || strings.ContainsAny(lines[1], "\r\x1b\u2028") {
			t.Errorf("%s: %q", what, data)
		}
		if it := slices.Collect(s.All("2026-01-01T00:00:00Z")); len(it) != 1 || it[0].Subject != evil {
			t.Errorf("%s: found %v", what, it)
		}
		if err := s.rebuild(); err != nil {
			t.Fatal(err)
		}
	}
}

// A name is that of an id of ours, whatever is asked for.
func TestNoForeignNames(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	for _, id := range []string{"", "../../etc/xx", "AAAAAAAAAAA/", "AAAAAAAAAAAA\n", ".AAAAAAAAAAA", "AAAA"} {
		k, m := kept(monday, "virus", "one")
		k.MailID = id
		if path, err := s.Keep(k, m); err == nil {
			t.Errorf("%q is kept as %s", id, path)
		}
		if _, err := s.Load(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("loading %q: %v", id, err)
		}
		if err := s.Delete(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleting %q: %v", id, err)
		}
	}
	k, m := kept(monday, "../virus", "one")
	if path, err := s.Keep(k, m); err != nil || path != k.MailID[:1]+"/other-"+k.MailID {
		t.Errorf("an unknown category: %s, %v", path, err)
	}
}

// TestSynced: when Keep returns, the octets, what is known about them and every
// folder that leads to them are on disk, and in that order: no name stands before
// what it names is there.
func TestSynced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "new", "quarantine")
	s, err := use(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	s.sync = func(f *os.File) error {
		name, err := filepath.Rel(top, f.Name())
		if err != nil {
			t.Error(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Error(err)
		}
		if !info.IsDir() {
			name = fmt.Sprintf("%s of %d octets", name, info.Size())
		}
		finals, err := filepath.Glob(filepath.Join(dir, "*", "virus-*"))
		synced = append(synced, fmt.Sprintf("%s beside %d", name, len(finals)))
		return err
	}
	if err := s.makeFolders(); err != nil {
		t.Fatal(err)
	}
	k, m := kept(monday, "virus", "one")
	path, err := s.Keep(k, m)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.file(path) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	folder := "new/quarantine/" + k.MailID[:1]
	want := []string{
		"new/quarantine beside 0", "new beside 0", ". beside 0",
		fmt.Sprintf("%s/.virus-%s.tmp of %d octets beside 0", folder, k.MailID, k.Size), folder + " beside 1",
		fmt.Sprintf("%s/.virus-%s.json.tmp of %d octets beside 1", folder, k.MailID, info.Size()), folder + " beside 2",
	}
	if !slices.Equal(synced, want) {
		t.Errorf("synced\n%s\nwant\n%s", strings.Join(synced, "\n"), strings.Join(want, "\n"))
	}
	// what cannot be synced is not kept, and leaves nothing
	s.sync = func(*os.File) error { return errors.New("input/output error") }
	k, m = kept(monday, "virus", "two")
	if _, err := s.Keep(k, m); err == nil {
		t.Error("kept though the disk does not say so")
	}
	if _, err := s.Load(k.MailID); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is not on disk is found: %v", err)
	}
}
