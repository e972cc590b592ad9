package filter

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy"
)

// BenchmarkExamine is selection, unpacking, banned rules and decision without
// any scanner.
func BenchmarkExamine(b *testing.B) {
	text := "From: a@example.net\r\nTo: b@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 90)
	attached := "From: a@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n" +
		"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 13000) + "--b--\r\n"
	cfg, err := policy.Parse("postern.yaml", nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler)}
	for name, message := range map[string]string{"text of 4 kB": text, "attachment of 1 MB": attached} {
		b.Run(name, func(b *testing.B) {
			tx := &mail.Transaction{Listener: "127.0.0.1:10024", Message: mail.NewMessage([]byte(message)), Rcpts: []mail.Recipient{{Address: "b@example.org"}}}
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Examine(context.Background(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
