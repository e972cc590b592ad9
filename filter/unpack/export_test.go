package unpack

import (
	"strings"

	"postern/filter/unpack/specimen"
)

// EvasionTrick is one message of the evasion suite, for the test that sends
// them through the whole filter.
type EvasionTrick struct {
	ID, What string
	Message  string
	// How the trick may end besides in its being blocked.
	MayBeUnchecked bool // nobody can look into it, or it exceeds the limits
	NameOnly       bool // harmless but for its name
	OnlyFact       bool // nothing to find, only something that rules can ask for
}

// EvasionTricks are all tricks, and the controls: those whose id begins with
// "clean" hold nothing.
func EvasionTricks() []EvasionTrick {
	out := []EvasionTrick{
		{ID: "control", What: "plain attachment", Message: withPart(evilPart())},
		{ID: "clean", What: "no attachment", Message: withBody("--real\r\nContent-Type: text/plain\r\n\r\nhello\r\n--real--\r\n")},
	}
	for _, c := range controls() {
		out = append(out, EvasionTrick{ID: "clean-" + c.id, What: c.what, Message: c.msg})
	}
	for _, list := range [][]trick{structureTricks(), encodingTricks(), archiveTricks(), formatTricks()} {
		for _, tr := range list {
			out = append(out, EvasionTrick{
				ID: tr.id, What: tr.what, Message: tr.msg,
				MayBeUnchecked: tr.want == either || tr.want == overrun, OnlyFact: tr.want == fact,
			})
		}
	}
	for _, tr := range nameTricks() {
		id, what, _ := strings.Cut(tr.id, " ")
		out = append(out, EvasionTrick{ID: id, What: what, Message: withPart(tr.header + "\r\n\r\nharmless\r\n"), NameOnly: true})
	}
	return append(out,
		EvasionTrick{ID: "C28", What: "no name", Message: withPart("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.Payload))},
		EvasionTrick{ID: "C29", What: "label of an image", Message: withPart("Content-Type: image/jpeg; name=a.jpg\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.Payload))},
	)
}
