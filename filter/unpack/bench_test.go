package unpack

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// textMail is an ordinary plain message of about 4 kB.
func textMail() []byte {
	return []byte(mimeHead + "Received: from mx.example.org (mx.example.org [192.0.2.1])\r\n\tby mail.example.com (Postfix) with ESMTPS id 4XyZ\r\n" +
		"\tfor <bob@example.com>; Mon,  1 Jun 2026 10:00:00 +0000 (UTC)\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 7bit\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog, and so on it goes.\r\n", 56))
}

// bigMail is an ordinary message of 1 MB with an attachment of 700 kB.
func bigMail(size int) []byte {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return []byte(withPart("Content-Type: application/octet-stream; name=\"data.bin\"\r\n" +
		"Content-Disposition: attachment; filename=\"data.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(data)))
}

func benchmarkParts(b *testing.B, data []byte) {
	msg := mail.NewMessage(data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if r := Parts(context.Background(), msg, budget.DefaultLimits); len(r.Findings) > 0 {
			b.Fatal(describeTree(r))
		}
	}
}

// BenchmarkText must stay under 50 microseconds.
func BenchmarkText(b *testing.B) { benchmarkParts(b, textMail()) }

// BenchmarkAttachment must reach 400 MB/s.
func BenchmarkAttachment(b *testing.B) { benchmarkParts(b, bigMail(700<<10)) }
