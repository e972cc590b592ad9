package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

// fakeClamd answers each connection by a script.
type fakeClamd struct {
	address string // as configured
	asked   atomic.Int32
	streams atomic.Int32 // of them by INSTREAM
}

// script gets the command and the message as clamd would see it; it returns
// what to send. Returning hang leaves the client without an answer.
type script func(command string, data []byte) string

const hang = "\x01hang"

func newFakeClamd(t *testing.T, network string, s script) *fakeClamd {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeClamd{address: network + ":" + l.Addr().String()}
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
				command, data, err := readRequest(conn)
				if err != nil {
					return
				}
				if command == "INSTREAM" {
					f.streams.Add(1)
				}
				if command == "IDSESSION" {
					session(conn, s)
					return
				}
				answer := s(command, data)
				if answer == hang {
					_, _ = conn.Read(make([]byte, 1)) // until the client gives up
					return
				}
				_, _ = io.WriteString(conn, answer)
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

// session answers the streams of one session, which a script ends by an answer
// that says "limit exceeded".
func session(conn net.Conn, s script) {
	for i := 1; ; i++ {
		command, data, err := readRequest(conn)
		if err != nil || command != "INSTREAM" {
			return
		}
		answer := s("IDSESSION", data)
		if answer == hang {
			_, _ = conn.Read(make([]byte, 1))
			return
		}
		_, _ = io.WriteString(conn, strconv.Itoa(i)+": "+answer)
		if strings.Contains(answer, "limit exceeded") {
			return
		}
	}
}

// readRequest is the server side of zFILDES and zINSTREAM, read strictly.
func readRequest(conn net.Conn) (command string, data []byte, err error) {
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, one); err != nil {
			return "", nil, err
		}
		if one[0] == 0 {
			break
		}
		command += string(one)
	}
	switch command {
	case "zIDSESSION", "zEND":
	case "zFILDES":
		data, err = readFD(conn.(*net.UnixConn))
	case "zINSTREAM":
		for {
			var n uint32
			if err := binary.Read(conn, binary.BigEndian, &n); err != nil || n == 0 {
				return "INSTREAM", data, err
			}
			chunk := make([]byte, n)
			if _, err := io.ReadFull(conn, chunk); err != nil {
				return "", nil, err
			}
			data = append(data, chunk...)
		}
	default:
		return "", nil, errors.New("unknown command " + command)
	}
	return strings.TrimPrefix(command, "z"), data, err
}

func readFD(conn *net.UnixConn) ([]byte, error) {
	oob := make([]byte, 64)
	n, m, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, err
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:m])
	if err != nil || n != 1 || len(msgs) != 1 {
		return nil, errors.New("no descriptor")
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "message")
	defer f.Close()
	return io.ReadAll(f) // from where the position stands, as clamd does
}

func clamav(t *testing.T, timeout time.Duration, addresses ...string) *clamAV {
	t.Helper()
	c, err := (&ClamAVOptions{Address: addresses, Timeout: timeout}).New()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*clamAV)
}

func always(answer string) script { return func(string, []byte) string { return answer } }

// TestClamdFaults: nothing but a complete OK is clean (promise 3).
func TestClamdFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		want         string // in the error; empty: none
	}{
		{"clean", "stream: OK\x00", ""},
		{"clean by descriptor", "fd[10]: OK\x00", ""},
		{"empty", "", "empty answer"},
		{"only NUL", "\x00", "answer"},
		{"garbage", "\xff\xfe\x00\x00garbage\x00", "answer"},
		{"OK of nothing", "OK\x00", "answer"},
		{"OK with more", "stream: OK but\x00", "answer"},
		{"without its end", "stream: OK", "incomplete"},
		{"newline instead of NUL", "stream: OK\n", "incomplete"},
		{"cut in a name", "stream: Eicar-Sig", "incomplete"},
		{"cut before FOUND", "stream: Eicar-Signature\x00", "answer"},
		{"FOUND of nothing", "stream:  FOUND\x00", "answer"},
		{"ERROR", "stream: Can't allocate memory ERROR\x00", "allocate memory ERROR"},
		{"command unknown", "UNKNOWN COMMAND\x00", "UNKNOWN COMMAND"},
		{"OK twice", "stream: OK\x00stream: OK\x00", "contradictory"},
		{"OK and ERROR", "stream: OK\x00stream: x ERROR\x00", "answer"},
		{"endless", strings.Repeat("stream: OK\x00", 10000), "too long"},
		{"hang", hang, "timeout"},
	} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(tt.name+" "+network, func(t *testing.T) {
				t.Parallel()
				timeout := time.Minute
				if tt.answer == hang {
					timeout = time.Second
				}
				f := newFakeClamd(t, network, always(tt.answer))
				r := Run(t.Context(), []Named{{Name: "clamav", Check: clamav(t, timeout, f.address)}}, input("x\r\n"))[0]
				if tt.want == "" {
					if r.Err != nil || len(r.Findings) != 0 || !r.Scanned {
						t.Errorf("%+v", r)
					}
					return
				}
				if r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) || !strings.Contains(r.Err.Error(), f.address) {
					t.Errorf("error %v, want %q", r.Err, tt.want)
				}
				if len(r.Findings) != 1 || r.Findings[0].Category != mail.Unchecked || r.Scanned {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestClamdDown(t *testing.T) {
	t.Parallel()
	path := "unix:" + filepath.Join(t.TempDir(), "nobody")
	_, err := clamav(t, time.Minute, path).Check(t.Context(), input("x"))
	if err == nil || !strings.Contains(err.Error(), "no such file") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestClamdFindings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		category     mail.Category
		minor        int
		found        string
	}{
		{"virus", "fd[7]: Eicar-Signature.UNOFFICIAL FOUND\x00", mail.Infected, 0, "Eicar-Signature.UNOFFICIAL"},
		{"name with blanks", "stream: Some Thing: x FOUND\x00", mail.Infected, 0, "Some Thing: x"},
		{"phishing", "stream: Heuristics.Phishing.Email.SpoofedDomain FOUND\x00", mail.Infected, 0, "Heuristics.Phishing.Email.SpoofedDomain"},
		{"limits", "stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\x00", mail.Unchecked, mail.OverLimits, "Heuristics.Limits.Exceeded.MaxFileSize"},
		{"limits of mail", "stream: Heuristics.Email.ExceedsMaxMIMEPartsPerMessage FOUND\x00", mail.Unchecked, mail.OverLimits, "Heuristics.Email.ExceedsMaxMIMEPartsPerMessage"},
		{"encrypted", "stream: Heuristics.Encrypted.Zip FOUND\x00", mail.Unchecked, mail.Encrypted, "Heuristics.Encrypted.Zip"},
		{"stream too long", "INSTREAM size limit exceeded. ERROR\x00", mail.Unchecked, mail.OverLimits, ""},
		{"time limit", "fd[7]: Time limit reached ERROR\x00", mail.Unchecked, mail.OverLimits, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeClamd(t, "unix", always(tt.answer))
			got, err := clamav(t, time.Minute, f.address).Check(t.Context(), input("x"))
			if err != nil || len(got.Findings) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			if g := got.Findings[0]; g.Category != tt.category || g.Minor != tt.minor || g.Name != tt.found || g.Rcpt != mail.AllRcpts {
				t.Errorf("%+v", g)
			}
			if f.asked.Load() != 1 {
				t.Errorf("asked %d times", f.asked.Load())
			}
		})
	}
}

// TestClamdVirusAndTrouble: a virus that was found counts, and so does the
// rest of the answer that was not understood.
func TestClamdVirusAndTrouble(t *testing.T) {
	t.Parallel()
	f := newFakeClamd(t, "tcp", always("stream: Eicar FOUND\x00stream: read ERROR\x00"))
	got, err := clamav(t, time.Minute, f.address).Check(t.Context(), input("x"))
	if len(got.Findings) != 1 || got.Findings[0].Name != "Eicar" || err == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestClamdGetsTheMessage: by either way, from memory and from a file whose
// read position stands at its end, twice.
func TestClamdGetsTheMessage(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789\r\n"), 50000)
	spool := &mail.Spool{Dir: t.TempDir(), Memory: 1}
	if _, err := spool.Write(data); err != nil {
		t.Fatal(err)
	}
	spooled, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(spooled.Close)
	for name, m := range map[string]*mail.Message{"memory": mail.NewMessage(data), "file": spooled, "empty": mail.NewMessage(nil)} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				want := map[string]string{"unix": "FILDES", "tcp": "INSTREAM"}[network]
				f := newFakeClamd(t, network, func(command string, got []byte) string {
					if command != want || !bytes.Equal(got, m.Bytes()) {
						return "stream: other message ERROR\x00"
					}
					return "stream: OK\x00"
				})
				c := clamav(t, time.Minute, f.address)
				for range 2 {
					if got, err := c.Check(t.Context(), &Input{Tx: &mail.Transaction{Message: m}}); err != nil || len(got.Findings) != 0 {
						t.Errorf("%v, %v", got, err)
					}
				}
			})
		}
	}
}

// TestClamdRefusesDescriptors: then it gets the bytes, and at once the next
// time, until it is tried again: it may have been a moment of trouble.
func TestClamdRefusesDescriptors(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]string{"error": "fd[7]: Permission denied ERROR\x00", "closes": ""} {
		f := newFakeClamd(t, "unix", func(command string, _ []byte) string {
			if command == "FILDES" {
				return refusal
			}
			return "stream: OK\x00"
		})
		c := clamav(t, time.Minute, f.address)
		for range 2 {
			if got, err := c.Check(t.Context(), input("x")); err != nil || len(got.Findings) != 0 {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		if a, s := f.asked.Load(), f.streams.Load(); a != 3 || s != 2 {
			t.Errorf("%s: asked %d times, %d streams", name, a, s)
		}
		server := c.servers[0]
		server.refusedFD.Store(time.Now().Add(-restAfterRefusal).UnixNano())
		if _, err := c.Check(t.Context(), input("x")); err != nil || f.asked.Load() != 5 {
			t.Errorf("%s: asked %d times after the rest, %v", name, f.asked.Load(), err)
		}
	}
}

// TestClamdClosesWhileWeSend: the answer counts although sending failed.
func TestClamdClosesWhileWeSend(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(conn, make([]byte, 20))
		_, _ = io.WriteString(conn, "INSTREAM size limit exceeded. ERROR\x00")
		conn.Close()
	}()
	got, err := clamav(t, time.Minute, "tcp:"+l.Addr().String()).Check(t.Context(), input(strings.Repeat("x", 32<<20)))
	if err != nil || len(got.Findings) != 1 || got.Findings[0].Minor != mail.OverLimits {
		t.Errorf("%v, %v", got, err)
	}
	l.Close()
	<-done
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"hangs": hang, "fails": "stream: x ERROR\x00", "closes": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newFakeClamd(t, "tcp", always(first))
			good := newFakeClamd(t, "tcp", always("stream: Eicar FOUND\x00"))
			c := clamav(t, 2*time.Second, bad.address, good.address)
			for range 3 {
				if got, err := c.Check(t.Context(), input("x")); err != nil || len(got.Findings) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			}
			if n := bad.asked.Load(); n != 1 {
				t.Errorf("the server that failed was asked %d times in a row", n)
			}
		})
	}
	t.Run("both fail", func(t *testing.T) {
		t.Parallel()
		a, b := newFakeClamd(t, "tcp", always("")), newFakeClamd(t, "unix", always("x"))
		_, err := clamav(t, time.Minute, a.address, b.address).Check(t.Context(), input("x"))
		if err == nil || !strings.Contains(err.Error(), a.address) || !strings.Contains(err.Error(), b.address) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the first hangs up to the deadline of the message", func(t *testing.T) {
		t.Parallel()
		bad, good := newFakeClamd(t, "tcp", always(hang)), newFakeClamd(t, "tcp", always("stream: OK\x00"))
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if _, err := clamav(t, time.Minute, bad.address, good.address).Check(ctx, input("x")); err != nil {
			t.Error(err)
		}
	})
}

func TestClamdEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newFakeClamd(t, "unix", func(string, []byte) string { cancel(); return hang })
	if _, err := clamav(t, time.Hour, f.address).Check(ctx, input("x")); err == nil {
		t.Error("no error")
	}
}

func TestClamAVOptions(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"unix:/run/clamav/clamd.ctl", "/run/clamav/clamd.ctl", "tcp:127.0.0.1:3310", "tcp:[::1]:3310", "tcp:localhost:3310"} {
		if err := (&ClamAVOptions{Address: []string{a}, Timeout: 1}).Validate(); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"", "unix:", "unix:clamd.ctl", "clamd.ctl", "tcp:", "tcp:127.0.0.1", "tcp::3310", "tcp:host:0", "tcp:host:x", "127.0.0.1:3310", "udp:x:1"} {
		if err := (&ClamAVOptions{Address: []string{a}, Timeout: 1}).Validate(); err == nil || !strings.Contains(err.Error(), "want unix:/path") {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := (&ClamAVOptions{Timeout: 1}).Validate(); err == nil {
		t.Error("no address")
	}
	if err := (&ClamAVOptions{Address: []string{"/x"}}).Validate(); err == nil {
		t.Error("no timeout")
	}
}

// FuzzClamdReply: clean is one exact form and nothing else.
func FuzzClamdReply(f *testing.F) {
	for _, s := range []string{"stream: OK\x00", "fd[10]: X FOUND\x00", "stream: OK", "INSTREAM size limit exceeded. ERROR\x00", "", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		findings, err := parseReply(reply)
		isClean := err == nil && len(findings) == 0
		s, ok := strings.CutSuffix(string(reply), ": OK\x00")
		digits := strings.TrimSuffix(strings.TrimPrefix(s, "fd["), "]")
		exact := ok && (s == "stream" || len(digits) == len(s)-4 && digits != "" && strings.Trim(digits, "0123456789") == "")
		if isClean != exact {
			t.Errorf("%q: clean %v", reply, isClean)
		}
	})
}

func BenchmarkClamdReply(b *testing.B) {
	reply := []byte("fd[10]: Eicar-Signature.UNOFFICIAL FOUND\x00")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseReply(reply); err != nil {
			b.Fatal(err)
		}
	}
}
