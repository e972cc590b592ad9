package policy

// The strict reader of YAML. It fills structs by their yaml tags from the node
// tree, in place, so that a second file goes over the first key by key. Unlike
// the decoder of the YAML package it knows line and column of everything, goes
// on after a mistake, and reads no value in a way that its writer may not have
// meant: no octal numbers, no "yes" for true, no anchors, no tags.

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

// Dialect is what a [Reader] must be told of the configuration that it reads.
// Each of its fields may be left out.
type Dialect struct {
	// Words are the values that a type of string may have, the only ones.
	Words map[reflect.Type][]string
	// Scalar sets a value of a type that does not read its text itself, or
	// says in one line each what is wrong with the text and how to mend it. It
	// returns false for all types but its own.
	Scalar func(v reflect.Value, text string) (what, hint string, ok bool)
	// Value reads what the reader cannot, with the methods of the reader. It
	// returns false for all values but its own.
	Value func(path string, n *yaml.Node, v reflect.Value) bool
	// Entry gets each entry of a list, a pointer to it, before it is read.
	Entry func(path string, at Place, entry any)
	// Belongs says where a key belongs that nobody knows at path, where the
	// keys known are known; empty: the nearest of them is told.
	Belongs func(path, key string, known []string) string
	// Single says what to write where there is more than the one value, n,
	// that a type can take; empty: nothing.
	Single func(n *yaml.Node, t reflect.Type) string
	// Shared says where that belongs which several mappings have in common:
	// who looks for it tries anchors and aliases.
	Shared string
}

// Reader reads files into structs, and keeps the place of every value and all
// mistakes. One goroutine may use it.
type Reader struct {
	dialect  Dialect
	file     string   // the one being read
	files    []string // all so far, in order
	places   map[string]Place
	mistakes []Mistake
	bad      map[string]bool // keys whose value is wrong

	// sparse is told the values that [Reader.Sparse] reads, whose keys begin
	// with prefix; nil outside.
	sparse func(key string, value any, at Place)
	prefix string
}

// NewReader returns a reader that has read nothing.
func NewReader(d Dialect) *Reader {
	return &Reader{dialect: d, places: map[string]Place{}, bad: map[string]bool{}}
}

// PlaceOf returns where n stands in the file that is being read.
func (r *Reader) PlaceOf(n *yaml.Node) Place { return Place{r.file, n.Line, n.Column} }

// SetPlace says that the value of a key stands where n does.
func (r *Reader) SetPlace(key string, n *yaml.Node) { r.places[key] = r.PlaceOf(n) }

// Places returns where the values of all keys stand, of the last file that
// gives them; an entry of a list has its number in the key: "listeners[0].bank".
func (r *Reader) Places() map[string]Place { return r.places }

// Given reports whether a file gives a value for a key.
func (r *Reader) Given(key string) bool {
	_, ok := r.places[key]
	return ok
}

// Wrong reports a mistake in the value n of the key path; the empty path is
// the file.
func (r *Reader) Wrong(n *yaml.Node, path, what, hint string) {
	if path != "" {
		r.bad[path] = true
		what = path + ": " + what
	}
	r.Mistake(r.PlaceOf(n), what, hint)
}

// Value reads n, the value of the key path, into v, which can be set.
func (r *Reader) Value(path string, n *yaml.Node, v reflect.Value) {
	if !r.plain(path, n) {
		return
	}
	if r.sparse == nil {
		defer r.SetPlace(path, n)
	}
	switch t := v.Type(); {
	case r.dialect.Value != nil && r.dialect.Value(path, n, v):
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		r.Value(path, n, v.Elem())
	case IsScalar(t):
		r.scalar(path, n, v)
	case t.Kind() == reflect.Struct:
		r.structure(path, n, v)
	case t.Kind() == reflect.Slice:
		r.list(path, n, v)
	case t.Kind() == reflect.Map:
		r.table(path, n, v)
	default:
		panic("strict: no way to read a " + t.String())
	}
}

// plain reports whether n is free of what this reader refuses.
func (r *Reader) plain(path string, n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.Wrong(n, path, "alias "+quote("*"+n.Value)+" is not read here", r.shared(`quote a value that begins with "*"`))
	case n.Anchor != "":
		r.Wrong(n, path, "anchor "+quote("&"+n.Anchor)+" is not read here", r.shared(`quote a value that begins with "&"`))
	case n.Style&yaml.TaggedStyle != 0:
		r.Wrong(n, path, "tag "+quote(n.Tag)+" is not read here", `quote a value that begins with "!"`)
	default:
		return true
	}
	return false
}

// shared adds to a hint where common values belong.
func (r *Reader) shared(hint string) string {
	if r.dialect.Shared == "" {
		return hint
	}
	return hint + "; " + r.dialect.Shared
}

// IsScalar reports whether a type is read from a single value.
func IsScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Array:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	}
	return true
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case isNull(n):
		return "nothing"
	}
	return quote(n.Value)
}

// Pairs calls each for the keys of mapping n, the value of the key path. A key
// without anything below it is an empty mapping.
func (r *Reader) Pairs(path string, n *yaml.Node, each func(key string, k, v *yaml.Node)) {
	if isNull(n) && n.Value == "" {
		return
	}
	if n.Kind != yaml.MappingNode {
		hint := "write key: value lines below it"
		if isNull(n) {
			hint = "name the keys that are to be empty"
		}
		r.Wrong(n, path, "want a mapping, not "+kindName(n), hint)
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			r.Wrong(k, path, "want a word as key, not "+kindName(k), "")
			continue
		}
		if k.Tag == "!!merge" {
			r.Wrong(k, path, `merge key "<<" is not read here`, r.dialect.Shared)
			continue
		}
		if line, ok := first[k.Value]; ok {
			r.Wrong(k, path, "key "+quote(k.Value)+" is given twice", fmt.Sprintf("first in line %d", line))
			continue
		}
		first[k.Value] = k.Line
		if r.plain(path, k) {
			each(k.Value, k, v)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (r *Reader) structure(path string, n *yaml.Node, v reflect.Value) {
	fields := map[string][]int{}
	var names []string
	collectFields(v.Type(), nil, fields, &names)
	r.Pairs(path, n, func(key string, k, val *yaml.Node) {
		index, ok := fields[key]
		if !ok {
			r.bad[join(path, key)] = true
			r.Mistake(r.PlaceOf(k), "unknown key "+quote(key), r.unknownHint(path, key, names))
			return
		}
		r.Value(join(path, key), val, v.FieldByIndex(index))
	})
}

// Keys returns the keys of a mapping that is read into a struct of type t, in
// their order.
func Keys(t reflect.Type) []string {
	var names []string
	collectFields(t, nil, map[string][]int{}, &names)
	return names
}

func collectFields(t reflect.Type, index []int, fields map[string][]int, names *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := FieldName(f)
		at := append(slices.Clone(index), i)
		switch {
		case inline:
			collectFields(f.Type, at, fields, names)
		case name != "" && f.IsExported():
			fields[name] = at
			*names = append(*names, name)
		}
	}
}

// FieldName returns the key of a struct field, and whether the keys of the
// field stand among those of the struct around it. The name is empty for a
// field that is not part of the configuration.
func FieldName(f reflect.StructField) (name string, inline bool) {
	name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		name = ""
	}
	return name, opts == "inline"
}

// unknownHint says where a key belongs, or what was meant.
func (r *Reader) unknownHint(path, key string, known []string) string {
	if word, value, ok := strings.Cut(key, ":"); ok && slices.Contains(known, word) {
		return "write " + quote(word+": "+value) + ", with a blank"
	}
	if r.dialect.Belongs != nil {
		if hint := r.dialect.Belongs(path, key, known); hint != "" {
			return hint
		}
	}
	if near := nearest(key, known); near != "" {
		return "nearest known key is " + quote(near)
	}
	if len(known) == 0 {
		return "there is nothing to set here"
	}
	return "known here: " + strings.Join(known, ", ")
}

// list reads a list. A lone scalar is a list of one, nothing an empty list. A
// list at the top of a file is added to that of the files before.
func (r *Reader) list(path string, n *yaml.Node, v reflect.Value) {
	items := n.Content
	elem := v.Type().Elem()
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "" || isNull(n):
		items = nil
	case n.Kind == yaml.ScalarNode && IsScalar(elem):
		items = []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		r.Wrong(n, path, "want a list, not "+kindName(n), `put "- " in front of each entry`)
		return
	}
	out := reflect.Zero(v.Type())
	if _, again := r.places[path]; again && r.sparse == nil && !strings.Contains(path, ".") {
		out = v
	}
	for _, item := range items {
		x := reflect.New(elem).Elem()
		at := fmt.Sprintf("%s[%d]", path, out.Len())
		if isNull(item) {
			r.Wrong(item, path, "empty entry in a list", "remove it")
			continue
		}
		if r.dialect.Entry != nil {
			r.dialect.Entry(at, r.PlaceOf(item), x.Addr().Interface())
		}
		before := len(r.mistakes)
		r.Value(at, item, x)
		if c, ok := x.Addr().Interface().(Checker); ok && len(r.mistakes) == before {
			if what, hint := c.Check(); what != "" {
				r.Wrong(item, at, what, hint)
			}
		}
		if IsScalar(elem) && len(r.mistakes) > before {
			continue // told already
		}
		out = reflect.Append(out, x)
	}
	v.Set(out)
	r.note(path, n, v)
}

// table reads a mapping with free keys.
func (r *Reader) table(path string, n *yaml.Node, v reflect.Value) {
	r.Pairs(path, n, func(key string, _, val *yaml.Node) {
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		x := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(key)); old.IsValid() {
			x.Set(old)
		}
		r.Value(join(path, key), val, x)
		v.SetMapIndex(reflect.ValueOf(key), x)
	})
}

// Sparse reads mapping n, the value of the key path, with the keys of a struct
// of type t, and calls each with what is given: the key below path with dots
// between the mappings, the value, and its place. The entries of a list, with
// their number in the key, come before the list. Such values are no part of
// what [Reader.Place] knows.
func (r *Reader) Sparse(path string, n *yaml.Node, t reflect.Type, each func(key string, value any, at Place)) {
	r.sparse, r.prefix = each, path
	defer func() { r.sparse, r.prefix = nil, "" }()
	r.structure(path, n, reflect.New(t).Elem())
}

// note tells of a value that Sparse reads.
func (r *Reader) note(path string, n *yaml.Node, v reflect.Value) {
	if r.sparse != nil {
		r.sparse(strings.TrimPrefix(path, r.prefix+"."), v.Interface(), r.PlaceOf(n))
	}
}

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
	got := "not " + quote(text)
	if text == "" {
		got = "not nothing"
	}
	if list := r.dialect.Words[v.Type()]; list != nil {
		if !slices.Contains(list, text) {
			return "want " + or(list) + ", " + got, nearestWord(text, list)
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
	if near := nearest(text, list); near != "" && text != "" {
		return quote(near) + " is nearest"
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
				return "the number " + quote(text) + " is too large", ""
			}
			v.SetInt(i)
			break
		}
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil || v.OverflowUint(u) {
			return "the number " + quote(text) + " is out of range", ""
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
		return "want permissions in octal, not " + quote(text), `for example "0660"`
	case m == 0:
		return "permissions 0 shut everybody out", `for example "0660"; leave it out for what the umask gives`
	}
	*p = fs.FileMode(m)
	return "", ""
}
