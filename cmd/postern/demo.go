package main

import (
	"context"
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

	"postern/cmd/postern/demo"
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
from outside), 10026 (the same by milter) and 10025 (the next hop) for a client
of your own, and puts the delivered mails into a folder, until it is
interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stay {
				return exit(exitSoftware, demoListen(cmd.OutOrStdout()))
			}
			return exit(exitSoftware, runDemo(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().BoolVar(&stay, "listen", false, "keep running on ports 10023 to 10026")
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
  - {protocol: milter, address: %q}
settings:
  forward_to: smtp://%[4]s
  notify_to: smtp://%[4]s
  virus: {destiny: bounce, admin: postmaster@example.org}
dkim_keys:
  - {domain: example.org, selector: demo, key: demo.pem}
engines:
  builtin: {}
state: {dir: state}
`

// noDNS is a world without names: the demo needs no network.
type noDNS struct{}

var errNoName = &net.DNSError{Err: "no such host", IsNotFound: true}

// LookupTXT implements auth.Lookup, as do the others.
func (noDNS) LookupTXT(context.Context, string) ([]string, error) { return nil, errNoName }

func (noDNS) LookupMX(context.Context, string) ([]*net.MX, error)        { return nil, errNoName }
func (noDNS) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) { return nil, errNoName }
func (noDNS) LookupAddr(context.Context, string) ([]string, error)       { return nil, errNoName }

// demoRun is a daemon with a next hop of its own.
type demoRun struct {
	dir     string
	daemon  *daemon
	hop     *demo.NextHop
	hopLis  net.Listener
	inside  string
	outside string
	gate    string
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

// startDemo opens the ports and starts both servers. Delivered mails go
// into the folder mails, if it is named.
func startDemo(inside, outside, gate, hop, mails string, sink func(*demoRun) *slog.Logger) (*demoRun, error) {
	r := &demoRun{hop: demo.NewNextHop(mails)}
	var err error
	if r.dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
		return nil, err
	}
	open := map[string]net.Listener{}
	for _, a := range []*string{&inside, &outside, &gate, &hop} {
		l, err := net.Listen("tcp", *a)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(r.dir))
		}
		*a = l.Addr().String()
		open[*a] = l
	}
	r.inside, r.outside, r.gate, r.hopLis = inside, outside, gate, open[hop]
	if err := writeDemoKey(filepath.Join(r.dir, "demo.pem")); err != nil {
		return nil, err
	}
	cfg, err := policy.Parse(filepath.Join(r.dir, "demo.yaml"), fmt.Appendf(nil, demoConfig, inside, outside, gate, hop), engines())
	if err != nil {
		return nil, err
	}
	if r.daemon, err = newDaemon(cfg, sink(r), noDNS{}); err != nil {
		return nil, err
	}
	go func() { _ = r.hop.Serve(r.hopLis) }()
	return r, r.daemon.start(func(l policy.Listener) (net.Listener, error) { return open[l.Address], nil })
}

func (r *demoRun) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(r.daemon.stop(ctx), r.hop.Close(), os.RemoveAll(r.dir))
}

func writeDemoKey(path string) error {
	key, err := newPrivateKey("rsa", 2048)
	if err != nil {
		return err
	}
	return writePrivateKey(path, key)
}

func runDemo(out io.Writer) error {
	r, err := startDemo("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "", func(r *demoRun) *slog.Logger {
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
	for _, m := range demo.Mails {
		var replies []string
		var err error
		switch m.Way {
		case demo.Inside:
			replies, err = demo.Send(r.inside, m)
		case demo.Outside:
			replies, err = demo.Send(r.outside, m)
		case demo.Gate:
			replies = make([]string, 1)
			replies[0], err = demo.SendMilter(r.gate, m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.What, err)
		}
		log := r.log.take()
		if len(log) != 1 || !strings.Contains(log[0], " "+m.Want+",") {
			wrong = append(wrong, fmt.Errorf("%s: the log says %q, not %s", m.What, log, m.Want))
		}
		lines = append(lines, log...)
		got := demo.Describe(r.hop.Take())
		for i := 0; i < max(len(replies), len(got)); i++ {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", at([]string{m.What}, i), at([]string{strings.Trim(m.Want, "{}")}, i), at(got, i), at(replies, i))
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
	r, err := startDemo("127.0.0.1:10023", "127.0.0.1:10024", "127.0.0.1:10026", "127.0.0.1:10025", mails, func(*demoRun) *slog.Logger { return log })
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	fmt.Fprintf(out, `Listening for LMTP and SMTP on
  %s  mail of our own people (domain example.org)
  %s  mail from outside
and by milter on
  %s  mail from outside, before the queue
Delivered mails are put into %s. Try:
  swaks --protocol LMTP --server %[1]s --from alice@example.org --to bob@example.net
Stop with Ctrl-C.
`, r.inside, r.outside, r.gate, mails)
	<-signals
	return r.stop()
}
