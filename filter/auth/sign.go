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
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

// Signing with go-msgauth: relaxed/relaxed canonicalization and SHA-256 (RFC
// 6376, RFC 8301), RSA or Ed25519 (RFC 8463).

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

// maxSigned bounds the length of h=, which go-msgauth does not fold: a line
// holds 998 octets (RFC 5322 section 2.1.1). An ordinary message has about 300.
const maxSigned = 900

// Sign adds a DKIM-Signature edit on top of o.Edits for each key of the domain
// that answers for the message: an author, Resent-From or Resent-Sender,
// Sender, or the envelope sender, whichever first has a key. It signs what
// o.WriteTo writes, so nothing may be edited afterwards. Without a fitting key
// it does nothing. After an error, o is as it was: the message can go out
// unsigned.
func (k *Keys) Sign(o *mail.Outgoing) ([]mail.Signature, error) {
	if k == nil {
		return nil, nil
	}
	block, err := headerBlock(o)
	if err != nil {
		return nil, err
	}
	header, _ := mail.ParseHeader(block)
	keys := k.find(Responsible(header, o.From))
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
	edits, err := sign(o, keys, names)
	if err != nil {
		return nil, fmt.Errorf("signing for %s: %w", keys[0].Domain, err)
	}
	o.Edits = append(edits, o.Edits...)
	signatures := make([]mail.Signature, len(keys))
	for i, key := range keys {
		signatures[i] = mail.Signature{Domain: key.Domain, Selector: key.Selector}
	}
	return signatures, nil
}

// signable refuses what verifiers do not read alike.
func signable(m *mail.Message, block []byte) error {
	if len(block) > 0 && (block[0] == ' ' || block[0] == '\t') {
		return errors.New("the message begins with a continuation line")
	}
	data := m.Bytes()
	if bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\r\n")) {
		// go-msgauth takes it for white space, opendkim and dkimpy do not
		return errors.New("the message holds a CR without LF, which RFC 5322 forbids and verifiers do not read alike")
	}
	return nil
}

const signatureField = "DKIM-Signature"

// sign makes the edits that put a signature of each key on top of o. All of
// them sign the same bytes, none the signature of another.
func sign(o *mail.Outgoing, keys []*Key, names []string) ([]mail.Edit, error) {
	signers := make([]*dkim.Signer, len(keys))
	writers := make([]io.Writer, len(keys))
	var err error
	for i, key := range keys {
		signers[i], err = dkim.NewSigner(&dkim.SignOptions{
			Domain: key.Domain, Selector: key.Selector, Signer: key.signer, Hash: crypto.SHA256,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
			HeaderKeys: names,
		})
		if err != nil {
			return nil, err
		}
		// a signer runs until it is closed; closed twice it only says so
		defer signers[i].Close()
		writers[i] = signers[i]
	}
	w := io.MultiWriter(writers...)
	if _, err := o.WriteTo(w); err != nil {
		return nil, err
	}
	if err := endHeader(w, o.Message); err != nil {
		return nil, err
	}
	edits := make([]mail.Edit, len(keys))
	for i, s := range signers {
		if err := s.Close(); err != nil {
			return nil, err
		}
		_, value, _ := strings.Cut(s.Signature(), ": ")
		edits[i] = mail.Edit{Op: mail.Add, Name: signatureField, Value: strings.TrimSuffix(value, "\r\n")}
	}
	return edits, nil
}

// endHeader gives the signer the empty line that a message without a body may
// lack; the next hop adds it, and the body is empty either way.
func endHeader(w io.Writer, m *mail.Message) error {
	if len(m.Rest()) > 0 {
		return nil
	}
	end := "\r\n"
	if h := m.HeaderBytes(); len(h) > 0 && !bytes.HasSuffix(h, []byte("\r\n")) {
		end += "\r\n"
	}
	_, err := io.WriteString(w, end)
	return err
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
