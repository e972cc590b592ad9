package filter

import (
	"context"
	"fmt"
	"mime"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/filter/auth"
	"postern/filter/mail"
)

// bundle is what recipients must share to travel in one transaction: equal
// next hop and equal edits.
type bundle struct {
	hop        string
	scanned    bool
	alert      string
	complaint  string // about the header
	hold       bool   // not everything in the message was looked at
	subjectTag string
	sign       bool
}

// forward hands the message to the next hop for every recipient that nothing
// has been decided about: grouped by equal edits, signed last.
func (j *job) forward(ctx context.Context) {
	var order []bundle
	members := map[bundle][]int{}
	for i := range j.rcpts {
		if r := &j.rcpts[i]; r.receipt.Disposal != mail.NotHandled || r.toReport {
			continue
		}
		b := j.bundle(i)
		if members[b] == nil {
			order = append(order, b)
		}
		members[b] = append(members[b], i)
	}
	for _, b := range order {
		if j.tx.Input.OneReply() && j.deferred() {
			// the one reply is a delay already: what is not sent now
			// cannot arrive twice
			break
		}
		if refusal := j.send(ctx, b, members[b]); refusal != nil {
			j.refuseRest(*refusal)
			break
		}
	}
	j.settleRefusals()
}

// refuseRest gives those who have no receipt yet the refusal that stands for
// the whole message.
func (j *job) refuseRest(refusal mail.Receipt) {
	for i := range j.rcpts {
		if r := &j.rcpts[i]; r.receipt.Disposal == mail.NotHandled && !r.toReport {
			r.receipt, r.byMTA = refusal, true
		}
	}
}

// bundle returns what recipient i's copy needs.
func (j *job) bundle(i int) bundle {
	v, sel := &j.ex.Verdicts[i], &j.ex.Selection.Rcpts[i]
	b := bundle{
		hop:     sel.Settings.ForwardTo,
		scanned: j.ex.Scanned && !sel.Settings.Virus.Bypass,
		// not what is known to be infected, whoever bypasses the check
		sign: j.ex.Selection.Originating && sel.Settings.DKIM.Sign && !j.ex.infected(),
	}
	for _, c := range v.Categories {
		switch c.Category {
		case mail.Infected:
			b.alert = "INFECTED, message contains virus: " + strings.Join(v.Names(c.Category), ", ")
		case mail.Banned:
			if b.alert == "" {
				b.alert = "BANNED, message contains " + strings.Join(v.Names(c.Category), ", ")
			}
		case mail.BadHeader:
			if names := v.Names(c.Category); len(names) > 0 {
				b.complaint = "BAD HEADER SECTION, " + names[0]
			}
		case mail.Unchecked:
			b.hold = b.hold || c.Minor == mail.OverLimits
		case mail.Spam, mail.Spammy:
			b.sign = false
		}
		if b.subjectTag == "" && sel.Local {
			b.subjectTag = sel.Settings.Category(c.Category).SubjectTag
		}
	}
	return b
}

// send relays one bundle and keeps the receipts. It returns the refusal of a
// recipient that all must share.
func (j *job) send(ctx context.Context, b bundle, rcpts []int) (refusal *mail.Receipt) {
	o := &mail.Outgoing{
		Client: j.tx.Client, From: j.tx.From, FromOpts: j.tx.FromOpts,
		Message: j.tx.Message, Edits: j.edits(b), AllOrNone: j.tx.Input.OneReply(),
	}
	for _, i := range rcpts {
		o.Rcpts = append(o.Rcpts, j.tx.Rcpts[i])
		o.RefuseAll = o.RefuseAll || j.mustRefuse(i)
	}
	if b.sign {
		signed, err := j.Keys.Sign(o)
		if err != nil {
			// an unsigned mail arrives, a lost one does not
			j.Log.Error("not signed", "id", j.tx.ID, "err", err)
		}
		j.addSigned(signed)
	}
	for k, r := range j.relay(ctx, b.hop, o) {
		s := &j.rcpts[rcpts[k]]
		s.receipt, s.tagged = r, b.alert != "" || b.subjectTag != ""
		switch r.Disposal {
		case mail.Deferred:
			s.byMTA = true
			s.receipt.Reply.Text = mail.NewReply(451, 0, 0, "id=%s - Temporary MTA failure on relaying, %s", j.tx.ID, r.Reply.Text).Text
		case mail.Refused:
			s.byMTA = true
			s.receipt.Reply.Text = mail.NewReply(550, 0, 0, "id=%s - Rejected by next-hop MTA on relaying, %s", j.tx.ID, r.Reply.Text).Text
			if o.RefuseAll {
				refusal = &s.receipt
			}
		}
	}
	if j.any(mail.Relayed) { // an LMTP server refuses at the final dot
		return nil
	}
	return refusal
}

// mustRefuse reports whether only a refusal of the whole message can tell the
// sender that the next hop does not take recipient i: the one reply for all
// would hide it, and we may not write to the sender ourselves. Nobody is to be
// told about mail of lists and programs.
func (j *job) mustRefuse(i int) bool {
	if !j.tx.Input.OneReply() || !j.tx.Input.AfterQueue() || j.ex.Selection.Unanswerable ||
		j.any(mail.Relayed, mail.Bounced, mail.Discarded) { // too late
		return false
	}
	return j.gate.WouldTell(i) && !j.gate.Failure(i, &j.ex.Verdicts[i], 0).Open()
}

// settleRefusals finds a way to tell about recipients that the next hop
// refused while others are done with, where one reply must do for all. If that
// is a delay, the refusals come again. What mustRefuse is about comes here only
// when others have the message already, and then nobody can be told.
func (j *job) settleRefusals() {
	if !j.tx.Input.OneReply() || j.deferred() {
		return
	}
	done := j.any(mail.Relayed, mail.Bounced, mail.Discarded)
	for i := range j.rcpts {
		r := &j.rcpts[i]
		if !done || r.receipt.Disposal != mail.Refused || !r.byMTA || r.toReport {
			continue
		}
		if why := j.gate.Failure(i, &j.ex.Verdicts[i], 0); why.Open() {
			r.toReport = true
		} else {
			j.suppress(i, why)
		}
	}
}

// relay sends o to the next hop written as hop. It always returns a receipt
// for every recipient.
func (j *job) relay(ctx context.Context, hop string, o *mail.Outgoing) []mail.Receipt {
	fail := func(err error) []mail.Receipt {
		j.Log.Error("not relayed", "id", j.tx.ID, "next_hop", hop, "err", err)
		out := make([]mail.Receipt, len(o.Rcpts))
		for i := range out {
			out[i] = mail.Receipt{Disposal: mail.Deferred, Reply: mail.NewReply(451, 3, 5, "no next hop")}
		}
		return out
	}
	h, err := mail.ParseNextHop(hop)
	if err != nil {
		return fail(err)
	}
	receipts := j.Relay(h).Send(ctx, o)
	if len(receipts) != len(o.Rcpts) {
		return fail(fmt.Errorf("%d receipts for %d recipients", len(receipts), len(o.Rcpts)))
	}
	return receipts
}

func (j *job) addSigned(signed []auth.Signature) {
	for _, s := range signed {
		if !slices.Contains(j.signed, s) {
			j.signed = append(j.signed, s)
		}
	}
}

// edits returns the header changes of a bundle, topmost new field first. The
// signature comes later, above them all.
func (j *job) edits(b bundle) []mail.Edit {
	var out []mail.Edit
	if j.tx.Message.Header().Count("X-Amavis-Hold") > 0 {
		out = append(out, mail.Edit{Op: mail.Remove, Name: "X-Amavis-Hold"})
	}
	if b.hold {
		out = append(out, mail.Edit{Op: mail.Add, Name: "X-Amavis-Hold", Value: uncheckedWords[mail.OverLimits]})
	}
	if b.scanned {
		out = append(out, mail.Edit{Op: mail.Add, Name: "X-Virus-Scanned", Value: product + " at " + j.Policy.Domain})
	}
	for _, alert := range []string{b.alert, b.complaint} {
		if alert != "" {
			out = append(out, mail.Edit{Op: mail.Add, Name: "X-Amavis-Alert", Value: headerText(alert)})
		}
	}
	if b.subjectTag != "" {
		out = append(out, j.subjectEdit(b.subjectTag))
	}
	return append(out, mail.Edit{Op: mail.Add, Name: "Received", Value: j.receivedValue()})
}

// subjectEdit puts the tag in front of the subject, whose own bytes stay.
func (j *job) subjectEdit(tag string) mail.Edit {
	tag = mime.QEncoding.Encode("utf-8", tag)
	for _, f := range j.tx.Message.Header() {
		if f.Is("Subject") {
			v := strings.TrimLeft(strings.TrimSuffix(string(f.RawValue()), "\r\n"), " \t")
			if strings.HasPrefix(v, strings.TrimSpace(tag)) {
				tag = ""
			}
			return mail.Edit{Op: mail.Replace, Name: "Subject", Index: 1, Value: tag + v}
		}
	}
	return mail.Edit{Op: mail.Add, Name: "Subject", Value: strings.TrimSpace(tag)}
}

// product is our name in header fields. loop looks for it.
const product = "Postern"

// receivedValue describes the hop from the feeding MTA to us (RFC 5321
// section 4.4): the remote client stands in the MTA's own field below.
func (j *job) receivedValue() string {
	tx := j.tx
	helo := headerText(tx.Helo)
	if helo == "" {
		helo = "localhost"
	}
	var b strings.Builder
	b.WriteString("from " + helo)
	if tx.PeerAddr.IsValid() {
		b.WriteString(" (" + addressLiteral(tx.PeerAddr.Addr()) + ")")
	}
	b.WriteString("\r\n by localhost (" + j.Policy.Hostname)
	if tx.LocalAddr.IsValid() {
		b.WriteString(" " + addressLiteral(tx.LocalAddr.Addr()))
	}
	b.WriteString(") (" + product)
	if tx.LocalAddr.IsValid() {
		b.WriteString(", port " + strconv.Itoa(int(tx.LocalAddr.Port())))
	}
	b.WriteString(")\r\n with " + tx.Protocol + " id " + tx.MailID)
	if len(tx.Rcpts) == 1 {
		b.WriteString("\r\n for " + headerText(tx.Rcpts[0].Address.String()))
	}
	b.WriteString("; " + tx.Received.Format("Mon, 2 Jan 2006 15:04:05 -0700 (MST)"))
	return b.String()
}

// addressLiteral is the form of RFC 5321 section 4.1.3.
func addressLiteral(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

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

// headerText makes foreign text fit for a header value: one line, printable,
// bounded. Bytes that are no UTF-8 and control characters become "?".
func headerText(s string) string {
	return mail.NewReply(451, 0, 0, "%s", s).Text
}
