// Package strict reads YAML files into structs, by their yaml tags and in place,
// so that a second file goes over the first key by key, and names every mistake
// with its line and column and, where there is one, the nearest known word.
// Unlike the decoder of the YAML package it goes on after a mistake, and reads
// no value in a way that its writer may not have meant: no octal numbers, no
// "yes" for true, no anchors, no tags.
//
// What many configurations need is here too: sizes, and lists whose entries
// stand in files of their own.
//
// It is not for judging what values mean: it knows nothing of mail and of what
// is set. What is special about a configuration it is told by a [Dialect].
// Start with [Reader] and [Mistake].
package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

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
		r.Wrong(n, path, "alias "+Quote("*"+n.Value)+" is not read here", r.shared(`quote a value that begins with "*"`))
	case n.Anchor != "":
		r.Wrong(n, path, "anchor "+Quote("&"+n.Anchor)+" is not read here", r.shared(`quote a value that begins with "&"`))
	case n.Style&yaml.TaggedStyle != 0:
		r.Wrong(n, path, "tag "+Quote(n.Tag)+" is not read here", `quote a value that begins with "!"`)
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
	return Quote(n.Value)
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
			r.Wrong(k, path, "key "+Quote(k.Value)+" is given twice", fmt.Sprintf("first in line %d", line))
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
			r.Mistake(r.PlaceOf(k), "unknown key "+Quote(key), r.unknownHint(path, key, names))
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
		return "write " + Quote(word+": "+value) + ", with a blank"
	}
	if r.dialect.Belongs != nil {
		if hint := r.dialect.Belongs(path, key, known); hint != "" {
			return hint
		}
	}
	if near := Nearest(key, known); near != "" {
		return "nearest known key is " + Quote(near)
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
