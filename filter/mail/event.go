package mail

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Event is what became of one message, for all who keep account of it. Every
// message ends in exactly one.
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
	From        Address          `json:"mail_from"`
	Recipients  []RecipientEvent `json:"recipients"`
	MessageID   string           `json:"message_id,omitempty"`
	ResentID    string           `json:"resent_message_id,omitempty"`
	Size        int64            `json:"size"`
	Score       *float64         `json:"score,omitempty"` // the highest of all recipients, nil if there is none
	Tests       []string         `json:"tests,omitempty"` // what that is made of: "GTUBE=1000"
	Actions     []string         `json:"action"`
	Quarantine  []string         `json:"quarantine,omitempty"` // where copies are: a file of the quarantine, or an address
	Checks      []CheckEvent     `json:"checks,omitempty"`
	Verified    []Signature      `json:"dkim_valid_sig,omitempty"` // that came with the message, see [Authentication.Valid]
	Signed      []Signature      `json:"dkim_new_sig,omitempty"`
	Auth        *Authentication  `json:"authentication,omitempty"` // nil if there is nothing to tell
	Elapsed     time.Duration    `json:"-"`

	Input Input `json:"-"` // who was deferred waits in a queue, or with a client that comes again
	Rcpts int   `json:"-"` // how many recipients the client was told that we take; the ledger counts against it
}

// RecipientEvent is the part of an Event that belongs to one recipient.
type RecipientEvent struct {
	Address   Address `json:"rcpt_to"`
	Direction string  `json:"direction"`
	Category  string  `json:"category"` // word of the log line, names included
	Blocking  bool    `json:"blocked"`
	Destiny   string  `json:"destiny"`
	Action    string  `json:"action"`
	Listed    string  `json:"listed,omitempty"`    // "whitelisted by" or "blacklisted by", and what says so
	NoReport  string  `json:"no_report,omitempty"` // why the sender is not told
	// NotSigned is why mail of our own people goes on without a signature that
	// receivers count as its author's: one of the NotSigned words.
	NotSigned string `json:"not_signed,omitempty"`
	// Unsaid is the refusal that Reply stands for: the feeding queue would
	// have told a stranger.
	Unsaid string `json:"unsaid,omitempty"`
	Reply  string `json:"smtp_response"`
	// End is the word of the disposal, see [Disposal.String].
	End      string `json:"end"`
	QueuedAs string `json:"queued_as,omitempty"`

	// Rank is the category of which Category is the word.
	Rank Category `json:"-"`
}

// The words of [RecipientEvent.NotSigned].
const (
	NotSignedOff       = "sign_off"    // dkim.sign is false
	NotSignedInfected  = "infected"    // nobody is to answer for that
	NotSignedSpam      = "spam"        // nor for that
	NotSignedNoKey     = "no_key"      // no key for author or sender is in force
	NotSignedUnaligned = "not_aligned" // signed, but for another domain than an author's
	NotSignedError     = "error"       // signing failed
	NotSignedOther     = "other_copy"  // all recipients share a copy, and another has decided about it
)

// CheckEvent is one check with its time and what it said.
type CheckEvent struct {
	Check    string   `json:"check"`
	Millis   float64  `json:"ms"`
	Findings []string `json:"findings,omitempty"`
	Score    *float64 `json:"score,omitempty"` // of a spam engine
	Error    string   `json:"error,omitempty"`
	Failure  string   `json:"failure,omitempty"` // what kind of error, in one word
	Skipped  string   `json:"skipped,omitempty"` // why the check was not asked, or gave no score
}

// Signature names a DKIM signature.
type Signature struct {
	Domain   string // d=
	Selector string // s=
}

// String returns the form of the log line: "selector:domain".
func (s Signature) String() string { return s.Selector + ":" + s.Domain }

// Observer takes the event of every message. It must not change it, and it
// must not hold it up.
type Observer interface {
	Observe(*Event)
}

// MarshalJSON adds the elapsed time in milliseconds.
func (e *Event) MarshalJSON() ([]byte, error) {
	type plain Event
	return json.Marshal(struct {
		*plain
		Millis int64 `json:"elapsed_ms"`
	}{(*plain)(e), e.Elapsed.Milliseconds()})
}

// maxEscaped bounds one foreign value in a log line.
const maxEscaped = 1024

// Escape makes foreign text fit for one log line: what is not printable is
// escaped, direction overrides included, and the length is bounded.
func Escape(s string) string {
	clean := len(s) <= maxEscaped
	for i := 0; clean && i < len(s); i++ {
		clean = ' ' <= s[i] && s[i] < 0x7f && s[i] != '\\'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if b.Len() >= maxEscaped-3 {
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
