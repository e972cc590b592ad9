package policy

// What a configuration may say, but its author most likely did not mean.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Doubts returns what is allowed in c but most likely not meant, in the order
// of the files: banks that nothing loads, networks that an earlier entry hides,
// loopback among our own clients, keys of domains that are not ours. c must
// come from [Load] or [Parse].
func (c *Config) Doubts() []Mistake {
	d := &doubts{cfg: c}
	d.unusedBanks()
	d.hiddenNetworks()
	d.loopback()
	d.foreignKeys()
	slices.SortStableFunc(d.list, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.list
}

type doubts struct {
	cfg  *Config
	list []Mistake
}

func (d *doubts) at(key, what, hint string) {
	p, ok := d.cfg.places[key]
	if !ok {
		p = place{file: BuiltIn}
	}
	d.list = append(d.list, Mistake{p.file, p.line, p.col, key + ": " + what, hint})
}

// unusedBanks finds banks that no mail can get.
func (d *doubts) unusedBanks() {
	c := d.cfg
	used := map[string]bool{"MYUSERS": true}
	byRequest := false
	for _, l := range c.Listeners {
		used[l.Bank] = true
		// a milter or AM.PDP request may name any bank
		byRequest = byRequest || !l.Protocol.AfterQueue()
	}
	for _, cb := range c.ClientBanks {
		for _, b := range cb.Banks {
			used[b] = true
		}
	}
	for _, sb := range c.SignerBanks {
		for _, b := range sb.Banks {
			used[b] = true
		}
	}
	if len(c.ClientBanks) == 0 {
		used["MYNETS"] = used["MYNETS"] || len(c.OwnNetworks) > 0
	} else if len(c.OwnNetworks) > 0 {
		d.at("own_networks", "they choose no bank, since client_banks are given",
			"add {networks: [...], bank: MYNETS} to client_banks, or remove own_networks")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Banks)) {
		if o := c.Banks[name]; used[name] || o.Origin.File == BuiltIn || byRequest && name != "MYNETS" {
			continue
		}
		hint := "give it to a listener or to client_banks, or remove it"
		if name == "MYNETS" && len(c.ClientBanks) == 0 {
			hint = "set own_networks"
		}
		d.at("banks."+name, "no listener and no client gets this bank", hint)
	}
}

// hiddenNetworks finds entries of network lists that can never decide.
func (d *doubts) hiddenNetworks() {
	c, s := d.cfg, d.cfg.selector
	for i, r := range s.clients {
		for _, e := range r.networks.entries {
			by, why := e.hiddenBy(r.networks), "an earlier entry of the same list"
			for j := 0; by == nil && j < i; j++ {
				by, why = e.takenBy(s.clients[j].networks), c.ClientBanks[j].Origin.String()
			}
			if by == nil {
				continue
			}
			key := "own_networks"
			list := c.OwnNetworks
			if len(c.ClientBanks) > 0 {
				key = fmt.Sprintf("client_banks[%d].networks", i)
				list = c.ClientBanks[i].Networks
			}
			if k := slices.Index(list, e.entry.text); k >= 0 && e.entry.file == "" {
				key += fmt.Sprintf("[%d]", k)
			}
			d.at(key, fmt.Sprintf("%s is never asked, since %s is in %s", e.entry, by.entry, why), "the first entry that holds an address decides: put the smaller network first")
		}
	}
}

// hiddenBy returns the entry before e in its own list n that holds all of e.
func (e *network) hiddenBy(n *Networks) *network {
	if x := n.first[e.prefix]; x != e.index {
		return &n.entries[x]
	}
	return n.cover(e.prefix, e.index)
}

// takenBy returns the entry of another list n that takes every address of e.
func (e *network) takenBy(n *Networks) *network {
	by := n.cover(e.prefix, len(n.entries))
	if by == nil || by.not {
		return nil
	}
	for i := range n.entries[:by.index] {
		if x := &n.entries[i]; x.not && x.prefix.Overlaps(e.prefix) {
			return nil
		}
	}
	return by
}

// cover returns the first entry before index that holds all of p, or nil.
func (n *Networks) cover(p netip.Prefix, index int) *network {
	bits := n.bits6
	if p.Addr().Is4() {
		bits = n.bits4
	}
	var found *network
	for _, b := range bits {
		if b > p.Bits() {
			continue
		}
		wide, _ := p.Addr().Prefix(b) // b came from a prefix of this family
		if i, ok := n.first[wide]; ok && i < index {
			index, found = i, &n.entries[i]
		}
	}
	return found
}

// loopback finds banks that make mail from this host our own.
func (d *doubts) loopback() {
	c := d.cfg
	for _, addr := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		for i, r := range c.selector.clients {
			entry, ok := r.networks.Match(addr)
			if !ok {
				continue
			}
			s := c.selector.base
			for _, o := range r.banks {
				s = o.Over(s)
			}
			if s.Originating {
				key := "own_networks"
				if len(c.ClientBanks) > 0 {
					key = fmt.Sprintf("client_banks[%d].networks", i)
				}
				d.at(key, fmt.Sprintf("%s holds loopback: what a proxy, a container or another filter on this host hands to Postfix would count as mail of our own people", entry),
					"leave loopback out unless only local programs submit mail there")
			}
			break
		}
	}
}

// foreignKeys finds keys for domains whose senders are not ours.
func (d *doubts) foreignKeys() {
	for i, k := range d.cfg.DKIMKeys {
		name := strings.TrimPrefix(k.Domain, ".")
		if d.cfg.selector.local.Match(name) || strings.HasPrefix(k.Domain, ".") && d.cfg.selector.local.Match("x."+name) {
			continue
		}
		d.at(fmt.Sprintf("dkim_keys[%d].domain", i), name+" is not in local_domains: its mail is signed, but its senders are strangers and never get a report",
			"add it to local_domains if it is yours")
	}
}
