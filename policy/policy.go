// Package policy holds the configuration and decides: which banks apply to a
// message ([Config.Select]), and what a set of findings means for each
// recipient ([Decide]). It does no I/O but reading the configuration and the
// lists it names. How YAML is read and mistakes are told is for its room
// strict, which files a rule fits for its room banned, what names of scanners
// are for virusname, what is known of senders for senderlist, lists of networks, domains and names for lookup; what a
// decision does to a message is for others. Start with [Config] and [Settings].
package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"postern/filter/mail"
	"postern/policy/strict"
)

// Mistake is one thing wrong in the configuration, told to people.
type Mistake = strict.Mistake

// ConfigError is all that is wrong in a configuration, in the order of the
// files.
type ConfigError = strict.Error

// Direction is the way of a message as seen from our domains: originating
// combined with whether the recipient is local.
type Direction string

// The directions, as they stand in the log line.
const (
	Inbound   Direction = "Inbound"   // not originating, recipient local
	OpenRelay Direction = "OpenRelay" // not originating, recipient not local
	Internal  Direction = "Internal"  // originating, recipient local
	Outbound  Direction = "Outbound"  // originating, recipient not local
)

// Request is what the selection of banks looks at.
type Request struct {
	Listener string     // address of the listener as configured
	Client   netip.Addr // who brought the message to our system; invalid: unknown
	Login    string     // with which the client has authenticated itself
	Daemon   string     // service of the MTA that took the message
	Local    bool       // the message has no connection, see [mail.InputLocal]
	From     mail.Address
	Rcpts    []mail.Address
	Banks    []string // named by the request (AM.PDP), or local_bank
	Signers  []string // domains of valid DKIM author signatures
	Senders  []Sender // in whose name the message comes; none: no sender list is asked

	// Automatic says which field or address shows that a program or a list
	// sent the message; empty: none does.
	Automatic string
}

// Step is one bank on the path, and why it was loaded.
type Step struct {
	Bank   string // "" for what is no bank: a rule for senders or recipients, a lookup that failed
	Reason string // for example "listener 127.0.0.1:10023" or "client 84.200.7.149 in 84.200.7.144/28"
}

// Selection is the answer to a Request.
type Selection struct {
	Path        []Step    // without the base and without recipient overlays
	Settings    *Settings // in force for the message as a whole
	Originating bool
	Reason      string   // of Originating: which bank or network, and file:line
	SenderLocal bool     // the envelope sender's domain is in local_domains
	Senders     []Sender // those of the request
	Rcpts       []RcptSelection

	// DMARC is what the domain of the author wishes for this message, empty if
	// it is not known: who makes a selection for a message that was
	// authenticated sets it.
	DMARC mail.DMARCPolicy

	// Failed is why settings of recipients could not be looked up, who have
	// those without them because on_error is pass; nil: all is known.
	Failed error

	// Automatic is that of the request.
	Automatic string
	// Unanswerable says that nobody waits for an answer to the message: it is
	// a report, or automatic.
	Unanswerable bool

	layer *layer // that Settings are of, for the overlays that come next
}

// Banks returns the names of the banks on the path.
func (s *Selection) Banks() []string {
	var out []string
	for _, step := range s.Path {
		if step.Bank != "" { // a rule for senders is no bank
			out = append(out, step.Bank)
		}
	}
	return out
}

// RcptSelection is the part of a Selection that belongs to one recipient.
type RcptSelection struct {
	Address   mail.Address
	Local     bool
	Direction Direction
	Path      []Step // Selection.Path plus the overlays for this recipient
	Settings  *Settings
}

// ContentCategory is a category with its minor (mail.Encrypted, ...).
type ContentCategory struct {
	Category mail.Category
	Minor    int
}

// Verdict is what a message is for one recipient, and what is to become of it.
type Verdict struct {
	Categories []ContentCategory // every applicable one, highest first; the last is always CLEAN
	Blocking   ContentCategory   // the category that decided; zero when the message passes
	Destiny    Destiny           // Pass when nothing blocks
	Findings   []mail.Finding    // of this recipient, those of the deciding category first
	Score      *mail.Score       // of spam engines and of names that scanners gave; nil if there is neither
	Listed     Listed            // the sender is whitelisted or blacklisted
	Reasons    []string          // one sentence for each step of the decision, for people
}

// Main returns the highest category.
func (v *Verdict) Main() ContentCategory { return v.Categories[0] }

// Is reports whether one of these categories applies.
func (v *Verdict) Is(categories ...mail.Category) bool {
	return slices.ContainsFunc(v.Categories, func(c ContentCategory) bool { return slices.Contains(categories, c.Category) })
}

// Names returns the distinct names of the findings of category c, as the log
// has them: virus names, banned files, header complaints.
func (v *Verdict) Names(c mail.Category) []string {
	return v.distinct(c, func(f *mail.Finding) string { return f.Name })
}

// ShortNames returns Names as replies, header fields and reports have them.
func (v *Verdict) ShortNames(c mail.Category) []string {
	return v.distinct(c, func(f *mail.Finding) string { return cmp.Or(f.Short, f.Name) })
}

func (v *Verdict) distinct(c mail.Category, name func(*mail.Finding) string) []string {
	var out []string
	seen := map[string]bool{}
	for i := range v.Findings {
		f := &v.Findings[i]
		if n := name(f); f.Category == c && n != "" && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
