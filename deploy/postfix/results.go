package postfix

// What other programs write into Authentication-Results before Postern sees the
// message.

import (
	"fmt"
	"strings"
)

// checkResults looks for milters that verify mail before it comes to us, and
// that sign their results as we do: what we have not written ourselves under
// our name is forged. OpenDKIM and OpenDMARC take the name of the host that
// Postfix tells them. What a policy service puts in front is known by its place.
func (c *checker) checkResults() {
	for _, f := range c.feeding() {
		v := f.service
		name := c.hostname(v)
		ours := strings.EqualFold(strings.TrimSuffix(name, "."), c.postern.AuthservID)
		if !f.fits() || f.parameter == proxyFilter || name == "" || !ours || c.postern.Trusting || v.submission() || c.leaves[v] {
			continue
		}
		before := c.verifiers(f)
		if len(before) == 0 {
			continue
		}
		c.add(Finding{
			Rule: "results-name", Where: place(v, smtpdMilters), What: fmt.Sprintf("%s before Postern, and the results of both have the name %s", strings.Join(before, ", "), name),
			Why: "OpenDKIM and OpenDMARC write Authentication-Results under the name of the host unless AuthservID says otherwise. Postern takes results under its own name for forged, and removes them. Put the name into trusted_results of Postern, if they remove forged ones themselves, or give one side another name (authserv_id of Postern).",
		})
	}
}

// verifiers lists the milters that see a message before the feed does.
func (c *checker) verifiers(f *feed) []string {
	parameter := f.parameter
	if !f.milter() {
		parameter = smtpdMilters
	}
	var out []string
	for _, m := range c.milterList(f.service, parameter) {
		if m.ours != nil && f.milter() {
			break
		}
		if m.ours == nil && m.verifies() {
			out = append(out, m.address)
		}
	}
	return out
}

// hostname is the name of the host for milters of v; empty if it is not known.
func (c *checker) hostname(v *Service) string {
	if name := c.system.value(v, "myhostname"); name != "" {
		return name
	}
	return c.system.Hostname
}
