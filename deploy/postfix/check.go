package postfix

// The judgement as a whole, and what the parts of it share.

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// checker collects the findings of one run.
type checker struct {
	postern  *Postern
	system   *System
	all      []feed
	takers   []*Service            // the services that take mail back from us
	inner    []*Service            // the cleanup services that only they use
	offered  []*Listener           // those to which some finding leads mail
	joins    map[*Service][]string // milters that some finding adds to the list of a service
	leaves   map[*Service]bool     // services of whose milters ours is to be none
	findings []Finding
}

// Check says what in s does not fit p, the worst first within each part of the
// way of a message. Nothing found means that mail goes to Postern and back as
// it should, as far as the two configurations can tell.
func Check(p *Postern, s *System) []Finding {
	c := &checker{postern: p, system: s, joins: map[*Service][]string{}}
	c.all = c.feeds()
	hops := c.reinjections()
	c.leaves = c.leaving()
	for _, hop := range hops {
		c.checkReinjection(hop)
	}
	c.checkAddressMappings()
	c.checkTransports()
	c.checkTargets()
	c.checkServices()
	c.checkRelayClients()
	c.checkListeners()
	c.checkMilters()
	c.checkResults()
	c.checkProxies()
	c.checkSockets()
	c.checkMain()
	c.checkVersion()
	// the last change to a service is the one after which it has another name
	for _, hop := range hops {
		c.checkOpen(hop)
	}
	for i := range c.findings {
		for j, e := range c.findings[i].Mend {
			if s.Dir != "" {
				c.findings[i].Mend[j] = append(Edit{"-c", s.Dir}, e...)
			}
		}
	}
	return c.findings
}

// add notes a finding once: services that inherit a mistake from main.cf all
// show the same one.
func (c *checker) add(f Finding) {
	same := func(g Finding) bool { return g.Rule == f.Rule && g.Where == f.Where && g.What == f.What }
	if !slices.ContainsFunc(c.findings, same) {
		c.findings = append(c.findings, f)
	}
}

// place names the service, or main.cf where the value comes from there.
func place(v *Service, parameter string) string {
	if v == nil || !v.overrides(parameter) {
		return "main.cf"
	}
	return v.place()
}

func (v *Service) place() string { return "master.cf " + v.key() }

// set changes a parameter where it is set now.
func (c *checker) set(v *Service, parameter, value string) Edit {
	if v == nil || !v.overrides(parameter) {
		return setMain(parameter, value)
	}
	return v.set(parameter, value)
}

// taker reports whether v takes mail back from us: what it does is judged
// there, and not with the services for the world.
func (c *checker) taker(v *Service) bool {
	return slices.Contains(c.takers, v) || slices.Contains(c.inner, v)
}

// feeding lists the feeds that lead to a listener and do not come from a
// service that takes mail back.
func (c *checker) feeding() []*feed {
	var out []*feed
	for i := range c.all {
		if f := &c.all[i]; f.listener != nil && !c.taker(f.service) {
			out = append(out, f)
		}
	}
	return out
}

// feedsOf lists them for one service.
func (c *checker) feedsOf(v *Service) []*feed {
	return slices.DeleteFunc(c.feeding(), func(f *feed) bool { return f.service != v })
}

// feedEdits lets the services feed l, with the transport that this needs.
func (c *checker) feedEdits(l *Listener, services ...*Service) []Edit {
	var out []Edit
	if l.afterQueue() && len(services) > 0 {
		out = c.transportEdits(c.feedTransport())
	}
	if len(services) > 0 {
		c.offered = append(c.offered, l)
	}
	for _, v := range services {
		switch l.Protocol {
		case "milter":
			c.join(v, l)
			out = append(out, c.miltersEdit(v, smtpdMilters))
		case "smtp-proxy":
			out = append(out, v.set(proxyFilter, l.nexthop()), v.set("smtpd_proxy_options", "speed_adjust"))
		default:
			out = append(out, v.set("content_filter", c.feedTransport()+":"+l.nexthop()))
		}
	}
	return out
}

// join adds l to the milters that v is to call.
func (c *checker) join(v *Service, l *Listener) {
	if m := c.milterAddress(l); !slices.Contains(c.joins[v], m) {
		c.joins[v] = append(c.joins[v], m)
	}
}

// milterAddress is how a list of milters names l.
func (c *checker) milterAddress(l *Listener) string {
	return inQueue(l.nexthop(), c.system.value(nil, "queue_directory"))
}

const defaultQueue = "/var/spool/postfix"

// inQueue writes a path relative to the queue directory where it can be, so that
// it holds within a chroot and outside.
func inQueue(address, queue string) string {
	if rest, ok := strings.CutPrefix(address, "unix:"+path.Clean(queue)+"/"); ok {
		return "unix:" + rest
	}
	return address
}

// feedTransport is the name of the transport to use for a new feed: the one in
// use, or else the usual one.
func (c *checker) feedTransport() string {
	for _, f := range c.feeding() {
		if f.client != nil && f.client.Command == "lmtp" && !slices.Contains(shared, f.transport) {
			return f.transport
		}
	}
	return feedTransport
}

// joinMilters writes a list that postconf -P takes: without white space.
func joinMilters(milters []string) string {
	var out []string
	for _, m := range milters {
		if inner, ok := unbrace(m); ok {
			m = "{" + strings.Join(list(inner), ",") + "}"
		}
		out = append(out, m)
	}
	return strings.Join(out, ",")
}

// port is the number on which an inet service listens.
func (v *Service) port() string {
	if v.Type != "inet" {
		return ""
	}
	return parseEndpoint(inetName(v.Name), "").port
}

// submission reports a service for our own people, world one for strangers.
func (v *Service) submission() bool {
	return v.Command == "smtpd" && (v.port() == "587" || v.port() == "465")
}

func (v *Service) world() bool {
	return v.Command == "smtpd" && (v.Type == "pass" || v.port() == "25")
}

// services lists those of a kind that do not take mail back.
func (c *checker) services(kind func(*Service) bool) []*Service {
	var out []*Service
	for _, v := range c.system.Services {
		if kind(v) && !c.taker(v) {
			out = append(out, v)
		}
	}
	return out
}

// holds reports whether a list as in mynetworks holds addr. A list with tables
// or host names in it cannot be judged from here and is taken to hold it.
func holds(networks string, addr netip.Addr) bool {
	for _, pattern := range list(networks) {
		pattern, not := strings.CutPrefix(pattern, "!")
		bare := strings.NewReplacer("[", "", "]", "").Replace(pattern)
		if bare == "localhost" {
			bare = "127.0.0.1"
		}
		prefix, err := netip.ParsePrefix(bare)
		if err != nil {
			a, err := netip.ParseAddr(bare)
			if err != nil {
				return true
			}
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
		if prefix.Contains(addr) {
			return !not
		}
	}
	return false
}
