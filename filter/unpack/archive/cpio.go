package archive

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// cpioEntry is a header of any cpio format.
type cpioEntry struct {
	name       []byte
	mode, size int64
	data, next int // offsets
}

// readCpio gives the members of a cpio file: the binary format in both octet
// orders, odc, newc and crc.
func readCpio(x *budget.Opener, data []byte) error {
	pos := 0
	for {
		e, ok := parseCpio(data, pos)
		if !ok {
			return codec.ErrDamaged
		}
		if string(e.name) == "TRAILER!!!" {
			return x.GiveTail(data[min(e.next, len(data)):])
		}
		m := budget.Member{Names: filetype.AddName(nil, filetype.TextName(e.name)), Size: e.size}
		switch e.mode & 0o170000 {
		case 0o040000:
			m.Dir = true
		case 0o120000:
			m.Link = true
		case 0o100000, 0:
		default:
			m.Special = true
		}
		content := data[e.data:min(e.data+int(e.size), len(data))]
		var err error
		if len(content) == 0 && (m.Dir || m.Special || m.Link) {
			err = x.Give(m)
		} else {
			err = x.GiveStored(m, content)
		}
		if err != nil {
			return err
		}
		if e.next > len(data) {
			return codec.ErrDamaged
		}
		pos = e.next
	}
}

// parseCpio reads the header at pos.
func parseCpio(data []byte, pos int) (e cpioEntry, ok bool) {
	b := data[pos:]
	var nameLen int64
	header, align := 0, 1
	switch {
	case bytes.HasPrefix(b, []byte("07070")) && len(b) >= 110 && (b[5] == '1' || b[5] == '2'):
		header, align = 110, 4
		e.mode, e.size, nameLen = number(b[14:22], 16), number(b[54:62], 16), number(b[94:102], 16)
	case bytes.HasPrefix(b, []byte("070707")) && len(b) >= 76:
		header = 76
		e.mode, nameLen, e.size = number(b[18:24], 8), number(b[59:65], 8), number(b[65:76], 8)
	case len(b) >= 26 && b[0] == 0xc7 && b[1] == 0x71:
		header, align = 26, 2
		e.mode, nameLen, e.size = cpioBinary(b, binary.LittleEndian)
	case len(b) >= 26 && b[0] == 0x71 && b[1] == 0xc7:
		header, align = 26, 2
		e.mode, nameLen, e.size = cpioBinary(b, binary.BigEndian)
	default:
		return e, false
	}
	if e.mode < 0 || e.size < 0 || nameLen < 1 || nameLen > int64(len(b)-header) || e.size > 1<<40 {
		return e, false
	}
	round := func(n int) int { return (n + align - 1) / align * align }
	e.name = bytes.TrimSuffix(b[header:header+int(nameLen)], []byte{0})
	e.data = min(pos+round(header+int(nameLen)), len(data))
	e.next = e.data + round(int(e.size))
	return e, true
}

// cpioBinary reads the fields of the old format: 16-bit words, the size with
// its high half first.
func cpioBinary(b []byte, order binary.ByteOrder) (mode, nameLen, size int64) {
	return int64(order.Uint16(b[6:])), int64(order.Uint16(b[20:])),
		int64(order.Uint16(b[22:]))<<16 | int64(order.Uint16(b[24:]))
}

// number reads digits, -1 if there are others.
func number(b []byte, base int) int64 {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), base, 63)
	if err != nil {
		return -1
	}
	return n
}
