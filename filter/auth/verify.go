package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

// Verifying with go-msgauth, which hashes and compares. What it is given is
// prepared here, for four reasons: it has no bounds of its own; it joins the
// lines of a field, and looks for signed fields, in quadratic time; it does not
// say which selector and which key were used; and its errors have no kinds. So
// each signature is read, judged and given its key here, and go-msgauth gets a
// message with no other header fields than the signed ones.
//
// Two rare kinds of valid signature are "neutral", because go-msgauth would not
// read them right: those with another tag in which a "b" stands before a "="
// (it blanks more than the signature then), as a copied header (z=) may have,
// and those whose i= writes the domain in another case than d=.

// Bounds of what is looked at. They are far from what honest mail has.
const (
	maxSignatures  = 8         // of a message; RFC 6376 section 6.1 allows a bound
	maxNamesSigned = 500       // in h=
	maxHeaderSize  = 512 << 10 // octets of the signed fields of one signature
	maxHeaderWork  = 2 << 30   // lines by octets of one field, summed up: what go-msgauth copies
	maxRSABits     = 8192      // longer keys cost more time than they are worth
)

// Verifier finds out who answers for a message: DKIM (RFC 6376, RFC 8301, RFC
// 8463), SPF (RFC 7208) and DMARC (RFC 9989). It has no state of its own.
type Verifier struct {
	DNS *Resolver
	// Deadline is for all about one message; 0 means 10 s. What is not answered
	// by then, or when the context ends, is "temperror".
	Deadline time.Duration
}

// Questions are what there is to find out about a message. DMARC is no question
// of its own: it is the answer to both.
type Questions struct {
	Signatures bool // DKIM
	// Client is SPF, for one to ask about: it is known, and neither of our own
	// people nor a relay that takes mail for us.
	Client bool
}

// Authenticate never fails: what could not be found out is a result. DMARC is
// evaluated only where both questions are asked, because its "fail" says that
// neither DKIM nor SPF would do.
func (v *Verifier) Authenticate(ctx context.Context, tx *mail.Transaction, q Questions) *mail.Authentication {
	deadline := cmp.Or(v.Deadline, 10*time.Second)
	start := time.Now()
	if end, ok := ctx.Deadline(); ok {
		deadline = min(deadline, end.Sub(start))
	}
	// a slow part leaves something for the next
	part := func(percent time.Duration) (context.Context, context.CancelFunc) {
		return context.WithDeadline(ctx, start.Add(deadline*percent/100))
	}
	a := &mail.Authentication{}
	h := tx.Message.Header()
	var both sync.WaitGroup
	if q.Client && tx.Client.Addr.IsValid() {
		both.Go(func() {
			ctx, cancel := part(70)
			defer cancel()
			a.SPF = v.sender(ctx, tx.Client.Addr, tx.Client.Helo, tx.From)
		})
	}
	if q.Signatures {
		ctx, cancel := part(70)
		defer cancel()
		a.DKIM, a.Unverified = v.signatures(ctx, tx.Message)
		a.Unsigned = len(a.DKIM) == 0
		a.Signers = authorSigners(h, a.DKIM)
	}
	both.Wait()
	if q.Signatures && len(a.SPF) > 0 {
		ctx, cancel := part(100)
		defer cancel()
		v.dmarc(ctx, h, a)
	}
	return a
}

// authorSigners returns the domains of the valid signatures that are the domain
// of an author. Mail of a domain that only tries DKIM out is to be treated as if
// it was not signed (RFC 6376 section 3.6.1).
func authorSigners(h mail.Header, results []mail.DKIMResult) []string {
	from := h.All("From")
	if len(from) != 1 {
		return nil
	}
	authors := addressDomains(from[0])
	var out []string
	for _, r := range results {
		if r.Result == mail.AuthPass && !r.Testing && slices.Contains(authors, r.Domain) && !slices.Contains(out, r.Domain) {
			out = append(out, r.Domain)
		}
	}
	return out
}

// signatures verifies the topmost signatures of a message, and counts the rest.
func (v *Verifier) signatures(ctx context.Context, m *mail.Message) (results []mail.DKIMResult, rest int) {
	h := m.Header()
	for i, f := range h {
		if !f.Is(signatureField) {
			continue
		}
		if len(results) == maxSignatures {
			rest++
			continue
		}
		s := &signature{header: h, at: i, message: m}
		if s.judge(s.read); s.Result == "" {
			s.judge(func() *verdict { return s.verify(ctx, v.DNS) })
		}
		results = append(results, s.DKIMResult)
	}
	return results, rest
}

// signature is one DKIM-Signature field while it is looked at.
type signature struct {
	mail.DKIMResult
	header  mail.Header
	at      int // its place in header
	message *mail.Message

	tags   tagList
	agent  string // the domain of i=
	signed []int  // the fields that h= names, by their places in header, from the top
}

// verdict ends the look at a signature.
type verdict struct {
	result mail.AuthResult
	reason string
}

func ruled(r mail.AuthResult, format string, args ...any) *verdict {
	return &verdict{r, fmt.Sprintf(format, args...)}
}

// judge takes a step, and down what it says. A step that breaks must not keep
// the message from its way, and it must not pass.
func (s *signature) judge(step func() *verdict) {
	defer func() {
		if p := recover(); p != nil {
			s.Result, s.Reason = mail.AuthPermError, "the verifier broke on this signature"
		}
	}()
	if v := step(); v != nil {
		s.Result, s.Reason = v.result, bounded(v.reason)
	}
}

// read takes the tags of the signature apart (RFC 6376 sections 3.5 and 6.1.1).
func (s *signature) read() *verdict {
	var err error
	if s.tags, err = parseTags(string(s.header[s.at].RawValue())); err != nil {
		return ruled(mail.AuthNeutral, "%v", err)
	}
	for _, name := range []string{"v", "a", "b", "bh", "d", "h", "s"} {
		if v, ok := s.tags.get(name); !ok || v == "" {
			return ruled(mail.AuthPermError, "there is no %s=", name)
		}
	}
	domain, ok := domainToASCII(withoutFWS(s.tags.or("d", "")))
	if selector := withoutFWS(s.tags.or("s", "")); ok && isName(selector) {
		s.Domain, s.Selector = domain, selector
	}
	b := withoutFWS(s.tags.or("b", ""))
	s.Start = b[:min(len(b), 8)]
	switch {
	case s.tags.or("v", "") != "1":
		return ruled(mail.AuthNeutral, "another version of DKIM")
	case s.Domain == "" || !strings.EqualFold(domain, withoutFWS(s.tags.or("d", ""))):
		return ruled(mail.AuthPermError, "d= or s= is not a name")
	}
	for _, step := range []func() *verdict{s.readMethods, s.readAgent, s.readTimes, s.readFields} {
		if v := step(); v != nil {
			return v
		}
	}
	return nil
}

func (s *signature) readMethods() *verdict {
	switch a := withoutFWS(s.tags.or("a", "")); a {
	case "rsa-sha256", "ed25519-sha256":
		s.Algorithm = a
	case "rsa-sha1":
		return ruled(mail.AuthFail, "rsa-sha1 is worth nothing (RFC 8301)")
	default:
		return ruled(mail.AuthNeutral, "an unknown algorithm")
	}
	header, body, _ := strings.Cut(withoutFWS(s.tags.or("c", "simple/simple")), "/")
	for _, c := range []string{header, cmp.Or(body, "simple")} {
		if c != "simple" && c != "relaxed" {
			return ruled(mail.AuthNeutral, "an unknown canonicalization")
		}
	}
	if !listHas(s.tags.or("q", "dns/txt"), "dns/txt") {
		return ruled(mail.AuthNeutral, "the key is not in the DNS")
	}
	if _, ok := s.tags.get("l"); ok {
		// RFC 6376 section 8.2: whoever comes by may add what the reader sees
		return ruled(mail.AuthPolicy, "a signature that leaves part of the body open (l=) is not taken")
	}
	return nil
}

// readAgent reads i=, which names d= or a domain below.
func (s *signature) readAgent() *verdict {
	s.agent = s.Domain
	i, ok := s.tags.get("i")
	if !ok {
		return nil
	}
	i = withoutFWS(i)
	_, agent, ok := cutLast(i, "@")
	lower := strings.ToLower(agent)
	if !ok || lower != s.Domain && !strings.HasSuffix(lower, "."+s.Domain) {
		return ruled(mail.AuthPermError, "i= is not in the domain of d=")
	}
	if !strings.HasSuffix(agent, withoutFWS(s.tags.or("d", ""))) {
		return ruled(mail.AuthNeutral, "i= and d= differ in case, which cannot be verified here")
	}
	s.agent = lower
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// readTimes reads t= and x=: numbers of seconds, of up to 12 digits.
func (s *signature) readTimes() *verdict {
	var at [2]int64
	for i, name := range []string{"t", "x"} {
		v, ok := s.tags.get(name)
		if !ok {
			at[i] = -1
			continue
		}
		n, err := strconv.ParseInt(withoutFWS(v), 10, 64)
		if err != nil || n < 0 {
			return ruled(mail.AuthPermError, "%s= is not a time", name)
		}
		at[i] = n
	}
	switch t, x := at[0], at[1]; {
	case x < 0:
	case t > x:
		return ruled(mail.AuthPermError, "it expires before it was made")
	case time.Now().Unix() > x:
		return ruled(mail.AuthFail, "it has expired")
	}
	return nil
}

// blanked is what go-msgauth takes for the signature.
var blanked = regexp.MustCompile(`b\s*=`)

// readFields finds the fields that h= names (RFC 6376 section 5.4.2).
func (s *signature) readFields() *verdict {
	names := strings.Split(s.tags.or("h", ""), ":")
	if len(names) > maxNamesSigned {
		return ruled(mail.AuthPermError, "h= has %d names", len(names))
	}
	times := map[string]int{}
	for _, name := range names {
		name = strings.ToLower(withoutFWS(name))
		for i := range len(name) {
			if name[i] <= ' ' || name[i] >= 0x7f {
				return ruled(mail.AuthPermError, "h= names what is no field")
			}
		}
		times[name]++
	}
	if times["from"] == 0 {
		return ruled(mail.AuthPermError, "From is not signed")
	}
	for _, t := range s.tags {
		if t.name != "b" && (strings.HasSuffix(t.name, "b") || blanked.MatchString(t.value)) {
			return ruled(mail.AuthNeutral, "the tag %s= cannot be verified here", mail.Escape(t.name))
		}
	}
	size, work := 0, 0
	for i, f := range slices.Backward(s.header) {
		name := strings.ToLower(f.Name)
		if i == s.at || name == "" || times[name] == 0 {
			continue
		}
		times[name]--
		s.signed = append(s.signed, i)
		size += len(f.Raw)
		work += len(f.Raw) * bytes.Count(f.Raw, []byte("\n"))
	}
	own := s.header[s.at].Raw
	work += len(own) * bytes.Count(own, []byte("\n"))
	if size > maxHeaderSize || work > maxHeaderWork {
		return ruled(mail.AuthPermError, "the signed fields are too long")
	}
	slices.Reverse(s.signed)
	return nil
}

// verify fetches the key and compares.
func (s *signature) verify(ctx context.Context, dns *Resolver) *verdict {
	records, err := dns.LookupTXT(ctx, s.Selector+"._domainkey."+s.Domain)
	if err != nil && !notFound(err) {
		return ruled(mail.AuthTempError, "the key cannot be fetched: %v", err)
	}
	record, v := s.readKey(records)
	if v != nil {
		return v
	}
	r := io.MultiReader(bytes.NewReader(s.reduced()), &patientReader{ctx: ctx, data: s.message.Body()})
	results, err := dkim.VerifyWithOptions(r, &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
		// the signed fields may hold other signatures; this one comes first
		MaxVerifications: 1,
	})
	if ctx.Err() != nil {
		return ruled(mail.AuthTempError, "there was no time to verify it")
	}
	if len(results) != 1 {
		return ruled(mail.AuthPermError, "it cannot be verified: %v", err)
	}
	switch err := results[0].Err; {
	case err == nil:
		return &verdict{result: mail.AuthPass}
	case dkim.IsPermFail(err):
		return ruled(mail.AuthPermError, "%s", strings.TrimPrefix(err.Error(), "dkim: "))
	default:
		return ruled(mail.AuthFail, "%s", strings.TrimPrefix(err.Error(), "dkim: "))
	}
}

// reduced returns a header with the signature on top and the signed fields in
// their order below, and the empty line.
func (s *signature) reduced() []byte {
	own := s.header[s.at].Raw
	out := append([]byte(nil), own...)
	for _, i := range s.signed {
		out = endLine(out)
		out = append(out, s.header[i].Raw...)
	}
	return append(endLine(out), "\r\n"...)
}

// endLine adds the CRLF that the last field of a message without a body may
// lack.
func endLine(b []byte) []byte {
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return b
}

// readKey finds the key among the TXT records of its name (RFC 6376 section
// 3.6.1) and returns it in the one form that go-msgauth reads right.
func (s *signature) readKey(records []string) (string, *verdict) {
	var found []tagList
	broken := false
	for _, record := range records {
		tags, err := parseTags(record)
		if err != nil {
			broken = true
			continue
		}
		if _, ok := tags.get("p"); ok {
			found = append(found, tags)
		}
	}
	switch {
	case len(found) > 1:
		return "", ruled(mail.AuthPermError, "there are %d keys at one place", len(found))
	case len(found) == 0 && broken:
		return "", ruled(mail.AuthPermError, "the key cannot be read")
	case len(found) == 0:
		return "", ruled(mail.AuthPermError, "there is no key")
	}
	key := found[0]
	if v, ok := key.get("v"); ok && (v != "DKIM1" || key[0].name != "v") {
		return "", ruled(mail.AuthPermError, "the key is of another version")
	}
	if v := s.readFlags(key); v != nil {
		return "", v
	}
	kind, _, _ := strings.Cut(s.Algorithm, "-")
	if k := withoutFWS(key.or("k", "rsa")); k != kind {
		return "", ruled(mail.AuthPermError, "the key is of another kind than a=")
	}
	p := withoutFWS(key.or("p", ""))
	if p == "" {
		return "", ruled(mail.AuthPermError, "the key was revoked")
	}
	// Keys that lack their padding are found in the wild, and are not ambiguous.
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(p, "="))
	if err != nil {
		return "", ruled(mail.AuthPermError, "the key cannot be read")
	}
	if v := s.measure(kind, der); v != nil {
		return "", v
	}
	return "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(der), nil
}

// readFlags reads for what the key may be used.
func (s *signature) readFlags(key tagList) *verdict {
	flags := key.or("t", "")
	s.Testing = listHas(flags, "y")
	switch {
	case !listHas(key.or("h", "sha256"), "sha256"):
		return ruled(mail.AuthPermError, "the key is not for SHA-256")
	case !listHas(key.or("s", "*"), "*") && !listHas(key.or("s", "*"), "email"):
		return ruled(mail.AuthPermError, "the key is not for mail")
	case listHas(flags, "s") && s.agent != s.Domain:
		return ruled(mail.AuthPermError, "the key is not for domains below (t=s)")
	}
	return nil
}

// measure reads the size of a public key.
func (s *signature) measure(kind string, der []byte) *verdict {
	if kind == "ed25519" {
		if s.Bits = len(der) * 8; len(der) != ed25519.PublicKeySize {
			return ruled(mail.AuthPermError, "an Ed25519 key has %d octets, not %d", ed25519.PublicKeySize, len(der))
		}
		return nil
	}
	if len(der) > 2*maxRSABits/8 {
		return ruled(mail.AuthPermError, "the RSA key is too long")
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		// both forms are in use (RFC 6376 erratum 3017)
		if public, err = x509.ParsePKCS1PublicKey(der); err != nil {
			return ruled(mail.AuthPermError, "the key cannot be read")
		}
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return ruled(mail.AuthPermError, "the key is of another kind than a=")
	}
	switch s.Bits = key.N.BitLen(); {
	case s.Bits < minRSABits:
		return ruled(mail.AuthFail, "an RSA key of %d bits is worth nothing (RFC 8301)", s.Bits)
	case s.Bits > maxRSABits:
		return ruled(mail.AuthPermError, "the RSA key is too long: %d bits", s.Bits)
	}
	return nil
}

// patientReader gives the body in large pieces, which keeps go-msgauth from
// searching the same empty lines again and again, and ends when ctx does.
type patientReader struct {
	ctx  context.Context
	data []byte
}

// Read is for the first piece only, which is read together with the header.
func (r *patientReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// WriteTo is what io.Copy takes for the rest.
func (r *patientReader) WriteTo(w io.Writer) (n int64, err error) {
	for len(r.data) > 0 {
		if err := r.ctx.Err(); err != nil {
			return n, err
		}
		m, err := w.Write(r.data[:min(len(r.data), 4<<20)])
		n, r.data = n+int64(m), r.data[m:]
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
