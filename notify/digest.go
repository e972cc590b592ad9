package notify

// Mails about many messages: what the quarantine has kept, and what an
// administrator was not told one by one.

import (
	"crypto/rand"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

// Sheet is who writes a mail about many messages, to whom, and when.
type Sheet struct {
	Hostname string
	From, To mail.Address
	Now      time.Time
}

// mostListedInDigest bounds a digest; the rest is counted.
const mostListedInDigest = 500

// Digest returns the list of what was kept since a time: the newest first, as
// items come. With none it returns nil.
func (s *Sheet) Digest(since time.Time, items iter.Seq[*mail.Kept]) (*mail.Outgoing, error) {
	count, categories := 0, map[string]int{}
	var list lines
	for k := range items {
		categories[printable(k.Category, maxName)]++
		if count++; count <= mostListedInDigest {
			describeKept(&list, k)
		}
	}
	if count == 0 {
		return nil, nil
	}
	var l lines
	l.add("%d messages were kept in the quarantine of %s since", count, s.host())
	l.add("%s: %s.", since.Format(time.RFC1123Z), counted(categories))
	l.add("")
	l.add("To look at one:        postern quarantine show ID")
	l.add("To hand one on:        postern quarantine release ID")
	l.add("To find others:        postern quarantine search WORD")
	l.add("")
	l.Write(list.Bytes())
	if more := count - mostListedInDigest; more > 0 {
		l.add("and %d more: postern quarantine list", more)
	}
	return s.mail("digest", fmt.Sprintf("Quarantine: %d messages kept at %s", count, s.host()), l.Bytes())
}

func describeKept(l *lines, k *mail.Kept) {
	state := ""
	if !k.Waits() {
		state = ", released"
	}
	l.add("%s  %s  %d octets%s", k.MailID, k.Time.Format("2006-01-02 15:04 -0700"), k.Size, state)
	l.add("  %s", printable(k.Reason, maxName))
	var to []string
	for _, r := range k.Rcpts {
		if r.Due {
			to = append(to, printable(r.Address.String(), maxName))
		}
	}
	if n := len(to) - 3; n > 0 {
		to = append(to[:3], fmt.Sprintf("and %d more", n))
	}
	l.add("  from %s to %s", printable(k.From.String(), maxName), strings.Join(to, ", "))
	if k.Subject != "" {
		l.add("  %s", decoded(k.Subject))
	}
	l.add("")
}

// Held returns the mail about notices that were not sent one by one.
func (s *Sheet) Held(held *Summary) (*mail.Outgoing, error) {
	n := 0
	for _, times := range held.Held {
		n += times
	}
	var l lines
	l.add("In the hour since %s you would have got %d", held.Since.Format(time.RFC1123Z), n)
	l.add("more notices from %s (limits.notices):", s.host())
	l.add("")
	for _, headline := range slices.Sorted(maps.Keys(held.Held)) {
		l.add("%6d  %s", held.Held[headline], printable(headline, maxName))
	}
	l.add("")
	l.add("Each message is in the log; what was kept: postern quarantine list")
	return s.mail("summary", fmt.Sprintf("%d more notices at %s", n, s.host()), l.Bytes())
}

// counted writes numbers by category.
func counted(categories map[string]int) string {
	var out []string
	for _, c := range slices.Sorted(maps.Keys(categories)) {
		out = append(out, fmt.Sprintf("%d %s", categories[c], c))
	}
	return strings.Join(out, ", ")
}

func (s *Sheet) report() *Report {
	return &Report{Hostname: s.Hostname, From: s.From, Now: s.Now, Tx: &mail.Transaction{MailID: rand.Text()[:12]}}
}

func (s *Sheet) host() string { return s.report().host() }

func (s *Sheet) mail(kind, subject string, body []byte) (*mail.Outgoing, error) {
	for _, a := range []mail.Address{s.From, s.To} {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	top := s.report().begin(subject, kind, "auto-generated", []mail.Address{s.To})
	m, err := compose(top, "multipart/mixed", part{"text/plain; charset=utf-8", "Notification", body})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return outgoing(mail.KindNotice, s.From, []mail.Address{s.To}, m, top.utf8), nil
}
