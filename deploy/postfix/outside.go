package postfix

// The services that take mail from outside, milters, and what main.cf says for
// all of them.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// checkServices asks of each service whether its mail goes to the right
// listener: mail of our own people to one whose bank is originating, mail of
// strangers to another.
func (c *checker) checkServices() {
	own, other := c.pick(true), c.pick(false)
	if own != nil {
		for _, v := range c.services((*Service).submission) {
			c.checkSubmission(v, own)
		}
	}
	for _, v := range c.services((*Service).world) {
		for _, f := range c.feedsOf(v) {
			if !f.listener.Originating || other == nil || f.parameter == "FILTER" {
				continue
			}
			c.add(Finding{
				Rule: "strangers-originating", Where: v.place(), What: fmt.Sprintf("%s leads to %s, whose bank %s is originating", f.parameter, f.listener.Address, f.listener.Bank),
				Why:  "Mail from strangers counts as mail of our own people: it is signed, and reports go to forged senders.",
				Mend: c.feedEdits(other, v),
			})
		}
	}
}

// pick returns the first listener for our own people, or for others; one after
// the queue if there is one.
func (c *checker) pick(originating bool) *Listener {
	var out *Listener
	for i := range c.postern.Listeners {
		l := &c.postern.Listeners[i]
		if l.Originating == originating && l.feedable() && (out == nil || l.afterQueue() && !out.afterQueue()) {
			out = l
		}
	}
	return out
}

func (c *checker) checkSubmission(v *Service, own *Listener) {
	feeds := c.feedsOf(v)
	for _, f := range feeds {
		if f.listener.Originating {
			c.checkCompleted(v)
			return
		}
	}
	f := Finding{
		Rule: "submission-unfiltered", Where: v.place(), What: "no way leads to Postern",
		Why:  "Mail of our own people goes out unchecked and unsigned.",
		Mend: append(c.feedEdits(own, v), c.completeEdits(v)...),
	}
	if len(feeds) > 0 {
		f.Rule, f.What = "submission-not-originating", fmt.Sprintf("%s leads to %s, not to %s", feeds[0].parameter, feeds[0].listener.Address, own.Address)
		f.Why = "Mail of our own people counts as mail from outside: it is not signed, and its senders get no reports."
	}
	c.add(f)
}

// checkCompleted: what mail programs leave out of the header is to be added
// before Postern signs it. Who logs in is no address of this machine, so the
// default adds nothing.
func (c *checker) checkCompleted(v *Service) {
	if mend := c.completeEdits(v); mend != nil {
		c.add(Finding{
			Rule: "submission-rewrite", Where: place(v, rewriteClients), What: rewriteClients + " is " + c.system.value(v, rewriteClients) + " for " + v.key(),
			Why:  "A Date or Message-ID that a mail program left out is added by another server on the way, and the signature of Postern breaks, which says that there is none.",
			Mend: mend,
		})
	}
}

const rewriteClients = "local_header_rewrite_clients"

// completeEdits has v complete the header of those who log in; nil if it does.
func (c *checker) completeEdits(v *Service) []Edit {
	for _, word := range list(c.system.value(v, rewriteClients)) {
		if word == "static:all" || strings.HasPrefix(word, "permit_sasl_authenticated") || strings.HasPrefix(word, "permit_tls_") {
			return nil
		}
	}
	return []Edit{v.set(rewriteClients, "static:all")}
}

// checkRelayClients looks for networks whose mail Postfix sends to the world,
// and that are strangers for Postern.
func (c *checker) checkRelayClients() {
	if c.postern.Own == nil {
		return
	}
	for _, v := range c.services((*Service).world) {
		feeds := c.feedsOf(v)
		if len(feeds) == 0 || slices.ContainsFunc(feeds, func(f *feed) bool { return f.listener.Originating }) {
			continue
		}
		var strangers []string
		for _, word := range list(c.system.value(v, "mynetworks")) {
			prefix, err := netip.ParsePrefix(strings.NewReplacer("[", "", "]", "").Replace(word))
			if err != nil {
				addr, err := netip.ParseAddr(strings.Trim(word, "[]"))
				if err != nil {
					continue // a table, a file, an exclusion
				}
				prefix = netip.PrefixFrom(addr, addr.BitLen())
			}
			// what runs here is its own matter
			if !prefix.Addr().Unmap().IsLoopback() && !c.postern.Own(prefix.Masked()) {
				strangers = append(strangers, word)
			}
		}
		if len(strangers) > 0 {
			c.add(Finding{
				Rule: "mynetworks-strangers", Where: place(v, "mynetworks"), What: fmt.Sprintf("mynetworks has %s, which no originating bank of Postern covers", strings.Join(strangers, ", ")),
				Why: "Postfix relays for these clients, but to Postern they are strangers: their mail is not signed, and who sends a virus from there is not told. Name them in own_networks or client_banks of Postern, or take them out here.",
			})
		}
	}
}

// checkListeners looks for listeners to which nothing leads.
func (c *checker) checkListeners() {
	for i := range c.postern.Listeners {
		l := &c.postern.Listeners[i]
		reached := func(f *feed) bool { return f.listener == l }
		if !l.feedable() || slices.ContainsFunc(c.feeding(), reached) || c.reachable(l) || slices.Contains(c.offered, l) {
			continue
		}
		kind, services := "smtp", c.services((*Service).world)
		if l.Originating {
			kind, services = "submission", c.services((*Service).submission)
		}
		f := Finding{
			Rule: "listener-unfed", Where: "master.cf", What: fmt.Sprintf("nothing leads to the listener %s %s", l.Protocol, l.Address),
			Why: "Mail that is meant to be checked there passes by, or the listener is not needed.",
		}
		switch {
		case len(services) == 0:
			f.Why = fmt.Sprintf("There is no service %s that could lead to it; give it to the one that takes this mail in.", kind)
		case len(c.feedsOf(services[0])) == 0:
			f.Mend = c.feedEdits(l, services...)
		}
		c.add(f)
	}
}

// reachable: a socket that is found, but out of reach of its feed.
func (c *checker) reachable(l *Listener) bool {
	return slices.ContainsFunc(c.all, func(f feed) bool { return f.outOfReach == l })
}

// checkMilters judges the services that call milters, ours above all.
func (c *checker) checkMilters() {
	general := list(c.system.value(nil, "smtpd_milters"))
	for _, v := range c.system.Services {
		if v.Command == "smtpd" && v.overrides("smtpd_milters") && !c.taker(v) {
			c.checkHidden(v, general)
		}
	}
	for _, f := range c.feeding() {
		if f.listener.Protocol == "milter" && strings.HasSuffix(f.parameter, "milters") {
			c.checkMilter(f)
		}
		if f.parameter != "smtpd_proxy_filter" {
			continue
		}
		const name = "smtpd_proxy_timeout"
		if is := c.system.value(f.service, name); tooShort(is, c.postern.Deadline) {
			c.add(Finding{
				Rule: "proxy-timeout", Where: place(f.service, name), What: fmt.Sprintf("%s is %s, limits.deadline is %s", name, is, seconds(c.postern.Deadline)),
				Why:  "Postfix refuses the message while Postern may still hand it on.",
				Mend: []Edit{c.set(f.service, name, c.postern.milterTimeout())},
			})
		}
		if m := c.system.value(f.service, "smtpd_milters"); m != "" {
			c.add(Finding{
				Rule: "proxy-milters", Where: f.service.place(), What: "smtpd_proxy_filter together with smtpd_milters",
				Why:  "Before a proxy filter milters see the commands only, no header and no body.",
				Mend: []Edit{f.service.set("content_filter", c.feedTransport()+":"+f.listener.nexthop()), c.drop(f.service, "smtpd_proxy_filter")},
			})
		}
	}
}

// drop takes a parameter out where it is set.
func (c *checker) drop(v *Service, name string) Edit {
	if v.overrides(name) {
		return v.drop(name)
	}
	return dropMain(name)
}

// checkHidden: a service's own list takes the place of main.cf's. An empty one
// says that none shall be called, and is left alone.
func (c *checker) checkHidden(v *Service, general []string) {
	own := list(c.system.value(v, "smtpd_milters"))
	var known, hidden []string
	for _, m := range own {
		address, _ := milterOptions(m)
		known = append(known, address)
	}
	for _, m := range general {
		if address, _ := milterOptions(m); !slices.Contains(known, address) {
			hidden = append(hidden, m)
		}
	}
	if len(own) == 0 || len(hidden) == 0 {
		return
	}
	c.add(Finding{
		Rule: "milters-hidden", Where: v.place(), What: "-o smtpd_milters hides " + strings.Join(hidden, ", ") + " of main.cf",
		Why:  "A list given for a service takes the place of that in main.cf, so these milters are never called for its mail.",
		Mend: []Edit{v.set("smtpd_milters", joinMilters(append(own, hidden...)))},
	})
}

// checkMilter judges how a service calls a listener of ours.
func (c *checker) checkMilter(f *feed) {
	for _, option := range []string{"milter_default_action", "milter_content_timeout"} {
		is, braced := c.milterOption(f, option)
		finding := Finding{Rule: "milter-action", Where: place(f.service, option), What: option + " is " + is}
		var want string
		switch {
		case option == "milter_content_timeout" && tooShort(is, c.postern.Deadline):
			want, finding.Rule = c.postern.milterTimeout(), "milter-timeout"
			finding.What += ", limits.deadline is " + seconds(c.postern.Deadline)
			finding.Why = "Postfix gives up before Postern has answered, and takes the default action for the message."
		case option == "milter_default_action" && is == "accept":
			want, finding.Why = "tempfail", "While Postern is away, mail passes unchecked."
		case option == "milter_default_action" && is == "reject":
			want, finding.Why = "tempfail", "While Postern is away, good mail is refused for good."
		default:
			continue
		}
		if braced {
			finding.Where = place(f.service, f.parameter)
			finding.What = strings.TrimPrefix(finding.What, "milter_") + ", for " + f.target
			finding.Mend = []Edit{c.set(f.service, f.parameter, c.withMilterOption(f, option, want))}
		} else {
			finding.Mend = []Edit{c.set(f.service, option, want)}
		}
		c.add(finding)
	}
}

// milterOption is what holds for the feed: its own braces, or the service.
func (c *checker) milterOption(f *feed, name string) (value string, braced bool) {
	for _, m := range list(c.system.value(f.service, f.parameter)) {
		address, options := milterOptions(m)
		if value, ok := options[strings.TrimPrefix(name, "milter_")]; ok && address == f.target {
			return value, true
		}
	}
	return c.system.value(f.service, name), false
}

// withMilterOption is the list with that option of this milter changed.
func (c *checker) withMilterOption(f *feed, name, want string) string {
	var out []string
	for _, m := range list(c.system.value(f.service, f.parameter)) {
		if address, options := milterOptions(m); address == f.target && options != nil {
			options[strings.TrimPrefix(name, "milter_")] = want
			m = address
			for _, k := range slices.Sorted(maps.Keys(options)) {
				m += "," + k + "=" + options[k]
			}
			m = "{" + m + "}"
		}
		out = append(out, m)
	}
	return joinMilters(out)
}

func tooShort(value string, deadline time.Duration) bool {
	d, ok := duration(value)
	return ok && d < deadline+margin
}

// checkMain judges what holds for all services.
func (c *checker) checkMain() {
	c.checkSize()
	if is := c.system.value(nil, "smtp_line_length_limit"); is != "0" && c.pick(true) != nil {
		c.add(Finding{
			Rule: "outgoing-line-length", Where: "main.cf", What: "smtp_line_length_limit is " + is,
			Why:  "On the way out Postfix cuts longer lines, which breaks the signature that Postern has just made.",
			Mend: []Edit{setMain("smtp_line_length_limit", "0")},
		})
	}
	if !c.system.Version.has(bareNewlineSince...) {
		return
	}
	for _, v := range c.system.Services {
		const name = "smtpd_forbid_bare_newline"
		if v.Command != "smtpd" || c.taker(v) {
			continue
		}
		if what, why := c.bareNewline(v); what != "" {
			c.add(Finding{Rule: "bare-newline", Where: place(v, name), What: what, Why: why, Mend: []Edit{c.set(v, name, "yes")}})
		}
	}
}
