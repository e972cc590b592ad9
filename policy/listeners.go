package policy

// The addresses on which mail comes in: each must be one that the system can
// open, and no mail of ours may come back to it.

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
)

func (l *loader) listeners() {
	c := l.cfg
	if len(c.Listeners) == 0 && !l.BadBelow("listeners") {
		l.At("listeners", "no address to listen on", "leave the key out for the built-in ones")
	}
	for i := range c.Listeners {
		x := &c.Listeners[i]
		key := fmt.Sprintf("listeners[%d]", i)
		if l.Bad(key) {
			continue
		}
		if x.Protocol == "" && !l.BadBelow(key+".protocol") {
			l.At(key, "no protocol", "want "+strict.Or(words[reflect.TypeFor[mail.Input]()]))
		}
		if x.Bank != "" {
			l.bankExists(key+".bank", x.Bank)
		}
		l.listenerKeys(key, x)
		socket, isSocket := strings.CutPrefix(x.Address, "unix:")
		if isSocket {
			x.Address = "unix:" + l.resolve(socket)
		} else if x.Mode != 0 || x.Owner != "" {
			l.At(key, "mode and owner are for sockets only", "write address: unix:PATH, or remove them")
		}
		if x.Owner != "" && !ownerForm.MatchString(x.Owner) {
			l.At(key+".owner", "want user:group, not "+strict.Quote(x.Owner), `for example "postfix:postfix"`)
		}
		l.networks(key+".allow", x.Allow)
		if isSocket && len(x.Allow) > 0 {
			l.At(key+".allow", "a socket has no networks", "mode and owner say who may use it")
		}
		if problem, hint := checkListen(x.Address); problem != "" {
			l.At(key+".address", problem, hint)
			continue
		}
		for _, hop := range []string{"forward_to", "notify_to"} {
			if !l.base.Sets(hop) && leadsTo(c.Settings.Value(hop).(string), x.Address) {
				l.At(key+".address", x.Address+" is where "+hop+" sends mail unless the file says otherwise", "listen elsewhere, or set settings."+hop)
			}
		}
		for _, y := range c.Listeners[:i] {
			if y.Address == x.Address {
				l.At(key+".address", x.Address+" is given twice", "first at "+y.Origin.String())
				break
			}
			if clash(y.Address, x.Address) {
				l.At(key+".address", x.Address+" cannot be opened besides "+y.Address, "that is at "+y.Origin.String())
				break
			}
		}
	}
}

// ampdpFolder is where amavisd-milter puts its messages, in Debian too.
const ampdpFolder = "/var/lib/amavis/tmp"

// listenerKeys judges the keys that are for some protocols only.
func (l *loader) listenerKeys(key string, x *Listener) {
	for _, k := range []struct {
		name string
		is   mail.Input
		why  string
	}{
		{"split", mail.InputMilter, "each recipient has an answer of his own by lmtp; elsewhere recipients cannot be parted"},
		{"local_bank", mail.InputMilter, "only a milter is shown mail that has no connection"},
		{"folders", mail.InputAMPDP, "only its requests name files"},
		{"allow_banks", mail.InputAMPDP, "only its requests name banks"},
	} {
		if l.Given(key+"."+k.name) && x.Protocol != "" && x.Protocol != k.is {
			l.At(key+"."+k.name, fmt.Sprintf("not with protocol %s, it is for %s", x.Protocol, k.is), k.why)
		}
	}
	if x.LocalBank != "" {
		l.bankExists(key+".local_bank", x.LocalBank)
	}
	for i, b := range x.AllowBanks {
		l.bankExists(fmt.Sprintf("%s.allow_banks[%d]", key, i), b)
	}
	for i, f := range x.Folders {
		at := fmt.Sprintf("%s.folders[%d]", key, i)
		x.Folders[i] = filepath.Clean(l.resolve(f))
		switch {
		case f == "":
			l.At(at, "no folder", "for example "+ampdpFolder)
		case x.Folders[i] == "/":
			l.At(at, "every file of this machine is below /", "want the folder of amavisd-milter, for example "+ampdpFolder)
		}
	}
	if x.Protocol == mail.InputAMPDP && len(x.Folders) == 0 && !l.BadBelow(key+".folders") {
		x.Folders = []string{ampdpFolder}
	}
}

var ownerForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// maxSocketPath is sun_path of Linux without its final NUL.
const maxSocketPath = 107

// checkListen judges the address of a listener.
func checkListen(s string) (problem, hint string) {
	const examples = "for example 127.0.0.1:10024, [::1]:10024 or unix:/run/postern/lmtp.sock"
	if s == "" {
		return "no address", `want IP:PORT or unix:PATH`
	}
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case p == "" || strings.HasSuffix(p, "/"):
			return "no path of a socket in " + strict.Quote(s), "for example unix:/run/postern/lmtp.sock"
		case len(p) > maxSocketPath:
			return "the path of the socket is longer than 107 bytes", ""
		}
		return "", ""
	}
	if strings.HasPrefix(s, "/") {
		return "want IP:PORT or unix:PATH, not " + strict.Quote(s), "write unix:" + s
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "want IP:PORT or unix:PATH, not " + strict.Quote(s), examples
	}
	n, err := strconv.ParseUint(port, 10, 16)
	badPort := err != nil || strconv.FormatUint(n, 10) != port
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		hint = examples
		if !badPort {
			hint = "for example 127.0.0.1:" + port
		}
		return "want an IP address, not " + strict.Quote(host), hint
	}
	if badPort {
		return "port " + strict.Quote(port) + " is not a number from 0 to 65535", ""
	}
	return "", ""
}

// clash reports whether the system can not open both addresses.
func clash(a, b string) bool {
	if pathA, pathB, sockets := bothSockets(a, b); sockets {
		return filepath.Clean(pathA) == filepath.Clean(pathB)
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return holdsHost(hostA, hostB) || holdsHost(hostB, hostA)
}

// leadsTo reports whether mail for a next hop would come to a listener.
func leadsTo(hop, listener string) bool {
	h, err := mail.ParseNextHop(hop)
	if err != nil {
		return false
	}
	if h.Network == "unix" {
		path, ok := strings.CutPrefix(listener, "unix:")
		return ok && filepath.Clean(path) == filepath.Clean(h.Address)
	}
	host, port, _ := net.SplitHostPort(h.Address)
	at, atPort, err := net.SplitHostPort(listener)
	if err != nil || port != atPort {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return holdsHost(at, "127.0.0.1") || holdsHost(at, "::1")
	}
	// what listens everywhere is reached by any address of this host, of
	// which those of loopback are known here
	to, err := netip.ParseAddr(host)
	if err == nil && !to.IsLoopback() && !to.IsUnspecified() {
		own, err := netip.ParseAddr(at)
		return err == nil && own.Unmap() == to.Unmap()
	}
	return err == nil && (holdsHost(at, host) || holdsHost(host, at))
}

func bothSockets(a, b string) (pathA, pathB string, ok bool) {
	pathA, okA := strings.CutPrefix(a, "unix:")
	pathB, okB := strings.CutPrefix(b, "unix:")
	return pathA, pathB, okA && okB
}

// holdsHost reports whether what listens on host, an IP address or "" for all,
// gets what is sent to the other. [::] takes IPv4 too.
func holdsHost(host, other string) bool {
	if host == "" {
		return true
	}
	a, errA := netip.ParseAddr(host)
	b, errB := netip.ParseAddr(other)
	if errA != nil || errB != nil {
		return false
	}
	a, b = a.Unmap(), b.Unmap()
	return a == b || a.IsUnspecified() && (a.Is6() || b.Is4())
}

// LeadsBack reports whether a next hop is a listener of ours: mail would go in
// circles.
func (c *Config) LeadsBack(hop string) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return leadsTo(hop, l.Address) })
}
