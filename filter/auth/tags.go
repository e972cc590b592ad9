package auth

import (
	"errors"
	"strings"
)

// maxTagged bounds a tag list. A signature with a key of 8192 bits and a copied
// header (z=) stays below.
const maxTagged = 32 << 10

// tagList is a list of "name=value" parts with semicolons between (RFC 6376
// section 3.2): a DKIM signature, a DKIM key, or a DMARC record.
type tagList []tag

type tag struct{ name, value string }

// parseTags reads a tag list. Blanks around names and values are dropped, those
// within values stay.
func parseTags(s string) (tagList, error) {
	if len(s) > maxTagged {
		return nil, errors.New("the list of tags is too long")
	}
	var out tagList
	for part := range strings.SplitSeq(s, ";") {
		part = trimFWS(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if name = trimFWS(name); !ok || name == "" {
			return nil, errors.New("a tag has no name or no value")
		}
		if _, again := out.get(name); again {
			return nil, errors.New("a tag comes twice")
		}
		if len(out) == 64 {
			return nil, errors.New("there are too many tags")
		}
		out = append(out, tag{name, trimFWS(value)})
	}
	return out, nil
}

func (l tagList) get(name string) (string, bool) {
	for _, t := range l {
		if t.name == name {
			return t.value, true
		}
	}
	return "", false
}

// or returns the value of a tag, or what it has by default.
func (l tagList) or(name, otherwise string) string {
	if v, ok := l.get(name); ok {
		return v
	}
	return otherwise
}

// listHas reports whether value, a list with colons between, holds word, in any
// case.
func listHas(value, word string) bool {
	for w := range strings.SplitSeq(value, ":") {
		if strings.EqualFold(trimFWS(w), word) {
			return true
		}
	}
	return false
}

const fws = " \t\r\n"

func trimFWS(s string) string { return strings.Trim(s, fws) }

// withoutFWS drops all folding white space.
func withoutFWS(s string) string {
	if !strings.ContainsAny(s, fws) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(fws, r) {
			return -1
		}
		return r
	}, s)
}
