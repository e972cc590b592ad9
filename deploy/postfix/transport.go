package postfix

// The transports that carry mail to Postern.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// checkTransports judges each transport that leads to a listener, and the one
// that a mended feed would use.
func (c *checker) checkTransports() {
	seen := map[*Service]bool{}
	judge := func(v *Service, l *Listener) {
		if v != nil && !seen[v] {
			seen[v] = true
			c.checkTransport(v, l)
		}
	}
	for _, f := range c.feeding() {
		if f.listener.afterQueue() {
			judge(f.client, f.listener)
		}
	}
	if v := c.transport(feedTransport); v != nil && c.feedTransport() == feedTransport && v.Command == "lmtp" {
		judge(v, nil)
	}
	for i := range c.postern.Listeners {
		c.checkSessions(&c.postern.Listeners[i])
	}
}

// shared are the transports with which Postfix delivers mail elsewhere too.
var shared = []string{"smtp", "relay", "lmtp"}

// checkShared: what Postern needs of a transport would hold for all that goes
// by it.
func (c *checker) checkShared(v *Service) {
	f := Finding{
		Rule: "transport-shared", Where: v.place(), What: "the transport leads to Postern, and delivers other mail as well",
		Why: "What Postern needs, long timeouts and XFORWARD, would hold for that mail too: give it a transport of its own.", Mend: c.transportEdits(feedTransport),
	}
	for _, x := range c.feeding() {
		if x.client == v && x.parameter == "content_filter" {
			if e := c.set(x.service, x.parameter, feedTransport+":"+x.listener.nexthop()); !hasEdit(f.Mend, e) {
				f.Mend = append(f.Mend, e)
			}
		}
	}
	c.add(f)
}

func hasEdit(edits []Edit, e Edit) bool {
	return slices.ContainsFunc(edits, func(x Edit) bool { return slices.Equal(x, e) })
}

// transportEdits makes the transport if there is none of that name, with all
// recipients of a message in one transaction.
func (c *checker) transportEdits(name string) []Edit {
	if c.transport(name) != nil {
		return nil
	}
	v := shippedTransport(c.postern)
	v.Name = name
	out := []Edit{v.whole()}
	if f := c.recipientsFinding(name); f != nil {
		out = append(out, f.Mend...)
	}
	return out
}

func (c *checker) checkTransport(v *Service, l *Listener) {
	if slices.Contains(shared, v.Name) {
		c.checkShared(v)
		return
	}
	if v.Command == "smtp" && l.Protocol == "lmtp" {
		shipped := shippedTransport(c.postern)
		shipped.Name = v.Name
		c.add(Finding{
			Rule: "transport-smtp", Where: v.place(), What: "smtp, to the lmtp listener " + l.Address,
			Why:  "SMTP has one answer for all recipients: where they differ Postern cannot refuse the message for some of them.",
			Mend: []Edit{shipped.whole()},
		})
		c.checkRecipients(v)
		return
	}
	kind := v.Command // the parameters of the two differ only in this prefix
	expect := func(rule, name, want, why string) {
		if is := c.system.value(v, name); !strings.EqualFold(is, want) {
			c.add(Finding{Rule: rule, Where: v.place(), What: name + " is " + is, Why: why, Mend: []Edit{v.set(name, want)}})
		}
	}
	expect("transport-xforward", kind+"_send_xforward_command", "yes",
		"Postern does not learn who the client is: no bank is chosen by network, and every client is called localhost or unknown.")
	expect("transport-line-length", kind+"_line_length_limit", "0",
		"Postfix cuts longer lines before Postern sees them, and a signature of the sender breaks.")
	expect("transport-mime", "disable_mime_output_conversion", "yes",
		"Postfix may recode 8-bit mail on the way to Postern, and a signature of the sender breaks.")
	c.checkDoneTimeout(v, kind+"_data_done_timeout")
	c.checkRecipients(v)
	if n := atoi(c.system.value(v, "max_use")); n < 10 {
		c.add(Finding{
			Rule: "transport-max-use", Where: v.place(), What: fmt.Sprintf("max_use is %d", n),
			Why: "Nearly every message costs a new process and a new connection.", Mend: []Edit{v.set("max_use", "20")},
		})
	}
	level := cmp.Or(c.system.value(v, kind+"_tls_security_level"), "none")
	if !slices.Contains([]string{"none", "may", "dane"}, level) {
		c.add(Finding{
			Rule: "transport-tls", Where: v.place(), What: kind + "_tls_security_level is " + level,
			Why:  "Postern offers no TLS on its listeners, so that nothing is handed to it.",
			Mend: []Edit{v.set(kind+"_tls_security_level", "none")},
		})
	}
}

func (c *checker) checkDoneTimeout(v *Service, name string) {
	is := c.system.value(v, name)
	if d, ok := duration(is); ok && d < c.postern.Deadline+margin {
		c.add(Finding{
			Rule: "transport-timeout", Where: v.place(), What: fmt.Sprintf("%s is %s, limits.deadline is %s", name, is, seconds(c.postern.Deadline)),
			Why:  "Postfix gives up while Postern may still hand the message on, sends it once more, and it arrives twice.",
			Mend: []Edit{v.set(name, c.postern.doneTimeout())},
		})
	}
}

// atOnce is how many messages Postfix may hand to all listeners at once.
func (c *checker) atOnce() int {
	listeners := map[*Service]int{}
	total := 0
	for i := range c.postern.Listeners {
		_, transports := c.sessions(&c.postern.Listeners[i])
		for _, v := range transports {
			listeners[v]++
		}
	}
	for v, n := range listeners {
		each := n * c.concurrency(v)
		if processes := c.system.limit(v); processes > 0 {
			each = min(each, processes)
		}
		total += each
	}
	return total
}

// sessions is how many sessions Postfix may have on a listener after the queue
// at once, and on which transports.
func (c *checker) sessions(l *Listener) (n int, transports []*Service) {
	for _, f := range c.feeding() {
		v := f.client
		if f.parameter == proxyFilter {
			v = f.service
		}
		if f.listener != l || f.milter() || v == nil || slices.Contains(transports, v) {
			continue
		}
		transports = append(transports, v)
		n += c.concurrency(v)
	}
	return n, transports
}

// concurrency is how many deliveries to one address run at once: as many as
// there may be processes, and as the queue manager begins.
func (c *checker) concurrency(v *Service) int {
	processes := c.system.limit(v)
	if v.Type != "unix" {
		return processes
	}
	name := v.Name + "_destination_concurrency_limit"
	value := c.system.value(nil, name)
	if value == "" {
		value = c.system.value(nil, "default_destination_concurrency_limit")
	}
	begun := atoi(value)
	switch {
	case processes == 0:
		return begun
	case begun == 0:
		return processes
	}
	return min(processes, begun)
}

func (c *checker) checkSessions(l *Listener) {
	limit, name := c.postern.sessionLimit(l)
	n, transports := c.sessions(l)
	told := func(f Finding) bool { return f.Rule == "transport-process-limit" && f.Where == transports[0].place() }
	if n <= limit || slices.ContainsFunc(c.findings, told) {
		return
	}
	each := max(1, limit/len(transports))
	f := Finding{
		Rule: "transport-process-limit", Where: transports[0].place(),
		What: fmt.Sprintf("up to %d deliveries to %s at once, %s is %d", n, l.Address, name, limit),
		Why:  "Postern answers 421 to those beyond the limit, and Postfix then holds all mail back for a while.",
	}
	for _, v := range transports {
		if c.concurrency(v) > each {
			f.Mend = append(f.Mend, v.field("process_limit", strconv.Itoa(each)))
		}
	}
	c.add(f)
}

// checkTargets judges feeds that do not arrive.
func (c *checker) checkTargets() {
	for i := range c.all {
		f := &c.all[i]
		if c.taker(f.service) {
			continue
		}
		if f.transport != "" && f.client == nil {
			c.checkMissingTransport(f)
		}
		if f.outOfReach != nil && f.listener == nil {
			c.checkChroot(f)
			continue
		}
		c.checkNobodyThere(f)
		if f.listener != nil && !f.fits() {
			c.checkSpeech(f)
		}
	}
}

// checkSpeech: a listener that speaks something else than the service, or takes
// it for somebody else.
func (c *checker) checkSpeech(f *feed) {
	l := f.listener
	why := "A message is handed over by LMTP or SMTP here, and the listener does not understand it."
	switch {
	case f.milter():
		why = "The listener does not understand what a milter is asked, and Postfix takes the default action for all mail."
	case l.Protocol == "smtp-proxy":
		why = "The listener takes its client for one who waits for the answer, and refuses mail of strangers: here Postfix would report that to forged senders."
	case l.afterQueue():
		why = "The listener takes its client for a mail queue: it refuses nothing to strangers but puts them off, and takes longer than Postfix waits. The protocol for this is smtp-proxy."
	}
	c.add(Finding{
		Rule: "feed-protocol", Where: place(f.service, f.parameter), What: fmt.Sprintf("%s leads to %s, which speaks %s", f.parameter, l.Address, l.Protocol),
		Why: why, Mend: c.redirect(f),
	})
}

func (c *checker) checkMissingTransport(f *feed) {
	c.add(Finding{
		Rule: "transport-missing", Where: place(f.service, f.parameter), What: fmt.Sprintf("%s is %s, but master.cf has no transport %s", f.parameter, f.target, f.transport),
		Why: "Postfix cannot deliver to it: mail stays in the queue.", Mend: c.transportEdits(f.transport),
	})
}

// checkNobodyThere: an address of this machine on which no listener is. What
// is on another machine, or a program, is another filter than this one.
func (c *checker) checkNobodyThere(f *feed) {
	if f.listener != nil || f.milter() || f.to.path == "" && !f.to.loopback() {
		return
	}
	c.add(Finding{
		Rule: "feed-nobody", Where: place(f.service, f.parameter), What: fmt.Sprintf("%s is %s, where Postern does not listen", f.parameter, f.target),
		Why: "Mail goes to another program, or stays in the queue.", Mend: c.redirect(f),
	})
}

// redirect leads a feed to the listener that is meant for such a service.
func (c *checker) redirect(f *feed) []Edit {
	// main.cf speaks for all services, and strangers are not our people
	own := !f.inherited() && f.service.submission()
	if f.parameter == proxyFilter {
		if best := c.pickProxy(own); best != nil {
			c.offered = append(c.offered, best)
			return []Edit{c.set(f.service, f.parameter, best.nexthop())}
		}
	}
	best := c.pick(own)
	if own && (best == nil || !best.afterQueue()) {
		best = c.pick(false)
	}
	if best == nil || !best.afterQueue() || f.parameter == "FILTER" || f.milter() {
		return nil
	}
	c.offered = append(c.offered, best)
	if f.parameter == proxyFilter {
		return append(c.feedEdits(best, f.service), c.drop(f.service, proxyFilter))
	}
	name := f.transport
	if slices.Contains(shared, name) {
		name = feedTransport
	}
	return append(c.transportEdits(name), c.set(f.service, f.parameter, name+":"+best.nexthop()))
}

// checkChroot: a socket that a process in its chroot cannot see.
func (c *checker) checkChroot(f *feed) {
	v := f.client
	if v == nil {
		v = f.service
	}
	c.add(Finding{
		Rule: "feed-chroot", Where: v.place(), What: fmt.Sprintf("runs in its chroot, where %s is another path", strings.TrimPrefix(f.outOfReach.Address, "unix:")),
		Why:  "The process sees only what is below the queue directory, and does not find the socket. Let Postern listen there, or run the process outside.",
		Mend: []Edit{v.field("chroot", "n")},
	})
}
