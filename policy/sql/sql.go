// Package sql looks up settings and sender lists of recipients in a database
// with tables as Amavis has them, for [postern/policy.Config.AddLookup]. What an
// answer means for a message is for policy; here it is only fetched and kept.
//
// Silence of the server is never taken for "nothing is set": as long as it does
// not answer, the last answer about a recipient holds, up to stale_for; then the
// lookup fails. Start with [Open] and [Source].
package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filter/mail"
	"postern/policy"
)

// Source is a database that is asked about recipients. It may be asked by many
// at a time.
type Source struct {
	options Options
	origin  policy.Origin // of lookups.sql, for what is found
	server  server
	now     func() time.Time

	mu      sync.Mutex // guards what follows
	cache   *cache
	pause   time.Time // until then a server that failed is not asked
	down    error     // why; nil: it answers
	ignored map[string]bool
}

// Options are what a source is made of. Two sources with equal options give the
// same answers.
type Options struct {
	policy.SQLLookup
	address   string // of the server, with the password
	delimiter string
	origin    policy.Origin
}

// server is what is asked.
type server interface {
	// users returns the rows of an address, the most specific first.
	users(ctx context.Context, k *keys) ([]row, error)
	// senders returns the sender list of a user.
	senders(ctx context.Context, id string) ([]listed, error)
	close() error
}

// row is one row of the answer: column and value, NULL left out.
type row map[string]string

// listed is one row of a sender list.
type listed struct{ sender, what string }

// pauseAfterFailure is how long a server that has failed is left alone, so that
// not every message waits for it in vain.
const pauseAfterFailure = 3 * time.Second

// maxList bounds the sender list of one user.
const maxList = 10000

// Equal reports whether a source made of o would be the same.
func (o *Options) Equal(other *Options) bool { return *o == *other }

// Options returns what s was made of.
func (s *Source) Options() *Options { return &s.options }

func newSource(o *Options, srv server, now func() time.Time) *Source {
	origin := o.origin
	return &Source{options: *o, origin: origin, server: srv, now: now, cache: newCache(o.CacheRows), ignored: map[string]bool{}}
}

// Close ends the connections. Questions that are still asked fail.
func (s *Source) Close() error { return s.server.close() }

// For returns the lookup for one configuration; log hears of a server that goes
// and comes back.
func (s *Source) For(cfg *policy.Config, log *slog.Logger) policy.Lookup {
	return &boundSource{s, cfg.IsLocal, cfg.LeadsBack, log}
}

// boundSource is a source with what belongs to a configuration.
type boundSource struct {
	*Source
	local func(mail.Address) bool
	back  func(hop string) bool // it leads to a listener of ours
	log   *slog.Logger
}

// Lookup returns the overlays of a recipient: from memory if they are fresh, else
// from the server, and from memory again while that does not answer.
func (s *boundSource) Lookup(ctx context.Context, a mail.Address) ([]*policy.Overlay, error) {
	k := keysOf(a, s.options.delimiter, s.local)
	now := s.now()
	s.mu.Lock()
	kept := s.cache.get(k.address)
	pausing, down := now.Before(s.pause), s.down
	s.mu.Unlock()
	if kept != nil && now.Sub(kept.at) < s.options.CacheFor {
		return kept.overlays, nil
	}
	err := down
	if !pausing {
		own, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		var found *answer
		if found, err = s.ask(own, k); err == nil {
			s.answered(k, found)
			return found.overlays, nil
		}
		if wrong, ok := errors.AsType[*wrongRow](err); ok {
			return nil, wrong // the server is well, its rows are not
		}
		switch _, refused := errors.AsType[*refusal](err); {
		case ctx.Err() != nil: // it was the message that had no time left
		case refused:
			s.log.Error("the database refuses a question", "err", err, "recipient", mail.Escape(a.String()), "answered_before", kept != nil)
		default:
			s.failed(err)
		}
	}
	if kept != nil && now.Sub(kept.at) < s.options.CacheFor+s.options.StaleFor {
		return kept.overlays, nil
	}
	if kept != nil {
		return nil, fmt.Errorf("%w (the last answer is older than stale_for %s)", err, s.options.StaleFor)
	}
	return nil, fmt.Errorf("%w (and there is no earlier answer)", err)
}

// ask fetches all about a recipient.
func (s *boundSource) ask(ctx context.Context, k *keys) (*answer, error) {
	rows, err := s.server.users(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("lookups.sql: select_policy: %w", err)
	}
	out := &answer{at: s.now(), weight: 1}
	for _, r := range rows {
		o, ignored, err := s.overlay(r)
		if err == nil && o.Forwards() != "" && s.back(o.Forwards()) {
			err = fmt.Errorf("column forward_method of %s: %s is a listener of ours: mail would go in circles", o.Name, o.Forwards())
		}
		if err != nil {
			return nil, &wrongRow{err}
		}
		s.tellIgnored(ignored)
		if id := r["id"]; id != "" && s.options.SelectSenders != "" {
			list, err := s.server.senders(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("lookups.sql: select_senders: %w", err)
			}
			if err := s.addSenders(o, id, list); err != nil {
				return nil, &wrongRow{err}
			}
			out.weight += len(list)
		}
		out.weight++
		out.overlays = append(out.overlays, o)
	}
	// policy wants the least specific first
	slices.Reverse(out.overlays)
	return out, nil
}

// refusal is what a server that is well says to a question, which may be about
// the address in it: it is no reason to leave the server alone, or whoever can
// write such an address would keep all others from being asked about.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// wrongRow is a row that cannot be understood.
type wrongRow struct{ err error }

func (w *wrongRow) Error() string { return "lookups.sql: " + w.err.Error() }
func (w *wrongRow) Unwrap() error { return w.err }

func (s *boundSource) answered(k *keys, found *answer) {
	s.mu.Lock()
	s.cache.put(k.address, found)
	was := s.down
	s.down, s.pause = nil, time.Time{}
	s.mu.Unlock()
	if was != nil {
		s.log.Info("the database of lookups.sql answers again")
	}
}

func (s *boundSource) failed(err error) {
	s.mu.Lock()
	was := s.down
	s.down, s.pause = err, s.now().Add(pauseAfterFailure)
	s.mu.Unlock()
	if was == nil {
		s.log.Error("the database of lookups.sql does not answer, the last answers are used", "err", err, "stale_for", s.options.StaleFor,
			"hint", "mail to recipients without one is answered 451, unless on_error is pass")
	}
}

// tellIgnored says once of each column that it has no effect.
func (s *boundSource) tellIgnored(reasons []string) {
	for _, reason := range reasons {
		// what a column holds is foreign, and each value is another reason
		s.mu.Lock()
		told := s.ignored[reason] || len(s.ignored) >= maxTold
		s.ignored[reason] = true
		s.mu.Unlock()
		if !told {
			s.log.Warn("lookups.sql: "+reason, "place", s.origin.String())
		}
	}
}

// maxTold bounds the warnings about columns.
const maxTold = 200

// Probe asks as for a recipient, past the memory, and says what came back.
func (s *Source) Probe(ctx context.Context, a mail.Address, local func(mail.Address) bool) (said string, err error) {
	rows, err := s.server.users(ctx, keysOf(a, s.options.delimiter, local))
	if err != nil {
		return "", fmt.Errorf("select_policy: %w", err)
	}
	said = fmt.Sprintf("answers, rows for %s: %d", a, len(rows))
	var ignored []string
	for _, r := range rows {
		_, more, err := s.overlay(r)
		if err != nil {
			return "", err
		}
		for _, m := range more {
			if !slices.Contains(ignored, m) {
				ignored = append(ignored, m)
			}
		}
	}
	if s.options.SelectSenders != "" {
		id := "0"
		if len(rows) > 0 && rows[0]["id"] != "" {
			id = rows[0]["id"]
		}
		list, err := s.server.senders(ctx, id)
		if err != nil {
			return "", fmt.Errorf("select_senders: %w", err)
		}
		said += fmt.Sprintf(", senders: %d", len(list))
	}
	if len(ignored) > 0 {
		said += "; " + strings.Join(ignored, "; ")
	}
	return said, nil
}
