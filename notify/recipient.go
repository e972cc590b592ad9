package notify

// Notices to recipients: something for them was kept from them.

import (
	"fmt"

	"postern/filter/mail"
)

// WarnedRecipients returns the recipients who are to be told that they did not get
// the message, as indexes: people of ours whose settings say so (Amavis:
// warnvirusrecip and its kin).
func (r *Report) WarnedRecipients() []int {
	var out []int
	for i := range r.Outcomes {
		o, sel := &r.Outcomes[i], &r.Selection.Rcpts[i]
		switch o.Receipt.Disposal {
		case mail.Refused, mail.Bounced, mail.Discarded, mail.Quarantined:
			if sel.Local && !o.refusedByNextHop() && sel.Settings.Category(o.category().Category).WarnRecipient {
				out = append(out, i)
			}
		}
	}
	return out
}

// RecipientNotice returns the notice to recipient i. It has a null sender: when it
// cannot be delivered, nobody needs to hear of it.
func (r *Report) RecipientNotice(i int) (*mail.Outgoing, error) {
	to := r.Tx.Rcpts[i].Address
	for _, a := range []mail.Address{r.From, to} {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("notice to a recipient: %w", err)
		}
	}
	c, cc := r.causeOf(i), r.Outcomes[i].category()
	f := r.fields([]int{i}, c, cc)
	if r.Outcomes[i].Receipt.Disposal != mail.Quarantined {
		f.Quarantine = ""
	}
	subject, body, ok := r.written(f, "recipient.txt")
	if !ok {
		subject, body = r.recipientText(f, c)
	}
	// several of them may end in one mailbox
	top := r.begin(subject, fmt.Sprintf("recipient-notice.%d", i), "auto-generated", []mail.Address{to})
	m, err := compose(top, "multipart/mixed", part{"text/plain; charset=utf-8", "Notification", body})
	if err != nil {
		return nil, fmt.Errorf("notice to a recipient: %w", err)
	}
	return outgoing(mail.KindNotice, "", []mail.Address{to}, m, top.utf8), nil
}

func (r *Report) recipientText(f *Fields, c cause) (subject string, body []byte) {
	subject = "A message for you was not delivered: " + c.short
	if len(c.names) > 0 {
		subject += " (" + c.names[0] + ")"
	}
	var l lines
	l.add("This is the mail filter at %s.", f.Host)
	l.add("")
	l.add("A message for you was not delivered")
	l.add("")
	l.add("because %s.", c.what)
	for _, n := range c.names {
		l.add("  %s", n)
	}
	l.add("")
	l.add("Sender:     %s", f.Sender)
	for _, x := range [][2]string{{"From:", f.From}, {"Subject:", f.Subject}, {"Date:", f.Date}} {
		if x[1] != "" {
			l.add("%-11s %s", x[0], x[1])
		}
	}
	l.add("")
	if f.Quarantine != "" {
		l.add("It is kept for some time. If you need it, write to %s and", f.Contact)
		l.add("name the message %s.", f.MailID)
	} else {
		l.add("No copy of it is kept for you. If you have questions, write to %s", f.Contact)
		l.add("and name the reference %s.", f.Reference)
	}
	return subject, l.Bytes()
}
