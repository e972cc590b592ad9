package filter

// The same mail means the same by whatever way it comes in: every flow case is
// sent through the real listeners by LMTP, SMTP, milter and AM.PDP.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d--j/go-milter"
	"golang.org/x/tools/txtar"

	"postern/filter/check"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/policy"
)

func TestInputsAgree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/flow/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	tried := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := &flowCase{t: t, sections: map[string]string{}}
		for _, f := range archive.Files {
			c.sections[f.Name] = string(f.Data)
		}
		tx := c.transaction(time.Now())
		if why := unsayable(tx); why != "" {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.t = t
			want := ""
			for _, way := range []struct {
				name string
				send func(*flowCase, *mail.Transaction, listen.Handler)
			}{{"lmtp", byLMTP}, {"smtp", bySMTP}, {"milter", byMilter}, {"am.pdp", byAMPDP}} {
				got := c.verdictBy(tx, way.send)
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("by %s: %s\nby lmtp: %s", way.name, got, want)
				}
			}
		})
	}
	if tried < 120 {
		t.Errorf("only %d cases of %d were tried", tried, len(files))
	}
}

// unsayable says what of a case a milter cannot carry.
func unsayable(tx *mail.Transaction) string {
	for _, f := range tx.Message.Header() {
		if f.Name == "" || strings.ContainsRune(string(f.Raw), 0) {
			return "a header line that is no field"
		}
	}
	if len(tx.Message.Header()) == 0 || len(tx.Message.Body()) == 0 {
		return "no header or no body: a client of the library cannot say it"
	}
	if tx.Client.Addr.IsLoopback() && tx.Client.Port == 0 {
		return "mail without a connection"
	}
	return ""
}

// verdictBy sends the mail of the case in one way, and returns what was decided.
func (c *flowCase) verdictBy(tx *mail.Transaction, send func(*flowCase, *mail.Transaction, listen.Handler)) string {
	c.t.Helper()
	cfg, err := policy.Parse("postern.yaml", []byte(c.sections["postern.yaml"]), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	var seen events
	quiet := &flowCase{t: c.t, sections: c.sections}
	f := &Filter{
		Policy: cfg, Keys: flowKeys(c.t, cfg), Log: slog.New(slog.DiscardHandler), Observers: []mail.Observer{&seen},
		Checks: []check.Named{{Name: "scanner", Check: quiet, Categories: []mail.Category{mail.Infected}}, check.Header()},
		Relay:  func(mail.NextHop) mail.Transport { return takes(&strings.Builder{}, "X") },
	}
	h := &relisted{f: f, listener: tx.Listener}
	send(c, tx, h)
	h.wait.Wait()
	if len(seen) != 1 {
		c.t.Fatalf("%d events", len(seen))
	}
	e := seen[0]
	out := strings.Join(e.Banks, "/")
	if tx.Client.Addr.IsValid() { // else it is that of the trace, where a queue is one hop more
		out += " client " + e.ClientIP
	}
	for _, r := range e.Recipients {
		out += fmt.Sprintf("; %s %s %s %s", r.Address, r.Direction, r.Category, r.Destiny)
	}
	return out
}

// relisted gives messages the listener of the case.
type relisted struct {
	f        *Filter
	listener string
	wait     sync.WaitGroup
}

func (r *relisted) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	r.wait.Add(1)
	defer r.wait.Done()
	tx.Listener = r.listener
	return r.f.Process(ctx, tx)
}

func (r *relisted) Refuse(ctx context.Context, tx *mail.Transaction, refusal mail.Reply) []mail.Reply {
	tx.Listener = r.listener
	return r.f.Refuse(ctx, tx, refusal)
}

// served is what all listeners have.
type served interface {
	Serve(net.Listener) error
	Close() error
}

func serve(t *testing.T, s served, network, address string) net.Conn {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	conn, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

func byLMTP(c *flowCase, tx *mail.Transaction, h listen.Handler) { byFeed(c, tx, h, "LHLO") }
func bySMTP(c *flowCase, tx *mail.Transaction, h listen.Handler) { byFeed(c, tx, h, "EHLO") }

func byFeed(c *flowCase, tx *mail.Transaction, h listen.Handler, hello string) {
	conn := serve(c.t, listen.NewFeed(h, listen.FeedOptions{SpoolDir: c.t.TempDir()}), "tcp", "127.0.0.1:0")
	r := bufio.NewReader(conn)
	say := func(line string) {
		if line != "" {
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				c.t.Fatal(err)
			}
		}
		for {
			reply, err := r.ReadString('\n')
			if err != nil {
				c.t.Fatalf("after %q: %v", line, err)
			}
			if len(reply) > 3 && reply[3] == ' ' {
				if reply[0] > '3' && line != "." {
					c.t.Fatalf("after %q: %s", line, reply)
				}
				return
			}
		}
	}
	say("")
	say(hello + " mail.example.org")
	if cl := tx.Client; cl.Addr.IsValid() {
		addr := cl.Addr.String()
		if cl.Addr.Is6() {
			addr = "IPV6:" + addr
		}
		say(fmt.Sprintf("XFORWARD ADDR=%s PORT=%d HELO=%s", addr, cl.Port, cl.Helo))
	}
	utf8 := ""
	if tx.FromOpts.UTF8 {
		utf8 = " SMTPUTF8"
	}
	say(fmt.Sprintf("MAIL FROM:<%s>%s", string(tx.From), utf8))
	for _, rcpt := range tx.Rcpts {
		say(fmt.Sprintf("RCPT TO:<%s>", string(rcpt.Address)))
	}
	say("DATA")
	data := strings.ReplaceAll("\r\n"+string(tx.Message.Bytes()), "\r\n.", "\r\n..")[2:]
	if !strings.HasSuffix(data, "\r\n") {
		data += "\r\n"
	}
	if _, err := io.WriteString(conn, data); err != nil {
		c.t.Fatal(err)
	}
	say(".")
}

func byMilter(c *flowCase, tx *mail.Transaction, h listen.Handler) {
	conn := serve(c.t, listen.NewMilter(h, listen.MilterOptions{SpoolDir: c.t.TempDir()}), "tcp", "127.0.0.1:0")
	s, err := milter.NewClient("tcp", conn.RemoteAddr().String()).Session(milter.NewMacroBag())
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	ok := func(_ *milter.Action, err error) {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	if cl := tx.Client; cl.Addr.IsValid() {
		family := milter.FamilyInet
		if cl.Addr.Is6() {
			family = milter.FamilyInet6
		}
		ok(s.Conn("mail.example.net", milter.ProtoFamily(family), cl.Port, cl.Addr.String()))
	} else {
		ok(s.Conn("unknown", milter.FamilyUnknown, 0, ""))
	}
	ok(s.Helo("mail.example.net"))
	utf8 := ""
	if tx.FromOpts.UTF8 {
		utf8 = "SMTPUTF8"
	}
	ok(s.Mail(string(tx.From), utf8))
	for _, rcpt := range tx.Rcpts {
		ok(s.Rcpt(string(rcpt.Address), ""))
	}
	ok(s.DataStart())
	for _, f := range tx.Message.Header() {
		value := strings.TrimSuffix(string(f.RawValue()), "\r\n")
		ok(s.HeaderField(f.Name, strings.ReplaceAll(value, "\r\n", "\n"), nil))
	}
	ok(s.HeaderEnd())
	ok(s.BodyChunk(tx.Message.Body()))
	if _, _, err := s.End(); err != nil {
		c.t.Fatal(err)
	}
}

func byAMPDP(c *flowCase, tx *mail.Transaction, h listen.Handler) {
	dir := c.t.TempDir()
	file := filepath.Join(dir, "email.txt")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(tx.Message.Bytes()), "\r\n", "\n")), 0o600); err != nil {
		c.t.Fatal(err)
	}
	conn := serve(c.t, listen.NewAMPDP(h, listen.AMPDPOptions{Folders: []string{dir}, SpoolDir: c.t.TempDir()}), "unix", filepath.Join(c.t.TempDir(), "s"))
	var b strings.Builder
	add := func(name, value string) { fmt.Fprintf(&b, "%s=%s\r\n", name, url.PathEscape(value)) }
	add("request", "AM.PDP")
	add("sender", tx.From.String())
	for _, rcpt := range tx.Rcpts {
		add("recipient", rcpt.Address.String())
	}
	add("tempdir", dir)
	add("tempdir_removed_by", "client")
	add("mail_file", file)
	add("delivery_care_of", "client")
	if tx.Client.Addr.IsValid() {
		add("client_address", tx.Client.Addr.String())
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		c.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if line == "\r\n" {
			return
		}
	}
}
