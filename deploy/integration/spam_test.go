//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// gtube is put together for the same reason as eicar.
const gtube = `XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE` + `-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X`

// spamd is a private one, with the rules of the package and local tests only.
type spamd struct {
	t       *testing.T
	address string
	args    []string
	cmd     *exec.Cmd
}

func startSpamd(t *testing.T) *spamd {
	t.Helper()
	home, err := os.MkdirTemp("", "spamd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	site := filepath.Join(home, "site")
	if err := os.Mkdir(site, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "sh", "-ec", "cp /etc/spamassassin/*.pre "+site)
	local := "use_bayes 0\nuse_auto_welcomelist 0\n" +
		`add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTSSCORES_ autolearn=_AUTOLEARN_ version=_VERSION_"` + "\n"
	if err := os.WriteFile(filepath.Join(site, "local.cf"), []byte(local), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "chown", "-R", "debian-spamd:", home)
	p := &spamd{t: t, address: freePorts(t, 1)[0]}
	p.args = []string{"-u", "debian-spamd", "--local", "--nouser-config", "--listen=" + p.address, "--siteconfigpath=" + site,
		"--helper-home-dir=" + home, "--max-children=2", "--min-children=1", "--syslog=" + filepath.Join(home, "log")}
	t.Cleanup(p.stop)
	p.start()
	return p
}

func (p *spamd) start() {
	p.t.Helper()
	p.cmd = exec.Command(program(p.t, "spamd"), p.args...)
	// a group of its own, so that none of its children outlives the test
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "spamd listens", listens("tcp", p.address))
}

func (p *spamd) stop() {
	if p.cmd.ProcessState == nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Wait()
	}
}

// TestSpam: the score of the real SpamAssassin by both ways, with levels of each
// recipient, and mail without a score while spamd is away.
func TestSpam(t *testing.T) {
	spamd := startSpamd(t)
	s := newSiteWith(t, `spam: {tag_level: -999}
recipients:
  - {match: sorted@example.org, settings: {spam: {destiny: pass, address_extension: spam, subject_tag: "[_SCORE_] "}}}
`, addition{engines: fmt.Sprintf("  spamassassin: {address: \"tcp:%s\"}\n", spamd.address)})
	to := func(rcpts ...string) envelope {
		return envelope{client: "198.51.100.9", from: "spammer@example.net", rcpts: rcpts}
	}
	spam := strings.Replace(message("spammer@example.net", "bargain", gtube), "Subject:", "X-Spam-Flag: NO\r\nX-Spam-Status: No\r\nSubject:", 1)

	// after the queue: a stranger is not told
	submit(t, s.mx, to("bob@example.org", "sorted+lists@example.org"), spam)
	s.settle()
	got := s.mailboxes.deliveries()
	if len(got) != 1 || len(got[0].rcpts) != 1 || got[0].rcpts[0] != "sorted+spam@example.org" || len(s.world.deliveries()) != 0 {
		t.Fatalf("delivered: %v, told: %v", got, s.world.deliveries())
	}
	head := got[0]
	score := head.header("X-Spam-Score")
	if head.header("X-Spam-Flag") != "YES" || !regexp.MustCompile(`^(9|10)\d\d(\.\d{1,3})?$`).MatchString(score) || head.header("X-Spam-Level") != strings.Repeat("*", 64) ||
		head.header("Subject") != "["+score+"] bargain" || strings.Count(string(head.data), "X-Spam-Flag") != 1 || strings.Count(string(head.data), "X-Spam-Status") != 1 {
		t.Errorf("%s", head.data)
	}
	status := regexp.MustCompile(`^Yes, score=` + regexp.QuoteMeta(score) + ` tagged_above=-999 required=6\.31 tests=\[[A-Z0-9_]+=.*GTUBE=1000.*\] autolearn=\w+( autolearn_force=\w+)?$`)
	if !status.MatchString(head.header("X-Spam-Status")) {
		t.Errorf("X-Spam-Status: %s", head.header("X-Spam-Status"))
	}
	// before the queue: the client is told
	if reply := offer(t, s.gate, to("bob@example.org"), spam); !regexp.MustCompile(`^554 5\.7\.0 Reject, id=\S+ - spam`).MatchString(reply) {
		t.Errorf("before the queue: %s", reply)
	}
	submit(t, s.gate, to("sorted@example.org"), spam)
	s.settle()
	if got = s.mailboxes.deliveries()[1:]; len(got) != 1 || got[0].rcpts[0] != "sorted+spam@example.org" || got[0].header("X-Spam-Flag") != "YES" {
		t.Errorf("by milter: %v", got)
	}
	// ham, then ham that nobody scores, then ham again
	ham := func(subject string) delivery {
		t.Helper()
		before := len(s.mailboxes.deliveries())
		submit(t, s.mx, to("bob@example.org"), message("friend@example.net", subject, "Are we going to meet tomorrow at ten?"))
		s.settle()
		got := s.mailboxes.deliveries()[before:]
		if len(got) != 1 {
			t.Fatalf("delivered: %v", got)
		}
		return got[0]
	}
	if d := ham("scored"); d.header("X-Spam-Flag") != "NO" || !strings.HasPrefix(d.header("X-Spam-Status"), "No, score=") || d.header("Subject") != "scored" {
		t.Errorf("%s", d.data)
	}
	spamd.stop()
	if d := ham("not scored"); strings.Contains(string(d.data), "X-Spam-") || d.header("Subject") != "not scored" {
		t.Errorf("%s", d.data)
	}
	spamd.start()
	eventually(t, "spamd is asked again", func() bool { return ham("again").header("X-Spam-Flag") == "NO" })
	for _, want := range []string{
		`Passed SPAM \{NoBounceInbound,RelayedTaggedInbound,Quarantined\}, \[198\.51\.100\.9\].* Hits: (9|10)\d\d`, `Blocked SPAM \{NoBounceInbound,RelayedTaggedInbound,Quarantined\}, \[198\.51\.100\.9\].* Hits: (9|10)\d\d`,
		`Blocked SPAM \{RejectedInbound\}, GATE `, `Passed SPAM \{AcceptedInbound\}, GATE `,
		`Passed CLEAN \{RelayedInbound\}, .*<scored@client\.test>.* Hits: -?\d+(\.\d{1,3})?,`, `Passed UNCHECKED \{RelayedInbound\}, .*<not\.scored@client\.test>.* Hits: -,`,
	} {
		if !regexp.MustCompile(want).MatchString(s.posternLog()) {
			t.Errorf("the log has no %q:\n%s", want, s.posternLog())
		}
	}
}
