package postfix

// Before the queue by smtpd_proxy_filter.

import (
	"fmt"
	"slices"
	"time"
)

const proxyFilter = "smtpd_proxy_filter"

// fedByProxy reports whether the proxy filter of v is a listener of ours.
func (c *checker) fedByProxy(v *Service) bool {
	return slices.ContainsFunc(c.feedsOf(v), func(f *feed) bool { return f.parameter == proxyFilter })
}

// checkProxies judges the services that hand mail to us before the queue.
func (c *checker) checkProxies() {
	for _, f := range c.feeding() {
		if f.parameter != proxyFilter || !f.fits() {
			continue
		}
		v, l := f.service, f.listener
		const name = "smtpd_proxy_timeout"
		deadline := c.postern.deadline(l)
		if is := c.system.value(v, name); tooShort(is, deadline, proxyMargin) {
			c.add(Finding{
				Rule: "proxy-timeout", Where: place(v, name), What: fmt.Sprintf("%s is %s, Postern may need %s", name, is, seconds(deadline)),
				Why:  "Postfix puts the client off while Postern may still hand the message on, so that it arrives twice.",
				Mend: []Edit{c.set(v, name, c.postern.proxyTimeout(l))},
			})
		}
		if milters := c.system.value(v, smtpdMilters); milters != "" {
			c.checkBehindProxy(f, milters)
		}
	}
}

func tooShort(value string, deadline, margin time.Duration) bool {
	d, ok := duration(value)
	return ok && d < deadline+margin
}

// checkBehindProxy: milters of a service with a proxy filter.
func (c *checker) checkBehindProxy(f *feed, milters string) {
	v := f.service
	finding := Finding{
		Rule: "proxy-milters", Where: v.place(), What: proxyFilter + " together with " + smtpdMilters + " " + milters,
		Why: "Before a proxy filter milters see the commands only, no header and no body.",
	}
	for _, own := range c.feedsOf(v) {
		if own.parameter == smtpdMilters && own.fits() {
			finding.Mend = []Edit{v.set(proxyFilter, "")}
			c.add(finding)
			return
		}
	}
	i := slices.IndexFunc(c.postern.Listeners, func(l Listener) bool {
		return l.Protocol == "milter" && l.Originating == f.listener.Originating
	})
	if i >= 0 {
		finding.Mend = append(c.feedEdits(&c.postern.Listeners[i], v), v.set(proxyFilter, ""))
	} else {
		finding.Why += " Give Postern a listener for milters and name it here, or let the service that takes mail back call these."
	}
	c.add(finding)
}
