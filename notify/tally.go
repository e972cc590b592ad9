package notify

// How much one address is told: beyond a number of mails in an hour it is told no
// more, or told at the end of the hour in one mail.

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filter/mail"
)

// Tally counts mails to each address in the hour that runs for it. It is safe for
// concurrent use. A nil Tally allows all.
type Tally struct {
	perHour int

	mu    sync.Mutex // guards what follows
	hours map[mail.Address]*hour
}

// hour is what one address was told in an hour, and what not.
type hour struct {
	begun time.Time
	told  int
	held  map[string]int // what was not told, by its headline
}

// mostAddresses bounds the memory of a Tally. Beyond it many begin anew.
const mostAddresses = 10000

// mostHeadlines bounds what is told apart of what was not told.
const mostHeadlines = 50

// NewTally allows perHour mails to each address, all if it is 0.
func NewTally(perHour int) *Tally {
	return &Tally{perHour: perHour, hours: map[mail.Address]*hour{}}
}

// Allow counts a mail to a, and reports whether it may be sent.
func (t *Tally) Allow(a mail.Address, now time.Time) bool {
	return t == nil || t.perHour == 0 || t.allow(a, "", now)
}

// AllowNotice is Allow for a mail of which is told later that there was one, under
// its headline.
func (t *Tally) AllowNotice(a mail.Address, headline string, now time.Time) bool {
	return t == nil || t.perHour == 0 || t.allow(a, headline, now)
}

func (t *Tally) allow(a mail.Address, headline string, now time.Time) bool {
	a = mail.Address(strings.ToLower(string(a)))
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hours[a]
	if h == nil || now.Sub(h.begun) >= time.Hour && len(h.held) == 0 {
		if h == nil && len(t.hours) >= mostAddresses {
			t.forget()
		}
		h = &hour{begun: now}
		t.hours[a] = h
	}
	if h.told < t.perHour {
		h.told++
		return true
	}
	if headline != "" {
		if h.held == nil {
			h.held = map[string]int{}
		}
		if h.held[headline] == 0 && len(h.held) >= mostHeadlines {
			headline = "others"
		}
		h.held[headline]++
	}
	return false
}

// forget makes room for many at once: of whom nothing is held, and if that is not
// enough of anybody.
func (t *Tally) forget() {
	for a, h := range t.hours {
		if len(h.held) == 0 {
			delete(t.hours, a)
		}
	}
	for a := range t.hours {
		if len(t.hours) <= mostAddresses/2 {
			break
		}
		delete(t.hours, a)
	}
}

// Summary is what one address was not told in an hour.
type Summary struct {
	To    mail.Address
	Since time.Time
	Held  map[string]int // numbers by headline
}

// Due returns what was not told in hours that are over at now, and begins them
// anew; all: in every hour.
func (t *Tally) Due(now time.Time, all bool) []Summary {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Summary
	for _, a := range slices.Sorted(maps.Keys(t.hours)) {
		if h := t.hours[a]; len(h.held) > 0 && (all || now.Sub(h.begun) >= time.Hour) {
			out = append(out, Summary{a, h.begun, h.held})
			delete(t.hours, a)
		}
	}
	return out
}
