package filter

// What is inside of a message: taking it apart and testing its files by the
// banned rules run as checks, so that the same guards hold: a panic or an
// overrun is a finding, and the time is in the log.

import (
	"context"
	"errors"
	"sync/atomic"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
	"postern/policy"
)

// unpacking takes a message apart for the checks that come after it.
type unpacking struct {
	limits    unpack.Limits
	passwords []string
	claim     *unpack.Claim
	users     atomic.Int32    // of claim: the check itself, and who asked for it
	done      chan *mail.Part // of one, so that one that overran can end
}

func newUnpacking(cfg *policy.Config) *unpacking {
	return &unpacking{limits: UnpackLimits(cfg), passwords: cfg.ArchivePasswords, done: make(chan *mail.Part, 1)}
}

// UnpackLimits are the bounds for taking a message apart that a configuration
// sets.
func UnpackLimits(cfg *policy.Config) unpack.Limits {
	l, limits := cfg.Limits.Unpack, unpack.DefaultLimits
	limits.Bytes, limits.Ratio = int64(l.Size), int64(l.Ratio)
	limits.Parts, limits.Depth = l.Parts, l.Depth
	limits.Entries, limits.Nesting = l.Entries, l.Nesting
	limits.Time = l.Time
	limits.More = (*unpack.Claim)(nil).More // nobody else is there to wait for
	return limits
}

// enter waits for the memory of a message of size octets.
func (u *unpacking) enter(ctx context.Context, room *unpack.Room, size int64) (err error) {
	u.users.Store(2)
	if room != nil {
		u.claim, err = room.Claim(ctx, size)
	}
	u.limits.More = u.claim.More
	return err
}

// leave gives the memory back when nobody uses it: a check that overran may
// still be at it.
func (u *unpacking) leave() {
	if u.users.Add(-1) == 0 {
		u.claim.Keep(0)
	}
}

// Check reports what cannot be read, and what can be read in more than one way.
func (u *unpacking) Check(ctx context.Context, in *check.Input) (check.Answer, error) {
	defer u.leave()
	r := unpack.Parts(ctx, in.Tx.Message, u.limits, u.passwords...)
	u.claim.Keep(r.Held)
	u.done <- r.Root
	return check.Answer{Findings: r.Findings}, nil
}

// root returns the message taken apart, or nil if that did not come to an end.
func (u *unpacking) root() *mail.Part {
	select {
	case p := <-u.done:
		return p
	default:
		return nil
	}
}

// bannedFiles tests the files of a message by the rules of its recipients.
type bannedFiles struct{ sel *policy.Selection }

// Check reports the files that the rules block.
func (b bannedFiles) Check(ctx context.Context, in *check.Input) (check.Answer, error) {
	if in.Parts == nil {
		return check.Answer{}, errors.New("the message was not taken apart")
	}
	if err := ctx.Err(); err != nil {
		return check.Answer{}, err // nobody waits for it any more
	}
	return check.Answer{Findings: policy.BannedFindings(b.sel, in.Parts)}, nil
}
