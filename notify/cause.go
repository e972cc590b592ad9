package notify

// What people are told about the reason, in their words and in Amavis'.

import (
	"fmt"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// cause is a reason that a sender can understand.
type cause struct {
	short  string // ends the sentence "Your message was not delivered: ..."
	what   string // ends the sentence "... because ..."
	names  []string
	advice string
}

// text identifies the cause: recipients with equal texts are told together.
func (c *cause) text() string { return c.what + "\x00" + strings.Join(c.names, "\x00") }

// causeOf returns why recipient i did not get the message.
func (r *Report) causeOf(i int) cause {
	o := &r.Outcomes[i]
	if o.refusedByNextHop() {
		return cause{
			short:  "refused by the next mail server",
			what:   "the next mail server refused it",
			advice: "The answer of that server, shown above, says why. Please check the address.",
		}
	}
	if o.Receipt.Reply.Enhanced == [3]int{5, 6, 7} { // RFC 6531 section 3.7.4.1
		return cause{
			short:  "the next mail server cannot take its addresses",
			what:   "it has letters beyond a to z in its addresses or its header, which the next mail server cannot take",
			advice: "Please use addresses of plain letters.",
		}
	}
	cc := o.category()
	c := causeOfCategory(cc)
	if cc.Category != mail.Spam && cc.Category != mail.Unchecked {
		c.names = boundedNames(o.Verdict.ShortNames(cc.Category), 10)
	}
	return c
}

func causeOfCategory(cc policy.ContentCategory) cause {
	switch cc.Category {
	case mail.Infected:
		return cause{
			short:  "it holds a virus",
			what:   "a virus was found in it",
			advice: "Please check your computer for viruses before you send it again. If you did not send this message, somebody else is using your account: change its password.",
		}
	case mail.Banned:
		return cause{
			short:  "it holds a kind of file that is not allowed",
			what:   "it holds a kind of file that is not allowed here",
			advice: "Please hand on the file in another way.",
		}
	case mail.Unchecked:
		return causeUnchecked(cc.Minor)
	case mail.Spam, mail.Spammy:
		return cause{
			short:  "it looks like spam",
			what:   "it looks like unsolicited bulk mail (spam)",
			advice: "Please word it in another way and send it again.",
		}
	case mail.BadHeader:
		return cause{
			short:  "its header is faulty",
			what:   "its header does not follow the standard for mail",
			advice: "The fault lies with the program that wrote the message; please tell those who look after it.",
		}
	case mail.Oversized:
		return cause{
			short:  "it is too large",
			what:   "it is larger than the recipient accepts",
			advice: "Please send less at once.",
		}
	}
	return cause{
		short:  "it could not be delivered",
		what:   "it could not be delivered",
		advice: "Please try again later.",
	}
}

func causeUnchecked(minor int) cause {
	c := cause{
		short:  "it could not be checked",
		what:   "it could not be checked for viruses",
		advice: "Please try again later.",
	}
	switch minor {
	case mail.Encrypted:
		c.what += ": part of it is encrypted"
		c.advice = "Please send the file without a password, or hand it on in another way."
	case mail.OverLimits:
		c.what += ": it is too large, or packed too many times"
		c.advice = "Please send less at once, or packed in a simpler way."
	case mail.Suspicious:
		c.what += ": the virus scanner is in doubt about it"
		c.advice = "Please hand on what it holds in another way."
	case mail.Ambiguous:
		c.what += ": mail programs would not agree on what it holds"
		c.advice = "The fault lies with the program that wrote the message; please tell those who look after it."
	}
	return c
}

// boundedNames makes names fit for a text.
func boundedNames(names []string, max int) []string {
	out := make([]string, 0, min(len(names), max+1))
	for i, n := range names {
		if i == max {
			return append(out, fmt.Sprintf("and %d more", len(names)-max))
		}
		out = append(out, printable(n, maxName))
	}
	return out
}

// top is the outcome whose category is the highest.
func (r *Report) top() *Outcome {
	top := &r.Outcomes[0]
	for i := range r.Outcomes {
		if o := &r.Outcomes[i]; o.category().Category > top.category().Category {
			top = o
		}
	}
	return top
}

// Headline names what was found, as Amavis does in the subject of a notice.
func (r *Report) Headline() string {
	top := r.top()
	names := map[string]bool{}
	var list []string
	cc := top.category()
	for i := range r.Outcomes {
		for _, n := range r.Outcomes[i].Verdict.ShortNames(cc.Category) {
			if !names[n] {
				names[n] = true
				list = append(list, n)
			}
		}
	}
	in := ""
	if len(list) > 0 {
		in = " (" + printable(strings.Join(boundedNames(list, 5), ", "), maxName/2) + ")"
	}
	switch cc.Category {
	case mail.Infected:
		return "VIRUS" + in
	case mail.Banned:
		return "BANNED contents" + in
	case mail.Unchecked:
		return "UNCHECKED contents"
	case mail.BadHeader:
		return "BAD HEADER" + in
	}
	return cc.Category.String()
}
