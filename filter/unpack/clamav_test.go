//go:build integration

package unpack

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// TestClamAVTestFiles takes apart the files of Debian's package
// clamav-testfiles: one harmless program in 44 wrappings. Whatever is not
// unpacked must say so, or be a program, which is banned by itself.
func TestClamAVTestFiles(t *testing.T) {
	const (
		folder  = "/usr/share/clamav-testfiles"
		program = "aa15bcf478d165efd2065190eb473bcb" // MD5, 544 octets
		wanted  = 26
	)
	files, err := filepath.Glob(folder + "/clam*")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files in %s: install clamav-testfiles", len(files), folder)
	}
	found := 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := Parts(t.Context(), attached(filepath.Base(path), data), budget.DefaultLimits)
		has := slices.ContainsFunc(r.Parts, func(p *mail.Part) bool {
			if len(p.Data) < 544 {
				return false
			}
			sum := md5.Sum(p.Data[:544])
			return hex.EncodeToString(sum[:]) == program
		})
		isProgram := slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return slices.Contains(p.Types, "exe") })
		state := "SILENT"
		switch {
		case has:
			state = "unpacked"
			found++
		case len(r.Findings) > 0:
			state = "unchecked: " + r.Findings[0].Detail
		case isProgram:
			state = "program"
		default:
			t.Errorf("%s: neither unpacked nor doubted", path)
		}
		t.Logf("%-22s %s", filepath.Base(path), state)
	}
	t.Logf("%d of %d unpacked", found, len(files))
	if found < wanted {
		t.Errorf("%d unpacked, want %d", found, wanted)
	}
}

// attached is a message with one attachment.
func attached(name string, data []byte) *mail.Message {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: a@example.com\r\nTo: b@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n", name)
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text + "\r\n--x--\r\n")
	return mail.NewMessage([]byte(strings.ToValidUTF8(b.String(), "?")))
}
