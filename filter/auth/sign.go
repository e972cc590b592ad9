// Package auth is about who answers for a message. Outbound it signs with DKIM
// (RFC 6376), reads the keys and finds the domain that is to sign. Inbound it
// finds out what DKIM, SPF (RFC 7208) and DMARC (RFC 9989) say, as facts, and
// writes and recognises the field that tells them (RFC 8601). Whether a message
// is to be signed, and what a result means for it, is for others to say.
//
// DKIM2 (draft-ietf-dkim-dkim2-spec), whose form still changes, is not here. Its
// place is: a signature over envelope and message is made where [Keys.Sign] is
// called, for each [mail.Outgoing], which has the recipients of one transaction;
// what a hop must tell of its changes are the edits of that.
//
// Start with [Keys] and its method Sign, and with [Verifier] and its method
// Authenticate.
package auth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/filter/mail"
)

// Signing: relaxed/relaxed canonicalization and SHA-256 (RFC 6376, RFC 8301), RSA
// or Ed25519 (RFC 8463). All signatures of a message share one hash of the body.

// oversigned names stand in h= once more than the message has them, so that a
// field added later, which a mail reader might show instead, breaks the
// signature (RFC 6376 section 8.15).
var oversigned = []string{
	"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// signedIfPresent are the other fields of RFC 6376 section 5.4.1 and RFC 8058
// section 4. Trace fields are not among them: every hop may change those.
var signedIfPresent = []string{
	"Sender", "In-Reply-To", "References", "Content-ID", "Content-Description",
	"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe",
	"List-Post", "List-Owner", "List-Archive",
}

// maxSigned bounds the length of h=: there is no end to what a message can have
// of a field, and an ordinary one has about 300 octets of names.
const maxSigned = 4 << 10

// SignOptions are what the policy says about the signatures of one message. The
// zero value has all keys sign, without an end.
type SignOptions struct {
	Selectors []string      // only keys with one of these sign, if there are any
	Expire    time.Duration // after which a signature is not valid any more, 0: never
	Now       time.Time     // of the signature, zero: now
}

// Sign adds a DKIM-Signature edit on top of o.Edits for each key of the domain
// that answers for the message: an author, Resent-From or Resent-Sender,
// Sender, or the envelope sender, whichever first has a key that is in force. It
// signs what o.WriteTo writes, so nothing may be edited afterwards. Without a
// fitting key it does nothing. After an error, o is as it was: the message can go
// out unsigned.
func (k *Keys) Sign(o *mail.Outgoing, options SignOptions) ([]mail.Signature, error) {
	if k == nil {
		return nil, nil
	}
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	block, err := headerBlock(o)
	if err != nil {
		return nil, err
	}
	header, _ := mail.ParseHeader(block)
	domain, keys := k.find(Responsible(header, o.From), &options)
	if len(keys) == 0 {
		return nil, nil
	}
	if err := signable(o.Message, block); err != nil {
		return nil, fmt.Errorf("signing for %s: %w", keys[0].Domain, err)
	}
	names := signedNames(header)
	if n := len(strings.Join(names, ":")); n > maxSigned {
		return nil, fmt.Errorf("signing for %s: the names of the fields to sign take %d octets, %d fit", keys[0].Domain, n, maxSigned)
	}
	body := bodyHash(bytes.TrimPrefix(o.Message.Rest(), crlf))
	fields := relaxedFields(header, names)
	edits := make([]mail.Edit, len(keys))
	signatures := make([]mail.Signature, len(keys))
	for i, key := range keys {
		value, err := key.signature(domain, body, fields, names, &options)
		if err != nil {
			return nil, fmt.Errorf("signing for %s: %w", key.Domain, err)
		}
		edits[i] = mail.Edit{Op: mail.Add, Name: signatureField, Value: value}
		signatures[i] = mail.Signature{Domain: key.Domain, Selector: key.Selector}
	}
	o.Edits = append(edits, o.Edits...)
	return signatures, nil
}

// signable refuses what verifiers do not read alike.
func signable(m *mail.Message, block []byte) error {
	if len(block) > 0 && (block[0] == ' ' || block[0] == '\t') {
		return errors.New("the message begins with a continuation line")
	}
	data := m.Bytes()
	if bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\r\n")) {
		// some take it for white space, opendkim and dkimpy do not
		return errors.New("the message holds a CR without LF, which RFC 5322 forbids and verifiers do not read alike")
	}
	return nil
}

const signatureField = "DKIM-Signature"

// signature returns the value of the field that key signs a message with, on
// behalf of domain, which is that of the key or one below it.
func (key *Key) signature(domain string, body, fields []byte, names []string, options *SignOptions) (string, error) {
	algorithm, hash := "rsa-sha256", crypto.SHA256
	if _, ok := key.signer.Public().(ed25519.PublicKey); ok {
		algorithm, hash = "ed25519-sha256", crypto.Hash(0) // it signs the hash as a message
	}
	tags := []string{"v=1", "a=" + algorithm, "c=relaxed/relaxed", "d=" + key.Domain, "s=" + key.Selector}
	if domain != key.Domain {
		tags = append(tags, "i=@"+domain)
	}
	tags = append(tags, "t="+strconv.FormatInt(options.Now.Unix(), 10))
	if options.Expire > 0 {
		tags = append(tags, "x="+strconv.FormatInt(options.Now.Add(options.Expire).Unix(), 10))
	}
	tags = append(tags, "bh="+base64.StdEncoding.EncodeToString(body))
	value := signatureTags(tags, names)
	own, _ := mail.ParseHeader([]byte(signatureField + ": " + value))
	h := sha256.New()
	h.Write(fields)
	h.Write(bytes.TrimSuffix(relaxedField(own[0]), crlf))
	signed, err := key.signer.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return "", err
	}
	return value + folded(base64.StdEncoding.EncodeToString(signed)), nil
}

// headerBlock returns the header as it will be sent.
func headerBlock(o *mail.Outgoing) ([]byte, error) {
	if len(o.Edits) == 0 {
		return o.Message.HeaderBytes(), nil
	}
	var b bytes.Buffer
	head := mail.Outgoing{Message: mail.NewMessage(o.Message.HeaderBytes()), Edits: o.Edits}
	if _, err := head.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// signedNames returns the names for h=, each as often as it is to be signed.
func signedNames(h mail.Header) []string {
	var names []string
	for _, name := range oversigned {
		for range h.Count(name) + 1 {
			names = append(names, name)
		}
	}
	for _, name := range signedIfPresent {
		for range h.Count(name) {
			names = append(names, name)
		}
	}
	return names
}
