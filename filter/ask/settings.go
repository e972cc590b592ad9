package ask

// The settings in force, each with its place.

import (
	"fmt"

	"postern/filter/mail"
	"postern/policy"
)

// Shown is one setting in force, in the form of its JSON.
type Shown struct {
	Key   string `json:"key"`            // dotted, as virus.destiny
	Value any    `json:"value"`          // of the type that it has in policy.Settings
	Bank  string `json:"bank,omitempty"` // or the rule that sets it; empty for the base
	File  string `json:"file"`           // policy.BuiltIn where no file sets it
	Line  int    `json:"line,omitempty"`
}

// ShownSettings are all settings of a bank or of one recipient, in the form of
// their JSON.
type ShownSettings struct {
	What     string   `json:"what"`           // in words: which bank or recipient
	Path     []string `json:"path,omitempty"` // why each bank applies
	Settings []Shown  `json:"settings"`       // in the order of policy.SettingsKeys
}

// ShowSelection shows what is in force for each recipient of an envelope, or
// for the message where there are none.
func ShowSelection(sel *policy.Selection) []ShownSettings {
	settings := func(what string, path []policy.Step, s *policy.Settings) ShownSettings {
		out := ShownSettings{What: what, Settings: showSettings(s)}
		for _, st := range steps(path) {
			out.Path = append(out.Path, st.String())
		}
		return out
	}
	if len(sel.Rcpts) == 0 {
		return []ShownSettings{settings("banks "+orBase(sel.BankPath()), sel.Path, sel.Settings)}
	}
	var out []ShownSettings
	for _, r := range sel.Rcpts {
		out = append(out, settings(fmt.Sprintf("recipient %s, %s, banks %s", r.Address, r.Direction, orBase(sel.BankPath())), r.Path, r.Settings))
	}
	return out
}

// ShowBank shows a bank over the base, or without a name the base. The error
// for one that is missing says which there are.
func ShowBank(cfg *policy.Config, name string) (ShownSettings, error) {
	if name == "" {
		return ShownSettings{"base", nil, showSettings(&cfg.Settings)}, nil
	}
	b, err := Bank(cfg, name)
	if err != nil {
		return ShownSettings{}, err
	}
	return ShownSettings{"bank " + name + " over the base", nil, showSettings(b.Over(&cfg.Settings))}, nil
}

func showSettings(s *policy.Settings) []Shown {
	var out []Shown
	for _, key := range policy.SettingsKeys() {
		o := s.Origin(key)
		out = append(out, Shown{key, s.Value(key), o.Bank, o.File, o.Line})
	}
	return out
}

// ShowValue writes a value of a setting as the file would have it.
func ShowValue(v any) string {
	switch v := v.(type) {
	case []string:
		return fmt.Sprintf("%q", v)
	case mail.Address:
		return fmt.Sprintf("%q", string(v))
	case string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}
