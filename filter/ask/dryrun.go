// Package ask answers what a configuration would do, for the commands that tell
// a postmaster before any mail is at stake: which banks apply to an envelope and
// why ([Explain]), what becomes of a message ([ExplainMessage]), whether that is
// as wanted ([Test]), what two configurations do differently ([Diff]), what in
// one is most likely not meant ([Doubts]), and which settings are in force
// ([ShowBank]).
//
// All but the last ask the real filter, over transports that only keep what
// would be sent, so that an answer cannot differ from what mail will meet. The
// package hands nothing on, keeps nothing and prints nothing; how an answer
// looks on a terminal and which exit code it has is for who asks. Whether
// engines and next hops answer is not asked here either.
//
// Start with [DryRun] and [Explanation].
package ask

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"postern/filter"
	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

// DryRun is a filter that hands nothing on. One goroutine at a time may use it.
type DryRun struct {
	filter *filter.Filter
	sent   []drySent
}

// drySent is one mail that would be handed on.
type drySent struct {
	hop  mail.NextHop
	out  *mail.Outgoing
	back bool // to the MTA that asked, before its queue
}

// New makes one with the policy, the checks and the authentication of f. Throw-away keys stand in for
// the private ones, which whoever asks may not be able to read: which domain
// signs is all that matters here. An error names the keys that cannot be.
func New(f *filter.Filter) (*DryRun, error) {
	cfg := f.Policy
	keys := make([]*auth.Key, len(cfg.DKIMKeys))
	for i, k := range cfg.DKIMKeys {
		_, private, err := ed25519.GenerateKey(nil)
		if err == nil {
			keys[i], err = auth.NewKey(k.Domain, k.Selector, private)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Origin, err)
		}
	}
	all, err := auth.NewKeys(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Origin("dkim_keys"), err)
	}
	d := &DryRun{}
	d.filter = &filter.Filter{
		Policy: cfg, Checks: f.Checks, Keys: all, Authenticate: f.Authenticate, Log: slog.New(slog.DiscardHandler), Quarantine: dryStore{},
		Relay: func(h mail.NextHop) mail.Transport { return &dryTransport{run: d, hop: h} },
	}
	return d, nil
}

// selectSigned selects for a message that signers have signed for its author.
// That counts where the settings of the envelope have signatures verified.
func (d *DryRun) selectSigned(ctx context.Context, tx *mail.Transaction, signers []string) (*policy.Selection, error) {
	sel, err := d.filter.Select(ctx, tx, nil)
	verifies := func(r policy.RcptSelection) bool { return r.Settings.DKIM.Verify }
	if err != nil || len(signers) == 0 || !slices.ContainsFunc(sel.Rcpts, verifies) {
		return sel, err
	}
	return d.filter.Select(ctx, tx, &mail.Authentication{Signers: signers})
}

// dryResult is what would become of a mail.
type dryResult struct {
	tx      *mail.Transaction
	replies []mail.Reply
	event   *mail.Event
	sent    []drySent
}

// enact does what the verdicts say, as far as a dry run goes.
func (d *DryRun) enact(ctx context.Context, tx *mail.Transaction, ex *filter.Examination) *dryResult {
	d.sent, tx.Back = nil, nil
	switch tx.Input {
	case mail.InputMilter, mail.InputAMPDP, mail.InputLocal:
		tx.Back = &dryTransport{run: d, back: true}
	}
	replies, event := d.filter.Enact(ctx, tx, ex)
	return &dryResult{tx, replies, event, d.sent}
}

// suppose says what would become of a mail in which the checks found this.
func (d *DryRun) suppose(ctx context.Context, tx *mail.Transaction, sel *policy.Selection, findings []mail.Finding, score *mail.Score) (*filter.Examination, *dryResult) {
	ex := &filter.Examination{Selection: sel, Findings: findings, Score: score, Verdicts: policy.Decide(sel, findings, score)}
	return ex, d.enact(ctx, tx, ex)
}

// reply returns the answer for recipient i.
func (r *dryResult) reply(i int) string {
	return r.replies[min(i, len(r.replies)-1)].String()
}

// notices returns the administrators who would get a notice.
func (r *dryResult) notices() []mail.Address { return r.recipientsOf(mail.KindNotice) }

// reports returns the senders whom a report of ours would tell.
func (r *dryResult) reports() []mail.Address { return r.recipientsOf(mail.KindReport) }

func (r *dryResult) recipientsOf(kind mail.Kind) []mail.Address {
	var out []mail.Address
	for _, s := range r.sent {
		if s.out.Kind == kind {
			for _, to := range s.out.Rcpts {
				out = append(out, to.Address)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// signers returns the domains that would sign the message.
func (r *dryResult) signers() []string {
	var out []string
	for _, s := range r.event.Signed {
		out = append(out, s.Domain)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sentWords name what leaves.
var sentWords = map[mail.Kind]string{
	mail.KindMessage: "the message", mail.KindReport: "a report", mail.KindNotice: "a notice", mail.KindCopy: "a copy",
}

// dryTransport is a next hop, or the way back to an MTA that still has the
// message.
type dryTransport struct {
	run  *DryRun
	hop  mail.NextHop
	back bool
}

// Send keeps o and says that all is well.
func (t *dryTransport) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	t.run.sent = append(t.run.sent, drySent{t.hop, o, t.back})
	r := mail.Receipt{Disposal: mail.Relayed, Reply: mail.NewReply(250, 6, 0, "Ok, accepted (not sent, this is a dry run)")}
	if !t.back {
		r.NextHop = t.hop.String()
		r.Reply = mail.NewReply(250, 0, 0, "from MTA(%s): 250 2.0.0 Ok (not sent, this is a dry run)", t.hop)
	}
	return slices.Repeat([]mail.Receipt{r}, len(o.Rcpts))
}

// dryStore says that a copy is kept.
type dryStore struct{}

// Keep implements filter.Store.
func (dryStore) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	return k.Category + "-dry-run", nil
}

// Bank finds a bank by its name. The error for one that is missing says which
// there are.
func Bank(cfg *policy.Config, name string) (*policy.Overlay, error) {
	if b := cfg.Bank(name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("there is no bank %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(cfg.Banks)), ", "))
}
