package listen

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"postern/filter/mail"
)

// referenceDecode is the rule of dataDecoder over the whole input at once.
func referenceDecode(wire []byte) (msg, rest []byte, ok bool) {
	wire = append([]byte("\r\n"), wire...)
	body, rest, ok := bytes.Cut(wire, []byte("\r\n.\r\n"))
	if !ok {
		return nil, nil, false
	}
	for _, line := range bytes.Split(body, crlf)[1:] {
		msg = append(msg, bytes.ReplaceAll(bytes.TrimPrefix(line, []byte(".")), []byte("\n"), crlf)...)
		msg = append(msg, crlf...)
	}
	return msg, rest, true
}

// decodeInPieces feeds the decoder with pieces of the given length.
func decodeInPieces(wire []byte, piece int) (msg, rest []byte, ok bool) {
	var d dataDecoder
	var w bytes.Buffer
	for len(wire) > 0 {
		n, end := d.decode(&w, wire[:min(piece, len(wire))])
		wire = wire[n:]
		if end {
			return w.Bytes(), wire, true
		}
	}
	return nil, nil, false
}

func checkDecode(t *testing.T, wire []byte) {
	t.Helper()
	msg, rest, ok := referenceDecode(wire)
	for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
		m, r, k := decodeInPieces(wire, piece)
		if k != ok || !bytes.Equal(m, msg) || !bytes.Equal(r, rest) {
			t.Fatalf("%q in pieces of %d: %q, rest %q, %v; want %q, rest %q, %v", wire, piece, m, r, k, msg, rest, ok)
		}
	}
	if bytes.Count(msg, []byte("\n")) != bytes.Count(msg, crlf) {
		t.Fatalf("%q: bare LF in %q", wire, msg)
	}
}

func TestDecodeRandom(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		wire := make([]byte, rnd.IntN(14))
		for i := range wire {
			wire[i] = "\r\r\n\n..a"[rnd.IntN(7)]
		}
		checkDecode(t, wire)
		checkDecode(t, append(wire, "\r\n.\r\nMAIL"...))
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{".\r\n", "a\r\n.\r\n", "a\r\r\n.\r\nb", "\n.\r\n\r\n.\r\n", ".\r.\r\n\r\n.\r\n", "..\r\n.\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, wire []byte) { checkDecode(t, wire) })
}

// The ways in which a line end is written to smuggle a second message: each
// makes one message here, but for the last, which is a true end.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const second = "MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
	for seq, want := range map[string]int{
		"\n.\n": 1, "\n.\r\n": 1, "\r\n.\n": 1, "\r\n.\r\r\n": 1,
		"\r.\r": 1, "\r\n.\r": 1, "\r.\r\n": 1,
		"\r\n\x00.\r\n": 1, "\r\n.\x00\r\n": 1,
		"\r\r\n.\r\n": 2,
	} {
		h := &recorder{}
		_, addr := startFeed(t, h, FeedOptions{})
		p := dial(t, addr).hello("EHLO").mail("b@y.test")
		p.send("hello" + seq + second + "\r\n.")
		p.want("250 ...")
		if want == 2 {
			p.want("250 ...", "250 ...", "354 ...", "250 ...")
		}
		p.send("QUIT")
		p.want("221 ...")
		p.wantEnd()
		msgs := h.messages()
		if len(msgs) != want {
			t.Errorf("%q: %d messages: %q", seq, len(msgs), msgs)
		}
		if strings.Contains(strings.ReplaceAll(msgs[0], "\r\n", ""), "\n") {
			t.Errorf("%q: bare LF in %q", seq, msgs[0])
		}
	}
}

func TestIncoming(t *testing.T) {
	t.Parallel()
	m := incoming{limit: 5}
	for _, s := range []string{"ab", "cde"} {
		m.Write([]byte(s))
	}
	if m.over() || m.err != nil {
		t.Fatal("the limit itself is allowed")
	}
	m.Write([]byte("f"))
	m.Write([]byte("g"))
	if !m.over() || m.size != 7 {
		t.Errorf("over %v, size %d", m.over(), m.size)
	}

	m = incoming{limit: 100, err: errors.New("disk full")}
	if n, err := m.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("the decoder must go on after an error: %d, %v", n, err)
	}
	m = incoming{limit: 1 << 20, spool: mail.Spool{Dir: "/nonexistent", Memory: 1}}
	m.Write([]byte("abc"))
	if m.err == nil {
		t.Error("no error from a spool without folder")
	}
}
