package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/policy"
)

func newCheckCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration",
		Long: `Check the configuration: every mistake with its place and a hint, then what
would work but is most likely not meant. Nothing is started.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := policy.Load(config, engines())
			if err != nil {
				return exit(exitConfig, err)
			}
			log, closer, err := newLogger(cfg.Log)
			if err != nil {
				return exit(exitConfig, fmt.Errorf("%s: log: %w", cfg.Origin("log.to"), err))
			}
			defer closer.Close()
			d, err := newDaemon(cfg, log)
			if err != nil {
				return exit(exitConfig, err)
			}
			out := cmd.OutOrStdout()
			for _, w := range d.warnings() {
				fmt.Fprintln(out, "warning: "+w)
			}
			fmt.Fprintf(out, "%s: good, %d listeners, %d banks, %d engines\n", config, len(cfg.Listeners), len(cfg.Banks), len(cfg.Engines))
			return nil
		},
	}
	addConfigFlag(cmd, &config)
	return cmd
}
