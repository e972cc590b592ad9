package policy

// What was most likely meant by a value that is wrong, beyond the nearest
// known word.

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"postern/filter/mail"
	"postern/policy/lookup"
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

const severalHint = "for several people make an alias in Postfix"

// addressHint says how to write what text was meant to be.
func addressHint(text string) string {
	_, inner, display := strings.Cut(text, "<")
	inner, _, closed := strings.Cut(inner, ">")
	_, problem := lookup.ParseAddress(inner)
	switch {
	case strings.ContainsAny(text, strict.Typographic):
		return strict.QuotesHint
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
