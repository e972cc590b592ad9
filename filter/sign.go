package filter

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"postern/filter/mail"
)

// This file signs by RFC 6376 with relaxed/relaxed canonicalization and
// SHA-256 (RFC 8301), RSA or Ed25519 (RFC 8463). Signatures are verified with
// go-msgauth, but not made with it: its canonicalization takes a bare CR for
// white space, which no other verifier does, it cannot fold h=, and it reads
// the body once for each key.

// Signature names a DKIM signature that was added.
type Signature struct {
	Domain   string // d=
	Selector string // s=
}

// String returns the form of the log line: "selector:domain".
func (s Signature) String() string { return s.Selector + ":" + s.Domain }

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

// maxSigned bounds the names in h=: an ordinary message has about 25, and
// Postfix cuts fields off at 100 kB (header_size_limit).
const maxSigned = 500

// Sign adds a DKIM-Signature edit on top of o.Edits for each key of the domain
// that answers for the message: an author, Resent-From or Resent-Sender,
// Sender, or the envelope sender, whichever first has a key. It signs what
// o.WriteTo writes, so nothing may be edited afterwards. Without a fitting key
// it does nothing. After an error, o is as it was: the message can go out
// unsigned.
func (k *Keys) Sign(o *mail.Outgoing) ([]Signature, error) {
	if k == nil {
		return nil, nil
	}
	block, err := headerBlock(o)
	if err != nil {
		return nil, err
	}
	header, _ := mail.ParseHeader(block)
	keys := k.find(responsible(header, o.From))
	if len(keys) == 0 {
		return nil, nil
	}
	if len(block) > 0 && (block[0] == ' ' || block[0] == '\t') {
		return nil, fmt.Errorf("signing for %s: the message begins with a continuation line", keys[0].Domain)
	}
	names, fields := signedFields(header)
	if len(names) > maxSigned {
		return nil, fmt.Errorf("signing for %s: %d header fields are more than the %d that can be signed", keys[0].Domain, len(names), maxSigned)
	}
	s := signing{time: time.Now(), names: names, fields: fields, body: bodyHash(o.Message.Body())}

	edits := make([]mail.Edit, 0, len(keys)+len(o.Edits))
	signatures := make([]Signature, 0, len(keys))
	for _, key := range keys {
		value, err := s.sign(key)
		if err != nil {
			return nil, fmt.Errorf("signing with %s:%s: %w", key.Selector, key.Domain, err)
		}
		edits = append(edits, mail.Edit{Op: mail.Add, Name: signatureField, Value: value})
		signatures = append(signatures, Signature{Domain: key.Domain, Selector: key.Selector})
	}
	o.Edits = append(edits, o.Edits...)
	return signatures, nil
}

const signatureField = "DKIM-Signature"

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

// signedFields returns the names for h= and the canonical fields that they
// pick: of several instances the lowest comes first (RFC 6376 section 5.4.2).
func signedFields(h mail.Header) (names []string, canonical []byte) {
	add := func(name string) {
		for i := len(h) - 1; i >= 0; i-- {
			if h[i].Is(name) {
				names = append(names, name)
				canonical = appendRelaxedField(canonical, h[i].Name, h[i].RawValue())
				canonical = append(canonical, '\r', '\n')
			}
		}
	}
	for _, name := range oversigned {
		add(name)
		names = append(names, name)
	}
	for _, name := range signedIfPresent {
		add(name)
	}
	return names, canonical
}

// signing is what the signatures of one message have in common.
type signing struct {
	time   time.Time
	names  []string // h=
	fields []byte   // canonical
	body   [sha256.Size]byte
}

// sign returns the value of a DKIM-Signature field, folded.
func (s *signing) sign(k *Key) (string, error) {
	f := folder{column: len(signatureField) + len(": ")}
	f.add("v=1;", " a="+k.algorithm()+"-sha256;", " c=relaxed/relaxed;", " d="+k.Domain+";", " s="+k.Selector+";")
	f.add(fmt.Sprintf(" t=%d;", s.time.Unix()))
	for i, name := range s.names {
		before, after := "", ":"
		if i == 0 {
			before = " h="
		}
		if i == len(s.names)-1 {
			after = ";"
		}
		f.add(before + name + after)
	}
	f.add(" bh=" + base64.StdEncoding.EncodeToString(s.body[:]) + ";")
	f.add(" b=")

	// RFC 6376 section 3.7: the field itself comes last, with an empty b= and
	// without the final CRLF.
	h := sha256.New()
	h.Write(s.fields)
	h.Write(appendRelaxedField(nil, signatureField, []byte(f.String())))
	signature, err := k.sign(h.Sum(nil))
	if err != nil {
		return "", err
	}
	for b := base64.StdEncoding.EncodeToString(signature); b != ""; {
		n := min(len(b), max(1, maxColumn-f.column))
		f.add(b[:n])
		b = b[n:]
	}
	return f.String(), nil
}

func (k *Key) algorithm() string {
	if _, ok := k.signer.(*rsa.PrivateKey); ok {
		return "rsa"
	}
	return "ed25519"
}

func (k *Key) sign(digest []byte) ([]byte, error) {
	if k.algorithm() == "rsa" {
		return k.signer.Sign(rand.Reader, digest, crypto.SHA256)
	}
	// RFC 8463 section 3: plain Ed25519 of the SHA-256 digest
	return k.signer.Sign(rand.Reader, digest, crypto.Hash(0))
}

// maxColumn is where lines are folded (RFC 5322 section 2.1.1).
const maxColumn = 76

// folder builds a field value of pieces between which it may fold.
type folder struct {
	strings.Builder
	column int
}

func (f *folder) add(pieces ...string) {
	for _, p := range pieces {
		if f.column+len(p) > maxColumn && f.column > 1 {
			f.WriteString("\r\n\t")
			f.column = 1
			p = strings.TrimPrefix(p, " ")
		}
		f.WriteString(p)
		f.column += len(p)
	}
}

// appendRelaxedField appends a field in the canonical form of RFC 6376 section
// 3.4.2, without the final CRLF. White space is blank and tab only: a bare CR
// is an ordinary octet.
func appendRelaxedField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, strings.ToLower(name)...)
	dst = append(dst, ':')
	start := len(dst)
	value = bytes.ReplaceAll(value, []byte("\r\n"), nil)
	for _, c := range value {
		if isBlank(c) {
			if len(dst) > start && dst[len(dst)-1] != ' ' {
				dst = append(dst, ' ')
			}
			continue
		}
		dst = append(dst, c)
	}
	if len(dst) > start && dst[len(dst)-1] == ' ' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// bodyHash returns the hash of the body in the canonical form of RFC 6376
// section 3.4.4, in linear time and constant space whatever the body holds.
func bodyHash(body []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	w := bufio.NewWriterSize(h, 16<<10) // a hash takes everything: no error can come
	held := 0                           // line ends not written yet: those at the end do not count
	content := false
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte("\r\n"))
		for len(line) > 0 && isBlank(line[len(line)-1]) {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			for ; held > 0; held-- {
				w.WriteString("\r\n")
			}
			writeRelaxedLine(w, line)
			content = true
		}
		held++
	}
	if content {
		w.WriteString("\r\n")
	}
	w.Flush()
	h.Sum(sum[:0])
	return sum
}

// writeRelaxedLine writes line with each run of blanks as one.
func writeRelaxedLine(w *bufio.Writer, line []byte) {
	if bytes.IndexByte(line, '\t') < 0 && !bytes.Contains(line, []byte("  ")) {
		w.Write(line)
		return
	}
	for {
		i := bytes.IndexAny(line, " \t")
		if i < 0 {
			w.Write(line)
			return
		}
		w.Write(line[:i])
		w.WriteByte(' ')
		line = bytes.TrimLeft(line[i:], " \t")
	}
}
