package policy

// Samples stand for all the mail that a configuration can tell apart: whoever
// tries them all has seen all that it does.

import (
	"net/netip"
	"slices"
	"strings"

	"postern/filter/mail"
)

// ClientSamples returns an address for each network that may choose banks, by
// the entry that holds it.
func (c *Config) ClientSamples() map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, r := range c.selector.clients {
		for _, e := range r.networks.entries {
			out[strings.TrimPrefix(e.entry.Text, "!")] = e.prefix.Addr()
		}
	}
	return out
}

// AddressSamples returns an address for each key of the rules for senders and
// recipients, regular expressions excepted. local completes keys of a local
// part only.
func (c *Config) AddressSamples(local string) (senders, recipients []mail.Address) {
	return c.selector.senders.samples(local), c.selector.recipients.samples(local)
}

func (t *addressTable[T]) samples(local string) []mail.Address {
	var out []mail.Address
	add := func(m map[string][]T, address func(key string) string) {
		for key := range m {
			if key != "" {
				out = append(out, mail.Address(address(key)))
			}
		}
	}
	add(t.full, func(key string) string { return key })
	add(t.local, func(key string) string { return key + "@" + local })
	add(t.domain, func(key string) string { return "someone@" + key })
	add(t.below, func(key string) string { return "someone@below." + key })
	slices.Sort(out)
	return out
}
