package postfix

// The ways on which Postfix hands mail to something, and which of them lead to
// a listener of Postern.

import (
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
)

// endpoint is an address in one form, so that two can be compared.
type endpoint struct {
	path       string // of a socket; then the others are empty
	host, port string
}

var wellKnownPorts = map[string]string{"smtp": "25", "submission": "587", "smtps": "465", "submissions": "465", "lmtp": "24"}

// parseEndpoint reads host:port, [host]:port, inet:..., unix:/path and port.
func parseEndpoint(s, defaultPort string) endpoint {
	for _, prefix := range []string{"unix:", "local:"} {
		if p, ok := strings.CutPrefix(s, prefix); ok {
			return endpoint{path: p}
		}
	}
	s = strings.TrimPrefix(s, "inet:")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), defaultPort
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if p, ok := wellKnownPorts[port]; ok {
		port = p
	}
	return endpoint{host: host, port: port}
}

func (e endpoint) addr() netip.Addr {
	a, _ := netip.ParseAddr(e.host)
	return a.Unmap()
}

func (e endpoint) loopback() bool { return e.addr().IsLoopback() }

// reaches reports whether who connects to e arrives at a server on l.
func (e endpoint) reaches(l endpoint) bool {
	if e.path != "" || l.path != "" {
		return e.path != "" && path.Clean(e.path) == path.Clean(l.path)
	}
	everywhere := l.host == "" || l.host == "*" || l.addr().IsUnspecified()
	return e.port == l.port && (e.host == l.host || everywhere && (e.host == "" || e.loopback()))
}

// nexthop is the address as content_filter and the milter lists want it.
func (l *Listener) nexthop() string {
	if strings.HasPrefix(l.Address, "unix:") {
		return l.Address
	}
	e := parseEndpoint(l.Address, "")
	if e.host == "" || e.host == "*" || e.addr().IsUnspecified() {
		e.host = "127.0.0.1"
	}
	if l.Protocol == "milter" {
		return "inet:" + net.JoinHostPort(e.host, e.port)
	}
	return "[" + e.host + "]:" + e.port
}

// feed is one way on which a service of Postfix hands mail to a program.
type feed struct {
	service   *Service
	parameter string    // content_filter, smtpd_proxy_filter, FILTER (in a restriction), smtpd_milters, non_smtpd_milters
	target    string    // as written
	transport string    // name in front of the address, of content_filter and FILTER
	client    *Service  // the transport of that name; nil: master.cf has none
	to        endpoint  // where it leads, if that can be told
	listener  *Listener // of ours that is there; nil: none
	// the socket would be ours, were the service not in its chroot
	outOfReach *Listener
}

// milter reports whether it is one that Postfix asks, and does not hand over to.
func (f *feed) milter() bool { return strings.HasSuffix(f.parameter, "milters") }

// fits reports whether the listener speaks what the service does. After the
// queue its client is a queue, before the queue it is a client who waits.
func (f *feed) fits() bool {
	l := f.listener
	return f.parameter == l.parameter() || f.parameter == otherMilters && l.Protocol == "milter" || f.parameter == "FILTER" && l.afterQueue()
}

// parameter is the one that leads mail of smtpd to l.
func (l *Listener) parameter() string {
	switch l.Protocol {
	case "milter":
		return smtpdMilters
	case "smtp-proxy":
		return proxyFilter
	}
	return "content_filter"
}

// inherited reports whether main.cf sets it, not the service.
func (f *feed) inherited() bool { return !f.service.overrides(f.parameter) }

// feeds lists all ways out of services that take mail in.
func (c *checker) feeds() []feed {
	var out []feed
	for _, v := range c.system.Services {
		switch v.Command {
		case "smtpd":
			out = append(out, c.contentFilter(v)...)
			if target := c.system.value(v, "smtpd_proxy_filter"); target != "" {
				out = append(out, c.arrive(feed{service: v, parameter: "smtpd_proxy_filter", target: target}, v, target, "25"))
			}
			for _, name := range smtpdRestrictions {
				out = append(out, c.filterActions(v, c.system.value(v, name))...)
			}
			out = append(out, c.milters(v, "smtpd_milters")...)
		case "pickup", "qmqpd":
			out = append(out, c.contentFilter(v)...)
		case "cleanup":
			for _, name := range []string{"header_checks", "mime_header_checks", "nested_header_checks", "body_checks"} {
				out = append(out, c.filterActions(v, c.system.value(v, name))...)
			}
			out = append(out, c.milters(v, "non_smtpd_milters")...)
		}
	}
	return out
}

func (c *checker) contentFilter(v *Service) []feed {
	target := c.system.value(v, "content_filter")
	if target == "" {
		return nil
	}
	return []feed{c.route(feed{service: v, parameter: "content_filter", target: target})}
}

var filterAction = regexp.MustCompile(`(?i)\bFILTER\s+([^\s},]+)`)

// FilterTargets finds the targets of FILTER actions in the text of an access
// or header_checks table.
func FilterTargets(text string) []string {
	var out []string
	for _, m := range filterAction.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// filterActions are the FILTER actions in a list of restrictions or tables.
func (c *checker) filterActions(v *Service, value string) []feed {
	targets := FilterTargets(value)
	for _, table := range list(value) {
		targets = append(targets, c.system.Filters[table]...)
	}
	slices.Sort(targets)
	var out []feed
	for _, target := range slices.Compact(targets) {
		out = append(out, c.route(feed{service: v, parameter: "FILTER", target: target}))
	}
	return out
}

// route follows transport:nexthop.
func (c *checker) route(f feed) feed {
	name, nexthop, _ := strings.Cut(f.target, ":")
	f.transport, f.client = name, c.transport(name)
	if f.client != nil && f.client.Command != "lmtp" && f.client.Command != "smtp" {
		return f // a program, or another daemon: no address
	}
	port := "25"
	if f.client == nil || f.client.Command == "lmtp" {
		port = "24"
	}
	return c.arrive(f, f.client, nexthop, port)
}

func (c *checker) transport(name string) *Service {
	for _, v := range c.system.Services {
		if v.Name == name && v.Type == "unix" {
			return v
		}
	}
	return nil
}

func (c *checker) milters(v *Service, name string) []feed {
	var out []feed
	for _, m := range list(c.system.value(v, name)) {
		address, _ := milterOptions(m)
		out = append(out, c.arrive(feed{service: v, parameter: name, target: address}, v, address, ""))
	}
	return out
}

// milterOptions takes "{ inet:host:port, name=value ... }" apart.
func milterOptions(m string) (address string, options map[string]string) {
	inner, ok := unbrace(m)
	if !ok {
		return m, nil
	}
	options = map[string]string{}
	for _, w := range list(inner) {
		if name, value, ok := strings.Cut(w, "="); ok {
			options[name] = value
		} else if address == "" {
			address = w
		}
	}
	return address, options
}

// arrive looks who listens on the address to which process v connects. A path
// that is relative, or seen from a chroot, begins at the queue directory.
func (c *checker) arrive(f feed, v *Service, address, port string) feed {
	f.to = parseEndpoint(address, port)
	written := f.to
	queue := c.system.value(nil, "queue_directory")
	if f.to.path != "" && (!path.IsAbs(f.to.path) || v != nil && c.system.chrooted(v)) {
		f.to.path = path.Join(queue, f.to.path)
	}
	for i := range c.postern.Listeners {
		l := &c.postern.Listeners[i]
		at := parseEndpoint(l.Address, "")
		switch {
		case f.to.reaches(at):
			f.listener = l
		case written.path != "" && written.reaches(at):
			f.outOfReach = l
		}
	}
	return f
}
