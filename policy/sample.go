package policy

// Samples stand for all the mail that a configuration can tell apart: whoever
// tries them all has seen all that it does.

import (
	"net/netip"
	"strings"

	"postern/filter/mail"
)

// ClientSamples returns an address for each network that may choose banks, by
// the entry that holds it.
func (c *Config) ClientSamples() map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, r := range c.selector.clients {
		for _, e := range r.networks.Entries() {
			out[strings.TrimPrefix(e.Entry.Text, "!")] = e.Prefix.Addr()
		}
	}
	return out
}

// AddressSamples returns an address for each key of the rules for senders and
// recipients, regular expressions excepted. local completes keys of a local
// part only.
func (c *Config) AddressSamples(local string) (senders, recipients []mail.Address) {
	return c.selector.senders.Samples(local), c.selector.recipients.Samples(local)
}

// LoginSamples returns a name for each entry that may choose a bank by login.
func (c *Config) LoginSamples() []string { return wordSamples(c.selector.logins) }

// DaemonSamples returns a name for each entry that may choose a bank by daemon.
func (c *Config) DaemonSamples() []string { return wordSamples(c.selector.daemons) }

func wordSamples(rules []wordRule) []string {
	var out []string
	for _, r := range rules {
		names, every := r.names.Names()
		if out = append(out, names...); every {
			out = append(out, "any other name")
		}
	}
	return out
}
