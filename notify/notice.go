package notify

// Notices to administrators.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// Admins returns who gets a notice: for each recipient the administrator of
// the category that decided, or else of the highest one; each once.
func (r *Report) Admins() []mail.Address {
	var out []mail.Address
	seen := map[mail.Address]bool{"": true}
	for i := range r.Outcomes {
		a := r.Selection.Rcpts[i].Settings.AdminFor(r.Outcomes[i].category().Category)
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// Notice returns one mail to admins about what was found and what became of
// each recipient. It fails when there is nobody to write to.
func (r *Report) Notice(admins []mail.Address) (*mail.Outgoing, error) {
	if len(admins) == 0 || len(r.Outcomes) == 0 {
		return nil, errors.New("notice without recipients")
	}
	for _, a := range append([]mail.Address{r.From}, admins...) {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("notice: %w", err)
		}
	}
	subject, body := r.Headline()+" in mail FROM "+r.client()+printable(r.Tx.From.String(), maxName/2), r.describe()
	f := r.fields(nil, cause{}, r.top().category())
	f.Details = strings.ReplaceAll(string(body), "\r\n", "\n")
	if title, own, ok := r.written(f, "notice.txt"); ok {
		subject, body = title, own
	}
	top := r.begin(subject, "notice", "auto-generated", admins)
	m, err := compose(top, "multipart/mixed",
		part{"text/plain; charset=utf-8", "Notification", body},
		r.originalHeader(false))
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	return outgoing(mail.KindNotice, r.From, admins, m, top.utf8), nil
}

// client is the client with the blank after it: "LOCAL [192.0.2.1]:4711 ".
func (r *Report) client() string {
	var b strings.Builder
	if r.Selection.Originating {
		b.WriteString("LOCAL ")
	}
	if c := &r.Tx.Client; c.Addr.IsValid() {
		b.WriteString("[" + c.Addr.String() + "]")
		if c.Port != 0 {
			b.WriteString(":" + strconv.Itoa(int(c.Port)))
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// describe writes the text of the notice.
func (r *Report) describe() []byte {
	var l lines
	l.add("%s", r.Headline())
	l.add("")
	r.describeFindings(&l)
	l.add("")
	tx := r.Tx
	l.add("Reference:  %s", r.reference())
	l.add("Policy:     %s (%s)", pathOf(r.Selection.Path), printable(r.Selection.Reason, maxName))
	client := strings.TrimSpace(r.client())
	if client == "" {
		client = "unknown"
	}
	for _, s := range []string{tx.Client.Name, tx.Client.Helo} {
		if s != "" {
			client += ", " + printable(s, maxName)
		}
	}
	l.add("Client:     %s", client)
	l.add("Sender:     %s", printable(tx.From.String(), maxName))
	for _, name := range []string{"From", "Subject", "Message-ID"} {
		l.add("%-11s %s", name+":", r.value(name))
	}
	l.add("Size:       %d", tx.Message.Size())
	if tx.Client.Ident != "" {
		l.add("Queue-ID:   %s", printable(tx.Client.Ident, maxName))
	}
	if v := r.top().Verdict; v.Score != nil {
		var tests []string
		for i, t := range v.Score.Tests {
			if i == 20 {
				break
			}
			tests = append(tests, printable(t.Name, 60)+"="+mail.ScoreText(t.Score))
		}
		l.add("Score:      %s %s", mail.ScoreText(v.Score.Value), strings.Join(tests, ", "))
	}
	if r.Quarantine != "" {
		l.add("Quarantine: %s", printable(r.Quarantine, maxName))
		if strings.Contains(r.Quarantine, "/") { // else it was mailed to an address
			l.add("            postern quarantine show %s", tx.MailID)
			l.add("            postern quarantine release %s", tx.MailID)
		}
	} else {
		l.add("Quarantine: not quarantined")
	}
	l.add("")
	l.add("Recipients:")
	for i := range tx.Rcpts {
		if i == maxListed {
			l.add("  and %d more", len(tx.Rcpts)-maxListed)
			break
		}
		r.describeRcpt(&l, i)
	}
	return l.Bytes()
}

func (r *Report) describeRcpt(l *lines, i int) {
	o, sel := &r.Outcomes[i], &r.Selection.Rcpts[i]
	l.add("  %s", printable(r.Tx.Rcpts[i].Address.String(), maxName))
	l.add("    %s %s, %s", disposalWord(o.Receipt.Disposal), o.category().Category, sel.Direction)
	if len(sel.Path) > len(r.Selection.Path) {
		l.add("    policy: %s", pathOf(sel.Path))
	}
	if !o.Receipt.Reply.IsZero() {
		l.add("    %s", printable(o.Receipt.Reply.String(), maxWord))
	}
}

func disposalWord(d mail.Disposal) string {
	switch d {
	case mail.Relayed:
		return "delivered:"
	case mail.Refused:
		return "rejected:"
	case mail.Deferred:
		return "deferred, the sending server will try again:"
	case mail.Quarantined:
		return "quarantined:"
	case mail.Bounced:
		return "not delivered, the sender was told:"
	case mail.Discarded:
		return "not delivered, the sender was not told:"
	}
	return "not delivered:"
}

// describeFindings lists what the checks found, each finding once.
func (r *Report) describeFindings(l *lines) {
	type key struct{ category, check, name, part, detail string }
	seen := map[key]bool{}
	l.add("Found:")
	for i := range r.Outcomes {
		for _, f := range r.Outcomes[i].Verdict.Findings {
			k := key{f.Category.String(), f.Check, f.Name, f.Part, f.Detail}
			if seen[k] {
				continue
			}
			seen[k] = true
			if len(seen) > maxListed {
				l.add("  and more")
				return
			}
			s := f.Category.String() + " by " + printable(f.Check, maxName)
			if f.Name != "" {
				s += ": " + printable(f.Name, maxName)
			}
			if f.Part != "" {
				s += ", in part " + printable(f.Part, maxName)
			}
			if f.Detail != "" {
				s += " (" + printable(f.Detail, maxName) + ")"
			}
			l.add("  %s", s)
		}
	}
	if len(seen) == 0 {
		l.add("  nothing")
	}
}

// pathOf writes the bank path as it stands in the log.
func pathOf(path []policy.Step) string {
	if len(path) == 0 {
		return "base"
	}
	names := make([]string, len(path))
	for i, s := range path {
		names[i] = s.Bank
	}
	return printable(strings.Join(names, "/"), maxName)
}
