package main

// What the daemon does by the clock: it forgets what the quarantine has kept for
// long enough, and mails what is told about many messages at once.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/filter/mail"
	"postern/filter/observe"
	"postern/notify"
	"postern/policy"
	"postern/reinject/quarantine"
)

// How often the daemon looks after the quarantine, and whether something is to be
// told. A mail that cannot be sent is tried again with the quarantine.
const (
	houseInterval = time.Hour
	tellInterval  = time.Minute
)

// keepHouse works until ctx ends.
func (d *daemon) keepHouse(ctx context.Context) {
	house, tell := time.NewTicker(houseInterval), time.NewTicker(tellInterval)
	defer house.Stop()
	defer tell.Stop()
	d.expire()
	d.digest(ctx, time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-house.C:
			d.expire()
			d.digest(ctx, time.Now())
		case <-tell.C:
			d.tellHeld(ctx, time.Now(), false)
		}
	}
}

// expire forgets what is too old, and names it.
func (d *daemon) expire() {
	if d.store == nil {
		return
	}
	n, err := d.store.Expire(func(it *quarantine.Item) {
		id, _ := quarantine.ParseID(it.Path)
		d.noted(observe.LedgerAction{MailID: id, Action: "expired", By: "postern"})
		d.log.Info("expired from the quarantine", "mail_id", it.MailID, "quarantine", it.Path, "kept_since", it.Time.Format(time.RFC3339))
	})
	if err != nil {
		d.log.Error("the quarantine cannot be looked after", "err", err)
	} else if n > 0 {
		d.log.Info("the quarantine was looked after", "expired", n)
	}
}

// noted writes in the ledger what was done to a copy.
func (d *daemon) noted(a observe.LedgerAction) {
	if d.ledger == nil {
		return
	}
	if err := observe.AppendAction(ledgerDir(d.initial), a); err != nil {
		d.log.Error("what was done to a copy cannot be noted in the ledger", "mail_id", a.MailID, "action", a.Action, "err", err)
	}
}

// tellHeld mails what administrators were not told one by one, in hours that are
// over, or in all.
func (d *daemon) tellHeld(ctx context.Context, now time.Time, all bool) {
	f := d.filter.Load()
	for _, held := range f.Notices.Due(now, all) {
		o, err := sheet(f.Policy, held.To, now).Held(&held)
		if err == nil {
			err = f.SendOwn(ctx, o)
		}
		if err != nil {
			d.log.Error("no summary of notices", "to", held.To, "since", held.Since.Format(time.RFC3339), "held", held.Held, "err", err)
		}
	}
}

func sheet(cfg *policy.Config, to mail.Address, now time.Time) *notify.Sheet {
	return &notify.Sheet{Hostname: cfg.Hostname, From: cfg.NotifyFrom, To: to, Now: now}
}

// digestFormat begins the file that says when the last digest was mailed.
const digestFormat = "postern digest 1"

// digestMargin is more than it takes to keep a message.
const digestMargin = time.Minute

// digestHour is when a day has come far enough for a digest of the day before.
const digestHour = 6

// digest mails the list of what was kept since the last one, once a day.
func (d *daemon) digest(ctx context.Context, now time.Time) {
	f := d.filter.Load()
	if d.store == nil || f.Policy.Quarantine.Digest != policy.DigestDaily {
		return
	}
	path := filepath.Join(d.initial.State.Dir, "digest")
	last, err := lastDigest(path)
	if err != nil {
		d.log.Error("it is not known when the last digest was", "err", err)
	}
	// what is being kept right now is for the next one
	until := now.Add(-digestMargin)
	if last.IsZero() || last.After(now) {
		d.digestDone(path, until)
		return
	}
	due := time.Date(last.Year(), last.Month(), last.Day(), digestHour, 0, 0, 0, now.Location())
	if !due.After(last) {
		due = due.AddDate(0, 0, 1)
	}
	if now.Before(due) {
		return
	}
	o, err := sheet(f.Policy, f.Policy.Quarantine.DigestTo, now).Digest(last, func(yield func(*mail.Kept) bool) {
		for it := range d.store.All() {
			if it.Time.Before(last) || it.Time.Before(until) && !yield(it.Kept) {
				return
			}
		}
	})
	if err == nil && o != nil {
		err = f.SendOwn(ctx, o)
	}
	if err != nil {
		d.log.Error("no digest of the quarantine; it is tried again", "err", err)
		return
	}
	d.digestDone(path, until)
}

func (d *daemon) digestDone(path string, now time.Time) {
	if err := os.WriteFile(path, []byte(digestFormat+"\n"+now.Format(time.RFC3339)+"\n"), 0o640); err != nil {
		d.log.Error("the time of the digest cannot be kept: it may come again", "err", err)
	}
}

// lastDigest reads when the last digest was. A file that cannot be read is set
// aside.
func lastDigest(path string) (time.Time, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, err
	}
	format, rest, _ := strings.Cut(string(data), "\n")
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(rest))
	if format != digestFormat {
		err = cmp.Or(err, fmt.Errorf("%s begins with %q", path, format))
	}
	if err != nil {
		return time.Time{}, cmp.Or(os.Rename(path, path+".bad"), err)
	}
	return at, nil
}
