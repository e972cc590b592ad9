package unpack

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// oleNode is an entry of a compound file to build. Storages have no data.
type oleNode struct {
	name     string
	data     []byte
	children []oleNode
}

// compound builds an OLE compound file of version 3. Every stream is padded
// to the size from which the mini stream is not used.
func compound(root ...oleNode) []byte {
	const sector = 512
	type entry struct {
		oleNode
		left, right, child uint32
		start, size        uint32
		kind               byte
	}
	const none = 0xffffffff
	dir := []entry{{oleNode: oleNode{name: "Root Entry"}, left: none, right: none, child: none, kind: 5}}
	var add func(parent int, nodes []oleNode)
	add = func(parent int, nodes []oleNode) {
		at := len(dir)
		for i, n := range nodes {
			e := entry{oleNode: n, left: none, right: none, child: none, kind: 2}
			if n.data == nil {
				e.kind = 1
			}
			if i == 0 {
				dir[parent].child = uint32(at)
			} else {
				dir[at+i-1].right = uint32(at + i)
			}
			dir = append(dir, e)
		}
		for i, n := range nodes {
			add(at+i, n.children)
		}
	}
	add(0, root)
	dirSectors := (len(dir)*128 + sector - 1) / sector
	fat := []uint32{0xfffffffd}
	chain := func(n int) (start uint32) {
		start = uint32(len(fat))
		for i := range n {
			next := uint32(len(fat) + 1)
			if i == n-1 {
				next = 0xfffffffe
			}
			fat = append(fat, next)
		}
		return start
	}
	chain(dirSectors)
	var streams []byte
	for i := range dir {
		if dir[i].kind != 2 {
			continue
		}
		data := append(slices.Clone(dir[i].data), make([]byte, max(0, 4096-len(dir[i].data)))...)
		dir[i].size = uint32(len(data))
		n := (len(data) + sector - 1) / sector
		dir[i].start = chain(n)
		streams = append(streams, append(data, make([]byte, n*sector-len(data))...)...)
	}
	le := binary.LittleEndian
	out := make([]byte, sector)
	copy(out, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	for off, v := range map[int]uint16{24: 0x3e, 26: 3, 28: 0xfffe, 30: 9, 32: 6} {
		le.PutUint16(out[off:], v)
	}
	for off, v := range map[int]uint32{44: 1, 48: 1, 56: 4096, 60: 0xfffffffe, 68: 0xfffffffe, 76: 0} {
		le.PutUint32(out[off:], v)
	}
	for off := 80; off < sector; off += 4 {
		le.PutUint32(out[off:], none)
	}
	for len(fat) < sector/4 {
		fat = append(fat, none)
	}
	for _, v := range fat {
		out = le.AppendUint32(out, v)
	}
	for _, e := range dir {
		b := make([]byte, 128)
		name := utf16.Encode([]rune(e.name))
		for i, c := range name {
			le.PutUint16(b[2*i:], c)
		}
		le.PutUint16(b[64:], uint16(2*len(name)+2))
		b[66], b[67] = e.kind, 1
		le.PutUint32(b[68:], e.left)
		le.PutUint32(b[72:], e.right)
		le.PutUint32(b[76:], e.child)
		le.PutUint32(b[116:], e.start)
		le.PutUint32(b[120:], e.size)
		out = append(out, b...)
	}
	out = append(out, make([]byte, dirSectors*sector-len(dir)*128)...)
	return append(out, streams...)
}

func wide(s string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, 0, 0)
}

func outlookMessage(name string, data []byte) []byte {
	return compound(
		oleNode{name: "__properties_version1.0", data: []byte{1}},
		oleNode{name: "__attach_version1.0_#00000000", children: []oleNode{
			{name: "__substg1.0_37010102", data: data},
			{name: "__substg1.0_3707001F", data: wide(name)},
		}})
}

// native is an Ole10Native stream.
func native(name string, data []byte) []byte {
	out := []byte{0, 0, 0, 0, 2, 0}
	out = append(append(out, "label\x00"...), name+"\x00"...)
	path := `C:\tmp\` + name + "\x00"
	out = append(out, 0, 0, 3, 0, byte(len(path)), 0, 0, 0)
	out = append(out, path...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}

func attach(name string, data []byte) *Result {
	msg := withPart("Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap64(data))
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
		"x.msg": outlookMessage("evil.exe", payload),
		"y.msg": outlookMessage("inner.msg", outlookMessage("evil.exe", payload)),
		"x.doc": compound(oleNode{name: "WordDocument", data: []byte{0}}, oleNode{name: "ObjectPool", children: []oleNode{
			{name: "_1", children: []oleNode{{name: "\x01Ole10Native", data: native("evil.exe", payload)}}}}}),
	} {
		r := attach(name, data)
		p := partNamed(r, "evil.exe")
		if p == nil || !strings.HasPrefix(string(p.Data), string(payload)) || !slices.Contains(p.Types, "exe") {
			t.Errorf("%s: evil.exe not found\n%s", name, describeTree(r))
		}
	}
}

func TestOLEMarks(t *testing.T) {
	t.Parallel()
	r := attach("a.doc", compound(oleNode{name: "WordDocument", data: []byte{0}},
		oleNode{name: "Macros", children: []oleNode{{name: "VBA", children: []oleNode{{name: "dir", data: []byte{1}}}}}}))
	if p := partNamed(r, "a.doc"); p == nil || !slices.Contains(p.Facts, "macros") {
		t.Errorf("macros not seen\n%s", describeTree(r))
	}
	encrypted := make([]byte, 12)
	encrypted[11] = 1
	for name, data := range map[string][]byte{
		"b.doc": compound(oleNode{name: "WordDocument", data: encrypted}),
		"b.xls": compound(oleNode{name: "Workbook", data: []byte{9, 8, 2, 0, 0, 6, 0x2f, 0, 2, 0, 1, 0}}),
		"b.ppt": compound(oleNode{name: "EncryptedPackage", data: []byte{1}}),
	} {
		r := attach(name, data)
		if !slices.ContainsFunc(r.Findings, func(f mail.Finding) bool { return f.Minor == mail.Encrypted }) {
			t.Errorf("%s: encryption not seen\n%s", name, describeTree(r))
		}
	}
	// cut in the middle: never quiet
	whole := outlookMessage("evil.exe", payload)
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
	props := []byte{4, 0, 0, 0}
	props = binary.LittleEndian.AppendUint16(props, 3) // a number
	props = append(props, 0x20, 0x0e, 1, 2, 3, 4)
	props = binary.LittleEndian.AppendUint16(props, 0x1f) // a named property
	props = append(props, 0x01, 0x80)
	props = append(props, make([]byte, 16)...)
	props = append(props, 1, 0, 0, 0, 4, 0, 0, 0, 'x', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)
	props = prop(props, mapiUnicode, mapiLongName, wide("evil.exe"))
	props = prop(props, mapiBinary, mapiData, payload)
	data := []byte{0x78, 0x9f, 0x3e, 0x22, 1, 0, 2, 0x05, 0x90, 0x06, 0}
	data = binary.LittleEndian.AppendUint32(data, uint32(len(props)))
	data = append(append(data, props...), 0, 0)
	r := attach("winmail.dat", data)
	if p := partNamed(r, "evil.exe"); p == nil || !slices.Equal(p.Data, payload) {
		t.Errorf("attachment in properties not found\n%s", describeTree(r))
	}
	for cut := 7; cut < len(data); cut += 13 {
		if r := attach("winmail.dat", data[:cut]); len(r.Findings) == 0 {
			t.Errorf("cut at %d is quiet\n%s", cut, describeTree(r))
		}
	}
}
