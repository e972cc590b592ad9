package main

// postern postfix: does Postfix fit the configuration, and what does it need.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/deploy/postfix"
	"postern/filter/mail"
	"postern/policy"
)

func newPostfixCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "postfix",
		Short: "Judge the set-up of Postfix, or show what it needs",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newPostfixCheckCommand(), newPostfixShowCommand())
	return cmd
}

// postfixSource says where Postfix' configuration is.
type postfixSource struct{ dir, main, master string }

func newPostfixCheckCommand() *cobra.Command {
	var config string
	var source postfixSource
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what in Postfix does not fit Postern",
		Long: `Say what in Postfix does not fit Postern: for each finding what it is, why it
matters, and the postconf commands that mend it. Nothing is changed. Run it
again after mending, then "postfix reload".

The exit code is 0 when all is well and 1 when something was found.

Postfix is asked by postconf. For a Postfix on another machine, save what
"postconf -n; postconf mail_version" and "postconf -M" print there.`,
		Example: `  postern postfix check
  postern postfix check --config-dir /etc/postfix-out
  postern postfix check --main n.txt --master M.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return checkPostfix(cmd.Context(), cmd.OutOrStdout(), config, source, asJSON)
		},
	}
	addConfigFlag(cmd, &config)
	f := cmd.Flags()
	f.StringVar(&source.dir, "config-dir", "", "`folder` with main.cf and master.cf (default: the one Postfix uses)")
	f.StringVar(&source.main, "main", "", "`file` with the output of postconf -n, or a main.cf")
	f.StringVar(&source.master, "master", "", "`file` with the output of postconf -M, or a master.cf")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsRequiredTogether("main", "master")
	cmd.MarkFlagsMutuallyExclusive("config-dir", "main")
	return cmd
}

func newPostfixShowCommand() *cobra.Command {
	var config string
	var commands, asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the pieces that Postfix needs for this configuration",
		Long: `Print the pieces that Postfix needs for this configuration, to be pasted into
main.cf and master.cf, or with --commands as postconf commands.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := loadFacts(config)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), facts.Show())
			}
			_, err = io.WriteString(cmd.OutOrStdout(), postfix.Show(facts, commands))
			return err
		},
	}
	addConfigFlag(cmd, &config)
	cmd.Flags().BoolVar(&commands, "commands", false, "print commands for a shell")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("commands", "json")
	return cmd
}

// postfixReport is the JSON form.
type postfixReport struct {
	Version  string           `json:"mail_version"`
	Findings []postfixFinding `json:"findings"`
}

type postfixFinding struct {
	Rule  string   `json:"rule"`
	Where string   `json:"where"`
	What  string   `json:"what"`
	Why   string   `json:"why"`
	Mend  []string `json:"mend,omitempty"`
}

func checkPostfix(ctx context.Context, out io.Writer, config string, source postfixSource, asJSON bool) error {
	facts, err := loadFacts(config)
	if err != nil {
		return err
	}
	var system *postfix.System
	if source.main != "" {
		system, err = postfix.ReadFiles(source.main, source.master)
	} else {
		system, err = postfix.Read(ctx, source.dir)
	}
	if err != nil {
		return exit(exitOSErr, fmt.Errorf("reading the set-up of Postfix: %w", err))
	}
	report := postfixReport{Version: system.Version.String(), Findings: []postfixFinding{}}
	for _, f := range postfix.Check(facts, system) {
		pf := postfixFinding{Rule: f.Rule, Where: f.Where, What: f.What, Why: f.Why}
		for _, e := range f.Mend {
			pf.Mend = append(pf.Mend, e.String())
		}
		report.Findings = append(report.Findings, pf)
	}
	if asJSON {
		err = printJSON(out, report)
	} else {
		err = report.print(out)
	}
	if err == nil && len(report.Findings) > 0 {
		err = exit(exitFound, errSaid)
	}
	return err
}

// print writes the text form. What Postfix' files say is foreign text: it is
// shown as it is, but for control characters.
func (r *postfixReport) print(out io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s [%s]\n  %s\n", f.Where, f.What, f.Rule, f.Why)
		for _, m := range f.Mend {
			fmt.Fprintf(&b, "    %s\n", m)
		}
		b.WriteByte('\n')
	}
	switch n := len(r.Findings); n {
	case 0:
		fmt.Fprintf(&b, "good: Postfix %s fits\n", r.Version)
	case 1:
		b.WriteString("1 finding\n")
	default:
		fmt.Fprintf(&b, "%d findings\n", n)
	}
	_, err := io.WriteString(out, strings.Map(printable, b.String()))
	return err
}

func printable(r rune) rune {
	if r < ' ' && r != '\n' || r == 0x7f {
		return '?'
	}
	return r
}

// loadFacts reads what Postfix has to fit.
func loadFacts(config string) (*postfix.Postern, error) {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return nil, exit(exitConfig, err)
	}
	facts := &postfix.Postern{
		Deadline: cfg.Limits.Deadline, Sessions: cfg.Limits.Sessions, PeerSessions: cfg.Limits.SessionsPerClient,
		MessageSize: int64(cfg.Limits.MessageSize), Recipients: cfg.Limits.Recipients, Own: cfg.OwnClients,
		AuthservID: cfg.AuthservID, Trusting: slices.Contains(cfg.TrustedResults, cfg.AuthservID),
	}
	for _, l := range cfg.Listeners {
		settings := cfg.Bank(l.Bank).Over(&cfg.Settings)
		facts.Listeners = append(facts.Listeners, postfix.Listener{
			Protocol: string(l.Protocol), Address: l.Address, Bank: l.Bank, Originating: settings.Originating,
			Deadline: cfg.Deadline(l.Protocol), LocalBank: l.LocalBank != "", Mode: l.Mode, Owner: l.Owner,
		})
	}
	for _, hop := range nextHops(cfg) {
		h, err := mail.ParseNextHop(hop)
		if err != nil {
			return nil, exit(exitConfig, err)
		}
		// Postfix takes mail in by SMTP only, and not on sockets
		if !h.LMTP && h.Network == "tcp" {
			facts.NextHops = append(facts.NextHops, h.Address)
		}
	}
	return facts, nil
}
