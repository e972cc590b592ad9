// Package senderlist says what is known beforehand about senders: whose mail is
// never spam, whose always is, and points for or against the rest. What that
// does to a message is for policy. Start with [Rule] and [Find].
package senderlist

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy/lookup"
	"postern/policy/strict"
)

// Rule says what mail of some senders is.
type Rule struct {
	// Senders, written as in match of recipients.
	Match []string `yaml:"match"`
	// whitelisted: its score does not make the mail spam, whatever it is.
	// blacklisted: it is spam, whatever its score. score: points are added.
	// neutral: none of it, and no later entry is asked about that address.
	As Meaning `yaml:"as"`
	// Points of as: score; below 0 in favour of the sender.
	Score *float64 `yaml:"score"`
	// Whether the entry holds only for mail that is proven to come from the
	// sender: a valid DKIM signature or SPF pass of the very domain of the
	// address, or DMARC pass of the author, or the mail is originating. Without
	// the key that is so for whitelisted alone: anybody can write any sender, and
	// who writes one from a blacklist has not earned better.
	Verified *bool `yaml:"verified"`

	place string
	keys  *lookup.Addresses[bool] // shared by all copies of the entry
}

// Meaning is what mail of a sender is.
type Meaning string

// The meanings.
const (
	Whitelisted Meaning = "whitelisted"
	Blacklisted Meaning = "blacklisted"
	Score       Meaning = "score"
	Neutral     Meaning = "neutral"
)

// At makes an entry ready to be read from a file: place is where it stands.
func (r *Rule) At(place string) { r.place, r.keys = place, &lookup.Addresses[bool]{} }

// New makes an entry for senders that are known under keys, as in match. place
// is where it comes from, for people.
func New(place string, keys []string, as Meaning, score float64, verified bool) (Rule, error) {
	r := Rule{Match: keys, As: as, Verified: &verified}
	if as == Score {
		r.Score = &score
	}
	r.At(place)
	return r, r.Compile("")
}

// Compile enters the senders of match, and of the lists that it names; paths are
// relative to dir.
func (r *Rule) Compile(dir string) error { return r.keys.AddAll(dir, r.Match, true) }

// Check says what is wrong with the entry.
func (r *Rule) Check() (what, hint string) {
	const example = `for example {match: .example.org, as: whitelisted}`
	switch {
	case len(r.Match) == 0:
		return "no match", `for all senders write match: "."; ` + example
	case r.As == "":
		return "no as: what is mail of these senders?", example
	case r.As == Score && r.Score == nil:
		return "no score", "for example {match: .example.org, as: score, score: -2}"
	case r.As != Score && r.Score != nil:
		return "a score is for as: score only", example
	}
	return "", ""
}

// String writes the entry as in a file.
func (r Rule) String() string {
	quoted := make([]string, len(r.Match))
	for i, m := range r.Match {
		quoted[i] = strconv.Quote(m)
	}
	s := "{match: [" + strings.Join(quoted, ", ") + "], as: " + string(r.As)
	if r.Score != nil {
		s += ", score: " + strconv.FormatFloat(*r.Score, 'f', -1, 64)
	}
	if r.Verified != nil {
		s += ", verified: " + strconv.FormatBool(*r.Verified)
	}
	return s + "}"
}

// MarshalText returns the entry as String does, for JSON.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Place is where the entry stands: file and line, or a row of a database.
func (r *Rule) Place() string { return r.place }

// WantsProof reports whether the entry holds for verified senders only.
func (r *Rule) WantsProof() bool {
	if r.Verified != nil {
		return *r.Verified
	}
	return r.As == Whitelisted
}

// Everybody reports whether every sender is meant.
func (r *Rule) Everybody() bool { return slices.Contains(r.Match, ".") }

// Sender is an address in whose name a message comes.
type Sender struct {
	Address mail.Address
	What    string // "sender" for that of the envelope, "author" for one in From
	Proof   string // why the address is verified, for example "SPF"; empty: it is not
	// Guess says that readers may take it for an author, or that there are too many
	// of them: it counts against the sender only.
	Guess bool
}

// String names the sender for people.
func (s Sender) String() string { return s.What + " " + mail.Escape(s.Address.String()) }

// Hit is an entry that fits a sender of the message.
type Hit struct {
	Rule   *Rule
	Sender Sender
}

// Find returns the first entry that holds for one of the senders, nil if none
// does, and those before it that do not hold only because the sender is not
// verified, each once. A neutral entry ends the search for its address alone: a
// sender who is none of ours can write another one beside his own.
func Find(rules []Rule, senders []Sender) (held *Hit, unproven []Hit) {
	var neutral *Hit
	out := make([]bool, len(senders)) // for whom the search has ended
	for i := range rules {
		r := &rules[i]
		if r.keys == nil {
			continue
		}
		for k, s := range senders {
			if out[k] || s.Guess && r.As != Blacklisted || len(r.keys.Find(s.Address)) == 0 {
				continue
			}
			hit := Hit{Rule: r, Sender: s}
			switch {
			case r.WantsProof() && s.Proof == "":
				if !slices.ContainsFunc(unproven, func(h Hit) bool { return h.Rule == r }) {
					unproven = append(unproven, hit)
				}
			case r.As == Neutral:
				if out[k] = true; neutral == nil {
					neutral = &hit
				}
			default:
				return &hit, slices.DeleteFunc(unproven, func(h Hit) bool { return h.Rule == r })
			}
		}
	}
	if neutral != nil {
		unproven = slices.DeleteFunc(unproven, func(h Hit) bool { return h.Rule == neutral.Rule })
	}
	return neutral, unproven
}

// Key returns how a row of Amavis' table mailaddr is written in match:
// "@example.org" is the domain, "@.example.org" all below it too, "@." everybody,
// and "user" without a domain the user of any domain.
func Key(row string) (string, error) {
	row = strings.TrimSpace(row)
	key, ofDomain := strings.CutPrefix(row, "@")
	switch {
	case key == "":
		return "", errors.New("empty address")
	case !ofDomain && !strings.Contains(row, "@"):
		key = row + "@"
	case strings.HasPrefix(key, "/"):
		return "", errors.New("not an address: " + strict.Quote(row))
	}
	return key, lookup.CheckAddresses("", []string{key})
}
