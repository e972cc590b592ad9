package mail

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func write(t testing.TB, o *Outgoing) string {
	t.Helper()
	var b bytes.Buffer
	n, err := o.WriteTo(&b)
	if err != nil || n != int64(b.Len()) || n != o.Size() {
		t.Errorf("WriteTo: %d, %v; %d written, Size %d", n, err, b.Len(), o.Size())
	}
	return b.String()
}

func TestEdits(t *testing.T) {
	t.Parallel()
	const msg = "Received: a\r\n\tb\r\nSubject: one\r\nX-Tag: 1\r\nsubject:two\r\nnot a field\r\nX-TAG : 2\r\n\r\nX-Tag: body\r\n"
	for _, c := range []struct {
		name  string
		edits []Edit
		want  string
	}{
		{"none", nil, msg},
		{"add, first on top", []Edit{{Op: Add, Name: "A", Value: "1"}, {Op: Add, Name: "B", Value: "2"}}, "A: 1\r\nB: 2\r\n" + msg},
		{"add folded", []Edit{{Op: Add, Name: "A", Value: "1\r\n 2\r\n\t3"}}, "A: 1\r\n 2\r\n\t3\r\n" + msg},
		{"remove all in any case", []Edit{{Op: Remove, Name: "x-tag"}}, strings.NewReplacer("X-Tag: 1\r\n", "", "X-TAG : 2\r\n", "").Replace(msg)},
		{"remove one", []Edit{{Op: Remove, Name: "Subject", Index: 2}}, strings.Replace(msg, "subject:two\r\n", "", 1)},
		{"replace one", []Edit{{Op: Replace, Name: "Subject", Index: 1, Value: "new"}}, strings.Replace(msg, "Subject: one", "Subject: new", 1)},
		{"replace all", []Edit{{Op: Replace, Name: "Subject", Value: "new"}}, strings.NewReplacer("Subject: one", "Subject: new", "subject:two", "Subject: new").Replace(msg)},
		{"the last one counts", []Edit{{Op: Remove, Name: "Subject"}, {Op: Replace, Name: "Subject", Index: 1, Value: "new"}}, strings.NewReplacer("Subject: one", "Subject: new", "subject:two\r\n", "").Replace(msg)},
		{"none there", []Edit{{Op: Remove, Name: "X-Other"}, {Op: Replace, Name: "Subject", Index: 9, Value: "x"}}, msg},
		// promise 9: whatever a value holds, it is one field
		{"injection", []Edit{{Op: Add, Name: "A", Value: "1\r\nBcc: x\n\rB: y\r\n\r\nbody\x00"}}, "A: 1  Bcc: x  B: y    body \r\n" + msg},
		{"fold to nothing", []Edit{{Op: Add, Name: "A", Value: "1\r\n \r\n 2\r\n "}}, "A: 1   \r\n 2   \r\n" + msg},
	} {
		if got := write(t, &Outgoing{Message: NewMessage([]byte(msg)), Edits: c.edits}); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
	}
}

func TestWriteError(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.CloseWithError(io.ErrShortWrite)
	o := &Outgoing{Message: NewMessage([]byte("A: b\r\n\r\nbody"))}
	if _, err := o.WriteTo(w); err != io.ErrShortWrite {
		t.Errorf("got %v", err)
	}
}

// Promise 5: without an edit the same bytes; added fields only in front; and
// whatever an added value holds, the rest of the message is read as before.
func FuzzOutgoing(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\nbody\r\n"), "value")
	f.Add([]byte("Subject: x\r\n y\r\n"), "a\r\n b")
	f.Add([]byte("\r\n\r\n"), "\r\n\r\n")
	f.Add([]byte(" x\r\n:\r\n\x00\r\r\n"), "\n")
	f.Add([]byte(""), "\r")
	f.Fuzz(func(t *testing.T, msg []byte, value string) {
		if got := write(t, &Outgoing{Message: NewMessage(msg)}); got != string(msg) {
			t.Fatalf("without an edit %q became %q", msg, got)
		}
		got := write(t, &Outgoing{Message: NewMessage(msg), Edits: []Edit{{Op: Add, Name: "X-Added", Value: value}}})
		added, ok := strings.CutSuffix(got, string(msg))
		if !ok {
			t.Fatalf("%q became %q", msg, got)
		}
		h, n := ParseHeader([]byte(added))
		if len(h) != 1 || n != len(added) || !h[0].Is("X-Added") {
			t.Errorf("value %q made %q", value, added)
		}
		if s := strings.ReplaceAll(added, "\r\n", ""); strings.ContainsAny(s, "\r\n\x00") {
			t.Errorf("value %q made %q", value, added)
		}
	})
}
