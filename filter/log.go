package filter

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

// Event is what the log says about one message. The text form is Amavis'
// default log template, field for field, so that what reads Amavis' log reads
// ours; JSON has more.
type Event struct {
	LogID       string           `json:"log_id"`
	MailID      string           `json:"mail_id"`
	Listener    string           `json:"listener"`
	Protocol    string           `json:"protocol"`
	Banks       []string         `json:"policy_banks"`
	Originating bool             `json:"originating"`
	Reason      string           `json:"originating_reason,omitempty"`
	ClientIP    string           `json:"client_ip,omitempty"`
	ClientPort  uint16           `json:"client_port,omitempty"`
	OriginIP    string           `json:"origin_ip,omitempty"`
	QueueID     string           `json:"queue_id,omitempty"`
	From        mail.Address     `json:"mail_from"`
	Recipients  []RecipientEvent `json:"recipients"`
	MessageID   string           `json:"message_id,omitempty"`
	ResentID    string           `json:"resent_message_id,omitempty"`
	Size        int64            `json:"size"`
	Actions     []string         `json:"action"`
	Checks      []CheckEvent     `json:"checks,omitempty"`
	Signed      []auth.Signature `json:"dkim_new_sig,omitempty"`
	Elapsed     time.Duration    `json:"-"`
}

// RecipientEvent is the part of an Event that belongs to one recipient.
type RecipientEvent struct {
	Address   mail.Address     `json:"rcpt_to"`
	Direction policy.Direction `json:"direction"`
	Category  string           `json:"category"` // word of the log line, names included
	Blocking  bool             `json:"blocked"`
	Destiny   policy.Destiny   `json:"destiny"`
	Action    string           `json:"action"`
	NoReport  string           `json:"no_report,omitempty"` // why the sender is not told
	Reply     string           `json:"smtp_response"`
	QueuedAs  string           `json:"queued_as,omitempty"`

	rank policy.ContentCategory
}

// CheckEvent is one check with its time and what it said.
type CheckEvent struct {
	Check    string   `json:"check"`
	Millis   float64  `json:"ms"`
	Findings []string `json:"findings,omitempty"`
	Error    string   `json:"error,omitempty"`
}

func (j *job) event() *Event {
	tx, sel := j.tx, j.ex.Selection
	e := &Event{
		LogID: tx.ID, MailID: tx.MailID, Listener: tx.Listener, Protocol: tx.Protocol,
		Originating: sel.Originating, Reason: sel.Reason,
		QueueID: tx.Client.Ident, From: tx.From, Size: tx.Message.Size(), Signed: j.signed,
		Elapsed: j.now().Sub(tx.Received),
	}
	for _, s := range sel.Path {
		if s.Bank != "" { // a rule for senders is no bank
			e.Banks = append(e.Banks, s.Bank)
		}
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
	for i := range j.rcpts {
		e.Recipients = append(e.Recipients, j.recipientEvent(i))
		e.Actions = append(e.Actions, e.Recipients[i].Action)
	}
	slices.Sort(e.Actions)
	e.Actions = slices.Compact(e.Actions)
	for _, r := range j.ex.Results {
		c := CheckEvent{Check: r.Check, Millis: float64(r.Took.Microseconds()) / 1000}
		for _, f := range r.Findings {
			c.Findings = append(c.Findings, strings.TrimSpace(f.Category.String()+" "+f.Name))
		}
		if r.Err != nil {
			c.Error = r.Err.Error()
		}
		e.Checks = append(e.Checks, c)
	}
	return e
}

func (j *job) recipientEvent(i int) RecipientEvent {
	v, r, sel := &j.ex.Verdicts[i], &j.rcpts[i], &j.ex.Selection.Rcpts[i]
	out := RecipientEvent{
		Address: sel.Address, Direction: sel.Direction, Destiny: v.Destiny, NoReport: r.plan.noReport,
		Reply: finalReply(r.receipt).String(), QueuedAs: r.receipt.QueuedAs,
		Action: j.statusWord(i) + string(sel.Direction), rank: v.Main(),
	}
	switch {
	case r.byMTA:
		out.Blocking, out.rank = true, policy.ContentCategory{Category: mail.MTABlocked}
	case v.Destiny != policy.Pass:
		out.Blocking, out.rank = true, v.Blocking
	case r.receipt.Disposal != mail.Relayed:
		out.Blocking = true
	}
	out.Category = categoryWord(out.rank, v)
	return out
}

// statusWord is the word in braces, without the direction (Amavis). Before the
// queue a message that passes is accepted, tagged or not: it goes on with the
// MTA that asked.
func (j *job) statusWord(i int) string {
	r := &j.rcpts[i]
	switch r.receipt.Disposal {
	case mail.Relayed:
		if !j.tx.Input.AfterQueue() {
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
			word += " (" + logText(strings.Join(names, ", ")) + ")"
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

// Lines returns the text form: a line for the recipients that passed and one
// for those that did not, without time and program name.
func (e *Event) Lines() []string {
	var out []string
	for _, blocked := range []bool{false, true} {
		if l := e.line(blocked); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func (e *Event) line(blocked bool) string {
	var b strings.Builder
	var rcpts, queued []string
	word, best := "", policy.ContentCategory{}
	for _, r := range e.Recipients {
		if r.Blocking != blocked {
			continue
		}
		if word == "" || r.rank.Category > best.Category {
			word, best = r.Category, r.rank
		}
		rcpts = append(rcpts, logText(r.Address.String()))
		if r.QueuedAs != "" && !slices.Contains(queued, logText(r.QueuedAs)) {
			queued = append(queued, logText(r.QueuedAs))
		}
	}
	if len(rcpts) == 0 {
		return ""
	}
	verb := "Passed"
	if blocked {
		verb = "Blocked"
	}
	fmt.Fprintf(&b, "(%s) %s %s {%s},", e.LogID, verb, word, strings.Join(e.Actions, ","))
	if len(e.Banks) > 0 {
		b.WriteString(" " + strings.Join(e.Banks, "/"))
	}
	if e.ClientIP != "" {
		if e.Originating {
			b.WriteString(" LOCAL")
		}
		b.WriteString(" [" + e.ClientIP + "]")
		if e.ClientPort != 0 {
			fmt.Fprintf(&b, ":%d", e.ClientPort)
		}
	}
	if e.OriginIP != "" {
		b.WriteString(" [" + e.OriginIP + "]")
	}
	b.WriteString(" " + logText(e.From.String()) + " -> " + strings.Join(rcpts, ","))
	for _, f := range []struct{ name, value string }{
		{"Queue-ID", e.QueueID}, {"Message-ID", e.MessageID}, {"Resent-Message-ID", e.ResentID}, {"mail_id", e.MailID},
	} {
		if f.value != "" {
			b.WriteString(", " + f.name + ": " + logText(f.value))
		}
	}
	fmt.Fprintf(&b, ", Hits: -, size: %d", e.Size)
	if !blocked && len(queued) > 0 {
		b.WriteString(", queued_as: " + strings.Join(queued, "/"))
	}
	if len(e.Signed) > 0 {
		s := make([]string, len(e.Signed))
		for i, d := range e.Signed {
			s[i] = d.Selector + ":" + d.Domain
		}
		b.WriteString(", dkim_new=" + strings.Join(s, ","))
	}
	fmt.Fprintf(&b, ", %d ms", e.Elapsed.Milliseconds())
	return b.String()
}

// MarshalJSON adds the elapsed time in milliseconds.
func (e *Event) MarshalJSON() ([]byte, error) {
	type plain Event
	return json.Marshal(struct {
		*plain
		Millis int64 `json:"elapsed_ms"`
	}{(*plain)(e), e.Elapsed.Milliseconds()})
}

// maxLogText bounds one foreign value in a log line.
const maxLogText = 1024

// logText makes foreign text fit for one log line: what is not printable is
// escaped, direction overrides included, and the length is bounded.
func logText(s string) string {
	clean := len(s) <= maxLogText
	for i := 0; clean && i < len(s); i++ {
		clean = ' ' <= s[i] && s[i] < 0x7f && s[i] != '\\'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if b.Len() >= maxLogText-3 {
			b.WriteString("...")
			break
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\x{%x}`, r)
		}
		s = s[n:]
	}
	return b.String()
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
