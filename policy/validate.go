package policy

// What the reader of YAML cannot see: names that must exist, addresses,
// networks, domains and numbers that make sense.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"postern/filter/mail"
	"postern/policy/lookup"
	"postern/policy/senderlist"
	"postern/policy/strict"
)

// validate judges the configuration as a whole, fills what depends on the
// host and resolves paths.
func (l *loader) validate() {
	l.names()
	l.lists()
	l.listeners()
	l.banks()
	l.rules("recipients", l.cfg.Recipients, "the direction is that of the message, not of one recipient")
	l.rules("senders", l.cfg.Senders, "anybody can write any sender on an envelope")
	l.keys()
	l.limits()
	l.archivePasswords()
	l.authentication()
	l.engineOptions()
	l.sqlLookup()
	c := l.cfg
	l.state()
	c.Spool.Dir = l.resolve(c.Spool.Dir)
	switch c.Log.To {
	case "", "stdout", "-":
		l.At("log.to", "want stderr, syslog or a file, not "+strict.Quote(c.Log.To), "")
	case "stderr", "syslog":
	default:
		c.Log.To = l.resolve(c.Log.To)
	}
	if !logIdent.MatchString(c.Log.Ident) {
		l.At("log.ident", "want one word, not "+strict.Quote(c.Log.Ident), "")
	}
}

// state finds the folders for what is kept, and checks how long it is.
func (l *loader) state() {
	c := l.cfg
	if c.State.Dir == "" {
		// systemd.exec(5): several are parted by colons
		c.State.Dir, _, _ = strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	}
	c.State.Dir = l.resolve(cmp.Or(c.State.Dir, "/var/lib/postern"))
	c.Quarantine.Dir = l.resolve(cmp.Or(c.Quarantine.Dir, filepath.Join(c.State.Dir, "quarantine")))
	q := &c.Quarantine
	if least := Days(24 * time.Hour); q.Keep < least {
		l.At("quarantine.keep", "must be "+least.String()+" or more", "what is kept is worth nothing if nobody can look at it")
	}
	if least := mail.Size(16 << 20); q.Size < least {
		l.At("quarantine.size", "must be "+least.String()+" or more", "units are KiB, MiB and GiB")
	}
	if q.DigestTo == "" {
		q.DigestTo = mail.Address("postmaster@" + c.Domain)
	}
}

// logIdent is what fits in APP-NAME of RFC 5424 and is seen as a tag by
// readers of the older form.
var logIdent = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,48}$`)

func (l *loader) resolve(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.dir, p)
}

// names checks and fills hostname, domain and notify_from.
func (l *loader) names() {
	c := l.cfg
	given := c.Hostname != ""
	if !given {
		c.Hostname, _ = os.Hostname()
	}
	name, problem := lookup.ParseDomain(c.Hostname)
	if _, err := netip.ParseAddr(c.Hostname); err == nil {
		problem = "want a name, not the address " + strict.Quote(c.Hostname)
	}
	switch {
	case problem == "":
		c.Hostname = name
	case given:
		l.At("hostname", problem, "want a name, for example mail.example.org")
	default:
		l.At("hostname", "the name of this system will not do: "+problem, "set hostname")
	}
	if c.Domain == "" {
		c.Domain = c.Hostname
		if _, parent, ok := strings.Cut(c.Hostname, "."); ok {
			c.Domain = parent
		}
	}
	// what comes from a bad hostname is told there
	if c.Domain, problem = lookup.ParseDomain(c.Domain); problem != "" && l.Given("domain") {
		l.At("domain", problem, "want a name, for example example.org")
	}
	if c.NotifyFrom == "" {
		c.NotifyFrom = mail.Address("postmaster@" + c.Hostname)
	}
}

// lists checks domains and networks, each entry for itself, so that each
// mistake has its place.
func (l *loader) lists() {
	c := l.cfg
	for i, d := range c.LocalDomains {
		key := fmt.Sprintf("local_domains[%d]", i)
		if _, err := lookup.ParseDomains(l.dir, []string{d}); err != nil {
			l.entry(key, err)
		} else if !strings.HasPrefix(d, "file:") {
			not, dot, name := cutMarks(d)
			name, _ = lookup.ParseDomain(name)
			c.LocalDomains[i] = not + dot + name
		}
	}
	l.networks("own_networks", c.OwnNetworks)
	for i, cb := range c.ClientBanks {
		key := fmt.Sprintf("client_banks[%d]", i)
		if l.Bad(key) {
			continue
		}
		if len(cb.Networks) == 0 && !l.BadBelow(key+".networks") {
			l.At(key, "no networks", `for every client write networks: [0.0.0.0/0, "::/0"]`)
		}
		l.networks(key+".networks", cb.Networks)
		if len(cb.Banks) == 0 && !l.BadBelow(key+".bank") {
			l.At(key, "no bank", "name the bank for these clients")
		}
		for j, b := range cb.Banks {
			l.bankExists(fmt.Sprintf("%s.bank[%d]", key, j), b)
		}
	}
	l.bankLists()
}

// bankLists checks the entries that choose banks by a list of something else
// than networks.
func (l *loader) bankLists() {
	logins := func(s string) error { return lookup.CheckWords(l.dir, []string{s}) }
	for i, x := range l.cfg.AuthBanks {
		l.bankList(fmt.Sprintf("auth_banks[%d]", i), "users", x.Users, logins, `for everybody who has authenticated himself write users: "*"`, x.Banks)
	}
	for i, x := range l.cfg.DaemonBanks {
		l.bankList(fmt.Sprintf("daemon_banks[%d]", i), "daemons", x.Daemons, logins, "name the services, as milter_macro_daemon_name does", x.Banks)
	}
	for i, x := range l.cfg.SignerBanks {
		l.bankList(fmt.Sprintf("signer_banks[%d]", i), "domains", x.Domains, func(s string) error {
			_, err := lookup.ParseDomains(l.dir, []string{s})
			return err
		}, "name the domains whose signature counts", x.Banks)
	}
}

func (l *loader) bankList(key, what string, list []string, check func(string) error, hint string, banks []string) {
	if l.Bad(key) {
		return
	}
	if len(list) == 0 && !l.BadBelow(key+"."+what) {
		l.At(key, "no "+what, hint)
	}
	for i, s := range list {
		if err := check(s); err != nil {
			l.entry(fmt.Sprintf("%s.%s[%d]", key, what, i), err)
		}
	}
	if len(banks) == 0 && !l.BadBelow(key+".bank") {
		l.At(key, "no bank", "name the bank for these "+what)
	}
	for i, b := range banks {
		l.bankExists(fmt.Sprintf("%s.bank[%d]", key, i), b)
	}
}

// cutMarks splits "!.example.org" into its marks and the name.
func cutMarks(d string) (not, dot, name string) {
	name, ok := strings.CutPrefix(d, "!")
	if ok {
		not = "!"
	}
	if name, ok = strings.CutPrefix(name, "."); ok {
		dot = "."
	}
	return not, dot, name
}

func (l *loader) networks(key string, list []string) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		if _, err := lookup.ParseNetworks(l.dir, []string{s}); err != nil {
			l.entry(at, err)
			continue
		}
		// an address with a length is more likely a slip than a network
		plain := strings.NewReplacer("!", "", "[", "", "]", "", " ", "").Replace(s)
		if p, err := netip.ParsePrefix(plain); err == nil && p != p.Masked() {
			l.At(at, fmt.Sprintf("%s is an address within its network", plain),
				fmt.Sprintf("the network is %s, the address alone %s", p.Masked(), p.Addr()))
		}
	}
}

// entry reports what is wrong with an entry of a list; a file may hold many
// mistakes.
func (l *loader) entry(key string, err error) {
	const most = 10
	lines := strings.Split(err.Error(), "\n")
	for _, line := range lines[:min(len(lines), most)] {
		l.At(key, line, "")
	}
	if n := len(lines) - most; n > 0 {
		l.At(key, fmt.Sprintf("the list has %d more mistakes", n), "")
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (l *loader) bankExists(key, name string) {
	if l.cfg.Banks[name] != nil {
		return
	}
	known := slices.Sorted(maps.Keys(l.cfg.Banks))
	hint := "defined are " + strings.Join(known, ", ")
	if near := strict.Nearest(name, known); near != "" {
		hint = "nearest is " + strict.Quote(near)
	}
	l.At(key, "there is no bank "+strict.Quote(name), hint)
}

// banks checks the base and the banks.
func (l *loader) banks() {
	l.overlayValues("settings", l.base)
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Banks)) {
		l.overlayValues("banks."+name, l.cfg.Banks[name])
	}
}

func (l *loader) overlayValues(path string, o *Overlay) {
	for i, x := range o.values {
		key := settingsLeaves().list[x.leaf].key
		what, hint := checkSetting(key, x.value.Interface())
		switch text, _ := x.value.Interface().(string); key {
		case "templates":
			dir := l.resolve(text)
			o.values[i].value = reflect.ValueOf(dir)
			l.cfg.templates = append(l.cfg.templates, TemplateDir{dir, x.origin})
		case "forward_to", "notify_to":
			if what == "" && l.cfg.LeadsBack(text) {
				what, hint = text+" is a listener of ours: mail would go in circles", "want the address at which Postfix takes mail back"
			}
		}
		if what != "" {
			l.Mistake(x.at, path+"."+key+": "+what, hint)
		}
		if rules, ok := x.value.Interface().([]senderlist.Rule); ok {
			for i := range rules {
				if err := rules[i].Compile(l.dir); err != nil {
					l.entry(fmt.Sprintf("%s.%s[%d].match", path, key, i), err)
				}
			}
		}
	}
}

// mostPoints is more than any kill_level needs.
const mostPoints = 1000

// checkSetting judges what the type of a setting leaves open.
func checkSetting(key string, value any) (what, hint string) {
	switch key {
	case "forward_to", "notify_to":
		if _, err := mail.ParseNextHop(value.(string)); err != nil {
			return err.Error(), "for example smtp://127.0.0.1:10025"
		}
	case "dmarc.score.reject", "dmarc.score.quarantine":
		if p := value.(float64); p < 0 || p > mostPoints {
			return fmt.Sprintf("want points from 0 to %d, not %v", mostPoints, p), "a score of kill_level is spam"
		}
	case "virus.quarantine", "banned.quarantine", "spam.quarantine", "bad_header.quarantine", "unchecked.quarantine", "oversized.quarantine":
		if to := value.(CopyTo).Address(); to != "" {
			if _, problem := lookup.ParseAddress(string(to)); problem != "" || !strings.Contains(string(to), "@") {
				return "want auto, true, false or an address, not " + strict.Quote(string(to)), "the folder is quarantine.dir"
			}
		} else if value.(CopyTo) == "" {
			return "want auto, true, false or an address", ""
		}
	case "oversized.bypass":
		if value.(bool) {
			return "the size is known without a check", "message_size: 0 is no limit"
		}
	case "oversized.address_extension", "oversized.subject_tag":
		if value.(string) != "" {
			return "mail is not marked for its size", ""
		}
	case "message_size":
		if value.(mail.Size) < 0 {
			return "want a size, 0 for none", ""
		}
	case "unchecked.bypass":
		if value.(bool) {
			return "UNCHECKED is no check that could be left out", "lover: true lets such mail pass; on_error: pass goes on when a check fails"
		}
	case "virus.address_extension", "banned.address_extension", "spam.address_extension", "bad_header.address_extension", "unchecked.address_extension":
		if strings.ContainsFunc(value.(string), func(r rune) bool {
			return !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.", r)
		}) {
			return strict.Quote(value.(string)) + " cannot stand in an address", "letters, digits, - and _ can; recipient_delimiter is put before it"
		}
	case "virus.fakes_sender":
		for _, p := range value.([]string) {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				return strict.Quote(p) + " is no shell pattern", `for example "*Phish*"; a bracket must be closed`
			}
		}
	}
	return "", ""
}

// rules checks recipients or senders. why says what is wrong with originating
// there.
func (l *loader) rules(list string, rules []Rule, why string) {
	for i, r := range rules {
		key := fmt.Sprintf("%s[%d]", list, i)
		if l.Bad(key) {
			continue
		}
		if len(r.Match) == 0 && !l.BadBelow(key+".match") {
			l.At(key, "no match", `for all addresses write match: "."`)
		}
		for j, m := range r.Match {
			if err := lookup.CheckAddresses(l.dir, []string{m}); err != nil {
				l.entry(fmt.Sprintf("%s.match[%d]", key, j), err)
			}
		}
		if len(r.Settings.values) == 0 && !l.BadBelow(key+".settings") {
			l.At(key, "no settings", "say what is different for these addresses")
		}
		l.overlayValues(key+".settings", r.Settings)
		for _, x := range r.Settings.values {
			if settingsLeaves().list[x.leaf].key == "originating" {
				l.Mistake(x.at, key+".settings.originating: not possible here", why)
			}
		}
	}
}

func (l *loader) keys() {
	c := l.cfg
	first := map[string]Origin{}
	for i := range c.DKIMKeys {
		k := &c.DKIMKeys[i]
		key := fmt.Sprintf("dkim_keys[%d]", i)
		if l.Bad(key) {
			continue
		}
		name, below := strings.CutPrefix(k.Domain, ".")
		name, problem := lookup.ParseDomain(name)
		switch {
		case k.Domain == "" && l.BadBelow(key+".domain"):
		case k.Domain == "":
			l.At(key, "no domain", "want the domain of the author")
		case problem != "":
			l.At(key+".domain", problem, "")
		default:
			k.Domain = name
			if below {
				k.Domain = "." + name
			}
		}
		selector, problem := lookup.ParseDomain(k.Selector)
		switch {
		case k.Selector == "" && l.BadBelow(key+".selector"):
		case k.Selector == "":
			l.At(key, "no selector", "want the name under which the public key is published")
		case problem != "":
			l.At(key+".selector", strings.Replace(problem, "domain", "selector", 1), "")
		case strings.Contains(selector, "_domainkey"):
			short, _, _ := strings.Cut(selector, "._domainkey")
			l.At(key+".selector", strict.Quote(selector)+" holds more than the selector", "write "+short)
		default:
			k.Selector = selector
		}
		if k.Key == "" && !l.BadBelow(key+".key") {
			l.At(key, "no key", "want the file of the private key; postern dkim keygen makes one")
		}
		if !k.Until.IsZero() && !k.From.Before(k.Until.Time) {
			l.At(key+".until", "it is not after from: the key would never sign", "")
		}
		k.Key = l.resolve(k.Key)
		id := k.Selector + "._domainkey." + k.Domain
		if o, ok := first[id]; ok && k.Domain != "" && k.Selector != "" {
			l.At(key, "selector "+k.Selector+" of "+k.Domain+" is given twice", "first at "+o.String())
		} else {
			first[id] = k.Origin
		}
	}
}

func (l *loader) limits() {
	m := &l.cfg.Limits
	for _, x := range []struct {
		key   string
		value int64
	}{
		{"message_size", int64(m.MessageSize)}, {"recipients", int64(m.Recipients)}, {"sessions", int64(m.Sessions)}, {"sessions_per_client", int64(m.SessionsPerClient)},
		{"idle", int64(m.Idle)}, {"data_idle", int64(m.DataIdle)}, {"deadline", int64(m.Deadline)},
		{"check_deadline", int64(m.CheckDeadline)}, {"received", int64(m.Received)},
		{"unpack.size", int64(m.Unpack.Size)}, {"unpack.ratio", int64(m.Unpack.Ratio)}, {"unpack.parts", int64(m.Unpack.Parts)},
		{"unpack.depth", int64(m.Unpack.Depth)}, {"unpack.entries", int64(m.Unpack.Entries)},
		{"unpack.nesting", int64(m.Unpack.Nesting)}, {"unpack.time", int64(m.Unpack.Time)},
		{"unpack.memory", int64(m.Unpack.Memory)},
	} {
		if x.value <= 0 {
			l.At("limits."+x.key, "must be above 0", "")
		}
	}
	for key, n := range map[string]int{"reports": m.Reports, "notices": m.Notices} {
		if n < 0 {
			l.At("limits."+key, "must not be below 0", "0 is no limit")
		}
	}
	if m.CheckDeadline >= m.Deadline && m.Deadline > 0 {
		key := "limits.check_deadline"
		if !l.Given(key) {
			key = "limits.deadline"
		}
		l.At(key, fmt.Sprintf("check_deadline (%s) must be below deadline (%s)", m.CheckDeadline, m.Deadline), "the rest of the time is for handing the message on")
	}
	// RFC 5321 section 4.5.3.1.8
	if m.Recipients > 0 && m.Recipients < 100 {
		l.At("limits.recipients", "must be 100 or more", "RFC 5321 section 4.5.3.1.8")
	}
}

// authentication checks who is asked, and under which names results stand.
func (l *loader) authentication() {
	c := l.cfg
	if c.AuthservID == "" {
		c.AuthservID = c.Hostname
	} else if name, problem := lookup.ParseDomain(c.AuthservID); problem != "" {
		l.At("authserv_id", problem, "want a name, for example mail.example.org")
	} else {
		c.AuthservID = name
	}
	for i, id := range c.TrustedResults {
		name, problem := lookup.ParseDomain(id)
		if problem != "" {
			l.At(fmt.Sprintf("trusted_results[%d]", i), problem, "want the name that stands first in the fields, for example mail.example.org")
			continue
		}
		c.TrustedResults[i] = name
	}
	for i, s := range c.DNS.Servers {
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
				at = netip.AddrPortFrom(a, 53)
			}
		}
		if err != nil || at.Port() == 0 {
			l.At(fmt.Sprintf("dns.servers[%d]", i), strict.Quote(s)+" is no IP address", "for example 127.0.0.1 or [::1]:5353")
			continue
		}
		c.DNS.Servers[i] = at.String()
	}
}

// archivePasswords bounds what is tried: each takes up to a tenth of a second.
func (l *loader) archivePasswords() {
	const most, longest = 20, 128
	if len(l.cfg.ArchivePasswords) > most {
		l.At("archive_passwords", fmt.Sprintf("%d passwords are too many", len(l.cfg.ArchivePasswords)), fmt.Sprintf("want at most %d", most))
	}
	for i, p := range l.cfg.ArchivePasswords {
		if n := utf8.RuneCountInString(p); n == 0 || n > longest {
			l.At(fmt.Sprintf("archive_passwords[%d]", i), fmt.Sprintf("password of %d characters", n), fmt.Sprintf("want 1 to %d", longest))
		}
	}
}

func (l *loader) engineOptions() {
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Engines)) {
		key := "engines." + name
		if v, ok := l.cfg.Engines[name].(interface{ Validate() error }); ok && !l.BadBelow(key) {
			if err := v.Validate(); err != nil {
				l.At(key, oneLine(err), "")
			}
		}
	}
}
