package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/filter/observe"
	"postern/policy"
)

func newDemoCommand() *cobra.Command {
	var stay bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what the filter does, with nothing but this program",
		Long: `Start the filter with its built-in settings and a next hop of its own on free
loopback ports, send some mails through the real listener and show what became
of each.

With --listen it stays on 127.0.0.1:10023 (mail of our own people), 10024 (mail
from outside) and 10025 (the next hop) for a client of your own, and puts the
delivered mails into a folder, until it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stay {
				return exit(exitSoftware, demoListen(cmd.OutOrStdout()))
			}
			return exit(exitSoftware, demo(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().BoolVar(&stay, "listen", false, "keep running on ports 10023, 10024 and 10025")
	return cmd
}

// demoConfig is what the demo changes in the built-in configuration.
const demoConfig = `
hostname: mail.example.org
domain: example.org
local_domains: [.example.org]
listeners:
  - {protocol: lmtp, address: %q, bank: ORIGINATING}
  - {protocol: lmtp, address: %q}
settings:
  forward_to: smtp://%[3]s
  notify_to: smtp://%[3]s
  virus: {destiny: bounce, admin: postmaster@example.org}
dkim_keys:
  - {domain: example.org, selector: demo, key: demo.pem}
engines:
  builtin: {}
`

// demoMail is one mail of the demo and what must come of it.
type demoMail struct {
	what    string
	inside  bool // to the listener for our own people
	from    string
	to      []string
	subject string
	virus   bool
	want    string // actions in the log line
}

var demoMails = []demoMail{
	{"clean, from us to the world", true, "alice@example.org", []string{"bob@example.net"}, "Minutes", false, "{RelayedOutbound}"},
	{"clean, from outside", false, "bob@example.net", []string{"alice@example.org"}, "Re: Minutes", false, "{RelayedInbound}"},
	{"two recipients", true, "alice@example.org", []string{"carol@example.org", "bob@example.net"}, "Lunch", false, "{RelayedInternal,RelayedOutbound}"},
	{"test virus from one of us", true, "alice@example.org", []string{"bob@example.net"}, "Look at this", true, "{BouncedOutbound}"},
	{"test virus from a stranger", false, "eve@example.com", []string{"alice@example.org"}, "Invoice", true, "{NoBounceInbound}"},
}

// demoRun is a daemon with a next hop of its own.
type demoRun struct {
	dir     string
	daemon  *daemon
	hop     *nextHop
	hopLis  net.Listener
	inside  string
	outside string
	log     demoLog
}

// demoLog keeps the log lines.
type demoLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *demoLog) Write(_ slog.Level, _ time.Time, line string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// Close implements io.Closer.
func (l *demoLog) Close() error { return nil }

func (l *demoLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.lines
	l.lines = nil
	return out
}

// startDemo opens the three ports and starts both servers. Delivered mails go
// into the folder mails, if it is named.
func startDemo(inside, outside, hop, mails string, sink func(*demoRun) *slog.Logger) (*demoRun, error) {
	r := &demoRun{hop: newNextHop(mails)}
	var err error
	if r.dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
		return nil, err
	}
	open := map[string]net.Listener{}
	for _, a := range []*string{&inside, &outside, &hop} {
		l, err := net.Listen("tcp", *a)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(r.dir))
		}
		*a = l.Addr().String()
		open[*a] = l
	}
	r.inside, r.outside, r.hopLis = inside, outside, open[hop]
	if err := writeDemoKey(filepath.Join(r.dir, "demo.pem")); err != nil {
		return nil, err
	}
	cfg, err := policy.Parse(filepath.Join(r.dir, "demo.yaml"), fmt.Appendf(nil, demoConfig, inside, outside, hop), engines())
	if err != nil {
		return nil, err
	}
	if r.daemon, err = newDaemon(cfg, sink(r)); err != nil {
		return nil, err
	}
	go func() { _ = r.hop.serve(r.hopLis) }()
	return r, r.daemon.start(func(l policy.Listener) (net.Listener, error) { return open[l.Address], nil })
}

func (r *demoRun) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(r.daemon.stop(ctx), r.hop.close(), os.RemoveAll(r.dir))
}

func writeDemoKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func demo(out io.Writer) error {
	r, err := startDemo("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "", func(r *demoRun) *slog.Logger {
		return slog.New(observe.NewHandler(&r.log, policy.Log{}))
	})
	if err != nil {
		return err
	}
	err = demoSend(out, r)
	return errors.Join(err, r.stop())
}

// demoSend sends the mails and prints a table and the log lines.
func demoSend(out io.Writer, r *demoRun) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MAIL\tBECAME\tNEXT HOP GOT\tANSWER TO POSTFIX")
	var lines []string
	var wrong []error
	for _, m := range demoMails {
		addr := r.outside
		if m.inside {
			addr = r.inside
		}
		replies, err := sendDemoMail(addr, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		log := r.log.take()
		if len(log) != 1 || !strings.Contains(log[0], " "+m.want+",") {
			wrong = append(wrong, fmt.Errorf("%s: the log says %q, not %s", m.what, log, m.want))
		}
		lines = append(lines, log...)
		got := describeMails(r.hop.take())
		for i := 0; i < max(len(replies), len(got)); i++ {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", at([]string{m.what}, i), at([]string{strings.Trim(m.want, "{}")}, i), at(got, i), at(replies, i))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nThe log:")
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return errors.Join(wrong...)
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// describeMails says in a few words what arrived.
func describeMails(mails []delivered) []string {
	if len(mails) == 0 {
		return []string{"nothing"}
	}
	var out []string
	for _, m := range mails {
		text := "the mail"
		switch header := string(m.data); {
		case strings.Contains(header, "report-type=delivery-status"):
			text = "a report"
		case strings.Contains(header, "Auto-Submitted: auto-generated"):
			text = "a notice"
		}
		if strings.HasPrefix(string(m.data), "DKIM-Signature:") {
			text += ", signed,"
		}
		out = append(out, text+" for "+strings.Join(m.to, " and "))
	}
	return out
}

// eicar is the test string of eicar.org, in two pieces so that scanners leave
// this program alone.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

func (m *demoMail) text() string {
	body := "Hello,\r\n\r\nnothing to see here.\r\n"
	if m.virus {
		body = eicar + "\r\n"
	}
	return "Received: from client.example.net (unknown [192.0.2.7])\r\n\tby mail.example.org (Postfix) with ESMTPS id 4DEMO\r\n" +
		"\t; Mon, 9 Aug 2021 09:36:36 +0200 (CEST)\r\n" +
		"Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: " + m.from + "\r\nTo: " + strings.Join(m.to, ", ") +
		"\r\nSubject: " + m.subject + "\r\nMessage-ID: <" + strings.ReplaceAll(m.subject, " ", "-") + "@example.org>\r\n\r\n" + body
}

// sendDemoMail speaks LMTP as Postfix does, XFORWARD included, and returns the
// reply for each recipient.
func sendDemoMail(addr string, m demoMail) ([]string, error) {
	c := dialLMTP(addr, time.Minute)
	defer c.close()
	c.send("2", "LHLO mail.example.org")
	c.send("2", "XFORWARD ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=client.example.net IDENT=4DEMO SOURCE=REMOTE")
	c.send("2", "MAIL FROM:<%s>", m.from)
	for _, to := range m.to {
		c.send("2", "RCPT TO:<%s>", to)
	}
	c.send("3", "DATA")
	c.write(m.text() + ".\r\n")
	var replies []string
	for range m.to {
		replies = append(replies, c.expect(""))
	}
	c.send("2", "QUIT")
	return replies, c.err
}

// lmtpClient keeps the first error, so that a dialogue reads as one.
type lmtpClient struct {
	conn net.Conn // nil if it could not be had
	r    *bufio.Reader
	err  error
}

// dialLMTP begins a session, which must end within that time.
func dialLMTP(addr string, within time.Duration) *lmtpClient {
	c := &lmtpClient{}
	if c.conn, c.err = net.DialTimeout("tcp", addr, 10*time.Second); c.err != nil {
		return c
	}
	c.r, c.err = bufio.NewReader(c.conn), c.conn.SetDeadline(time.Now().Add(within))
	c.expect("2")
	return c
}

func (c *lmtpClient) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *lmtpClient) write(s string) {
	if c.err == nil {
		_, c.err = io.WriteString(c.conn, s)
	}
}

func (c *lmtpClient) send(class, format string, args ...any) {
	c.write(fmt.Sprintf(format, args...) + "\r\n")
	c.expect(class)
}

// expect reads one reply, which must begin with class.
func (c *lmtpClient) expect(class string) string {
	for c.err == nil {
		line, err := c.r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		switch {
		case err != nil:
			c.err = err
		case len(line) > 3 && line[3] == '-':
		case !strings.HasPrefix(line, class):
			c.err = fmt.Errorf("unexpected reply %q", line)
		default:
			return line
		}
	}
	return ""
}

func demoListen(out io.Writer) error {
	mails, err := os.MkdirTemp("", "postern-mails-")
	if err != nil {
		return err
	}
	log, sink, err := observe.Open(policy.Log{Ident: "postern"})
	if err != nil {
		return err
	}
	defer sink.Close()
	r, err := startDemo("127.0.0.1:10023", "127.0.0.1:10024", "127.0.0.1:10025", mails, func(*demoRun) *slog.Logger { return log })
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	fmt.Fprintf(out, `Listening for LMTP and SMTP on
  %s  mail of our own people (domain example.org)
  %s  mail from outside
Delivered mails are put into %s. Try:
  swaks --protocol LMTP --server %[1]s --from alice@example.org --to bob@example.net
Stop with Ctrl-C.
`, r.inside, r.outside, mails)
	<-signals
	return r.stop()
}
