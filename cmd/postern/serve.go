package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/filter/ask"
	"postern/filter/observe"
	"postern/policy"
)

// drainTime is how long messages in work may take after SIGTERM.
const drainTime = 60 * time.Second

func newServeCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the filter in the foreground",
		Long: `Run the filter in the foreground, for a service manager.

SIGHUP opens the log file again and reads the configuration again; a mistake
in it leaves the old one in force. SIGTERM and SIGINT refuse new mail and give
messages in work up to 60 seconds; a second SIGINT ends at once. Mail that was
not answered stays in the queue of Postfix.

The exit code is 78 for a configuration that will not do, and 69 if an address
is in use or not there yet: then a later start may succeed.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return serve(config) },
	}
	addConfigFlag(cmd, &config)
	return cmd
}

func addConfigFlag(cmd *cobra.Command, config *string) {
	cmd.Flags().StringVarP(config, "config", "c", defaultConfig, "configuration `file`")
}

func serve(config string) error {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return exit(exitConfig, err)
	}
	log, sink, err := observe.Open(cfg.Log)
	if err != nil {
		return exit(exitConfig, fmt.Errorf("%s: log: %w", cfg.Origin("log.to"), err))
	}
	defer sink.Close()
	d, err := newDaemon(cfg, log, nil)
	if err != nil {
		return exit(exitConfig, err)
	}
	// before the listeners are open: a signal must not kill what has begun
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	if err := d.start(openListener); err != nil {
		code := exitConfig
		// the configuration may be right, and another start may succeed
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			code = exitUnavailable
		}
		return exit(code, err)
	}
	for _, l := range cfg.Listeners {
		log.Info("listening", "address", l.Address, "protocol", string(l.Protocol), "bank", l.Bank)
	}
	d.warn(cfg)
	return d.run(config, signals, sink)
}

// run serves until a signal or the failure of a listener ends the program. At
// SIGHUP the log is opened again and the configuration read again.
func (d *daemon) run(config string, signals <-chan os.Signal, log observe.Sink) error {
	for {
		select {
		case err := <-d.failed:
			d.log.Error("stopping", "err", err)
			return errors.Join(exit(exitOSErr, err), d.drain(signals, 0))
		case s := <-signals:
			if s != syscall.SIGHUP {
				d.log.Info("stopping", "signal", s.String())
				interrupts := 0
				if s == syscall.SIGINT {
					interrupts++
				}
				return d.drain(signals, interrupts)
			}
			if f, ok := log.(interface{ Reopen() error }); ok {
				if err := f.Reopen(); err != nil {
					d.log.Error("the log cannot be opened again, the old file is used", "err", err)
				}
			}
			d.reloadFile(config)
		}
	}
}

// mostMistakes bounds what a bad configuration writes to the log.
const mostMistakes = 20

func (d *daemon) reloadFile(config string) {
	cfg, err := policy.Load(config, engines())
	if err == nil {
		err = d.reload(cfg)
	}
	if config, ok := errors.AsType[*policy.ConfigError](err); ok && len(config.Mistakes) > 1 {
		for i, m := range config.Mistakes {
			if i == mostMistakes {
				break
			}
			d.log.Error(m.String())
		}
		d.log.Error("the configuration is not taken, the old one stays", "mistakes", len(config.Mistakes))
		return
	}
	if err != nil {
		d.log.Error("the configuration is not taken, the old one stays", "err", err)
		return
	}
	d.log.Info("configuration reloaded", "file", config)
	d.warn(cfg)
}

func (d *daemon) warn(cfg *policy.Config) {
	for _, w := range ask.Warnings(cfg) {
		d.log.Warn(w)
	}
}

// drain lets messages in work finish; the second SIGINT cuts them off.
func (d *daemon) drain(signals <-chan os.Signal, interrupts int) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.stop(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				d.log.Warn("stopped before all messages were finished; they stay in the feeding queue", "err", err)
			}
			return nil
		case s := <-signals:
			if s == syscall.SIGINT {
				interrupts++
			}
			if interrupts >= 2 {
				cancel()
			}
		}
	}
}
