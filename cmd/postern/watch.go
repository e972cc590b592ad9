package main

// The engines are watched while the daemon runs: one that answers and finds
// nothing would call all mail clean, and nobody would know.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/filter"
	"postern/filter/check"
)

// watch is what was told of the engines last, so that it is told once.
type watch struct {
	log  *slog.Logger
	told map[string]string // by engine and what is the matter
}

// oneProbe bounds a probe of one engine.
const oneProbe = 30 * time.Second

// watchEngines probes the engines of the filter of the moment, at once and then
// by its probe_interval, until ctx ends.
func (d *daemon) watchEngines(ctx context.Context) {
	w := &watch{log: d.log, told: map[string]string{}}
	for {
		f := d.filter.Load()
		if f.Policy.ProbeInterval == 0 {
			return
		}
		w.round(ctx, f)
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.Policy.ProbeInterval):
		}
	}
}

// round probes all engines of f.
func (w *watch) round(ctx context.Context, f *filter.Filter) {
	type found struct{ engine, probe, signatures string }
	out := make([]found, len(f.Checks))
	var all sync.WaitGroup
	for i, c := range f.Checks {
		if f.Policy.Engines[c.Name] == nil {
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, oneProbe)
			defer cancel()
			out[i].engine = c.Name
			if _, _, err := check.Probe(ctx, c, f.Policy.Hostname); err != nil {
				out[i].probe = err.Error()
				if failure, silent := errors.AsType[*check.Failure](err); silent {
					out[i].probe = "no answer to a probe (" + failure.Word + "): " + out[i].probe
				}
			}
			if d, ok := c.Check.(check.Dated); ok && out[i].probe == "" {
				out[i].signatures = oldest(ctx, d, time.Now())
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return // the program ends: what was found is its own fault
	}
	for _, o := range out {
		if o.engine != "" {
			w.tell(slog.LevelError, "engine "+o.engine+" does not find what it must", o.probe)
			w.tell(slog.LevelWarn, "engine "+o.engine+" has old signatures", o.signatures)
		}
	}
}

// tell logs what is new: that something is the matter, or that it is over.
func (w *watch) tell(level slog.Level, what, why string) {
	switch before := w.told[what]; {
	case before == "" && why != "":
		w.log.Log(context.Background(), level, what, "err", why)
	case before != "" && why == "":
		w.log.Info("over: " + what)
	}
	w.told[what] = why
}

// oldest says which signatures are too old, empty for none. What cannot be asked
// is no reason to alarm: the probe has shown that the engine works.
func oldest(ctx context.Context, d check.Dated, now time.Time) string {
	servers, _ := d.Signatures(ctx)
	for _, s := range servers {
		if age := now.Sub(s.Date); !s.Date.IsZero() && age > oldSignatures {
			return fmt.Sprintf("%s of %s, %d days: does freshclam run?", s.Server, s.Date.Format(time.DateOnly), int(age.Hours())/24)
		}
	}
	return ""
}

// tellOfServers logs when a server of an engine goes down and comes back.
func tellOfServers(checks []check.Named, log *slog.Logger) {
	for _, c := range checks {
		served, ok := c.Check.(check.Served)
		if !ok {
			continue
		}
		for _, s := range served.Servers() {
			s.OnChange(func(down error) {
				if down != nil {
					log.Error("a server of an engine is down, mail does not wait for it", "engine", c.Name, "server", s.String(), "err", down)
					return
				}
				log.Info("a server of an engine is back", "engine", c.Name, "server", s.String())
			})
		}
	}
}
