package policy

import (
	"path/filepath"
	"slices"
	"strings"

	"postern/policy/senderlist"
)

// senderLists returns the sender lists of the base, the banks and the rules.
func (c *Config) senderLists() [][]senderlist.Rule {
	out := [][]senderlist.Rule{c.Settings.Spam.SenderList}
	add := func(o *Overlay) {
		for _, x := range o.values {
			if rules, ok := x.value.Interface().([]senderlist.Rule); ok {
				out = append(out, rules)
			}
		}
	}
	for _, o := range c.Banks {
		add(o)
	}
	for _, r := range slices.Concat(c.Senders, c.Recipients) {
		add(r.Settings)
	}
	return out
}

// Files returns the files that c was read from, the lists that it names
// included, each once and in order.
func (c *Config) Files() []string {
	var out []string
	for _, p := range c.places {
		if p.File != "" {
			out = append(out, p.File)
		}
	}
	lists := [][]string{c.LocalDomains, c.OwnNetworks}
	for _, l := range c.Listeners {
		lists = append(lists, l.Allow)
	}
	for _, x := range c.ClientBanks {
		lists = append(lists, x.Networks)
	}
	for _, x := range c.AuthBanks {
		lists = append(lists, x.Users)
	}
	for _, x := range c.DaemonBanks {
		lists = append(lists, x.Daemons)
	}
	for _, x := range c.SignerBanks {
		lists = append(lists, x.Domains)
	}
	for _, r := range slices.Concat(c.Recipients, c.Senders) {
		lists = append(lists, r.Match)
		if r.Origin.File != "" {
			out = append(out, r.Origin.File)
		}
	}
	for _, rules := range c.senderLists() {
		for _, r := range rules {
			lists = append(lists, r.Match)
		}
	}
	for _, entry := range slices.Concat(lists...) {
		path, ok := strings.CutPrefix(strings.TrimSpace(entry), "file:")
		if !ok {
			continue
		}
		if path = strings.TrimSpace(path); !filepath.IsAbs(path) {
			path = filepath.Join(c.dir, path)
		}
		out = append(out, path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
