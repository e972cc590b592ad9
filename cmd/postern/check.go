package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/ask"
	"postern/filter/listen"
	"postern/policy"
)

// checkOptions are the flags of check.
type checkOptions struct {
	config                          string
	strict, json, probe, show, diff bool
	user                            string
	envelope                        envelopeOptions
	situation                       bool // --show is asked about an envelope
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [--show [BANK] | --diff OLD NEW]",
		Short: "Check the configuration",
		Long: `Check the configuration: every mistake with its place and a hint, then what
would work but is most likely not meant, such as a bank that no mail gets. That
accepted mail would vanish is a mistake, unless the destiny is discard. Nothing is
started.

--probe asks engines, next hops, name servers and the database: the engines must
find the test strings EICAR and GTUBE, and the DNS must have what large receivers
want of our mail.

--user NAME finds keys, files, sockets and folders that the user of the daemon
cannot use, although root can.

--show prints the settings in force, each with its place: of a bank, or of an
envelope. --diff says what changes for the mail between two configurations.

The exit code is 78 for mistakes, 69 if something does not answer, and with
--strict 1 for warnings.`,
		Example: `  postern check --show INT-MTA
  postern check --user postern
  postern check --show --listener 127.0.0.1:10024 --client 192.0.2.7 --to b@example.org
  postern check --diff /etc/postern/postern.yaml new/postern.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range envelopeFlags {
				o.situation = o.situation || cmd.Flags().Changed(name)
			}
			return runCheck(cmd.Context(), cmd.OutOrStdout(), o, args)
		},
	}
	addConfigFlag(cmd, &o.config)
	f := cmd.Flags()
	f.BoolVar(&o.strict, "strict", false, "exit with 1 if there are warnings")
	f.BoolVar(&o.probe, "probe", false, "ask engines, next hops, name servers and the database")
	f.BoolVar(&o.show, "show", false, "print the settings in force")
	f.BoolVar(&o.diff, "diff", false, "compare two configurations")
	o.envelope.addFlags(f, "for --show: ")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.user, "user", "", "say what the daemon's user `NAME` cannot read, write or connect to")
	cmd.MarkFlagsMutuallyExclusive("show", "diff", "user")
	cmd.MarkFlagsMutuallyExclusive("probe", "show")
	cmd.MarkFlagsMutuallyExclusive("probe", "diff")
	return cmd
}

func runCheck(ctx context.Context, out io.Writer, o checkOptions, args []string) error {
	switch {
	case o.diff && len(args) != 2:
		return exit(exitUsage, errors.New("--diff wants two configurations: OLD NEW"))
	case o.diff:
		return printDiff(ctx, out, args[0], args[1], o.json)
	case !o.show && len(args) == 1:
		return exit(exitUsage, fmt.Errorf("unexpected argument %q; the configuration is named by --config %[1]s", args[0]))
	case o.show && len(args) > 1 || !o.show && len(args) > 0:
		return exit(exitUsage, fmt.Errorf("unexpected argument %q", args[len(args)-1]))
	case o.show && len(args) == 1 && o.situation:
		return exit(exitUsage, errors.New("--show wants a bank or an envelope, not both"))
	case !o.show && o.situation:
		return exit(exitUsage, errors.New("flags of an envelope, such as --client, go with --show; see also postern explain"))
	}
	if !o.show {
		return checkConfig(ctx, out, o)
	}
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	return show(ctx, out, cfg, o, append(args, "")[0])
}

// judgement is the answer of check, in the form of its JSON.
type judgement struct {
	Config   string       `json:"config"`
	Mistakes []ask.Remark `json:"mistakes"`
	Warnings []ask.Remark `json:"warnings"`
	Probes   []probed     `json:"probes,omitempty"`
}

// probeTime bounds each probe.
const probeTime = 30 * time.Second

func checkConfig(ctx context.Context, out io.Writer, o checkOptions) error {
	j := judgement{Config: o.config, Mistakes: []ask.Remark{}, Warnings: []ask.Remark{}}
	cfg, err := policy.Load(o.config, engines())
	if err != nil {
		j.Mistakes = ask.Remarks(err)
	} else {
		f, problems := makeAll(cfg)
		j.Mistakes = append(j.Mistakes, problems...)
		if o.user != "" {
			closed, err := ask.NotAccessible(cfg, o.user)
			if err != nil {
				return exit(exitOSErr, fmt.Errorf("--user %s: %w", o.user, err))
			}
			j.Mistakes = append(j.Mistakes, closed...)
		}
		warnings, vanishing, err := ask.Doubts(ctx, f)
		if err != nil {
			return exit(exitSoftware, err)
		}
		j.Mistakes = append(j.Mistakes, vanishing...)
		j.Warnings = append(j.Warnings, warnings...)
		if o.probe {
			j.Probes = probe(ctx, f, probeTime)
		}
	}
	if o.json {
		err = printJSON(out, j)
	} else {
		err = j.print(out, cfg)
	}
	return errors.Join(err, j.exit(o.strict))
}

func (j *judgement) print(out io.Writer, cfg *policy.Config) error {
	var err error
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}
	for _, m := range j.Mistakes {
		line("%s", m)
	}
	for _, w := range j.Warnings {
		line("warning: %s", w)
	}
	for _, p := range j.Probes {
		line("%s", p)
	}
	if len(j.Mistakes) > 0 {
		line("%s: %s, %s", j.Config, count(len(j.Mistakes), "mistake"), count(len(j.Warnings), "warning"))
	} else {
		line("%s: good, %s; %s, %s, %s", j.Config, count(len(j.Warnings), "warning"),
			count(len(cfg.Listeners), "listener"), count(len(cfg.Banks), "bank"), count(len(cfg.Engines), "engine"))
	}
	return err
}

// count is "1 bank", "2 banks".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// exit returns the error without text that carries the exit code.
func (j *judgement) exit(strict bool) error {
	code := 0
	if strict && len(j.Warnings) > 0 {
		code = exitFound
	}
	for _, p := range j.Probes {
		if p.Error != "" {
			code = exitUnavailable
		}
	}
	if len(j.Mistakes) > 0 {
		code = exitConfig
	}
	if code == 0 {
		return nil
	}
	return exit(code, errSaid)
}

// makeAll makes what serve would make of a configuration, as far as it can, and
// says what would keep serve from starting or from taking large mail: keys,
// engines, owners of sockets, the spool, the log.
func makeAll(cfg *policy.Config) (f *filter.Filter, problems []ask.Remark) {
	f = &filter.Filter{Policy: cfg}
	var err error
	if f.Keys, err = loadKeys(cfg); err != nil {
		problems = append(problems, ask.Remarks(err)...)
	}
	if f.Checks, err = newChecks(cfg); err != nil {
		problems = append(problems, ask.Remarks(err)...)
	}
	if f.Templates, err = loadTemplates(cfg); err != nil {
		problems = append(problems, ask.Remarks(err)...)
	}
	for _, l := range cfg.Listeners {
		if err := listen.CheckOwner(l.Owner); err != nil {
			problems = append(problems, ask.Remark{Place: l.Origin.String(), What: "listener " + l.Address + ": " + err.Error()})
		}
	}
	problems = append(problems, lookupProblems(cfg)...)
	return f, append(problems, ask.Unwritable(cfg)...)
}

// show prints the settings of a bank over the base, or of each recipient in a
// situation; without both, of the base.
func show(ctx context.Context, out io.Writer, cfg *policy.Config, o checkOptions, bank string) error {
	var all []ask.ShownSettings
	if o.situation {
		done, err := withLookups(cfg)
		if err != nil {
			return exit(exitConfig, err)
		}
		defer done()
		tx, err := o.envelope.transaction(cfg)
		if err != nil {
			return exit(exitUsage, err)
		}
		sel, err := (&filter.Filter{Policy: cfg}).Select(ctx, tx, nil)
		if err != nil {
			return exit(exitSoftware, err)
		}
		all = ask.ShowSelection(sel)
	} else {
		s, err := ask.ShowBank(cfg, bank)
		if err != nil {
			return exit(exitUsage, err)
		}
		all = append(all, s)
	}
	if o.json {
		return printJSON(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "# %s\n", s.What)
		for _, p := range s.Path {
			fmt.Fprintf(w, "#   %s\n", p)
		}
		for _, v := range s.Settings {
			fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, shorten(ask.ShowValue(v.Value)), policy.Origin{Bank: v.Bank, File: v.File, Line: v.Line})
		}
	}
	return w.Flush()
}

// shorten keeps a table readable; --json has the whole value.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

// printDiff prints what changes from one configuration to another.
func printDiff(ctx context.Context, out io.Writer, from, to string, asJSON bool) error {
	var runs [2]*ask.DryRun
	for i, path := range []string{from, to} {
		cfg, err := policy.Load(path, engines())
		if err == nil {
			runs[i], err = ask.New(&filter.Filter{Policy: cfg})
		}
		if err != nil {
			return exit(exitConfig, err)
		}
	}
	all, err := ask.Diff(ctx, runs[0], runs[1])
	if err != nil {
		return exit(exitSoftware, err)
	}
	if asJSON {
		return printJSON(out, all)
	}
	for _, d := range all {
		for _, m := range append(d.Mail, "")[:max(1, len(d.Mail))] {
			if m != "" {
				m += ": "
			}
			if _, err := fmt.Fprintf(out, "%s%s\n", m, d.Change); err != nil {
				return err
			}
		}
	}
	if len(all) == 0 {
		_, err = fmt.Fprintln(out, "nothing changes for the mail")
	}
	return err
}
