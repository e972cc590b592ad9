package postfix

// Before the queue by milter: how the services call ours, and what else they
// call.

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const smtpdMilters, otherMilters = "smtpd_milters", "non_smtpd_milters"

// atWork is how often a milter of ours tells Postfix that it is still at work,
// which makes Postfix wait anew.
const atWork = 60 * time.Second

// checkMilters judges the services that call milters, ours above all.
func (c *checker) checkMilters() {
	for _, v := range c.system.Services {
		if v.Command == "smtpd" && v.overrides(smtpdMilters) && !c.taker(v) {
			c.checkHidden(v)
		}
	}
	for _, f := range c.feeding() {
		if f.listener.Protocol != "milter" || !f.milter() {
			continue
		}
		c.checkMilter(f)
		c.checkMacros(f)
		c.checkOrder(f)
		if proxy := c.system.value(f.service, proxyFilter); proxy != "" && !c.fedByProxy(f.service) {
			c.add(Finding{
				Rule: "proxy-milters", Where: f.service.place(), What: proxyFilter + " " + proxy + " together with " + smtpdMilters,
				Why: "Before a proxy filter milters see the commands only, no header and no body: Postern finds nothing and refuses nothing. Give the other filter another place, or take this one out.",
			})
		}
	}
	c.checkTwice()
	c.checkLocalMail()
	c.checkMilterSessions()
}

// called is one milter in a list.
type called struct {
	written string // as the list has it, perhaps by the name of a parameter
	address string
	options map[string]string // in braces
	ours    *Listener
}

// milterList reads the list of v, or with nil that of main.cf.
func (c *checker) milterList(v *Service, parameter string) []called {
	e := expansion{system: c.system, left: maxReferences}
	if v != nil {
		e.own = v.options()
	}
	var out []called
	for _, word := range list(e.raw(parameter)) {
		meant := list(e.expand(word))
		for _, m := range meant {
			x := called{written: m}
			if len(meant) == 1 && !strings.ContainsAny(word, " \t") {
				x.written = word
			}
			x.address, x.options = milterOptions(m)
			if l := c.arrive(feed{}, v, x.address, "").listener; l != nil && l.Protocol == "milter" {
				x.ours = l
			}
			out = append(out, x)
		}
	}
	return out
}

// hidden are the milters of main.cf that a list of the service's own takes the
// place of. An empty list says that none shall be called, and is left alone; so
// is one without ours where mail comes to us by another way.
func (c *checker) hidden(v *Service) []called {
	if v == nil || !v.overrides(smtpdMilters) {
		return nil
	}
	own := c.milterList(v, smtpdMilters)
	if len(own) == 0 {
		return nil
	}
	var out []called
	for _, m := range c.milterList(nil, smtpdMilters) {
		known := slices.ContainsFunc(own, func(x called) bool { return x.address == m.address })
		if !known && !(m.ours != nil && len(c.feedsOf(v)) > 0) {
			out = append(out, m)
		}
	}
	return out
}

func (c *checker) checkHidden(v *Service) {
	var hidden []string
	for _, m := range c.hidden(v) {
		hidden = append(hidden, m.written)
	}
	if len(hidden) == 0 {
		return
	}
	c.add(Finding{
		Rule: "milters-hidden", Where: v.place(), What: "-o smtpd_milters hides " + strings.Join(hidden, ", ") + " of main.cf",
		Why:  "A list given for a service takes the place of that in main.cf, so these milters are never called for its mail.",
		Mend: []Edit{c.miltersEdit(v, smtpdMilters)},
	})
}

// miltersEdit changes the list of v, or that of main.cf where v has none of its
// own, into what it should be. Each finding about a list has the same edit, so
// that it does not matter how many of them are mended.
func (c *checker) miltersEdit(v *Service, parameter string) Edit {
	if v != nil && !v.overrides(parameter) && !c.leaves[v] && len(c.joins[v]) == 0 {
		return setMain(parameter, joinMilters(c.wanted(v, parameter)))
	}
	return v.set(parameter, joinMilters(c.wanted(v, parameter)))
}

// wanted is the list of milters as it should be: those that are there, with the
// options that ours need, then what the list hides, and ours behind those that
// verify signatures.
func (c *checker) wanted(v *Service, parameter string) []string {
	var out, ours []string
	hidden := []called(nil)
	if parameter == smtpdMilters {
		hidden = c.hidden(v)
	}
	for _, m := range append(c.milterList(v, parameter), hidden...) {
		switch {
		case m.ours == nil:
			out = append(out, m.written)
		case !c.leaves[v]:
			m.written = c.mendOptions(m)
			ours, out = append(ours, m.written), append(out, m.written)
		}
	}
	ours, out = append(ours, c.joins[v]...), append(out, c.joins[v]...)
	if c.early(v, parameter) == "" && !slices.ContainsFunc(hidden, called.verifies) {
		return out
	}
	out = slices.DeleteFunc(out, func(m string) bool { return slices.Contains(ours, m) })
	return append(out, ours...)
}

// mendOptions is the entry of ours with what is wrong in its braces mended.
func (c *checker) mendOptions(m called) string {
	changed := false
	for _, name := range milterSettings {
		short := strings.TrimPrefix(name, "milter_")
		if is, ok := m.options[short]; ok {
			if _, want, _ := c.milterFault(m.ours, name, is); want != "" {
				m.options[short], changed = want, true
			}
		}
	}
	if !changed {
		return m.written
	}
	out := "{" + m.address
	for _, k := range slices.Sorted(maps.Keys(m.options)) {
		out += "," + k + "=" + m.options[k]
	}
	return out + "}"
}

// milterSettings are the settings of Postfix' side that ours needs: for all
// milters by these names, for one in its braces without the prefix.
var milterSettings = []string{"milter_default_action", "milter_content_timeout", "milter_protocol"}

// milterFault says what is wrong with one of them; the empty string for nothing.
func (c *checker) milterFault(l *Listener, name, is string) (rule, want, why string) {
	switch name {
	case "milter_default_action":
		switch is {
		case "accept":
			why = "While Postern is away, or Postfix does not understand what it says, mail passes unchecked."
		case "quarantine":
			why = "While Postern is away mail goes to the hold queue, and what is released from there is not shown to it again: it is delivered unchecked."
		case "reject":
			why = "While Postern is away, good mail is refused for good."
		default:
			return "", "", ""
		}
		return "milter-action", "tempfail", why
	case "milter_content_timeout":
		if d, ok := duration(is); ok && d < min(c.postern.deadline(l), atWork)+margin {
			return "milter-timeout", "300s", "Postfix gives up before Postern has answered, and takes the default action for the message. Postern says once a minute that it is at work."
		}
	case "milter_protocol":
		words := list(is)
		if len(words) > 0 && atoi(words[0]) < 6 {
			words[0] = "6"
			return "milter-protocol", strings.Join(words, ","), "Before version 6 Postern cannot say that it is still at work, and Postfix takes the blank before the value of each header field away, which signatures cover."
		}
	}
	return "", "", ""
}

// checkMilter judges how a service calls a listener of ours.
func (c *checker) checkMilter(f *feed) {
	for _, name := range milterSettings {
		is, braced := c.milterOption(f, name)
		rule, want, why := c.milterFault(f.listener, name, is)
		if want == "" {
			continue
		}
		finding := Finding{Rule: rule, Where: place(f.service, name), What: name + " is " + is, Why: why}
		if braced {
			finding.Where = place(f.service, f.parameter)
			finding.What = strings.TrimPrefix(finding.What, "milter_") + ", for " + f.target
			finding.Mend = []Edit{c.miltersEdit(f.service, f.parameter)}
		} else {
			finding.Mend = []Edit{c.set(f.service, name, want)}
		}
		c.add(finding)
	}
}

// milterOption is what holds for the feed: its own braces, or the service.
func (c *checker) milterOption(f *feed, name string) (value string, braced bool) {
	for _, m := range c.milterList(f.service, f.parameter) {
		if value, ok := m.options[strings.TrimPrefix(name, "milter_")]; ok && m.address == f.target {
			return value, true
		}
	}
	return c.system.value(f.service, name), false
}

// milterMacros are the macros that Postern uses. Postfix sends them by default;
// who sets a list takes the place of all of it.
var milterMacros = []struct{ parameter, macro, without string }{
	{"milter_connect_macros", "{daemon_name}", "daemon_banks choose nothing"},
	{"milter_helo_macros", "{tls_version}", "mail that came by TLS counts as plain"},
	{"milter_mail_macros", "{auth_authen}", "nobody counts as logged in, and auth_banks choose nothing"},
	{"milter_mail_macros", "{auth_type}", "the way of the login is not known"},
	{"milter_end_of_data_macros", "i", "the log has no queue id"},
}

func (c *checker) checkMacros(f *feed) {
	for i := 0; i < len(milterMacros); {
		name := milterMacros[i].parameter
		want := list(c.system.value(f.service, name))
		var missing, without []string
		for ; i < len(milterMacros) && milterMacros[i].parameter == name; i++ {
			if m := milterMacros[i]; !slices.Contains(want, m.macro) {
				missing, without = append(missing, m.macro), append(without, m.without)
			}
		}
		// mail of sendmail(1) has no connection and no login: the queue id is all that is left
		if len(missing) == 0 || f.parameter == otherMilters && name != "milter_end_of_data_macros" {
			continue
		}
		c.add(Finding{
			Rule: "milter-macros", Where: place(f.service, name), What: name + " lacks " + strings.Join(missing, ", "),
			Why:  "Postern does not learn it: " + strings.Join(without, "; ") + ".",
			Mend: []Edit{c.set(f.service, name, strings.Join(append(want, missing...), " "))},
		})
	}
}

// A milter that verifies signatures, as far as its address tells: the usual
// names, and the ports that are usual for OpenDKIM and OpenDMARC.
var verifier = regexp.MustCompile(`(?i)dkim|dmarc|openarc|spf|:(?:8891|8893|12301)$`)

func (m called) verifies() bool { return verifier.MatchString(m.address) }

// early returns a milter that verifies signatures, and that comes after ours in
// the list. Where our own people send it is one that signs, and right there.
func (c *checker) early(v *Service, parameter string) string {
	if v != nil && v.submission() {
		return ""
	}
	ours := false
	for _, m := range c.milterList(v, parameter) {
		if m.ours == nil && ours && m.verifies() {
			return m.address
		}
		ours = ours || m.ours != nil
	}
	return ""
}

func (c *checker) checkOrder(f *feed) {
	if late := c.early(f.service, f.parameter); late != "" && f.parameter == smtpdMilters {
		c.add(Finding{
			Rule: "milter-order", Where: place(f.service, f.parameter), What: "Postern stands before " + late,
			Why:  "A milter sees what those before it have changed. A subject that Postern marks breaks the sender's signature, and the verdict of that one is wrong; and mail that it refuses need not be scanned.",
			Mend: []Edit{c.miltersEdit(f.service, f.parameter)},
		})
	}
}

// checkTwice looks for services whose mail we see before the queue and after
// it. The way to a listener for our own people is kept, for all others the
// one on which a refusal reaches the client.
func (c *checker) checkTwice() {
	for _, v := range c.system.Services {
		before, after := c.twoWays(v)
		if before == nil {
			continue
		}
		finding := Finding{
			Rule: "filtered-twice", Where: v.place(), What: fmt.Sprintf("%s leads to %s, and %s to %s", before.parameter, before.listener.Address, after.parameter, after.listener.Address),
			Why: "The same mail is checked twice, and each time it is marked and logged.",
		}
		switch {
		case !c.leaves[v]:
			finding.Mend = []Edit{v.set("content_filter", "")}
		case before.parameter == proxyFilter:
			finding.Mend = []Edit{v.set(proxyFilter, "")}
		default:
			finding.Mend = []Edit{c.miltersEdit(before.service, before.parameter)}
		}
		c.add(finding)
	}
}

// twoWays are the feeds to us before and after the queue, if there are both.
// The mail of pickup is shown to milters by cleanup.
func (c *checker) twoWays(v *Service) (before, after *feed) {
	for _, f := range c.feedsOf(v) {
		switch {
		case f.parameter == "content_filter" && f.listener.afterQueue():
			after = f
		case !f.listener.afterQueue() && f.fits():
			before = f
		}
	}
	if cleanup := c.cleanupOf(v); v.Command == "pickup" && cleanup != nil {
		for _, f := range c.feedsOf(cleanup) {
			if f.parameter == otherMilters && f.fits() {
				before = f
			}
		}
	}
	if before == nil || after == nil {
		return nil, nil
	}
	return before, after
}

// leaving finds the services from whose milters ours is to go: their mail comes
// to us after the queue, as that of our own people.
func (c *checker) leaving() map[*Service]bool {
	out := map[*Service]bool{}
	for _, v := range c.system.Services {
		if before, after := c.twoWays(v); before != nil && after.listener.Originating {
			out[v], out[before.service] = true, true
		}
	}
	return out
}

// checkLocalMail: who filters by milter alone forgets the mail of sendmail(1),
// which smtpd does not see.
func (c *checker) checkLocalMail() {
	milter := c.milterInUse()
	if milter == nil {
		return
	}
	for _, v := range c.system.Services {
		if v.Command != "pickup" || len(c.feedsOf(v)) > 0 || c.system.value(v, "content_filter") != "" {
			continue
		}
		cleanup := c.cleanupOf(v)
		if cleanup == nil || slices.ContainsFunc(c.feedsOf(cleanup), func(f *feed) bool { return f.parameter == otherMilters }) {
			continue
		}
		finding := Finding{
			Rule: "local-unfiltered", Where: v.place(), What: "mail of the sendmail command does not come to Postern",
			Why: "smtpd_milters are for mail that comes by SMTP. What programs of this machine send goes out unchecked and unsigned.",
		}
		if own := c.postern.localFeed(); own.afterQueue() {
			finding.Mend = c.feedEdits(own, v)
		} else {
			c.join(cleanup, own)
			list := joinMilters(c.wanted(cleanup, otherMilters))
			finding.Mend = []Edit{c.set(cleanup, otherMilters, list)}
		}
		c.add(finding)
	}
}

// milterInUse is a listener of ours that smtpd calls.
func (c *checker) milterInUse() *Listener {
	for _, f := range c.feeding() {
		if f.parameter == smtpdMilters && f.fits() {
			return f.listener
		}
	}
	return nil
}

// localFeed is where mail of the sendmail command should go: to a milter that
// has a bank for it, else to the listener of our own people after the queue;
// where there is neither, to any milter. nil if there is no milter at all.
func (p *Postern) localFeed() *Listener {
	var milter, own *Listener
	for i := range p.Listeners {
		l := &p.Listeners[i]
		switch {
		case l.Protocol == "milter" && l.LocalBank:
			return l
		case l.Protocol == "milter":
			milter = cmp.Or(milter, l)
		case l.afterQueue() && l.Originating:
			own = cmp.Or(own, l)
		}
	}
	if milter == nil {
		return nil
	}
	return cmp.Or(own, milter)
}

// checkMilterSessions: each smtpd process with a client has a session with us.
func (c *checker) checkMilterSessions() {
	for i := range c.postern.Listeners {
		l := &c.postern.Listeners[i]
		limit, name := c.postern.sessionLimit(l)
		n, from := 0, []string(nil)
		for _, f := range c.feeding() {
			if f.listener == l && f.parameter == smtpdMilters && f.fits() && !c.leaves[f.service] {
				n += c.system.limit(f.service)
				from = append(from, f.service.key())
			}
		}
		if n > limit {
			c.add(Finding{
				Rule: "milter-sessions", Where: "master.cf", What: fmt.Sprintf("up to %d clients at once by %s, and %s of Postern is %d", n, strings.Join(from, ", "), name, limit),
				Why: "Postern closes the sessions beyond its limit, and their clients are put off. Let the limit be at least " + strconv.Itoa(n) + ", or that of the processes lower.",
			})
		}
	}
}
