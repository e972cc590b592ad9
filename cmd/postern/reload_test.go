package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/demo"
	"postern/filter/observe"
	"postern/policy"
)

// reloaded is a daemon that reads its configuration again on SIGHUP.
type reloaded struct {
	dir     string
	daemon  *daemon
	listen  net.Listener
	hop     *demo.NextHop
	hopAddr string
	signals chan os.Signal
	log     reloadLog
}

// reloadLog keeps the lines and says when a reload has ended.
type reloadLog struct {
	demoLog
	ended chan string
}

func (l *reloadLog) Write(level slog.Level, at time.Time, line string) error {
	if strings.Contains(line, "configuration") {
		l.ended <- line
	}
	return l.demoLog.Write(level, at, line)
}

// config writes the configuration of that letter: the bank, its subject tag,
// the selector and the list of networks all say which one it is.
func (r *reloaded) config(t *testing.T, letter string) {
	t.Helper()
	r.write(t, "postern.yaml", fmt.Sprintf(`hostname: mail.example.org
local_domains: ["file:local.txt"]
listeners: [{protocol: lmtp, address: %q, bank: BANK-%[2]s}]
settings: {forward_to: "smtp://%[3]s"}
banks:
  BANK-%[2]s: {originating: true, bad_header: {subject_tag: "[%[2]s] "}}
dkim_keys: [{domain: example.org, selector: s%[4]s, key: key.pem}]
`, r.listen.Addr(), letter, r.hopAddr, strings.ToLower(letter)))
}

func (r *reloaded) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

func (r *reloaded) newKey(t *testing.T) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// hangUp sends SIGHUP and returns the log line about it.
func (r *reloaded) hangUp() string {
	r.signals <- syscall.SIGHUP
	return <-r.log.ended
}

func startReloaded(t *testing.T) *reloaded {
	t.Helper()
	r := &reloaded{dir: t.TempDir(), hop: demo.NewNextHop(""), signals: make(chan os.Signal)}
	r.log.ended = make(chan string, 1)
	hop, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if r.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.hopAddr = hop.Addr().String()
	r.newKey(t)
	r.write(t, "local.txt", "example.org\n")
	r.config(t, "A")
	cfg, err := policy.Load(filepath.Join(r.dir, "postern.yaml"), engines())
	if err != nil {
		t.Fatal(err)
	}
	if r.daemon, err = newDaemon(cfg, slog.New(observe.NewHandler(&r.log, policy.Log{})), noDNS{}); err != nil {
		t.Fatal(err)
	}
	if err := r.daemon.start(func(policy.Listener) (net.Listener, error) { return r.listen, nil }); err != nil {
		t.Fatal(err)
	}
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- r.hop.Serve(hop) }()
	go func() { ran <- r.daemon.run(filepath.Join(r.dir, "postern.yaml"), r.signals, &r.log) }()
	t.Cleanup(func() {
		r.signals <- syscall.SIGTERM
		if err := <-ran; err != nil {
			t.Error(err)
		}
		r.hop.Close()
		hop.Close() // a server that is closed before it serves does not end
		<-served
	})
	return r
}

// send sends n mails in one session; each has a header that is bad for want of
// a date. done is told of each.
func (r *reloaded) send(session, n int, done chan<- error) {
	c := demo.Dial(r.listen.Addr().String(), 10*time.Minute)
	defer c.Close()
	c.Send("2", "LHLO mail.example.org")
	for i := range n {
		c.Send("2", "MAIL FROM:<a@example.org>")
		c.Send("2", "RCPT TO:<b@example.org>")
		c.Send("3", "DATA")
		c.Write(fmt.Sprintf("From: a@example.org\r\nSubject: x\r\nMessage-ID: <%d-%d@example.org>\r\n\r\nHello.\r\n.\r\n", session, i))
		c.Expect("2")
		done <- c.Err
	}
	c.Send("2", "QUIT")
}

// TestReload reads the configuration again 20 times while 20 sessions send
// 5,000 mails: each is answered with 250, and each is treated by one
// configuration as a whole, the delivered mail and the log line.
func TestReload(t *testing.T) {
	t.Parallel()
	const sessions, mails, reloads = 20, 5000, 20
	r := startReloaded(t)
	done := make(chan error, sessions)
	var all sync.WaitGroup
	for s := range sessions {
		all.Go(func() { r.send(s, mails/sessions, done) })
	}
	for i := 1; i <= mails; i++ {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if i%(mails/reloads) == 0 {
			r.config(t, string(rune('A'+i/(mails/reloads)%2)))
			if line := r.hangUp(); !strings.Contains(line, "reloaded") {
				t.Error(line)
			}
		}
	}
	all.Wait()
	if room := r.daemon.filter.Load().Room; room == nil || room != r.daemon.room {
		t.Error("the memory for taking messages apart is not that of the daemon")
	}

	seen := map[string]string{} // letter by Message-ID
	count := map[string]int{}
	mail := regexp.MustCompile(`(?s)DKIM-Signature:.* s=s([ab]);.*\r\nSubject: \[([AB])\] x\r\nMessage-ID: (\S+)\r\n`)
	for _, d := range r.hop.Take() {
		m := mail.FindStringSubmatch(string(d.Data))
		if m == nil || strings.ToUpper(m[1]) != m[2] {
			t.Fatalf("mixed or not as configured:\n%s", d.Data)
		}
		seen[m[3]] = m[2]
		count[m[2]]++
	}
	line := regexp.MustCompile(`BANK-([AB]) .* Message-ID: (\S+), .* dkim_new=s([ab]):example.org`)
	logged := 0
	for _, l := range r.log.take() {
		if !strings.Contains(l, "Passed") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil || m[1] != strings.ToUpper(m[3]) || seen[m[2]] != m[1] {
			t.Fatalf("mixed: %s; the mail was sent under %v", l, m)
		}
		logged++
	}
	if len(seen) != mails || logged != mails || count["A"] == 0 || count["B"] == 0 {
		t.Errorf("%d mails delivered (%v), %d logged", len(seen), count, logged)
	}
}

// What is wrong leaves the old configuration in force; what the files name is
// read again.
func TestReloadFiles(t *testing.T) {
	t.Parallel()
	r := startReloaded(t)
	current := func() *policy.Config { return r.daemon.filter.Load().Policy }
	old := current()
	good, err := os.ReadFile(filepath.Join(r.dir, "postern.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "texts"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write(t, "texts/ndr.txt", "Subject: x\n\nHello {{.Sendr}}\n")
	for _, tt := range []struct{ name, text, want string }{
		{"a field that no text has", strings.Replace(string(good), "settings: {", "settings: {templates: texts, ", 1), "ndr.txt:3: there is no field {{.Sendr}}"},
		{"a folder that is not there", strings.Replace(string(good), "settings: {", "settings: {templates: none, ", 1), "postern.yaml:4: templates: "},
		{"unknown key", string(good) + "hostnam: x\n", `hostnam`},
		{"other listeners", strings.Replace(string(good), r.listen.Addr().String(), "127.0.0.1:1", 1), "listeners cannot change"},
		{"a key that is not there", strings.Replace(string(good), "key.pem", "none.pem", 1), "none.pem"},
		{"a list that is not there", strings.Replace(string(good), "local.txt", "none.txt", 1), "none.txt"},
	} {
		r.write(t, "postern.yaml", tt.text)
		if line := r.hangUp(); !strings.Contains(line, "the old one stays") || !strings.Contains(line, tt.want) || current() != old {
			t.Errorf("%s: %s", tt.name, line)
		}
	}

	r.write(t, "postern.yaml", string(good)+"domian: x\nsetings: y\n")
	r.log.take()
	if line := r.hangUp(); !strings.Contains(line, "mistakes: 2") || current() != old {
		t.Error(line)
	}
	if said := strings.Join(r.log.take(), "\n"); !strings.Contains(said, `unknown key "domian"`) || !strings.Contains(said, `unknown key "setings"`) {
		t.Errorf("mistakes are not in the log: %s", said)
	}

	// what is read at the start is compared with the start
	const late = "the change of hostname, limits.idle, log takes effect at the next start"
	other := strings.Replace(string(good), "mail.example.org", "other.example.org", 1) + "limits: {idle: 1m}\nlog: {level: debug}\n"
	for _, text := range []string{other, other, string(good)} {
		r.write(t, "postern.yaml", text)
		if line := r.hangUp(); !strings.Contains(line, "reloaded") {
			t.Error(line)
		}
		if said := strings.Join(r.log.take(), "\n"); strings.Contains(said, late) != (text == other) {
			t.Errorf("about what takes effect at the next start: %s", said)
		}
	}

	// who may come in is asked at each session
	greeting := func() string {
		c, err := net.Dial("tcp", r.listen.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b := make([]byte, 3)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Error(err)
		}
		return string(b)
	}
	closed := strings.Replace(string(good), "bank: BANK-A", "bank: BANK-A, allow: [192.0.2.0/24]", 1)
	for _, x := range []struct{ text, want string }{{closed, "421"}, {string(good), "220"}} {
		r.write(t, "postern.yaml", x.text)
		if line := r.hangUp(); !strings.Contains(line, "reloaded") || greeting() != x.want {
			t.Errorf("the greeting is not %s after %s", x.want, line)
		}
	}

	r.write(t, "local.txt", "example.net\n")
	record := r.daemon.filter.Load().Keys.All()[0].Record()
	r.newKey(t)
	if line := r.hangUp(); !strings.Contains(line, "reloaded") {
		t.Fatal(line)
	}
	if current() == old || !current().IsLocal("a@example.net") || current().IsLocal("a@example.org") {
		t.Error("the list of local domains is the old one")
	}
	if r.daemon.filter.Load().Keys.All()[0].Record() == record {
		t.Error("the key is the old one")
	}
}
