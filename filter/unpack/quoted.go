package unpack

import (
	"bytes"
	"slices"

	"postern/filter/unpack/armour"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/entity"
	"postern/filter/unpack/filetype"
)

// quoted is a part that stands in a text with its header.
type quoted struct {
	armour.File
	head *entity.Head // nil for a file that has a name of its own
	held bool         // Data lies in the text, or the budget granted it
}

// findParts returns the encoded parts that stand in text with a header of their
// own. Bounces quote the returned message so, and all that breaks the structure
// of a message ends so.
func (w *walker) findParts(text []byte) []quoted {
	var out []quoted
	var b bodyEnd
	for at := 0; at < len(text) && len(out) < armour.MaxHidden; {
		if !entity.BeginsWithContent(text[at:]) {
			at = codec.LineEnd(text, at)
			continue
		}
		end := entity.FieldsEnd(text, at)
		if end == at {
			at = codec.LineEnd(text, at)
			continue
		}
		h := &w.heads(text[at:end])[0]
		b.find(text, end)
		at = end
		body, encs := text[end:b.end:b.end], entity.Encodings(h)
		if b.blanks*16 > len(body) && !slices.Contains(encs, "quoted-printable") {
			continue // prose
		}
		if b.noUU && armour.UUBody(body) == nil {
			// as decode would read it
			encs = slices.DeleteFunc(encs, func(e string) bool { return e == "uuencode" })
		}
		found := false
		for _, d := range w.decode(body, encs) {
			f := quoted{File: armour.File{Data: d.data, How: d.how}, head: h, held: true}
			if entity.IsIdentity(d.how) && b.isText(body) {
				whole, _ := armour.WholeBase64(body)
				f.Data, f.How, f.held = whole.Data, whole.How, false
			}
			if len(f.Data) > 0 {
				out, found = append(out, f), true
			}
		}
		if found {
			at = b.end
		} else if slices.Contains(encs, "uuencode") {
			b.noUU = true
		}
	}
	return out
}

// bodyEnd is where the bodies end that begin between two lines of dashes. A text
// of nothing but headers has one with each of them, so that what is known of it
// is kept.
type bodyEnd struct {
	from, end int
	blanks    int  // between the two
	noUU      bool // no uuencoded file is there
	text      bool // all of it is text
}

// isText reports whether body, from which none further begins before, is text.
func (b *bodyEnd) isText(body []byte) bool {
	if b.text || !filetype.IsText(body) {
		return b.text
	}
	b.text = len(body) == 0 || body[0] < 0x80 // UTF-16 is text from its mark on only
	return true
}

// find moves to the body that begins at from, which never goes back.
func (b *bodyEnd) find(text []byte, from int) {
	if from < b.end {
		b.blanks -= bytes.Count(text[b.from:from], []byte(" "))
		b.from = from
		return
	}
	at := from
	for at < len(text) && !bytes.HasPrefix(text[at:], []byte("--")) {
		at = codec.LineEnd(text, at)
	}
	*b = bodyEnd{from: from, end: at, blanks: bytes.Count(text[from:at], []byte(" "))}
}
