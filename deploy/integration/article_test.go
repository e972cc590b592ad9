//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/d--j/go-milter/mailfilter"
	"github.com/emersion/go-msgauth/dkim"
)

// articleMaster is the master.cf of deploy/examples/article.yaml: postscreen in
// front of smtpd in its chroot, and submission.
const articleMaster = `
%s inet n - n - 1 postscreen
smtpd     pass - - y - - smtpd
tlsproxy  unix - - y - 0 tlsproxy
dnsblog   unix - - y - 0 dnsblog
%s inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_milters=
  -o smtpd_relay_restrictions=check_client_access,static:ok,reject
` + innerCF

// newArticle starts the whole set-up of the article on one machine, with a
// milter of somebody else in main.cf. change is made to article.yaml.
func newArticle(t *testing.T, change ...string) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	s := &site{t: t, dir: t.TempDir()}
	for d := s.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		s.must(os.Chmod(d, 0o755))
	}
	ports := freePorts(t, 7)
	s.submission, s.mx, s.feedOwn, s.feedOther, s.reinject, s.worldAt, s.boxesAt = ports[0], ports[1], ports[2], ports[3], ports[4], ports[5], ports[6]
	s.world = startSink(t, s.worldAt, false)
	s.mailboxes = startSink(t, s.boxesAt, true)
	s.startClamd()
	spamd := startSpamd(t)
	folder := filepath.Join(s.dir, "spool", "postern")
	s.must(os.MkdirAll(filepath.Dir(folder), 0o755))
	run(t, nil, "install", "-d", "-o", "root", "-g", "postfix", "-m", "0710", folder)

	binary, err := posternBinary()
	s.must(err)
	for _, domain := range []string{"no-uce.de", "jeanbruenn.info"} {
		run(t, nil, binary, "dkim", "keygen", "--domain", domain, "--selector", "dkim20210807", "--type", "rsa", "--out", filepath.Join(s.dir, "dkim", domain+".pem"))
	}
	text, err := os.ReadFile(filepath.Join("..", "examples", "article.yaml"))
	s.must(err)
	config := strings.NewReplacer(append(change, "127.0.0.1:10023", s.feedOwn, "127.0.0.1:10024", s.feedOther, "127.0.0.1:10025", s.reinject,
		"/var/spool/postfix/postern/", folder+"/", "unix:/run/postern/", "unix:"+s.dir+"/", "/var/lib/amavis/tmp", s.dir, "/run/clamav/clamd.ctl", s.clamdSocket, "tcp:127.0.0.1:783", "tcp:"+spamd.address,
		// mail of 2021 from a host without a name has many points
		"tag2_level: 6.31, kill_level: 6.31", "tag2_level: 16.31, kill_level: 16.31")...).Replace(string(text))
	config += fmt.Sprintf("dns: {servers: [%q]}\n", startDNS(t, records{"20161025._domainkey.gmail.com": partnerRecords(t)["r._domainkey.partner.test"]}))
	s.write("postern.yaml", config, 0o600)
	s.postern = exec.Command(binary, "serve", "--config", filepath.Join(s.dir, "postern.yaml"))
	s.postern.Env = append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(s.dir, "state"))
	s.start(s.postern, "postern.log")
	t.Cleanup(func() { stop(s.postern) })
	s.milter = filepath.Join(folder, "milter.sock")
	eventually(t, "Postern listens", listens("unix", s.milter))
	s.startArticlePostfix()
	return s
}

func (s *site) startArticlePostfix() {
	s.t.Helper()
	here := strings.NewReplacer("127.0.0.1]:10023", "127.0.0.1]:"+port(s.feedOwn), "127.0.0.1:10025", s.reinject, "'submission/inet", "'"+s.submission+"/inet")
	s.write("postfix/master.cf", fmt.Sprintf(articleMaster, s.mx, s.submission)+here.Replace(deployed(s.t, "master.cf")), 0o644)
	theirs := strings.NewReplacer("virtual_mailbox_domains = example.org", "virtual_mailbox_domains = no-uce.de jeanbruenn.info",
		"mynetworks = 127.0.0.0/8", "mynetworks = 127.0.0.0/8 84.200.7.144/28", "milter_default_action = tempfail", "milter_default_action = accept")
	s.write("postfix/main.cf", theirs.Replace(fmt.Sprintf(mainCF, s.dir, s.boxesAt, port(s.worldAt), messageSizeLimit))+deployed(s.t, "main.cf")+`
milter_connect_macros = "j {client_name} {daemon_name} v _"
postscreen_access_list =
postscreen_greet_wait = 1s
smtpd_milters = inet:`+s.otherMilter()+"\n", 0o644)
	data := filepath.Join(s.dir, "data")
	s.must(os.MkdirAll(data, 0o755))
	run(s.t, nil, "chown", "postfix", data)
	s.tell(here, readmeCommands(s.t, "What to do", 3)[:2]...)
	s.tell(here, readmeCommands(s.t, "Before the queue: milter", 3)...)

	// the list of the service hides the one in main.cf: check says so, and how to
	// mend it, and finds nothing else
	found := s.postfixCheck()
	if len(found) != 1 || found[0].Rule != "milters-hidden" || len(found[0].Mend) != 1 {
		s.t.Fatalf("found %+v", found)
	}
	run(s.t, nil, "sh", "-ec", found[0].Mend[0])
	if found := s.postfixCheck(); len(found) > 0 {
		s.t.Fatalf("found %+v", found)
	}
	s.runPostfix(s.submission, s.mx, s.reinject)
}

type postfixFinding struct {
	Rule string
	What string
	Mend []string
}

// postfixCheck runs postern postfix check on the private Postfix.
func (s *site) postfixCheck() []postfixFinding {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	// it exits with 1 when something was found
	out, err := exec.Command(binary, "postfix", "check", "--json", "--config", filepath.Join(s.dir, "postern.yaml"), "--config-dir", filepath.Join(s.dir, "postfix")).Output()
	var report struct{ Findings []postfixFinding }
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		s.t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	return report.Findings
}

// otherMilter stands for opendmarc: it marks what it has seen.
func (s *site) otherMilter() string {
	s.t.Helper()
	filter, err := mailfilter.New("tcp", "127.0.0.1:0", func(_ context.Context, trx mailfilter.Trx) (mailfilter.Decision, error) {
		trx.Headers().Add("Authentication-Results", "mail.no-uce.de; dmarc=pass")
		return mailfilter.Accept, nil
	})
	s.must(err)
	s.t.Cleanup(filter.Close)
	return filter.Addr().String()
}

// shape is a log line of Amavis' or ours without what differs from mail to
// mail: ids, ports, score, size and time. Whether there is a port differs as
// well: a milter hears of it, the helper of Amavis did not tell.
func shape(line string) string {
	if i := strings.Index(line, ") Passed "); i >= 0 {
		line = line[i+2:]
	}
	for _, r := range [][2]string{
		{`\]:\d+`, "]"}, {`Queue-ID: \w+`, "Queue-ID: Q"}, {`Message-ID: <[^>]*>`, "Message-ID: <M>"}, {`mail_id: [\w-]+`, "mail_id: I"},
		{`Hits: -?\d+(\.\d{1,3})?,`, "Hits: H,"}, {`size: \d+`, "size: S"}, {`queued_as: \w+`, "queued_as: Q"}, {`\d+ ms$`, "T ms"},
	} {
		line = regexp.MustCompile(r[0]).ReplaceAllString(line, r[1])
	}
	return line
}

// logShape waits for a line of our log and returns its shape.
func (s *site) logShape(has string) string {
	s.t.Helper()
	var found string
	eventually(s.t, "the log has "+has, func() bool {
		for line := range strings.Lines(s.posternLog()) {
			if strings.Contains(line, has) {
				found = strings.TrimSpace(line)
			}
		}
		return found != ""
	})
	return shape(found)
}

// signedBy fails the test unless dkimpy accepts the one signature, of domain.
func (s *site) signedBy(domain string, d delivery) {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	var all, records []map[string]any
	s.must(json.Unmarshal([]byte(run(s.t, nil, binary, "dkim", "show", "--json", "--config", filepath.Join(s.dir, "postern.yaml"))), &all))
	for _, r := range all {
		if name, _ := r["name"].(string); strings.Contains(name, domain) {
			records = append(records, r)
		}
	}
	if n := strings.Count(string(d.data), "DKIM-Signature: "); n != 1 || len(records) != 1 || !strings.Contains(string(d.data), "d="+domain) {
		s.t.Fatalf("%d signatures, %d keys of %s", n, len(records), domain)
	}
	text, err := json.Marshal(records)
	s.must(err)
	run(s.t, d.data, "/usr/bin/python3", "-c", verifyScript, string(text))
}

var (
	fromOutside = envelope{client: "209.85.218.44", from: "xxx@gmail.com", rcpts: []string{"himself@jeanbruenn.info"}}
	fromMTA     = envelope{client: "84.200.7.149", from: "himself@jeanbruenn.info", rcpts: []string{"xxx@gmail.com"}}
	fromUser    = envelope{client: "91.11.190.91", from: "himself@jeanbruenn.info", rcpts: []string{"xxx@gmail.com"}}
)

// TestArticle sends mail by all ways of the article's set-up.
func TestArticle(t *testing.T) {
	s := newArticle(t)

	// from outside: postscreen, smtpd in its chroot, the milters
	msg := message(fromOutside.from, "from outside", "Hello")
	submit(t, s.mx, fromOutside, msg)
	s.settle()
	got := s.mailboxes.deliveries()
	head, body, _ := strings.Cut(msg, "\r\n\r\n")
	if len(got) != 1 || !strings.Contains(string(got[0].data), head) || !strings.HasSuffix(string(got[0].data), "\r\n\r\n"+body) {
		t.Fatalf("delivered: %v", got)
	}
	if got[0].header("X-Virus-Scanned") == "" || !strings.Contains(string(got[0].data), "\r\nAuthentication-Results: mail.no-uce.de; dmarc=pass\r\n") {
		t.Errorf("not seen by both milters:\n%s", got[0].data)
	}
	s.logged(`postscreen\[\d+\]: PASS NEW`)
	if line, want := s.logShape("{AcceptedInbound}"), "Passed CLEAN {AcceptedInbound}, AM.PDP-SOCK [209.85.218.44] [209.85.218.44] <xxx@gmail.com> -> <himself@jeanbruenn.info>, Queue-ID: Q, Message-ID: <M>, mail_id: I, Hits: H, size: S, T ms"; line != want {
		t.Errorf("log\n%s, want\n%s", line, want)
	}
	if reply := offer(t, s.mx, fromOutside, virus(fromOutside.from)); !strings.HasPrefix(reply, "554 5.7.0 Reject, id=") {
		t.Errorf("a virus from outside: %s", reply)
	}

	// our own mail servers on the same socket, but for the excluded address
	submit(t, s.mx, fromMTA, message(fromMTA.from, "by our mail server", "Hello"))
	s.settle()
	if got = s.world.deliveries(); len(got) != 1 {
		t.Fatalf("delivered: %v", got)
	}
	s.signedBy("jeanbruenn.info", got[0])
	excluded := fromMTA
	excluded.client = "84.200.7.154"
	submit(t, s.mx, excluded, message(fromMTA.from, "by ourselves", "Hello"))
	s.logShape("{AcceptedOpenRelay}, AM.PDP-SOCK [84.200.7.154]")
	if reply := offer(t, s.mx, fromMTA, virus(fromMTA.from)); !strings.HasPrefix(reply, "554 5.7.0 Reject, id=") {
		t.Errorf("a virus by our mail server: %s", reply)
	}
	eventually(t, "postmaster is told", func() bool { return len(s.mailboxes.deliveries()) == 2 })
	if d := s.mailboxes.deliveries()[1]; d.rcpts[0] != "postmaster@no-uce.de" {
		t.Errorf("told: %v", d)
	}

	// submission: amavisfeed, 10023, 10025
	before := len(s.world.deliveries())
	submit(t, s.submission, fromUser, message(fromUser.from, "by a user", "Hello"))
	s.settle()
	if got = s.world.deliveries()[before:]; len(got) != 1 {
		t.Fatalf("delivered: %v", got)
	}
	s.signedBy("jeanbruenn.info", got[0])
	if line, want := s.logShape("{RelayedOutbound}"), "Passed CLEAN {RelayedOutbound}, ORIGINATING LOCAL [91.11.190.91] [91.11.190.91] <himself@jeanbruenn.info> -> <xxx@gmail.com>, Queue-ID: Q, Message-ID: <M>, mail_id: I, Hits: H, size: S, queued_as: Q, dkim_new=dkim20210807:jeanbruenn.info, T ms"; line != want {
		t.Errorf("log\n%s, want\n%s", line, want)
	}

	// the sendmail command
	cmd := exec.Command(program(t, "sendmail"), "-i", "-f", fromUser.from, "xxx@gmail.com")
	cmd.Env = append(cmd.Environ(), "MAIL_CONFIG="+filepath.Join(s.dir, "postfix"))
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(message(fromUser.from, "by sendmail", "Hello"), "\r\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	eventually(t, "the mail of sendmail(1) arrives", func() bool { return len(s.world.deliveries()) == before+2 })
	s.signedBy("jeanbruenn.info", s.world.deliveries()[before+1])

	// while Postern is away mail from outside waits, although main.cf says accept
	stop(s.postern)
	if reply := patientOffer(t, s.mx, fromOutside, message(fromOutside.from, "wait", "Hello")); !strings.HasPrefix(reply, "451 4.7.1 ") {
		t.Errorf("Postern is away: %s", reply)
	}
}

// patientOffer is offer where any reply of the session may be the refusal.
func patientOffer(t *testing.T, addr string, e envelope, message string) string {
	t.Helper()
	k := newTalk(t, addr)
	var reply string
	for _, line := range []string{"EHLO client.test", "XCLIENT ADDR=" + e.client, "EHLO client.test", "MAIL FROM:<" + e.from + ">", "RCPT TO:<" + e.rcpts[0] + ">", "DATA", strings.ReplaceAll(message, "\r\n.", "\r\n..") + "."} {
		if reply = k.say(line); reply == "closed" || reply[0] > '3' {
			break
		}
	}
	return reply
}

// TestArticleLogLines: the two lines with which the article proves its set-up,
// as Amavis wrote them. That our mail server's mail is signed is new: Amavis'
// INT-MTA inherited "no signing" from the bank of the socket.
func TestArticleLogLines(t *testing.T) {
	s := newArticle(t, "  INT-MTA:\n    originating: true\n    virus:  {admin: postmaster@no-uce.de}", "  INT-MTA:\n    originating: true\n    virus:  {destiny: pass}")
	keys, err := partnerKeys()
	s.must(err)
	var signed bytes.Buffer
	s.must(dkim.Sign(&signed, strings.NewReader(message(fromOutside.from, "from outside", "Hello")), &dkim.SignOptions{Domain: "gmail.com", Selector: "20161025", Signer: keys["r"]}))
	submit(t, s.mx, fromOutside, signed.String())
	// a name that is not banned, which would be refused
	submit(t, s.mx, fromMTA, strings.ReplaceAll(virus(fromMTA.from), "invoice.com", "invoice.txt"))
	s.settle()
	for _, c := range []struct{ has, amavis string }{
		{"{AcceptedInbound}", "(13672-01) Passed CLEAN {AcceptedInbound}, AM.PDP-SOCK [209.85.218.44] [209.85.218.44] <xxx@gmail.com> -> <himself@jeanbruenn.info>, Queue-ID: 620DD13FB6D, Message-ID: <x@mail.gmail.com>, mail_id: l-lKDmN1sSk1, Hits: 0.787, size: 2521, dkim_sd=20161025:gmail.com, 3700 ms"},
		{"{AcceptedOutbound}", "(12967-02) Passed INFECTED (Eicar-Signature.UNOFFICIAL) {AcceptedOutbound}, AM.PDP-SOCK/INT-MTA LOCAL [84.200.7.149] [84.200.7.149] <himself@jeanbruenn.info> -> <xxx@gmail.com>, Queue-ID: 1950699C962, Message-ID: <m08-milter-int-virus-pass@lab.test>, mail_id: S4ZiZdVgx-3E, Hits: 5.999, size: 802, 82 ms"},
	} {
		if line, want := strings.Replace(s.logShape(c.has), "dkim_new=dkim20210807:jeanbruenn.info, ", "", 1), shape(c.amavis); line != want {
			t.Errorf("log\n%s, want\n%s", line, want)
		}
	}
	if got := s.world.deliveries(); len(got) != 1 || !strings.Contains(got[0].header("X-Amavis-Alert"), "INFECTED") {
		t.Errorf("delivered: %v", got)
	}
}
