package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/ask"
	"postern/policy"
)

func newTestCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Run policy tests",
		Long: `Run policy tests: cases that say for an envelope, a client and what the checks
found which banks must apply and what must become of the mail. The files are
those named, or all *.test.yaml beside the configuration. A case:

  tests:
    - name: a virus from one of us is refused
      listener: 127.0.0.1:10023
      client: 192.0.2.7
      from: a@example.org
      to: b@example.net
      findings: [INFECTED Eicar-Test]
      want:
        banks: ORIGINATING
        direction: Outbound
        action: RejectedOutbound
        notices: [postmaster@example.org]

The listener decides how the mail comes in. For a milter a case may also have
login, daemon and local (true: mail without a connection), for am.pdp banks.
signers are the domains whose author signatures are valid.

Only what stands in want is compared: banks, originating, direction, destiny,
action, reply, notices, report, signed. Nothing is sent, no key is read.
The exit code is 1 if a case fails.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			return runTests(cmd.Context(), cmd.OutOrStdout(), config, files, asJSON)
		},
	}
	addConfigFlag(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runTests(ctx context.Context, out io.Writer, config string, files []string, asJSON bool) error {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	run, err := ask.New(&filter.Filter{Policy: cfg})
	if err != nil {
		return exit(exitConfig, err)
	}
	cases, err := readTests(config, files)
	if err != nil {
		return err
	}
	results := make([]ask.TestResult, len(cases))
	failed := 0
	for i := range cases {
		if results[i], err = ask.Test(ctx, run, &cases[i]); err != nil {
			if _, ok := errors.AsType[*ask.CaseError](err); ok {
				return exit(exitConfig, err)
			}
			return exit(exitSoftware, err)
		}
		if len(results[i].Failures) > 0 {
			failed++
		}
	}
	if asJSON {
		err = printJSON(out, results)
	} else {
		err = printTests(out, results, failed)
	}
	if err == nil && failed > 0 {
		err = exit(exitFound, errSaid)
	}
	return err
}

// readTests reads all files; all mistakes are reported together.
func readTests(config string, files []string) ([]policy.Test, error) {
	if len(files) == 0 {
		var err error
		pattern := filepath.Join(filepath.Dir(config), "*.test.yaml")
		if files, err = filepath.Glob(pattern); err != nil || len(files) == 0 {
			return nil, exit(exitUsage, fmt.Errorf("there are no tests: no file is called %s (hint: postern test --help shows a case)", pattern))
		}
	}
	var cases []policy.Test
	var errs []error
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		more, err := policy.ParseTests(file, data)
		if err != nil {
			errs = append(errs, err)
		}
		cases = append(cases, more...)
	}
	return cases, exit(exitConfig, errors.Join(errs...))
}

func printTests(out io.Writer, results []ask.TestResult, failed int) error {
	for _, r := range results {
		for _, f := range r.Failures {
			if _, err := fmt.Fprintf(out, "%s: %s: %s is %s, want %s\n    because %s\n", f.Place, r.Name, f.Key, f.Got, f.Want, f.Reason); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(out, "%d passed, %d failed\n", len(results)-failed, failed)
	return err
}
