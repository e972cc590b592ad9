// Package observe is what takes the events of messages and tells of them: the
// log, one line per record, to stderr, a file or the system log, as text in the
// form that Amavis' log has, or as JSON; and the ledger, the account of what
// became of every message.
//
// Start with [Log], which takes events, and [Open], which opens the place where
// the lines go; for the ledger with [Ledger] and [Audit].
package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"postern/policy"
)

// Sink takes finished lines. A zero time in at says that the line has its own.
type Sink interface {
	Write(level slog.Level, at time.Time, line string) error
	io.Closer
}

// Open opens the log that the configuration names. A Sink that can also
// Reopen() error goes on in a new file after a rotation.
func Open(c policy.Log) (*slog.Logger, Sink, error) {
	var s Sink
	switch c.To {
	case "", "stderr":
		s = &fileSink{f: os.Stderr, ident: c.Ident, journal: os.Getenv("JOURNAL_STREAM") != ""}
	case "syslog":
		s = &syslogSink{path: "/dev/log", ident: c.Ident, whole: c.Format == policy.LogJSON, spare: os.Stderr}
	default:
		f, err := openLog(c.To)
		if err != nil {
			return nil, nil, err
		}
		s = &fileSink{f: f, ident: c.Ident}
	}
	return slog.New(NewHandler(s, c)), s, nil
}

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}

// NewHandler turns records into lines for s.
func NewHandler(s Sink, c policy.Log) slog.Handler {
	h := &handler{sink: s, level: logLevel(c.Level)}
	if c.Format == policy.LogJSON {
		h.json = &jsonBuffer{}
		h.inner = slog.NewJSONHandler(h.json, &slog.HandlerOptions{Level: h.level})
	}
	return h
}

func logLevel(s policy.LogLevel) slog.Level {
	switch s {
	case policy.LogDebug:
		return slog.LevelDebug
	case policy.LogWarning:
		return slog.LevelWarn
	case policy.LogError:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// handler turns records into lines.
type handler struct {
	sink  Sink
	level slog.Level
	attrs []slog.Attr

	json  *jsonBuffer // nil for text
	inner slog.Handler
}

type jsonBuffer struct {
	mu sync.Mutex
	strings.Builder
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.json != nil {
		h.json.mu.Lock()
		defer h.json.mu.Unlock()
		h.json.Reset()
		if err := h.inner.Handle(ctx, r); err != nil {
			return err
		}
		return h.sink.Write(r.Level, time.Time{}, strings.TrimSuffix(h.json.String(), "\n"))
	}
	return h.sink.Write(r.Level, r.Time, textLine(r, h.attrs))
}

// textLine is the message alone for the line of a message, and "(id) (!)text,
// key: value" for everything else; (!) marks warnings and errors as in Amavis.
func textLine(r slog.Record, attrs []slog.Attr) string {
	var id, rest strings.Builder
	event := false
	add := func(a slog.Attr) bool {
		switch a.Key {
		case "event":
			event = true
		case "id":
			id.WriteString("(" + a.Value.String() + ") ")
		default:
			rest.WriteString(", " + a.Key + ": " + oneLine(a.Value.String()))
		}
		return true
	}
	for _, a := range attrs {
		add(a)
	}
	r.Attrs(add)
	if event {
		return r.Message
	}
	mark := ""
	switch {
	case r.Level >= slog.LevelError:
		mark = "(!!)"
	case r.Level >= slog.LevelWarn:
		mark = "(!)"
	}
	return id.String() + mark + oneLine(r.Message) + rest.String()
}

// oneLine quotes text that holds more than printable characters. Quotes alone
// are no reason: much of it is a message that has quoted what is foreign.
func oneLine(s string) string {
	if len(s) > 2048 {
		s = s[:2048] + "..."
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)
	if c.inner != nil {
		c.inner = c.inner.WithAttrs(attrs)
	}
	return &c
}

// WithGroup implements slog.Handler; groups are not used here.
func (h *handler) WithGroup(string) slog.Handler { return h }

// fileSink writes to a file or to stderr.
type fileSink struct {
	mu      sync.Mutex
	f       *os.File
	ident   string
	journal bool // the journal adds time and name itself and wants <priority>
}

// Write implements Sink.
func (s *fileSink) Write(l slog.Level, at time.Time, line string) error {
	var head string
	switch {
	case s.journal:
		head = fmt.Sprintf("<%d>", severity(l))
	case !at.IsZero():
		head = fmt.Sprintf("%s %s[%d]: ", at.Format("Jan _2 15:04:05"), s.ident, os.Getpid())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.f, head+line+"\n")
	return err
}

// Reopen goes on in a new file where the old one was moved away. When that
// cannot be had the lines go on to the old one.
func (s *fileSink) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == os.Stderr {
		return nil
	}
	f, err := openLog(s.f.Name())
	if err != nil {
		return err
	}
	old := s.f
	s.f = f
	return old.Close()
}

// Close closes the file, but never stderr.
func (s *fileSink) Close() error {
	if s.f == os.Stderr {
		return nil
	}
	return s.f.Close()
}

// facilityMail is the facility of RFC 5424 section 6.2.1 for the mail system.
const facilityMail = 2

// maxSyslog is where Amavis cuts its lines: some system logs drop longer ones.
const maxSyslog = 980

// maxSyslogDatagram is asked for as the size of the largest datagram; what the
// system grants is most often 208 or 416 KiB, enough for a record of some
// hundred recipients.
const maxSyslogDatagram = 1 << 20

// syslogWait is how long a line waits for a system log that does not read: no
// message may hang on it, for the feeding MTA would send it again.
const syslogWait = time.Second

// syslogSink writes to the local system log in the form that glibc's syslog(3)
// uses, which every daemon behind /dev/log reads.
type syslogSink struct {
	path  string
	ident string
	whole bool      // a line is one record that must not be cut: JSON
	spare io.Writer // for what the system log does not take

	mu   sync.Mutex // guards conn
	conn *net.UnixConn
}

// Write implements Sink.
func (s *syslogSink) Write(l slog.Level, at time.Time, line string) error {
	if at.IsZero() {
		at = time.Now()
	}
	head := fmt.Sprintf("<%d>%s %s[%d]: ", facilityMail<<3|severity(l), at.Format(time.Stamp), s.ident, os.Getpid())
	s.mu.Lock()
	defer s.mu.Unlock()
	pieces := []string{line}
	if !s.whole {
		pieces = splitLine(line, maxSyslog)
	}
	for i, piece := range pieces {
		err := s.send(head + piece)
		if err != nil && i == 0 {
			fmt.Fprintln(s.spare, line) // the line is worth more than its place
		}
		if errors.Is(err, syscall.EMSGSIZE) {
			err = s.send(head + tooLong(line))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tooLong is the record that stands for one that no datagram holds: it can be
// read by the same programs, and tells where the whole of it is.
func tooLong(record string) string {
	var r struct {
		Time   json.RawMessage `json:"time"`
		Level  json.RawMessage `json:"level"`
		Msg    string          `json:"msg"`
		Octets int             `json:"octets"`
		Whole  string          `json:"whole_record"`
	}
	_ = json.Unmarshal([]byte(record), &r) // what is not there stays null
	r.Octets, r.Whole = len(record), "stderr"
	if len(r.Msg) > maxSyslog {
		r.Msg = splitLine(r.Msg, maxSyslog)[0]
	}
	short, _ := json.Marshal(r) // all of it came from JSON
	return string(short)
}

// send writes one datagram, on a new connection if syslogd was restarted.
func (s *syslogSink) send(msg string) error {
	for try := 0; ; try++ {
		if s.conn == nil {
			c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
			if err != nil {
				return fmt.Errorf("connecting to the system log: %w", err)
			}
			_ = c.SetWriteBuffer(maxSyslogDatagram) // less will do for most
			s.conn = c
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(syslogWait))
		_, err := io.WriteString(s.conn, msg)
		if err == nil {
			return nil
		}
		if errors.Is(err, syscall.EMSGSIZE) {
			return fmt.Errorf("writing to the system log: %w", err)
		}
		s.conn.Close()
		s.conn = nil
		if try > 0 {
			return fmt.Errorf("writing to the system log: %w", err)
		}
	}
}

// Close closes the connection.
func (s *syslogSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// splitLine cuts a long line as Amavis does: a piece that goes on ends in
// "...", the next begins with the log id and "...".
func splitLine(line string, limit int) []string {
	if len(line) <= limit {
		return []string{line}
	}
	id := ""
	if strings.HasPrefix(line, "(") {
		if i := strings.Index(line, ") "); i > 0 && i < 40 {
			id = line[:i+2]
		}
	}
	var out []string
	for first := true; line != ""; first = false {
		head := ""
		if !first {
			head = id + "..."
		}
		room := limit - len(head)
		if len(line) <= room {
			out = append(out, head+line)
			break
		}
		room -= 3
		for room > 0 && line[room]&0xc0 == 0x80 { // not inside a UTF-8 character
			room--
		}
		out = append(out, head+line[:room]+"...")
		line = line[room:]
	}
	return out
}

// severity maps levels to syslog priorities.
func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
