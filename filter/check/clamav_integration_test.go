//go:build integration

package check

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

// startClamd runs a real clamd with two signatures and returns the addresses
// of its socket and its port.
func startClamd(tb testing.TB) (unix, tcp string) {
	tb.Helper()
	path, err := exec.LookPath("clamd")
	if err != nil {
		path = "/usr/sbin/clamd"
	}
	dir, err := os.MkdirTemp("", "clamd") // shorter than TempDir, for the socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	db := filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o755); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	sock := filepath.Join(dir, "clamd.ctl")
	conf := fmt.Sprintf("LocalSocket %s\nTCPSocket %d\nTCPAddr 127.0.0.1\nForeground true\nDatabaseDirectory %s\n"+
		"StreamMaxLength 2M\nMaxFileSize 2M\nMaxScanSize 2M\nAlertExceedsMax true\nScanMail true\nDisableCache true\n", sock, port, db)
	cmd := exec.Command(path, "-c", filepath.Join(dir, "clamd.conf"))
	if os.Getuid() == 0 {
		u, err := user.Lookup("clamav")
		if err != nil {
			tb.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			tb.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	for name, text := range map[string]string{
		"clamd.conf": conf,
		"db/t.ndb":   "Eicar-Signature:0:*:" + hex.EncodeToString([]byte(eicar)) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	unix, tcp = "unix:"+sock, fmt.Sprintf("tcp:127.0.0.1:%d", port)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(tcp, "tcp:")); err == nil {
			conn.Close()
			return unix, tcp
		}
		select {
		case err := <-ended:
			ended <- err
			tb.Fatalf("clamd: %v\n%s", err, &out)
		case <-ctx.Done():
			tb.Fatalf("clamd does not listen\n%s", &out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func spooledMessage(tb testing.TB, data string) *mail.Message {
	tb.Helper()
	s := &mail.Spool{Dir: tb.TempDir(), Memory: 1}
	if _, err := s.Write([]byte(data)); err != nil {
		tb.Fatal(err)
	}
	m, err := s.Message()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

func TestRealClamd(t *testing.T) {
	t.Parallel()
	unix, tcp := startClamd(t)
	head := "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
		"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	infected := head + encode64(eicar, 76, "\r\n") + "--b--\r\n"
	tooLarge := head + encode64(strings.Repeat("x", 3<<20), 76, "\r\n") + "--b--\r\n"
	for name, c := range map[string]*clamAV{
		"descriptor": clamav(t, time.Minute, unix),
		"stream":     clamav(t, time.Minute, tcp),
		"unix stream": func() *clamAV {
			c := clamav(t, time.Minute, unix)
			c.servers[0].refusedFD.Store(time.Now().UnixNano())
			return c
		}(),
		"after one that is down": clamav(t, time.Minute, "unix:/nonexistent/clamd.ctl", unix),
	} {
		for _, spooled := range []bool{false, true} {
			for _, tt := range []struct {
				name, message string
				category      mail.Category
				minor         int
			}{
				{"clean", head + encode64("hello", 76, "\r\n"), mail.CatchAll, 0},
				{"infected", infected, mail.Infected, 0},
				{"too large", tooLarge, mail.Unchecked, mail.OverLimits},
			} {
				t.Run(fmt.Sprintf("%s, %s, file %v", name, tt.name, spooled), func(t *testing.T) {
					t.Parallel()
					m := mail.NewMessage([]byte(tt.message))
					if spooled {
						m = spooledMessage(t, tt.message)
					}
					for range 2 {
						r := Run(t.Context(), []Named{{Name: "clamav", Check: c}}, &Input{Tx: &mail.Transaction{Message: m}})[0]
						if r.Err != nil {
							t.Fatal(r.Err)
						}
						if tt.category == mail.CatchAll {
							if len(r.Findings) != 0 || !r.Scanned {
								t.Errorf("%+v", r)
							}
							continue
						}
						if len(r.Findings) != 1 || r.Findings[0].Category != tt.category || r.Findings[0].Minor != tt.minor {
							t.Errorf("%+v", r)
						}
					}
				})
			}
		}
		if name == "descriptor" {
			t.Cleanup(func() {
				if c.servers[0].refusedFD.Load() != 0 {
					t.Error("clamd did not take the descriptor")
				}
			})
		}
	}
}

// TestRealClamdParts: parts that clamd would not get at are scanned, in a
// session that goes on after one that is too large.
func TestRealClamdParts(t *testing.T) {
	t.Parallel()
	unix, tcp := startClamd(t)
	for _, address := range []string{unix, tcp} {
		root := &mail.Part{Place: "1"}
		for i, data := range []string{"harmless", strings.Repeat("x", 3<<20), "harmless too", eicar} {
			root.Children = append(root.Children, &mail.Part{
				Place: fmt.Sprint("1/", i+1), Parent: root, Names: []string{"x.bin"}, Types: []string{"dat"}, Data: []byte(data), Size: int64(len(data)),
			})
		}
		in := input("Subject: x\r\n\r\nhello\r\n")
		in.Parts = root
		answer, err := clamav(t, time.Minute, address).Check(t.Context(), in)
		found := answer.Findings
		if err != nil || len(found) != 2 || found[0].Minor != mail.OverLimits || found[0].Part != "1/2 x.bin" ||
			found[1].Category != mail.Infected || found[1].Part != "1/4 x.bin" {
			t.Errorf("%s: %+v, %v", address, found, err)
		}
	}
}

func BenchmarkRealClamd(b *testing.B) {
	unix, tcp := startClamd(b)
	data := "\r\n" + encode64(strings.Repeat("x", 3<<10), 76, "\r\n")
	for _, address := range []string{unix, tcp} {
		network, _, _ := strings.Cut(address, ":")
		b.Run(network, func(b *testing.B) {
			c, err := (&ClamAVOptions{Address: []string{address}, Timeout: time.Minute}).New()
			if err != nil {
				b.Fatal(err)
			}
			in := input(data)
			for b.Loop() {
				if _, err := c.Check(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
