package postfix

// The pieces for the configuration that Postern has.

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// setting is one parameter of main.cf or of a service.
type setting struct{ name, value string }

// addition is what one of the services that are there gets.
type addition struct {
	comment  string
	service  string // service/type
	settings []setting
	instead  bool // of another one for this service
}

// pieces is all that Postfix needs for one configuration.
type pieces struct {
	main      []setting
	services  []*Service
	additions []addition
}

func (p *Postern) pieces() pieces {
	transport := shippedTransport(p)
	out := pieces{main: append(p.mainSettings(transport), p.milterSettings()...), additions: p.additions()}
	if p.hasAfterQueue() {
		out.services = append(out.services, transport)
	}
	for _, hop := range p.NextHops {
		v := shippedReinjection(hop)
		if slices.ContainsFunc(p.Listeners, func(l Listener) bool { return l.feedable() && l.Protocol == "smtp-proxy" }) {
			// each client before the queue needs one of its processes as well
			v.Limit = strconv.Itoa(atoi(builtIn["default_process_limit"]) + atoi(transport.Limit))
		}
		out.services = append(out.services, v)
	}
	if len(p.NextHops) > 0 {
		out.services = append(out.services, shippedCleanup())
	}
	return out
}

// Pieces is what [Show] prints, in the form of its JSON.
type Pieces struct {
	Main     map[string]string `json:"main.cf"`
	Services []Piece           `json:"master.cf"`
	Add      []Piece           `json:"add"` // to services that are there
}

// Piece is a service of master.cf, or what one is to get.
type Piece struct {
	Service  string            `json:"service"`         // name/type
	Entry    string            `json:"entry,omitempty"` // the whole of it, on one line
	Comment  string            `json:"comment,omitempty"`
	Instead  bool              `json:"instead,omitempty"` // of another one for this service
	Settings map[string]string `json:"settings"`          // the -o options
}

// Show returns what Postfix needs for p.
func (p *Postern) Show() *Pieces {
	need := p.pieces()
	asMap := func(list []setting) map[string]string {
		out := map[string]string{}
		for _, s := range list {
			out[s.name] = s.value
		}
		return out
	}
	out := &Pieces{Main: asMap(need.main), Add: []Piece{}}
	for _, v := range need.services {
		out.Services = append(out.Services, Piece{Service: v.key(), Entry: v.line(), Settings: v.options()})
	}
	for _, a := range need.additions {
		out.Add = append(out.Add, Piece{Service: a.service, Comment: a.comment, Instead: a.instead, Settings: asMap(a.settings)})
	}
	return out
}

// Show returns what Postfix needs for p: as text for main.cf and master.cf, or
// as commands for a shell.
func Show(p *Postern, commands bool) string {
	var b strings.Builder
	need := p.pieces()
	services, additions := need.services, need.additions
	if commands {
		for _, s := range need.main {
			fmt.Fprintln(&b, setMain(s.name, s.value))
		}
		for _, v := range services {
			fmt.Fprintln(&b, v.whole())
		}
		for _, a := range additions {
			fmt.Fprintln(&b, "# "+a.comment)
			for _, s := range a.settings {
				off := ""
				if a.instead {
					off = "# "
				}
				fmt.Fprintln(&b, off+Edit{"-P", a.service + "/" + s.name + "=" + s.value}.String())
			}
		}
		b.WriteString("postfix check && postfix reload\n")
		return b.String()
	}
	b.WriteString("# main.cf\n")
	for _, s := range need.main {
		fmt.Fprintf(&b, "%s = %s\n", s.name, s.value)
	}
	for _, v := range services {
		way := "from"
		if v.Name == feedTransport {
			way = "to"
		}
		b.WriteString("\n# master.cf, " + way + " Postern\n" + v.lines())
	}
	for _, a := range additions {
		fmt.Fprintf(&b, "\n# master.cf, add to the service %s that is there: %s\n", strings.ReplaceAll(a.service, "/", " "), a.comment)
		for _, s := range a.settings {
			fmt.Fprintf(&b, "#  -o %s=%s\n", s.name, s.value)
		}
	}
	return b.String()
}

// mainSettings are those of the shipped main.cf, with as many deliveries at
// once as the transport has processes, and as many recipients of one message as
// Postern takes.
func (p *Postern) mainSettings(transport *Service) []setting {
	shipped, err := ParseMain(shippedMain)
	if err != nil {
		panic("postfix: main.cf of this folder: " + err.Error())
	}
	var out []setting
	for _, name := range slices.Sorted(maps.Keys(shipped)) {
		value := shipped[name]
		if strings.HasPrefix(name, feedTransport+"_") && !p.hasAfterQueue() {
			continue
		}
		if name == feedTransport+"_destination_concurrency_limit" && atoi(value) > atoi(transport.Limit) {
			value = strconv.Itoa(atoi(transport.Limit))
		}
		if name == feedTransport+recipientLimit {
			value = strconv.Itoa(p.recipients())
		}
		out = append(out, setting{name, value})
	}
	return out
}

func (p *Postern) hasAfterQueue() bool {
	return slices.ContainsFunc(p.Listeners, func(l Listener) bool { return l.afterQueue() })
}

// milterSettings give each milter a name, so that what Postfix has to know of
// it is said once.
func (p *Postern) milterSettings() []setting {
	var out []setting
	for i := range p.Listeners {
		if l := &p.Listeners[i]; l.Protocol == "milter" {
			// the names of options as in main.cf, without their prefix
			value := "{ " + inQueue(l.nexthop(), defaultQueue) + ", default_action=tempfail, content_timeout=300s, protocol=6 }"
			out = append(out, setting{p.milterName(l), value})
		}
	}
	if l := p.localFeed(); l != nil && l.Protocol == "milter" {
		out = append(out, setting{otherMilters, "$" + p.milterName(l)})
	}
	return out
}

// milterName is the parameter of main.cf that stands for l.
func (p *Postern) milterName(l *Listener) string {
	n := 0
	for i := range p.Listeners {
		if x := &p.Listeners[i]; x.Protocol == "milter" {
			n++
			if x == l && n > 1 {
				return "postern_milter" + strconv.Itoa(n)
			}
		}
	}
	return "postern_milter"
}

// additions leads the usual services to the listeners, mail from outside to one
// before the queue if there is one.
func (p *Postern) additions() []addition {
	var out []addition
	given := map[string]bool{}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if !l.feedable() {
			continue
		}
		a := addition{service: "smtp/inet", comment: l.describe()}
		if l.Originating {
			a.service = "submission/inet"
		} else if !l.afterQueue() {
			a.comment += "; with postscreen to smtpd pass"
		}
		switch l.Protocol {
		case "milter":
			a.comment += "; name those of main.cf in front of it, this list takes their place"
			a.settings = []setting{{smtpdMilters, "$" + p.milterName(l)}}
		case "smtp-proxy":
			a.comment += "; milters see no header and no body here"
			a.settings = []setting{{proxyFilter, l.nexthop()}, {"smtpd_proxy_timeout", p.proxyTimeout(l)}, {"smtpd_proxy_options", "speed_adjust"}}
		default:
			a.settings = []setting{{"content_filter", feedTransport + ":" + l.nexthop()}}
		}
		if l.Originating {
			// what lacks Date or Message-ID gets them before it is signed
			a.settings = append(a.settings, setting{rewriteClients, "static:all"})
		}
		a.instead = given[a.service] || l.afterQueue() && p.hasBefore(l.Originating)
		if a.instead {
			a.comment += "; instead of the other listener for this service, not with it"
		}
		given[a.service] = given[a.service] || !a.instead
		out = append(out, a)
	}
	if l := p.localFeed(); l != nil && l.afterQueue() {
		out = append(out, addition{service: "pickup/unix", comment: "mail of the sendmail command, which smtpd_milters do not see", settings: []setting{{"content_filter", feedTransport + ":" + l.nexthop()}}})
	}
	return out
}

// hasBefore reports whether there is a listener before the queue for that mail.
func (p *Postern) hasBefore(originating bool) bool {
	return slices.ContainsFunc(p.Listeners, func(l Listener) bool { return l.feedable() && !l.afterQueue() && l.Originating == originating })
}

func (l *Listener) describe() string {
	if l.Bank == "" {
		return l.Protocol + " " + l.Address + ", no bank"
	}
	return l.Protocol + " " + l.Address + ", bank " + l.Bank
}
