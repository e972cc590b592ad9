package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	config, listener, client, from string
	to, banks                      []string
	json                           bool
}

func newExplainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [MESSAGE]",
		Short: "Say which banks apply, why, and what would happen",
		Long: `Say for an envelope which banks apply and why, which direction each recipient
has, and what each category would lead to. With a message file the checks look
at it, and the output has their findings, the verdict, the changes to the
header, the reply, and which settings would make the verdict different. "-"
reads the message from standard input.

Nothing is sent and nothing is written.`,
		Example: `  postern explain --listener 127.0.0.1:10023 --client 192.0.2.7 --from a@example.org --to b@example.net
  postern explain --from a@example.org --to b@example.net suspicious.eml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return explain(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), o, file)
		},
	}
	addConfigFlag(cmd, &o.config)
	f := cmd.Flags()
	f.StringVar(&o.listener, "listener", "", "`address` of the listener as configured (default: the first)")
	f.StringVar(&o.client, "client", "", "`IP` address of the client, as XFORWARD would tell it (default: unknown)")
	f.StringVar(&o.from, "from", "", "envelope sender; empty for the null sender")
	f.StringArrayVar(&o.to, "to", nil, "envelope recipient; may be repeated")
	f.StringArrayVar(&o.banks, "bank", nil, "`name` of a bank that the request asks for; may be repeated")
	f.BoolVar(&o.json, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

// explanation is the answer, in the form of its JSON.
type explanation struct {
	Listener    string            `json:"listener"`
	Client      string            `json:"client,omitempty"`
	From        mail.Address      `json:"mail_from"`
	SenderLocal bool              `json:"sender_local"`
	BankPath    string            `json:"policy_banks"`
	Path        []explainedStep   `json:"path"`
	Originating bool              `json:"originating"`
	Reason      string            `json:"originating_reason"`
	Recipients  []explainedRcpt   `json:"recipients"`
	Message     *explainedMessage `json:"message,omitempty"`
}

type explainedStep struct {
	Bank   string `json:"bank"`
	Reason string `json:"reason"`
}

// String names the bank, unless the step is a rule for an address.
func (s explainedStep) String() string {
	if s.Bank == "" {
		return s.Reason
	}
	return s.Bank + ": " + s.Reason
}

type explainedRcpt struct {
	Address    mail.Address        `json:"rcpt_to"`
	Local      bool                `json:"local"`
	Direction  policy.Direction    `json:"direction"`
	Overlays   []explainedStep     `json:"overlays,omitempty"` // beyond the path of the message
	Categories []explainedCategory `json:"if,omitempty"`
	Reasons    []string            `json:"reasons,omitempty"`
	Changes    []explainedChange   `json:"other_verdict_with,omitempty"`
}

// explainedCategory is what a finding of that category would lead to.
type explainedCategory struct {
	Category string `json:"category"`
	Destiny  string `json:"destiny"`
	Setting  string `json:"setting"` // that decides
	Origin   string `json:"origin"`
	Action   string `json:"action"`
	NoReport string `json:"no_report,omitempty"`
	Reply    string `json:"smtp_response"`
	Sent     string `json:"sent"`
}

type explainedChange struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

type explainedMessage struct {
	Checks  []mail.CheckEvent `json:"checks"`
	Replies []string          `json:"smtp_response"`
	Sent    []string          `json:"sent"`
	Log     []string          `json:"log"`
}

func explain(ctx context.Context, stdin io.Reader, out io.Writer, o explainOptions, file string) error {
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	f := &filter.Filter{Policy: cfg}
	if file != "" {
		if f.Checks, err = newChecks(cfg); err != nil {
			return exit(exitConfig, err)
		}
	}
	run, err := newDryRun(f)
	if err != nil {
		return exit(exitConfig, err)
	}
	tx, err := o.transaction(cfg)
	if err != nil {
		return exit(exitUsage, err)
	}
	e, err := explainEnvelope(ctx, run, tx)
	if err != nil {
		return err
	}
	if file != "" {
		data, err := readMessage(stdin, file)
		if err != nil {
			return exit(exitUsage, err)
		}
		if err := explainMessage(ctx, run, tx, e, file, data); err != nil {
			return exit(exitUsage, err)
		}
	}
	if o.json {
		return printJSON(out, e)
	}
	return printExplanation(out, e)
}

// transaction makes the envelope from the flags.
func (o *explainOptions) transaction(cfg *policy.Config) (*mail.Transaction, error) {
	client, err := clientOf(o.client)
	if err != nil {
		return nil, fmt.Errorf("--client: %w", err)
	}
	l, err := listenerOf(cfg, o.listener)
	if err != nil {
		return nil, fmt.Errorf("--listener: %w", err)
	}
	for _, b := range o.banks {
		if _, err := bankOf(cfg, b); err != nil {
			return nil, fmt.Errorf("--bank: %w", err)
		}
	}
	from, err := addressOf(o.from)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	to, err := envelopeTo(o.to)
	if err != nil {
		return nil, err
	}
	tx := dryTransaction(l, client, from, to)
	tx.Banks = o.banks
	return tx, nil
}

// explainEnvelope selects, and then tries every category on the real filter.
func explainEnvelope(ctx context.Context, run *dryRun, tx *mail.Transaction) (*explanation, error) {
	sel, err := run.filter.Select(ctx, tx, nil)
	if err != nil {
		return nil, err
	}
	e := &explanation{
		Listener: tx.Listener, From: tx.From, SenderLocal: sel.SenderLocal, BankPath: sel.BankPath(),
		Path: steps(sel.Path), Originating: sel.Originating, Reason: sel.Reason,
	}
	if tx.Client.Addr.IsValid() {
		e.Client = tx.Client.Addr.String()
	}
	for _, r := range sel.Rcpts {
		e.Recipients = append(e.Recipients, explainedRcpt{
			Address: r.Address, Local: r.Local, Direction: r.Direction, Overlays: steps(r.Path[len(sel.Path):]),
		})
	}
	for _, c := range []mail.Category{mail.Infected, mail.Banned, mail.Unchecked, mail.Spam, mail.BadHeader, mail.Clean} {
		findings := []mail.Finding{{Category: c, Minor: mail.OverLimits, Check: "explain", Name: "example", Rcpt: mail.AllRcpts}}
		ex, result := run.suppose(ctx, tx, sel, findings)
		for i := range e.Recipients {
			v, ev := &ex.Verdicts[i], result.event.Recipients[i]
			r := &e.Recipients[i]
			key := deciding(sel.Rcpts[i].Settings, c)
			r.Categories = append(r.Categories, explainedCategory{
				Category: c.String(), Destiny: string(v.Destiny), Setting: key, Origin: sel.Rcpts[i].Settings.Origin(key).String(),
				Action: ev.Action, NoReport: ev.NoReport, Reply: result.reply(i), Sent: strings.Join(result.describe(i), "; "),
			})
		}
	}
	return e, nil
}

// deciding returns the key of the setting that makes the destiny of category c
// for a recipient with settings s.
func deciding(s *policy.Settings, c mail.Category) string {
	section, set := policy.CategoryKey(c), s.Category(c)
	switch {
	case section == "":
		return "forward_to"
	case set.Bypass && c != mail.Unchecked:
		return section + ".bypass"
	case set.Lover && set.Destiny != policy.Pass:
		return section + ".lover"
	}
	return section + ".destiny"
}

func steps(path []policy.Step) []explainedStep {
	out := make([]explainedStep, 0, len(path))
	for _, s := range path {
		out = append(out, explainedStep{s.Bank, s.Reason})
	}
	return out
}

// describe says what would be handed on, for recipient i or, with -1, for all.
func (r *dryResult) describe(i int) []string {
	var out []string
	for _, s := range r.sent {
		var to []string
		mine := i < 0
		for _, rcpt := range s.out.Rcpts {
			to = append(to, rcpt.Address.String())
			mine = mine || rcpt.Address == r.tx.Rcpts[i].Address
		}
		kind := s.kind(r.tx)
		switch {
		case kind == kindMessage && mine:
			var edits []string
			for _, e := range s.out.Edits {
				edits = append(edits, e.Name)
			}
			hop := s.hop.String()
			if s.goesBack(r.tx) {
				hop = "the feeding MTA"
			}
			out = append(out, fmt.Sprintf("%s to %s for %s, with %s", kind, hop, strings.Join(to, " "), strings.Join(edits, ", ")))
		case kind != kindMessage:
			out = append(out, kind+" to "+strings.Join(to, " "))
		}
	}
	if len(out) == 0 {
		out = append(out, "nothing")
	}
	return out
}

// explainMessage lets the checks look at a message, and adds what they say to
// e; name stands in the error for one that is too large.
func explainMessage(ctx context.Context, run *dryRun, tx *mail.Transaction, e *explanation, name string, data []byte) error {
	if limit := run.filter.Policy.Limits.MessageSize; int64(len(data)) > int64(limit) {
		return fmt.Errorf("%s has %d octets: it would be refused with 552, since limits.message_size is %s (%s)", name, len(data), limit, run.filter.Policy.Origin("limits.message_size"))
	}
	tx.Message = mail.NewMessage(data)
	ctx, cancel := context.WithTimeout(ctx, run.filter.Policy.Limits.Deadline)
	defer cancel()
	ex, err := run.filter.Examine(ctx, tx)
	if err != nil {
		return err
	}
	for i := range ex.Verdicts {
		r := &e.Recipients[i]
		r.Categories, r.Reasons = nil, ex.Verdicts[i].Reasons
		for _, c := range policy.Flip(ex.Selection, i, ex.Findings) {
			r.Changes = append(r.Changes, explainedChange{c.Key, c.Value, c.Origin.String()})
		}
	}
	result := run.enact(ctx, tx, ex)
	e.Message = &explainedMessage{Checks: result.event.Checks, Sent: result.describe(-1), Log: observe.Lines(result.event)}
	for _, r := range result.replies {
		e.Message.Replies = append(e.Message.Replies, r.String())
	}
	return nil
}

// printExplanation writes the text form.
func printExplanation(out io.Writer, e *explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	client, sender := "unknown", "not local"
	if e.Client != "" {
		client = e.Client
	}
	if e.SenderLocal {
		sender = "local"
	}
	fmt.Fprintf(w, "listener\t%s\nclient\t%s\nsender\t%s, %s\n", e.Listener, client, e.From, sender)
	path := e.BankPath
	if path == "" {
		path = "none, the base settings"
	}
	fmt.Fprintf(w, "banks\t%s\n", path)
	for _, s := range e.Path {
		fmt.Fprintf(w, "\t%s\n", s)
	}
	originating := "no"
	if e.Originating {
		originating = "yes"
	}
	fmt.Fprintf(w, "originating\t%s, %s\n", originating, e.Reason)
	for i := range e.Recipients {
		printExplainedRcpt(w, &e.Recipients[i])
	}
	if e.Message != nil {
		printExplainedMessage(w, e.Message)
	}
	return w.Flush()
}

func printExplainedRcpt(w io.Writer, r *explainedRcpt) {
	local := "not local"
	if r.Local {
		local = "local"
	}
	fmt.Fprintf(w, "\nrecipient\t%s, %s: %s\n", r.Address, local, r.Direction)
	for _, s := range r.Overlays {
		fmt.Fprintf(w, "\t%s\n", s)
	}
	for _, c := range r.Categories {
		fmt.Fprintf(w, "  %s\t%s, by %s (%s) -> %s", c.Category, c.Destiny, c.Setting, c.Origin, c.Action)
		if c.NoReport != "" {
			fmt.Fprintf(w, " [%s]", c.NoReport)
		}
		fmt.Fprintf(w, "\n\t  answer %s\n\t  sent: %s\n", c.Reply, c.Sent)
	}
	for i, s := range r.Reasons {
		fmt.Fprintf(w, "%s\t%s\n", first("verdict", i), s)
	}
	for i, c := range r.Changes {
		fmt.Fprintf(w, "%s\t%s: %s (now from %s)\n", first("otherwise with", i), c.Key, c.Value, c.Origin)
	}
}

func first(label string, i int) string {
	if i == 0 {
		return label
	}
	return ""
}

func printExplainedMessage(w io.Writer, m *explainedMessage) {
	fmt.Fprintln(w)
	for i, c := range m.Checks {
		said := "nothing found"
		if c.Error != "" {
			said = "failed: " + c.Error
		} else if len(c.Findings) > 0 {
			said = strings.Join(c.Findings, ", ")
		}
		fmt.Fprintf(w, "%s\t%s, %s: %s\n", first("checks", i), c.Check, time.Duration(c.Millis*float64(time.Millisecond)).Round(10*time.Microsecond), said)
	}
	for i, s := range m.Sent {
		fmt.Fprintf(w, "%s\t%s\n", first("sent", i), s)
	}
	for i, s := range m.Replies {
		fmt.Fprintf(w, "%s\t%s\n", first("answer", i), s)
	}
	for i, s := range m.Log {
		fmt.Fprintf(w, "%s\t%s\n", first("log", i), s)
	}
}
