package filter

// What there is to tell about a message that has been dealt with.

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy"
)

func (j *job) event() *mail.Event {
	tx, sel := j.tx, j.ex.Selection
	e := &mail.Event{
		LogID: tx.ID, MailID: tx.MailID, Listener: tx.Listener, Protocol: tx.Protocol,
		Banks: sel.Banks(), Originating: sel.Originating, Reason: sel.Reason,
		QueueID: queueID(tx), From: tx.From, Size: max(tx.Size, tx.Message.Size()), Signed: j.signed,
		Verified: j.ex.Authentication.Valid(),
		Elapsed:  j.now().Sub(tx.Received),
		Input:    tx.Input, Rcpts: len(tx.Rcpts),
	}
	if tells(j.ex.Authentication) {
		e.Auth = j.ex.Authentication
	}
	h := tx.Message.Header()
	e.MessageID, e.ResentID = firstID(h, "Message-ID"), firstID(h, "Resent-Message-ID")
	client, origin := clientAndOrigin(tx)
	if client.IsValid() {
		e.ClientIP, e.ClientPort = client.String(), tx.Client.Port
	}
	if origin.IsValid() {
		e.OriginIP = origin.String()
	}
	for i := range j.ex.Verdicts {
		if s := j.ex.Verdicts[i].Score; s != nil && (e.Score == nil || s.Value > *e.Score) {
			e.Score, e.Tests = &s.Value, testWords(s)
		}
	}
	for i := range j.rcpts {
		e.Recipients = append(e.Recipients, j.recipientEvent(i))
		e.Actions = append(e.Actions, e.Recipients[i].Action)
	}
	slices.SortFunc(e.Actions, func(a, b string) int { return cmp.Compare(actionOrder(a), actionOrder(b)) })
	e.Actions = slices.Compact(e.Actions)
	if e.Quarantine = j.copies; len(j.copies) > 0 {
		e.Actions = append(e.Actions, "Quarantined")
	}
	for _, r := range j.ex.Results {
		c := mail.CheckEvent{Check: r.Check, Skipped: r.Skipped, Millis: float64(r.Took.Microseconds()) / 1000}
		if r.Score != nil {
			c.Score = &r.Score.Value
		}
		for _, f := range r.Findings {
			c.Findings = append(c.Findings, strings.TrimSpace(f.Category.String()+" "+f.Name))
		}
		if r.Err != nil {
			c.Error, c.Failure = r.Err.Error(), check.FailureWord(r.Err)
		}
		e.Checks = append(e.Checks, c)
	}
	return e
}

// testWords writes the tests of a score, the first maxTests of them.
func testWords(s *mail.Score) []string {
	var out []string
	for _, t := range s.Tests[:min(len(s.Tests), maxTests)] {
		out = append(out, testName(t.Name)+"="+mail.ScoreText(t.Score))
	}
	return out
}

// actionOrder is the word by which Amavis sorts: what is not tagged is
// RelayedUntagged there until it is written.
func actionOrder(action string) string {
	if rest, ok := strings.CutPrefix(action, "Relayed"); ok && !strings.HasPrefix(rest, "Tagged") {
		return "RelayedUntagged" + rest
	}
	return action
}

func (j *job) recipientEvent(i int) mail.RecipientEvent {
	v, r, sel := &j.ex.Verdicts[i], &j.rcpts[i], &j.ex.Selection.Rcpts[i]
	out := mail.RecipientEvent{
		Address: sel.Address, Direction: string(sel.Direction), Destiny: string(v.Destiny),
		NoReport: r.plan.noReport, Unsaid: r.plan.unsaid, NotSigned: r.notSigned,
		Reply: finalReply(r.receipt).String(), End: r.receipt.Disposal.String(), QueuedAs: r.receipt.QueuedAs,
		Action: j.statusWord(i) + string(sel.Direction),
	}
	if v.Listed.As != "" {
		out.Listed = string(v.Listed.As) + " by " + v.Listed.By
	}
	rank := v.Main()
	switch {
	case r.byMTA:
		out.Blocking, rank = true, policy.ContentCategory{Category: mail.MTABlocked}
	case v.Destiny != policy.Pass:
		out.Blocking, rank = true, v.Blocking
	case r.receipt.Disposal != mail.Relayed:
		out.Blocking = true
	}
	out.Category, out.Rank = categoryWord(rank, v), rank.Category
	return out
}

// statusWord is the word in braces, without the direction (Amavis). A message
// that goes on with the MTA that asked is accepted, tagged or not.
func (j *job) statusWord(i int) string {
	r := &j.rcpts[i]
	switch r.receipt.Disposal {
	case mail.Relayed:
		if j.tx.Back != nil {
			return "Accepted"
		}
		if r.tagged {
			return "RelayedTagged"
		}
		return "Relayed"
	case mail.Refused:
		return "Rejected"
	case mail.Bounced:
		return "Bounced"
	case mail.Discarded, mail.Quarantined:
		if r.plan.noReport != "" {
			return "NoBounce"
		}
		return "Discarded"
	}
	return "TempFailed"
}

// categoryWord is the word after Passed or Blocked.
func categoryWord(c policy.ContentCategory, v *policy.Verdict) string {
	word := c.Category.String()
	switch c.Category {
	case mail.Infected, mail.Banned:
		if names := v.Names(c.Category); len(names) > 0 {
			word += " (" + mail.Escape(strings.Join(names, ", ")) + ")"
		}
	case mail.BadHeader:
		word += fmt.Sprintf("-%d", c.Minor)
	case mail.Unchecked:
		if c.Minor == mail.Encrypted {
			word += "-ENCRYPTED"
		}
	}
	return word
}

// firstID returns the first <...> of the topmost field of that name that stands
// in no comment. A value that holds none gets the brackets, as in Amavis: they
// bound what a stranger puts into the line.
func firstID(h mail.Header, name string) string {
	v, _ := h.First(name)
	comments := true
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '(' && comments:
			n := mail.EndOfQuoted(v[i:])
			i, comments = i+n, n > 0
		case v[i] == '<':
			if n := strings.IndexByte(v[i:], '>'); n > 0 {
				return v[i : i+n+1]
			}
		}
	}
	if v = strings.TrimSpace(v); v == "" {
		return ""
	}
	return "<" + strings.ReplaceAll(strings.TrimPrefix(v, "<"), ">", "_") + ">"
}

// queueID returns the id that the message has in the feeding queue. Of mail of
// sendmail(1) a feed that speaks XFORWARD tells no IDENT; then it stands in the
// topmost Received field, the only one that a stranger cannot have written.
func queueID(tx *mail.Transaction) string {
	if tx.Client.Ident != "" || tx.Client == (mail.Client{}) || !tx.Input.AfterQueue() {
		return tx.Client.Ident
	}
	top, _ := tx.Message.Header().First("Received")
	_, rest, ok := strings.Cut(strings.Join(strings.Fields(top), " "), " id ")
	id := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))]
	if !ok || len(id) < 5 || len(id) > 32 {
		return ""
	}
	return id
}

// clientAndOrigin returns the two addresses of the log line. The first is who
// brought the message to our mail system; when nobody said so it is the first
// address of the trace, which here is the feeding MTA itself: good for the
// log, never used for policy. The second is the last public address of the
// trace, where the message seems to come from.
func clientAndOrigin(tx *mail.Transaction) (client, origin netip.Addr) {
	var trace []netip.Addr
	for _, v := range tx.Message.Header().All("Received") {
		if a := receivedFrom(v); a.IsValid() {
			trace = append(trace, a)
		}
	}
	client = tx.Client.Addr
	if client.IsValid() && (len(trace) == 0 || trace[0] != client) {
		trace = slices.Insert(trace, 0, client)
	}
	if hop := tx.PeerAddr.Addr().Unmap(); hop.IsValid() {
		trace = slices.Insert(trace, 0, hop)
	}
	if !client.IsValid() && len(trace) > 0 {
		client = trace[0]
	}
	for _, a := range trace {
		if public(a) {
			origin = a
		}
	}
	return client, origin
}

// receivedFrom finds the address of the sending host in a Received field: the
// first one in brackets before " by ".
func receivedFrom(v string) netip.Addr {
	if len(v) < 5 || !strings.EqualFold(v[:5], "from ") {
		return netip.Addr{}
	}
	if i := strings.Index(v, " by "); i >= 0 {
		v = v[:i]
	}
	for {
		i := strings.IndexByte(v, '[')
		if i < 0 {
			return netip.Addr{}
		}
		v = v[i+1:]
		n := strings.IndexByte(v, ']')
		if n < 0 {
			return netip.Addr{}
		}
		s := v[:n]
		if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
			s = s[5:]
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return a.WithZone("").Unmap()
		}
		v = v[n:]
	}
}

var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

func public(a netip.Addr) bool {
	if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
