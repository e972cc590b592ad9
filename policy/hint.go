package policy

// What was most likely meant by a value that is wrong, beyond the nearest
// known word.

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"postern/filter/mail"
	"postern/policy/strict"
)

// single says what to write where n has more than the one value of a type.
func single(n *yaml.Node, t reflect.Type) string {
	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "file":
		return `write "file:PATH", without a blank`
	case n.Kind == yaml.SequenceNode && t == reflect.TypeFor[mail.Address]():
		return severalHint
	}
	return ""
}

// typographic quotes come from text processors and web pages. To YAML they are
// letters like others.
const (
	typographic = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
	quotesHint  = "quotes are straight, \" or '"
)

const severalHint = "for several people make an alias in Postfix"

// addressHint says how to write what text was meant to be.
func addressHint(text string) string {
	_, inner, display := strings.Cut(text, "<")
	inner, _, closed := strings.Cut(inner, ">")
	_, problem := parseAddress(inner)
	switch {
	case strings.ContainsAny(text, typographic):
		return quotesHint
	case strings.Count(text, "@") > 1:
		return severalHint
	case display && closed && inner != "" && problem == "":
		return "write " + inner
	case display && closed && inner == "", strict.MeansNo(text):
		return `write ""`
	case !strings.Contains(text, "@"):
		return "with its domain, for example postmaster@example.org"
	}
	return ""
}
