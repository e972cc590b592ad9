//go:build integration

// Package integration runs Postern between its real neighbours: a private
// Postfix that is set up with the files of deploy/postfix, and a private clamd.
// Everything lives in a folder of the test and on free loopback ports. Root is
// needed, for Postfix; a missing program fails the tests.
package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// site is one mail server: Postfix, Postern, clamd, and the world around it.
type site struct {
	t   *testing.T
	dir string

	submission, mx     string // Postfix' services for own users and for the world
	gate               string // the same for the world, with Postern before the queue
	milter             string // Postern's milter
	feedOwn, feedOther string // Postern: 10023 and 10024
	dns                string // the DNS that Postern asks
	reinject           string // Postfix: 10025
	world, mailboxes   *sink  // where mail to remote and to local domains ends
	worldAt, boxesAt   string
	clamdSocket        string
	addition
	clamd, postern *exec.Cmd
}

// newSite starts everything. settings is a YAML mapping for Postern's base
// bank, for example "virus: {destiny: reject}".
func newSite(t *testing.T, settings string) *site {
	t.Helper()
	return newSiteWith(t, settings, addition{})
}

// addition is what a site has besides the usual.
type addition struct {
	listeners string      // of Postern, in YAML
	engines   string      // of Postern besides clamav, in YAML
	banks     string      // the same
	config    string      // other keys of its configuration
	records   records     // in the DNS that it asks
	otherDNS  string      // the address of another one
	services  string      // of Postfix, in master.cf
	set       func(*site) // called when Postfix is set up and does not run yet
}

// newSiteWith is newSite with something added.
func newSiteWith(t *testing.T, settings string, more addition) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	s := &site{t: t, dir: t.TempDir(), addition: more}
	// users clamav and postfix must get to their files
	for d := s.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		s.must(os.Chmod(d, 0o755))
	}
	ports := freePorts(t, 9)
	s.submission, s.mx, s.feedOwn, s.feedOther, s.reinject, s.worldAt, s.boxesAt = ports[0], ports[1], ports[2], ports[3], ports[4], ports[5], ports[6]
	s.gate, s.milter = ports[7], ports[8]
	s.world = startSink(t, s.worldAt, false)
	s.mailboxes = startSink(t, s.boxesAt, true)
	if s.dns = s.otherDNS; s.dns == "" {
		s.dns = startDNS(t, s.records)
	}
	s.startClamd()
	s.startPostern(settings)
	s.startPostfix()
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(name, text string, mode os.FileMode) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(text), mode))
	return path
}

// freePorts returns loopback addresses that nobody uses. They are below the
// range from which the system takes the ports of connections: such a one could
// be taken before Postfix comes to it.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		// all are held until the last is found
		defer l.Close()
		if out = append(out, l.Addr().String()); len(out) == n {
			return out
		}
	}
	t.Fatalf("only %d of %d ports are free", len(out), n)
	return nil
}

const patience = 60 * time.Second

// eventually looks until ok is true. The neighbours are other programs: there
// is nothing else to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not after %v: %s", patience, what)
		}
	}
}

func listens(network, addr string) func() bool {
	return func() bool {
		conn, err := net.DialTimeout(network, addr, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
}

// program returns the path of a program that Debian keeps in /usr/sbin.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	t.Fatalf("%s is not installed", name)
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// run runs a program to its end and returns its output.
func run(t *testing.T, stdin []byte, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// start starts a program that stays, with its output in log.
func (s *site) start(cmd *exec.Cmd, log string) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, log), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	s.must(err)
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		if s.t.Failed() {
			text, _ := os.ReadFile(f.Name())
			s.t.Logf("%s:\n%s", log, text)
		}
	})
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// eicar is put together here so that this file is not taken for a virus.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// startClamd starts clamd with one signature of ours as its database.
func (s *site) startClamd() {
	s.t.Helper()
	u, err := user.Lookup("clamav")
	s.must(err)
	uid, err := strconv.Atoi(u.Uid)
	s.must(err)
	gid, err := strconv.Atoi(u.Gid)
	s.must(err)
	s.write("clamd/db/test.ndb", fmt.Sprintf("Eicar-Signature:0:*:%x\n", eicar), 0o644)
	dir := filepath.Join(s.dir, "clamd")
	s.clamdSocket = filepath.Join(dir, "socket")
	conf := s.write("clamd/clamd.conf", fmt.Sprintf("LocalSocket %s\nDatabaseDirectory %s/db\nUser clamav\nForeground true\nDisableCache true\nAlertExceedsMax true\n", s.clamdSocket, dir), 0o644)
	s.must(os.Chown(dir, uid, gid))
	s.clamd = exec.Command(program(s.t, "clamd"), "--config-file="+conf)
	s.start(s.clamd, "clamd.log")
	s.t.Cleanup(s.stopClamd)
	eventually(s.t, "clamd listens", listens("unix", s.clamdSocket))
}

func (s *site) stopClamd() { stop(s.clamd) }

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "postern-build-"); err != nil {
		panic(err)
	}
	os.Setenv("STATE_DIRECTORY", filepath.Join(buildDir, "state"))
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// posternBinary builds the program once for all tests.
var posternBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "postern")
	out, err := exec.Command("go", "build", "-o", path, "postern/cmd/postern").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

const selectorRSA, selectorEd25519 = "rsa2026", "ed2026"

func (s *site) startPostern(settings string) {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	var keys strings.Builder
	for kind, selector := range map[string]string{"rsa": selectorRSA, "ed25519": selectorEd25519} {
		run(s.t, nil, binary, "dkim", "keygen", "--domain", "example.org", "--selector", selector, "--type", kind, "--out", filepath.Join(s.dir, "dkim", kind+".pem"))
		fmt.Fprintf(&keys, "  - {domain: example.org, selector: %s, key: dkim/%s.pem}\n", selector, kind)
	}
	s.write("postern.yaml", fmt.Sprintf(`
hostname: mail.example.org
domain: example.org
local_domains: [.example.org]
listeners:
  - {protocol: lmtp, address: %q, bank: ORIGINATING}
  - {protocol: lmtp, address: %q}
  - {protocol: milter, address: %[7]q, bank: GATE}
%[8]sdns: {servers: [%[9]q]}
client_banks:
  - {networks: [192.0.2.128/25], bank: INT-MTA}
settings:
  forward_to: smtp://%[3]s
  notify_to: smtp://%[3]s
  %[4]s
banks:
  ORIGINATING: {originating: true}
  GATE: {virus: {admin: ""}}
  INT-MTA: {originating: true}
%[10]s%[11]sdkim_keys:
%[5]sengines:
  clamav: {address: "unix:%[6]s"}
%[12]s`, s.feedOwn, s.feedOther, s.reinject, settings, keys.String(), s.clamdSocket, s.milter, s.listeners, s.dns, s.banks, s.config, s.engines), 0o600)
	s.servePostern()
	s.t.Cleanup(func() { stop(s.postern) })
}

// servePostern starts the daemon.
func (s *site) servePostern() {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	s.postern = exec.Command(binary, "serve", "--config", filepath.Join(s.dir, "postern.yaml"))
	s.postern.Env = append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(s.dir, "state"))
	s.start(s.postern, "postern.log")
	eventually(s.t, "Postern listens", listens("tcp", s.milter))
}

// masterCF is what deploy/postfix expects to be there: the services for own
// users and for the world, here without login, and the inner ones.
const masterCF = `
%s inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_relay_restrictions=check_client_access,static:ok,reject
%s inet n - n - - smtpd
%s inet n - n - - smtpd
  -o syslog_name=postfix/gate
  -o content_filter=
  -o smtpd_milters=inet:%s
` + innerCF

// innerCF are the services that no client sees.
const innerCF = `
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
mailboxes unix - - n - - lmtp
  -o lmtp_line_length_limit=0
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`

const mainCF = `
compatibility_level = 3.6
config_directory = %[1]s/postfix
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mail.example.org
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.org
virtual_transport = mailboxes:inet:%[2]s
relayhost = [127.0.0.1]:%[3]s
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_authorized_xclient_hosts = 127.0.0.0/8
milter_default_action = tempfail
message_size_limit = %[4]d
`

// messageSizeLimit is message_size_limit of main.cf.
const messageSizeLimit = 200000

// startPostfix sets up a Postfix as deploy/postfix/README.md tells a
// postmaster to, and starts it.
func (s *site) startPostfix() {
	s.t.Helper()
	ports := strings.NewReplacer("127.0.0.1]:10023", "127.0.0.1]:"+port(s.feedOwn), "127.0.0.1]:10024", "127.0.0.1]:"+port(s.feedOther),
		"127.0.0.1:10025", s.reinject, "'submission/inet", "'"+s.submission+"/inet", "'smtp/inet", "'"+s.mx+"/inet")
	s.write("postfix/master.cf", fmt.Sprintf(masterCF, s.submission, s.mx, s.gate, s.milter)+s.services+ports.Replace(deployed(s.t, "master.cf")), 0o644)
	s.write("postfix/main.cf", fmt.Sprintf(mainCF, s.dir, s.boxesAt, port(s.worldAt), messageSizeLimit)+deployed(s.t, "main.cf"), 0o644)
	s.must(os.MkdirAll(filepath.Join(s.dir, "spool"), 0o755))
	data := filepath.Join(s.dir, "data")
	s.must(os.MkdirAll(data, 0o755))
	run(s.t, nil, "chown", "postfix", data)
	s.tell(ports, readmeCommands(s.t, "What to do", 3)...)
	if s.set != nil {
		s.set(s)
	}
	s.runPostfix(s.submission, s.mx, s.gate, s.reinject)
}

// tell runs postconf commands on the private Postfix, with its ports.
func (s *site) tell(ports *strings.Replacer, commands ...string) {
	s.t.Helper()
	for _, command := range commands {
		run(s.t, nil, "sh", "-e", "-c", strings.Replace(ports.Replace(command), "postconf ", "postconf -c "+filepath.Join(s.dir, "postfix")+" ", 1))
	}
}

// runPostfix starts the Postfix that has been set up, and stops it at the end.
func (s *site) runPostfix(addrs ...string) {
	s.t.Helper()
	etc := filepath.Join(s.dir, "postfix")
	postfix := program(s.t, "postfix")
	if out := run(s.t, nil, postfix, "-c", etc, "check"); out != "" {
		s.t.Errorf("postfix check: %s", out)
	}
	// unused and misspelt parameters
	if out := run(s.t, nil, "sh", "-c", "postconf -c "+etc+" -M >/dev/null 2>&1; postconf -c "+etc+" -P 2>&1 >/dev/null; postconf -c "+etc+" -n 2>&1 >/dev/null"); out != "" {
		s.t.Errorf("postconf: %s", out)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("mail.log:\n%s", s.mailLog())
		}
	})
	s.t.Cleanup(func() {
		// not bound to the test: its context is done
		if out, err := exec.Command(postfix, "-c", etc, "stop").CombinedOutput(); err != nil {
			s.t.Errorf("postfix stop: %v %s", err, out)
		}
	})
	run(s.t, nil, postfix, "-c", etc, "start")
	for _, addr := range addrs {
		eventually(s.t, "Postfix listens on "+addr, listens("tcp", addr))
	}
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// deployed returns a file of deploy/postfix.
func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "postfix", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readmeCommands returns the n commands that a section of the README tells to
// run.
func readmeCommands(t *testing.T, section string, n int) []string {
	t.Helper()
	_, text, _ := strings.Cut(deployed(t, "README.md"), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	commands := regexp.MustCompile(`(?m)^ *(postconf -[eP] '.*')$`).FindAllStringSubmatch(text, -1)
	var out []string
	for _, c := range commands {
		out = append(out, c[1])
	}
	if len(out) != n {
		t.Fatalf("the README has %d commands under %s: %q", len(out), section, out)
	}
	return out
}

func (s *site) posternLog() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "postern.log"))
	return string(text)
}

func (s *site) mailLog() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "mail.log"))
	return string(text)
}

// logged waits for a line of the mail log and returns all that match.
func (s *site) logged(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile("(?m)^.*" + pattern + ".*$")
	var found []string
	eventually(s.t, "the mail log has "+pattern, func() bool {
		found = re.FindAllString(s.mailLog(), -1)
		return len(found) > 0
	})
	return found
}

// settle waits until Postfix has nothing left in its queue. A message that
// comes back from Postern is in the queue before the first copy leaves it, so
// an empty queue means that all is done.
func (s *site) settle() {
	s.t.Helper()
	eventually(s.t, "the queue is empty", func() bool {
		return strings.Contains(run(s.t, nil, program(s.t, "postqueue"), "-c", filepath.Join(s.dir, "postfix"), "-p"), "Mail queue is empty")
	})
}

// flush makes Postfix try all deferred mail now.
func (s *site) flush() {
	s.t.Helper()
	run(s.t, nil, program(s.t, "postqueue"), "-c", filepath.Join(s.dir, "postfix"), "-f")
}
