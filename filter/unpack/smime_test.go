package unpack

import (
	"encoding/binary"
	"testing"

	"postern/filter/mail"
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

func FuzzCMS(f *testing.F) {
	f.Add(signedData([]byte("hello"), false))
	f.Add(signedData([]byte("hello"), true))
	f.Fuzz(func(t *testing.T, data []byte) {
		if content, _, _ := cmsContent(data); len(content) > len(data) {
			t.Errorf("%d octets from %d", len(content), len(data))
		}
	})
}
