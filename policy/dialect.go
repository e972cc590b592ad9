package policy

// What the reader of YAML must know of our configuration: its words, where a
// misplaced key belongs, and what is read in a way of its own: settings, banks
// and engines.

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"postern/filter/mail"
	"postern/policy/banned"
	"postern/policy/lookup"
	"postern/policy/senderlist"
	"postern/policy/strict"
	"postern/policy/virusname"
)

// words are the values that a type of string may have.
var words = map[reflect.Type][]string{
	reflect.TypeFor[Destiny]():            {string(Pass), string(Reject), string(Bounce), string(Discard), string(Tempfail)},
	reflect.TypeFor[Direction]():          {string(Inbound), string(Outbound), string(Internal), string(OpenRelay)},
	reflect.TypeFor[virusname.Meaning]():  {string(virusname.Score), string(virusname.Unchecked), string(virusname.Infected)},
	reflect.TypeFor[senderlist.Meaning](): {string(senderlist.Whitelisted), string(senderlist.Blacklisted), string(senderlist.Score), string(senderlist.Neutral)},
	reflect.TypeFor[OnError]():            {string(OnErrorTempfail), string(OnErrorPass)},
	reflect.TypeFor[CategoryOnError]():    {string(OnErrorDefault), string(OnErrorTempfail), string(OnErrorPass)},
	reflect.TypeFor[SQLType]():            {string(NoSQL), string(PostgreSQL), string(MariaDB)},
	reflect.TypeFor[mail.Input]():         {string(mail.InputLMTP), string(mail.InputSMTP), string(mail.InputProxy), string(mail.InputMilter), string(mail.InputAMPDP)},
	reflect.TypeFor[Split]():              {string(SplitRcpt)},
	reflect.TypeFor[BareNewline]():        {string(BareNewlineNormalize), string(BareNewlineReject)},
	reflect.TypeFor[Digest]():             {string(DigestDaily), string(DigestNever)},
	reflect.TypeFor[LogFormat]():          {string(LogText), string(LogJSON)},
	reflect.TypeFor[banned.FileMark]():    banned.Marks,
	reflect.TypeFor[LogLevel]():           {string(LogDebug), string(LogInfo), string(LogWarning), string(LogError)},
}

func (l *loader) dialect() strict.Dialect {
	return strict.Dialect{
		Words: words, Scalar: scalar, Value: l.value, Entry: entry, Belongs: l.belongs, Single: single,
		Shared: "what several banks share belongs in settings",
	}
}

// scalar reads addresses; other types read themselves.
func scalar(v reflect.Value, text string) (what, hint string, ok bool) {
	p, ok := v.Addr().Interface().(*mail.Address)
	if !ok {
		return "", "", false
	}
	a, problem := lookup.ParseAddress(text)
	if problem != "" {
		return problem, addressHint(text), true
	}
	*p = a
	return "", "", true
}

// value reads settings, the banks and the engines.
func (l *loader) value(path string, n *yaml.Node, v reflect.Value) bool {
	switch p := v.Addr().Interface().(type) {
	case *Settings:
		l.readSettings(path, n, l.base)
	case **Overlay:
		if *p == nil {
			*p = &Overlay{}
		}
		l.readSettings(path, n, *p)
	case *map[string]*Overlay:
		l.readBanks(path, n, *p)
	default:
		if path != "engines" {
			return false
		}
		l.readEngines(n)
	}
	return true
}

// entry gives entries of lists their place, and rules settings of that name.
func entry(path string, at strict.Place, x any) {
	o := Origin{File: at.File, Line: at.Line}
	switch x := x.(type) {
	case *Listener:
		x.Origin = o
	case *ClientBank:
		x.Origin = o
	case *AuthBank:
		x.Origin = o
	case *DaemonBank:
		x.Origin = o
	case *SignerBank:
		x.Origin = o
	case *DKIMKey:
		x.Origin = o
	case *Test:
		x.Origin = o
	case *senderlist.Rule:
		x.At(o.String())
	case *Rule:
		x.Origin, x.Settings = o, &Overlay{Name: path}
	}
}

// readSettings notes every key of n in o.
func (l *loader) readSettings(path string, n *yaml.Node, o *Overlay) {
	if o.Origin.File == "" || o.Origin.File == BuiltIn {
		at := l.PlaceOf(n)
		o.Origin = Origin{Bank: o.Name, File: at.File, Line: at.Line}
	}
	l.inSettings = true
	defer func() { l.inSettings = false }()
	l.Sparse(path, n, reflect.TypeFor[Settings](), func(key string, value any, at strict.Place) {
		i, ok := settingsLeaves().number[key]
		if !ok {
			return // an entry of a list: the list comes itself
		}
		from := Origin{Bank: o.Name, File: at.File, Line: at.Line}
		o.values = append(o.values, overlayValue{i, reflect.ValueOf(value), from, at})
	})
}

// bankName leaves out blank, comma and slash, which separate names in lists
// and in the logged path.
var bankName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (l *loader) readBanks(path string, n *yaml.Node, banks map[string]*Overlay) {
	l.Pairs(path, n, func(name string, k, val *yaml.Node) {
		if !bankName.MatchString(name) {
			l.Wrong(k, path, strict.Quote(name)+" cannot be the name of a bank", "want letters, digits, dot, dash and underscore, beginning with a letter or digit")
			return
		}
		o := banks[name]
		if o == nil {
			o = &Overlay{Name: name}
		}
		l.Value(path+"."+name, val, reflect.ValueOf(&o).Elem())
		banks[name] = o
	})
}

// readEngines fills the options of each engine that n names.
func (l *loader) readEngines(n *yaml.Node) {
	l.Pairs("engines", n, func(name string, k, val *yaml.Node) {
		build, ok := l.engines[name]
		if !ok {
			known := slices.Sorted(maps.Keys(l.engines))
			hint := "known engines: " + strings.Join(known, ", ")
			if near := strict.Nearest(name, known); near != "" {
				hint = "nearest known engine is " + strict.Quote(near)
			} else if len(known) == 0 {
				hint = ""
			}
			l.Mistake(l.PlaceOf(k), "unknown engine "+strict.Quote(name), hint)
			return
		}
		if l.cfg.Engines[name] == nil {
			l.cfg.Engines[name] = build()
		}
		path := "engines." + name
		l.Value(path, val, reflect.ValueOf(l.cfg.Engines[name]).Elem())
		l.SetPlace(path, k)
	})
}

// belongs says where a key belongs that is unknown at path.
func (l *loader) belongs(path, key string, known []string) string {
	if l.inSettings && key == "settings" {
		return "write what is in it without this key"
	}
	if l.inSettings && slices.Contains(strict.Keys(reflect.TypeFor[Config]()), key) {
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
	case len(sections) > 0 && (path == "" || l.inSettings || slices.Contains(topSettings(), key)):
		return "it belongs in " + strict.Or(sections)
	}
	return ""
}

// topSettings are the keys of the settings that stand in no section of them.
func topSettings() []string {
	return slices.DeleteFunc(SettingsKeys(), func(key string) bool { return strings.Contains(key, ".") })
}
