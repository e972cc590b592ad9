package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/ask"
	"postern/filter/mail"
	"postern/policy"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	config   string
	envelope envelopeOptions
	signers  []string
	json     bool
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

How the mail comes in is decided by the protocol of the listener. What it says
is what the client would hear: before the queue a refusal, where after it the
mail of a stranger is dropped.

Nothing is sent and nothing is written; the DNS is asked who answers for the
message.`,
		Example: `  postern explain --listener 127.0.0.1:10023 --client 192.0.2.7 --from a@example.org --to b@example.net
  postern explain --listener unix:/run/postern/milter.sock --login ann --daemon submission --from a@example.org --to b@example.net
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
	o.envelope.addFlags(f, "")
	f.StringArrayVar(&o.signers, "signer", nil, "`domain` of a valid signature of the author, where no message tells; may be repeated")
	f.BoolVar(&o.json, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func explain(ctx context.Context, stdin io.Reader, out io.Writer, o explainOptions, file string) error {
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	done, err := withLookups(cfg)
	if err != nil {
		return exit(exitConfig, err)
	}
	defer done()
	f := &filter.Filter{Policy: cfg}
	if file != "" {
		if f.Checks, err = newChecks(cfg); err != nil {
			return exit(exitConfig, err)
		}
		f.Authenticate = newVerifier(cfg, nil).Authenticate
	}
	run, err := ask.New(f)
	if err != nil {
		return exit(exitConfig, err)
	}
	tx, err := o.envelope.transaction(cfg)
	if err != nil {
		return exit(exitUsage, err)
	}
	if file != "" && len(o.signers) > 0 {
		return exit(exitUsage, errors.New("--signer: the signatures of the message are verified"))
	}
	var e *ask.Explanation
	if file == "" {
		e, err = ask.Explain(ctx, run, tx, o.signers...)
	} else {
		var data []byte
		if data, err = readMessage(stdin, file); err == nil {
			e, err = ask.ExplainMessage(ctx, run, tx, file, data)
		}
	}
	if err != nil {
		return exit(exitUsage, err)
	}
	if o.json {
		return printJSON(out, e)
	}
	return printExplanation(out, e)
}

// printExplanation writes the text form.
func printExplanation(out io.Writer, e *ask.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	client, sender := "unknown", "not local"
	switch {
	case e.Input == mail.InputLocal:
		client = "none, mail without a connection"
	case e.Client != "":
		client = e.Client
	}
	if e.SenderLocal {
		sender = "local"
	}
	fmt.Fprintf(w, "listener\t%s, %s\nclient\t%s\n", e.Listener, e.Input, client)
	for _, x := range [][2]string{{"login", e.Login}, {"daemon", e.Daemon}} {
		if x[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", x[0], mail.Escape(x[1]))
		}
	}
	fmt.Fprintf(w, "sender\t%s, %s\n", e.From, sender)
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

func printExplainedRcpt(w io.Writer, r *ask.ExplainedRcpt) {
	local := "not local"
	if r.Local {
		local = "local"
	}
	fmt.Fprintf(w, "\nrecipient\t%s, %s: %s\n", r.Address, local, r.Direction)
	for _, s := range r.Overlays {
		fmt.Fprintf(w, "\t%s\n", s)
	}
	if r.Apart {
		fmt.Fprint(w, "\tgets 452 and comes in another transaction (split: rcpt): ask about this recipient alone\n")
	}
	for _, c := range r.Categories {
		fmt.Fprintf(w, "  %s\t%s, by %s (%s) -> %s", c.Category, c.Destiny, c.Setting, c.Origin, c.Action)
		if c.NoReport != "" {
			fmt.Fprintf(w, " [%s]", c.NoReport)
		}
		fmt.Fprintf(w, "\n\t  answer %s\n\t  sent: %s\n", c.Reply, c.Sent)
		if c.NotSigned != "" {
			fmt.Fprintf(w, "\t  not signed: %s\n", c.NotSigned)
		}
	}
	for i, s := range r.Reasons {
		fmt.Fprintf(w, "%s\t%s\n", first("verdict", i), s)
	}
	if r.NotSigned != "" {
		fmt.Fprintf(w, "not signed\t%s\n", r.NotSigned)
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

func printExplainedMessage(w io.Writer, m *ask.ExplainedMessage) {
	fmt.Fprintln(w)
	for i, s := range m.Authentication {
		fmt.Fprintf(w, "%s\t%s\n", first("authentication", i), s)
	}
	for i, c := range m.Checks {
		said := "nothing found"
		if c.Error != "" {
			said = "failed: " + c.Error
		} else if c.Skipped != "" {
			said = "skipped: " + c.Skipped
		} else if len(c.Findings) > 0 {
			said = strings.Join(c.Findings, ", ")
		}
		if c.Score != nil {
			said += ", score " + mail.ScoreText(*c.Score)
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
