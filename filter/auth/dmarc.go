package auth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"postern/filter/mail"
)

// DMARC by RFC 9989. The section numbers are those of its last draft,
// draft-ietf-dmarc-dmarcbis-41, from which this was written.

// maxWalk is the number of questions of one tree walk (RFC 9989 section 4.10).
const maxWalk = 8

// maxAuthors bounds the domains in From that are looked at; DMARC knows of one
// (RFC 9989 section 11.5).
const maxAuthors = 4

// dmarcRecord is what a DMARC policy record says (RFC 9989 section 4.7). A wish
// that is not there is empty.
type dmarcRecord struct {
	p, sp, np  mail.DMARCPolicy
	strictDKIM bool // adkim=s
	strictSPF  bool // aspf=s
	suffix     byte // psd: 'y', 'n' or 'u'
	testing    bool // t=y
	unusable   bool // p, sp or np make no sense, and nobody is there to be told
}

// parseDMARC reads a TXT record. ok is false if it is no DMARC record: its
// first tag must be v=DMARC1. What makes no sense after that is as if it was
// not there, of a tag that comes twice the first counts, and unknown tags, pct
// among them, say nothing (RFC 9989 section 4.8).
func parseDMARC(txt string) (r dmarcRecord, ok bool) {
	if len(txt) > maxTagged {
		return r, false
	}
	r.suffix = 'u'
	seen := map[string]bool{}
	wrong, reported := false, false
	first, rest, _ := strings.Cut(txt, ";")
	name, version, _ := strings.Cut(first, "=")
	if !strings.EqualFold(strings.Trim(name, " \t"), "v") || strings.Trim(version, " \t") != "DMARC1" {
		return r, false
	}
	for part := range strings.SplitSeq(rest, ";") {
		name, value, found := strings.Cut(part, "=")
		name = strings.ToLower(strings.Trim(name, " \t"))
		value = strings.Trim(value, " \t")
		if !found || seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "p":
			r.p, found = readWish(value)
			wrong = wrong || !found
		case "sp":
			r.sp, found = readWish(value)
			wrong = wrong || !found
		case "np":
			r.np, found = readWish(value)
			wrong = wrong || !found
		case "adkim":
			r.strictDKIM = strings.EqualFold(value, "s")
		case "aspf":
			r.strictSPF = strings.EqualFold(value, "s")
		case "t":
			r.testing = strings.EqualFold(value, "y")
		case "psd":
			if v := strings.ToLower(value); v == "y" || v == "n" {
				r.suffix = v[0]
			}
		case "rua":
			reported = hasURI(value)
		}
	}
	switch {
	case wrong && reported:
		// section 4.10.1: as if it said p=none, so that its owner hears of it
		r.p, r.sp, r.np = mail.DMARCNone, "", ""
	case wrong:
		r.unusable = true
	case r.p == "":
		r.p = mail.DMARCNone // section 4.7
	}
	return r, true
}

func readWish(value string) (mail.DMARCPolicy, bool) {
	switch p := mail.DMARCPolicy(strings.ToLower(value)); p {
	case mail.DMARCNone, mail.DMARCQuarantine, mail.DMARCReject:
		return p, true
	}
	return "", false
}

// hasURI reports whether a list of report addresses has one that can be read.
func hasURI(list string) bool {
	for s := range strings.SplitSeq(list, ",") {
		s, _, _ = strings.Cut(strings.Trim(s, " \t"), "!") // an obsolete size limit
		if u, err := url.Parse(s); err == nil && u.Scheme != "" && (u.Opaque != "" || u.Host != "") {
			return true
		}
	}
	return false
}

// walkNames returns the domains whose records a tree walk asks for, the longest
// first (RFC 9989 section 4.10): at most eight.
func walkNames(domain string) []string {
	names := []string{domain}
	labels := strings.Split(domain, ".")
	for n := min(len(labels), maxWalk) - 1; n > 0; n-- {
		names = append(names, strings.Join(labels[len(labels)-n:], "."))
	}
	return names
}

// found is a DMARC record and its place.
type found struct {
	domain string
	dmarcRecord
}

// walk asks for the records of a domain and of those above, the longest name
// first. With an error, records has what was found before it.
func (v *Verifier) walk(ctx context.Context, domain string) (records []found, err error) {
	for _, name := range walkNames(domain) {
		txts, err := v.DNS.LookupTXT(ctx, "_dmarc."+name)
		if err != nil && !notFound(err) {
			// A record at a top-level domain only says where organizations
			// begin, and one that was found below says it as well.
			if len(records) > 0 && !strings.Contains(name, ".") {
				return records, nil
			}
			return records, err
		}
		var here []dmarcRecord
		for _, txt := range txts {
			if r, ok := parseDMARC(txt); ok {
				here = append(here, r)
			}
		}
		if len(here) != 1 {
			continue // several are as good as none
		}
		records = append(records, found{name, here[0]})
		if here[0].suffix != 'u' {
			break
		}
	}
	return records, nil
}

// organization returns the organizational domain of the domain where a walk
// started that found records (RFC 9989 section 4.10.2).
func organization(start string, records []found) string {
	org := start
	for _, r := range records {
		switch {
		case r.suffix == 'n':
			return r.domain
		case r.suffix == 'y' && r.domain != start:
			below := strings.TrimSuffix(start, "."+r.domain)
			return below[strings.LastIndexByte(below, '.')+1:] + "." + r.domain
		}
		org = r.domain
	}
	return org
}

// policyRecord returns the record that applies to an author: its own, that of
// its organization, or that of the public suffix above (RFC 9989 section
// 4.10.1).
func policyRecord(author, org string, records []found) *found {
	for _, fits := range []func(r *found) bool{
		func(r *found) bool { return r.domain == author },
		func(r *found) bool { return r.domain == org },
		func(r *found) bool { return r.suffix == 'y' },
	} {
		for i := range records {
			if fits(&records[i]) {
				return &records[i]
			}
		}
	}
	return nil
}

// dmarc adds the result of DMARC to a, and what of it is aligned. A record on
// which it breaks must not keep the message from its way.
func (v *Verifier) dmarc(ctx context.Context, h mail.Header, a *mail.Authentication) {
	defer func() {
		if p := recover(); p != nil {
			a.DMARC = &mail.DMARCResult{Result: mail.AuthPermError, Reason: "the evaluation broke on this message", Wish: mail.DMARCNone}
		}
	}()
	from := h.All("From")
	var authors []string
	for _, value := range from {
		for _, d := range addressDomains(value) {
			if !slices.Contains(authors, d) {
				authors = append(authors, d)
			}
		}
	}
	wrong := ""
	switch {
	case len(from) == 0:
		wrong = "there is no From field"
	case len(from) > 1:
		wrong = fmt.Sprintf("there are %d From fields", len(from))
	case len(authors) == 0:
		wrong = "From names no domain"
	case len(authors) > maxAuthors:
		wrong = fmt.Sprintf("From names %d domains", len(authors))
	}
	if wrong != "" {
		// section 5.3.1: out of its scope
		a.DMARC = &mail.DMARCResult{Result: mail.AuthPermError, Reason: wrong, Wish: mail.DMARCNone}
		return
	}
	// Section 11.5: of several domains the one that fails with the strictest
	// wish counts.
	e := &evaluation{v: v, ctx: ctx, a: a, orgs: map[string]organized{}}
	for _, author := range authors {
		if r := e.author(author); a.DMARC == nil || severity(r) > severity(a.DMARC) {
			a.DMARC = r
		}
	}
}

// severity orders results: the worse the higher.
func severity(r *mail.DMARCResult) int {
	switch r.Result {
	case mail.AuthFail:
		return 10 + wishRank(r.Wish)
	case mail.AuthTempError:
		return 4
	case mail.AuthPermError:
		return 3
	case mail.AuthNone:
		return 2
	}
	return 1
}

var wishes = []mail.DMARCPolicy{mail.DMARCNone, mail.DMARCQuarantine, mail.DMARCReject}

func wishRank(p mail.DMARCPolicy) int { return slices.Index(wishes, p) }

// evaluation is DMARC for one message.
type evaluation struct {
	v    *Verifier
	ctx  context.Context
	a    *mail.Authentication
	orgs map[string]organized // by domain, so that each is walked from once
}

type organized struct {
	org string
	err error
}

// author evaluates one author domain.
func (e *evaluation) author(author string) *mail.DMARCResult {
	r := &mail.DMARCResult{Author: author, Wish: mail.DMARCNone}
	records, walkErr := e.v.walk(e.ctx, author)
	if walkErr != nil && (len(records) == 0 || records[0].domain != author) {
		r.Result, r.Reason = mail.AuthTempError, "the record cannot be fetched: "+walkErr.Error()
		return r
	}
	if walkErr == nil {
		r.Org = organization(author, records)
	}
	e.orgs[author] = organized{r.Org, walkErr}
	record := policyRecord(author, r.Org, records)
	switch {
	case record == nil:
		r.Result = mail.AuthNone
		_, _ = e.align(author, true, true) // only what is the same domain, which needs no DNS
		return r
	case record.unusable:
		r.Result, r.Domain, r.Reason = mail.AuthPermError, record.domain, "the record has a policy that makes no sense"
		return r
	}
	r.Domain, r.Testing = record.domain, record.testing
	e.wish(r, record)
	aligned, err := e.align(author, record.strictDKIM, record.strictSPF)
	switch {
	case aligned:
		r.Result = mail.AuthPass
	case err != nil:
		r.Result, r.Reason = mail.AuthTempError, "it cannot be told who belongs together: "+err.Error()
	case e.unanswered(author, r.Org):
		// what could not be verified might have been aligned
		r.Result, r.Reason = mail.AuthTempError, "SPF or DKIM had no answer"
	default:
		r.Result = mail.AuthFail
		r.Wish = r.Policy
		if r.Testing {
			r.Wish = wishes[max(wishRank(r.Policy)-1, 0)]
		}
	}
	return r
}

// wish finds the policy that applies (RFC 9989 section 4.10.1).
func (e *evaluation) wish(r *mail.DMARCResult, record *found) {
	r.Policy, r.Tag = record.p, "p"
	if record.domain == r.Author {
		return
	}
	if record.sp != "" {
		r.Policy, r.Tag = record.sp, "sp"
	}
	if record.np == "" {
		return
	}
	// without an answer it is taken to exist
	if exists, err := e.v.DNS.Exists(e.ctx, r.Author); err == nil && !exists {
		r.Policy, r.Tag = record.np, "np"
	}
}

// align marks what is valid and aligned with the author (RFC 9989 section
// 4.10.2), and returns whether there is anything. An error means that it is not
// known of something valid.
func (e *evaluation) align(author string, strictDKIM, strictSPF bool) (aligned bool, err error) {
	check := func(domain string, strict bool, mark *bool) {
		ok, unknown := e.together(author, domain, strict)
		*mark, aligned = *mark || ok, aligned || ok
		if unknown != nil {
			err = unknown
		}
	}
	for i := range e.a.DKIM {
		if s := &e.a.DKIM[i]; s.Result == mail.AuthPass {
			check(s.Domain, strictDKIM, &s.Aligned)
		}
	}
	for i := range e.a.SPF {
		// DMARC does not look at HELO (section 4.4.2)
		if s := &e.a.SPF[i]; s.Result == mail.AuthPass && s.Scope == mail.SPFMailFrom {
			check(s.Domain, strictSPF, &s.Aligned)
		}
	}
	return aligned, err
}

// together reports whether a domain is aligned with an author.
func (e *evaluation) together(author, domain string, strict bool) (bool, error) {
	if domain == author {
		return true, nil
	}
	if strict {
		return false, nil
	}
	a := e.orgs[author]
	if a.err != nil {
		return false, a.err
	}
	// the organization of a domain is the domain or one above
	if !within(domain, a.org) {
		return false, nil
	}
	d, known := e.orgs[domain]
	if !known {
		records, err := e.v.walk(e.ctx, domain)
		d = organized{organization(domain, records), err}
		e.orgs[domain] = d
	}
	return d.err == nil && d.org == a.org, d.err
}

// within reports whether domain is org or below it.
func within(domain, org string) bool {
	return domain == org || strings.HasSuffix(domain, "."+org)
}

// unanswered reports whether something that might be aligned with the author
// got no answer from the DNS.
func (e *evaluation) unanswered(author, org string) bool {
	might := func(r mail.AuthResult, domain string) bool {
		return r == mail.AuthTempError && (domain == author || org != "" && within(domain, org))
	}
	return slices.ContainsFunc(e.a.DKIM, func(s mail.DKIMResult) bool { return might(s.Result, s.Domain) }) ||
		slices.ContainsFunc(e.a.SPF, func(s mail.SPFResult) bool { return s.Scope == mail.SPFMailFrom && might(s.Result, s.Domain) })
}
