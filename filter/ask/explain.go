package ask

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/filter/observe"
	"postern/policy"
)

// Explanation says what becomes of the mail of an envelope, in the form of its
// JSON.
type Explanation struct {
	Listener    string            `json:"listener"`         // its address
	Input       mail.Input        `json:"input"`            // how the mail comes in
	Client      string            `json:"client,omitempty"` // IP address; empty: unknown
	Login       string            `json:"login,omitempty"`
	Daemon      string            `json:"daemon,omitempty"`
	From        mail.Address      `json:"mail_from"`
	SenderLocal bool              `json:"sender_local"`
	BankPath    string            `json:"policy_banks"` // as in the log; empty: the base alone
	Path        []ExplainedStep   `json:"path"`
	Originating bool              `json:"originating"`
	Reason      string            `json:"originating_reason"`
	Recipients  []ExplainedRcpt   `json:"recipients"`        // in the order of the envelope
	Message     *ExplainedMessage `json:"message,omitempty"` // nil where only an envelope was asked about
}

// ExplainedStep is a bank or a rule that applies, and why.
type ExplainedStep struct {
	Bank   string `json:"bank"` // empty for a rule for an address
	Reason string `json:"reason"`
}

// String names the bank, unless the step is a rule for an address.
func (s ExplainedStep) String() string {
	if s.Bank == "" {
		return s.Reason
	}
	return s.Bank + ": " + s.Reason
}

// ExplainedRcpt is what holds for one recipient: what each category would lead
// to, or with a message what decided and what would have decided otherwise.
type ExplainedRcpt struct {
	Address    mail.Address        `json:"rcpt_to"`
	Local      bool                `json:"local"`
	Direction  policy.Direction    `json:"direction"`
	Apart      bool                `json:"in_another_transaction,omitempty"` // by split: rcpt, and then what is said of all together does not come
	Overlays   []ExplainedStep     `json:"overlays,omitempty"`               // beyond the path of the message
	Categories []ExplainedCategory `json:"if,omitempty"`
	Reasons    []string            `json:"reasons,omitempty"`
	NotSigned  string              `json:"not_signed,omitempty"` // why the message goes on without a signature of ours
	Changes    []ExplainedChange   `json:"other_verdict_with,omitempty"`
}

// ExplainedCategory is what a finding of that category would lead to.
type ExplainedCategory struct {
	Category string `json:"category"`
	Destiny  string `json:"destiny"`
	Setting  string `json:"setting"`             // that decides
	Origin   string `json:"origin"`              // where that stands
	Action   string `json:"action"`              // word of the log line
	NoReport string `json:"no_report,omitempty"` // why the sender is not told
	Reply    string `json:"smtp_response"`
	Sent     string `json:"sent"` // in words
	// why the message goes on without a signature of ours
	NotSigned string `json:"not_signed,omitempty"`
}

// ExplainedChange is a setting with which the verdict would be another.
type ExplainedChange struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // that it would need
	Origin string `json:"origin"` // where the value in force stands
}

// ExplainedMessage is what would become of a message.
type ExplainedMessage struct {
	// Authentication says who answers for the message, as the field that tells
	// recipients does; Facts have it all. Empty: there is nothing to tell.
	Authentication []string             `json:"-"`
	Facts          *mail.Authentication `json:"authentication,omitempty"`

	Checks  []mail.CheckEvent `json:"checks"`
	Replies []string          `json:"smtp_response"` // in the order of the recipients, or one for all
	Sent    []string          `json:"sent"`          // in words, one mail each
	Log     []string          `json:"log"`           // the lines of the log
}

// Explain selects for an envelope, of a message that signers have signed for its
// author, and then tries every category on the real filter. An error means that
// the settings could not be found.
func Explain(ctx context.Context, run *DryRun, tx *mail.Transaction, signers ...string) (*Explanation, error) {
	sel, err := run.selectSigned(ctx, tx, signers)
	if err != nil {
		return nil, err
	}
	e := run.explanationOf(ctx, tx, sel)
	for _, c := range []mail.Category{mail.Infected, mail.Banned, mail.Unchecked, mail.Spam, mail.BadHeader, mail.Oversized, mail.Clean} {
		findings := []mail.Finding{{Category: c, Minor: mail.OverLimits, Check: "explain", Name: "example", Rcpt: mail.AllRcpts}}
		var score *mail.Score
		if c == mail.Spam {
			findings, score = nil, killing(sel)
		}
		ex, result := run.suppose(ctx, tx, sel, findings, score)
		for i := range e.Recipients {
			v, ev := &ex.Verdicts[i], result.event.Recipients[i]
			r := &e.Recipients[i]
			key, origin := decidedBy(sel.Rcpts[i].Settings, c, v)
			r.Categories = append(r.Categories, ExplainedCategory{
				Category: c.String(), Destiny: string(v.Destiny), Setting: key, Origin: origin,
				Action: ev.Action, NoReport: ev.NoReport, Reply: result.reply(i), Sent: strings.Join(result.describe(i), "; "),
				NotSigned: run.notSigned(ex, result, i),
			})
		}
	}
	return e, nil
}

// killing is a score that reaches the kill_level of every recipient.
func killing(sel *policy.Selection) *mail.Score {
	most := sel.Rcpts[0].Settings.Spam.KillLevel
	for _, r := range sel.Rcpts[1:] {
		most = max(most, r.Settings.Spam.KillLevel)
	}
	return &mail.Score{Value: most}
}

// ExplainMessage lets the checks look at a message in that envelope, data with
// the line ends of the wire, and says what would become of it. The error for one
// that is too large names it by name; any other means that no verdict could be
// reached.
func ExplainMessage(ctx context.Context, run *DryRun, tx *mail.Transaction, name string, data []byte) (*Explanation, error) {
	if limit := run.filter.Policy.Limits.MessageSize; int64(len(data)) > int64(limit) {
		return nil, fmt.Errorf("%s has %d octets: it would be refused with 552, since limits.message_size is %s (%s)", name, len(data), limit, run.filter.Policy.Origin("limits.message_size"))
	}
	tx.Message = mail.NewMessage(data)
	ctx, cancel := context.WithTimeout(ctx, run.filter.Policy.Deadline(tx.Input))
	defer cancel()
	ex, err := run.filter.Examine(ctx, tx)
	if err != nil {
		return nil, err
	}
	e := run.explanationOf(ctx, tx, ex.Selection)
	for i := range ex.Verdicts {
		r := &e.Recipients[i]
		r.Reasons = ex.Verdicts[i].Reasons
		for _, c := range policy.Flip(ex.Selection, i, ex.Findings, ex.Score) {
			r.Changes = append(r.Changes, ExplainedChange{c.Key, c.Value, c.Origin.String()})
		}
	}
	result := run.enact(ctx, tx, ex)
	for i := range e.Recipients {
		e.Recipients[i].NotSigned = run.notSigned(ex, result, i)
	}
	e.Message = &ExplainedMessage{Facts: result.event.Auth, Authentication: authenticationLines(result.event.Auth), Checks: result.event.Checks, Sent: result.describe(-1), Log: observe.Lines(result.event)}
	for _, r := range result.replies {
		e.Message.Replies = append(e.Message.Replies, r.String())
	}
	return e, nil
}

// authenticationLines has one line for each result.
func authenticationLines(a *mail.Authentication) []string {
	if a == nil {
		return nil
	}
	var out []string
	for method := range strings.SplitSeq(auth.AuthenticationResults("", a), ";\r\n\t") {
		if method = strings.Join(strings.Fields(method), " "); method != `""` {
			out = append(out, method)
		}
	}
	if a.DMARC != nil && a.DMARC.Wish != mail.DMARCNone {
		out = append(out, fmt.Sprintf("%s wishes %s (%s= of _dmarc.%s)", a.DMARC.Author, a.DMARC.Wish, a.DMARC.Tag, a.DMARC.Domain))
	}
	return out
}

// explanationOf says what was selected for an envelope, and why.
func (d *DryRun) explanationOf(ctx context.Context, tx *mail.Transaction, sel *policy.Selection) *Explanation {
	e := &Explanation{
		Listener: tx.Listener, Input: tx.Input, Login: tx.Client.Login, Daemon: tx.Daemon, From: tx.From, SenderLocal: sel.SenderLocal, BankPath: sel.BankPath(),
		Path: steps(sel.Path), Originating: sel.Originating, Reason: sel.Reason,
	}
	if tx.Client.Addr.IsValid() {
		e.Client = tx.Client.Addr.String()
	}
	for i, r := range sel.Rcpts {
		e.Recipients = append(e.Recipients, ExplainedRcpt{
			Address: r.Address, Local: r.Local, Direction: r.Direction, Overlays: steps(r.Path[len(sel.Path):]),
			Apart: d.apart(ctx, tx, i),
		})
	}
	return e
}

// apart reports whether the listener has the client send to recipient i in
// another transaction.
func (d *DryRun) apart(ctx context.Context, tx *mail.Transaction, i int) bool {
	l := d.filter.Policy.Listener(tx.Listener)
	if l.Split != policy.SplitRcpt || tx.Input != mail.InputMilter {
		return false
	}
	upTo := *tx
	upTo.Rcpts = tx.Rcpts[:i+1]
	return !d.filter.Fits(ctx, &upTo)
}

// decidedBy returns the setting that made the verdict on mail in which category c
// was found, and where it stands. A sender who is listed makes it another one.
func decidedBy(s *policy.Settings, c mail.Category, v *policy.Verdict) (key, origin string) {
	switch {
	case v.Listed.White() && c == mail.Spam, v.Listed.Black() && v.Blocking.Category == mail.Spam:
		return "spam.sender_list", v.Listed.By
	case v.Blocking.Category != mail.CatchAll:
		c = v.Blocking.Category
	}
	key = deciding(s, c)
	return key, s.Origin(key).String()
}

// deciding returns the key of the setting that makes the destiny of category c
// for a recipient with settings s.
func deciding(s *policy.Settings, c mail.Category) string {
	section, set := policy.CategoryKey(c), s.Category(c)
	switch {
	case section == "":
		return "forward_to"
	case set.Bypass && c != mail.Unchecked:
		return section + ".bypass"
	case set.Lover && set.Destiny != policy.Pass:
		return section + ".lover"
	}
	return section + ".destiny"
}

func steps(path []policy.Step) []ExplainedStep {
	out := make([]ExplainedStep, 0, len(path))
	for _, s := range path {
		out = append(out, ExplainedStep{s.Bank, s.Reason})
	}
	return out
}

// describe says what would be handed on, for recipient i or, with -1, for all.
func (r *dryResult) describe(i int) []string {
	var out []string
	for _, s := range r.sent {
		var to []string
		mine := i < 0
		for _, rcpt := range s.out.Rcpts {
			to = append(to, rcpt.Address.String())
			mine = mine || rcpt.Address == r.tx.Rcpts[i].Address
		}
		message := s.out.Kind == mail.KindMessage
		switch {
		case message && mine:
			var edits, without []string
			for _, e := range s.out.Edits {
				if e.Op != mail.Remove {
					edits = append(edits, e.Name)
				} else if !slices.Contains(without, e.Name) {
					without = append(without, e.Name)
				}
			}
			var changed []string
			if len(edits) > 0 {
				changed = append(changed, "with "+strings.Join(edits, ", "))
			}
			if len(without) > 0 {
				changed = append(changed, "without "+mail.Escape(strings.Join(without, ", ")))
			}
			if changed == nil {
				changed = append(changed, "as it came")
			}
			hop := s.hop.String()
			if s.back {
				hop = "the feeding MTA"
			}
			out = append(out, fmt.Sprintf("%s to %s for %s, %s", sentWords[s.out.Kind], hop, strings.Join(to, " "), strings.Join(changed, ", ")))
		case !message:
			out = append(out, sentWords[s.out.Kind]+" to "+strings.Join(to, " "))
		}
	}
	if end := mail.Quarantined.String(); i < 0 && slices.ContainsFunc(r.event.Recipients, func(e mail.RecipientEvent) bool { return e.End == end }) || i >= 0 && r.event.Recipients[i].End == end {
		out = append(out, "a copy is kept in the quarantine")
	}
	if len(out) == 0 {
		out = append(out, r.nothing())
	}
	return out
}

// nothing says what an MTA that still has the message does when nothing is sent.
func (r *dryResult) nothing() string {
	switch {
	case r.tx.Back == nil || r.replies[0].Class() != 2:
		return "nothing"
	case slices.ContainsFunc(r.sent, func(s drySent) bool { return s.back }):
		return "nothing, the feeding MTA takes the recipient out"
	}
	return "nothing, the feeding MTA drops the message"
}
