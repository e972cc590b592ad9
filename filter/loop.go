package filter

// Mail that goes round in circles.

import (
	"strings"

	"postern/filter/mail"
)

// maxOwnHops ends the most common loop, a forgotten "content_filter=" on the
// reinjection service, within a second.
const maxOwnHops = 3

// loop answers mail that goes round in circles.
func (f *Filter) loop(tx *mail.Transaction) (mail.Reply, bool) {
	hops, own, here := 0, 0, false
	mark := "(" + f.Policy.Hostname
	for _, h := range tx.Message.Header() {
		if !h.Is("Received") {
			continue
		}
		v := h.Value()
		if hops == 0 {
			here = fromHere(tx, v)
		}
		hops++
		if strings.Contains(v, " by localhost "+mark) && strings.Contains(v, "("+product) {
			own++
		}
	}
	if hops <= f.Policy.Limits.Received && (own < maxOwnHops || !here) {
		return mail.Reply{}, false
	}
	return mail.NewReply(554, 4, 6, "Too many hops, id=%s: %d Received fields, %d of them from this filter", tx.ID, hops, own), true
}

// fromHere reports whether the topmost Received field, the only one that a
// stranger cannot write, speaks of a client inside. Mail in a loop of ours comes
// from this machine; our marks on mail from outside are forged, most likely to
// have the feeding MTA report to a stranger.
func fromHere(tx *mail.Transaction, received string) bool {
	client := receivedFrom(received)
	return !client.IsValid() || !public(client) || client == tx.LocalAddr.Addr().Unmap()
}
