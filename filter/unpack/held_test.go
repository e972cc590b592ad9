package unpack

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// manyReadings is a message of about n octets that has many readings, each as
// long as itself: two transfer encodings, and a bare CR in header and body.
func manyReadings(n int) string {
	data := make([]byte, n/4*3)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	text := specimen.Wrap64(data)
	return mailHead + "X-Odd: a\rb\r\nContent-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		text[:len(text)/2] + "=\r-_" + text[len(text)/2:]
}

// TestHeld: what the parts of a message hold on to is what Held says, and the
// budget has granted it.
func TestHeld(t *testing.T) {
	for name, build := range map[string]func(n int) string{
		"many readings": manyReadings,
		"attachment":    func(n int) string { return string(bigMail(n / 4 * 3)) },
		"uuencode": func(n int) string {
			return mailHead + "\r\n" + strings.Repeat("x\r\nbegin 644 a\r\n"+strings.Repeat("M"+strings.Repeat("A", 60)+"\r\n", 1000)+"end\r\n", n/64000)
		},
		"yEnc parts": func(n int) string {
			return mailHead + "\r\n" + strings.Repeat("=ybegin part=1 name=a\r\n"+strings.Repeat("x", 100_000)+"\r\n=yend\r\n", n/100_000)
		},
		"bare CR in many parts": func(n int) string {
			return withBody(strings.Repeat("--real\r\nContent-Type: application/octet-stream\r\nX: a\rb\r\n\r\n"+strings.Repeat("x", 100_000)+"\ry\r\n", n/100_000))
		},
		"nested bare CR": func(n int) string {
			return mimeHead + strings.Repeat("X: a\rb\r\nContent-Type: message/rfc822\r\n\r\n", 4) + "X: a\rb\r\n\r\n" + strings.Repeat("x\ry", n/3)
		},
		"damaged base64": func(n int) string {
			return withCTE("Content-Transfer-Encoding: base64", strings.Repeat("QUJD=-QU_J\r\n", n/12))
		},
		"signed in pieces": func(n int) string {
			piece := "\x04\x82\x10\x00" + strings.Repeat("x", 4096)
			return withPart(octet + "\r\n0\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x30\x80\x02\x01\x01\x31\x00\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80\x24\x80" + strings.Repeat(piece, n/4100))
		},
		"archives": func(n int) string { return string(bomb(t, 100, 300<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			text := build(4 << 20)
			msg := mail.NewMessage([]byte(text))
			size := int64(len(text))
			var before, after runtime.MemStats
			runtime.GC()
			runtime.GC() // also what building it has left
			runtime.ReadMemStats(&before)
			r := Parts(context.Background(), msg, budget.DefaultLimits)
			runtime.GC()
			runtime.ReadMemStats(&after)
			const tolerance = 2 << 20 // names, parts, and what lies around
			got := int64(after.HeapAlloc) - int64(before.HeapAlloc) + size
			if got > r.Held+tolerance || got < r.Held-tolerance {
				t.Errorf("%d octets are held, Held says %d", got, r.Held)
			}
			if most := 64<<20 + 3*size; r.Held > most {
				t.Errorf("Held %d, at most %d is allowed", r.Held, most)
			}
			runtime.KeepAlive(r)
			runtime.KeepAlive(msg)
		})
	}
}
