package main

// What the daemon does by the clock: it forgets what the quarantine has kept for
// long enough.

import (
	"context"
	"time"

	"postern/reinject/quarantine"
)

// houseInterval is how often there is something to look after.
const houseInterval = time.Hour

// keepHouse works until ctx ends.
func (d *daemon) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseInterval)
	defer tick.Stop()
	for {
		d.expire()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// expire forgets what is too old, and names it.
func (d *daemon) expire() {
	if d.store == nil {
		return
	}
	n, err := d.store.Expire(func(it *quarantine.Item) {
		d.log.Info("expired from the quarantine", "mail_id", it.MailID, "quarantine", it.Path, "kept_since", it.Time.Format(time.RFC3339))
	})
	if err != nil {
		d.log.Error("the quarantine cannot be looked after", "err", err)
	} else if n > 0 {
		d.log.Info("the quarantine was looked after", "expired", n)
	}
}
