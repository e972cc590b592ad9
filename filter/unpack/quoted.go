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
}

// findParts returns the encoded parts that stand in text with a header of their
// own. Bounces quote the returned message so, and all that breaks the structure
// of a message ends so.
func (w *walker) findParts(text []byte) []quoted {
	var out []quoted
	for at := 0; at < len(text) && len(out) < armour.MaxHidden; {
		end := entity.FieldsEnd(text, at)
		if !entity.BeginsWithContent(text[at:]) || end == at {
			at = codec.LineEnd(text, at)
			continue
		}
		h := &w.heads(text[at:end])[0]
		at = end
		for at < len(text) && !bytes.HasPrefix(text[at:], []byte("--")) {
			at = codec.LineEnd(text, at)
		}
		body, before := text[end:at:at], len(out)
		if bytes.Count(body, []byte(" "))*16 > len(body) && !slices.Contains(entity.Encodings(h), "quoted-printable") {
			at = end // prose
			continue
		}
		for _, d := range w.decode(body, entity.Encodings(h)) {
			f := quoted{armour.File{Data: d.data, How: d.how}, h}
			if entity.IsIdentity(d.how) && filetype.IsText(body) {
				whole, _ := armour.WholeBase64(body)
				f.Data, f.How = whole.Data, whole.How
			}
			if len(f.Data) > 0 {
				out = append(out, f)
			}
		}
		if len(out) == before {
			at = end
		}
	}
	return out
}
