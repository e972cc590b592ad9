package specimen

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// Stream is an entry of a compound file to build. Storages have no data.
type Stream struct {
	Name     string
	Data     []byte
	Children []Stream
}

// noSector is what a compound file has in place of a number where there is
// none.
const noSector = 0xffffffff

// entry is a Stream with its place in the file.
type entry struct {
	Stream
	left, right, child uint32
	start, size        uint32
	kind               byte
}

// entriesOf returns the directory of a tree: siblings hang to the right of each
// other.
func entriesOf(root []Stream) []entry {
	dir := []entry{{Stream: Stream{Name: "Root Entry"}, left: noSector, right: noSector, child: noSector, kind: 5}}
	var add func(parent int, nodes []Stream)
	add = func(parent int, nodes []Stream) {
		at := len(dir)
		for i, n := range nodes {
			e := entry{Stream: n, left: noSector, right: noSector, child: noSector, kind: 2}
			if n.Data == nil {
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
			add(at+i, n.Children)
		}
	}
	add(0, root)
	return dir
}

// Compound builds an OLE compound file of version 3. Every stream is padded
// to the size from which the mini stream is not used.
func Compound(root ...Stream) []byte {
	const sector = 512
	dir := entriesOf(root)
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
		data := append(slices.Clone(dir[i].Data), make([]byte, max(0, 4096-len(dir[i].Data)))...)
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
		le.PutUint32(out[off:], noSector)
	}
	for len(fat) < sector/4 {
		fat = append(fat, noSector)
	}
	for _, v := range fat {
		out = le.AppendUint32(out, v)
	}
	for _, e := range dir {
		b := make([]byte, 128)
		name := utf16.Encode([]rune(e.Name))
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

// Wide returns s as UTF-16, little endian, with a NUL.
func Wide(s string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, 0, 0)
}

// OutlookMessage is a compound file of Outlook with one attachment.
func OutlookMessage(name string, data []byte) []byte {
	return Compound(
		Stream{Name: "__properties_version1.0", Data: []byte{1}},
		Stream{Name: "__attach_version1.0_#00000000", Children: []Stream{
			{Name: "__substg1.0_37010102", Data: data},
			{Name: "__substg1.0_3707001F", Data: Wide(name)},
		}})
}

// OLENative is an Ole10Native stream.
func OLENative(name string, data []byte) []byte {
	out := []byte{0, 0, 0, 0, 2, 0}
	out = append(append(out, "label\x00"...), name+"\x00"...)
	path := `C:\tmp\` + name + "\x00"
	out = append(out, 0, 0, 3, 0, byte(len(path)), 0, 0, 0)
	out = append(out, path...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}
