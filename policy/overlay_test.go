package policy

import (
	"reflect"
	"slices"
	"testing"

	"postern/policy/banned"
	"postern/policy/senderlist"
	"postern/policy/virusname"
)

// mustParse reads one file that must be right.
func mustParse(t testing.TB, data string) *Config {
	t.Helper()
	c, err := Parse("postern.yaml", []byte(data), testEngines())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOver(t *testing.T) {
	t.Parallel()
	const base = `
settings:
  forward_to: smtp://192.0.2.1:25
  virus: {destiny: bounce, admin: a@example.org, fakes_sender: ["*Phish*", "*Joke*"]}
  spam: {kill_level: 5, bypass: true}
`
	tests := []struct {
		name string
		bank string
		want map[string]any
	}{
		{"nothing", "{}", nil},
		{"blank", "", nil},
		{"blank section", "{virus: }", nil},
		{"scalar", "{originating: true}", map[string]any{"originating": true}},
		{"false over true", "{spam: {bypass: false}}", map[string]any{"spam.bypass": false}},
		{"zero over number", "{spam: {kill_level: 0}}", map[string]any{"spam.kill_level": 0.0}},
		{"mapping merges", "{virus: {destiny: pass}}", map[string]any{"virus.destiny": Pass}},
		{"empty text", `{virus: {admin: ""}}`, map[string]any{"virus.admin": ""}},
		{"null text", "{virus: {admin: null}}", map[string]any{"virus.admin": ""}},
		{"tilde text", "{virus: {admin: ~}}", map[string]any{"virus.admin": ""}},
		{"blank text", "{virus: {admin: }}", map[string]any{"virus.admin": ""}},
		{"list replaces", `{virus: {fakes_sender: ["*X*"]}}`, map[string]any{"virus.fakes_sender": []string{"*X*"}}},
		{"list of one", `{virus: {fakes_sender: "*X*"}}`, map[string]any{"virus.fakes_sender": []string{"*X*"}}},
		{"empty list", "{virus: {fakes_sender: []}}", map[string]any{"virus.fakes_sender": []string(nil)}},
		{"null list", "{virus: {fakes_sender: null}}", map[string]any{"virus.fakes_sender": []string(nil)}},
		{"several", "{dkim: {sign: false}, virus: {admin: b@EXAMPLE.org, lover: true}}",
			map[string]any{"dkim.sign": false, "virus.admin": "b@example.org", "virus.lover": true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := mustParse(t, base+"banks:\n  B: "+tt.bank+"\n")
			before, s := mustParse(t, base).Settings, c.Bank("B").Over(&c.Settings)
			for _, key := range SettingsKeys() {
				want, bank := before.Value(key), ""
				if x, ok := tt.want[key]; ok {
					want, bank = x, "B"
				}
				got := s.Value(key)
				if v := reflect.ValueOf(got); v.Kind() == reflect.String && reflect.TypeOf(want).Kind() == reflect.String {
					got, want = v.String(), reflect.ValueOf(want).String()
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s = %v, want %v", key, got, want)
				}
				if o := s.Origin(key); o.Bank != bank {
					t.Errorf("%s comes from %q, want bank %q", key, o, bank)
				}
				if got := c.Bank("B").Sets(key); got != (bank == "B") || got != slices.Contains(c.Bank("B").Keys(), key) {
					t.Errorf("Sets(%s) = %v, Keys() = %v", key, got, c.Bank("B").Keys())
				}
			}
		})
	}
}

// A later bank goes over an earlier one, and what it does not name stays.
func TestOverOrder(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
settings: {virus: {admin: base@example.org}}
banks:
  AM.PDP-SOCK: {originating: false, virus: {admin: ""}, dkim: {sign: false}}
  INT-MTA:
    originating: true
    virus: {admin: int@example.org}
`)
	s := c.Bank("INT-MTA").Over(c.Bank("AM.PDP-SOCK").Over(&c.Settings))
	if !s.Originating || s.Virus.Admin != "int@example.org" || s.DKIM.Sign {
		t.Errorf("AM.PDP-SOCK/INT-MTA gives %+v", s)
	}
	s = c.Bank("AM.PDP-SOCK").Over(c.Bank("INT-MTA").Over(&c.Settings))
	if s.Originating || s.Virus.Admin != "" || s.DKIM.Sign {
		t.Errorf("INT-MTA/AM.PDP-SOCK gives %+v", s)
	}
	if s := (*Overlay)(nil).Over(&c.Settings); !reflect.DeepEqual(*s, c.Settings) {
		t.Errorf("no overlay gives %+v", s)
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
settings:
  virus:
    destiny: reject
    fakes_sender:
      - "*Phish*"
banks:
  INT-MTA:
    originating: true
    virus: {admin: a@example.org}
recipients:
  - match: a@example.org
    settings:
      spam: {kill_level: 9}
senders:
  - {match: b@example.org, settings: {spam: {lover: true}}}
`)
	base := Origin{File: "postern.yaml"}
	at := func(bank string, line int) Origin { return Origin{Bank: bank, File: base.File, Line: line} }
	s := c.Bank("INT-MTA").Over(&c.Settings)
	s = c.Recipients[0].Settings.Over(c.Senders[0].Settings.Over(s))
	for key, want := range map[string]Origin{
		"forward_to":         {File: BuiltIn},
		"virus.destiny":      at("", 4),
		"virus.fakes_sender": at("", 6),
		"originating":        at("INT-MTA", 9),
		"virus.admin":        at("INT-MTA", 10),
		"spam.kill_level":    at("recipients[0]", 14),
		"spam.lover":         at("senders[0]", 16),
		"virus":              {},
		"nonsense":           {},
	} {
		if got := s.Origin(key); got != want {
			t.Errorf("Origin(%s) = %+v, want %+v", key, got, want)
		}
	}
	for _, tt := range []struct{ got, want Origin }{
		{c.Bank("INT-MTA").Origin, at("INT-MTA", 9)},
		{c.Bank("ORIGINATING").Origin, Origin{Bank: "ORIGINATING", File: BuiltIn}},
		{c.Bank("ORIGINATING").Over(&c.Settings).Origin("originating"), Origin{Bank: "ORIGINATING", File: BuiltIn}},
		{c.Recipients[0].Origin, at("", 12)},
		{(&Settings{}).Origin("virus.destiny"), Origin{File: BuiltIn}},
		{c.Listeners[0].Origin, Origin{File: BuiltIn}},
		{c.Origin("settings"), at("", 3)},
		{c.Origin("own_networks"), Origin{File: BuiltIn}},
	} {
		if tt.got != tt.want {
			t.Errorf("got %+v, want %+v", tt.got, tt.want)
		}
	}
	for o, want := range map[Origin]string{
		{}:                      "",
		{File: BuiltIn}:         "built-in",
		at("INT-MTA", 9):        "INT-MTA at postern.yaml:9",
		at("", 4):               "postern.yaml:4",
		{"MYNETS", BuiltIn, 0}:  "MYNETS at built-in",
		at("recipients[0]", 14): "recipients[0] at postern.yaml:14",
	} {
		if got := o.String(); got != want {
			t.Errorf("%#v is written %q, want %q", o, got, want)
		}
	}
}

// Nothing that a caller writes to settings may be seen through another bank.
func TestOverDeepCopy(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
settings: {virus: {fakes_sender: [base]}}
banks:
  A: {virus: {fakes_sender: [a]}}
  B: {originating: true}
`)
	ruin := func(s *Settings) {
		v := reflect.ValueOf(s).Elem()
		for i, l := range settingsLeaves().list {
			f := v.FieldByIndex(l.index)
			switch {
			case f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Struct:
				for j := range f.Len() {
					f.Index(j).SetString("ruined")
				}
			default:
				f.SetZero()
			}
			s.origins[i] = Origin{Bank: "ruined"}
		}
	}
	check := func() {
		t.Helper()
		for _, tt := range []struct {
			s    *Settings
			want string
		}{{&c.Settings, "base"}, {c.Bank("A").Over(&c.Settings), "a"}, {c.Bank("B").Over(&c.Settings), "base"}} {
			if got := tt.s.Virus.FakesSender; len(got) != 1 || got[0] != tt.want {
				t.Fatalf("fakes_sender = %v, want [%s]", got, tt.want)
			}
			if tt.s.Origin("virus.destiny").Bank != "" || tt.s.Virus.Destiny != Reject {
				t.Fatal("a value or an origin is shared")
			}
		}
	}
	ruin(c.Bank("A").Over(&c.Settings))
	check()
	ruin(c.Bank("B").Over(&c.Settings))
	check()
	ruin((*Overlay)(nil).Over(&c.Settings))
	check()
	ruin(c.Bank("B").Over(c.Bank("A").Over(&c.Settings)))
	check()
	d := Default()
	ruin(d.Bank("MYNETS").Over(&d.Settings))
	if d := Default(); !d.Bank("MYNETS").Over(&d.Settings).Originating {
		t.Error("the defaults are shared")
	}
}

// cloneLeaf copies lists of values only; banned rules it shares.
func TestSettingsKinds(t *testing.T) {
	t.Parallel()
	for _, l := range settingsLeaves().list {
		f := reflect.TypeFor[Settings]().FieldByIndex(l.index).Type
		if f.Kind() == reflect.Slice {
			f = f.Elem()
		}
		if f == reflect.TypeFor[banned.Rule]() || f == reflect.TypeFor[virusname.NameRule]() || f == reflect.TypeFor[senderlist.Rule]() {
			continue
		}
		switch f.Kind() {
		case reflect.Bool, reflect.String, reflect.Float64, reflect.Int, reflect.Int64:
		default:
			t.Errorf("%s: cloneLeaf would share a %s", l.key, f)
		}
	}
}

// Settings are told apart by their values and places, each of them, and not by
// who made them.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	const text = "settings: {virus: {fakes_sender: [a, b]}, banned: {rules: [{block: {name: '*.a'}}]}}"
	one, two := mustParse(t, text).Settings, mustParse(t, text).Settings
	if one.Fingerprint() != two.Fingerprint() || one.Fingerprint() != one.clone().Fingerprint() {
		t.Error("equal settings are told apart")
	}
	seen := map[string]string{one.Fingerprint(): "nothing"}
	look := func(what string, s *Settings) {
		if same := seen[s.Fingerprint()]; same != "" {
			t.Errorf("%s changed counts as %s changed", what, same)
		}
		seen[s.Fingerprint()] = what
	}
	for i, l := range settingsLeaves().list {
		s := one.clone()
		s.origins[i].Line = 99
		look("place of "+l.key, s)
		s = one.clone()
		switch f := reflect.ValueOf(s).Elem().FieldByIndex(l.index); f.Kind() {
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Float64:
			f.SetFloat(99)
		case reflect.Int64:
			f.SetInt(99)
		default:
			f.SetString("changed")
		}
		look(l.key, s)
	}
	split := one.clone()
	split.Virus.FakesSender = []string{"a b"}
	look("virus.fakes_sender in one", split)
	split.Virus.FakesSender = []string{`a""b`}
	look("virus.fakes_sender with quotes", split)
}

func BenchmarkFingerprint(b *testing.B) {
	c := mustParse(b, "")
	for b.Loop() {
		c.Settings.Fingerprint()
	}
}

func BenchmarkOver(b *testing.B) {
	c := mustParse(b, "banks: {B: {virus: {destiny: pass, fakes_sender: [x]}, spam: {kill_level: 1}}}")
	for b.Loop() {
		c.Bank("B").Over(&c.Settings)
	}
}

// What is laid over settings from elsewhere is judged as what a file says.
func TestOverlaySet(t *testing.T) {
	t.Parallel()
	o := &Overlay{Name: "sql users[1]", Origin: Origin{Bank: "sql users[1]", File: "postern.yaml", Line: 4}}
	for _, x := range []struct {
		key   string
		value any
	}{{"spam.lover", true}, {"spam.kill_level", 9.5}, {"virus.admin", "a@b.test"}, {"spam.subject_tag", "[x] "}, {"spam.destiny", "pass"}} {
		if err := o.Set(x.key, x.value); err != nil {
			t.Error(err)
		}
	}
	d := Default().Settings
	s := o.Over(&d)
	if !s.Spam.Lover || s.Spam.KillLevel != 9.5 || s.Virus.Admin != "a@b.test" || s.Spam.Destiny != Pass || s.Origin("spam.lover").source() != "sql users[1] (postern.yaml:4)" {
		t.Errorf("%+v from %s", s.Spam, s.Origin("spam.lover").source())
	}
	for _, x := range []struct {
		key   string
		value any
	}{{"spam.loved", true}, {"spam.lover", "Y"}, {"spam.destiny", "drop"}, {"spam.kill_level", true}, {"virus.admin", "nobody"}, {"forward_to", "pipe:x"}, {"spam.address_extension", "a b"}} {
		if err := o.Set(x.key, x.value); err == nil {
			t.Errorf("%s: %v is taken", x.key, x.value)
		}
	}
}
