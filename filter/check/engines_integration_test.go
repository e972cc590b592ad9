//go:build integration

package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
)

// process is a real engine that can be ended and started again.
type process struct {
	tb      testing.TB
	args    []string
	address string // host:port that it listens on
	account *syscall.Credential
	cmd     *exec.Cmd
	out     bytes.Buffer
	ended   chan error
}

// account is the user of a daemon, if we may become it: daemons refuse to run
// as root.
func account(tb testing.TB, name, dir string) *syscall.Credential {
	tb.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		tb.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	}); err != nil {
		tb.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// start runs the engine and waits until it takes connections.
func (p *process) start() {
	p.tb.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	// a group of its own, so that none of its children outlives the test
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account, Setpgid: true}
	p.out.Reset()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.ended = make(chan error, 1)
	go func() { p.ended <- p.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", p.address); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-p.ended:
			p.cmd = nil
			p.tb.Fatalf("%s: %v\n%s", p.args[0], err, &p.out)
		case <-ctx.Done():
			p.stop()
			p.tb.Fatalf("%s does not listen\n%s", p.args[0], &p.out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	group := -p.cmd.Process.Pid
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	p.cmd = nil
}

func writeFiles(tb testing.TB, dir string, files map[string]string) {
	tb.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

func shortDir(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", name) // shorter than TempDir, for a socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// startSpamd runs a real spamd with local tests only. A message with the field
// X-Test-Slow keeps it busy beyond its time limit.
func startSpamd(tb testing.TB) *process {
	tb.Helper()
	dir := shortDir(tb, "spamd")
	files := map[string]string{
		"site/local.cf": "use_bayes 0\nuse_auto_welcomelist 0\ntime_limit 8\nloadplugin Slow " + dir + "/Slow.pm\n" +
			`add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTSSCORES_ autolearn=_AUTOLEARN_ version=_VERSION_"` + "\n" +
			"header T_ENVELOPE EnvelopeFrom =~ /^sender\\@env\\.test$/\nscore T_ENVELOPE 0.123\n" +
			"header T_CLIENT X-Spam-Relays-External =~ /ip=91\\.11\\.190\\.91 rdns=client\\.example\\.net helo=helo\\.example\\.net by=mail\\.test /\nscore T_CLIENT 0.017\n" +
			"header T_SLOW eval:slow()\n",
		"Slow.pm": "package Slow;\nuse Mail::SpamAssassin::Plugin;\nour @ISA = qw(Mail::SpamAssassin::Plugin);\n" +
			"sub new { my ($class, $main) = @_; my $self = $class->SUPER::new($main); bless($self, $class); $self->register_eval_rule('slow'); return $self }\n" +
			"sub slow { my ($self, $pms) = @_; sleep 30 if $pms->get('X-Test-Slow'); return 0 }\n1;\n",
		"home/empty": "",
	}
	plugins, err := filepath.Glob("/etc/spamassassin/*.pre")
	if err != nil || len(plugins) == 0 {
		tb.Fatalf("no configuration of SpamAssassin: %v", err)
	}
	for _, path := range plugins {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		files["site/"+filepath.Base(path)] = string(data)
	}
	writeFiles(tb, dir, files)
	p := &process{tb: tb, address: freePort(tb), account: account(tb, "debian-spamd", dir)}
	p.args = []string{tool(tb, "spamd"), "--local", "--nouser-config", "--listen=" + p.address, "--siteconfigpath=" + dir + "/site",
		"--helper-home-dir=" + dir + "/home", "--max-children=2", "--min-children=1", "--syslog=stderr"}
	tb.Cleanup(p.stop)
	p.start()
	return p
}

const received = "Received: from client.example.net (unknown [91.11.190.91])\r\n\tby mail.no-uce.de (Postfix) with ESMTPSA id 60AE113F8F9\r\n" +
	"\tfor <xxx@gmail.com>; Mon, 9 Aug 2021 09:36:36 +0200 (CEST)\r\n"

const realHeader = "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: himself@jeanbruenn.info\r\nTo: xxx@gmail.com\r\nSubject: test\r\n" +
	"Message-ID: <s01-gtube-out-reject@lab.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"

// realMails are messages for both spam engines, without Received.
func realMails() map[string]string {
	return map[string]string{
		"ham":         realHeader + "\r\nHello, are we going to meet tomorrow at ten?\r\n",
		"odd":         "From: a@b.test\r\nSubject: viagra\r\nMessage-ID: <x@y>\r\n\r\nhello\r\n",
		"marked":      "X-Spam-Status: No, score=-100.0 required=5.0 tests=USER_IN_WELCOMELIST=-100\r\nX-Spam-Flag: NO\r\n" + realHeader + "\r\nhello\r\n",
		"no id":       "From: a@b.test\r\n\r\nhello\r\n",
		"ids":         "Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\nFrom: a@b.test\r\n\r\nhello\r\n",
		"odd ids":     "Message-ID: =?utf-8?q?<a@b>?= \xff <c d@e> (x)\r\nFrom: a@b.test\r\n\r\nhello\r\n",
		"folded id":   "Message-ID:\r\n <a.very.long.message.id.that.needs.a.line@for.itself.test>\r\nFrom: a@b.test\r\n\r\nhello\r\n",
		"header only": "From: a@b.test\r\nMessage-ID: <h@y>\r\n",
		"8 bit":       "From: \xe4@b.test\r\nSubject: \xff\xfe\r\nMessage-ID: <8@y>\r\n\r\n\x00\xff\r\n",
		"gtube":       realHeader + "\r\n" + gtube + "\r\n",
	}
}

func realInput(input mail.Input, message string) *Input {
	return &Input{
		Tx: &mail.Transaction{
			ID: "1-1", Received: time.Now(), Input: input, From: "sender@env.test", Rcpts: []mail.Recipient{{Address: "xxx@gmail.com"}},
			Client:  mail.Client{Name: "client.example.net", Addr: netip.MustParseAddr("91.11.190.91"), Helo: "helo.example.net", Ident: "60AE113F8F9"},
			Message: mail.NewMessage([]byte(message)),
		},
		Hostname: "mail.test", Banks: []string{"ORIGINATING", "INT-MTA"},
	}
}

// points returns those of a rule, and whether it matched.
func points(s *mail.Score, name string) (float64, bool) {
	for _, t := range s.Tests {
		if t.Name == name {
			return t.Score, true
		}
	}
	return 0, false
}

var withPoints = regexp.MustCompile(`([A-Z][A-Z0-9_]+)=(-?[0-9.]+)`)

// TestRealSpamd: the score is that of spamc, to three decimals, with its rules;
// a time limit inside of SpamAssassin is no answer; who comes back is asked
// again.
func TestRealSpamd(t *testing.T) {
	t.Parallel()
	p := startSpamd(t)
	host, port, _ := net.SplitHostPort(p.address)
	spamc := func(message string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), tool(t, "spamc"), append([]string{"-d", host, "-p", port}, args...)...)
		cmd.Stdin = strings.NewReader(message)
		out, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) { // it ends with 1 for spam
			t.Fatal(err)
		}
		return string(out)
	}
	c := spamassassin(t, time.Minute, "tcp:127.0.0.1:1", "tcp:"+p.address)
	for name, text := range realMails() {
		message := received + text
		r := run(t, "spamassassin", c, realInput(mail.InputLMTP, message))
		if r.Err != nil || r.Score == nil || len(r.Findings) != 0 {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		same := "Return-Path: <sender@env.test>\r\n" + message
		report := spamc(same, "-R")
		head, _, _ := strings.Cut(report, "\n")
		short, _, _ := strings.Cut(strings.TrimSpace(head), "/")
		want, err := strconv.ParseFloat(short, 64)
		if err != nil || math.Abs(r.Score.Value-want) > 0.0501 {
			t.Errorf("%s: score %v, spamc says\n%s", name, r.Score.Value, report)
		}
		if name == "header only" {
			continue // which spamc --headers passes on as it is
		}
		_, status, _ := strings.Cut(spamc(same, "--headers"), "X-Spam-Status: ")
		status, _, _ = strings.Cut(status, " autolearn=")
		_, status, _ = strings.Cut(status, "tests=")
		sum, rules := 0.0, withPoints.FindAllStringSubmatch(status, -1)
		for _, m := range rules {
			f, _ := strconv.ParseFloat(m[2], 64)
			sum += f
			if got, ok := points(r.Score, m[1]); !ok || got != f {
				t.Errorf("%s: %s is %v, spamc says %v", name, m[1], got, f)
			}
		}
		if len(rules) == 0 || len(rules) != len(r.Score.Tests) || thousandths(sum) != r.Score.Value {
			t.Errorf("%s: %d rules, score %v; spamc %d, %v", name, len(r.Score.Tests), r.Score.Value, len(rules), sum)
		}
		if _, ok := points(r.Score, "T_ENVELOPE"); !ok {
			t.Errorf("%s: the sender did not arrive: %+v", name, r.Score)
		}
		if isGTUBE := r.Score.Value > 900; isGTUBE != (name == "gtube") {
			t.Errorf("%s: score %v", name, r.Score.Value)
		}
	}

	t.Run("before the queue", func(t *testing.T) {
		r := run(t, "spamassassin", c, realInput(mail.InputMilter, realMails()["ham"]))
		if r.Err != nil || r.Score == nil {
			t.Fatalf("%+v", r)
		}
		for _, rule := range []string{"T_ENVELOPE", "T_CLIENT"} {
			if _, ok := points(r.Score, rule); !ok {
				t.Errorf("no %s: %+v", rule, r.Score)
			}
		}
	})
	t.Run("time limit", func(t *testing.T) {
		r := run(t, "spamassassin", c, realInput(mail.InputLMTP, "X-Test-Slow: 1\r\n"+realMails()["ham"]))
		if FailureWord(r.Err) != FailedTimeLimit || r.Score != nil || !unchecked(r) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("slower than we wait", func(t *testing.T) {
		r := run(t, "spamassassin", spamassassin(t, time.Second, "tcp:"+p.address), realInput(mail.InputLMTP, "X-Test-Slow: 1\r\n"+realMails()["ham"]))
		if FailureWord(r.Err) != FailedTimeout || r.Score != nil || !unchecked(r) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("away and back", func(t *testing.T) {
		c := spamassassin(t, time.Minute, "tcp:"+p.address)
		p.stop()
		if r := run(t, "spamassassin", c, realInput(mail.InputLMTP, received+realMails()["ham"])); FailureWord(r.Err) != FailedConnect || !unchecked(r) {
			t.Errorf("%+v", r)
		}
		p.start()
		if r := run(t, "spamassassin", c, realInput(mail.InputLMTP, received+realMails()["gtube"])); r.Err != nil || r.Score == nil || r.Score.Value < 900 {
			t.Errorf("%+v", r)
		}
	})
}

// rspamdRules are rules for the tests: one that waits for a server that says
// nothing, one that says that it failed, one that checks what it was told.
const rspamdRules = `
local tcp = require "rspamd_tcp"
rspamd_config:register_symbol({ name = 'TEST_HANG', score = 0.0, callback = function(task)
  local port = task:get_header('X-Test-Hang')
  if port then
    tcp.request({ task = task, host = '127.0.0.1', port = tonumber(port), timeout = 60.0, data = {'x'}, callback = function() end })
  end
end })
rspamd_config:register_symbol({ name = 'TEST_FAIL', score = 0.0, callback = function(task) return task:get_header('X-Test-Fail') ~= nil, 1.0 end })
rspamd_config:register_symbol({ name = 'TEST_TOLD', score = 1.125, callback = function(task)
  local function is(header, want) local v = task:get_request_header(header); return v and tostring(v) == want end
  local from, rcpt = task:get_from('smtp'), task:get_recipients('smtp')
  return from and from[1].addr == 'sender@env.test' and rcpt and #rcpt == 1 and rcpt[1].addr == 'xxx@gmail.com'
    and tostring(task:get_from_ip()) == '91.11.190.91' and task:get_helo() == 'helo.example.net' and task:get_hostname() == 'client.example.net'
    and is('Queue-Id', '60AE113F8F9') and is('MTA-Name', 'mail.test') and is('MTA-Tag', 'ORIGINATING/INT-MTA') and task:get_user() == nil, 1.0
end })
`

// startRspamd runs a real Rspamd with the rules of the package, without DNS and
// Redis, and with a time limit of six seconds.
func startRspamd(tb testing.TB) *process {
	tb.Helper()
	dir := shortDir(tb, "rspamd")
	p := &process{tb: tb, address: freePort(tb)}
	files := map[string]string{
		"override.d/worker-normal.inc":     "bind_socket = \"" + p.address + "\";\ncount = 2;\ntask_timeout = 6s;\n",
		"override.d/worker-controller.inc": "enabled = false;\n",
		"override.d/worker-proxy.inc":      "enabled = false;\n",
		"override.d/worker-fuzzy.inc":      "enabled = false;\n",
		"override.d/logging.inc":           "type = \"console\";\nlevel = \"notice\";\n",
		"override.d/options.inc": "task_timeout = 6s;\nmax_message = 1048576;\ndisable_hyperscan = true;\nurl_tld = \"" + dir + "/tld\";\nlocal_addrs = [];\n" +
			"dns { nameserver = [\"127.0.0.1:9\"]; timeout = 0.02s; retransmits = 1; }\n",
		"local.d/settings.conf": "out { id = \"internal\"; apply { actions { reject = 1.0; \"add header\" = 0.9; } } }\n" +
			"re { id = \"rewriting\"; apply { subject = \"*** %s\"; actions { reject = 100.0; \"add header\" = 90.0; \"rewrite subject\" = 0.9; } } }\n",
		"rspamd.local.lua": rspamdRules,
		"tld":              "com\nnet\norg\ninfo\ntest\nde\n",
		"run/x":            "", "log/x": "", "db/x": "", "maps.d/x": "",
	}
	// without an answer of the DNS they do not say the same twice
	for _, module := range []string{"rbl", "asn", "hfilter", "spf", "dkim", "arc", "dmarc", "mx_check", "rspamd_update"} {
		files["override.d/"+module+".conf"] = "enabled = false;\n"
	}
	writeFiles(tb, dir, files)
	p.account = account(tb, "_rspamd", dir)
	p.args = []string{tool(tb, "rspamd"), "-f", "-c", "/etc/rspamd/rspamd.conf"}
	for name, value := range map[string]string{"LOCAL_CONFDIR": dir, "RUNDIR": dir + "/run", "LOGDIR": dir + "/log", "DBDIR": dir + "/db"} {
		p.args = append(p.args, "--var="+name+"="+value)
	}
	tb.Cleanup(p.stop)
	p.start()
	return p
}

// TestRealRspamd: the score is that of rspamc, to three decimals, with its
// symbols; half of an answer is none, whatever Rspamd calls it.
func TestRealRspamd(t *testing.T) {
	t.Parallel()
	p := startRspamd(t)
	options := rspamdOptions("http://127.0.0.1:1", "http://"+p.address)
	options.TimeLimit = 5900 * time.Millisecond
	c := newCheck(t, options)
	for name, text := range realMails() {
		message := received + text
		r := run(t, "rspamd", c, realInput(mail.InputLMTP, message))
		if r.Err != nil || r.Score == nil {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		if _, ok := points(r.Score, "TEST_TOLD"); !ok && name != "gtube" {
			t.Errorf("%s: something was not told: %+v", name, r.Score.Tests)
		}
		cmd := exec.CommandContext(t.Context(), tool(t, "rspamc"), "--connect="+p.address, "--json", "--compact", "--from=sender@env.test", "--rcpt=xxx@gmail.com",
			"--ip=91.11.190.91", "--helo=helo.example.net", "--hostname=client.example.net", "--header=Queue-Id=60AE113F8F9", "--header=MTA-Name=mail.test", "--header=MTA-Tag=ORIGINATING/INT-MTA", "symbols")
		cmd.Stdin = strings.NewReader(message)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var said struct {
			Score   float64
			Action  string
			Symbols map[string]struct{ Score float64 }
		}
		if err := json.Unmarshal(bytes.TrimSpace(out), &said); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if thousandths(said.Score) != r.Score.Value || len(said.Symbols) != len(r.Score.Tests) {
			t.Errorf("%s: score %v of %d symbols; rspamc %v of %d\n%+v\n%s", name, r.Score.Value, len(r.Score.Tests), said.Score, len(said.Symbols), r.Score.Tests, out)
		}
		for symbol, s := range said.Symbols {
			if got, ok := points(r.Score, symbol); !ok || got != thousandths(s.Score) {
				t.Errorf("%s: %s is %v, rspamc says %v", name, symbol, got, s.Score)
			}
		}
		var want mail.Category
		switch said.Action {
		case "reject":
			want = mail.Spam
		case "add header", "rewrite subject":
			want = mail.Spammy
		}
		if name == "gtube" && want != mail.Spam || (len(r.Findings) == 1) != (want != 0) || want != 0 && r.Findings[0].Category != want {
			t.Errorf("%s: rspamc says %s, findings %+v", name, said.Action, r.Findings)
		}
	}

	t.Run("a rule hangs", func(t *testing.T) {
		silent := newFakeEngine(t, "tcp", func(conn net.Conn) { say(conn, hang) })
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(silent.address, "tcp:"))
		r := run(t, "rspamd", c, realInput(mail.InputLMTP, "X-Test-Hang: "+port+"\r\n"+received+realMails()["ham"]))
		if FailureWord(r.Err) != FailedTimeLimit || r.Score != nil || !unchecked(r) || silent.asked.Load() == 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a scanner of Rspamd fails", func(t *testing.T) {
		r := run(t, "rspamd", c, realInput(mail.InputLMTP, "X-Test-Fail: 1\r\n"+received+realMails()["ham"]))
		if FailureWord(r.Err) != FailedSymbol || r.Score == nil || !unchecked(r) || !strings.Contains(r.Err.Error(), "TEST_FAIL") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("settings of a bank", func(t *testing.T) {
		o := *options
		o.SettingsID = map[string]string{"ORIGINATING": "unheard-of", "INT-MTA": "internal"}
		r := run(t, "rspamd", newCheck(t, &o), realInput(mail.InputLMTP, received+realMails()["ham"]))
		if r.Err != nil || len(r.Findings) != 1 || r.Findings[0].Category != mail.Spam {
			t.Errorf("%+v", r)
		}
	})
	t.Run("another subject", func(t *testing.T) {
		o := *options
		o.SettingsID = map[string]string{"ORIGINATING": "rewriting"}
		r := run(t, "rspamd", newCheck(t, &o), realInput(mail.InputLMTP, received+realMails()["ham"]))
		if r.Err != nil || len(r.Findings) != 1 || r.Findings[0].Category != mail.Spammy || r.Score.SubjectPrefix == "" {
			t.Errorf("%+v %+v", r, r.Score)
		}
		t.Log(r.Score.SubjectPrefix)
	})
	t.Run("probed", func(t *testing.T) {
		for id, want := range map[string]string{"internal": "", "unheard-of": `scores mail with Settings-ID "unheard-of" as without: does Rspamd know it?`} {
			o := *options
			o.SettingsID = map[string]string{"INT-MTA": "internal", "ORIGINATING": id}
			said, _, err := Probe(t.Context(), Named{Name: "rspamd", Check: newCheck(t, &o), Categories: []mail.Category{mail.Spam, mail.Spammy}}, "mail.test")
			if want == "" && (err != nil || said != "found GTUBE") || want != "" && (err == nil || err.Error() != want) {
				t.Errorf("%s: %q, %v", id, said, err)
			}
		}
	})
	t.Run("too large for it", func(t *testing.T) {
		o := *options
		o.MaxSize = 1 << 30
		message := received + realMails()["ham"] + strings.Repeat("0123456789abcde\r\n", 2<<20/17)
		r := run(t, "rspamd", newCheck(t, &o), realInput(mail.InputLMTP, message))
		if r.Err == nil || r.Score != nil || !unchecked(r) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("away and back", func(t *testing.T) {
		o := *options
		o.URL = []string{"http://" + p.address}
		c := newCheck(t, &o)
		p.stop()
		if r := run(t, "rspamd", c, realInput(mail.InputLMTP, received+realMails()["ham"])); FailureWord(r.Err) != FailedConnect || !unchecked(r) {
			t.Errorf("%+v", r)
		}
		p.start()
		if r := run(t, "rspamd", c, realInput(mail.InputLMTP, received+realMails()["gtube"])); r.Err != nil || len(r.Findings) != 1 || r.Findings[0].Category != mail.Spam {
			t.Errorf("%+v", r)
		}
	})
}

// TestRealClamdVersion: its signatures are ours, so it has no date for them.
func TestRealClamdVersion(t *testing.T) {
	t.Parallel()
	unix, tcp := startClamd(t)
	got, err := clamav(t, time.Minute, unix, tcp).Signatures(t.Context())
	if err != nil || len(got) != 2 || !strings.HasPrefix(got[0].Version, "ClamAV ") || fmt.Sprint(got[1].Server) != tcp || !got[0].Date.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// startICAP runs a real c-icap whose service asks the clamd at that host and
// port.
func startICAP(tb testing.TB, clamd string) *process {
	tb.Helper()
	dir := shortDir(tb, "c-icap")
	p := &process{tb: tb, address: freePort(tb)}
	modules, err := filepath.Glob("/usr/lib/*/c_icap")
	if err != nil || len(modules) != 1 {
		tb.Fatalf("no modules of c-icap: %v %v", modules, err)
	}
	_, port, _ := net.SplitHostPort(p.address)
	clamdHost, clamdPort, _ := net.SplitHostPort(clamd)
	writeFiles(tb, dir, map[string]string{
		"tmp/x": "",
		"c-icap.conf": "PidFile " + dir + "/pid\nCommandsSocket " + dir + "/ctl\nPort 127.0.0.1:" + port + "\nTmpDir " + dir + "/tmp\nServerLog " + dir + "/server.log\nAccessLog " + dir + "/access.log\n" +
			"StartServers 1\nMaxServers 2\nThreadsPerChild 5\nServicesDir " + modules[0] + "\nModulesDir " + modules[0] + "\nTemplateDir /usr/share/c_icap/templates/\nLoadMagicFile /etc/c-icap/c-icap.magic\n" +
			"Module common clamd_mod.so\nclamd_mod.ClamdHost " + clamdHost + "\nclamd_mod.ClamdPort " + clamdPort + "\n" +
			"Service antivirus_module virus_scan.so\nServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple\n" +
			"virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE\nvirus_scan.DefaultEngine clamd\nvirus_scan.MaxObjectSize 1M\n",
	})
	p.account = account(tb, "c-icap", dir)
	p.args = []string{tool(tb, "c-icap"), "-N", "-f", dir + "/c-icap.conf"}
	tb.Cleanup(p.stop)
	p.start()
	return p
}

// TestRealICAP: a virus is found where it stands, nothing in clean mail, and what
// the scanner does not look at is not clean.
func TestRealICAP(t *testing.T) {
	t.Parallel()
	_, tcp := startClamd(t)
	// clamd can be taken away
	way, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	go func() {
		for {
			near, err := way.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(tcp, "tcp:"))
			if err != nil {
				near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); _ = far.(*net.TCPConn).CloseWrite() }()
			go func() { _, _ = io.Copy(near, far); near.Close(); far.Close() }()
		}
	}()
	p := startICAP(t, way.Addr().String())
	o := &ICAPOptions{URL: []string{"icap://" + p.address + "/avscan"}, Timeout: time.Minute, MaxSize: 1 << 20}
	c := newCheck(t, o)
	mails := realMails()
	virus := strings.TrimSuffix(mails["ham"], "\r\n") + "\r\n" + eicar + "\r\n"
	part := &mail.Part{Place: "1", Data: []byte(eicar)}
	for _, tt := range []struct {
		name, message string
		part          *mail.Part
		want          string
	}{
		{"ham", mails["ham"], nil, "[]"},
		{"virus", virus, nil, "[INFECTED Eicar-Signature.UNOFFICIAL]"},
		{"virus in a part", mails["ham"], part, "[INFECTED Eicar-Signature.UNOFFICIAL]"},
		{"too large", mails["ham"] + strings.Repeat("0123456789abcde\r\n", 2<<20/17), nil, "[UNCHECKED ]"},
		{"virus beside what is too large", mails["ham"] + strings.Repeat("0123456789abcde\r\n", 2<<20/17), part, "[INFECTED Eicar-Signature.UNOFFICIAL UNCHECKED ]"},
	} {
		in := realInput(mail.InputLMTP, tt.message)
		in.Parts = tt.part
		r := run(t, "icap", c, in)
		var got []string
		for _, f := range r.Findings {
			got = append(got, f.Category.String()+" "+f.Name)
		}
		if fmt.Sprint(got) != tt.want || r.Err != nil || r.Scanned == strings.Contains(tt.want, "UNCHECKED") {
			t.Errorf("%s: %v, %v, scanned %v\n%s", tt.name, got, r.Err, r.Scanned, &p.out)
		}
	}
	way.Close()
	if r := run(t, "icap", c, realInput(mail.InputLMTP, virus)); !unchecked(r) || r.Scanned {
		t.Errorf("clamd is gone: %+v\n", r)
	}
	p.stop()
	if r := run(t, "icap", c, realInput(mail.InputLMTP, mails["ham"])); FailureWord(r.Err) != FailedConnect || !unchecked(r) {
		t.Errorf("%+v", r)
	}
	p.start() // without clamd
	if r := run(t, "icap", c, realInput(mail.InputLMTP, virus)); !unchecked(r) || r.Scanned {
		t.Errorf("c-icap has no scanner: %+v", r)
	}
}
