package postfix

// The service that takes mail back from Postern, 127.0.0.1:10025 as shipped.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var smtpdRestrictions = []string{
	"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions",
	"smtpd_recipient_restrictions", "smtpd_data_restrictions", "smtpd_end_of_data_restrictions",
}

// reinjection is one next hop of ours that is this Postfix.
type reinjection struct {
	hop     string // host:port as Postern has it
	to      endpoint
	service *Service // nil: master.cf has none there
}

// reinjections finds the services of the next hops. One on another machine is
// not ours to judge.
func (c *checker) reinjections() []reinjection {
	var out []reinjection
	for _, hop := range c.postern.NextHops {
		r := reinjection{hop: hop, to: parseEndpoint(hop, "25")}
		for _, v := range c.system.Services {
			if v.Type == "inet" && r.to.reaches(parseEndpoint(inetName(v.Name), "")) {
				r.service = v
				break
			}
		}
		if r.service != nil {
			c.takers = append(c.takers, r.service)
		}
		if r.service != nil || r.to.loopback() {
			out = append(out, r)
		}
	}
	for _, v := range c.takers {
		if s := c.cleanupOf(v); s != nil && c.onlyTakers(s) {
			c.inner = append(c.inner, s)
		}
	}
	return out
}

// inetName writes the name of an inet service, host:port or port, as host:port.
func inetName(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return ":" + name
}

func (c *checker) checkReinjection(r reinjection) {
	v := r.service
	if v == nil || v.Command != "smtpd" {
		f := Finding{
			Rule: "reinject-missing", Where: "master.cf", What: "no service takes mail back on " + r.hop,
			Why:  "Postern cannot hand on what passes: all mail waits in the queue.",
			Mend: []Edit{shippedReinjection(r.hop).whole(), shippedCleanup().whole()},
		}
		if v != nil {
			f.Where, f.What = v.place(), fmt.Sprintf("the program on %s is %s, not smtpd", r.hop, v.Command)
			f.Mend = append([]Edit{{"-MX", v.key()}}, f.Mend...)
		}
		c.add(f)
		return
	}
	c.checkLoop(v)
	c.checkOverrides(v)
	c.checkTaking(r)
	c.checkBareNewline(r)
	c.checkTakeRate(v)
}

// checkLoop looks for mail that comes back to Postern again and again.
func (c *checker) checkLoop(v *Service) {
	looped := map[string]bool{}
	for _, f := range c.all {
		if f.service != v || f.milter() || f.listener == nil && (f.parameter != "content_filter" || !f.inherited()) {
			continue
		}
		why := "What Postern hands back is handed to Postern again, until it is refused as a loop."
		if f.listener == nil {
			why = "Mail that Postern has signed and handed back goes through that filter, for which main.cf asks and not this service."
		}
		looped[f.parameter] = true
		finding := Finding{Rule: "reinject-loop", Where: v.place(), What: f.parameter + " leads to " + f.target, Why: why, Mend: []Edit{v.set(f.parameter, "")}}
		if f.parameter == "FILTER" {
			finding.What = "FILTER in a restriction leads to " + f.target
			finding.Mend = nil
			shipped := shippedReinjection(v.Name).options()
			for _, name := range smtpdRestrictions {
				if len(c.filterActions(v, c.system.value(v, name))) > 0 {
					finding.Mend = append(finding.Mend, v.set(name, shipped[name]))
				}
			}
		} else if f.inherited() {
			finding.What += ", inherited from main.cf"
		}
		c.add(finding)
	}
	if !v.overrides("content_filter") && !looped["content_filter"] {
		c.add(Finding{
			Rule: "reinject-content-filter", Where: v.place(), What: "there is no content_filter=",
			Why:  "On the day on which main.cf gets a content_filter, mail would go round and round.",
			Mend: []Edit{v.set("content_filter", "")},
		})
	}
}

// What has been done when the mail came in, and what it would do a second time.
var receiveOverrides = []struct{ name, why string }{
	{"no_unknown_recipient_checks", "a recipient that is refused now costs a report to the sender"},
	{"no_header_body_checks", "header_checks would act on mail twice, and may change what is signed"},
	{"no_milters", "milters would see mail twice, and may change what is signed"},
}

func (c *checker) checkOverrides(v *Service) {
	var missing, why []string
	has := list(c.system.value(v, "receive_override_options"))
	for _, o := range receiveOverrides {
		done := o.name == "no_milters" && v.overrides("smtpd_milters") && c.system.value(v, "smtpd_milters") == ""
		if slices.Contains(has, o.name) || done {
			continue
		}
		if o.name == "no_milters" && slices.ContainsFunc(c.all, func(f feed) bool { return f.service == v && f.milter() && f.listener != nil }) {
			o.why = "Postern is one of the milters, and is shown what it has just handed on: marked twice, logged twice, and refused at worst"
		}
		missing, why = append(missing, o.name), append(why, o.why)
	}
	if len(missing) > 0 {
		c.add(Finding{
			Rule: "reinject-overrides", Where: v.place(), What: "receive_override_options lacks " + strings.Join(missing, ", "),
			Why:  "This has been done when the mail came in: " + strings.Join(why, "; ") + ".",
			Mend: []Edit{v.set("receive_override_options", c.overridesFor(v))},
		})
	}
}

// overridesFor is what receive_override_options of a reinjection service has
// to be: all of ours, and what else it has.
func (c *checker) overridesFor(v *Service) string {
	want := list(c.system.value(v, "receive_override_options"))
	if c.mappingFeed() != nil {
		want = slices.DeleteFunc(want, func(s string) bool { return s == noMappings })
	}
	for _, o := range receiveOverrides {
		if !slices.Contains(want, o.name) {
			want = append(want, o.name)
		}
	}
	return strings.Join(want, ",")
}

const noMappings = "no_address_mappings"

// mappingFeed is a feed after the queue before which no aliases are expanded.
func (c *checker) mappingFeed() *feed {
	for _, f := range c.feeding() {
		if f.listener.afterQueue() && slices.Contains(list(c.system.value(f.service, "receive_override_options")), noMappings) {
			return f
		}
	}
	return nil
}

// checkAddressMappings: aliases, canonical addresses, masquerading and
// automatic bcc belong on one side of the filter, before it or after it. On
// both sides all but bcc does no harm.
func (c *checker) checkAddressMappings() {
	for _, v := range c.takers {
		if !slices.Contains(list(c.system.value(v, "receive_override_options")), noMappings) {
			continue
		}
		if f := c.mappingFeed(); f != nil {
			c.add(Finding{
				Rule: "address-mappings-never", Where: v.place(), What: noMappings + " here and on " + f.service.key(),
				Why:  "Aliases, canonical addresses and automatic bcc are worked out on neither side of Postern, so mail to an alias is refused.",
				Mend: []Edit{v.set("receive_override_options", c.overridesFor(v))},
			})
		}
		return
	}
	for _, name := range []string{"always_bcc", "sender_bcc_maps", "recipient_bcc_maps"} {
		if len(c.takers) == 0 || c.system.value(nil, name) == "" {
			continue
		}
		for _, f := range c.feeding() {
			before := list(c.system.value(f.service, "receive_override_options"))
			if f.parameter != "content_filter" || slices.Contains(before, noMappings) {
				continue
			}
			c.add(Finding{
				Rule: "bcc-twice", Where: f.service.place(), What: name + " acts before and after Postern",
				Why:  "The copy is made when mail comes in and again when Postern hands it back, so two arrive.",
				Mend: []Edit{f.service.set("receive_override_options", strings.Join(append(before, noMappings), ","))},
			})
		}
	}
}

// checkTaking judges whether the service takes what Postern brings, and as it
// is.
func (c *checker) checkTaking(r reinjection) {
	v := r.service
	own := ownNetwork(r.to)
	if !r.holdsUs(c.system.value(v, "smtpd_authorized_xforward_hosts")) {
		c.add(Finding{
			Rule: "reinject-xforward", Where: v.place(), What: "smtpd_authorized_xforward_hosts does not hold Postern's address",
			Why:  "Postern cannot tell who the client was, so the log of this service calls every message one from localhost.",
			Mend: []Edit{v.set("smtpd_authorized_xforward_hosts", own)},
		})
	}
	if !r.holdsUs(c.system.value(v, "mynetworks")) {
		c.add(Finding{
			Rule: "reinject-refuses", Where: v.place(), What: "mynetworks does not hold Postern's address",
			Why: "The service takes Postern for a stranger and refuses mail that goes out.", Mend: []Edit{v.set("mynetworks", own)},
		})
	}
	for _, name := range smtpdRestrictions {
		if stop := refusal(c.system.value(v, name)); stop != "" {
			c.add(Finding{
				Rule: "reinject-refuses", Where: v.place(), What: name + " comes to " + stop + " without permit_mynetworks",
				Why:  "Postern does not log in: the service refuses what it brings, and Postfix sends that refusal to the sender.",
				Mend: []Edit{v.set(name, "permit_mynetworks,reject")},
			})
		}
	}
	if level := c.system.value(v, "smtpd_tls_security_level"); level == "encrypt" {
		c.add(Finding{
			Rule: "reinject-tls", Where: v.place(), What: "smtpd_tls_security_level is encrypt",
			Why: "Postern speaks plain SMTP over loopback, and the service answers 530 to it.", Mend: []Edit{v.set("smtpd_tls_security_level", "none")},
		})
	}
	if value := c.system.value(v, "local_header_rewrite_clients"); value != "" {
		c.add(Finding{
			Rule: "reinject-rewrite", Where: v.place(), What: "local_header_rewrite_clients is " + value,
			Why:  "Postfix completes addresses and adds missing header fields for these clients, after Postern has signed the header.",
			Mend: []Edit{v.set("local_header_rewrite_clients", "")},
		})
	}
	c.checkTakenSize(v)
	c.checkAnnounced(v)
}

// What Postern needs of the service's EHLO reply, and what comes of its lack.
var announced = []struct{ keyword, why string }{
	{"8bitmime", "8-bit mail may be recoded, which breaks its signatures"},
	{"dsn", "senders do not get the reports of delivery that they ask for"},
	{"smtputf8", "mail to addresses in other scripts cannot be handed on"},
	{"xforward", "the log of this service does not know the client"},
}

func (c *checker) checkAnnounced(v *Service) {
	const name = "smtpd_discard_ehlo_keywords"
	var hidden, why, rest []string
	for _, word := range list(c.system.value(v, name)) {
		i := slices.IndexFunc(announced, func(a struct{ keyword, why string }) bool { return strings.EqualFold(a.keyword, word) })
		if i < 0 {
			rest = append(rest, word)
			continue
		}
		hidden, why = append(hidden, word), append(why, announced[i].why)
	}
	if len(hidden) > 0 {
		c.add(Finding{
			Rule: "reinject-ehlo", Where: v.place(), What: name + " hides " + strings.Join(hidden, ", "),
			Why:  "Postern does not learn that the service has this: " + strings.Join(why, "; ") + ".",
			Mend: []Edit{v.set(name, strings.Join(rest, ","))},
		})
	}
}

// holdsUs: a list with the address from which Postern connects to the hop.
func (r *reinjection) holdsUs(networks string) bool {
	addr := r.to.addr()
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = netip.MustParseAddr("127.0.0.1")
	}
	return holds(networks, addr)
}

// refusal is the word in a list of restrictions that refuses a client from
// mynetworks; "" when none does.
func refusal(restrictions string) string {
	for _, word := range list(restrictions) {
		switch word {
		case "permit", "permit_mynetworks", "permit_inet_interfaces":
			return ""
		case "reject", "defer", "reject_unauth_destination", "defer_unauth_destination", "reject_plaintext_session":
			return word
		}
	}
	return ""
}

// Releases of Postfix in which smtpd_forbid_bare_newline came, and in which it
// learned more than yes and no.
var (
	bareNewlineSince = []string{"3.5.23", "3.6.13", "3.7.9", "3.8.4", "3.9.0"}
	normalizeSince   = []string{"3.5.24", "3.6.14", "3.7.10", "3.8.5", "3.9.0"}
)

// bareNewline judges the value of smtpd_forbid_bare_newline.
func (c *checker) bareNewline(v *Service) (what, why string) {
	const name = "smtpd_forbid_bare_newline"
	value := strings.ToLower(c.system.value(v, name))
	switch {
	case value == "" || value == "no":
		return name + " is no", "A bare line feed may end a message within a message (SMTP smuggling)."
	case value != "yes" && !c.system.Version.has(normalizeSince...):
		return name + " is " + value, fmt.Sprintf("Postfix %s knows only yes and no there, and smtpd does not start.", c.system.Version)
	}
	return "", ""
}

func (c *checker) checkBareNewline(r reinjection) {
	const name, exclusions = "smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions"
	v := r.service
	if !c.system.Version.has(bareNewlineSince...) {
		c.add(Finding{
			Rule: "reinject-bare-newline", Where: v.place(), What: fmt.Sprintf("Postfix %s has no %s", c.system.Version, name),
			Why: "Only 3.5.23, 3.6.13, 3.7.9, 3.8.4, 3.9.0 and what follows them can refuse SMTP smuggling: take a newer one.",
		})
		return
	}
	if what, why := c.bareNewline(v); what != "" {
		c.add(Finding{Rule: "reinject-bare-newline", Where: v.place(), What: what, Why: why, Mend: []Edit{v.set(name, "yes")}})
	}
	if value := c.system.value(v, exclusions); r.holdsUs(value) {
		c.add(Finding{
			Rule: "reinject-bare-newline", Where: v.place(), What: exclusions + " holds Postern's address",
			Why:  "The protection against SMTP smuggling leaves out the only client that this service has.",
			Mend: []Edit{v.set(exclusions, "")},
		})
	}
}

// checkTakeRate: each message in Postern needs a session here.
func (c *checker) checkTakeRate(v *Service) {
	have, need := c.system.limit(v), c.atOnce()
	if have != 0 && have < need {
		c.add(Finding{
			Rule: "reinject-process-limit", Where: v.place(), What: fmt.Sprintf("the process limit is %d, and up to %d messages are in Postern at once", have, need),
			Why: "Messages that were checked wait here until Postern's deadline is over, and are checked again.", Mend: []Edit{v.field("process_limit", fmt.Sprint(need))},
		})
	}
}

// checkOpen looks whether strangers can come in where nothing is checked.
func (c *checker) checkOpen(r reinjection) {
	v := r.service
	if v == nil || v.Command != "smtpd" || c.onlyLoopback(v) {
		return
	}
	client := list(c.system.value(v, "smtpd_client_restrictions"))
	closed := len(client) > 0 && client[len(client)-1] == "reject"
	for _, word := range client {
		closed = closed && (word == "permit_mynetworks" || word == "reject")
	}
	for _, network := range list(c.system.value(v, "mynetworks")) {
		prefix, err := netip.ParsePrefix(strings.NewReplacer("[", "", "]", "").Replace(network))
		closed = closed && err == nil && (prefix.Addr().IsLoopback() || prefix.IsSingleIP())
	}
	if closed {
		return
	}
	f := Finding{
		Rule: "reinject-open", Where: v.place(), What: "strangers can connect",
		Why: "What comes in here is not checked: whoever reaches the port sends past Postern.",
	}
	if r.to.loopback() {
		f.Mend = []Edit{v.field("service", r.hop)}
	} else {
		f.Mend = []Edit{v.set("mynetworks", ownNetwork(r.to)), v.set("smtpd_client_restrictions", "permit_mynetworks,reject")}
	}
	c.add(f)
}

// onlyLoopback: nobody but this machine can connect.
func (c *checker) onlyLoopback(v *Service) bool {
	host := parseEndpoint(inetName(v.Name), "").host
	hosts := []string{host}
	if host == "" || host == "*" {
		hosts = list(c.system.value(v, "inet_interfaces"))
	}
	for _, h := range hosts {
		if h != "loopback-only" && !parseEndpoint(h, "0").loopback() {
			return false
		}
	}
	return len(hosts) > 0
}
