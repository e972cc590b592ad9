// Package postfix knows how Postfix has to be set up around Postern: [Check]
// judges a Postfix that is there, [Show] gives the pieces for one that is to be
// set up. Both work from the files main.cf and master.cf of this folder; what
// each of their lines is for is told in README.md.
//
// The package knows nothing of Postern's configuration file. Start with
// [Postern], the facts that Postfix has to fit, and [System], what Postfix has.
package postfix

import (
	"cmp"
	_ "embed" // for the files below
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed master.cf
var shippedMaster string

//go:embed main.cf
var shippedMain string

// Postern is what Postern's configuration says, as far as Postfix has to fit.
type Postern struct {
	Listeners    []Listener
	NextHops     []string      // where mail goes back by SMTP, as host:port
	Deadline     time.Duration // from the end of a message to our answer
	Sessions     int           // at once, on each listener
	PeerSessions int           // at once from one IP address of another machine, on each listener
	MessageSize  int64         // octets
	Recipients   int           // of one message
	AuthservID   string        // name under which Authentication-Results are written
	Trusting     bool          // results that come in under this name stay
	// Own reports whether all clients of a network are our own people, by the
	// bank of their address; nil: not known
	Own func(netip.Prefix) bool
}

// Listener is one address on which Postern takes mail.
type Listener struct {
	Protocol    string // lmtp, smtp, smtp-proxy, milter or am.pdp
	Address     string // host:port, or unix:/path
	Bank        string // "" for none
	Originating bool   // what comes in here is mail of our own people
	// from the end of a message to our answer, where it is not that of all
	Deadline  time.Duration
	LocalBank bool        // there is a bank for mail without a connection
	Mode      fs.FileMode // of a socket; 0: as the umask leaves it
	Owner     string      // user:group; empty: who starts Postern
}

// feedable reports whether Postfix can and should be led to l.
func (l *Listener) feedable() bool { return l.Protocol != "am.pdp" }

func (l *Listener) afterQueue() bool { return l.Protocol == "lmtp" || l.Protocol == "smtp" }

// Finding is one thing in Postfix that does not fit.
type Finding struct {
	Rule  string // a short name that stays the same, for scripts
	Where string // "main.cf", or "master.cf" with service and type
	What  string
	Why   string // one sentence
	Mend  []Edit // in this order; empty when postconf cannot mend it
}

// Edit is one change to main.cf or master.cf: the arguments of postconf(1).
type Edit []string

// String returns the command, quoted for a shell.
func (e Edit) String() string {
	words := []string{"postconf"}
	for _, arg := range e {
		if strings.ContainsFunc(arg, needsQuotes) || arg == "" {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

func needsQuotes(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !plain && !strings.ContainsRune("-_./=:,@", r)
}

func setMain(name, value string) Edit { return Edit{"-e", name + "=" + value} }

func dropMain(name string) Edit { return Edit{"-X", name} }

// set overrides one parameter for a service. postconf -P takes no white space
// in a value; lists may have commas in its place.
func (v *Service) set(name, value string) Edit {
	return Edit{"-P", v.key() + "/" + name + "=" + strings.Join(strings.Fields(value), ",")}
}

func (v *Service) drop(name string) Edit { return Edit{"-PX", v.key() + "/" + name} }

func (v *Service) field(name, value string) Edit {
	return Edit{"-F", v.key() + "/" + name + "=" + value}
}

// whole adds the service, or puts it in the place of one of that name.
func (v *Service) whole() Edit { return Edit{"-M", v.key() + "=" + v.line()} }

// The margin between Postern's deadline and the patience of Postfix: the last
// octets of a large message, and the answer, are under way for a while.
const margin = 30 * time.Second

// feedTransport is the name that the transport to Postern has in the files of
// this folder, and in most set-ups made for Amavis.
const feedTransport = "amavisfeed"

// shippedTransport is the transport to Postern, fitted to p.
func shippedTransport(p *Postern) *Service {
	v := shippedService(func(v *Service) bool { return v.Name == feedTransport })
	if limit := p.peerLimit(); limit > 0 && atoi(v.Limit) > limit {
		v.Limit = strconv.Itoa(limit)
	}
	v.option("lmtp_data_done_timeout", p.doneTimeout())
	return v
}

// doneTimeout is the shipped lmtp_data_done_timeout if it is long enough.
func (p *Postern) doneTimeout() string {
	shipped := shippedService(func(v *Service) bool { return v.Name == feedTransport }).options()["lmtp_data_done_timeout"]
	if d, ok := duration(shipped); ok && d >= p.Deadline+margin {
		return shipped
	}
	return seconds(2 * p.Deadline)
}

// The same for a proxy before the queue, which has a bound of its own that fits
// Postfix' default. Ten seconds of it are for a handler that overruns.
const proxyMargin = 20 * time.Second

// deadline is how long l may take for a message.
func (p *Postern) deadline(l *Listener) time.Duration { return cmp.Or(l.Deadline, p.Deadline) }

// proxyTimeout is Postfix' own smtpd_proxy_timeout if it is long enough.
func (p *Postern) proxyTimeout(l *Listener) string {
	return seconds(max(100*time.Second, p.deadline(l)+proxyMargin))
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

// peerLimit is how many sessions Postfix, which is one client, can have on
// each listener.
func (p *Postern) peerLimit() int {
	limit := p.Sessions
	for i := range p.Listeners {
		n, _ := p.sessionLimit(&p.Listeners[i])
		limit = min(limit, n)
	}
	return limit
}

// sessionLimit is peerLimit for one listener, with the name of the limit. A
// Postfix on this machine counts for all sessions only.
func (p *Postern) sessionLimit(l *Listener) (limit int, name string) {
	e := parseEndpoint(l.Address, "")
	if p.PeerSessions < p.Sessions && e.path == "" && !e.loopback() {
		return p.PeerSessions, "limits.sessions_per_client"
	}
	return p.Sessions, "limits.sessions"
}

// shippedReinjection is the service that takes mail back on host:port.
func shippedReinjection(hop string) *Service {
	v := shippedService(func(v *Service) bool { return v.Type == "inet" })
	v.Name = hop
	e := parseEndpoint(hop, "25")
	v.option("syslog_name", "postfix/"+e.port)
	if own := ownNetwork(e); own != "127.0.0.0/8" {
		for _, name := range []string{"mynetworks", "smtpd_authorized_xforward_hosts"} {
			v.option(name, own)
		}
	}
	return v
}

// ownNetwork are the clients of the service on e that Postern may be.
func ownNetwork(e endpoint) string {
	switch {
	case e.host == "::1":
		return "[::1]/128"
	case e.loopback():
		return "127.0.0.0/8"
	case strings.Contains(e.host, ":"):
		return "[" + e.host + "]/128"
	}
	return "127.0.0.0/8," + e.host + "/32"
}

func shippedService(is func(*Service) bool) *Service {
	services, err := ParseMaster(shippedMaster)
	if i := slices.IndexFunc(services, is); err == nil && i >= 0 {
		return services[i]
	}
	panic("postfix: master.cf of this folder lacks a service")
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
