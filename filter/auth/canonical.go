package auth

// The relaxed canonicalization of RFC 6376 section 3.4 and the form of a
// DKIM-Signature field. go-msgauth has both, but hashes the body once for each
// signature, does not fold, and takes quadratic time for a long field.

import (
	"bytes"
	"crypto/sha256"
	"strings"

	"postern/filter/mail"
)

// bodyHash is SHA-256 over the relaxed body, whose lines end in CRLF.
func bodyHash(body []byte) []byte {
	h := sha256.New()
	out := make([]byte, 0, 32<<10)
	empty := 0 // lines that count only if another one follows
	for len(body) > 0 {
		line := body
		if i := bytes.Index(body, crlf); i >= 0 {
			line, body = body[:i], body[i+2:]
		} else {
			body = nil
		}
		if line = bytes.TrimRight(line, " \t"); len(line) == 0 {
			empty++
			continue
		}
		for ; empty > 0; empty-- {
			out = append(out, crlf...)
			if len(out) > 30<<10 {
				h.Write(out)
				out = out[:0]
			}
		}
		out = append(appendRelaxed(out, line), crlf...)
		if len(out) > 30<<10 {
			h.Write(out)
			out = out[:0]
		}
	}
	h.Write(out)
	return h.Sum(nil)
}

var (
	crlf      = []byte("\r\n")
	twoBlanks = []byte("  ")
)

// appendRelaxed appends line with each run of blanks as one space.
func appendRelaxed(out, line []byte) []byte {
	if bytes.IndexByte(line, '\t') < 0 && !bytes.Contains(line, twoBlanks) {
		return append(out, line...) // as most are
	}
	for {
		i := bytes.IndexAny(line, " \t")
		if i < 0 {
			return append(out, line...)
		}
		out = append(append(out, line[:i]...), ' ')
		line = bytes.TrimLeft(line[i:], " \t")
	}
}

// relaxedField is the canonical form of a field, with its CRLF.
func relaxedField(f mail.Field) []byte {
	out := make([]byte, 0, len(f.Raw)+2)
	out = append(append(out, strings.ToLower(f.Name)...), ':')
	unfolded := bytes.ReplaceAll(f.RawValue(), crlf, nil)
	return append(appendRelaxed(out, bytes.Trim(unfolded, " \t")), crlf...)
}

// relaxedFields are the fields that names pick, each name the next instance from
// the bottom (RFC 6376 section 5.4.2).
func relaxedFields(h mail.Header, names []string) []byte {
	byName := map[string][]int{}
	for i, f := range h {
		if f.Name != "" {
			name := strings.ToLower(f.Name)
			byName[name] = append(byName[name], i)
		}
	}
	var out []byte
	for _, name := range names {
		name = strings.ToLower(name)
		if left := byName[name]; len(left) > 0 {
			out = append(out, relaxedField(h[left[len(left)-1]])...)
			byName[name] = left[:len(left)-1]
		}
	}
	return out
}

// signatureTags writes the tags of a signature into lines of at most 78 octets
// where they can be parted. b= comes last and is empty.
func signatureTags(tags []string, names []string) string {
	var b strings.Builder
	at := len(signatureField) + 1
	put := func(word, blank string) {
		if at+len(blank)+len(word) > 78 {
			b.WriteString("\r\n\t")
			at = 8
		} else {
			b.WriteString(blank)
			at += len(blank)
		}
		b.WriteString(word)
		at += len(word)
	}
	for i, tag := range tags {
		blank := " "
		if i == 0 {
			blank = ""
			at++
		}
		put(tag+";", blank)
	}
	for i, name := range names {
		switch {
		case i == 0 && len(names) == 1:
			put("h="+name+";", " ")
		case i == 0:
			put("h="+name+":", " ")
		case i == len(names)-1:
			put(name+";", "")
		default:
			put(name+":", "")
		}
	}
	b.WriteString("\r\n\tb=")
	return b.String()
}

// folded parts base64 into lines.
func folded(text string) string {
	const width = 70
	var b strings.Builder
	for len(text) > width {
		b.WriteString(text[:width] + "\r\n\t ")
		text = text[width:]
	}
	return b.String() + text
}
