package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"postern/filter/mail"
	"postern/policy/banned"
	"postern/policy/lookup"
	"postern/policy/senderlist"
	"postern/policy/strict"
	"postern/policy/virusname"
)

// Origin is the place a value comes from.
type Origin struct {
	Bank string // "" for the base, "recipients[0]" or "senders[0]" for such an entry
	File string // BuiltIn for a default
	Line int    // 0 for a default
}

// BuiltIn is the File of an Origin that is a default.
const BuiltIn = "built-in"

// String returns "postern.yaml:12", preceded by the bank where there is one.
func (o Origin) String() string {
	s := o.File
	if o.Line > 0 {
		s += ":" + strconv.Itoa(o.Line)
	}
	if o.Bank != "" {
		s = o.Bank + " at " + s
	}
	return s
}

// Overlay is the part of [Settings] that a bank, a recipient or a sender
// changes. Once the configuration is loaded nobody writes to it.
type Overlay struct {
	Name   string // name of the bank; "recipients[0]" for the first of these entries
	Origin Origin // where it is defined; of several files the first

	// Local says whether the recipient is one of ours, where a lookup knows it;
	// nil: local_domains says.
	Local *bool

	values []overlayValue
}

// overlayValue is one key that an overlay sets. Of several with the same leaf
// the last holds: a later file goes over an earlier one.
type overlayValue struct {
	leaf   int
	value  reflect.Value
	origin Origin
	at     strict.Place
}

// Over returns a copy of base with the values of o laid over it: mappings
// merge key by key, scalars and lists replace, but entries of a sender list
// stand before those of base. The result shares no memory
// with base or o but rules, for files and for names, which nobody writes to. A nil overlay
// changes nothing.
func (o *Overlay) Over(base *Settings) *Settings {
	s := base.clone()
	if o == nil {
		return s
	}
	v := reflect.ValueOf(s).Elem()
	for _, x := range o.values {
		f := v.FieldByIndex(settingsLeaves().list[x.leaf].index)
		if own, ok := x.value.Interface().([]senderlist.Rule); ok {
			// whoever has an opinion on some senders still needs that on the others
			f.Set(reflect.ValueOf(slices.Concat(own, f.Interface().([]senderlist.Rule))))
		} else {
			f.Set(cloneLeaf(x.value))
		}
		s.origins[x.leaf] = x.origin
	}
	return s
}

// Keys returns the dotted keys that o sets, in the order of [SettingsKeys].
func (o *Overlay) Keys() []string {
	var out []string
	for i, l := range settingsLeaves().list {
		if slices.ContainsFunc(o.values, func(x overlayValue) bool { return x.leaf == i }) {
			out = append(out, l.key)
		}
	}
	return out
}

// Sets reports whether o sets the dotted key, for example "virus.destiny".
func (o *Overlay) Sets(key string) bool {
	i, ok := settingsLeaves().number[key]
	return ok && slices.ContainsFunc(o.values, func(x overlayValue) bool { return x.leaf == i })
}

// Forwards returns the next hop that o sets, empty if it sets none.
func (o *Overlay) Forwards() string {
	hop := ""
	for _, x := range o.values {
		if settingsLeaves().list[x.leaf].key == "forward_to" {
			hop = x.value.String()
		}
	}
	return hop
}

// Origin returns the place of the effective value of a dotted key, for example
// "virus.destiny". For a key that does not exist it is the zero Origin.
func (s *Settings) Origin(key string) Origin {
	i, ok := settingsLeaves().number[key]
	switch {
	case !ok:
		return Origin{}
	case s.origins == nil:
		return Origin{File: BuiltIn}
	}
	return s.origins[i]
}

// Value returns the effective value of a dotted key, nil for a key that does
// not exist.
func (s *Settings) Value(key string) any {
	i, ok := settingsLeaves().number[key]
	if !ok {
		return nil
	}
	return reflect.ValueOf(s).Elem().FieldByIndex(settingsLeaves().list[i].index).Interface()
}

// Fingerprint returns a text that is the same for settings whose values are all
// equal and come from the same places, whoever made them. It is long, and not
// for people.
func (s *Settings) Fingerprint() string {
	var b []byte
	v := reflect.ValueOf(s).Elem()
	for _, l := range settingsLeaves().list {
		switch x := v.FieldByIndex(l.index).Interface().(type) {
		case []string:
			for _, text := range x {
				b = strconv.AppendQuote(b, text)
			}
		case []banned.Rule:
			for _, r := range x {
				b = append(b, r.String()...)
			}
		case []virusname.NameRule:
			for _, r := range x {
				b = append(b, r.String()...)
			}
		case []senderlist.Rule:
			for i := range x {
				b = append(append(b, x[i].String()...), x[i].Place()...)
			}
		default:
			b = strconv.AppendQuote(b, fmt.Sprint(x))
		}
		o := s.Origin(l.key)
		b = fmt.Appendf(b, "%q%q%d\n", o.Bank, o.File, o.Line)
	}
	return string(b)
}

// SettingsKeys returns the dotted keys of all settings in the order of the
// documentation.
func SettingsKeys() []string {
	var out []string
	for _, l := range settingsLeaves().list {
		out = append(out, l.key)
	}
	return out
}

// builtInBank is an overlay that says originating: true.
func builtInBank(name string) *Overlay {
	o := Origin{Bank: name, File: BuiltIn}
	return &Overlay{Name: name, Origin: o, values: []overlayValue{
		{leaf: settingsLeaves().number["originating"], value: reflect.ValueOf(true), origin: o},
	}}
}

// Set lays a value over a dotted key, for an overlay that is made outside of the
// files: true or false, a number or a text, or a sender list.
func (o *Overlay) Set(key string, value any) error {
	i, ok := settingsLeaves().number[key]
	if !ok {
		return fmt.Errorf("there is no setting %s", key)
	}
	want := reflect.TypeFor[Settings]().FieldByIndex(settingsLeaves().list[i].index).Type
	v := reflect.ValueOf(value)
	if v.Kind() != want.Kind() {
		return fmt.Errorf("%s: want a %s, not a %s", key, want.Kind(), v.Kind())
	}
	v = v.Convert(want)
	if a, ok := v.Interface().(mail.Address); ok {
		a, problem := lookup.ParseAddress(string(a))
		if problem != "" {
			return fmt.Errorf("%s: %s", key, problem)
		}
		v = reflect.ValueOf(a)
	}
	if list := words[want]; list != nil && !slices.Contains(list, v.String()) {
		return fmt.Errorf("%s: want %s", key, strict.Or(list))
	}
	if what, _ := checkSetting(key, v.Interface()); what != "" {
		return fmt.Errorf("%s: %s", key, what)
	}
	o.values = append(o.values, overlayValue{leaf: i, value: v, origin: o.Origin})
	return nil
}

func (s *Settings) clone() *Settings {
	c := *s
	v := reflect.ValueOf(&c).Elem()
	for _, l := range settingsLeaves().list {
		if l.deep {
			f := v.FieldByIndex(l.index)
			f.Set(cloneLeaf(f))
		}
	}
	if s.origins == nil {
		c.origins = make([]Origin, len(settingsLeaves().list))
		for i := range c.origins {
			c.origins[i].File = BuiltIn
		}
	} else {
		c.origins = slices.Clone(s.origins)
	}
	return &c
}

// cloneLeaf copies a list; everything else is a value already. Banned rules and
// those for names and senders, which nobody writes to, are shared: they are long, and equal
// banned rules are told fastest when they are the same.
func cloneLeaf(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Slice || v.IsNil() {
		return v
	}
	switch v.Interface().(type) {
	case []banned.Rule, []virusname.NameRule, []senderlist.Rule:
		return v
	}
	c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	reflect.Copy(c, v)
	return c
}

// leaf is one key of Settings that is no mapping.
type leaf struct {
	key   string
	index []int // for reflect's FieldByIndex
	deep  bool  // a list, copied by cloneLeaf
}

type leaves struct {
	list   []leaf
	number map[string]int
}

var settingsLeaves = sync.OnceValue(func() *leaves {
	ls := &leaves{number: map[string]int{}}
	ls.add(reflect.TypeFor[Settings](), "", nil)
	return ls
})

func (ls *leaves) add(t reflect.Type, prefix string, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, inline := strict.FieldName(f)
		at := append(slices.Clone(index), i)
		switch {
		case inline:
			ls.add(f.Type, prefix, at)
		case f.Type.Kind() == reflect.Struct:
			ls.add(f.Type, prefix+name+".", at)
		default:
			ls.number[prefix+name] = len(ls.list)
			ls.list = append(ls.list, leaf{prefix + name, at, f.Type.Kind() == reflect.Slice})
		}
	}
}
