package reinject

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// reply is what the next hop said, or what we say in its place.
type reply struct {
	code  int
	lines string // without the codes of the lines, separated by LF
	own   bool
	us    bool // it refuses us, not the mail: see aboutUs
}

func (r reply) class() int { return r.code / 100 }
func (r reply) ok() bool   { return r.class() == 2 }

// text joins the reply to one line, with an enhanced code only at its start.
func (r reply) text() string {
	lines := strings.Split(r.lines, "\n")
	enhanced, _, _ := strings.Cut(lines[0], " ")
	if _, ok := parseStatus(enhanced); !ok {
		enhanced = ""
	}
	for i, l := range lines {
		// net/textproto keeps the code of a line that breaks the series
		if i > 0 && enhanced != "" {
			l = strings.TrimPrefix(l, enhanced+" ")
		}
		lines[i] = strings.TrimSpace(l)
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	return strings.TrimSpace(strconv.Itoa(r.code) + " " + strings.Join(lines, " "))
}

// status returns the enhanced code, x.0.0 when there is none or one of another
// class.
func (r reply) status() [3]int {
	s, _, _ := strings.Cut(r.lines, " ")
	if e, ok := parseStatus(s); ok && e[0] == r.class() {
		return e
	}
	return [3]int{r.class(), 0, 0}
}

// parseStatus reads an enhanced code (RFC 3463 section 2).
func parseStatus(s string) (e [3]int, ok bool) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != len(e) {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || len(p) > 3 {
			return e, false
		}
		e[i] = int(n)
	}
	return e, e[0] == 2 || e[0] == 4 || e[0] == 5
}

// tooMany reports whether the next hop takes no more recipients in this
// transaction (RFC 5321 section 4.5.3.1.10). 452 with another enhanced code is
// about this recipient.
func (r reply) tooMany() bool {
	return r.code == 452 && (r.status() == [3]int{4, 5, 3} || r.status() == [3]int{4, 0, 0})
}

// step is where in a transaction a reply comes.
type step uint8

const (
	atMail step = iota
	atRcpt
	atData // the reply to DATA, before anything of the message
	atDot
)

// aboutUs reports whether a refusal speaks of the session and not of this mail:
// relaying denied, a client that is not permitted, encryption that is asked
// for. Then the next hop is set up wrongly, and a refusal that is handed on
// bounces clean mail. About the mail are those of its sender or recipient
// (5.1.x, 5.2.x), of its size, and all that come after it was read. Codes without
// an enhanced one count as RFC 5321 section 4.2.3 has them.
func (r reply) aboutUs(at step) bool {
	if r.class() != 5 || r.own || at == atDot || r.code == 552 {
		return false
	}
	switch e := r.status(); {
	case e == [3]int{5, 3, 4}:
		return false
	case e[1] == 1, e[1] == 2:
		return at == atData
	case at == atRcpt && (r.code == 551 || r.code == 553):
		return false
	case e == [3]int{5, 0, 0} && at == atRcpt:
		return r.code != 550
	case e == [3]int{5, 0, 0} && at == atMail:
		return r.code != 550 && r.code != 553
	}
	return true
}

// receipt is the proof that r gives for one recipient. What is our own word has
// no next hop.
func (r reply) receipt(hop string) mail.Receipt {
	e := r.status()
	rc := mail.Receipt{NextHop: hop}
	if r.us {
		rc.Disposal, rc.Reply = mail.Deferred, mail.NewReply(451, e[1], e[2], "MTA(%s) refuses us: %s", hop, r.text())
		return rc
	}
	if r.own {
		_, text, _ := strings.Cut(r.lines, " ")
		rc.NextHop, rc.Reply = "", mail.NewReply(r.code, e[1], e[2], "%s", text)
	} else {
		rc.Reply = mail.NewReply(r.code, e[1], e[2], "from MTA(%s): %s", hop, r.text())
	}
	switch r.class() {
	case 2:
		rc.Disposal = mail.Relayed
		rc.QueuedAs = queuedAs(r.lines)
	case 4:
		rc.Disposal = mail.Deferred
	case 5:
		rc.Disposal = mail.Refused
	}
	return rc
}

// queuedForms are the ways in which servers name the queue id or delivery. The
// word is looked for first, because expressions are slow.
var queuedForms = []struct {
	word string
	form *regexp.Regexp
}{
	{"queued as", regexp.MustCompile(`(?i)\bqueued as ([\w.+-]{1,64})`)},          // Postfix, Amavis
	{"Saved", regexp.MustCompile(`> ([\w+/=.:-]{4,64}) Saved\b`)},                 // Dovecot LMTP
	{"id=", regexp.MustCompile(`(?i)\bOK id=([\w.-]{1,64})`)},                     // Exim
	{"accepted for", regexp.MustCompile(`\b(\w{1,64}) Message accepted for del`)}, // Sendmail
}

func queuedAs(text string) string {
	for _, f := range queuedForms {
		if !strings.Contains(text, f.word) {
			continue
		}
		if m := f.form.FindStringSubmatch(text); m != nil {
			return strings.TrimRight(m[1], ".")
		}
	}
	return ""
}

// asReply returns the reply that go-smtp made an error of.
func asReply(err error) (reply, bool) {
	var se *smtp.SMTPError
	if !errors.As(err, &se) {
		return reply{}, false
	}
	r := reply{code: se.Code, lines: se.Message}
	if e := se.EnhancedCode; e != (smtp.EnhancedCode{}) {
		r.lines = fmt.Sprintf("%d.%d.%d %s", e[0], e[1], e[2], se.Message)
	}
	return r, true
}

const stepConnect = "connecting"

// stepError is a conversation that failed at a step, for example "sending
// MAIL". The inner error is for the log only.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// leavingError is a next hop that wants no conversation: 421, or any refusal
// of our greeting.
type leavingError struct {
	step     string
	reply    reply
	greeting bool
}

func (e *leavingError) Error() string {
	if e.greeting {
		return "greeting: " + e.reply.text()
	}
	return e.step + ": " + e.reply.text()
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.As(err, &ne) && ne.Timeout()
}

// ownReply says to the peer what went wrong with the next hop, without any
// word of the error itself.
func ownReply(hop string, err error) mail.Reply {
	var left *leavingError
	if errors.As(err, &left) {
		return mail.NewReply(451, 3, 2, "MTA(%s) is not ready: %s", hop, left.reply.text())
	}
	step := stepConnect
	var se *stepError
	if errors.As(err, &se) {
		step = se.step
	}
	switch {
	case timedOut(err):
		return mail.NewReply(451, 4, 2, "MTA(%s): timeout while %s", hop, step)
	case step == stepConnect:
		return mail.NewReply(451, 4, 1, "MTA(%s): no connection", hop)
	}
	return mail.NewReply(451, 4, 2, "MTA(%s): lost connection while %s", hop, step)
}
