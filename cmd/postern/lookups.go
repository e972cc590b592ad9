package main

// The database of lookups.sql: one source for the daemon, which a reload keeps
// with all that it knows, and one for each command that asks.

import (
	"context"
	"log/slog"
	"time"

	"postern/filter/ask"
	"postern/filter/mail"
	"postern/policy"
	"postern/policy/sql"
)

// sourceFor returns the source for a configuration, nil if it has none: the one
// in use if nothing about it changes, so that what it knows is not lost.
func (d *daemon) sourceFor(cfg *policy.Config) (*sql.Source, error) {
	o, err := sql.OptionsOf(cfg)
	if err != nil || o == nil {
		return nil, err
	}
	if d.source != nil && d.source.Options().Equal(o) {
		return d.source, nil
	}
	return sql.Open(o)
}

// useSource has a configuration that is not in use yet ask src, and closes the
// source before it once no message in work can ask it any more.
func (d *daemon) useSource(cfg *policy.Config, src *sql.Source) {
	if src != nil {
		cfg.AddLookup(src.For(cfg, d.log))
	}
	if old := d.source; old != nil && old != src {
		time.AfterFunc(cfg.Limits.Deadline, func() { closeSource(old, d.log) })
	}
	d.source = src
}

func closeSource(src *sql.Source, log *slog.Logger) {
	if err := src.Close(); err != nil {
		log.Warn("closing the database of lookups.sql", "err", err)
	}
}

// withLookups has a command ask the database of cfg. Whoever calls it must call
// done at the end.
func withLookups(cfg *policy.Config) (done func(), err error) {
	o, err := sql.OptionsOf(cfg)
	if err != nil || o == nil {
		return func() {}, err
	}
	src, err := sql.Open(o)
	if err != nil {
		return func() {}, err
	}
	quiet := slog.New(slog.DiscardHandler) // what fails comes as the answer
	cfg.AddLookup(src.For(cfg, quiet))
	return func() { closeSource(src, quiet) }, nil
}

// lookupProblems says what would keep serve from making the source.
func lookupProblems(cfg *policy.Config) []ask.Remark {
	o, err := sql.OptionsOf(cfg)
	if err == nil && o != nil {
		var src *sql.Source
		if src, err = sql.Open(o); err == nil {
			err = src.Close()
		}
	}
	if err != nil {
		return ask.Remarks(err)
	}
	return nil
}

// probeLookup asks the database about the postmaster.
func probeLookup(ctx context.Context, cfg *policy.Config) probed {
	p := probed{What: "lookups.sql " + string(cfg.Lookups.SQL.Type)}
	began := time.Now()
	said, err := askLookup(ctx, cfg)
	p.Said, p.Millis = said, float64(time.Since(began).Microseconds())/1000
	if err != nil {
		p.Error, p.Hint = mail.Escape(err.Error()), "until it answers, mail to recipients without an earlier answer is 451, unless on_error is pass"
	}
	return p
}

func askLookup(ctx context.Context, cfg *policy.Config) (string, error) {
	o, err := sql.OptionsOf(cfg)
	if err != nil {
		return "", err
	}
	src, err := sql.Open(o)
	if err != nil {
		return "", err
	}
	defer closeSource(src, slog.New(slog.DiscardHandler))
	return src.Probe(ctx, mail.Address("postmaster@"+cfg.Domain), cfg.IsLocal)
}
