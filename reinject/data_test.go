package reinject

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"postern/filter/mail"
)

func wire(t testing.TB, o *mail.Outgoing) string {
	t.Helper()
	var b bytes.Buffer
	lasts := 0
	err := writeMessage(o, func(block []byte, last bool) error {
		if last {
			lasts++
		} else if lasts > 0 {
			t.Error("block after the last one")
		}
		b.Write(block)
		return nil
	})
	if err != nil || lasts != 1 {
		t.Fatalf("error %v, %d last blocks", err, lasts)
	}
	return b.String()
}

func TestDataWriter(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                       ".\r\n",
		"a\r\n":                  "a\r\n.\r\n",
		"a":                      "a\r\n.\r\n",
		"a\r":                    "a\r\r\n.\r\n",
		".\r\n":                  "..\r\n.\r\n",
		"..a\r\n.b\r\n":          "...a\r\n..b\r\n.\r\n",
		"a\r\n.\r\nMAIL\r\n":     "a\r\n..\r\nMAIL\r\n.\r\n",
		"a\n.\nMAIL":             "a\r\n..\r\nMAIL\r\n.\r\n",
		"a\n.\r\nMAIL":           "a\r\n..\r\nMAIL\r\n.\r\n",
		"a\r\n.\nMAIL":           "a\r\n..\r\nMAIL\r\n.\r\n",
		"a\r\n.\r\r\nMAIL":       "a\r\n..\r\r\nMAIL\r\n.\r\n",
		"a\r.\r\r\n":             "a\r.\r\r\n.\r\n",
		"a\r.\r\nb":              "a\r.\r\nb\r\n.\r\n",
		"a\r\r\n.\r\n":           "a\r\r\n..\r\n.\r\n",
		"\x00.\r\n\x00\r\n.\x00": "\x00.\r\n\x00\r\n..\x00\r\n.\r\n",
		"\n\n":                   "\r\n\r\n.\r\n",
	} {
		if got := wire(t, &mail.Outgoing{Message: mail.NewMessage([]byte(in))}); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestDataWriterLarge(t *testing.T) {
	t.Parallel()
	body := "X: y\r\n\r\n" + strings.Repeat(strings.Repeat("z", 77)+"\r\n.dot\r\n", 3000) + strings.Repeat("q", 3*blockSize) + "\r\n"
	got := wire(t, &mail.Outgoing{Message: mail.NewMessage([]byte(body)), Edits: []mail.Edit{{Name: "A", Value: "b"}}})
	if want := "A: b\r\n" + strings.ReplaceAll(body, "\r\n.", "\r\n..") + ".\r\n"; got != want {
		t.Error("bytes differ")
	}
}

// What is sent is one message for a strict reader, which knows only CR LF, and
// for a lax one, which takes LF as well; and both see the same.
func FuzzDataWriter(f *testing.F) {
	for _, s := range []string{"", "a\r\n.\r\nb", "a\n.\nb", "a\r\n.\r\r\n", "\r", ".\r\r\n.\r\n", "\r\n.", "..\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		var b bytes.Buffer
		w := &dataWriter{buf: make([]byte, 0, 7), write: func(p []byte, _ bool) error { b.Write(p); return nil }}
		// in two pieces, because state is carried over
		cut = min(max(cut, 0), len(data))
		for _, p := range [][]byte{data[:cut], data[cut:]} {
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		const next = "MAIL FROM:<next>\r\n"
		sent := b.String() + next
		strict, rest := bufio.NewReader(strings.NewReader(sent)), ""
		msg, err := readData(strict)
		if err != nil {
			t.Fatalf("strict: %v in %q", err, sent)
		}
		if rest, _ = strict.ReadString(0); rest != next {
			t.Fatalf("strict reader goes on with %q", rest)
		}
		lax, rest, ok := laxRead(sent)
		if !ok || rest != next {
			t.Fatalf("lax reader goes on with %q", rest)
		}
		if unstuff(strings.Split(msg, "\r\n")) != lax {
			t.Fatalf("strict %q\nlax %q", msg, lax)
		}
		// the same message, but for line ends
		want := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n", "\r\n")
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if got := unstuff(strings.Split(msg, "\r\n")); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func unstuff(lines []string) string {
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, ".")
	}
	return strings.Join(lines, "\r\n")
}

// laxRead takes LF and CR LF for line ends.
func laxRead(s string) (msg, rest string, ok bool) {
	var b strings.Builder
	for {
		line, after, found := strings.Cut(s, "\n")
		if !found {
			return "", "", false
		}
		s = after
		line = strings.TrimSuffix(line, "\r")
		if line == "." {
			return b.String(), s, true
		}
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
}

func TestHas8bit(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		b := bytes.Repeat([]byte("\x7f"), n)
		if has8bit(b) {
			t.Errorf("%d: ASCII", n)
		}
		for i := range b {
			b[i] = 0x80
			if !has8bit(b) {
				t.Errorf("%d: octet %d", n, i)
			}
			b[i] = 0x7f
		}
	}
}
