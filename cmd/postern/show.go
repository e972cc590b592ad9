package main

// check --show: the settings in force, each with its place.

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"postern/filter/mail"
	"postern/policy"
)

// shown is one setting in force.
type shown struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	Bank  string `json:"bank,omitempty"` // or the rule that sets it
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"`
}

// shownSettings is a bank or a situation.
type shownSettings struct {
	What     string   `json:"what"`
	Path     []string `json:"path,omitempty"` // why each bank applies
	Settings []shown  `json:"settings"`
}

// show prints the settings of a bank over the base, or of each recipient in a
// situation; without both, of the base.
func show(ctx context.Context, out io.Writer, cfg *policy.Config, o checkOptions, bank string) error {
	var all []shownSettings
	if o.situation() {
		l, err := listenerOf(cfg, o.listener)
		if err != nil {
			return exit(exitUsage, fmt.Errorf("--listener: %w", err))
		}
		client, err := clientOf(o.client)
		if err != nil {
			return exit(exitUsage, fmt.Errorf("--client: %w", err))
		}
		req := policy.Request{Listener: l.Address, Client: client}
		if req.From, err = addressOf(o.from); err != nil {
			return exit(exitUsage, fmt.Errorf("--from: %w", err))
		}
		if req.Rcpts, err = envelopeTo(o.to); err != nil {
			return exit(exitUsage, err)
		}
		sel, err := cfg.Select(ctx, req)
		if err != nil {
			return exit(exitSoftware, err)
		}
		all = showSelection(sel)
	} else {
		s, err := showBank(cfg, bank)
		if err != nil {
			return exit(exitUsage, err)
		}
		all = append(all, s)
	}
	if o.json {
		return printJSON(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "# %s\n", s.What)
		for _, p := range s.Path {
			fmt.Fprintf(w, "#   %s\n", p)
		}
		for _, v := range s.Settings {
			fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, shorten(showValue(v.Value)), policy.Origin{Bank: v.Bank, File: v.File, Line: v.Line})
		}
	}
	return w.Flush()
}

func showSelection(sel *policy.Selection) []shownSettings {
	settings := func(what string, path []policy.Step, s *policy.Settings) shownSettings {
		out := shownSettings{What: what, Settings: showSettings(s)}
		for _, st := range steps(path) {
			out.Path = append(out.Path, st.String())
		}
		return out
	}
	if len(sel.Rcpts) == 0 {
		return []shownSettings{settings("banks "+orBase(sel.BankPath()), sel.Path, sel.Settings)}
	}
	var out []shownSettings
	for _, r := range sel.Rcpts {
		out = append(out, settings(fmt.Sprintf("recipient %s, %s, banks %s", r.Address, r.Direction, orBase(sel.BankPath())), r.Path, r.Settings))
	}
	return out
}

// showBank shows a bank over the base, or without a name the base.
func showBank(cfg *policy.Config, name string) (shownSettings, error) {
	if name == "" {
		return shownSettings{"base", nil, showSettings(&cfg.Settings)}, nil
	}
	b, err := bankOf(cfg, name)
	if err != nil {
		return shownSettings{}, err
	}
	return shownSettings{"bank " + name + " over the base", nil, showSettings(b.Over(&cfg.Settings))}, nil
}

func showSettings(s *policy.Settings) []shown {
	var out []shown
	for _, key := range policy.SettingsKeys() {
		o := s.Origin(key)
		out = append(out, shown{key, s.Value(key), o.Bank, o.File, o.Line})
	}
	return out
}

// showValue writes a value as the file would have it.
func showValue(v any) string {
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

// shorten keeps a table readable; --json has the whole value.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
