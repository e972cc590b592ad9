package postfix

// The services that take mail from outside, and what main.cf says for all of
// them.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
			var mend []Edit
			if !f.milter() {
				if mend = c.feedEdits(other, v); other.parameter() != f.parameter {
					mend = append(mend, v.set(f.parameter, ""))
				}
			}
			c.add(Finding{
				Rule: "strangers-originating", Where: v.place(), What: fmt.Sprintf("%s leads to %s, whose bank %s is originating", f.parameter, f.listener.Address, f.listener.Bank),
				Why:  "Mail from strangers counts as mail of our own people: it is signed, and reports go to forged senders.",
				Mend: mend,
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

// pickProxy is the same for smtpd_proxy_filter.
func (c *checker) pickProxy(originating bool) *Listener {
	for i := range c.postern.Listeners {
		if l := &c.postern.Listeners[i]; l.Protocol == "smtp-proxy" && l.Originating == originating && l.feedable() {
			return l
		}
	}
	return nil
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
		if l.afterQueue() && c.fedBefore(services) {
			continue // it is there to be used instead
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

// fedBefore reports whether all these services lead to us before the queue.
func (c *checker) fedBefore(services []*Service) bool {
	for _, v := range services {
		if !slices.ContainsFunc(c.feedsOf(v), func(f *feed) bool { return !f.listener.afterQueue() && f.fits() }) {
			return false
		}
	}
	return len(services) > 0
}

// reachable: a socket that is found, but out of reach of its feed.
func (c *checker) reachable(l *Listener) bool {
	return slices.ContainsFunc(c.all, func(f feed) bool { return f.outOfReach == l })
}

// drop takes a parameter out where it is set.
func (c *checker) drop(v *Service, name string) Edit {
	if v.overrides(name) {
		return v.drop(name)
	}
	return dropMain(name)
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
