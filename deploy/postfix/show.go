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
}

// pieces is all that Postfix needs for one configuration.
type pieces struct {
	main      []setting
	services  []*Service // the transport to Postern first
	additions []addition
}

func (p *Postern) pieces() pieces {
	transport := shippedTransport(p)
	out := pieces{main: p.mainSettings(transport), services: []*Service{transport}, additions: p.additions()}
	for _, hop := range p.NextHops {
		out.services = append(out.services, shippedReinjection(hop))
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
	Settings map[string]string `json:"settings"` // the -o options
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
		out.Add = append(out.Add, Piece{Service: a.service, Comment: a.comment, Settings: asMap(a.settings)})
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
				fmt.Fprintln(&b, Edit{"-P", a.service + "/" + s.name + "=" + s.value})
			}
		}
		b.WriteString("postfix check && postfix reload\n")
		return b.String()
	}
	b.WriteString("# main.cf\n")
	for _, s := range need.main {
		fmt.Fprintf(&b, "%s = %s\n", s.name, s.value)
	}
	b.WriteString("\n# master.cf, to Postern\n" + services[0].lines())
	for _, v := range services[1:] {
		b.WriteString("\n# master.cf, from Postern\n" + v.lines())
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

// additions leads the usual services to the listeners.
func (p *Postern) additions() []addition {
	var out []addition
	given := map[string]bool{}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		a := addition{service: "smtp/inet", comment: l.describe()}
		if l.Originating {
			a.service = "submission/inet"
		}
		switch {
		case !l.feedable():
			continue
		case l.Protocol == "milter":
			a.comment += "; the list takes the place of smtpd_milters in main.cf"
			a.settings = []setting{{"smtpd_milters", l.nexthop()}, {"milter_default_action", "tempfail"}, {"milter_content_timeout", p.milterTimeout()}}
		default:
			a.settings = []setting{{"content_filter", feedTransport + ":" + l.nexthop()}}
			if l.Originating {
				// what lacks Date or Message-ID gets them before it is signed
				a.settings = append(a.settings, setting{"local_header_rewrite_clients", "static:all"})
			}
		}
		if given[a.service] {
			a.comment += "; one of the listeners for this service is enough"
		}
		given[a.service] = true
		out = append(out, a)
	}
	return out
}

func (l *Listener) describe() string {
	if l.Bank == "" {
		return l.Protocol + " " + l.Address + ", no bank"
	}
	return l.Protocol + " " + l.Address + ", bank " + l.Bank
}
