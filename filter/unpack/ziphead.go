package unpack

import (
	"encoding/binary"
	"errors"
)

const (
	zipLocal   = "PK\x03\x04"
	zipCentral = "PK\x01\x02"
	zipEnd     = "PK\x05\x06"
	zipEnd64   = "PK\x06\x06"
	zipLoc64   = "PK\x06\x07"

	zipLocalLen   = 30
	zipCentralLen = 46
	zipEndLen     = 22
)

// zipHeader is what one header, local or central, says about a member.
type zipHeader struct {
	names  []string // as written, and from the Unicode path field
	path   string   // Unicode path field
	flags  uint16
	method uint16
	crc    uint32
	packed int64  // -1 where a local header leaves it to the data descriptor
	size   int64  // the same
	strong uint16 // the method under the encryption of WinZip
	aes    byte   // the strength of that, 1 to 3
	time   uint16 // of the last change, DOS
	mode   uint32 // Unix mode, 0 if unknown (central only)
	dirBit bool   // DOS directory attribute (central only)
	local  int64  // offset of the local header (central only)
	end    int    // offset after the header
}

const (
	zipFlagEncrypted  = 1 << 0
	zipFlagDescriptor = 1 << 3
	zipFlagStrong     = 1 << 6
	zipFlagMasked     = 1 << 13
)

var errZipHeader = errors.New("header is cut or broken")

// parseZipCentral reads the directory entry at pos, which has its signature.
func parseZipCentral(data []byte, pos int) (zipHeader, error) {
	le := binary.LittleEndian
	if pos+zipCentralLen > len(data) {
		return zipHeader{}, errZipHeader
	}
	b := data[pos:]
	nameLen, extraLen, commentLen := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	end := zipCentralLen + nameLen + extraLen + commentLen
	if end > len(b) {
		return zipHeader{}, errZipHeader
	}
	h := zipHeader{
		flags: le.Uint16(b[8:]), method: le.Uint16(b[10:]), time: le.Uint16(b[12:]), crc: le.Uint32(b[16:]),
		packed: int64(le.Uint32(b[20:])), size: int64(le.Uint32(b[24:])),
		local: int64(le.Uint32(b[42:])), end: pos + end,
		dirBit: le.Uint32(b[38:])&0x10 != 0,
	}
	if host := b[5]; host == 3 || host == 19 { // Unix, OS X
		h.mode = le.Uint32(b[38:]) >> 16
	}
	h.name(b[zipCentralLen:zipCentralLen+nameLen], b[zipCentralLen+nameLen:zipCentralLen+nameLen+extraLen], true)
	return h, nil
}

// parseZipLocal reads the local header at pos, which has its signature.
func parseZipLocal(data []byte, pos int) (zipHeader, error) {
	le := binary.LittleEndian
	if pos+zipLocalLen > len(data) {
		return zipHeader{}, errZipHeader
	}
	b := data[pos:]
	nameLen, extraLen := int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	end := zipLocalLen + nameLen + extraLen
	if b[4] > 100 || end > len(b) {
		return zipHeader{}, errZipHeader
	}
	h := zipHeader{
		flags: le.Uint16(b[6:]), method: le.Uint16(b[8:]), time: le.Uint16(b[10:]), crc: le.Uint32(b[14:]),
		packed: int64(le.Uint32(b[18:])), size: int64(le.Uint32(b[22:])), end: pos + end,
	}
	h.name(b[zipLocalLen:zipLocalLen+nameLen], b[zipLocalLen+nameLen:end], false)
	if h.flags&zipFlagDescriptor != 0 && (h.packed == 0 || h.packed == 0xffffffff) {
		h.packed, h.size = -1, -1
	}
	return h, nil
}

// name sets the names of h and what the extra fields say.
func (h *zipHeader) name(raw, extra []byte, central bool) {
	le := binary.LittleEndian
	h.names = addName(nil, textName(raw))
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if 4+n > len(extra) {
			return
		}
		field := extra[4 : 4+n]
		extra = extra[4+n:]
		switch id {
		case 0x7075: // Info-ZIP Unicode path: version, CRC of the name, name in UTF-8
			if n > 5 {
				h.path = textName(field[5:])
				h.names = addName(h.names, h.path)
			}
		case 0x9901: // WinZip AES: version, vendor, strength, true method
			if n >= 7 {
				h.aes, h.strong = field[4], le.Uint16(field[5:])
			}
		case 0x0001: // zip64: only the values that do not fit above, in order
			h.wide(field, central)
		}
	}
}

// wide reads the zip64 field.
func (h *zipHeader) wide(field []byte, central bool) {
	next := func(v *int64) {
		if *v == 0xffffffff && len(field) >= 8 {
			if n := binary.LittleEndian.Uint64(field); n < 1<<62 {
				*v = int64(n)
			}
			field = field[8:]
		}
	}
	next(&h.size)
	next(&h.packed)
	if central {
		next(&h.local)
	}
}
