package policy

// What a configuration may say, but its author most likely did not mean.

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/lookup"
	"postern/policy/senderlist"
	"postern/policy/strict"
	"postern/policy/virusname"
)

// Doubts returns what is allowed in c but most likely not meant, in the order
// of the files: doors that stand open, banks that nothing loads, entries of lists that can never
// decide, everybody or loopback among our own clients, keys of domains that
// are not ours, signers whom nobody verifies, and domains of ours without a key. c must come from [Load] or [Parse].
func (c *Config) Doubts() []Mistake {
	d := &doubts{cfg: c}
	d.openDoors()
	d.unusedBanks()
	d.hiddenNetworks()
	d.hiddenWords("auth_banks", "users", "login", d.cfg.selector.logins)
	d.hiddenWords("daemon_banks", "daemons", "daemon", d.cfg.selector.daemons)
	d.onlyExclusions()
	d.ownClients()
	d.localDomains()
	d.rules("recipients", c.Recipients)
	d.rules("senders", c.Senders)
	d.foreignKeys()
	d.unverifiedSigners()
	d.virusNames()
	d.eachOverlay(d.levels)
	d.eachOverlay(d.senderLists)
	d.unsignedDomains()
	// RFC 5321 section 4.5.3.1.7
	if least := mail.Size(64 << 10); c.Limits.MessageSize < least {
		d.at("limits.message_size", "mail of more than "+c.Limits.MessageSize.String()+" octets is refused", "RFC 5321 wants "+least.String()+" taken; units are KiB, MiB and GiB")
	}
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
		p = strict.Place{File: BuiltIn}
	}
	d.list = append(d.list, Mistake{File: p.File, Line: p.Line, Column: p.Column, What: key + ": " + what, Hint: hint})
}

// in reports a doubt about an entry whose place is kept by line only.
func (d *doubts) in(o Origin, key, what, hint string) {
	d.list = append(d.list, Mistake{File: o.File, Line: o.Line, What: key + ": " + what, Hint: hint})
}

// openDoors finds listeners that other machines reach, and lists that let in
// everybody or nobody.
func (d *doubts) openDoors() {
	for i := range d.cfg.Listeners {
		l := &d.cfg.Listeners[i]
		key := fmt.Sprintf("listeners[%d]", i)
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil || strings.HasPrefix(l.Address, "unix:") {
			continue
		}
		addr, err := netip.ParseAddr(host)
		onlyHere := err == nil && addr.IsLoopback()
		if l.allow == nil {
			if !onlyHere {
				d.at(key+".address", l.Address+" can be reached from other machines, and no allow says which of them may come in: all but this one get 421",
					"write allow: [networks of your Postfix], or address: 127.0.0.1:"+port)
			}
			continue
		}
		everybody := slices.IndexFunc(l.allow.Entries(), func(e lookup.Network) bool { return e.Prefix.Bits() < widestAllowed && !e.Not })
		switch {
		case everybody >= 0 && !onlyHere:
			d.at(key+".allow", fmt.Sprintf("THE DOOR IS OPEN: %s lets in strangers, who would send past Postfix in the name of any client", l.allow.Entries()[everybody].Entry),
				"name the machines of your Postfix only")
		case onlyHere && !l.Allows(addr, true):
			d.at(key+".allow", fmt.Sprintf("it leaves out %s, which is all that can reach this address: all mail gets 421", addr), "add "+addr.String()+", or leave allow out")
		}
	}
}

// widestAllowed is the length of the widest network that one site may have.
const widestAllowed = 8

// unusedBanks finds banks that no mail can get.
func (d *doubts) unusedBanks() {
	c := d.cfg
	used := map[string]bool{"MYUSERS": true}
	take := func(banks []string) {
		for _, b := range banks {
			used[b] = true
		}
	}
	for _, l := range c.Listeners {
		take(append([]string{l.Bank, l.LocalBank}, l.AllowBanks...))
	}
	for _, x := range c.AuthBanks {
		take(x.Banks)
	}
	for _, x := range c.DaemonBanks {
		take(x.Banks)
	}
	for _, cb := range c.ClientBanks {
		take(cb.Banks)
	}
	for _, sb := range c.SignerBanks {
		take(sb.Banks)
	}
	if len(c.ClientBanks) == 0 {
		used["MYNETS"] = used["MYNETS"] || len(c.OwnNetworks) > 0
	} else if len(c.OwnNetworks) > 0 {
		d.at("own_networks", "they choose no bank, since client_banks are given",
			"add {networks: [...], bank: MYNETS} to client_banks, or remove own_networks")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Banks)) {
		if twin := d.twin(name); twin != "" && c.Banks[name].Origin.File != BuiltIn {
			d.at("banks."+name, "only the case of letters tells this bank from "+twin, "give it another name, or write "+twin)
			continue
		}
		if o := c.Banks[name]; used[name] || o.Origin.File == BuiltIn {
			continue
		}
		hint := "give it to a listener, a client, a login or a daemon, or remove it"
		if strings.HasPrefix(name, "SMTP_AUTH") {
			hint = "a request of amavisd-milter may name it if allow_banks of the am.pdp listener does"
		}
		if name == "MYNETS" && len(c.ClientBanks) == 0 {
			hint = "set own_networks"
		}
		d.at("banks."+name, "no mail gets this bank", hint)
	}
}

// hiddenNetworks finds entries of network lists that can never decide.
func (d *doubts) hiddenNetworks() {
	c, s := d.cfg, d.cfg.selector
	for i, r := range s.clients {
		for _, e := range r.networks.Entries() {
			by, why := r.networks.HiddenBy(&e), "an earlier entry of the same list"
			for j := 0; by == nil && j < i; j++ {
				by, why = s.clients[j].networks.TakenBy(&e), c.ClientBanks[j].Origin.String()
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
			if k := slices.Index(list, e.Entry.Text); k >= 0 && e.Entry.File == "" {
				key += fmt.Sprintf("[%d]", k)
			}
			d.at(key, fmt.Sprintf("%s is never asked, since %s is in %s", e.Entry, by.Entry, why), "the first entry that holds an address decides: put the smaller network first")
		}
	}
}

// hiddenWords finds names that two entries choose a bank for, and entries that
// no listener can ask.
func (d *doubts) hiddenWords(list, key, what string, rules []wordRule) {
	if len(rules) > 0 && !slices.ContainsFunc(d.cfg.Listeners, func(l Listener) bool { return l.Protocol == mail.InputMilter }) {
		d.at(list, "no listener hears of a "+what, "only protocol: milter does")
	}
	for i, r := range rules {
		names, every := r.names.Names()
		if every && len(names) == 0 {
			names = []string{"*"} // stands for whom no other list names
		}
		for j := range rules[:i] {
			for _, name := range names {
				if entry, ok := rules[j].names.Match(name); ok {
					d.at(fmt.Sprintf("%s[%d].%s", list, i, key), fmt.Sprintf("%s is never asked, since %s is in %s[%d]", name, entry, list, j), "the first entry that holds a name decides")
				}
			}
		}
	}
}

// OwnClients reports whether mail from all clients of a network is that of our
// own people, whatever the listener. Exceptions within the network do not
// count: they are meant.
func (c *Config) OwnClients(p netip.Prefix) bool {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	for _, r := range c.selector.clients {
		if e := r.networks.Cover(p); e != nil && !e.Not {
			return c.originating(r)
		}
	}
	return false
}

// originating reports whether the banks of a rule make mail that of our own
// people.
func (c *Config) originating(r clientRule) bool {
	s := c.selector.base.settings
	for _, o := range r.banks {
		s = o.Over(s)
	}
	return s.Originating
}

// twin returns another bank, or one with a meaning of its own, whose name is
// the same but for case.
func (d *doubts) twin(name string) string {
	for _, other := range append(slices.Sorted(maps.Keys(d.cfg.Banks)), "MYUSERS") {
		if other != name && strings.EqualFold(other, name) {
			return other
		}
	}
	return ""
}

// onlyExclusions finds lists of networks that hold no client.
func (d *doubts) onlyExclusions() {
	check := func(key string, n *lookup.Networks) {
		if len(n.Entries()) > 0 && !slices.ContainsFunc(n.Entries(), func(e lookup.Network) bool { return !e.Not }) {
			d.at(key, "only exclusions: no client is in this list", `name the networks that are meant after them; all are 0.0.0.0/0 and "::/0"`)
		}
	}
	if len(d.cfg.ClientBanks) == 0 {
		check("own_networks", d.cfg.selector.clients[0].networks)
		return
	}
	for i, r := range d.cfg.selector.clients {
		check(fmt.Sprintf("client_banks[%d].networks", i), r.networks)
	}
}

// ownClients finds banks that make mail of everybody, or from this host, our
// own.
func (d *doubts) ownClients() {
	c := d.cfg
	key := func(i int) string {
		if len(c.ClientBanks) > 0 {
			return fmt.Sprintf("client_banks[%d].networks", i)
		}
		return "own_networks"
	}
	for i, r := range c.selector.clients {
		everybody := slices.IndexFunc(r.networks.Entries(), func(e lookup.Network) bool { return e.Prefix.Bits() == 0 && !e.Not })
		if everybody >= 0 && c.originating(r) {
			d.at(key(i), r.networks.Entries()[everybody].Entry.String()+" is everybody: mail of all strangers would be signed and count as that of our own people", "name your networks only")
			return
		}
	}
	for _, addr := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		for i, r := range c.selector.clients {
			entry, ok := r.networks.Match(addr)
			if !ok {
				continue
			}
			if c.originating(r) {
				d.at(key(i), fmt.Sprintf("%s holds loopback: what a proxy, a container or another filter on this host hands to Postfix would count as mail of our own people", entry),
					"leave loopback out unless only local programs submit mail there")
			}
			break
		}
	}
}

// localDomains finds out when no domain is ours, or an exclusion comes too
// late.
func (d *doubts) localDomains() {
	list := d.cfg.LocalDomains
	if len(d.cfg.selector.local.Names()) == 0 {
		d.at("local_domains", "no domain is ours: all mail is Outbound or OpenRelay, and no sender gets a report", "name your domains")
	}
	exact, below := map[string]int{}, map[string]int{} // the first entry with that name
	for i, x := range list {
		if strings.HasPrefix(x, "file:") {
			continue
		}
		not, dot, name := cutMarks(x)
		by := i // the first entry that holds all that x holds
		if j, ok := exact[name]; ok && dot == "" {
			by = j
		}
		lookup.ParentDomains(name, func(parent string) bool {
			if j, ok := below[parent]; ok {
				by = min(by, j)
			}
			return true
		})
		if y := list[by]; by < i && strings.HasPrefix(y, "!") != (not != "") {
			d.at(fmt.Sprintf("local_domains[%d]", i), fmt.Sprintf("%s is never asked, since local_domains[%d], %s, holds it", x, by, y), "the first entry that holds a domain decides: put the exception first")
		}
		first := exact
		if dot != "" {
			first = below
		}
		if _, ok := first[name]; !ok {
			first[name] = i
		}
	}
}

// rules finds addresses that two rules treat differently, and users who would
// be taken for domains.
func (d *doubts) rules(list string, rules []Rule) {
	first := map[string]int{}
	for i, r := range rules {
		for j, m := range r.Match {
			at := fmt.Sprintf("%s[%d].match[%d]", list, i, j)
			if !strings.ContainsAny(m, "@./:") && !d.cfg.selector.local.Match(m) {
				d.in(r.Origin, at, strict.Quote(m)+" is taken for a domain", "for the user in any domain write "+m+"@")
			}
			local, domain := lookup.FoldAddress(mail.Address(m))
			id := local + "@" + domain
			if !strings.Contains(m, "@") {
				id = strings.ToLower(m)
			}
			k, again := first[id]
			if !again {
				first[id] = i
				continue
			}
			for _, key := range r.Settings.Keys() {
				if k != i && rules[k].Settings.Sets(key) {
					d.in(r.Origin, at, fmt.Sprintf("%s of %s is taken from %s[%d]", key, m, list, k), "of two entries for one address the first decides")
				}
			}
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

// unverifiedSigners finds banks of signers that no signature can choose.
func (d *doubts) unverifiedSigners() {
	c := d.cfg
	verified := c.Settings.DKIM.Verify
	for _, o := range c.Banks {
		verified = verified || o.Over(&c.Settings).DKIM.Verify
	}
	for _, r := range slices.Concat(c.Senders, c.Recipients) {
		verified = verified || r.Settings.Over(&c.Settings).DKIM.Verify
	}
	if len(c.SignerBanks) > 0 && !verified {
		d.at("signer_banks", "no settings have signatures verified, so nothing is chosen by them", "dkim: {verify: true}")
	}
}

// unsignedDomains finds domains of ours for which there is no key, where mail
// of our own people is to be signed.
func (d *doubts) unsignedDomains() {
	c := d.cfg
	signs := func(s *Settings) bool { return s.Originating && s.DKIM.Sign }
	wanted := signs(&c.Settings)
	for _, o := range c.Banks {
		wanted = wanted || signs(o.Over(&c.Settings))
	}
	if !wanted {
		return
	}
	var without []string
	for _, name := range c.selector.local.Names() {
		// an exclusion further up may take the name away
		if name != "" && c.selector.local.Match(name) && !c.hasKey(name) {
			without = append(without, name)
		}
	}
	if len(without) == 0 {
		return
	}
	const most = 5
	names := strings.Join(without[:min(len(without), most)], ", ")
	if n := len(without) - most; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	d.at("local_domains", "no DKIM key for "+names+": mail of these domains goes out unsigned", "postern dkim keygen makes one; where another program signs, set dkim: {sign: false}")
}

// eachOverlay visits the base, the banks, recipients and senders, each with the
// settings that it makes over the base and the key under which it stands.
func (d *doubts) eachOverlay(visit func(path string, o *Overlay, s *Settings)) {
	c := d.cfg
	visit("settings", nil, &c.Settings)
	for _, name := range slices.Sorted(maps.Keys(c.Banks)) {
		visit("banks."+name, c.Banks[name], c.Banks[name].Over(&c.Settings))
	}
	for _, list := range []struct {
		name  string
		rules []Rule
	}{{"recipients", c.Recipients}, {"senders", c.Senders}} {
		for i, r := range list.rules {
			visit(fmt.Sprintf("%s[%d].settings", list.name, i), r.Settings, r.Settings.Over(&c.Settings))
		}
	}
}

// levels finds levels of the score in an order that is most likely a slip.
func (d *doubts) levels(path string, o *Overlay, s *Settings) {
	spam := &s.Spam
	at := func(key, what, hint string) {
		if o == nil || o.Sets("spam."+key) {
			d.setting(path, "spam."+key, s, what, hint)
		}
	}
	p := virusname.Points
	if spam.KillLevel < spam.Tag2Level {
		at("kill_level", fmt.Sprintf("%s is below tag2_level %s: mail is blocked before it is marked", p(spam.KillLevel), p(spam.Tag2Level)), "kill_level is most often the highest of the levels")
	}
	if spam.KillLevel <= 0 {
		at("kill_level", p(spam.KillLevel)+" is what ordinary mail reaches: all of it would be SPAM", "6.31 is built in")
	}
	if spam.Tag3Level != 0 && spam.Tag3Level < spam.Tag2Level {
		at("tag3_level", fmt.Sprintf("%s is below tag2_level %s: its tag would stand on mail that is not SPAMMY yet", p(spam.Tag3Level), p(spam.Tag2Level)), "0 is no such level")
	}
	if spam.TagLevel > spam.Tag2Level {
		at("tag_level", fmt.Sprintf("%s is above tag2_level %s: mail is SPAMMY without its fields", p(spam.TagLevel), p(spam.Tag2Level)), "-999 is always")
	}
}

// senderLists finds entries that let everybody in, and such as can never hold.
func (d *doubts) senderLists(path string, o *Overlay, s *Settings) {
	if o != nil && !o.Sets("spam.sender_list") {
		return
	}
	list := s.Spam.SenderList
	if o != nil {
		list = list[:len(list)-len(d.cfg.Settings.Spam.SenderList)] // its own stand before those of the base
	}
	verifies := s.DKIM.Verify || s.SPF.Verify
	for i := range list {
		r := &list[i]
		if r.As != senderlist.Whitelisted {
			continue
		}
		switch {
		case r.Everybody() && !r.WantsProof():
			d.setting(path, "spam.sender_list", s, r.Place()+": everybody is whitelisted, nothing is ever spam", "bypass: true says so in words")
		case r.WantsProof() && !verifies && !s.Originating:
			d.setting(path, "spam.sender_list", s, r.Place()+": a whitelisted sender must be verified, and nothing is verified", "dkim: {verify: true} or spf: {verify: true}; verified: false believes what anybody can write")
		}
	}
}

// setting reports a doubt about a setting, at the place from which it comes.
func (d *doubts) setting(path, key string, s *Settings, what, hint string) {
	o := s.Origin(key)
	d.in(Origin{File: o.File, Line: o.Line}, path+"."+key, what, hint)
}

// hasKey reports whether a key signs for the domain.
func (c *Config) hasKey(domain string) bool {
	return slices.ContainsFunc(c.DKIMKeys, func(k DKIMKey) bool {
		return k.Domain == domain || strings.HasPrefix(k.Domain, ".") && strings.HasSuffix("."+domain, k.Domain)
	})
}
