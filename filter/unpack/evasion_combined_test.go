package unpack

import (
	"context"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// TestEvasionCombined: a trick of structure with a trick of encoding, and each
// trick inside an attached message. The payload is found or the message is in
// doubt.
func TestEvasionCombined(t *testing.T) {
	t.Parallel()
	plain := evilPart()
	noStructure := []string{"A92", "A93", "A95", "A96", "A97", "A100"} // the body is text to all readers
	n := 0
	try := func(what, msg string) {
		n++
		r := Parts(context.Background(), mail.NewMessage([]byte(msg)), budget.DefaultLimits)
		tr := trick{want: either}
		if fault := tr.judge(r); fault != "" {
			t.Errorf("%s: %s\n%s", what, fault, describeTree(r))
		}
	}
	var parts []trick
	for _, tr := range encodingTricks() {
		if _, rest, ok := strings.Cut(tr.msg, "hello\r\n--real\r\n"); ok && tr.want != fact && !strings.HasPrefix(tr.what, "uuencode in the ") {
			part, _, _ := strings.Cut(rest, "--real--")
			parts = append(parts, trick{id: tr.id, msg: part})
		}
	}
	for _, s := range structureTricks() {
		if len(s.msg) > 100<<10 || s.want == fact {
			continue
		}
		if strings.Contains(s.msg, plain) {
			for _, e := range parts {
				try(s.id+" with "+e.id, strings.ReplaceAll(s.msg, plain, e.msg))
			}
		}
		wrapped := "--outer\r\nContent-Type: message/rfc822\r\n"
		head := mimeHead + "Content-Type: multipart/mixed; boundary=outer\r\n\r\n"
		try(s.id+" attached", head+wrapped+"\r\n"+s.msg+"\r\n--outer--\r\n")
		try(s.id+" attached in base64", head+wrapped+"Content-Transfer-Encoding: base64\r\n\r\n"+specimen.Wrap64([]byte(s.msg))+"--outer--\r\n")
		for _, o := range typeTricks() {
			if strings.HasPrefix(s.what, "multipart in ") || strings.HasPrefix(s.what, "base64 multipart") {
				break // the boundary inside cannot be changed
			}
			if strings.Contains(s.msg, "re.al") && slices.Contains(noStructure, o.id) {
				continue // there are no delimiters that a reader could run past
			}
			if strings.Contains(o.msg, plain) && len(o.msg) < 100<<10 {
				try(o.id+" around "+s.id, strings.ReplaceAll(o.msg, plain, "Content-Type: message/rfc822\r\n\r\n"+strings.ReplaceAll(s.msg, "real", "inner")+"\r\n"))
			}
		}
	}
	if n < 2000 {
		t.Errorf("only %d combinations", n)
	}
}
