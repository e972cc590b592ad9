package observe

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"postern/filter/mail"
)

// Lines returns the text form of an event, which is Amavis' default log
// template, field for field, so that what reads Amavis' log reads ours: a line for the recipients that passed and one
// for those that did not, without time and program name.
func Lines(e *mail.Event) []string {
	var out []string
	for _, blocked := range []bool{false, true} {
		if l := line(e, blocked); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func line(e *mail.Event, blocked bool) string {
	var b strings.Builder
	var rcpts, queued []string
	word, best := "", mail.CatchAll
	for _, r := range e.Recipients {
		if r.Blocking != blocked {
			continue
		}
		if word == "" || r.Rank > best {
			word, best = r.Category, r.Rank
		}
		rcpts = append(rcpts, mail.Escape(r.Address.String()))
		if r.QueuedAs != "" && !slices.Contains(queued, mail.Escape(r.QueuedAs)) {
			queued = append(queued, mail.Escape(r.QueuedAs))
		}
	}
	if len(rcpts) == 0 {
		return ""
	}
	verb := "Passed"
	if blocked {
		verb = "Blocked"
	}
	fmt.Fprintf(&b, "(%s) %s %s {%s},", e.LogID, verb, word, strings.Join(e.Actions, ","))
	if len(e.Banks) > 0 {
		b.WriteString(" " + strings.Join(e.Banks, "/"))
	}
	if e.ClientIP != "" {
		if e.Originating {
			b.WriteString(" LOCAL")
		}
		b.WriteString(" [" + e.ClientIP + "]")
		if e.ClientPort != 0 {
			fmt.Fprintf(&b, ":%d", e.ClientPort)
		}
	}
	if e.OriginIP != "" {
		b.WriteString(" [" + e.OriginIP + "]")
	}
	b.WriteString(" " + mail.Escape(e.From.String()) + " -> " + strings.Join(rcpts, ","))
	for _, f := range []struct{ name, value string }{
		{"quarantine", strings.Join(e.Quarantine, ",")}, {"Queue-ID", e.QueueID}, {"Message-ID", e.MessageID}, {"Resent-Message-ID", e.ResentID}, {"mail_id", e.MailID},
	} {
		if f.value != "" {
			b.WriteString(", " + f.name + ": " + mail.Escape(f.value))
		}
	}
	fmt.Fprintf(&b, ", Hits: %s, size: %d", hits(e.Score), e.Size)
	if !blocked && len(queued) > 0 {
		b.WriteString(", queued_as: " + strings.Join(queued, "/"))
	}
	for _, f := range []struct {
		name       string
		signatures []mail.Signature
	}{{"dkim_sd", e.Verified}, {"dkim_new", e.Signed}} {
		if len(f.signatures) > 0 {
			s := make([]string, len(f.signatures))
			for i, d := range f.signatures {
				s[i] = d.String()
			}
			b.WriteString(", " + f.name + "=" + strings.Join(s, ","))
		}
	}
	fmt.Fprintf(&b, ", %d ms", e.Elapsed.Milliseconds())
	return b.String()
}

// hits is the score as Amavis writes it: to three places, a dash for none.
func hits(score *float64) string {
	if score == nil {
		return "-"
	}
	return mail.ScoreText(*score)
}

// Log is the observer that writes the lines of each message to a log, with the
// event under the key "event".
type Log struct{ *slog.Logger }

// Observe implements mail.Observer.
func (l Log) Observe(e *mail.Event) {
	for _, line := range Lines(e) {
		l.Info(line, "event", e)
	}
}
