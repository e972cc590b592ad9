package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
	"postern/policy/lookup"
	"postern/reinject"
	"postern/reinject/quarantine"
)

// quarantineFlags are what the subcommands share.
type quarantineFlags struct {
	config       string
	json         bool
	limit        int
	category     string
	since        string
	raw          bool
	to           []string
	force, again bool
	unreleased   bool

	out   io.Writer
	cfg   *policy.Config
	store *quarantine.Store
	done  []quarantineDone // for --json
}

func newQuarantineCommand() *cobra.Command {
	o := &quarantineFlags{}
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Look at blocked mail, release or delete it",
		Long: `Look at blocked mail, release or delete it. All works on the folder of the
quarantine itself, with the daemon or without it. An ID is the mail_id, or what
stands behind "quarantine:" in the log.`,
	}
	cmd.PersistentFlags().StringVarP(&o.config, "config", "c", defaultConfig, "configuration `file`")
	cmd.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	add := func(use, short, long string, args cobra.PositionalArgs, run func(context.Context, []string) error, flags func(*cobra.Command)) {
		sub := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
		sub.RunE = func(c *cobra.Command, args []string) error {
			o.out = c.OutOrStdout()
			if err := o.open(); err != nil {
				return err
			}
			err := run(c.Context(), args)
			if o.json && o.done != nil {
				err = cmp.Or(printJSON(o.out, o.done), err)
			}
			return err
		}
		if flags != nil {
			flags(sub)
		}
		cmd.AddCommand(sub)
	}
	listing := func(c *cobra.Command) {
		c.Flags().IntVar(&o.limit, "limit", 50, "show at most `N` messages; 0: all")
		c.Flags().StringVar(&o.category, "category", "", "only `KIND`: virus, banned, spam, unchecked, bad_header, oversized, other")
		c.Flags().StringVar(&o.since, "since", "", "only what came since `WHEN`: 24h, 7d or 2027-01-31")
		c.Flags().BoolVar(&o.unreleased, "unreleased", false, "only what somebody still waits for")
	}
	releasing := func(c *cobra.Command) {
		c.Flags().StringArrayVar(&o.to, "to", nil, "hand it on to `ADDRESS` alone, one of its recipients or another")
		c.Flags().BoolVar(&o.again, "again", false, "also for those who have it, or may have it")
	}
	add("list", "List what is kept, the newest first", "", cobra.NoArgs, o.list, listing)
	add("search WORD...", "Find messages by address, subject, Message-ID or queue id",
		"Find messages that have all words in time, category, sender, recipients, From,\nsubject, Message-ID or queue id; the case of letters does not count.", cobra.MinimumNArgs(1), o.list, listing)
	add("facts ID", "Say why a message is kept, and for whom", "", cobra.ExactArgs(1), o.facts, nil)
	add("show ID", "Print a message as text, at most 64 KiB", "", cobra.ExactArgs(1), o.show, func(c *cobra.Command) {
		c.Flags().BoolVar(&o.raw, "raw", false, "print all octets as they came, to a file for example")
	})
	add("release ID...", "Hand messages on to those who did not get them", `Hand messages on, octet for octet, to those who did not get them, through the next
hop they would have had. They are scanned for viruses with the signatures of now;
nobody gets one twice. The exit code is 75 if a next hop put a message off, and 1
if one was not released for another reason.`, cobra.MinimumNArgs(1), o.release(false), func(c *cobra.Command) {
		releasing(c)
		c.Flags().BoolVar(&o.force, "force", false, "though a virus is found, or nobody can scan it")
	})
	add("requeue ID...", "Judge messages anew and hand on what passes now", "", cobra.MinimumNArgs(1), o.release(true), releasing)
	add("rescan ID...", "Say what would be found in messages today", "", cobra.MinimumNArgs(1), o.rescan, nil)
	add("delete ID...", "Delete messages for good", "", cobra.MinimumNArgs(1), o.delete, nil)
	add("expire", "Delete what is too old, as the daemon does every hour", "", cobra.NoArgs, o.expire, nil)
	return cmd
}

// quarantineDone is what was done with a message, or would be found in it, in the
// form of its JSON.
type quarantineDone struct {
	MailID  string       `json:"mail_id"`
	Rcpt    mail.Address `json:"rcpt_to,omitempty"`
	Done    string       `json:"done,omitempty"` // released, not released, deleted, expired
	Reply   string       `json:"smtp_response,omitempty"`
	Destiny string       `json:"destiny,omitempty"` // by the policy of now
	Reasons []string     `json:"reasons,omitempty"`
	Error   string       `json:"error,omitempty"`
}

// say prints one thing that was done, or keeps it for the JSON of all.
func (o *quarantineFlags) say(d quarantineDone) error {
	if o.json {
		o.done = append(o.done, d)
		return nil
	}
	words := []string{d.MailID, d.Done, d.Destiny}
	if d.Rcpt != "" {
		words = []string{d.MailID, d.Done, mail.Escape(d.Rcpt.String()) + ":", d.Destiny}
	}
	words = slices.DeleteFunc(append(words, mail.Escape(d.Reply), mail.Escape(strings.Join(d.Reasons, "; ")), mail.Escape(d.Error)), func(w string) bool { return w == "" })
	_, err := fmt.Fprintln(o.out, strings.Join(words, " "))
	return err
}

// open reads the configuration and finds the store.
func (o *quarantineFlags) open() error {
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	o.cfg = cfg
	if o.store, err = quarantine.Use(cfg.Quarantine.Dir, quarantineOptions(cfg, silent)); err != nil {
		if os.IsNotExist(errors.Unwrap(err)) {
			err = fmt.Errorf("%w (the daemon makes it when it starts; %s)", err, cfg.Origin("quarantine.dir"))
		}
		return exit(exitUnavailable, err)
	}
	return nil
}

// filter makes the engines and keys of the configuration ready.
func (o *quarantineFlags) filter() (*filter.Filter, error) {
	f, problems := makeAll(o.cfg)
	if len(problems) > 0 && f.Checks == nil {
		return nil, exit(exitConfig, errors.New(problems[0].String()))
	}
	f.Log, f.Relay = silent, reinject.NewTransports(reinject.Options{Helo: o.cfg.Hostname, Log: silent}).For
	f.Authenticate = newVerifier(o.cfg, nil).Authenticate
	return f, nil
}

// each parses ids and does something with each message; the exit code is that of
// the last that failed.
func (o *quarantineFlags) each(ids []string, do func(id string) error) error {
	var failed error
	for _, arg := range ids {
		id, ok := quarantine.ParseID(arg)
		err := error(nil)
		if !ok {
			err = fmt.Errorf("%q is no mail_id", arg)
		} else {
			err = do(id)
		}
		if err == nil {
			continue
		}
		var coded *exitError
		if !errors.As(err, &coded) {
			err = exit(exitFound, fmt.Errorf("%s: %w", arg, err))
		}
		if len(ids) > 1 && err.Error() != "" {
			if says := o.say(quarantineDone{MailID: id, Error: err.Error()}); says != nil {
				return says
			}
			errors.As(err, &coded)
			err = exit(coded.code, errSaid)
		}
		failed = err
	}
	return failed
}

// eachMessage does something with the octets of each message.
func (o *quarantineFlags) eachMessage(ids []string, do func(*quarantine.Item, *mail.Message) error) error {
	return o.each(ids, func(id string) error {
		it, err := o.store.Load(id)
		if err != nil {
			return err
		}
		m, err := o.store.Octets(it)
		if err != nil {
			return err
		}
		defer m.Close()
		return do(it, m)
	})
}

func (o *quarantineFlags) list(_ context.Context, words []string) error {
	since, err := parseSince(o.since, time.Now())
	if err != nil {
		return exit(exitUsage, err)
	}
	n := 0
	items := func(yield func(*quarantine.Item) bool) {
		for it := range o.store.All(words...) {
			switch {
			case it.Time.Before(since):
				return // the newest come first
			case o.category != "" && it.Category != o.category, o.unreleased && !it.Waits():
				continue
			}
			if n++; o.limit > 0 && n > o.limit || !yield(it) {
				return
			}
		}
	}
	if o.json {
		return printList(o.out, items)
	}
	w := tabwriter.NewWriter(o.out, 0, 8, 2, ' ', 0)
	rows := 0
	for it := range items {
		mark := ""
		if !it.Waits() {
			mark = " (released)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\t%d\t%s\t%s\t%s\n", it.Time.Local().Format("2006-01-02 15:04"), it.MailID, it.Category, mark, it.Size,
			mail.Escape(it.From.String()), briefRcpts(it.Kept), mail.Escape(brief(it.Subject, 60)))
		if rows++; rows%500 == 0 { // a store may be larger than memory
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if n == 0 {
		_, err = fmt.Fprintln(o.out, "nothing is kept that fits")
	} else if o.limit > 0 && n > o.limit {
		_, err = fmt.Fprintf(o.out, "there is more: --limit 0 shows all\n")
	}
	return err
}

// printList writes messages as a list in JSON, one after the other.
func printList(out io.Writer, items iter.Seq[*quarantine.Item]) error {
	before := "[\n  "
	for it := range items {
		data, err := json.MarshalIndent(it, "  ", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s", before, data); err != nil {
			return err
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if before[0] == '[' {
		end = "[]\n"
	}
	_, err := io.WriteString(out, end)
	return err
}

func briefRcpts(k *mail.Kept) string {
	var out []string
	for _, r := range k.Rcpts {
		if r.Due {
			out = append(out, mail.Escape(r.Address.String()))
		}
	}
	if len(out) > 2 {
		out = append(out[:2], fmt.Sprintf("and %d more", len(out)-2))
	}
	return strings.Join(out, ",")
}

func brief(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

func (o *quarantineFlags) facts(_ context.Context, args []string) error {
	return o.each(args, func(id string) error {
		it, err := o.store.Load(id)
		if err != nil {
			return err
		}
		if o.json {
			return printJSON(o.out, it)
		}
		return printFacts(o.out, it)
	})
}

func printFacts(out io.Writer, it *quarantine.Item) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, mail.Escape(value))
		}
	}
	line("mail_id", it.MailID)
	line("secret_id", it.SecretID)
	line("file", it.Path)
	line("log_id", it.LogID)
	line("queue_id", it.QueueID)
	line("kept", it.Time.Local().Format(time.DateTime)+" by "+string(it.Input)+" at "+it.Listener)
	line("kept for", it.Category+": "+it.Reason)
	line("banks", strings.Join(it.Banks, "/"))
	if it.Client.Addr.IsValid() {
		line("client", strings.TrimSpace(it.Client.Addr.String()+" "+it.Client.Name+" "+it.Client.Helo))
	}
	line("from", it.From.String())
	line("From", it.Author)
	line("Subject", it.Subject)
	line("Message-ID", it.MessageID)
	line("size", strconv.FormatInt(it.Size, 10)+" octets, SHA-256 "+it.Digest)
	if it.Score != nil {
		line("score", strconv.FormatFloat(*it.Score, 'f', -1, 64)+" "+strings.Join(it.Tests, " "))
	}
	for _, c := range it.Checks {
		words := slices.DeleteFunc(append([]string{c.Check, c.Error, c.Skipped}, c.Findings...), func(w string) bool { return w == "" })
		line("check", strings.Join(words, " "))
	}
	for _, r := range it.Rcpts {
		state := "has it"
		switch {
		case r.Released != nil && r.Released.Done:
			state = "released " + r.Released.Time.Local().Format(time.DateTime) + " by " + r.Released.By + ": " + r.Released.Reply
		case r.Released != nil:
			state = "a release was begun " + r.Released.Time.Local().Format(time.DateTime) + " and has no end"
		case r.Due:
			state = "waits"
		}
		line("recipient", r.Address.String()+" "+r.Direction+" "+r.Category+", "+state)
		for _, reason := range r.Reasons {
			line("", reason)
		}
	}
	return w.Flush()
}

// mostShown is how much of a message is printed as text.
const mostShown = 64 << 10

func (o *quarantineFlags) show(_ context.Context, args []string) error {
	return o.eachMessage(args, func(_ *quarantine.Item, m *mail.Message) error {
		data := m.Bytes()
		if o.raw {
			_, err := o.out.Write(data)
			return err
		}
		for line := range strings.Lines(string(data[:min(len(data), mostShown)])) {
			// a tab is harmless; all else that a terminal could obey is shown
			cells := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
			for i := range cells {
				cells[i] = escapeLine(cells[i])
			}
			if _, err := fmt.Fprintln(o.out, strings.Join(cells, "\t")); err != nil {
				return err
			}
		}
		if len(data) <= mostShown {
			return nil
		}
		_, err := fmt.Fprintf(o.out, "... %d octets more: --raw prints all\n", len(data)-mostShown)
		return err
	})
}

// escapeLine is mail.Escape without its bound.
func escapeLine(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), 200)
		for n < len(s) && n > 190 && s[n]&0xc0 == 0x80 { // not within a character
			n--
		}
		b.WriteString(strings.ReplaceAll(mail.Escape(s[:n]), `\\`, `\`))
		s = s[n:]
	}
	return b.String()
}

// by names who does it.
func by() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return mail.Escape(name)
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}

func (o *quarantineFlags) request(id string) (quarantine.Request, error) {
	q := quarantine.Request{ID: id, Force: o.force, Again: o.again, By: by()}
	for _, to := range o.to {
		a, problem := lookup.ParseAddress(strings.Trim(to, "<> "))
		if problem != "" || !strings.Contains(string(a), "@") {
			return q, exit(exitUsage, fmt.Errorf("--to %s: want an address such as user@example.org", to))
		}
		q.To = append(q.To, a)
	}
	return q, nil
}

// release hands messages on, or judges them anew first.
func (o *quarantineFlags) release(requeue bool) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		f, err := o.filter()
		if err != nil {
			return err
		}
		return o.each(args, func(id string) error {
			q, err := o.request(id)
			if err != nil {
				return err
			}
			q.Requeue = requeue
			var judged *filter.Examination
			results, err := newReleaser(f, o.store, func(ex *filter.Examination) { judged = ex }).Release(ctx, q)
			err = o.report(id, results, err)
			if judged != nil && len(results) == 0 {
				err = errors.Join(err, o.verdicts(id, judged))
			}
			return err
		})
	}
}

// report says what became of each recipient.
func (o *quarantineFlags) report(id string, results []quarantine.Result, err error) error {
	if err != nil && len(results) == 0 {
		hint := ""
		switch {
		case errors.Is(err, quarantine.ErrInfected), errors.Is(err, quarantine.ErrScan):
			hint = "; --force releases it all the same"
		case errors.Is(err, quarantine.ErrDone):
			hint = "; --again hands it on once more"
		}
		return fmt.Errorf("%w%s", err, hint)
	}
	code := 0
	var done []mail.Address
	defer func() {
		if len(done) > 0 {
			o.noted(id, "released", done)
		}
	}()
	for _, x := range results {
		word := "released"
		switch x.Receipt.Disposal {
		case mail.Relayed:
			done = append(done, x.To)
		case mail.Deferred:
			word, code = "not released", max(code, exitTempFail)
		default:
			word, code = "not released", max(code, exitFound)
		}
		if err := o.say(quarantineDone{MailID: id, Done: word, Rcpt: x.To, Reply: x.Receipt.Reply.String()}); err != nil {
			return err
		}
	}
	if code == 0 {
		return err
	}
	return exit(code, errSaid)
}

// noted writes in the ledger what was done to a copy: else it would be missing
// there.
func (o *quarantineFlags) noted(id, action string, rcpts []mail.Address) {
	err := observe.AppendAction(ledgerDir(o.cfg), observe.LedgerAction{MailID: id, Action: action, By: by(), Rcpts: rcpts})
	if err != nil {
		_ = o.say(quarantineDone{MailID: id, Error: "it cannot be noted in the ledger, and postern audit will miss it: " + err.Error()})
	}
}

func (o *quarantineFlags) rescan(ctx context.Context, args []string) error {
	f, err := o.filter()
	if err != nil {
		return err
	}
	return o.eachMessage(args, func(it *quarantine.Item, m *mail.Message) error {
		ex, err := f.ExamineKept(ctx, it.Kept, m)
		if err != nil {
			return err
		}
		return o.verdicts(it.MailID, ex)
	})
}

// verdicts prints what the policy of now says about each recipient.
func (o *quarantineFlags) verdicts(id string, ex *filter.Examination) error {
	for i := range ex.Verdicts {
		v := &ex.Verdicts[i]
		if err := o.say(quarantineDone{MailID: id, Rcpt: ex.Selection.Rcpts[i].Address, Destiny: string(v.Destiny), Reasons: v.Reasons}); err != nil {
			return err
		}
	}
	for _, r := range ex.Results {
		if r.Err == nil {
			continue
		}
		if err := o.say(quarantineDone{MailID: id, Error: "check " + r.Check + " failed: " + r.Err.Error()}); err != nil {
			return err
		}
	}
	return nil
}

func (o *quarantineFlags) delete(_ context.Context, args []string) error {
	return o.each(args, func(id string) error {
		if err := o.store.Delete(id); err != nil {
			return err
		}
		o.noted(id, "deleted", nil)
		return o.say(quarantineDone{MailID: id, Done: "deleted"})
	})
}

func (o *quarantineFlags) expire(context.Context, []string) error {
	n, err := o.store.Expire(func(it *quarantine.Item) {
		id, _ := quarantine.ParseID(it.Path)
		o.noted(id, "expired", nil)
		_ = o.say(quarantineDone{MailID: id, Done: "expired"}) // it is done, whoever hears of it
	})
	if err == nil && !o.json {
		_, err = fmt.Fprintf(o.out, "%d messages deleted\n", n)
	}
	return err
}
