//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keptMail is what the test reads of the list of the quarantine.
type keptMail struct {
	MailID   string `json:"mail_id"`
	Category string `json:"category"`
	Subject  string `json:"subject"`
	Secret   string `json:"secret_id"`
	Path     string
}

// quarantine runs a subcommand of postern quarantine and returns output and exit
// code.
func (s *site) quarantine(args ...string) (string, int) {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"quarantine", "--config", filepath.Join(s.dir, "postern.yaml")}, args...)...)
	cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(s.dir, "state"))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// kept returns what is in the quarantine, the newest first.
func (s *site) kept() []keptMail {
	s.t.Helper()
	out, code := s.quarantine("list", "--json", "--limit", "0")
	var list []keptMail
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		s.t.Fatalf("%v, exit code %d: %.500s", err, code, out)
	}
	return list
}

// virusAbout is the virus mail with a subject of its own.
func virusAbout(from, subject string) string {
	text := strings.ReplaceAll(virus(from), "Subject: invoice", "Subject: "+subject)
	return strings.ReplaceAll(text, "<virus@client.test>", "<"+strings.ReplaceAll(subject, " ", ".")+"@client.test>")
}

// number reads how often something is done from the environment: few times for
// every change, many for make torture.
func number(name string, few int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return few
}

// TestManyViruses: whatever comes from forged senders outside, nobody outside
// hears of it, and each mail is in the quarantine or was refused in the session.
// Of our own people each hears of his, up to the limit.
func TestManyViruses(t *testing.T) {
	n := number("POSTERN_VIRUSES", 50)
	s := newSite(t, "virus: {destiny: bounce, admin: \"\"}\nlimits: {reports: 20}")
	each := func(do func(i int)) {
		var all sync.WaitGroup
		for w := range 4 {
			all.Go(func() {
				for i := w; i < n; i += 4 {
					do(i)
				}
			})
		}
		all.Wait()
		s.settle()
	}
	each(func(i int) {
		from := fmt.Sprintf("victim%d@example.com", i)
		submit(t, s.mx, envelope{client: "198.51.100.9", from: from, rcpts: []string{"ann@example.org"}}, virusAbout(from, fmt.Sprint("outside ", i)))
	})
	each(func(i int) {
		from := fmt.Sprintf("victim%d@example.com", i)
		e := envelope{client: "198.51.100.9", from: from, rcpts: []string{"ann@example.org"}}
		if reply := offer(t, s.gate, e, virusAbout(from, fmt.Sprint("gate ", i))); !strings.HasPrefix(reply, "554 5.7.0") {
			t.Errorf("in the session: %s", reply)
		}
	})
	if got := s.world.deliveries(); len(got) > 0 {
		t.Errorf("strangers got %d mails: %v", len(got), got[0])
	}
	if got := s.mailboxes.deliveries(); len(got) > 0 {
		t.Errorf("recipients got %d mails: %v", len(got), got[0])
	}
	if got := len(s.kept()); got != n {
		t.Errorf("%d of %d are kept", got, n)
	}
	senders := max(1, n/25) // each has 25, of which he hears of 20
	each(func(i int) {
		from := fmt.Sprintf("own%d@example.org", i%senders)
		submit(t, s.submission, envelope{client: "192.0.2.7", from: from, rcpts: []string{"bob@example.net"}}, virusAbout(from, fmt.Sprint("inside ", i)))
	})
	reports := 0
	for _, d := range s.mailboxes.deliveries() {
		if d.from == "" && strings.Contains(d.header("Content-Type"), "report-type=delivery-status") {
			reports++
		}
	}
	limited := strings.Count(s.posternLog(), "limits.reports")
	if over := len(s.kept()) - n; reports+over != n || reports != min(n, 20*senders) || over > 0 && limited == 0 {
		t.Errorf("%d reports, %d kept over the limit of %d mails; the log says so %d times", reports, over, n, limited)
	}
	if got := s.world.deliveries(); len(got) > 0 {
		t.Errorf("recipients got %d viruses", len(got))
	}
	t.Logf("%d from outside by queue: kept; %d by milter: refused; %d from inside: %d reports", n, n, n, reports)
}

// TestRelease: what is released arrives, octet for octet and once, by our own
// command and by the amavisd-release of Debian, and is not kept again.
func TestRelease(t *testing.T) {
	amavis := t.TempDir()
	s := newSiteWith(t, "virus: {destiny: reject}\n  bad_header: {destiny: reject}", addition{listeners: fmt.Sprintf("  - {protocol: am.pdp, address: \"unix:%s/amavisd.sock\"}\n", amavis)})
	from := envelope{client: "198.51.100.9", from: "eve@example.com", rcpts: []string{"ann@example.org", "bob@example.org"}}
	text := func(subject string) string {
		return strings.Replace(message("eve@example.com", subject, "..\n.\nHello \n\tx"), "text/plain; charset=utf-8", "application/x-msdownload; name=\"setup.exe\"", 1)
	}
	for _, subject := range []string{"first", "second", "third"} {
		submit(t, s.mx, from, text(subject))
		s.settle()
	}
	list := s.kept()
	if len(list) != 3 || list[2].Subject != "first" || list[2].Category != "banned" {
		t.Fatalf("kept: %+v", list)
	}
	arrived := func(subject string, want int) {
		t.Helper()
		s.settle()
		var got []delivery
		for _, d := range s.mailboxes.deliveries() {
			if d.header("Subject") == subject {
				got = append(got, d)
			}
		}
		n := 0
		for _, d := range got {
			n += len(d.rcpts)
			sent := text(subject)
			// Postfix writes Return-Path, Delivered-To and Received above the message
			if i := strings.Index(string(d.data), "Received: from client.test"); i < 0 || !strings.HasSuffix(string(d.data), sent) {
				t.Errorf("%s is not what was sent:\n%s", subject, d.data)
			} else if above := string(d.data)[:i]; strings.Contains(above, "X-Spam") || strings.Contains(above, "X-Virus") || strings.Contains(above, "(Postern") {
				t.Errorf("marks of ours:\n%s", above)
			}
		}
		if n != want {
			t.Errorf("%s arrived for %d recipients, want %d: %v", subject, n, want, got)
		}
	}
	first, second, third := list[2], list[1], list[0]
	if out, code := s.quarantine("release", first.MailID); code != 0 || strings.Count(out, " released ") != 2 {
		t.Errorf("exit code %d: %s", code, out)
	}
	arrived("first", 2)
	if out, code := s.quarantine("release", first.MailID); code != 1 || !strings.Contains(out, "--again") {
		t.Errorf("a second time, exit code %d: %s", code, out)
	}
	arrived("first", 2)
	// amavisd-release has its socket in a fixed place
	release := func(args ...string) string {
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /var/lib/amavis && exec /usr/sbin/amavisd-release "$@"`, amavis}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := release(second.MailID); !strings.Contains(out, "secret_id") {
		t.Errorf("without the secret: %s", out)
	}
	if out := release(second.MailID, second.Secret); strings.Count("\n"+out, "\n250 2.0.0") != 2 {
		t.Errorf("amavisd-release: %s", out)
	}
	arrived("second", 2)
	if out, code := s.quarantine("release", "--to", "ann@example.org", third.MailID); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	arrived("third", 1)
	if out := release(third.MailID, third.Secret); strings.Count("\n"+out, "\n250 2.0.0") != 1 {
		t.Errorf("amavisd-release for who is left: %s", out)
	}
	arrived("third", 2)
	if got := s.kept(); len(got) != 3 {
		t.Errorf("kept again: %+v", got)
	}
	if got := s.world.deliveries(); len(got) > 0 {
		t.Errorf("the world got %v", got)
	}
}

// TestQueueKills ends Postern again and again while Postfix feeds it: no mail is
// lost, and only what the journal has named comes twice.
func TestQueueKills(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) { killUnderLoad(t, sig, number("POSTERN_KILLS", 8)) })
	}
}

func killUnderLoad(t *testing.T, sig syscall.Signal, kills int) {
	s := newSite(t, "virus: {destiny: reject, admin: \"\"}")
	stop := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	sent := map[string]bool{}
	for w := range 3 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("mail %d-%d", w, n)
				text := message("eve@example.com", id, strings.Repeat("Hello, this is a line.\r\n", 100))
				if n%5 == 4 {
					text = virusAbout("eve@example.com", id)
				}
				submit(t, s.mx, envelope{client: "198.51.100.9", from: "eve@example.com", rcpts: []string{"ann@example.org"}}, text)
				mu.Lock()
				sent[id] = true
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for i := range kills {
		time.Sleep(time.Duration(50+i*37%400) * time.Millisecond)
		_ = s.postern.Process.Signal(sig)
		_ = s.postern.Wait()
		s.servePostern()
		s.flush()
	}
	close(stop)
	all.Wait()
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		s.flush()
		if strings.Contains(run(t, nil, program(t, "postqueue"), "-c", filepath.Join(s.dir, "postfix"), "-p"), "Mail queue is empty") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the queue does not get empty")
		}
	}
	ends := map[string]int{}
	for _, d := range s.mailboxes.deliveries() {
		ends[d.header("Subject")]++
	}
	for _, k := range s.kept() {
		ends[k.Subject]++
	}
	// the journal names queue ids, and Postfix' log which message each was
	subjects := map[string]string{}
	for _, m := range regexp.MustCompile(`cleanup\[\d+\]: (\w+): message-id=<(.*)@client\.test>`).FindAllStringSubmatch(s.mailLog(), -1) {
		subjects[m[1]] = strings.ReplaceAll(m[2], "mail.", "mail ")
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`it may come twice, queue_id: (\w+)`).FindAllStringSubmatch(s.posternLog(), -1) {
		named[subjects[m[1]]] = true
	}
	lost, twice, unnamed := 0, 0, 0
	for id := range sent {
		switch n := ends[id]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
			if !named[id] {
				unnamed++
				t.Errorf("%s has %d ends, and the log does not say why", id, n)
			}
		}
	}
	t.Logf("%d times SIG%s, %d mails, %d lost, %d twice, %d of them not named by the journal, %d named", kills, map[syscall.Signal]string{syscall.SIGKILL: "KILL", syscall.SIGTERM: "TERM"}[sig], len(sent), lost, twice, unnamed, len(named))
	if lost > 0 || len(sent) == 0 || sig == syscall.SIGTERM && twice > 0 {
		t.Errorf("lost %d, twice %d of %d", lost, twice, len(sent))
	}
	if out := s.posternLog(); sig == syscall.SIGTERM && strings.Contains(out, "may come twice") {
		t.Error("something was in doubt after an orderly end")
	}
}
