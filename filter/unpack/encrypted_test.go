package unpack

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// What the sender encrypts for the reader is told from files with a password,
// whatever either is called.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	const pgp = "-----BEGIN PGP MESSAGE-----\r\n\r\nhF4DUZpVdNyVt0gSAQdAZ0Jm\r\n-----END PGP MESSAGE-----\r\n"
	enveloped := "Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(append([]byte("\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0"), bytes.Repeat([]byte{7}, 40)...)) + "\r\n"
	zip := "Content-Transfer-Encoding: base64\r\n\r\nUEsDBBQAAQAIAJJMCVNyP8tuCAAAAJABAAAKAAAAc2VjcmV0LnR4dKuoGAWDCQAAUEsBAhQDFAAB\r\n" +
		"AAgAkkwJU3I/y24IAAAAkAEAAAoAAAAAAAAAAAAAAIABAAAAAHNlY3JldC50eHRQSwUGAAAAAAEA\r\nAQA4AAAAMAAAAAAA\r\n"
	part := func(s string) string { return "--b\r\n" + s }
	multi := func(kind string, parts ...string) string {
		return "MIME-Version: 1.0\r\nContent-Type: multipart/" + kind + "; boundary=b\r\n\r\n" + strings.Join(parts, "") + "--b--\r\n"
	}
	version := part("Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n")
	for name, tt := range map[string]struct {
		message     string
		sealed, not int // findings UNCHECKED, encrypted; a zip and its member are two
	}{
		"PGP/MIME":                        {multi("encrypted", version, part("Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n"+pgp)), 1, 0},
		"PGP in the text":                 {"Subject: x\r\n\r\n" + pgp, 1, 0},
		"PGP in a text part":              {multi("mixed", part("Content-Type: text/plain\r\n\r\n"+pgp)), 1, 0},
		"an OpenPGP file":                 {multi("mixed", part("Content-Type: application/octet-stream; name=a.pdf.asc\r\n\r\n"+pgp)), 0, 1},
		"S/MIME":                          {"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; name=smime.p7m\r\n" + enveloped, 1, 0},
		"S/MIME behind a list":            {multi("mixed", part("Content-Type: application/x-pkcs7-mime\r\n"+enveloped), part("\r\nfooter\r\n")), 1, 0},
		"a zip":                           {multi("mixed", part("Content-Type: application/zip\r\n"+zip)), 0, 2},
		"a zip in multipart/encrypted":    {multi("encrypted", version, part("Content-Type: application/octet-stream\r\n"+zip)), 0, 2},
		"a zip that is said to be S/MIME": {"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime\r\n" + zip, 0, 2},
		"a zip behind many texts":         {multi("mixed", strings.Repeat(part("\r\n"+pgp), 3*maxFindings)+part("Content-Type: application/zip\r\n"+zip)), maxFindings, 2},
	} {
		sealed, not := 0, 0
		for _, f := range Parts(context.Background(), mail.NewMessage([]byte(tt.message)), budget.DefaultLimits).Findings {
			switch {
			case f.Minor == mail.Encrypted && f.EndToEnd:
				sealed++
			case f.Minor == mail.Encrypted:
				not++
			case f.EndToEnd:
				t.Errorf("%s: %+v", name, f)
			}
		}
		if sealed != tt.sealed || not != tt.not {
			t.Errorf("%s: %d for the reader, %d with a password; want %d, %d", name, sealed, not, tt.sealed, tt.not)
		}
	}
}
