package notify

// Delivery status notifications (RFC 3464, RFC 6522; RFC 6533 for addresses
// beyond ASCII). They carry the header of the message and never its body, also
// when RET=FULL asks for it: the body is what was found dangerous.

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/emersion/go-message/textproto"

	"postern/filter/mail"
)

// NDR returns the report to the sender about the given recipients, as indexes
// into Tx.Rcpts. Whether they may be reported is for [Gate] to say. It fails
// when there is nobody to write to or nothing to tell.
func (r *Report) NDR(rcpts []int) (*mail.Outgoing, error) {
	if len(rcpts) == 0 {
		return nil, errors.New("report without recipients")
	}
	to := []mail.Address{r.Tx.From}
	for _, a := range []mail.Address{r.Tx.From, r.From} {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("report to the sender: %w", err)
		}
	}
	international := !r.Tx.From.ASCII()
	for _, i := range rcpts {
		rcpt := &r.Tx.Rcpts[i]
		international = international || !rcpt.Address.ASCII() || !rcpt.ORCPT.Address().ASCII()
	}
	subject, text := r.explain(rcpts)
	top := r.begin(subject, "ndr", "auto-replied", to)
	if id := r.originalID(); id != "" {
		top.add("In-Reply-To", id)
		top.add("References", id)
	}
	report := "delivery-status"
	if international {
		report = "global-delivery-status"
	}
	m, err := compose(top, "multipart/report; report-type="+report,
		part{"text/plain; charset=utf-8", "Notification", text},
		part{"message/" + report, "Delivery report", r.status(rcpts, international)},
		r.originalHeader(international))
	if err != nil {
		return nil, fmt.Errorf("report to the sender: %w", err)
	}
	return outgoing(mail.KindReport, "", to, m, top.utf8), nil
}

// wellFormedID is a msg-id (RFC 5322 section 3.6.4) in its strict form.
var wellFormedID = regexp.MustCompile(`^<[!#-;=?A-~]{1,120}@[!#-;=?A-~]{1,120}>$`)

func (r *Report) originalID() string {
	h := r.Tx.Message.Header()
	id, _ := h.First("Message-ID")
	if h.Count("Message-ID") != 1 || !wellFormedID.MatchString(id) {
		return ""
	}
	return id
}

// explain writes the subject and the part for people.
func (r *Report) explain(rcpts []int) (subject string, text []byte) {
	var l lines
	var relayed []int
	var order []string
	causes, failed := map[string]cause{}, map[string][]int{}
	for _, i := range rcpts {
		if r.Outcomes[i].Receipt.Disposal == mail.Relayed {
			relayed = append(relayed, i)
			continue
		}
		c := r.causeOf(i)
		key := c.text()
		if _, ok := causes[key]; !ok {
			causes[key] = c
			order = append(order, key)
		}
		failed[key] = append(failed[key], i)
	}
	l.add("This is the mail filter at %s.", r.host())
	subject = "Your message was handed on"
	ours := len(relayed) > 0 // some of the text is
	for n, key := range order {
		c, first := causes[key], failed[key][0]
		title, own, ok := r.written(r.fields(failed[key], c, r.Outcomes[first].category()), ndrNames(r.Outcomes[first].category().Category, r.Outcomes[first].refusedByNextHop())...)
		if !ok {
			title = "Your message was not delivered: " + c.short
			if len(c.names) > 0 {
				title += " (" + c.names[0] + ")"
			}
		}
		if n == 0 {
			subject = title
			if ok {
				l.Reset() // the text of the postmaster begins as he likes
			}
		} else if ok {
			l.add("")
		}
		if ok {
			l.Write(own)
		} else {
			r.explainFailed(&l, c, failed[key])
			ours = true
		}
	}
	if len(relayed) > 0 {
		l.add("")
		l.add("Your message was handed on to the next mail server for")
		l.add("")
		r.list(&l, relayed, false)
		l.add("")
		l.add("That server sends no confirmations, so you will hear no more about it unless")
		l.add("something goes wrong.")
	}
	if !ours {
		return subject, l.Bytes() // the text of the postmaster ends as he likes, too
	}
	l.add("")
	l.add("Your message:")
	for _, name := range []string{"Subject", "Date", "Message-ID"} {
		if v := r.value(name); v != "" {
			l.add("  %s: %s", name, v)
		}
	}
	l.add("")
	l.add("If you have questions, write to %s and name the reference", string(r.From))
	l.add("%s.", r.reference())
	return subject, l.Bytes()
}

func (r *Report) explainFailed(l *lines, c cause, rcpts []int) {
	l.add("")
	l.add("Your message was not delivered to")
	l.add("")
	r.list(l, rcpts, true)
	l.add("")
	if len(c.names) == 0 {
		l.add("because %s.", c.what)
	} else {
		l.add("because %s:", c.what)
		l.add("")
		for _, n := range c.names {
			l.add("  %s", n)
		}
	}
	l.add("")
	for _, s := range strings.SplitAfter(c.advice, ". ") {
		l.add("%s", strings.TrimSpace(s))
	}
}

// list writes the recipients, if asked with what the next hop said.
func (r *Report) list(l *lines, rcpts []int, replies bool) {
	for n, i := range rcpts {
		if n == maxListed {
			l.add("  and %d more", len(rcpts)-maxListed)
			return
		}
		l.add("  %s", r.recipient(i))
		if o := &r.Outcomes[i]; replies && o.refusedByNextHop() {
			l.add("    %s", printable(o.Receipt.Reply.String(), maxWord))
		}
	}
}

// status writes the part for programs: a block about the message and one for
// each recipient (RFC 3464 section 2).
func (r *Report) status(rcpts []int, international bool) []byte {
	var l lines
	f := &fields{utf8: international}
	f.add("Reporting-MTA", "dns; "+r.host())
	if r.Tx.Helo != "" {
		from := "dns; " + printable(r.Tx.Helo, maxName)
		if r.Tx.PeerAddr.IsValid() {
			from += " ([" + r.Tx.PeerAddr.Addr().String() + "])"
		}
		f.add("Received-From-MTA", from)
	}
	if !r.Tx.Received.IsZero() {
		f.date("Arrival-Date", r.Tx.Received)
	}
	// the listeners undo the coding of ENVID (RFC 3461 section 4.4)
	f.add("Original-Envelope-Id", printable(r.Tx.FromOpts.EnvelopeID, maxName))
	writeBlock(&l, f)
	for _, i := range rcpts {
		f := &fields{utf8: international}
		r.rcptStatus(f, i)
		writeBlock(&l, f)
	}
	// the empty line separates blocks and does not end the last one
	return bytes.TrimSuffix(l.Bytes(), []byte("\r\n"))
}

// writeBlock cannot fail: a buffer takes everything, and header holds raw
// fields only.
func writeBlock(l *lines, f *fields) { _ = textproto.WriteHeader(l, f.header()) }

func (r *Report) rcptStatus(f *fields, i int) {
	rcpt, o := &r.Tx.Rcpts[i], &r.Outcomes[i]
	if t := originalType(rcpt.ORCPT); isAtom(t) && rcpt.ORCPT.Address() != "" {
		f.add("Original-Recipient", t+";"+string(rcpt.ORCPT.Address()))
	}
	f.add("Final-Recipient", addressType(rcpt.Address)+";"+string(rcpt.Address))
	reply := o.Receipt.Reply
	if o.Receipt.Disposal == mail.Relayed {
		f.add("Action", "relayed")
		if reply.Class() != 2 {
			reply = mail.NewReply(250, 0, 0, "Ok")
		}
	} else {
		f.add("Action", "failed")
		if c := reply.Class(); c != 4 && c != 5 {
			reply = mail.NewReply(554, 0, 0, "Not delivered")
		}
	}
	reply.Enhanced = soundStatus(reply)
	f.add("Status", reply.Status())
	if mta := remoteMTA(o.Receipt.NextHop); mta != "" {
		f.add("Remote-MTA", "dns; "+mta)
	}
	f.add("Diagnostic-Code", "smtp; "+printable(reply.String(), maxWord))
	f.date("Last-Attempt-Date", r.Now)
	f.add("Final-Log-ID", r.reference())
}

// soundStatus returns the enhanced status code, which must be of the class of the
// reply (RFC 3463 section 2); next hops without ENHANCEDSTATUSCODES give none.
func soundStatus(r mail.Reply) [3]int {
	s := r.Enhanced
	if s[0] != r.Class() || min(s[1], s[2]) < 0 || max(s[1], s[2]) > 999 {
		return [3]int{r.Class(), 0, 0}
	}
	return s
}

// isAtom reports whether s can be the type of an address (RFC 3464 section
// 2.1.2, RFC 5322 section 3.2.3).
func isAtom(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>[]:;@\\,.\"", r)
	})
}

// addressType is the word for an address by RFC 3464 and RFC 6533.
func addressType(a mail.Address) string {
	if !a.ASCII() {
		return "utf-8"
	}
	return "rfc822"
}

// originalType is the word for an original recipient: that of the sender, but
// rfc822 cannot hold what Postfix writes of UTF-8 addresses under it.
func originalType(o mail.ORCPT) string {
	t := o.Type()
	if strings.EqualFold(t, "rfc822") && !o.Address().ASCII() {
		return "utf-8"
	}
	return t
}

// recipient is the name of recipient i as the sender knows it: before an alias
// made another address of it, and that address.
func (r *Report) recipient(i int) string {
	rcpt := &r.Tx.Rcpts[i]
	s := printable(rcpt.Address.String(), maxName)
	o := rcpt.ORCPT
	if o == "" || !strings.EqualFold(o.Type(), "rfc822") && !strings.EqualFold(o.Type(), "utf-8") || strings.EqualFold(string(o.Address()), string(rcpt.Address)) {
		return s
	}
	return printable(o.Address().String(), maxName) + " (" + s + ")"
}

// remoteMTA turns "smtp:[192.0.2.1]:25" into "[192.0.2.1]:25". A socket has no
// name that would tell the sender anything.
func remoteMTA(nextHop string) string {
	_, host, _ := strings.Cut(nextHop, ":")
	if strings.HasPrefix(host, "unix:") {
		return ""
	}
	return host
}
