//go:build integration

package unpack_test

import (
	"bytes"
	"encoding/hex"
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

	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
)

// startClamd runs a real clamd that knows the EICAR string at any place, and
// returns its socket.
func startClamd(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "clamd") // shorter than TempDir, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	for name, text := range map[string]string{
		"clamd.conf": "LocalSocket " + sock + "\nForeground true\nDatabaseDirectory " + dir + "\nAlertExceedsMax true\n",
		"t.ndb":      "Eicar-Signature:0:*:" + hex.EncodeToString(eicar) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/sbin/clamd", "-c", filepath.Join(dir, "clamd.conf"))
	if os.Getuid() == 0 {
		u, err := user.Lookup("clamav")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for end := time.Now().Add(time.Minute); ; {
		if conn, err := net.Dial("unix", sock); err == nil {
			conn.Close()
			return sock
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("clamd: %v\n%s", err, &out)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("clamd does not listen\n%s", &out)
		}
	}
}

// TestEvasionWithClamAV sends every trick with a program in it through the
// filter with a real clamd and no banned rules: what it is handed lets it find
// all that was found.
func TestEvasionWithClamAV(t *testing.T) {
	options := check.Kinds()["clamav"]().(*check.ClamAVOptions)
	options.Address = []string{"unix:" + startClamd(t)}
	clamav, err := check.New("clamav", options)
	if err != nil {
		t.Fatal(err)
	}
	f := filterOf(t, "  banned: {bypass: true}\n", clamav)
	for _, tr := range unpack.EvasionTricks() {
		if tr.NameOnly || tr.OnlyFact {
			continue
		}
		v := verdict(t, f, tr.Message)
		ok := v.Main().Category == mail.Infected || tr.MayBeUnchecked && v.Main().Category == mail.Unchecked
		if strings.HasPrefix(tr.ID, "clean") {
			ok = v.Main().Category == mail.Clean
		}
		if !ok {
			t.Errorf("%s, %s: %s %+v", tr.ID, tr.What, word(v), v.Findings)
		}
	}
}
