package lookup

// Names of domains and addresses: how they are written, and in which form they
// are compared.

import (
	"regexp"
	"strings"

	"golang.org/x/net/idna"

	"postern/filter/mail"
	"postern/policy/strict"
)

// ParseDomain returns a domain name in lower case as A-labels, or what is
// wrong with it.
func ParseDomain(s string) (name, problem string) {
	switch {
	case s == "":
		return s, "empty domain name"
	case strings.Contains(s, "@"):
		return s, "want a domain, not the address " + strict.Quote(s)
	case strings.ContainsAny(s, " \t"):
		return s, "blank in the domain " + strict.Quote(s)
	case strings.ContainsAny(s, strict.Typographic):
		return s, strict.Quote(s) + " is no domain name: " + strict.QuotesHint
	}
	name, err := domainProfile.ToASCII(s)
	if err != nil && mail.Address(s).ASCII() {
		return s, strict.Quote(s) + " is no domain name"
	}
	if err != nil {
		return s, strict.Quote(s) + " is no valid international domain name"
	}
	name = strings.ToLower(name)
	if len(name) > 253 {
		return s, "the domain " + strict.Quote(s) + " is longer than 253 bytes"
	}
	for label := range strings.SplitSeq(name, ".") {
		if !domainLabel.MatchString(label) {
			return s, strict.Quote(s) + " is no domain name"
		}
	}
	return name, ""
}

var (
	domainProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))
	// Underscores are no part of host names, but some mail domains have them.
	domainLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	localPart   = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*|\"([ !#-\\[\\]-~]|\\\\[ -~])*\")$")
)

// ParseAddress returns an address with its domain as ParseDomain has it. The
// empty address stays.
func ParseAddress(s string) (a mail.Address, problem string) {
	if s == "" {
		return "", ""
	}
	local, domain := mail.Address(s).Split()
	if domain == "" || !localPart.MatchString(local) {
		return "", "want an address, not " + strict.Quote(s)
	}
	domain, problem = ParseDomain(domain)
	if problem != "" {
		return "", problem
	}
	return mail.Address(local + "@" + domain), ""
}

// foldDomain returns the form in which domains are compared: lower case,
// A-labels, no final dot. What is no valid IDN is only put in lower case.
func foldDomain(d string) string {
	if !mail.Address(d).ASCII() {
		if a, err := idna.Lookup.ToASCII(d); err == nil {
			d = a
		}
	}
	return strings.TrimSuffix(strings.ToLower(d), ".")
}

// FoldAddress returns the parts in which addresses are compared. Quoting does
// not count, nor does case (Amavis: $localpart_is_case_sensitive = 0).
func FoldAddress(a mail.Address) (local, domain string) {
	_, domain = a.Split()
	return strings.ToLower(a.Local()), foldDomain(domain)
}

// ParentDomains calls visit with d, then with each parent, then with "" for
// the root, until visit returns false. A domain literal has no parents.
func ParentDomains(d string, visit func(string) bool) {
	if strings.HasPrefix(d, "[") {
		d = ""
	}
	for d != "" {
		if !visit(d) {
			return
		}
		_, d, _ = strings.Cut(d, ".")
	}
	visit("")
}
