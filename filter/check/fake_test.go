package check

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/filter/mail"
)

// fakeEngine is a server that does with each connection what it is told.
type fakeEngine struct {
	address string // tcp:host:port or unix:/path
	asked   atomic.Int32
}

func newFakeEngine(t *testing.T, network string, serve func(net.Conn)) *fakeEngine {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeEngine{address: network + ":" + l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.asked.Add(1)
			wg.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		wg.Wait()
	})
	return f
}

// say answers with these octets, or with nothing until the client gives up.
func say(conn net.Conn, answer string) {
	if answer == hang {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	_, _ = io.WriteString(conn, answer)
}

// fakeSpamd reads requests to their end, as spamd does; each answer may use
// what was sent.
func fakeSpamd(t *testing.T, network string, answer func(request string) string) *fakeEngine {
	return newFakeEngine(t, network, func(conn net.Conn) {
		request, err := io.ReadAll(conn)
		if err != nil {
			return
		}
		if text := answer(string(request)); text != hang {
			say(conn, text)
		} else {
			time.Sleep(1500 * time.Millisecond) // its half of the connection is closed: no read to wait in
		}
	})
}

// fakeRspamd reads one HTTP request.
func fakeRspamd(t *testing.T, network string, answer func(r *http.Request, body string) string) *fakeEngine {
	return newFakeEngine(t, network, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		say(conn, answer(r, string(body)))
	})
}

func (f *fakeEngine) url() string {
	if strings.HasPrefix(f.address, "unix:") {
		return f.address
	}
	return "http://" + strings.TrimPrefix(f.address, "tcp:")
}

const plainMail = "Received: from x by y\r\nFrom: a@b.test\r\nMessage-ID: <one@b.test>\r\nSubject: x\r\n\r\nhello\r\n"

// spamdSays is a whole answer to HEADERS.
func spamdSays(spam, header string) string {
	return fmt.Sprintf("SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s\r\n\r\n%s", len(header), spam, header)
}

// hamHeader is what SpamAssassin makes of a message that it likes.
const hamHeader = "Return-Path: <a@b.test>\r\nX-Spam-Checker-Version: SpamAssassin 4.0.1 (2024-03-25) on vm\r\nX-Spam-Level: \r\n" +
	"X-Spam-Status: No, score=1.9 required=5.0 tests=ALL_TRUSTED=-1,\r\n\tMISSING_DATE=2.739,\r\n\tMSGID_SHORT=0.155 autolearn=no\r\n\tautolearn_force=no version=4.0.1\r\n" +
	"Message-ID: <one@b.test>\r\nSubject: x\r\n\r\n"

const hamAnswer = "False ; 1.9 / 5.0"

func spamassassin(t testing.TB, timeout time.Duration, addresses ...string) Check {
	t.Helper()
	o := Kinds()["spamassassin"]().(*SpamAssassinOptions)
	o.Address, o.Timeout = addresses, timeout
	c, err := o.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rspamdSays is a whole answer of HTTP.
func rspamdSays(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nServer: rspamd/3.4\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%s", len(body), body)
}

// rspamdBody is an answer about plainMail; the words replace parts of it.
func rspamdBody(oldnew ...string) string {
	return strings.NewReplacer(oldnew...).Replace(`{"is_skipped":false,"score":2.124999,"required_score":15.0,"action":"no action",` +
		`"symbols":{"MIME_GOOD":{"name":"MIME_GOOD","score":-0.1,"options":["text/plain"]},"R_SPF_FAIL":{"name":"R_SPF_FAIL","score":1.0},` +
		`"DATE_IN_PAST":{"name":"DATE_IN_PAST","score":1.224999}},"messages":{},"message-id":"one@b.test","time_real":0.433169,` +
		`"milter":{"remove_headers":{"X-Spam":0}}}`)
}

func rspamdOptions(addresses ...string) *RspamdOptions {
	o := Kinds()["rspamd"]().(*RspamdOptions)
	o.URL = addresses
	return o
}

func newCheck(t testing.TB, o Options) Check {
	t.Helper()
	c, err := o.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run lets one check look at a message.
func run(t testing.TB, name string, c Check, in *Input) Result {
	t.Helper()
	return Run(t.Context(), []Named{{Name: name, Check: c}}, in)[0]
}

func unchecked(r Result) bool {
	want := mail.CheckFailed
	if FailureWord(r.Err) == FailedSoftReject {
		want = mail.Later
	}
	for _, f := range r.Findings {
		if f.Category == mail.Unchecked && f.Minor == want {
			return true
		}
	}
	return false
}
