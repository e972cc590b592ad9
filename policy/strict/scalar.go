package strict

// Single values.

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// What YAML and people call true and false besides these words.
var (
	yesWords = []string{"yes", "on", "y", "1", "true", "t"}
	noWords  = []string{"no", "off", "n", "0", "false", "f", "none", "null", "undef"}
)

// MeansNo reports whether a text is one of the words by which people and other
// programs say no or nothing.
func MeansNo(text string) bool { return slices.Contains(noWords, strings.ToLower(text)) }

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// scalar reads one value. Unquoted text is taken as it is written, so that a
// selector 20210807 or a mode 0660 stays what it is.
func (r *Reader) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		r.Wrong(n, path, "want a single value, not "+kindName(n), r.single(n, v.Type()))
		return
	}
	text := n.Value
	if isNull(n) {
		text = ""
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		hint := ""
		if strings.HasPrefix(text, "-----BEGIN ") {
			hint = "a key has a file of its own: write its path here"
		}
		r.Wrong(n, path, fmt.Sprintf("the value holds the control character %q", text[i]), hint)
		return
	}
	what, hint := r.setScalar(v, text, n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0)
	if what != "" {
		r.Wrong(n, path, what, hint)
		return
	}
	r.note(path, n, v)
}

func (r *Reader) single(n *yaml.Node, t reflect.Type) string {
	if r.dialect.Single == nil {
		return ""
	}
	return r.dialect.Single(n, t)
}

// setScalar sets v, or says what is wrong with text.
func (r *Reader) setScalar(v reflect.Value, text string, quoted bool) (what, hint string) {
	got := "not " + Quote(text)
	if text == "" {
		got = "not nothing"
	}
	if list := r.dialect.Words[v.Type()]; list != nil {
		if !slices.Contains(list, text) {
			return "want " + Or(list) + ", " + got, nearestWord(text, list)
		}
		v.SetString(text)
		return "", ""
	}
	if r.dialect.Scalar != nil {
		if what, hint, ok := r.dialect.Scalar(v, text); ok {
			return what, hint
		}
	}
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return "want a time, " + got, "write it with its unit, for example 500ms, 60s, 5m or 1h30m"
		}
		*p = d
		return "", ""
	case *fs.FileMode:
		return setMode(p, text)
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(text)); err != nil {
			if p, ok := errors.AsType[*Problem](err); ok {
				hint = p.Hint
			}
			return err.Error() + ", " + got, hint
		}
		return "", ""
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return "", ""
	case reflect.Bool:
		if quoted && (text == "true" || text == "false") {
			return "want true or false, not a text", "remove the quotes"
		}
		if quoted || text != "true" && text != "false" {
			switch word := strings.ToLower(text); {
			case slices.Contains(yesWords, word):
				hint = "write true"
			case MeansNo(word):
				hint = "write false"
			}
			return "want true or false, " + got, hint
		}
		v.SetBool(text == "true")
		return "", ""
	}
	return setNumber(v, text, quoted, got)
}

func nearestWord(text string, list []string) string {
	if near := Nearest(text, list); near != "" && text != "" {
		return Quote(near) + " is nearest"
	}
	return ""
}

func setNumber(v reflect.Value, text string, quoted bool, got string) (what, hint string) {
	if quoted {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return "want a number, not a text", "remove the quotes"
		}
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || strings.ContainsAny(text, "_xXpP") {
			return "want a number, " + got, ""
		}
		v.SetFloat(f)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if !decimal.MatchString(text) {
			if trimmed := strings.TrimLeft(text, "0"); decimal.MatchString(trimmed) {
				hint = "write it without leading zeros: " + trimmed
			}
			return "want a whole number, " + got, hint
		}
		if v.CanInt() {
			i, err := strconv.ParseInt(text, 10, 64)
			if err != nil || v.OverflowInt(i) {
				return "the number " + Quote(text) + " is too large", ""
			}
			v.SetInt(i)
			break
		}
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil || v.OverflowUint(u) {
			return "the number " + Quote(text) + " is out of range", ""
		}
		v.SetUint(u)
	default:
		panic("strict: no way to read a " + v.Type().String())
	}
	return "", ""
}

var octalMode = regexp.MustCompile(`^0?[0-7]{3}$`)

func setMode(p *fs.FileMode, text string) (what, hint string) {
	if text == "" {
		*p = 0
		return "", ""
	}
	m, err := strconv.ParseUint(text, 8, 32)
	switch {
	case err != nil || !octalMode.MatchString(text):
		return "want permissions in octal, not " + Quote(text), `for example "0660"`
	case m == 0:
		return "permissions 0 shut everybody out", `for example "0660"; leave it out for what the umask gives`
	}
	*p = fs.FileMode(m)
	return "", ""
}
