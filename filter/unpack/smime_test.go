package unpack

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/specimen"
)

// der is one element with a definite length.
func der(tag byte, content ...byte) []byte {
	out := []byte{tag, 0x84}
	out = binary.BigEndian.AppendUint32(out, uint32(len(content)))
	return append(out, content...)
}

func cat(list ...[]byte) (out []byte) {
	for _, b := range list {
		out = append(out, b...)
	}
	return out
}

// signedData wraps content as opaque signed S/MIME, in one octet string or in
// pieces of indefinite length.
func signedData(content []byte, pieces bool) []byte {
	inner := der(0x04, content...)
	if pieces {
		inner = []byte{0x24, 0x80}
		for len(content) > 0 {
			n := min(100, len(content))
			inner = append(inner, der(0x04, content[:n]...)...)
			content = content[n:]
		}
		inner = append(inner, 0, 0)
	}
	encap := der(0x30, cat(oidPlainData, der(0xa0, inner...))...)
	signed := der(0x30, cat([]byte{2, 1, 1, 0x31, 0}, encap, []byte{0x31, 0})...)
	return der(0x30, cat(oidPKCS7, []byte{cmsSigned}, der(0xa0, signed...))...)
}

func TestSMIME(t *testing.T) {
	t.Parallel()
	inner := []byte(mixedReal + "\r\n" + mixedBody("real", evilPart()))
	for what, data := range map[string][]byte{"whole": signedData(inner, false), "pieces": signedData(inner, true)} {
		r := attach("smime.p7m", data)
		if p := partNamed(r, "evil.exe"); p == nil || len(r.Findings) > 0 {
			t.Errorf("%s:\n%s", what, describeTree(r))
		}
	}
	if r := attach("smime.p7m", signedData(inner, true)[:900]); !hasMinor(r, mail.Ambiguous) {
		t.Errorf("cut content is quiet\n%s", describeTree(r))
	}
	encap := der(0x30, oidPlainData...)
	detached := der(0x30, cat(oidPKCS7, []byte{cmsSigned}, der(0xa0, der(0x30, cat([]byte{2, 1, 1, 0x31, 0}, encap)...)...))...)
	if r := attach("smime.p7s", detached); len(r.Findings) > 0 || len(r.Parts) != 3 {
		t.Errorf("detached signature:\n%s", describeTree(r))
	}
	for _, oid := range [][]byte{append(cat(oidPKCS7), cmsEnveloped), append(cat(oidPKCS7), cmsEncrypted), oidAuthEnv} {
		if r := attach("smime.p7m", der(0x30, cat(oid, make([]byte, 30))...)); !hasMinor(r, mail.Encrypted) {
			t.Errorf("encryption not seen\n%s", describeTree(r))
		}
	}
}

// TestSignedFiles: what is signed may be a file and no mail.
func TestSignedFiles(t *testing.T) {
	t.Parallel()
	zipped := specimen.Zip(specimen.ZipFile{Name: "a.txt", Data: []byte("hello")})
	for name, data := range map[string][]byte{
		"a.docx": zipped, "a.pdf": []byte("%PDF-1.4\r1 0 obj\r<</A 1>>\rendobj\rtrailer<</Root 1 0 R>>\r"), "a.csv": []byte("name;street\r\nA: b;c\r\n"),
		"a.xml": []byte("<p:Fattura xmlns:p=\"x\">\n<a/>\n</p:Fattura>\n"), "a.txt": []byte("Dear all,\rthis is: a letter\r"),
	} {
		r := attach(name+".p7m", signedData(data, true))
		if p := partNamed(r, name); p == nil || len(r.Findings) > 0 || !bytes.Equal(p.Data, data) {
			t.Errorf("%s:\n%s", name, describeTree(r))
		}
	}
	if r := attach("evil.exe.p7m", signedData(specimen.Payload, false)); partNamed(r, "evil.exe") == nil || !r.holds(specimen.Payload) {
		t.Errorf("a program:\n%s", describeTree(r))
	}
	behind := append(signedData([]byte("hello"), false), zipped...)
	if r := attach("a.p7m", behind); !slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return p.Name() == "a.txt" }) {
		t.Errorf("an archive behind the signed data:\n%s", describeTree(r))
	}
	late := []byte("some line\r\n" + mixedReal + "\r\n" + mixedBody("real", evilPart()))
	if r := attach("smime.p7m", signedData(late, false)); !r.holds(specimen.Payload) {
		t.Errorf("fields behind a line that is none:\n%s", describeTree(r))
	}
}

// TestMailboxes: each message of a mailbox is one by itself; what a mail
// program opens as one message is read so.
func TestMailboxes(t *testing.T) {
	t.Parallel()
	const from = "From a@example.org Mon Jun  1 10:00:00 2026\n"
	box := []byte(from + strings.ReplaceAll(withPart(evilPart()), "\r\n", "\n") + "\n" + from + strings.ReplaceAll(withPart(evilPart()), "\r\n", "\n"))
	for name, letters := range map[string]int{"a.mbox": 2, "a": 2, "a.eml": 1} {
		r := attach(name, box)
		p := partNamed(r, name)
		if p == nil || len(p.Children) != letters || letters == 2 && len(r.Findings) > 0 || !r.holds(specimen.Payload) {
			t.Errorf("%s:\n%s", name, describeTree(r))
		}
	}
}

func FuzzCMS(f *testing.F) {
	f.Add(signedData([]byte("hello"), false))
	f.Add(signedData([]byte("hello"), true))
	f.Fuzz(func(t *testing.T, data []byte) {
		if content, _, _ := cmsContent(data); len(content) > len(data) {
			t.Errorf("%d octets from %d", len(content), len(data))
		}
		if rest, ok := berSkip(data, 0); ok && !bytes.HasSuffix(data, rest) {
			t.Errorf("%d octets are left of %d", len(rest), len(data))
		}
	})
}
