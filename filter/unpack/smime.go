package unpack

import (
	"bytes"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/filter/unpack/entity"
	"postern/filter/unpack/filetype"
)

// This file looks into S/MIME (RFC 8551): a signed message may carry its whole
// content inside the signature, where mail clients show it and no reader of
// MIME sees it. Encrypted content is reported.

var (
	oidPKCS7     = []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07")
	oidAuthEnv   = []byte("\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17")
	oidPlainData = append(bytes.Clone(oidPKCS7), 1)
)

// The last octet of the object identifiers under 1.2.840.113549.1.7.
const (
	cmsSigned    = 2
	cmsEnveloped = 3
	cmsEncrypted = 6
)

// isCMSFile reports whether p is one CMS structure from its first octet to its
// last, and called one: programs open it as nothing else.
func isCMSFile(p *mail.Part) bool {
	data := p.Data
	if len(data) < 24 || data[0] != 0x30 || !bytes.Contains(data[:24], oidPKCS7) {
		return false
	}
	called := len(p.Names) > 0 && !slices.ContainsFunc(p.Names, func(n string) bool {
		return !slices.Contains([]string{"p7m", "p7s", "p7c", "p7b", "p7"}, strings.ToLower(filetype.Extension(n)))
	}) || len(p.Names) == 0 && len(p.Media) > 0 && strings.Contains(p.Media[0], "pkcs7-")
	if !called {
		return false
	}
	rest, ok := berSkip(data, 0)
	return ok && len(rest) == 0
}

// berSkip returns what follows the element at the start of b.
func berSkip(b []byte, depth int) (rest []byte, ok bool) {
	const deepest, longTag = 16, 0x1f
	if len(b) < 2 || b[0]&longTag == longTag || depth > deepest {
		return nil, false
	}
	n, head, ok := berLength(b)
	if !ok || n > len(b)-head {
		return nil, false
	}
	if n >= 0 {
		return b[head+n:], true
	}
	for b = b[head:]; len(b) >= 2; {
		if b[0] == 0 && b[1] == 0 {
			return b[2:], true
		}
		if b, ok = berSkip(b, depth+1); !ok {
			return nil, false
		}
	}
	return nil, false
}

// smime reads p.Data if it is a CMS structure (RFC 5652).
func (w *walker) smime(p *mail.Part) {
	data := p.Data
	if len(data) < 24 || data[0] != 0x30 {
		return
	}
	head := data[:24]
	i := bytes.Index(head, oidPKCS7)
	if i < 0 || i+len(oidPKCS7) >= len(head) {
		if bytes.Contains(head, oidAuthEnv) {
			p.Flags |= mail.PartEncrypted | mail.PartUndecipherable
		}
		return
	}
	switch head[i+len(oidPKCS7)] {
	case cmsEnveloped, cmsEncrypted:
		p.Flags |= mail.PartEncrypted | mail.PartUndecipherable
	case cmsSigned:
		content, copied, whole := cmsContent(data)
		if !whole {
			p.Flags |= mail.PartUndecipherable
			w.note(p, "signed content is damaged")
		}
		if len(content) == 0 { // the signature of a multipart/signed
			return
		}
		if w.budget.Entry() == nil && w.budget.Take(int64(len(content))) == nil && (!copied || w.hold(int64(cap(content)))) {
			c := w.child(p)
			c.How = "smime"
			if beginsWithFields(content) {
				w.entity(c, content, textPlain)
				return
			}
			// not a mail but a file, as offices and notaries sign it
			for _, n := range p.Names {
				if i := strings.LastIndexByte(n, '.'); i > 0 {
					c.AddName(n[:i])
				}
			}
			c.Data, c.Size = content, int64(len(content))
			w.content(c)
		}
	}
}

// beginsWithFields reports whether signed content can be an entity of MIME, as
// mail programs want it: it begins with a field or with the empty line after
// none, or some line that readers may come to is a field of MIME. The colon in
// a tag of XML makes no field.
func beginsWithFields(content []byte) bool {
	if len(content) == 0 || content[0] == '\n' || content[0] == '\r' {
		return true
	}
	text := filetype.IsText(content[:min(len(content), 512)])
	return content[0] != '<' && entity.FieldsEnd(content, 0) > 0 ||
		text && bytes.Contains(bytes.ToLower(content[:min(len(content), 64<<10)]), []byte("\ncontent-"))
}

// cmsContent returns the eContent of signed data: what follows the identifier
// of plain data, an octet string in one piece or in many, which are copied. whole
// is false when it does not end where it should.
func cmsContent(data []byte) (content []byte, copied, whole bool) {
	i := bytes.Index(data, oidPlainData)
	if i < 0 {
		return nil, false, true
	}
	b := data[i+len(oidPlainData):]
	if len(b) == 0 || b[0] != 0xa0 { // no [0]: the content is elsewhere
		return nil, false, true
	}
	for len(b) >= 2 {
		tag := b[0]
		n, head, ok := berLength(b)
		switch {
		case !ok:
			return content, copied, false
		case tag == 0xa0 && content == nil, tag == 0x24:
			b = b[head:] // constructed: look inside
		case tag == 0x04:
			if n < 0 || n > len(b)-head {
				return append(content, b[head:]...), true, false
			}
			if piece := b[head : head+n : head+n]; content == nil {
				content = piece // in place, as long as it is in one piece
			} else {
				content, copied = append(content, piece...), true
			}
			b = b[head+n:]
		case tag == 0 && b[1] == 0:
			b = b[2:] // end of an indefinite length
		default:
			return content, copied, true
		}
	}
	return content, copied, len(b) == 0
}

// berLength reads the length after a one-octet tag; n is -1 for the indefinite
// form, head the octets of tag and length.
func berLength(b []byte) (n, head int, ok bool) {
	first := int(b[1])
	if first < 0x80 {
		return first, 2, true
	}
	if first == 0x80 {
		return -1, 2, true
	}
	size := first & 0x7f
	if size > 4 || len(b) < 2+size {
		return 0, 0, false
	}
	for _, c := range b[2 : 2+size] {
		n = n<<8 | int(c)
	}
	return n, 2 + size, true
}
