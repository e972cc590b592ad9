package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readLHA gives the members of an LHA archive, header levels 0 to 3.
func readLHA(x *budget.Opener, data []byte) error {
	for pos := 0; pos < len(data) && data[pos] != 0; {
		h, err := parseLHA(data[pos:])
		if err != nil {
			x.Damage("lha: %v", err)
			return x.GiveTail(data[pos:])
		}
		packed := data[min(pos+h.header, len(data)):]
		if h.packed > int64(len(packed)) {
			x.Damage("lha: cut")
		} else {
			packed = packed[:h.packed]
		}
		pos += h.header + len(packed)
		m := budget.Member{Names: filetype.AddName(nil, filetype.TextName(h.name)), Size: h.size}
		if h.method == "-lhd-" {
			m.Dir = true
			if err := x.Give(m); err != nil {
				return err
			}
			continue
		}
		if err := giveLZH(x, m, h.method, packed); err != nil {
			return err
		}
	}
	return nil
}

// giveLZH gives a member that is packed by one of the methods of LHA or ARJ.
func giveLZH(x *budget.Opener, m budget.Member, method string, packed []byte) error {
	var r io.Reader
	switch method {
	case "-lh0-", "-lz4-", "arj0":
		return x.GiveStored(m, packed)
	case "-lh4-", "-lh5-":
		r = codec.NewLZH(packed, 13, 14, 4, m.Size)
	case "-lh6-":
		r = codec.NewLZH(packed, 15, 16, 5, m.Size)
	case "-lh7-":
		r = codec.NewLZH(packed, 16, 17, 5, m.Size)
	case "arj1", "arj2", "arj3":
		r = codec.NewLZH(packed, 15, 17, 5, m.Size)
	default:
		m.Note = "method " + method + " is not supported"
		x.Damage("%q: method %q is not supported", first(m.Names), method)
		return x.Give(m)
	}
	return x.GiveDecoded(m, r, m.Size)
}

type lhaHeader struct {
	method       string
	name         []byte
	packed, size int64
	header       int // length, with extended headers
}

// parseLHA reads the header at the start of b.
func parseLHA(b []byte) (h lhaHeader, err error) {
	le := binary.LittleEndian
	if len(b) < 24 || b[2] != '-' || b[6] != '-' {
		return h, codec.ErrDamaged
	}
	h.method = string(b[2:7])
	h.packed, h.size = int64(le.Uint32(b[7:])), int64(le.Uint32(b[11:]))
	level := b[20]
	ext, width, next := 0, 2, 0 // offset of the extended headers, of their length fields, length of the first
	switch level {
	case 0, 1:
		h.header = int(b[0]) + 2
		n := int(b[21])
		if h.header > len(b) || 22+n > h.header {
			return h, codec.ErrDamaged
		}
		h.name = b[22 : 22+n]
		if level == 1 {
			if h.header < 27 {
				return h, codec.ErrDamaged
			}
			ext, next = h.header, int(le.Uint16(b[h.header-2:]))
		}
	case 2:
		if len(b) < 26 {
			return h, codec.ErrDamaged
		}
		h.header, ext, next = int(le.Uint16(b)), 26, int(le.Uint16(b[24:]))
	case 3:
		if len(b) < 32 {
			return h, codec.ErrDamaged
		}
		h.header, ext, width = int(min(le.Uint32(b[24:]), 1<<20)), 32, 4
		next = int(min(le.Uint32(b[28:]), 1<<20))
	default:
		return h, codec.ErrDamaged
	}
	end, err := h.extended(b, ext, width, next)
	if err != nil {
		return h, err
	}
	if level == 1 { // the packed size counts them
		h.packed -= int64(end - h.header)
		h.header = end
	}
	if h.packed < 0 || h.header < 21 {
		return h, codec.ErrDamaged
	}
	return h, nil
}

// extended reads names from the extended headers.
func (h *lhaHeader) extended(b []byte, pos, width, next int) (end int, err error) {
	var dir []byte
	for start := pos; next > 0; {
		const most = 1 << 20 // more than names and comments take
		if next < 1+width || pos+next > len(b) || pos-start > most {
			return 0, codec.ErrDamaged
		}
		field := b[pos+1 : pos+next-width]
		switch b[pos] {
		case 1:
			h.name = field
		case 2:
			dir = bytes.ReplaceAll(field, []byte{0xff}, []byte("/"))
		}
		pos += next
		if width == 2 {
			next = int(binary.LittleEndian.Uint16(b[pos-2:]))
		} else {
			next = int(min(binary.LittleEndian.Uint32(b[pos-4:]), 1<<20))
		}
	}
	if dir != nil {
		h.name = append(bytes.Clone(dir), h.name...)
	}
	return pos, nil
}

// readARJ gives the members of an ARJ archive.
func readARJ(x *budget.Opener, data []byte) error {
	le := binary.LittleEndian
	for pos := 0; ; {
		if pos+4 > len(data) || data[pos] != 0x60 || data[pos+1] != 0xea {
			return codec.ErrDamaged
		}
		n := int(le.Uint16(data[pos+2:]))
		if n == 0 {
			return x.GiveTail(data[pos+4:])
		}
		if n < 30 || pos+4+n+6 > len(data) || int(data[pos+4]) > n {
			return codec.ErrDamaged
		}
		h := data[pos+4 : pos+4+n]
		pos += 4 + n + 4
		for next := -1; next != 0; { // extended headers
			if pos+2 > len(data) {
				return codec.ErrDamaged
			}
			if next = int(le.Uint16(data[pos:])); next > 0 {
				next += 4
			}
			pos += 2 + next
		}
		flags, method, kind := h[4], h[5], h[6]
		if flags&4 != 0 {
			x.Damage("arj: part of a set of several files")
		}
		if kind == 2 { // archive header
			continue
		}
		packed := data[min(pos, len(data)):]
		if size := int(le.Uint32(h[12:])); size > len(packed) {
			x.Damage("arj: cut")
		} else {
			packed = packed[:size]
		}
		pos += len(packed)
		name, _, _ := strings.Cut(string(h[h[0]:]), "\x00")
		m := budget.Member{Names: filetype.AddName(nil, filetype.TextName([]byte(name))), Size: int64(le.Uint32(h[16:]))}
		var err error
		switch {
		case kind == 3:
			m.Dir = true
			err = x.Give(m)
		case flags&1 != 0:
			m.Encrypted = true
			err = x.Give(m)
		default:
			err = giveLZH(x, m, fmt.Sprintf("arj%d", method), packed)
		}
		if err != nil {
			return err
		}
	}
}
