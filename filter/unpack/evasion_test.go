package unpack

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// The evasion suite: ways to hide a program from some readers of mail while
// others still show it. Every trick is built here from its recipe.

// want says what a trick must lead to.
type want uint8

const (
	either    want = iota // the payload is found, or the message is over limits, ambiguous or encrypted
	found                 // the payload is found
	plainly               // the payload is found and nothing is in doubt
	ambiguous             // the payload is found and the message is ambiguous
	overrun               // the message is over limits
	fact                  // nothing to find, but a fact for rules
)

type trick struct {
	id, what string
	want     want
	msg      string
}

const (
	mailHead = "From: Alice <alice@example.org>\r\nTo: bob@example.com\r\nSubject: invoice\r\n" +
		"Date: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
	mimeHead   = mailHead + "MIME-Version: 1.0\r\n"
	mixedReal  = "Content-Type: multipart/mixed; boundary=\"real\"\r\n"
	octet      = "Content-Type: application/octet-stream; name=\"evil.exe\"\r\n"
	attachment = octet + "Content-Disposition: attachment; filename=\"evil.exe\"\r\nContent-Transfer-Encoding: base64\r\n"
)

func evilPart() string { return attachment + "\r\n" + specimen.Wrap64(specimen.Payload) }

// mixedBody is a text and the attachment between delimiters.
func mixedBody(boundary, attached string) string {
	return "--" + boundary + "\r\nContent-Type: text/plain\r\n\r\nhello\r\n--" + boundary + "\r\n" + attached + "--" + boundary + "--\r\n"
}

// withType is a message whose Content-Type lines are given and whose body uses
// the boundary "real".
func withType(lines string) string {
	return mimeHead + lines + "\r\n\r\n" + mixedBody("real", evilPart())
}

// withBody is a message whose body is given and whose boundary is "real".
func withBody(body string) string { return mimeHead + mixedReal + "\r\n" + body }

// withPart is a message whose attachment is given.
func withPart(part string) string { return withBody(mixedBody("real", part)) }

// withCTE is a message whose attachment has the given encoding lines and body.
func withCTE(lines, body string) string {
	return withPart(octet + "Content-Disposition: attachment; filename=\"evil.exe\"\r\n" + lines + "\r\n\r\n" + body)
}

// nested wraps the attachment n times.
func nested(n int, wrap func(i int, inner string) string) string {
	inner := evilPart()
	for i := range n {
		inner = wrap(i, inner)
	}
	return inner
}

// judge runs one trick and says what is wrong with the result.
func (tr *trick) judge(r *Result) string {
	got := false
	facts := ""
	for _, p := range r.Parts {
		for _, evil := range [][]byte{specimen.Payload, specimen.DLLPayload, specimen.DosPayload, specimen.LinkPayload} {
			got = got || bytes.HasPrefix(p.Data, evil)
		}
		facts += strings.Join(p.Facts, ",")
	}
	minors := map[int]bool{}
	for _, f := range r.Findings {
		minors[f.Minor] = true
		if f.Minor == mail.CheckFailed {
			return "panic: " + f.Detail
		}
	}
	amb, over := minors[mail.Ambiguous], minors[mail.OverLimits]
	ok := false
	switch tr.want {
	case either:
		ok = got || amb || over || minors[mail.Encrypted]
	case found:
		ok = got
	case plainly:
		ok = got && !amb && !over
	case ambiguous:
		ok = got && amb
	case overrun:
		ok = over
	case fact:
		ok = facts != ""
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("payload found: %v, ambiguous: %v, over limits: %v, facts %q", got, amb, over, facts)
}

func runTricks(t *testing.T, tricks []trick) {
	t.Helper()
	seen := map[string]bool{}
	for _, tr := range tricks {
		if seen[tr.id] {
			t.Errorf("%s occurs twice", tr.id)
		}
		seen[tr.id] = true
		t.Run(tr.id, func(t *testing.T) {
			t.Parallel()
			r := Parts(context.Background(), mail.NewMessage([]byte(tr.msg)), budget.DefaultLimits)
			if fault := tr.judge(r); fault != "" {
				t.Errorf("%s: %s\n%s", tr.what, fault, describeTree(r))
			}
		})
	}
}

// describeTree is the tree of parts for a failure message.
func describeTree(r *Result) string {
	var b strings.Builder
	for _, p := range r.Parts[:min(len(r.Parts), 30)] {
		fmt.Fprintf(&b, "  %-10s %-3s %v %v %q %s %d %v\n", p.Place, p.Flags, p.Media, p.Types, p.Names, p.How, p.Size, p.Facts)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  finding %d %s %s\n", f.Minor, f.Part, f.Detail)
	}
	return b.String()
}

// TestControls are ordinary messages: nothing in them is in doubt.
func TestControls(t *testing.T) {
	t.Parallel()
	runTricks(t, []trick{
		{"control-attachment", "plain attachment", plainly, withPart(evilPart())},
		{"control-qp", "quoted-printable attachment", plainly,
			withCTE("Content-Transfer-Encoding: quoted-printable", quotedPrintable(specimen.Payload, "=%02X"))},
	})
	r := Parts(context.Background(), mail.NewMessage([]byte(mimeHead+"\r\nhello\r\n")), budget.DefaultLimits)
	if len(r.Parts) != 1 || len(r.Findings) != 0 || r.Root.Media[0] != textPlain {
		t.Errorf("plain text:\n%s", describeTree(r))
	}
}

func quotedPrintable(b []byte, format string) string {
	var out strings.Builder
	for i, c := range b {
		fmt.Fprintf(&out, format, c)
		if i%24 == 23 {
			out.WriteString("=\r\n")
		}
	}
	return out.String() + "\r\n"
}
