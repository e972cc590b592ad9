package postfix

// How large a message may be on its ways through Postfix, and for how many
// recipients it may be.

import (
	"fmt"
	"strconv"
	"strings"
)

const sizeLimit, cleanupName = "message_size_limit", "cleanup_service_name"

// cleanupOf is the cleanup service that writes what v takes in; nil if
// master.cf has none of that name.
func (c *checker) cleanupOf(v *Service) *Service {
	name := c.system.value(v, cleanupName)
	for _, s := range c.system.Services {
		if s.Name == name && s.Command == "cleanup" {
			return s
		}
	}
	return nil
}

// onlyTakers reports whether no service but those that take mail back uses
// that cleanup service.
func (c *checker) onlyTakers(cleanup *Service) bool {
	for _, v := range c.system.Services {
		switch v.Command {
		case "smtpd", "pickup", "qmqpd":
			if !c.taker(v) && c.cleanupOf(v) == cleanup {
				return false
			}
		}
	}
	return true
}

// octets reads a limit on sizes; 0 is none.
func octets(value string) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// room is what a message may grow by in Postern, with much to spare: most often
// it is 1 to 2 KB for trace, marks and signatures.
const room = 64 << 10

// largest is the size of the largest message that comes in; 0 for any. The
// program that writes it to the queue has the last word.
func (c *checker) largest() int64 {
	most := octets(c.system.value(nil, sizeLimit))
	for _, f := range c.feeding() {
		if n := octets(c.system.value(c.cleanupOf(f.service), sizeLimit)); n == 0 || most != 0 && n > most {
			most = n
		}
	}
	return most
}

// checkTakenSize: what has been taken in must fit on its way back, although
// Postern makes it longer.
func (c *checker) checkTakenSize(v *Service) {
	cleanup, most := c.cleanupOf(v), c.largest()
	if cleanup == nil {
		c.add(Finding{
			Rule: "reinject-cleanup", Where: v.place(), What: fmt.Sprintf("%s is %s, and master.cf has no such service", cleanupName, c.system.value(v, cleanupName)),
			Why:  "The service cannot write what it takes: all mail waits in the queue.",
			Mend: c.ownCleanup(v),
		})
		return
	}
	fits := func(v *Service) bool {
		n := octets(c.system.value(v, sizeLimit))
		return n == 0 || most != 0 && n >= most+room
	}
	var at []string
	var mend []Edit
	if !fits(v) {
		at, mend = append(at, "here"), append(mend, v.set(sizeLimit, "0"))
	}
	if !fits(cleanup) {
		at = append(at, "in "+cleanup.key())
		if c.onlyTakers(cleanup) {
			mend = append(mend, cleanup.set(sizeLimit, "0"))
		} else {
			mend = append(mend, c.ownCleanup(v)...)
		}
	}
	if len(at) == 0 {
		return
	}
	c.add(Finding{
		Rule: "reinject-size", Where: v.place(), What: fmt.Sprintf("%s holds %s, and mail of %s octets comes in", sizeLimit, strings.Join(at, " and "), orAny(most)),
		Why:  "Postern makes a message longer by some header fields: one just below the limit is taken in, and then refused on its way back.",
		Mend: mend,
	})
}

func orAny(n int64) string {
	if n == 0 {
		return "any number of"
	}
	return "up to " + strconv.FormatInt(n, 10)
}

// ownCleanup gives a service that takes mail back a cleanup of its own.
func (c *checker) ownCleanup(v *Service) []Edit {
	shipped := shippedCleanup()
	return []Edit{shipped.whole(), v.set(cleanupName, shipped.Name)}
}

// shippedCleanup writes what comes from Postern.
func shippedCleanup() *Service {
	return shippedService(func(v *Service) bool { return v.Command == "cleanup" })
}

// checkSize: what Postfix takes in must not be too large for Postern.
func (c *checker) checkSize() {
	writers := []*Service{nil} // main.cf
	for _, f := range c.feeding() {
		writers = append(writers, c.cleanupOf(f.service))
	}
	for _, v := range writers {
		n := octets(c.system.value(v, sizeLimit))
		if n != 0 && n <= c.postern.MessageSize {
			continue
		}
		c.add(Finding{
			Rule: "message-size", Where: place(v, sizeLimit), What: fmt.Sprintf("%s is %d, limits.message_size of Postern is %d", sizeLimit, n, c.postern.MessageSize),
			Why:  "Postfix takes mail that is too large for Postern. Let limits.message_size be at least as much, or lower the limit here.",
			Mend: []Edit{c.set(v, sizeLimit, strconv.FormatInt(c.postern.MessageSize, 10))},
		})
	}
}

// checkRecipients: all recipients of a message that Postern takes should be in
// one transaction, and no more.
func (c *checker) checkRecipients(v *Service) {
	if f := c.recipientsFinding(v.Name); f != nil {
		c.add(*f)
	}
}

// recipientsFinding is what is wrong with the limit of a transport of that
// name; nil for nothing.
func (c *checker) recipientsFinding(transport string) *Finding {
	name := transport + recipientLimit
	value := c.system.value(nil, name)
	if value == "" {
		value = c.system.value(nil, "default"+recipientLimit)
	}
	want := c.postern.recipients()
	n := atoi(value)
	f := &Finding{Rule: "transport-recipients", Where: "main.cf", Mend: []Edit{setMain(name, strconv.Itoa(want))}}
	switch {
	case n != 0 && n < want:
		f.What = fmt.Sprintf("%s is %d, Postern takes %d", name, n, c.postern.Recipients)
		f.Why = "A message to more recipients is handed over in pieces: it is scanned once for each, and its sender gets as many reports."
	case n == 0 || n > c.postern.Recipients:
		f.What = fmt.Sprintf("%s is %d, limits.recipients of Postern is %d", name, n, c.postern.Recipients)
		f.Why = "Postern answers 452 for the recipients beyond its limit, and Postfix lets them wait."
	default:
		return nil
	}
	return f
}

const recipientLimit = "_destination_recipient_limit"

// recipients is the shipped limit for one transaction, as far as Postern takes
// so many.
func (p *Postern) recipients() int {
	shipped, _ := ParseMain(shippedMain) // Show would have failed
	return min(atoi(shipped[feedTransport+recipientLimit]), p.Recipients)
}
