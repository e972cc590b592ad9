//go:build integration

package check

// What Postern adds to the time of a spam engine:
//
//	go test -tags integration -run '^$' -bench BenchmarkOverhead -benchtime 400x -count 3 ./filter/check

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// benchClients is how many messages are on the way at a time: as many as the
// engines here take at once.
const benchClients = 2

// BenchmarkOverhead scans the same mails by the engine alone (spamc for spamd, a
// loop over HTTP for Rspamd) and by LMTP through the program, which hands them on
// to a sink.
func BenchmarkOverhead(b *testing.B) {
	spamd, rspamd := startSpamd(b), startRspamd(b)
	host, port, _ := net.SplitHostPort(spamd.address)
	alone := map[string]func(message string) error{
		"spamassassin": func(message string) error {
			cmd := exec.Command(tool(b, "spamc"), "-d", host, "-p", port, "--headers", "--max-size=10000000", "-x")
			cmd.Stdin = strings.NewReader(message)
			out, err := cmd.Output()
			if err == nil && !strings.Contains(string(out), "X-Spam-Status") {
				err = fmt.Errorf("no score: %.200s", out)
			}
			return err
		},
		"rspamd": func(message string) error {
			request, err := http.NewRequest(http.MethodPost, "http://"+rspamd.address+"/checkv2", strings.NewReader(message))
			if err != nil {
				return err
			}
			// what makes Rspamd do the same work
			request.Header = http.Header{"From": {"<sender@env.test>"}, "Rcpt": {"<xxx@no-uce.de>"}, "Queue-Id": {"BENCH"}, "Mta-Name": {"mail.example.org"}}
			r, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer r.Body.Close()
			answer, err := io.ReadAll(r.Body)
			if err == nil && !strings.Contains(string(answer), `"score"`) {
				err = fmt.Errorf("no score: %.200s", answer)
			}
			return err
		},
	}
	options := map[string]string{
		"spamassassin": fmt.Sprintf("{address: \"tcp:%s\"}", spamd.address),
		"rspamd":       fmt.Sprintf("{url: \"http://%s\", time_limit: 5s}", rspamd.address),
	}
	binary := filepath.Join(b.TempDir(), "postern")
	if out, err := exec.Command("go", "build", "-o", binary, "postern/cmd/postern").CombinedOutput(); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	for _, engine := range []string{"spamassassin", "rspamd"} {
		through := startPostern(b, binary, engine+": "+options[engine])
		for _, size := range []int{4 << 10, 50 << 10} {
			b.Run(fmt.Sprintf("%s/%dkB/alone", engine, size>>10), func(b *testing.B) { loop(b, size, alone[engine]) })
			b.Run(fmt.Sprintf("%s/%dkB/through", engine, size>>10), func(b *testing.B) { loop(b, size, through) })
		}
	}
}

// loop sends b.N messages of about size octets.
func loop(b *testing.B, size int, send func(message string) error) {
	words := strings.Repeat("Are we going to meet tomorrow at ten, or is it too early for all of you?\r\n", size/74)
	var n atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range benchClients {
		all.Go(func() {
			for k := n.Add(1); k <= int64(b.N); k = n.Add(1) {
				message := strings.Replace(received+realHeader, "s01-gtube-out-reject", fmt.Sprint("bench", k, ".", time.Now().UnixNano()), 1) + "\r\n" + words
				if err := send(message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}

// startPostern runs the program with one engine in front of a sink, and returns
// what sends a message through it, by kept sessions as Postfix does.
func startPostern(b *testing.B, binary, engine string) func(message string) error {
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sink.Close() })
	go func() {
		for {
			conn, err := sink.Accept()
			if err != nil {
				return
			}
			go serveSink(conn)
		}
	}()
	dir := b.TempDir()
	in := freePort(b)
	writeFiles(b, dir, map[string]string{"postern.yaml": fmt.Sprintf("hostname: mail.example.org\nlocal_domains: [no-uce.de]\nlisteners: [{protocol: lmtp, address: %q}]\n"+
		"settings: {forward_to: \"smtp://%s\", spam: {destiny: pass, on_error: tempfail}, dkim: {verify: false}}\nprobe_interval: 0s\nengines: {%s}\nlog: {to: %q}\n", in, sink.Addr(), engine, filepath.Join(dir, "log"))})
	cmd := exec.Command(binary, "serve", "-c", filepath.Join(dir, "postern.yaml"))
	cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(dir, "state"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	sessions := make(chan *feed, benchClients)
	for range benchClients {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		conn, err := net.Dial("tcp", in)
		for ; err != nil && ctx.Err() == nil; conn, err = net.Dial("tcp", in) {
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
		if err != nil {
			b.Fatalf("%v\n%s", err, out.String())
		}
		b.Cleanup(func() { conn.Close() })
		f := &feed{conn: conn, r: bufio.NewReader(conn)}
		if err := f.say("LHLO bench.test\r\n", "220", "250"); err != nil {
			b.Fatal(err)
		}
		sessions <- f
	}
	return func(message string) error {
		f := <-sessions
		defer func() { sessions <- f }()
		if err := f.say("MAIL FROM:<sender@env.test>\r\nRCPT TO:<xxx@no-uce.de>\r\nDATA\r\n", "250", "250", "354"); err != nil {
			return err
		}
		return f.say(message+".\r\n", "250")
	}
}

// feed is a session as Postfix leads one: commands go out together.
type feed struct {
	conn net.Conn
	r    *bufio.Reader
}

// say sends lines and reads a reply for each of want.
func (f *feed) say(lines string, want ...string) error {
	if _, err := io.WriteString(f.conn, lines); err != nil {
		return err
	}
	for _, code := range want {
		for {
			reply, err := f.r.ReadString('\n')
			if err != nil {
				return err
			}
			if !strings.HasPrefix(reply, code) {
				return fmt.Errorf("%q, want %s", reply, code)
			}
			if reply[3] != '-' {
				break
			}
		}
	}
	return nil
}

// serveSink takes all mail of a session, with as little work as smtp-sink.
func serveSink(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	out := bufio.NewWriter(conn)
	reply := func(text string) {
		_, _ = out.WriteString(text)
		if r.Buffered() == 0 {
			_ = out.Flush()
		}
	}
	reply("220 sink\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch strings.ToUpper(string(line[:4])) {
		case "EHLO":
			reply("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case "DATA":
			reply("354 go\r\n")
			for string(line) != ".\r\n" {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
			fallthrough
		default:
			reply("250 Ok\r\n")
		}
	}
}
