package main

// The daemon wires the parts together: listeners, filter, checks, keys and
// next hops, all from one configuration.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/filter"
	"postern/filter/ask"
	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/listen"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/filter/unpack"
	"postern/notify"
	"postern/policy"
	"postern/policy/sql"
	"postern/reinject"
	"postern/reinject/journal"
	"postern/reinject/quarantine"
)

// daemon is the running program. Its filter is swapped as a whole at a reload;
// messages in work finish under the one they began with.
type daemon struct {
	log     *slog.Logger
	initial *policy.Config // what listeners and log were made of
	relays  *reinject.Transports
	room    *unpack.Room      // for the filters of all reloads
	mark    filter.Mark       // the same
	store   *quarantine.Store // nil if it cannot be used
	journal *journal.Journal  // the same
	ledger  *observe.Ledger   // the same
	dns     auth.Lookup       // nil: the servers of the configuration
	filter  atomic.Pointer[filter.Filter]
	servers []server
	source  *sql.Source // of lookups.sql, nil for none; only who starts and reloads uses it
	failed  chan error  // a listener that ended by itself

	watching sync.WaitGroup
	unwatch  context.CancelFunc // ends the watch over the engines
}

// newDaemon makes one that does not listen yet. dns is asked instead of the
// servers of the configuration, unless it is nil.
func newDaemon(cfg *policy.Config, log *slog.Logger, dns auth.Lookup) (*daemon, error) {
	d := &daemon{log: log, initial: cfg, dns: dns, room: unpack.NewRoom(int64(cfg.Limits.Unpack.Memory)), failed: make(chan error, 1)}
	d.relays = reinject.NewTransports(reinject.Options{Helo: cfg.Hostname, Log: log})
	d.mark = newMark(cfg, log)
	d.store, d.journal, d.ledger = openQuarantine(cfg, log), openJournal(cfg, log), openLedger(cfg, log)
	f, err := d.newFilter(cfg)
	if err != nil {
		return nil, err
	}
	d.filter.Store(f)
	return d, nil
}

// openQuarantine opens the store of blocked mail. Without it what would have to be
// kept waits in the feeding queue, until the folder can be used at the next start.
func openQuarantine(cfg *policy.Config, log *slog.Logger) *quarantine.Store {
	store, err := quarantine.Open(cfg.Quarantine.Dir, quarantineOptions(cfg, log))
	if err != nil {
		log.Error("THE QUARANTINE CANNOT BE USED: blocked mail that would have to be kept gets 451", "err", err,
			"hint", "the daemon's user must be able to write to quarantine.dir; see postern check --user")
		return nil
	}
	return store
}

func journalDir(cfg *policy.Config) string { return filepath.Join(cfg.State.Dir, "journal") }
func ledgerDir(cfg *policy.Config) string  { return filepath.Join(cfg.State.Dir, "ledger") }

// openLedger opens the account of all mail, which flows without it too.
func openLedger(cfg *policy.Config, log *slog.Logger) *observe.Ledger {
	l, err := observe.OpenLedger(ledgerDir(cfg), log)
	if err != nil {
		log.Warn("there is no ledger: postern audit has nothing to check", "err", err)
		return nil
	}
	return l
}

// openJournal opens the journal and names the mail that may come twice. Without it
// mail flows all the same.
func openJournal(cfg *policy.Config, log *slog.Logger) *journal.Journal {
	j, err := journal.Open(journalDir(cfg), journal.Options{Log: log})
	if err != nil {
		log.Warn("there is no journal: after a crash of this program mail may come twice", "err", err)
		return nil
	}
	for _, t := range j.Doubtful() {
		log.Warn("the program ended while a next hop was taking a message: it may come twice", "queue_id", t.Ident, "id", t.LogID, "at", t.Time.Format(time.RFC3339))
	}
	return j
}

func quarantineOptions(cfg *policy.Config, log *slog.Logger) quarantine.Options {
	return quarantine.Options{Size: int64(cfg.Quarantine.Size), Keep: time.Duration(cfg.Quarantine.Keep), Log: log}
}

// newMark takes the key from the state folder. Without it loops are known all
// the same, but for mail that was here before the start.
func newMark(cfg *policy.Config, log *slog.Logger) filter.Mark {
	mark, err := filter.LoadMark(cfg.State.Dir)
	if err != nil {
		log.Warn("no key of marks in the state folder, one is made for this run", "err", err, "hint", "the daemon's user must be able to write to state.dir")
		return filter.NewMark()
	}
	return mark
}

// newFilter reads what the configuration names: keys and engines.
func (d *daemon) newFilter(cfg *policy.Config) (*filter.Filter, error) {
	keys, err := loadKeys(cfg)
	if err != nil {
		return nil, err
	}
	checks, err := newChecks(cfg)
	if err != nil {
		return nil, err
	}
	templates, err := loadTemplates(cfg)
	if err != nil {
		return nil, err
	}
	src, err := d.sourceFor(cfg)
	if err != nil {
		return nil, err
	}
	d.useSource(cfg, src)
	tellOfServers(checks, d.log)
	f := &filter.Filter{
		Policy: cfg, Checks: checks, Keys: keys, Relay: d.relays.For, Room: d.room, Mark: d.mark, Log: d.log, Templates: templates,
		Observers: []mail.Observer{observe.Log{Logger: d.log}}, Authenticate: newVerifier(cfg, d.dns).Authenticate,
	}
	f.Reports, f.Notices = notify.NewTally(cfg.Limits.Reports), notify.NewTally(cfg.Limits.Notices)
	if old := d.filter.Load(); old != nil { // what was counted counts on
		if old.Policy.Limits.Reports == cfg.Limits.Reports {
			f.Reports = old.Reports
		}
		if old.Policy.Limits.Notices == cfg.Limits.Notices {
			f.Notices = old.Notices
		}
	}
	if d.store != nil {
		f.Quarantine = d.store
	}
	if d.journal != nil {
		f.Journal = d.journal
	}
	if d.ledger != nil {
		f.Observers = append(f.Observers, d.ledger)
	}
	return f, nil
}

// newVerifier makes what finds out who answers for a message, with a memory of
// its own: who reloads may have mended the DNS.
func newVerifier(cfg *policy.Config, dns auth.Lookup) *auth.Verifier {
	return &auth.Verifier{DNS: auth.NewResolver(auth.ResolverOptions{Lookup: dns, Servers: cfg.DNS.Servers})}
}

// newChecks makes a check of each engine, in the order of their names, and the
// check of the header, which is always there.
func newChecks(cfg *policy.Config) ([]check.Named, error) {
	var out []check.Named
	for _, name := range slices.Sorted(maps.Keys(cfg.Engines)) {
		c, err := check.New(name, cfg.Engines[name])
		if err != nil {
			return nil, fmt.Errorf("%s: engine %s: %w", cfg.Origin("engines."+name), name, err)
		}
		out = append(out, c)
	}
	return append(out, check.Header()), nil
}

// Process hands a message to the filter of the moment.
func (d *daemon) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	return d.filter.Load().Process(ctx, tx)
}

// Refuse hands what a listener cannot take to the filter of the moment.
func (d *daemon) Refuse(ctx context.Context, tx *mail.Transaction, refusal mail.Reply) []mail.Reply {
	return d.filter.Load().Refuse(ctx, tx, refusal)
}

// start opens all listeners, then serves them. If one cannot be opened none is.
func (d *daemon) start(open func(policy.Listener) (net.Listener, error)) error {
	cfg := d.filter.Load().Policy
	var opened []net.Listener
	for _, l := range cfg.Listeners {
		nl, err := open(l)
		if err != nil {
			for _, o := range opened {
				o.Close()
			}
			if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
				err = op.Err // the address stands in front of it
			}
			return fmt.Errorf("%s: listener %s: %w", l.Origin, l.Address, err)
		}
		opened = append(opened, nl)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.unwatch = cancel
	d.watching.Go(func() { d.watchEngines(ctx) })
	d.watching.Go(func() { d.keepHouse(ctx) })
	for i, l := range cfg.Listeners {
		s := d.newServer(cfg, l)
		d.servers = append(d.servers, s)
		go func() {
			if err := s.Serve(opened[i]); err != nil {
				select {
				case d.failed <- err:
				default:
				}
			}
		}()
	}
	return nil
}

// server takes mail from one listener.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// newServer makes what speaks the protocol of l.
func (d *daemon) newServer(cfg *policy.Config, l policy.Listener) server {
	switch l.Protocol {
	case mail.InputMilter:
		return listen.NewMilter(d, d.milterOptions(cfg, l))
	case mail.InputAMPDP:
		return listen.NewAMPDP(d, d.ampdpOptions(cfg, l))
	case mail.InputLMTP, mail.InputSMTP, mail.InputProxy:
		return listen.NewFeed(d, d.feedOptions(cfg, l))
	}
	panic("no listener for protocol " + string(l.Protocol)) // the configuration knows no other
}

// openListener opens what the configuration says.
func openListener(l policy.Listener) (net.Listener, error) {
	mode := ""
	if l.Mode != 0 {
		mode = fmt.Sprintf("%04o", l.Mode&fs.ModePerm)
	}
	return listen.Listen(l.Address, mode, l.Owner)
}

// limits are the same for all listeners, but for the time.
func limits(cfg *policy.Config, in mail.Input) listen.Limits {
	return listen.Limits{
		Size: int64(cfg.Limits.MessageSize), Recipients: cfg.Limits.Recipients,
		Sessions: cfg.Limits.Sessions, PeerSessions: cfg.Limits.SessionsPerClient,
		Idle: cfg.Limits.Idle, Data: cfg.Limits.DataIdle, Process: cfg.Deadline(in),
	}
}

// allows asks the configuration of the moment who may come in.
func (d *daemon) allows(address string) func(netip.Addr, bool) bool {
	return func(peer netip.Addr, fromHere bool) bool {
		now := d.filter.Load().Policy.Listener(address)
		return now != nil && now.Allows(peer, fromHere)
	}
}

func (d *daemon) feedOptions(cfg *policy.Config, l policy.Listener) listen.FeedOptions {
	return listen.FeedOptions{
		Listener: l.Address, Hostname: cfg.Hostname, Limits: limits(cfg, l.Protocol), Allow: d.allows(l.Address),
		Proxy: l.Protocol == mail.InputProxy, RefuseBareLF: cfg.BareNewline == policy.BareNewlineReject,
		SpoolDir: cfg.Spool.Dir, SpoolMemory: int(cfg.Spool.Memory), Log: d.log,
	}
}

func (d *daemon) milterOptions(cfg *policy.Config, l policy.Listener) listen.MilterOptions {
	o := listen.MilterOptions{
		Listener: l.Address, Limits: limits(cfg, l.Protocol), Allow: d.allows(l.Address), LocalBank: l.LocalBank,
		SpoolDir: cfg.Spool.Dir, SpoolMemory: int(cfg.Spool.Memory), Log: d.log,
	}
	if l.Split == policy.SplitRcpt {
		o.Fits = func(ctx context.Context, tx *mail.Transaction) bool { return d.filter.Load().Fits(ctx, tx) }
	}
	return o
}

func (d *daemon) ampdpOptions(cfg *policy.Config, l policy.Listener) listen.AMPDPOptions {
	return listen.AMPDPOptions{
		Listener: l.Address, Limits: limits(cfg, l.Protocol), Allow: d.allows(l.Address), Folders: l.Folders, AllowBanks: l.AllowBanks,
		SpoolDir: cfg.Spool.Dir, SpoolMemory: int(cfg.Spool.Memory), Log: d.log,
		Release: func(ctx context.Context, q listen.Release) []mail.Reply { return d.Release(ctx, l, q) },
	}
}

// reload takes a new configuration for the messages to come. Any mistake
// leaves the old one in force.
func (d *daemon) reload(cfg *policy.Config) error {
	if ask.OtherListeners(d.initial, cfg) {
		return fmt.Errorf("%s: listeners cannot change while the program runs: restart it", cfg.Origin("listeners"))
	}
	f, err := d.newFilter(cfg)
	if err != nil {
		return err
	}
	if late := ask.TakenAtStart(d.initial, cfg); len(late) > 0 {
		d.log.Warn("the change of " + strings.Join(late, ", ") + " takes effect at the next start")
	}
	d.filter.Store(f)
	// who reloads may have changed the next hop as well
	d.relays.Renew()
	return nil
}

// stop refuses new mail at once and waits for messages in work until ctx ends.
func (d *daemon) stop(ctx context.Context) error {
	errs := make([]error, len(d.servers))
	var all sync.WaitGroup
	for i, s := range d.servers {
		all.Go(func() { errs[i] = s.Shutdown(ctx) })
	}
	all.Wait()
	d.unwatch()
	d.watching.Wait()
	d.tellHeld(ctx, time.Now(), true)
	d.relays.Close()
	if d.journal != nil {
		errs = append(errs, d.journal.Close())
	}
	if d.ledger != nil {
		errs = append(errs, d.ledger.Close())
	}
	if d.source != nil {
		closeSource(d.source, d.log)
	}
	return errors.Join(errs...)
}

// engines are the checks that a configuration may name.
func engines() map[string]func() any {
	out := map[string]func() any{}
	for name, options := range check.Kinds() {
		out[name] = func() any { return options() }
	}
	return out
}

// loadTemplates reads the texts that settings name.
func loadTemplates(cfg *policy.Config) (map[string]*notify.Templates, error) {
	out := map[string]*notify.Templates{}
	var errs []error
	for _, t := range cfg.TemplateDirs() {
		if t.Dir == "" || out[t.Dir] != nil {
			continue
		}
		texts, err := notify.LoadTemplates(t.Dir)
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("%s: templates: %w (hint: name a folder with files such as ndr.txt)", t.Origin, path)
		}
		errs = append(errs, err)
		out[t.Dir] = texts
	}
	return out, errors.Join(errs...)
}

func loadKeys(cfg *policy.Config) (*auth.Keys, error) {
	if len(cfg.DKIMKeys) == 0 {
		return nil, nil
	}
	files := make([]auth.KeyFile, len(cfg.DKIMKeys))
	for i, k := range cfg.DKIMKeys {
		files[i] = auth.KeyFile{Domain: k.Domain, Selector: k.Selector, From: k.From.Time, Until: k.Until.Time, Path: k.Key, Where: k.Origin.String()}
	}
	return auth.LoadKeys(files)
}
