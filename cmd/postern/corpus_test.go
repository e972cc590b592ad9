//go:build integration

package main

// Real and broken messages of other projects go through LMTP, the filter and
// reinjection, and must arrive byte for byte with nothing but new fields on
// top (promise 5). The messages come with Go modules under the MIT licence.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/postern/demo"
	"postern/filter/mail"
	"postern/policy"
)

// corpusModules are fetched through the module proxy; go.sum of the test is
// the checksum database's, so what is read is what was published.
var corpusModules = []string{
	"github.com/ProtonMail/gluon@v0.17.1-0.20230724134000-308be39be96e",
	"github.com/jhillyerd/enmime/v2@v2.3.0",
}

func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, m := range corpusModules {
		cmd := exec.Command("go", "mod", "download", "-json", m)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
		data, err := cmd.Output()
		var info struct{ Dir, Error string }
		if json.Unmarshal(data, &info) != nil || info.Dir == "" {
			t.Fatalf("fetching %s: %v %s", m, err, info.Error)
		}
		err = filepath.WalkDir(info.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name := strings.TrimPrefix(path, info.Dir)
			data, err := os.ReadFile(path)
			switch {
			case err != nil:
				return err
			case strings.HasSuffix(name, "/dovecot-crlf"):
				for i, msg := range splitMbox(data) {
					out[fmt.Sprintf("%s#%d", name, i)] = msg
				}
			case strings.HasSuffix(name, ".eml"), strings.HasSuffix(name, ".raw"):
				out[name] = data
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func splitMbox(data []byte) [][]byte {
	var out [][]byte
	data = append([]byte("\n"), data...)
	for _, m := range bytes.Split(data, []byte("\nFrom ")) {
		if _, msg, ok := bytes.Cut(m, []byte("\n")); ok && len(msg) > 0 {
			out = append(out, msg)
		}
	}
	return out
}

// wire is what arrives of a file that is sent: CRLF for a bare LF, as every
// sender makes it, and a final line end. All other octets stay, a bare CR too.
func wire(data []byte) []byte {
	data = toCRLF(data)
	if !bytes.HasSuffix(data, []byte("\r\n")) {
		data = append(data, "\r\n"...)
	}
	return data
}

func TestCorpus(t *testing.T) {
	messages := corpus(t)
	if len(messages) < 500 {
		t.Fatalf("only %d messages", len(messages))
	}
	sink := startByteSink(t)
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := policy.Parse(filepath.Join(t.TempDir(), "postern.yaml"), fmt.Appendf(nil, `
hostname: mail.example.org
local_domains: [example.org]
listeners: [{protocol: lmtp, address: %q}]
settings: {forward_to: "smtp://%s", notify_to: "smtp://%s", unchecked: {subject_tag: ""}, banned: {destiny: pass}} # one holds a real virus
engines: {builtin: {}}
`, inside.Addr(), sink.addr, sink.addr), engines())
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(cfg, slog.New(slog.DiscardHandler), noDNS{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.start(func(policy.Listener) (net.Listener, error) { return inside, nil }); err != nil {
		t.Fatal(err)
	}
	defer d.stop(t.Context())

	c := demo.Dial(inside.Addr().String(), 5*time.Minute)
	defer c.Close()
	c.Send("250", "LHLO localhost")
	changed := 0
	for name, msg := range messages {
		msg = wire(msg)
		c.Send("250", "MAIL FROM:<a@example.net>")
		c.Send("250", "RCPT TO:<b@example.org>")
		c.Send("354", "DATA")
		c.Write(dotStuff(msg) + ".\r\n")
		c.Expect("250")
		if c.Err != nil {
			t.Fatalf("%s: %v", name, c.Err)
		}
		got := sink.last()
		prefix, ok := bytes.CutSuffix(got, withoutMarks(msg))
		if !ok {
			changed++
			t.Errorf("%s: what arrived does not end in what was sent", name)
			continue
		}
		h, n := mail.ParseHeader(prefix)
		if n != len(prefix) || len(h) == 0 {
			t.Errorf("%s: %q was put on top", name, prefix)
		}
		signed := mail.NewMessage(msg).Header().Count("DKIM-Signature") > 0
		for _, f := range h {
			// some headers are faulty
			if !f.Is("Received") && !f.Is("X-Amavis-Alert") && !(signed && f.Is("Authentication-Results")) {
				t.Errorf("%s: field %s was put on top", name, f.Name)
			}
		}
	}
	t.Logf("%d messages, %d changed", len(messages), changed)
}

// withoutMarks takes out what only a filter of ours may say: b@example.org is
// one of ours. All other octets stay.
func withoutMarks(msg []byte) []byte {
	h, n := mail.ParseHeader(msg)
	var out []byte
	for _, f := range h {
		name := strings.ToLower(f.Name)
		if !strings.HasPrefix(name, "x-spam-") && !strings.HasPrefix(name, "x-amavis-") {
			out = append(out, f.Raw...)
		}
	}
	return append(out, msg[n:]...)
}

func dotStuff(msg []byte) string {
	s := strings.ReplaceAll(string(msg), "\r\n.", "\r\n..")
	if strings.HasPrefix(s, ".") {
		s = "." + s
	}
	return s
}

// byteSink is an SMTP server that takes everything and keeps the octets of the
// last message: end of data is CRLF.CRLF and nothing else.
type byteSink struct {
	addr string
	mu   sync.Mutex
	data []byte
}

func startByteSink(t *testing.T) *byteSink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &byteSink{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.session(c)
		}
	}()
	return s
}

func (s *byteSink) last() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

func (s *byteSink) session(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	fmt.Fprint(c, "220 sink\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.ToUpper(strings.TrimSpace(line)) {
		case "DATA":
			fmt.Fprint(c, "354 go\r\n")
			data, err := readData(r)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.data = data
			s.mu.Unlock()
			fmt.Fprint(c, "250 2.0.0 Ok: queued as X\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			if strings.HasPrefix(strings.ToUpper(line), "EHLO") {
				fmt.Fprint(c, "250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n")
				continue
			}
			fmt.Fprint(c, "250 2.0.0 Ok\r\n")
		}
	}
}

// readData reads up to CRLF.CRLF and takes out the stuffed dots.
func readData(r *bufio.Reader) ([]byte, error) {
	data := []byte("\r\n")
	for !bytes.HasSuffix(data, []byte("\r\n.\r\n")) {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		data = append(data, line...)
	}
	data = bytes.TrimSuffix(data, []byte(".\r\n"))
	return bytes.ReplaceAll(data, []byte("\r\n."), []byte("\r\n"))[2:], nil
}
