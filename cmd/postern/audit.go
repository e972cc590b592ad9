package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
	"postern/reinject/journal"
)

// auditOptions are the flags of postern audit.
type auditOptions struct {
	config, since              string
	queueID, mailID, recipient string
	asJSON                     bool

	// twice, if not nil, names mails that may have come twice: their final dot
	// was sent, and the answer is not known. That is no mistake in the account.
	twice func(*policy.Config) ([]string, error)
}

// newAuditCommand makes the command; twice is as in auditOptions.
func newAuditCommand(twice func(*policy.Config) ([]string, error)) *cobra.Command {
	o := auditOptions{twice: twice}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check that every recipient has come to an end",
		Long: `Check the account of all mail, the ledger below state.dir: every recipient that
was received was relayed, refused, deferred, quarantined, bounced or discarded,
for each message and in sum. What does not add up is named:

  law      a message whose recipients and ends differ
  gap      records that could not be written, or cannot be read
  copy     what was quarantined is not there, and nobody released or deleted it
  waiting  what was deferred more than five days ago and came to no end since:
           the queue gave up and told the sender, or it is lost

--since is a time such as 24h or 30d before now, or a day such as 2026-11-20.
With --queue-id, --mail-id or --recipient the story of those messages is
printed, oldest first; of mail to more than twenty the ledger has no names.

The exit code is 0 if the account is right, and 1 if something does not add up,
or if the ledger knows nothing of the message.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAudit(cmd.OutOrStdout(), o) },
	}
	addConfigFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.since, "since", "", "only what is younger: 24h, 30d or a day, 2026-11-20")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&o.queueID, "queue-id", "", "the story of the message with that id in the feeding queue")
	cmd.Flags().StringVar(&o.mailID, "mail-id", "", "the story of the message with that mail id")
	cmd.Flags().StringVar(&o.recipient, "recipient", "", "the story of the messages to that address")
	cmd.MarkFlagsMutuallyExclusive("queue-id", "mail-id", "recipient")
	return cmd
}

func runAudit(out io.Writer, o auditOptions) error {
	now := time.Now()
	since, err := parseSince(o.since, now)
	if err != nil {
		return exit(exitUsage, err)
	}
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	dir := ledgerDir(cfg)
	if o.queueID+o.mailID+o.recipient != "" {
		return ledgerError(dir, tellStory(out, dir, since, o))
	}
	account, err := observe.Audit(dir, observe.AuditOptions{Since: since, Now: now, Kept: keptIn(cfg.Quarantine.Dir)})
	if err != nil {
		return ledgerError(dir, err)
	}
	report := auditReport{Account: account}
	if o.twice != nil {
		if report.Twice, err = o.twice(cfg); err != nil {
			return exit(exitOSErr, err)
		}
	}
	if o.asJSON {
		err = printJSON(out, report)
	} else {
		err = report.print(out, dir)
	}
	if err == nil && !account.Right() {
		err = exit(exitFound, errSaid)
	}
	return err
}

// ledgerError gives an error of the ledger its exit code.
func ledgerError(dir string, err error) error {
	var e *exitError
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return exit(exitConfig, fmt.Errorf("there is no ledger in %s (hint: postern serve writes it, below state.dir)", dir))
	}
	return exit(exitOSErr, err)
}

// parseSince reads a time before now, or a day. Empty is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return day, nil
	}
	var before policy.Days
	if err := before.UnmarshalText([]byte(s)); err != nil {
		return time.Time{}, fmt.Errorf("--since %q: want a time such as 24h or 30d, or a day such as 2026-11-20", s)
	}
	return now.Add(-time.Duration(before)), nil
}

// keptIn looks for copies in the quarantine.
func keptIn(dir string) func(string) (bool, error) {
	return func(path string) (bool, error) {
		if !filepath.IsLocal(path) {
			return false, errors.New("its path leads out of the quarantine")
		}
		switch _, err := os.Lstat(filepath.Join(dir, path)); {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		}
		return true, nil
	}
}

// auditReport is what postern audit prints.
type auditReport struct {
	*observe.Account
	Twice []string `json:"may_have_come_twice,omitempty"`
}

func (r auditReport) print(out io.Writer, dir string) error {
	var b strings.Builder
	if r.Messages == 0 {
		fmt.Fprintf(&b, "%s: no message\n", dir)
	} else {
		fmt.Fprintf(&b, "%s: %s to %s\n", dir, r.First.Local().Format(time.DateTime), r.Last.Local().Format(time.DateTime))
	}
	fmt.Fprintf(&b, "%10d messages\n%10d recipients received\n", r.Messages, r.Recipients)
	sum := 0
	for _, end := range observe.Ends() {
		fmt.Fprintf(&b, "%10d   %s\n", r.Ends[end], end)
		sum += r.Ends[end]
	}
	if sum != r.Recipients {
		fmt.Fprintf(&b, "%10d   came to no end, or to more than one\n", r.Recipients-sum)
	}
	for _, action := range slices.Sorted(maps.Keys(r.Actions)) {
		fmt.Fprintf(&b, "%10d copies %s\n", r.Actions[action], mail.Escape(action))
	}
	for _, n := range []struct {
		n    int
		what string
	}{
		{r.Waiting, "messages wait in the feeding queue"},
		{r.Unknown, "deferrals of which nobody said the queue id"},
		{r.Torn, "records end too soon: the program died, and the message came again"},
		{r.Lost, "records are missing"},
	} {
		if n.n > 0 {
			fmt.Fprintf(&b, "%10d %s\n", n.n, n.what)
		}
	}
	for _, t := range r.Twice {
		fmt.Fprintf(&b, "may have come twice: %s\n", mail.Escape(t))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Kind, findingLine(f))
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	if r.Right() {
		b.WriteString("the account is right\n")
	} else {
		fmt.Fprintf(&b, "%d things do not add up\n", len(r.Findings)+r.More)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func findingLine(f observe.AccountFinding) string {
	out := f.Time.Local().Format(time.DateTime)
	if f.LogID+f.MailID != "" {
		out += " (" + mail.Escape(f.LogID) + ") " + mail.Escape(f.From.String()) + idWords(f.QueueID, f.MailID)
	}
	return out + ": " + f.What
}

// idWords are the ids of a message as the log line has them.
func idWords(queueID, mailID string) string {
	out := ""
	if queueID != "" {
		out += ", Queue-ID: " + mail.Escape(queueID)
	}
	if mailID != "" {
		out += ", mail_id: " + mail.Escape(mailID)
	}
	return out
}

// tellStory prints the records of the messages that are asked for, and what
// was done to their copies.
func tellStory(out io.Writer, dir string, since time.Time, o auditOptions) error {
	ids := map[string]bool{} // mail ids of those messages
	n, unnamed := 0, 0
	var all []*observe.LedgerRecord
	err := observe.ReadLedger(dir, since, func(r *observe.LedgerRecord) error {
		if r.Damage != observe.Whole || !o.asksFor(r) && !ids[r.MailID] {
			if o.recipient != "" && r.Recipients > 0 && len(r.Rcpts) == 0 {
				unnamed++
			}
			return nil
		}
		n++
		if r.MailID != "" {
			ids[r.MailID] = true
		}
		if o.asJSON {
			all = append(all, r)
			return nil
		}
		_, err := io.WriteString(out, storyLines(r))
		return err
	})
	if err == nil && o.asJSON {
		err = printJSON(out, append([]*observe.LedgerRecord{}, all...))
	}
	if err != nil {
		return err
	}
	hint := ""
	if unnamed > 0 {
		hint = fmt.Sprintf(" (%d messages went to more than twenty, of whom the ledger has no names)", unnamed)
	}
	switch {
	case n == 0:
		err = exit(exitFound, errors.New("the ledger knows nothing of that message"+hint))
	case hint != "" && !o.asJSON:
		_, err = fmt.Fprintln(out, "there may be more"+hint)
	}
	return err
}

// asksFor reports whether a record belongs to the story.
func (o auditOptions) asksFor(r *observe.LedgerRecord) bool {
	switch {
	case r.Lost > 0:
		return false
	case o.queueID != "":
		return r.QueueID == o.queueID
	case o.mailID != "":
		return r.MailID == o.mailID
	}
	want := strings.Trim(o.recipient, "<>")
	return slices.ContainsFunc(r.Rcpts, func(to observe.LedgerRcpt) bool { return strings.EqualFold(string(to.Address), want) })
}

// storyLines are those of one record: what happened, and each recipient.
func storyLines(r *observe.LedgerRecord) string {
	var b strings.Builder
	b.WriteString(r.Time.Local().Format(time.DateTime))
	if r.Action != "" {
		fmt.Fprintf(&b, " copy %s", mail.Escape(r.Action))
		if r.By != "" {
			fmt.Fprintf(&b, " by %s", mail.Escape(r.By))
		}
		b.WriteString(idWords("", r.MailID) + "\n")
		for _, to := range r.Rcpts {
			fmt.Fprintf(&b, "    %s\n", mail.Escape(to.Address.String()))
		}
		return b.String()
	}
	fmt.Fprintf(&b, " (%s) %s, size: %d%s, by %s\n", mail.Escape(r.LogID), mail.Escape(r.From.String()), r.Size, idWords(r.QueueID, r.MailID), mail.Escape(r.Listener))
	for _, to := range r.Rcpts {
		fmt.Fprintf(&b, "    %s %s", mail.Escape(to.Address.String()), mail.Escape(to.End))
		if to.QueuedAs != "" {
			fmt.Fprintf(&b, ", queued_as: %s", mail.Escape(to.QueuedAs))
		}
		b.WriteString("\n")
	}
	if len(r.Rcpts) == 0 {
		for _, end := range slices.Sorted(maps.Keys(r.Ends)) {
			fmt.Fprintf(&b, "    %d recipients %s\n", r.Ends[end], mail.Escape(end))
		}
	}
	for _, copied := range r.Quarantine {
		fmt.Fprintf(&b, "    copy in %s\n", mail.Escape(copied))
	}
	if broken := r.Broken(); broken != "" {
		fmt.Fprintf(&b, "    this does not add up: %s\n", broken)
	}
	return b.String()
}

// mayComeTwice names the mail that the journal has in doubt: its final dot was
// about to be sent when the program died.
func mayComeTwice(cfg *policy.Config) ([]string, error) {
	var out []string
	err := journal.Read(journalDir(cfg), func(t mail.Trace, _ []mail.TraceKey) error {
		if t.Note == journal.InDoubt {
			out = append(out, fmt.Sprintf("%s queue id %s, log id %s", t.Time.Format(time.DateTime), t.Ident, t.LogID))
		}
		return nil
	})
	return out, err
}
