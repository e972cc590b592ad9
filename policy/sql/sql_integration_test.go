//go:build integration

package sql_test

// The real servers: PostgreSQL and MariaDB of Debian, each with the tables of
// Amavis, in a folder and on a port of their own.

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"postern/filter"
	"postern/filter/mail"
	"postern/policy"
	"postern/policy/sql"
)

// neighbour is a server that the test owns.
type neighbour struct {
	name, driver string
	dir          string
	command      []string // runs it in the foreground
	dsn          string   // of the administrator
	address      string   // of the filter, as in lookups.sql.dsn
	account      string   // that it runs as where the test is root
	kill         syscall.Signal
	schema       string

	process *exec.Cmd
}

// needs finds a program, and fails without it: a test that is left out shows
// nothing.
func needs(t *testing.T, patterns ...string) string {
	t.Helper()
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Fatalf("none of %q is installed", patterns)
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// as makes a command run in the server's account, since neither server likes root.
func (n *neighbour) as(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = n.dir
	if os.Getuid() != 0 {
		return cmd
	}
	u, err := user.Lookup(n.account)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(n.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd
}

func (n *neighbour) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := n.as(t, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// start runs the server until the end of the test, or stop.
func (n *neighbour) start(t *testing.T) {
	t.Helper()
	var last error
	for range 100 {
		if n.process == nil {
			n.process = n.as(t, n.command...)
			log, err := os.OpenFile(filepath.Join(n.dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			n.process.Stdout, n.process.Stderr = log, log
			if err := errors.Join(n.process.Start(), log.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if last = n.exec(t, "SELECT 1"); last == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	out, _ := os.ReadFile(filepath.Join(n.dir, "out"))
	t.Fatalf("%s does not start: %v\n%s", n.name, last, out)
}

// stop ends the server as a fault would, without a word to its clients.
func (n *neighbour) stop() {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Signal(n.kill)
	_ = n.process.Wait()
	n.process = nil
}

// exec asks as the administrator.
func (n *neighbour) exec(t *testing.T, text string) error {
	t.Helper()
	db, err := stdsql.Open(n.driver, n.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, statement := range strings.Split(text, ";\n") {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// table is the name of a table for the administrator.
func (n *neighbour) table(name string) string {
	if n.driver == "mysql" {
		return "mail." + name
	}
	return name
}

const password = "s3cret-of-the-test"

func postgres(t *testing.T) *neighbour {
	t.Helper()
	port, bin := freePort(t), filepath.Dir(needs(t, "/usr/lib/postgresql/*/bin/initdb"))
	n := &neighbour{name: "postgresql", driver: "pgx", dir: folder(t), account: "postgres", kill: syscall.SIGQUIT}
	data := filepath.Join(n.dir, "data")
	n.run(t, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
	hba := "local all postgres trust\nhost all postern 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
		t.Fatal(err)
	}
	n.command = []string{filepath.Join(bin, "postgres"), "-D", data, "-k", n.dir, "-h", "127.0.0.1", "-p", port, "-c", "fsync=off"}
	n.dsn = "host=" + n.dir + " port=" + port + " user=postgres dbname=postgres sslmode=disable"
	n.address = "postgres://postern:" + password + "@127.0.0.1:" + port + "/postgres?sslmode=disable"
	n.schema = `CREATE ROLE postern LOGIN PASSWORD '` + password + `';
CREATE TABLE policy (id serial PRIMARY KEY, policy_name varchar(32), virus_lover char(1), spam_lover char(1), bypass_spam_checks char(1), spam_tag_level real, spam_tag2_level real, spam_kill_level real, spam_subject_tag2 varchar(64), virus_admin varchar(64), message_size_limit integer);
CREATE TABLE users (id serial PRIMARY KEY, priority integer NOT NULL DEFAULT 7, policy_id integer NOT NULL DEFAULT 1, email bytea NOT NULL UNIQUE, fullname varchar(255), local char(1));
CREATE TABLE mailaddr (id serial PRIMARY KEY, priority integer NOT NULL DEFAULT 7, email bytea NOT NULL UNIQUE);
CREATE TABLE wblist (rid integer NOT NULL, sid integer NOT NULL, wb varchar(10) NOT NULL, PRIMARY KEY (rid, sid));
GRANT SELECT ON users, policy, mailaddr, wblist TO postern;
` + rows
	return n
}

func mariadb(t *testing.T) *neighbour {
	t.Helper()
	port := freePort(t)
	n := &neighbour{name: "mariadb", driver: "mysql", dir: folder(t), account: "mysql", kill: syscall.SIGKILL}
	data, socket := filepath.Join(n.dir, "data"), filepath.Join(n.dir, "s")
	n.run(t, needs(t, "/usr/bin/mariadb-install-db"), "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	n.command = []string{needs(t, "/usr/sbin/mariadbd"), "--no-defaults", "--datadir=" + data, "--socket=" + socket, "--pid-file=" + filepath.Join(n.dir, "pid"),
		"--bind-address=127.0.0.1", "--port=" + port, "--innodb-buffer-pool-size=16M"}
	n.dsn = "root@unix(" + socket + ")/mysql"
	n.address = "postern:" + password + "@tcp(127.0.0.1:" + port + ")/mail"
	n.schema = `CREATE DATABASE mail;
CREATE USER postern@127.0.0.1 IDENTIFIED BY '` + password + `';
GRANT SELECT ON mail.* TO postern@127.0.0.1;
CREATE TABLE mail.policy (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, policy_name varchar(32), virus_lover char(1), spam_lover char(1), bypass_spam_checks char(1), spam_tag_level float, spam_tag2_level float, spam_kill_level float, spam_subject_tag2 varchar(64), virus_admin varchar(64), message_size_limit integer);
CREATE TABLE mail.users (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, priority integer NOT NULL DEFAULT 7, policy_id integer unsigned NOT NULL DEFAULT 1, email varbinary(255) NOT NULL UNIQUE, fullname varchar(255), local char(1));
CREATE TABLE mail.mailaddr (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, priority integer NOT NULL DEFAULT 7, email varbinary(255) NOT NULL UNIQUE);
CREATE TABLE mail.wblist (rid integer unsigned NOT NULL, sid integer unsigned NOT NULL, wb varchar(10) NOT NULL, PRIMARY KEY (rid, sid));
` + strings.ReplaceAll(rows, "INTO ", "INTO mail.")
	return n
}

const rows = `INSERT INTO policy (id, spam_lover, spam_kill_level, spam_subject_tag2, message_size_limit) VALUES (1, 'N', 9.31, '[ann] ', 1000);
INSERT INTO policy (id, spam_lover, virus_lover, spam_kill_level, spam_tag2_level, virus_admin) VALUES (2, 'Y', ' ', 20, 6.3, 'admin@ours.test');
INSERT INTO policy (id, bypass_spam_checks) VALUES (3, 'Y');
INSERT INTO users (id, priority, policy_id, email, local) VALUES (1, 9, 1, 'ann@ours.test', 'Y');
INSERT INTO users (id, priority, policy_id, email) VALUES (2, 5, 2, '@ours.test');
INSERT INTO users (id, priority, policy_id, email, local) VALUES (3, 0, 3, '@.far.test', 'N');
INSERT INTO users (id, priority, policy_id, email) VALUES (4, 6, 99, 'nopolicy@ours.test');
INSERT INTO mailaddr (id, priority, email) VALUES (1, 9, 'boss@else.test');
INSERT INTO mailaddr (id, priority, email) VALUES (2, 5, '@else.test');
INSERT INTO mailaddr (id, priority, email) VALUES (3, 0, '@.');
INSERT INTO wblist VALUES (1, 1, 'W');
INSERT INTO wblist VALUES (1, 2, 'B');
INSERT INTO wblist VALUES (2, 3, '1.5')`

func folder(t *testing.T) string {
	t.Helper()
	// not below that of the test, where only root may look
	dir, err := os.MkdirTemp("", "postern-sql-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// taking is a next hop that takes everything.
type taking struct{}

func (taking) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	out := make([]mail.Receipt, len(o.Rcpts))
	for i := range out {
		out[i] = mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 0, 0, "Ok")}
	}
	return out
}

// lockedLog is what the program logs.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// filterOf is a filter that asks the server.
func filterOf(t *testing.T, n *neighbour, log *lockedLog, lookups, settings string) *filter.Filter {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "dsn"), []byte(n.address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := policy.Parse(filepath.Join(n.dir, "postern.yaml"), []byte(`hostname: mail.ours.test
local_domains: [ours.test, far.test]
settings: {`+settings+`}
lookups: {sql: {type: `+n.name+`, dsn: "file:dsn", `+lookups+`}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := sql.OptionsOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	src, err := sql.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	logger := slog.New(slog.NewTextHandler(log, nil))
	cfg.AddLookup(src.For(cfg, logger))
	return &filter.Filter{Policy: cfg, Relay: func(mail.NextHop) mail.Transport { return taking{} }, Log: logger}
}

func message(to mail.Address) *mail.Transaction {
	return &mail.Transaction{
		ID: "1", Input: mail.InputLMTP, Listener: "127.0.0.1:10024", From: "x@news.test", Rcpts: []mail.Recipient{{Address: to}},
		Message: mail.NewMessage([]byte("From: x@news.test\r\nDate: Mon, 9 Aug 2021 09:36:36 +0200\r\n\r\n")),
	}
}

// class is the first digit of the answer to a mail.
func class(t *testing.T, f *filter.Filter, to mail.Address) int {
	return f.Process(t.Context(), message(to))[0].Class()
}

// until asks again and again until the answer is as wanted.
func until(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for range 300 {
		if ask() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: not within half a minute", what)
}

func TestServers(t *testing.T) {
	for _, make := range []func(*testing.T) *neighbour{postgres, mariadb} {
		n := make(t)
		t.Run(n.name, func(t *testing.T) {
			t.Cleanup(n.stop)
			n.start(t)
			if err := n.exec(t, n.schema); err != nil {
				t.Fatal(err)
			}
			t.Run("answers", func(t *testing.T) { answers(t, n) })
			t.Run("killed under load", func(t *testing.T) { killed(t, n) })
		})
	}
}

// answers compares what the tables say with what holds.
func answers(t *testing.T, n *neighbour) {
	log := &lockedLog{}
	f := filterOf(t, n, log, "cache_for: 1h", "")
	sel, err := f.Policy.Select(t.Context(), policy.Request{
		Listener: "127.0.0.1:10024", From: "x@else.test", Senders: []policy.Sender{{Address: "x@else.test", What: "sender"}},
		Rcpts: []mail.Address{"Ann+lists@ours.test", "bob@ours.test", "x@sub.far.test", "nopolicy@ours.test", "x@nobody.test", `"'; DROP TABLE users; --"@ours.test`, "\xff\\'@ours.test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ann, bob, far, nopolicy, nobody := sel.Rcpts[0], sel.Rcpts[1], sel.Rcpts[2], sel.Rcpts[3], sel.Rcpts[4]
	if s := ann.Settings.Spam; s.Lover || s.KillLevel != 9.31 || s.Tag2Level != 6.3 || s.SubjectTag != "[ann] " || ann.Settings.Virus.Admin != "admin@ours.test" || !ann.Local {
		t.Errorf("ann: %+v", s)
	}
	if s := bob.Settings; !s.Spam.Lover || s.Virus.Lover || s.Spam.KillLevel != 20 || s.Spam.SubjectTag != "***SPAM*** " {
		t.Errorf("bob: %+v", s.Spam)
	}
	if far.Local || !far.Settings.Spam.Bypass || nobody.Settings.Spam.Bypass || nobody.Settings.Spam.KillLevel != 6.31 {
		t.Errorf("far: %+v, nobody: %+v", far, nobody)
	}
	if s := nopolicy.Settings; !s.Spam.Lover || s.Origin("spam.lover").Bank != "sql users[2] policy[2]" {
		t.Errorf("a user without a policy: %+v from %s", s.Spam.Lover, s.Origin("spam.lover"))
	}
	verdicts := policy.Decide(sel, nil, nil)
	if v := verdicts[0]; !v.Listed.Black() || v.Destiny != policy.Reject || !strings.Contains(strings.Join(v.Reasons, " "), "blacklisted, sql wblist of users[1]") {
		t.Errorf("ann: %+v", v)
	}
	if v := verdicts[1]; v.Score == nil || v.Score.Value != 1.5 {
		t.Errorf("bob: %+v", v)
	}
	for i, proof := range []string{"", "SPF"} {
		sel.Senders = []policy.Sender{{Address: "Boss@else.test", What: "sender", Proof: proof}}
		if v := policy.Decide(sel, nil, &mail.Score{Value: 100})[0]; v.Listed.White() != (i == 1) {
			t.Errorf("proof %q: %+v", proof, v.Listed)
		}
	}
	o, err := sql.OptionsOf(f.Policy)
	if err != nil {
		t.Fatal(err)
	}
	src, err := sql.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	said, err := src.Probe(t.Context(), "ann@ours.test", f.Policy.IsLocal)
	if want := "answers, rows for <ann@ours.test>: 2, senders: 2"; said != want || err != nil {
		t.Errorf("probe: %q, %v", said, err)
	}
	if err := n.exec(t, "SELECT id FROM "+n.table("users")); err != nil || strings.Contains(log.String(), password) {
		t.Errorf("%v\n%s", err, log)
	}
	wrong := filterOf(t, n, log, "select_policy: 'SELECT nothing FROM users WHERE email IN (%k)'", "")
	if got := class(t, wrong, "ann@ours.test"); got != 4 || !strings.Contains(log.String(), "refuses a question") {
		t.Errorf("a question that the server refuses: %dxx", got)
	}
	if n.name == "mariadb" {
		suite(t, n)
	}
}

// suite asks the tables of another shape that a mail suite has (ISPConfig).
func suite(t *testing.T, n *neighbour) {
	if err := n.exec(t, `CREATE TABLE mail.spamfilter_policy (id int unsigned PRIMARY KEY, spam_lover enum('N','Y'), spam_tag2_level decimal(5,2), spam_kill_level decimal(5,2));
CREATE TABLE mail.spamfilter_users (id int unsigned PRIMARY KEY, priority tinyint unsigned, policy_id int unsigned, email varchar(255) CHARACTER SET latin1, local varchar(1));
CREATE TABLE mail.spamfilter_wblist (wblist_id int unsigned PRIMARY KEY, wb enum('W','B'), rid int unsigned, email varchar(255), priority tinyint unsigned, active enum('y','n'));
INSERT INTO mail.spamfilter_policy VALUES (5, 'Y', 4.5, 50);
INSERT INTO mail.spamfilter_users VALUES (11, 5, 5, '@ours.test', 'Y');
INSERT INTO mail.spamfilter_wblist VALUES (1, 'B', 11, '@bad.test', 5, 'y'), (2, 'W', 11, 'friend@bad.test', 9, 'y'), (3, 'B', 11, '@.', 9, 'n')`); err != nil {
		t.Fatal(err)
	}
	f := filterOf(t, n, &lockedLog{}, `select_policy: "SELECT *, spamfilter_users.id FROM spamfilter_users LEFT JOIN spamfilter_policy ON spamfilter_users.policy_id = spamfilter_policy.id WHERE spamfilter_users.email IN (%k) ORDER BY spamfilter_users.priority DESC",
  select_senders: "SELECT email, wb FROM spamfilter_wblist WHERE rid = ? AND active = 'y' ORDER BY priority DESC"`, "")
	// the server does not compare this with the encoding of the column, but that
	// is no reason to leave it alone
	if _, err := f.Policy.Select(t.Context(), policy.Request{Rcpts: []mail.Address{"b\U0001f600b@ours.test"}}); err == nil || !strings.Contains(err.Error(), "collations") {
		t.Errorf("an address that the server refuses: %v", err)
	}
	sel, err := f.Policy.Select(t.Context(), policy.Request{Rcpts: []mail.Address{"bob@ours.test"}})
	if err != nil {
		t.Fatal(err)
	}
	s := sel.Rcpts[0].Settings.Spam
	var list []string
	for _, r := range s.SenderList {
		list = append(list, r.String())
	}
	if got := strings.Join(list, " "); !s.Lover || s.Tag2Level != 4.5 || s.KillLevel != 50 ||
		got != `{match: ["friend@bad.test"], as: whitelisted, verified: true} {match: ["bad.test"], as: blacklisted, verified: false}` {
		t.Errorf("%+v", s)
	}
}

// killed takes the server away from under the mail and gives it back. Nothing is
// lost: while it is away the last answers hold, then on_error does, and nobody
// has to start the filter again.
func killed(t *testing.T, n *neighbour) {
	log := &lockedLog{}
	stale := filterOf(t, n, log, "cache_for: 1ms, stale_for: 1h, timeout: 1s", "")
	soon := filterOf(t, n, log, "cache_for: 1ms, stale_for: 1s, timeout: 1s", "")
	pass := filterOf(t, n, log, "cache_for: 1ms, stale_for: 0, timeout: 1s", "on_error: pass")
	for _, f := range []*filter.Filter{stale, soon, pass} {
		if got := class(t, f, "ann@ours.test"); got != 2 {
			t.Fatalf("before: %dxx", got)
		}
	}
	var sent, refused atomic.Int64
	ctx, end := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if class(t, stale, "ann@ours.test") == 2 {
					sent.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	more := func(what string, mails int64) {
		t.Helper()
		want := sent.Load() + mails
		until(t, what, func() bool { return sent.Load() >= want })
	}
	more("mail before", 200)
	if n.name == "mariadb" { // one process, which hangs as a whole
		if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		more("mail while the server hangs", 2000)
		if got := class(t, stale, "never@ours.test"); got != 4 {
			t.Errorf("the server hangs, and a recipient of whom nothing is known gets %dxx", got)
		}
		if err := n.process.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until(t, "it goes on", func() bool { return class(t, stale, "another@ours.test") == 2 })
	}
	n.stop()
	more("mail from stale answers", 2000)
	if got := class(t, stale, "never@ours.test"); got != 4 {
		t.Errorf("a recipient of whom nothing is known: %dxx", got)
	}
	until(t, "451 after stale_for", func() bool { return class(t, soon, "ann@ours.test") == 4 })
	sel, err := pass.Policy.Select(t.Context(), policy.Request{Rcpts: []mail.Address{"ann@ours.test"}})
	if err != nil || sel.Failed == nil || sel.Rcpts[0].Settings.Spam.KillLevel != 6.31 || class(t, pass, "ann@ours.test") != 2 {
		t.Errorf("on_error: pass: %v", err)
	}
	n.start(t)
	if err := n.exec(t, "UPDATE "+n.table("policy")+" SET spam_kill_level = 11 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	until(t, "451 ends", func() bool { return class(t, soon, "ann@ours.test") == 2 })
	until(t, "never asked about before", func() bool { return class(t, stale, "never@ours.test") == 2 })
	defer func() {
		if t.Failed() {
			l := log.String()
			t.Logf("%d mails, %d refused; the log ends\n%s", sent.Load(), refused.Load(), l[max(0, len(l)-3000):])
		}
	}()
	until(t, "a fresh answer", func() bool {
		sel, err := stale.Policy.Select(t.Context(), policy.Request{Rcpts: []mail.Address{"ann@ours.test"}})
		return err == nil && sel.Rcpts[0].Settings.Spam.KillLevel == 11
	})
	end()
	load.Wait()
	t.Logf("%d mails, %d refused", sent.Load(), refused.Load())
	if refused.Load() > 0 {
		t.Errorf("%d mails were refused although there was an answer", refused.Load())
	}
	for _, want := range []string{"does not answer, the last answers are used", "answers again", "older than stale_for 1s", "no earlier answer", "on_error: pass"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%.3000s", want, log)
		}
	}
	if strings.Contains(log.String(), password) {
		t.Error("the log has the password")
	}
}
