package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

// TestMain fails when a goroutine of this package outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := goroutines(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// goroutines returns the stacks of those that are still in this package or in
// go-smtp after a while.
func goroutines() (left string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		left = ""
		buf := make([]byte, 1<<20)
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if strings.Contains(stack, "/listen.") || strings.Contains(stack, "/go-smtp.") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			break
		}
	}
	return left
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	owner := strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid())
	if u, err := user.Current(); err == nil {
		owner = u.Username
	}
	l, err := Listen("unix:"+path, "0606", owner)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o606 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != os.Getuid() {
		t.Errorf("owner %d", st.Uid)
	}
	if _, err := Listen("unix:"+path, "", ""); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("socket of a living process: %v", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}

	// a process that was killed leaves its socket behind
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err = Listen("unix:"+path, "", "")
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	l.Close()
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ address, mode, owner, want string }{
		{"unix:" + file, "", "", "no socket"},
		{"unix:" + dir + "/none/s", "", "", "no such file"},
		{"unix:" + dir + "/s", "rw", "", `mode "rw"`},
		{"unix:" + dir + "/s", "01777", "", `mode "01777"`},
		{"unix:" + dir + "/s", "", "no-such-user-here", "no user"},
		{"unix:" + dir + "/s", "", ":no-such-group-here", "no group"},
		{"127.0.0.1", "", "", "missing port"},
	} {
		l, err := Listen(c.address, c.mode, c.owner)
		if err == nil {
			l.Close()
			t.Errorf("%v: no error", c)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 25}
	if got := addrPort(mapped).String(); got != "192.0.2.1:25" {
		t.Errorf("mapped address: %s", got)
	}
	if got := addrPort(&net.UnixAddr{Name: "/s"}); got.IsValid() {
		t.Errorf("Unix socket: %s", got)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if a.String() != "::1/128" {
			continue
		}
		l, err := Listen("[::1]:0", "", "")
		if err != nil {
			t.Fatal(err)
		}
		h := &recorder{}
		serveFeed(t, l, h, FeedOptions{})
		p := dial(t, l.Addr().String()).hello("EHLO").mail("a@y.test")
		p.send(".")
		p.want("250 ...")
		if got := h.transactions()[0].PeerAddr.Addr().String(); got != "::1" {
			t.Errorf("peer %s", got)
		}
	}
}

// Idle sessions end at once, also in the middle of an envelope; messages from
// 354 on are finished.
func TestShutdown(t *testing.T) {
	t.Parallel()
	inHandler, goOn := make(chan struct{}), make(chan struct{})
	h := &recorder{hop: func(_ context.Context, tx *mail.Transaction) {
		if tx.Message.Size() > 10 {
			close(inHandler)
			<-goOn
		}
	}}
	f, addr := startFeed(t, h, FeedOptions{})
	idle := dial(t, addr)
	idle.want("220 ...")
	envelope := dial(t, addr).hello("LHLO")
	envelope.send("MAIL FROM:<a@x.test>")
	envelope.want("250 ...")
	again := dial(t, addr).hello("LHLO").mail("a@y.test")
	again.send("short", ".")
	again.want("250 ...")
	sending := dial(t, addr).hello("LHLO").mail("a@y.test")
	processed := dial(t, addr).hello("LHLO").mail("a@y.test")
	processed.send("a longer text", ".", "MAIL FROM:<next@x.test>")
	<-inHandler

	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	idle.want("421 4.3.2 ...")
	idle.wantEnd()
	envelope.want("421 4.3.2 ...")
	envelope.wantEnd()
	again.want("421 4.3.2 ...")
	again.wantEnd()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("accepts after Shutdown")
	}
	sending.send("short", ".")
	sending.want("250 ...", "421 4.3.2 ...")
	sending.wantEnd()
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(goOn)
	processed.want("250 ...", "421 4.3.2 ...")
	processed.wantEnd()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(h.messages()); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	inHandler := make(chan struct{})
	h := &recorder{hop: func(ctx context.Context, _ *mail.Transaction) {
		close(inHandler)
		<-ctx.Done()
	}}
	f, addr := startFeed(t, h, FeedOptions{})
	p := dial(t, addr).hello("LHLO").mail("a@y.test")
	p.send("text", ".")
	<-inHandler
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	line, _ := p.r.ReadString('\n')
	if strings.HasPrefix(line, "2") {
		t.Errorf("a cut message was answered %q", line)
	}
	<-f.drained
}

// Nothing of a session is left when its feed is closed.
func TestClose(t *testing.T) {
	t.Parallel()
	f, addr := startFeed(t, &recorder{}, FeedOptions{})
	var peers []*peer
	for range 10 {
		p := dial(t, addr).hello("LHLO")
		peers = append(peers, p)
	}
	peers[0].mail("a@y.test")
	f.Close()
	<-f.drained
	for _, p := range peers {
		for {
			line, err := p.r.ReadString('\n')
			if err != nil {
				break
			}
			if !strings.HasPrefix(line, "421 ") {
				t.Errorf("got %q", line)
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	l, err := Listen("127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Serve(l); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Close left its listener open: %v", err)
	}
}
