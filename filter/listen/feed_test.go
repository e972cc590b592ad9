package listen

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"postern/filter/mail"
)

// recorder is a handler that answers by the local part of the recipients and
// remembers what it got.
type recorder struct {
	mu  sync.Mutex
	txs []*mail.Transaction
	raw []string

	refused []*mail.Transaction // what the listener could not take

	hop func(context.Context, *mail.Transaction) // called before answering, may be nil
}

func (h *recorder) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	h.mu.Lock()
	h.txs = append(h.txs, tx)
	h.raw = append(h.raw, string(tx.Message.Bytes()))
	h.mu.Unlock()
	if h.hop != nil {
		h.hop(ctx, tx)
	}
	replies := make([]mail.Reply, 0, len(tx.Rcpts))
	for i, r := range tx.Rcpts {
		switch local, _ := r.Address.Split(); local {
		case "panic":
			panic("asked for")
		case "missing":
		case "surplus":
			ok := mail.NewReply(250, 0, 0, "Ok")
			return append(replies, ok, ok, ok, ok)
		case "zero":
			replies = append(replies, mail.Reply{})
		case "three":
			replies = append(replies, mail.Reply{Code: 354, Enhanced: [3]int{2, 0, 0}, Text: "go on"})
		case "lines":
			replies = append(replies, mail.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "no\r\n250 2.0.0 yes"})
		case "plain":
			replies = append(replies, mail.Reply{Code: 450, Text: "later"})
		case "virus":
			replies = append(replies, mail.NewReply(554, 7, 0, "Reject, id=%s", "x"))
		default:
			replies = append(replies, mail.NewReply(250, 0, 0, "Ok, number %d", i+1))
		}
	}
	if tx.Input.OneReply() && len(replies) > 0 {
		replies = replies[:1]
	}
	return replies
}

// Refuse says what the listener would say.
func (h *recorder) Refuse(_ context.Context, tx *mail.Transaction, refusal mail.Reply) []mail.Reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = append(h.refused, tx)
	if tx.Input.OneReply() {
		return []mail.Reply{refusal}
	}
	return repeat(refusal, len(tx.Rcpts))
}

func (h *recorder) transactions() []*mail.Transaction {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*mail.Transaction(nil), h.txs...)
}

func (h *recorder) messages() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.raw...)
}

// startFeed serves on a port of its own until the test ends, and fails the
// test when a session is left then.
func startFeed(t testing.TB, h Handler, o FeedOptions) (*Feed, string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	return serveFeed(t, l, h, o), l.Addr().String()
}

func serveFeed(t testing.TB, l net.Listener, h Handler, o FeedOptions) *Feed {
	if o.Hostname == "" {
		o.Hostname = "mx.test"
	}
	if o.Listener == "" {
		o.Listener = "test"
	}
	if o.SpoolDir == "" {
		o.SpoolDir = t.TempDir()
	}
	f := NewFeed(h, o)
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	t.Cleanup(func() {
		f.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		select {
		case <-f.drained:
		case <-time.After(10 * time.Second):
			t.Error("a session or handler is left")
		}
	})
	return f
}

// peer is the feeding MTA of a test.
type peer struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *peer {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{t, c, bufio.NewReader(c)}
}

func (p *peer) send(lines ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
		p.t.Fatal(err)
	}
}

// want reads one line for each pattern, see match.
func (p *peer) want(patterns ...string) {
	p.t.Helper()
	for _, want := range patterns {
		line, err := p.r.ReadString('\n')
		if got := strings.TrimSuffix(line, "\r\n"); err != nil || !match(want, got) {
			p.t.Fatalf("got %q (%v), want %q", got, err, want)
		}
	}
}

// wantEnd waits for the end of the session.
func (p *peer) wantEnd() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); len(rest) > 0 {
		p.t.Fatalf("more after the end: %q (%v)", rest, err)
	}
}

// hello goes through greeting and LHLO or EHLO.
func (p *peer) hello(verb string) *peer {
	p.t.Helper()
	p.want("220 ...")
	p.send(verb + " client.test")
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.HasPrefix(line, "250 ") {
			return p
		}
	}
}

// mail sends an envelope and goes on to 354.
func (p *peer) mail(rcpts ...string) *peer {
	p.t.Helper()
	p.send("MAIL FROM:<a@x.test>")
	p.want("250 2.1.0 ...")
	for _, r := range rcpts {
		p.send("RCPT TO:<" + r + ">")
		p.want("250 2.1.5 ...")
	}
	p.send("DATA")
	p.want("354 ...")
	return p
}

// match compares with a pattern, whose "..." at the end stands for anything.
func match(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(s, prefix)
	}
	return pattern == s
}

// TestDialogues plays testdata/*.txtar. In "dialogue", C: is a line of the
// client (C" a quoted Go string without line end) and S: one of ours; "got"
// is what the handler received. The client sends line by line, then all at
// once, cut at several lengths: the result must be the same.
func TestDialogues(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		section := map[string]string{}
		for _, f := range a.Files {
			section[f.Name] = string(f.Data)
		}
		for _, cut := range []int{0, 1, 2, 3, 7, 64, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimSuffix(filepath.Base(name), ".txtar"), cut), func(t *testing.T) {
				t.Parallel()
				h := &recorder{}
				_, addr := startFeed(t, h, FeedOptions{
					RefuseBareLF: strings.Contains(section["options"], "refuse-bare-lf"),
					Limits:       Limits{Size: 1000, Recipients: 4},
				})
				playDialogue(t, dial(t, addr), section["dialogue"], cut)
				if got := h.dump(); got != section["got"] {
					t.Errorf("got:\n%s\nwant:\n%s", got, section["got"])
				}
			})
		}
	}
}

func playDialogue(t *testing.T, p *peer, dialogue string, cut int) {
	t.Helper()
	var all bytes.Buffer
	for line := range strings.Lines(dialogue) {
		if raw, ok := clientLine(t, line); ok {
			all.WriteString(raw)
		}
	}
	if cut > 0 {
		go func() {
			// a session that we end early makes the rest fail; the replies tell
			for b := all.Bytes(); len(b) > 0; b = b[min(cut, len(b)):] {
				if _, err := p.Conn.Write(b[:min(cut, len(b))]); err != nil {
					return
				}
			}
		}()
	}
	for line := range strings.Lines(dialogue) {
		if raw, ok := clientLine(t, line); !ok {
			p.want(strings.TrimSuffix(strings.TrimPrefix(line, "S: "), "\n"))
		} else if cut == 0 {
			io.WriteString(p, raw)
		}
	}
	p.wantEnd()
}

func clientLine(t *testing.T, line string) (string, bool) {
	line = strings.TrimSuffix(line, "\n")
	switch {
	case line == "C:":
		return "\r\n", true
	case strings.HasPrefix(line, "C: "):
		return line[3:] + "\r\n", true
	case strings.HasPrefix(line, "C\""):
		raw, err := strconv.Unquote(line[1:])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return raw, true
	case strings.HasPrefix(line, "S: "):
		return "", false
	}
	t.Fatalf("bad line in dialogue: %q", line)
	return "", false
}

// dump writes what the handler got, without what differs from run to run.
func (h *recorder) dump() string {
	var b strings.Builder
	raw := h.messages()
	for i, tx := range h.transactions() {
		_, n, _ := strings.Cut(tx.ID, "-")
		_, n, _ = strings.Cut(n, "-")
		fmt.Fprintf(&b, "message %s %s %s helo=%s from=%s", cmp.Or(n, "1"), tx.Input, tx.Protocol, tx.Helo, tx.From)
		o := tx.FromOpts
		if o.Size != 0 {
			fmt.Fprintf(&b, " size=%d", o.Size)
		}
		if o.Body != "" || o.Return != "" || o.EnvelopeID != "" {
			fmt.Fprintf(&b, " body=%s ret=%s envid=%s", o.Body, o.Return, o.EnvelopeID)
		}
		b.WriteByte('\n')
		if tx.Client != (mail.Client{}) {
			fmt.Fprintf(&b, "client %+v\n", tx.Client)
		}
		for _, r := range tx.Rcpts {
			fmt.Fprintf(&b, "rcpt %s", r.Address)
			if len(r.Opts.Notify) > 0 || r.ORCPT != "" {
				fmt.Fprintf(&b, " notify=%v orcpt=%s", r.Opts.Notify, r.ORCPT)
			}
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%q\n", raw[i])
	}
	return b.String()
}

func testLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
