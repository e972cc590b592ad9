package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postern/policy"
)

type memorySink struct{ lines []string }

func (m *memorySink) Write(_ slog.Level, _ time.Time, line string) error {
	m.lines = append(m.lines, line)
	return nil
}
func (m *memorySink) Close() error { return nil }

func TestTextLog(t *testing.T) {
	t.Parallel()
	var m memorySink
	l := slog.New(NewHandler(&m, policy.Log{}))
	l.Info("(1-1) Passed CLEAN", "event", struct{}{})
	l.Warn("mail\r\nloop", "id", "1-1", "reply", "a\nb")
	l.Debug("not shown")
	// what is quoted already is not quoted again
	l.Error(`unknown key "x"`, "err", fmt.Errorf("reading %q", "a\nb"))
	want := []string{"(1-1) Passed CLEAN", `(1-1) (!)"mail\r\nloop", reply: "a\nb"`, `(!!)unknown key "x", err: reading "a\nb"`}
	if strings.Join(m.lines, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", m.lines, want)
	}
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	var m memorySink
	l := slog.New(NewHandler(&m, policy.Log{Format: policy.LogJSON}))
	l.With("a", 1).Info("x\ny", "event", map[string]int{"size": 3})
	var got struct {
		Msg   string
		A     int
		Event struct{ Size int }
	}
	if err := json.Unmarshal([]byte(m.lines[0]), &got); err != nil || strings.Contains(m.lines[0], "\n") {
		t.Fatal(err, m.lines)
	}
	if got.Msg != "x\ny" || got.A != 1 || got.Event.Size != 3 {
		t.Errorf("%+v", got)
	}
}

// TestRotate: after a rotation, and when there is no place for a new file, no
// line is lost.
func TestRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, old := filepath.Join(dir, "log"), filepath.Join(dir, "log.1")
	l, s, err := Open(policy.Log{To: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rotate := func(to string) {
		if err := os.Rename(path, to); err != nil {
			t.Fatal(err)
		}
	}
	l.Info("one")
	rotate(old)
	if err := s.(*fileSink).Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Info("two")
	rotate(path + ".2")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.(*fileSink).Reopen(); err == nil {
		t.Error("a folder was opened for writing")
	}
	l.Info("three")
	for name, want := range map[string][]string{old: {"one"}, path + ".2": {"two", "three"}} {
		text, err := os.ReadFile(name)
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if err != nil || len(lines) != len(want) {
			t.Fatal(name, err, lines)
		}
		for i := range want {
			if !strings.HasSuffix(lines[i], want[i]) {
				t.Errorf("%s: %q, want %q", name, lines[i], want[i])
			}
		}
	}
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	open := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := func(c *net.UnixConn) string {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	srv := open()
	s := &syslogSink{path: path, ident: "amavis"}
	defer s.Close()
	at := time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)
	if err := s.Write(slog.LevelInfo, at, "(1-1) Passed"); err != nil {
		t.Fatal(err)
	}
	if got := read(srv); !strings.HasPrefix(got, "<22>Nov  2 03:04:05 amavis[") || !strings.HasSuffix(got, "]: (1-1) Passed") {
		t.Errorf("%q", got)
	}
	// the daemon behind the socket is restarted
	srv.Close()
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	srv = open()
	defer srv.Close()
	if err := s.Write(slog.LevelError, at, "again"); err != nil {
		t.Fatal(err)
	}
	if got := read(srv); !strings.HasPrefix(got, "<19>") || !strings.HasSuffix(got, "again") {
		t.Errorf("%q", got)
	}
}

// A JSON record stays one record: whole in one datagram, or if no datagram
// holds it a shorter one that says where it is.
func TestSyslogWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	srv, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	var spare bytes.Buffer
	c := policy.Log{To: "syslog", Format: policy.LogJSON, Ident: "amavis"}
	s := &syslogSink{path: path, ident: c.Ident, whole: true, spare: &spare}
	defer s.Close()
	l := slog.New(NewHandler(s, c))
	for _, recipients := range []int{1, 100, 4000, 100000} {
		spare.Reset()
		long := strings.Repeat("somebody@example.org ", recipients)
		l.Info("(1-1) Passed CLEAN, <"+long+">", "event", map[string]string{"to": long})
		b := make([]byte, 1<<20)
		n, err := srv.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Time, Level, Msg string
			Event            struct{ To string }
			Octets           int
			Whole            string `json:"whole_record"`
		}
		_, record, ok := strings.Cut(string(b[:n]), "]: ")
		if err := json.Unmarshal([]byte(record), &got); err != nil || !ok || got.Time == "" || got.Level != "INFO" || !strings.HasPrefix(got.Msg, "(1-1) Passed CLEAN") {
			t.Fatalf("%d recipients: %v, %.300s", recipients, err, b[:n])
		}
		if got.Octets == 0 && got.Event.To != long {
			t.Errorf("%d recipients: the record has %d octets of %d", recipients, len(got.Event.To), len(long))
		}
		if (got.Octets > 0) != (recipients == 100000) || got.Octets > 0 && (got.Whole != "stderr" || spare.Len() != got.Octets+1 || len(got.Msg) > 980) {
			t.Errorf("%d recipients: %d octets, %d in %s, %d there", recipients, len(got.Event.To), got.Octets, got.Whole, spare.Len())
		}
	}
}

// A system log that does not read makes no message wait for ever.
func TestSyslogHangs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &syslogSink{path: path, ident: "amavis"}
	defer s.Close()
	for err == nil {
		err = s.send("a line")
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestSplitLine(t *testing.T) {
	t.Parallel()
	line := "(08643-02) " + strings.Repeat("ü", 1500)
	pieces := splitLine(line, 980)
	var back strings.Builder
	for i, p := range pieces {
		if len(p) > 980 || !utf8.ValidString(p) {
			t.Errorf("piece %d: %d octets, valid %v", i, len(p), utf8.ValidString(p))
		}
		if i > 0 {
			if !strings.HasPrefix(p, "(08643-02) ...") {
				t.Errorf("piece %d begins %.20q", i, p)
			}
			p = strings.TrimPrefix(p, "(08643-02) ...")
		}
		if i < len(pieces)-1 {
			if !strings.HasSuffix(p, "...") {
				t.Errorf("piece %d does not say that it goes on", i)
			}
			p = strings.TrimSuffix(p, "...")
		}
		back.WriteString(p)
	}
	if back.String() != line {
		t.Error("the pieces are not the line")
	}
}
