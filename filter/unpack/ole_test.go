package unpack

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

func attach(name string, data []byte) *Result {
	msg := withPart("Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(data))
	return Parts(context.Background(), mail.NewMessage([]byte(msg)), budget.DefaultLimits)
}

func partNamed(r *Result, name string) *mail.Part {
	for _, p := range r.Parts {
		if slices.Contains(p.Names, name) {
			return p
		}
	}
	return nil
}

func TestOLE(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"x.msg": specimen.OutlookMessage("evil.exe", specimen.Payload),
		"y.msg": specimen.OutlookMessage("inner.msg", specimen.OutlookMessage("evil.exe", specimen.Payload)),
		"x.doc": specimen.Compound(specimen.Stream{Name: "WordDocument", Data: []byte{0}}, specimen.Stream{Name: "ObjectPool", Children: []specimen.Stream{
			{Name: "_1", Children: []specimen.Stream{{Name: "\x01Ole10Native", Data: specimen.OLENative("evil.exe", specimen.Payload)}}}}}),
	} {
		r := attach(name, data)
		p := partNamed(r, "evil.exe")
		if p == nil || !strings.HasPrefix(string(p.Data), string(specimen.Payload)) || !slices.Contains(p.Types, "exe") {
			t.Errorf("%s: evil.exe not found\n%s", name, describeTree(r))
		}
	}
}

func TestOLEMarks(t *testing.T) {
	t.Parallel()
	r := attach("a.doc", specimen.Compound(specimen.Stream{Name: "WordDocument", Data: []byte{0}},
		specimen.Stream{Name: "Macros", Children: []specimen.Stream{{Name: "VBA", Children: []specimen.Stream{{Name: "dir", Data: []byte{1}}}}}}))
	if p := partNamed(r, "a.doc"); p == nil || !slices.Contains(p.Facts, "macros") {
		t.Errorf("macros not seen\n%s", describeTree(r))
	}
	encrypted := make([]byte, 12)
	encrypted[11] = 1
	for name, data := range map[string][]byte{
		"b.doc": specimen.Compound(specimen.Stream{Name: "WordDocument", Data: encrypted}),
		"b.xls": specimen.Compound(specimen.Stream{Name: "Workbook", Data: []byte{9, 8, 2, 0, 0, 6, 0x2f, 0, 2, 0, 1, 0}}),
		"b.ppt": specimen.Compound(specimen.Stream{Name: "EncryptedPackage", Data: []byte{1}}),
	} {
		r := attach(name, data)
		if !slices.ContainsFunc(r.Findings, func(f mail.Finding) bool { return f.Minor == mail.Encrypted }) {
			t.Errorf("%s: encryption not seen\n%s", name, describeTree(r))
		}
	}
	// cut in the middle: never quiet
	whole := specimen.OutlookMessage("evil.exe", specimen.Payload)
	r = attach("cut.msg", whole[:1500])
	if len(r.Findings) == 0 {
		t.Errorf("cut file is quiet\n%s", describeTree(r))
	}
}

func TestTNEF(t *testing.T) {
	t.Parallel()
	// the long name and the data in MAPI properties
	prop := func(out []byte, kind, id uint16, v []byte) []byte {
		out = binary.LittleEndian.AppendUint16(out, kind)
		out = binary.LittleEndian.AppendUint16(out, id)
		out = binary.LittleEndian.AppendUint32(out, 1)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(v)))
		out = append(out, v...)
		return append(out, make([]byte, (4-len(v)%4)%4)...)
	}
	const mapiUnicode, mapiBinary, mapiLongName, mapiData = 0x1f, 0x102, 0x3707, 0x3701
	props := []byte{4, 0, 0, 0}
	props = binary.LittleEndian.AppendUint16(props, 3) // a number
	props = append(props, 0x20, 0x0e, 1, 2, 3, 4)
	props = binary.LittleEndian.AppendUint16(props, 0x1f) // a named property
	props = append(props, 0x01, 0x80)
	props = append(props, make([]byte, 16)...)
	props = append(props, 1, 0, 0, 0, 4, 0, 0, 0, 'x', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)
	props = prop(props, mapiUnicode, mapiLongName, specimen.Wide("evil.exe"))
	props = prop(props, mapiBinary, mapiData, specimen.Payload)
	data := []byte{0x78, 0x9f, 0x3e, 0x22, 1, 0, 2, 0x05, 0x90, 0x06, 0}
	data = binary.LittleEndian.AppendUint32(data, uint32(len(props)))
	data = append(append(data, props...), 0, 0)
	r := attach("winmail.dat", data)
	if p := partNamed(r, "evil.exe"); p == nil || !slices.Equal(p.Data, specimen.Payload) {
		t.Errorf("attachment in properties not found\n%s", describeTree(r))
	}
	for cut := 7; cut < len(data); cut += 13 {
		if r := attach("winmail.dat", data[:cut]); len(r.Findings) == 0 {
			t.Errorf("cut at %d is quiet\n%s", cut, describeTree(r))
		}
	}
}
