package entity

import (
	"slices"
	"strings"
)

// Boundaries returns the readings of the boundary parameter that are not
// empty; other are those that only a sloppy reader would see.
func Boundaries(params []Param) (sure, other []string) {
	sure, other, spelled := lookupSure(params, "boundary")
	for _, b := range slices.Concat(sure, other, spelled) {
		other = append(other, b, strings.TrimSpace(b), strings.TrimSpace(stripComments(b)))
	}
	empty := func(b string) bool { return b == "" }
	sure = slices.DeleteFunc(sure, empty)
	return sure, slices.DeleteFunc(dedupe(other), func(b string) bool { return empty(b) || slices.Contains(sure, b) })
}

// NameParams are the parameters that readers take for the name of a file.
var NameParams = []string{"filename", "name", "file", "file-name"}

// DispositionNames returns the names of all Content-Disposition fields, of
// fields that look like a misspelt one and, if types, of Content-Type.
func DispositionNames(h *Head, types bool) (readings, spelled []string) {
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.Name {
		case "content-type":
			if !types {
				continue
			}
		case "content-transfer-encoding", "content-id", "content-description", "content-location",
			"content-md5", "content-language", "content-length", "content-base", "content-class":
			continue
		}
		if strings.IndexByte(f.Value, '=') < 0 {
			continue
		}
		_, _, params := ParseValue(f.Value)
		for _, name := range NameParams {
			r, s := Lookup(params, name)
			readings, spelled = append(readings, r...), append(spelled, s...)
		}
	}
	return readings, spelled
}

// LooseNames returns what readers show as name of a part that has none:
// description, location, identifier and the like, if they are a file name and
// nothing else. With a blank in them they are text for people (RFC 2045 section
// 8), and many a text ends in a domain.
func LooseNames(h *Head) []string {
	var out []string
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.Name {
		case "content-description", "content-location", "content-id", "content-name", "content-filename", "content-file-name":
		default:
			continue
		}
		name := strings.Trim(DecodeWords(unfold(f.Value, false)), `"'<> `)
		if _, url, ok := strings.Cut(name, "://"); ok {
			_, name, _ = strings.Cut(url, "/")
			if i := strings.IndexAny(name, "?#"); i >= 0 {
				name = name[:i]
			}
		}
		if e := NameEnd(name); e != "" && len(e) <= 8 && !strings.ContainsAny(name, "@ \t") && !strings.HasPrefix(name, "www.") {
			out = append(out, name)
		}
	}
	return out
}

// Attached reports whether a Content-Disposition says that the part is a file
// and not shown in place. A word that is not known means a file too (RFC 2183
// section 2.8).
func Attached(h *Head) bool {
	for _, f := range h.All("content-disposition") {
		if word, _, _ := ParseValue(f.Value); word != "" && word != "inline" {
			return true
		}
	}
	return false
}

// Encodings returns the transfer encodings that readers may see, never none.
// What is not written as in RFC 2045 section 6 is also read as no encoding.
func Encodings(h *Head) []string {
	var out []string
	clean := true
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Name != "content-transfer-encoding" {
			continue
		}
		e, ok := encodingOf(f.Value)
		out = append(out, e...)
		clean = clean && ok && !f.Odd
	}
	if !clean || len(out) == 0 {
		out = append(out, "7bit")
	}
	return dedupe(out)
}

// encodingOf reads one Content-Transfer-Encoding. clean says that its value is
// a single word that all readers take for the same.
func encodingOf(value string) (encs []string, clean bool) {
	v := strings.ToLower(strings.Trim(value, wsp))
	switch v {
	case "base64", "quoted-printable":
		return []string{v}, true
	case "uuencode", "x-uuencode", "x-uue", "uue", "x-uu":
		return []string{"uuencode"}, true
	case "7bit", "8bit", "binary", "":
		return []string{"7bit"}, true
	}
	v = DecodeWords(v)
	for _, e := range []struct{ sign, name string }{
		{"64", "base64"}, {"q", "quoted-printable"}, {"print", "quoted-printable"}, {"uu", "uuencode"},
	} {
		if strings.Contains(v, e.sign) {
			encs = append(encs, e.name)
		}
	}
	// yEnc and BinHex have marks of their own in the text; unknown words are
	// read as no encoding by all
	return encs, len(encs) == 0
}

// IsIdentity reports whether a transfer encoding changes nothing.
func IsIdentity(how string) bool { return how == "7bit" || how == "" }

// NameEnd returns what follows the last dot, in lower case, as a system that
// drops trailing dots and blanks sees it. Empty: no extension.
func NameEnd(name string) string {
	name = strings.TrimRight(name, ". \t")
	i := strings.LastIndexByte(name, '.')
	if i < 0 || strings.ContainsAny(name[i:], `/\`) {
		return ""
	}
	return strings.ToLower(name[i+1:])
}
