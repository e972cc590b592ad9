//go:build integration

package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var world = envelope{client: "198.51.100.9", from: "eve@example.net", rcpts: []string{"ann@example.org"}}

// TestMilter: before the queue mail from outside is refused in the session or
// goes on with our header, and nobody is told afterwards.
func TestMilter(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")

	msg := "X-Virus-Scanned: Postern at example.org\r\nX-Amavis-Alert: forged\r\n" + message(world.from, "by milter", "Hello\n.\n\u00fc")
	submit(t, s.gate, world, msg)
	s.settle()
	got := s.mailboxes.deliveries()
	if len(got) != 1 {
		t.Fatalf("delivered: %v", got)
	}
	data := string(got[0].data)
	if strings.Count(data, "X-Virus-Scanned: Postern at example.org\r\n") != 1 || strings.Contains(data, "forged") {
		t.Errorf("marks: %s", data)
	}
	if _, body, _ := strings.Cut(msg, "\r\n\r\n"); !strings.HasSuffix(data, "\r\n\r\n"+body) {
		t.Errorf("the body was changed: %q", data)
	}

	if reply := offer(t, s.gate, world, virus(world.from)); !strings.HasPrefix(reply, "554 5.7.0 Reject, id=") {
		t.Errorf("a virus: %s", reply)
	}
	s.settle()
	if n := len(s.mailboxes.deliveries()) + len(s.world.deliveries()); n != 1 {
		t.Errorf("%d mails, one was there", n)
	}
	// INT-MTA is chosen by the client's address on the same socket
	own := envelope{client: "192.0.2.200", from: "ann@example.org", rcpts: []string{"bob@example.org"}}
	submit(t, s.gate, own, message(own.from, "signed by milter", "Hello"))
	s.settle()
	got = s.mailboxes.deliveries()[1:]
	if len(got) != 1 {
		t.Fatalf("delivered: %v", got)
	}
	s.verifyDKIM(got[0])
	for _, want := range []string{
		"Passed CLEAN {AcceptedInbound}, GATE [198.51.100.9]", "Blocked INFECTED (Eicar-Signature.UNOFFICIAL) {RejectedInbound}, GATE [198.51.100.9]",
		"Passed CLEAN {AcceptedInternal}, GATE/INT-MTA LOCAL [192.0.2.200]",
	} {
		if !strings.Contains(s.posternLog(), want) {
			t.Errorf("the log has no %q:\n%s", want, s.posternLog())
		}
	}
}

// TestMilterScannerDown: mail waits with its sender.
func TestMilterScannerDown(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	s.stopClamd()
	if reply := offer(t, s.gate, world, message(world.from, "wait", "Hello")); !strings.HasPrefix(reply, "451 4.") {
		t.Errorf("no scanner: %s", reply)
	}
	s.startClamd()
	submit(t, s.gate, world, message(world.from, "wait", "Hello"))
	s.settle()
	if got := s.mailboxes.deliveries(); len(got) != 1 {
		t.Errorf("delivered: %v", got)
	}
}

// TestMilterLocal: mail of sendmail(1) comes without a connection.
func TestMilterLocal(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	etc := filepath.Join(s.dir, "postfix")
	run(t, nil, "postconf", "-c", etc, "-e", "non_smtpd_milters=inet:"+s.milter)
	run(t, nil, program(t, "postfix"), "-c", etc, "reload")
	cmd := exec.Command(program(t, "sendmail"), "-i", "-f", "ann@example.org", "bob@example.org")
	cmd.Env = append(cmd.Environ(), "MAIL_CONFIG="+etc)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(message("ann@example.org", "by sendmail", "Hello"), "\r\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	eventually(t, "the mail of sendmail(1) arrives", func() bool { return len(s.mailboxes.deliveries()) == 1 })
	if got := s.mailboxes.deliveries(); got[0].header("X-Virus-Scanned") == "" {
		t.Errorf("not seen by the milter: %s", got[0].data)
	}
}
