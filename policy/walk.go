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
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"postern/filter/mail"
)

// place is where something stands in a file.
type place struct {
	file      string
	line, col int
}

// walker reads files into one Config.
type walker struct {
	cfg      *Config
	base     *Overlay // the key settings of all files
	engines  map[string]func() any
	file     string
	places   map[string]place // by dotted key, those of overlays excepted
	mistakes []Mistake
	bad      map[string]bool // keys whose value is wrong

	// overlay is the one being read, with the key under which its own begin;
	// nil outside.
	overlay *Overlay
	prefix  string
}

// words are the values that a type of string may have.
var words = map[reflect.Type][]string{
	reflect.TypeFor[Destiny]():     {string(Pass), string(Reject), string(Bounce), string(Discard), string(Tempfail)},
	reflect.TypeFor[Direction]():   {string(Inbound), string(Outbound), string(Internal), string(OpenRelay)},
	reflect.TypeFor[OnError]():     {string(OnErrorTempfail), string(OnErrorPass)},
	reflect.TypeFor[mail.Input]():  {string(mail.InputLMTP), string(mail.InputSMTP), string(mail.InputMilter), string(mail.InputAMPDP)},
	reflect.TypeFor[BareNewline](): {string(BareNewlineNormalize), string(BareNewlineReject)},
	reflect.TypeFor[LogFormat]():   {string(LogText), string(LogJSON)},
	reflect.TypeFor[FileMark](): {string(MarkEncrypted), string(MarkUndecipherable), string(MarkAmbiguous), string(MarkDirectory), string(MarkLink), string(MarkSpecial),
		string(MarkMacros), string(MarkDataURI), string(MarkSmuggling), string(MarkExternalBody), string(MarkPartial)},
	reflect.TypeFor[LogLevel](): {string(LogDebug), string(LogInfo), string(LogWarning), string(LogError)},
}

func (w *walker) place(n *yaml.Node) place { return place{w.file, n.Line, n.Column} }

func (w *walker) mistake(at place, what, hint string) {
	w.mistakes = append(w.mistakes, Mistake{at.file, at.line, at.col, what, hint})
}

// wrong reports a value. path names its key.
func (w *walker) wrong(n *yaml.Node, path, what, hint string) {
	if path != "" {
		w.bad[path] = true
		what = path + ": " + what
	}
	w.mistake(w.place(n), what, hint)
}

// value reads n into v, which can be set.
func (w *walker) value(path string, n *yaml.Node, v reflect.Value) {
	if !w.plain(path, n) {
		return
	}
	if w.overlay == nil {
		defer func(p place) { w.places[path] = p }(w.place(n))
	}
	switch t := v.Type(); {
	case t == reflect.TypeFor[Settings]():
		w.readOverlay(path, n, w.base)
	case t == reflect.TypeFor[*Overlay]():
		if v.IsNil() {
			v.Set(reflect.ValueOf(&Overlay{}))
		}
		w.readOverlay(path, n, v.Interface().(*Overlay))
	case path == "engines":
		w.readEngines(n)
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		w.value(path, n, v.Elem())
	case isScalar(t):
		w.scalar(path, n, v)
	case t.Kind() == reflect.Struct:
		w.structure(path, n, v)
	case t.Kind() == reflect.Slice:
		w.list(path, n, v)
	case t.Kind() == reflect.Map:
		w.table(path, n, v)
	default:
		panic("policy: no way to read a " + t.String())
	}
}

// plain reports whether n is free of what this reader refuses.
func (w *walker) plain(path string, n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		w.wrong(n, path, "alias "+quote("*"+n.Value)+" is not read here", `quote a value that begins with "*"; what several banks share belongs in settings`)
	case n.Anchor != "":
		w.wrong(n, path, "anchor "+quote("&"+n.Anchor)+" is not read here", `quote a value that begins with "&"; what several banks share belongs in settings`)
	case n.Style&yaml.TaggedStyle != 0:
		w.wrong(n, path, "tag "+quote(n.Tag)+" is not read here", `quote a value that begins with "!"`)
	default:
		return true
	}
	return false
}

func isScalar(t reflect.Type) bool {
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

// pairs calls each for the keys of mapping n. A key without anything below it
// is an empty mapping.
func (w *walker) pairs(path string, n *yaml.Node, each func(key string, k, v *yaml.Node)) {
	if isNull(n) && n.Value == "" {
		return
	}
	if n.Kind != yaml.MappingNode {
		hint := "write key: value lines below it"
		if isNull(n) {
			hint = "name the keys that are to be empty"
		}
		w.wrong(n, path, "want a mapping, not "+kindName(n), hint)
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			w.wrong(k, path, "want a word as key, not "+kindName(k), "")
			continue
		}
		if k.Tag == "!!merge" {
			w.wrong(k, path, `merge key "<<" is not read here`, "what several banks share belongs in settings")
			continue
		}
		if line, ok := first[k.Value]; ok {
			w.wrong(k, path, "key "+quote(k.Value)+" is given twice", fmt.Sprintf("first in line %d", line))
			continue
		}
		first[k.Value] = k.Line
		if w.plain(path, k) {
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

func (w *walker) structure(path string, n *yaml.Node, v reflect.Value) {
	fields := map[string][]int{}
	var names []string
	collectFields(v.Type(), nil, fields, &names)
	w.pairs(path, n, func(key string, k, val *yaml.Node) {
		index, ok := fields[key]
		if !ok {
			w.bad[join(path, key)] = true
			w.mistake(w.place(k), "unknown key "+quote(key), w.unknownHint(path, key, names))
			return
		}
		w.value(join(path, key), val, v.FieldByIndex(index))
	})
}

// topKeys are the keys at the top of the file.
var topKeys = sync.OnceValue(func() []string {
	var names []string
	collectFields(reflect.TypeFor[Config](), nil, map[string][]int{}, &names)
	return names
})

// topSettings are the keys of the settings that stand in no section of them.
func topSettings() []string {
	return slices.DeleteFunc(SettingsKeys(), func(key string) bool { return strings.Contains(key, ".") })
}

func collectFields(t reflect.Type, index []int, fields map[string][]int, names *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := yamlName(f)
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

// unknownHint says where a key belongs, or what was meant.
func (w *walker) unknownHint(path, key string, known []string) string {
	if word, value, ok := strings.Cut(key, ":"); ok && slices.Contains(known, word) {
		return "write " + quote(word+": "+value) + ", with a blank"
	}
	if w.overlay != nil && key == "settings" {
		return "write what is in it without this key"
	}
	if w.overlay != nil && slices.Contains(topKeys(), key) {
		return "it belongs at the top of the file"
	}
	if hint := formerHint(key); hint != "" {
		return hint
	}
	var sections []string
	for _, l := range settingsLeaves().list {
		section, k, nested := strings.Cut(l.key, ".")
		switch {
		case nested && k == key:
			sections = append(sections, section)
		case section == key:
			sections = []string{"settings or a bank"}
		}
	}
	switch {
	case len(sections) > 0 && path != "" && slices.Contains(known, "settings"):
		return "it belongs in settings"
	case len(sections) > 0 && (path == "" || w.overlay != nil || slices.Contains(topSettings(), key)):
		return "it belongs in " + or(sections)
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
func (w *walker) list(path string, n *yaml.Node, v reflect.Value) {
	items := n.Content
	elem := v.Type().Elem()
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "" || isNull(n):
		items = nil
	case n.Kind == yaml.ScalarNode && isScalar(elem):
		items = []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		w.wrong(n, path, "want a list, not "+kindName(n), `put "- " in front of each entry`)
		return
	}
	out := reflect.Zero(v.Type())
	if _, again := w.places[path]; again && w.overlay == nil && !strings.Contains(path, ".") {
		out = v
	}
	for _, item := range items {
		x := reflect.New(elem).Elem()
		at := fmt.Sprintf("%s[%d]", path, out.Len())
		if rule, ok := x.Addr().Interface().(*Rule); ok {
			rule.Settings = &Overlay{Name: at}
		}
		if isNull(item) {
			w.wrong(item, path, "empty entry in a list", "remove it")
			continue
		}
		before := len(w.mistakes)
		w.value(at, item, x)
		if c, ok := x.Addr().Interface().(interface{ check() (what, hint string) }); ok && len(w.mistakes) == before {
			if what, hint := c.check(); what != "" {
				w.wrong(item, at, what, hint)
			}
		}
		if isScalar(elem) && len(w.mistakes) > before {
			continue // told already
		}
		if elem.Kind() == reflect.Struct {
			if o := x.FieldByName("Origin"); o.IsValid() && o.Type() == reflect.TypeFor[Origin]() {
				o.Set(reflect.ValueOf(Origin{File: w.file, Line: item.Line}))
			}
		}
		out = reflect.Append(out, x)
	}
	v.Set(out)
	w.note(path, n, v)
}

// table reads a mapping with free keys.
func (w *walker) table(path string, n *yaml.Node, v reflect.Value) {
	w.pairs(path, n, func(key string, k, val *yaml.Node) {
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		x := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(key)); old.IsValid() {
			x.Set(old)
		} else if x.Type() == reflect.TypeFor[*Overlay]() {
			x.Set(reflect.ValueOf(&Overlay{Name: key}))
		}
		if path == "banks" && !bankName.MatchString(key) {
			w.wrong(k, path, quote(key)+" cannot be the name of a bank", "want letters, digits, dot, dash and underscore, beginning with a letter or digit")
			return
		}
		w.value(join(path, key), val, x)
		v.SetMapIndex(reflect.ValueOf(key), x)
	})
}

// bankName leaves out blank, comma and slash, which separate names in lists
// and in the logged path.
var bankName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// readOverlay notes every key of n in o.
func (w *walker) readOverlay(path string, n *yaml.Node, o *Overlay) {
	if o.Origin.File == "" || o.Origin.File == BuiltIn {
		o.Origin = Origin{Bank: o.Name, File: w.file, Line: n.Line}
	}
	w.overlay, w.prefix = o, path
	defer func() { w.overlay, w.prefix = nil, "" }()
	w.structure(path, n, reflect.New(reflect.TypeFor[Settings]()).Elem())
}

// note adds a value to the overlay being read.
func (w *walker) note(path string, n *yaml.Node, v reflect.Value) {
	if w.overlay == nil {
		return
	}
	i, ok := settingsLeaves().number[strings.TrimPrefix(path, w.prefix+".")]
	if !ok {
		return // an entry of a list: the list notes itself
	}
	o := Origin{Bank: w.overlay.Name, File: w.file, Line: n.Line}
	w.overlay.values = append(w.overlay.values, overlayValue{i, reflect.ValueOf(v.Interface()), o, w.place(n)})
}

// readEngines fills the options of each engine that n names.
func (w *walker) readEngines(n *yaml.Node) {
	w.pairs("engines", n, func(name string, k, val *yaml.Node) {
		build, ok := w.engines[name]
		if !ok {
			known := slices.Sorted(maps.Keys(w.engines))
			hint := "known engines: " + strings.Join(known, ", ")
			if near := nearest(name, known); near != "" {
				hint = "nearest known engine is " + quote(near)
			} else if len(known) == 0 {
				hint = ""
			}
			w.mistake(w.place(k), "unknown engine "+quote(name), hint)
			return
		}
		if w.cfg.Engines[name] == nil {
			w.cfg.Engines[name] = build()
		}
		path := "engines." + name
		w.value(path, val, reflect.ValueOf(w.cfg.Engines[name]))
		w.places[path] = w.place(k)
	})
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// scalar reads one value. Unquoted text is taken as it is written, so that a
// selector 20210807 or a mode 0660 stays what it is.
func (w *walker) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		w.wrong(n, path, "want a single value, not "+kindName(n), manyHint(n, v))
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
		w.wrong(n, path, fmt.Sprintf("the value holds the control character %q", text[i]), hint)
		return
	}
	what, hint := setScalar(v, text, n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0)
	if what != "" {
		w.wrong(n, path, what, hint)
		return
	}
	w.note(path, n, v)
}

// setScalar sets v, or says what is wrong with text.
func setScalar(v reflect.Value, text string, quoted bool) (what, hint string) {
	got := "not " + quote(text)
	if text == "" {
		got = "not nothing"
	}
	if list := words[v.Type()]; list != nil {
		if !slices.Contains(list, text) {
			return "want " + or(list) + ", " + got, nearestWord(text, list)
		}
		v.SetString(text)
		return "", ""
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
	case *mail.Address:
		a, problem := parseAddress(text)
		if problem != "" {
			return problem, addressHint(text)
		}
		*p = a
		return "", ""
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(text)); err != nil {
			var h hinted
			if e, ok := errors.AsType[*hinted](err); ok {
				h = *e
			}
			return err.Error() + ", " + got, h.hint
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
			case slices.Contains(noWords, word):
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
		panic("policy: no way to read a " + v.Type().String())
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
