package mail

import "slices"

// AuthResult is what an authentication method says, in the words of RFC 8601
// section 2.7. The empty word means that nobody has asked.
type AuthResult string

// The results.
const (
	AuthNone      AuthResult = "none"      // there is nothing to verify
	AuthPass      AuthResult = "pass"      // the domain answers for it
	AuthFail      AuthResult = "fail"      // it does not
	AuthSoftFail  AuthResult = "softfail"  // SPF: it probably does not
	AuthNeutral   AuthResult = "neutral"   // it says nothing, or we cannot read it
	AuthPolicy    AuthResult = "policy"    // it is of a kind that we do not take
	AuthTempError AuthResult = "temperror" // the DNS did not answer; later it may
	AuthPermError AuthResult = "permerror" // what is published or written is wrong
)

// Authentication is what is known of who answers for a message. It holds facts:
// what they mean is for the policy to say.
type Authentication struct {
	// Signers are the domains of the valid DKIM signatures that are the very
	// domain of the author (RFC 6376, RFC 5322 section 3.6.2), in lower case.
	// It is empty if the message has not exactly one From field: a signature
	// covers only one of several. A domain that only tries DKIM out is none.
	Signers []string `json:"author_signers,omitempty"`
	// Unsigned says that signatures were looked for, and there is none.
	Unsigned bool `json:"unsigned,omitempty"`
	// DKIM has the signatures that were looked at, the topmost first.
	DKIM []DKIMResult `json:"dkim,omitempty"`
	// Unverified counts the DKIM signatures that were too many to look at.
	Unverified int `json:"dkim_not_verified,omitempty"`
	// SPF has what the domain of HELO and that of MAIL FROM say of the client,
	// in this order; empty if nobody has asked.
	SPF []SPFResult `json:"spf,omitempty"`
	// DMARC is nil if nobody has asked.
	DMARC *DMARCResult `json:"dmarc,omitempty"`
}

// DKIMResult is one DKIM-Signature field (RFC 6376).
type DKIMResult struct {
	Result    AuthResult `json:"result"`                // never [AuthNone]
	Domain    string     `json:"domain,omitempty"`      // d=, an A-label name in lower case; empty if it cannot be read
	Selector  string     `json:"selector,omitempty"`    // s=, likewise
	Algorithm string     `json:"algorithm,omitempty"`   // a=, "rsa-sha256" or "ed25519-sha256"; empty if it is another
	Bits      int        `json:"bits,omitempty"`        // size of the public key, 0 if it is not known
	Start     string     `json:"b,omitempty"`           // the first characters of b=, as RFC 6008 tells signatures apart
	Reason    string     `json:"reason,omitempty"`      // why it is not "pass"; may hold foreign text
	Testing   bool       `json:"key_testing,omitempty"` // the key says t=y: the domain only tries DKIM out
	Aligned   bool       `json:"aligned,omitempty"`     // it is valid, and d= is aligned with an author (RFC 9989 section 4.4.1)
}

// SPFScope says which domain SPF was asked about (RFC 7208 section 2).
type SPFScope string

// The scopes, in the words of RFC 8601 section 2.7.2.
const (
	SPFHelo     SPFScope = "helo"
	SPFMailFrom SPFScope = "mailfrom"
)

// SPFResult is what one domain says of the client (RFC 7208).
type SPFResult struct {
	Scope   SPFScope   `json:"scope"`
	Result  AuthResult `json:"result"`
	Domain  string     `json:"domain,omitempty"`  // an A-label name in lower case; for a null sender that of HELO; may be empty
	Reason  string     `json:"reason,omitempty"`  // may hold foreign text
	Aligned bool       `json:"aligned,omitempty"` // it is "pass" for MAIL FROM, and aligned with an author (RFC 9989 section 4.4.2)
}

// DMARCPolicy is a wish of a domain for mail of its name that it does not
// answer for (RFC 9989 section 4.7).
type DMARCPolicy string

// The policies, from the mildest.
const (
	DMARCNone       DMARCPolicy = "none"
	DMARCQuarantine DMARCPolicy = "quarantine"
	DMARCReject     DMARCPolicy = "reject"
)

// DMARCResult is what DMARC says of the author of a message (RFC 9989). Nothing
// of it is an order: what becomes of the message is for the policy to say.
type DMARCResult struct {
	Result AuthResult `json:"result"`           // pass, fail, none, temperror or permerror
	Reason string     `json:"reason,omitempty"` // may hold foreign text
	Author string     `json:"author,omitempty"` // the author's domain; of several the one with the worst result
	Domain string     `json:"record,omitempty"` // where the record was found, without "_dmarc."; empty if there is none
	Org    string     `json:"org,omitempty"`    // the organizational domain of Author, empty if it is not known

	Policy  DMARCPolicy `json:"policy,omitempty"`  // what the record wishes for Author, empty without a record
	Tag     string      `json:"tag,omitempty"`     // the tag that says so: "p", "sp" or "np"
	Testing bool        `json:"testing,omitempty"` // t=y: the domain only tries it out

	// Wish is what the domain wishes for this message: "none" unless Result
	// is fail, and one step milder than Policy if it only tries DMARC out.
	Wish DMARCPolicy `json:"wish"`
}

// Valid returns the valid DKIM signatures in their order, each selector and
// domain once. It is what the log line shows as dkim_sd.
func (a *Authentication) Valid() []Signature {
	if a == nil {
		return nil
	}
	var out []Signature
	for _, r := range a.DKIM {
		s := Signature{Domain: r.Domain, Selector: r.Selector}
		if r.Result == AuthPass && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
