package filetype

import (
	"encoding/binary"
	"errors"
)

// The signatures of a zip file and the lengths of its records (APPNOTE 4.3).
const (
	ZipLocal   = "PK\x03\x04"
	ZipCentral = "PK\x01\x02"
	ZipEnd     = "PK\x05\x06"
	ZipEnd64   = "PK\x06\x06"
	ZipLoc64   = "PK\x06\x07"

	ZipLocalLen   = 30
	zipCentralLen = 46
	ZipEndLen     = 22
)

// ZipHeader is what one header, local or central, says about a member.
type ZipHeader struct {
	Names  []string // as written, and from the Unicode path field
	Path   string   // Unicode path field
	Flags  uint16
	Method uint16
	CRC    uint32
	Packed int64  // -1 where a local header leaves it to the data descriptor
	Size   int64  // the same
	Strong uint16 // the method under the encryption of WinZip
	AES    byte   // the strength of that, 1 to 3
	Time   uint16 // of the last change, DOS
	Mode   uint32 // Unix mode, 0 if unknown (central only)
	DirBit bool   // DOS directory attribute (central only)
	Local  int64  // offset of the local header (central only)
	End    int    // offset after the header
}

// The general purpose bits that matter (APPNOTE 4.4.4).
const (
	ZipFlagEncrypted  = 1 << 0
	ZipFlagDescriptor = 1 << 3
	ZipFlagStrong     = 1 << 6
	ZipFlagMasked     = 1 << 13
)

var errZipHeader = errors.New("header is cut or broken")

// ParseZipCentral reads the directory entry at pos, which has its signature.
func ParseZipCentral(data []byte, pos int) (ZipHeader, error) {
	le := binary.LittleEndian
	if pos+zipCentralLen > len(data) {
		return ZipHeader{}, errZipHeader
	}
	b := data[pos:]
	nameLen, extraLen, commentLen := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	end := zipCentralLen + nameLen + extraLen + commentLen
	if end > len(b) {
		return ZipHeader{}, errZipHeader
	}
	h := ZipHeader{
		Flags: le.Uint16(b[8:]), Method: le.Uint16(b[10:]), Time: le.Uint16(b[12:]), CRC: le.Uint32(b[16:]),
		Packed: int64(le.Uint32(b[20:])), Size: int64(le.Uint32(b[24:])),
		Local: int64(le.Uint32(b[42:])), End: pos + end,
		DirBit: le.Uint32(b[38:])&0x10 != 0,
	}
	if host := b[5]; host == 3 || host == 19 { // Unix, OS X
		h.Mode = le.Uint32(b[38:]) >> 16
	}
	h.name(b[zipCentralLen:zipCentralLen+nameLen], b[zipCentralLen+nameLen:zipCentralLen+nameLen+extraLen], true)
	return h, nil
}

// ParseZipLocal reads the local header at pos, which has its signature.
func ParseZipLocal(data []byte, pos int) (ZipHeader, error) {
	le := binary.LittleEndian
	if pos+ZipLocalLen > len(data) {
		return ZipHeader{}, errZipHeader
	}
	b := data[pos:]
	nameLen, extraLen := int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	end := ZipLocalLen + nameLen + extraLen
	if b[4] > 100 || end > len(b) {
		return ZipHeader{}, errZipHeader
	}
	h := ZipHeader{
		Flags: le.Uint16(b[6:]), Method: le.Uint16(b[8:]), Time: le.Uint16(b[10:]), CRC: le.Uint32(b[14:]),
		Packed: int64(le.Uint32(b[18:])), Size: int64(le.Uint32(b[22:])), End: pos + end,
	}
	h.name(b[ZipLocalLen:ZipLocalLen+nameLen], b[ZipLocalLen+nameLen:end], false)
	if h.Flags&ZipFlagDescriptor != 0 && (h.Packed == 0 || h.Packed == 0xffffffff) {
		h.Packed, h.Size = -1, -1
	}
	return h, nil
}

// name sets the names of h and what the extra fields say.
func (h *ZipHeader) name(raw, extra []byte, central bool) {
	le := binary.LittleEndian
	h.Names = AddName(nil, TextName(raw))
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
				h.Path = TextName(field[5:])
				h.Names = AddName(h.Names, h.Path)
			}
		case 0x9901: // WinZip AES: version, vendor, strength, true method
			if n >= 7 {
				h.AES, h.Strong = field[4], le.Uint16(field[5:])
			}
		case 0x0001: // zip64: only the values that do not fit above, in order
			h.wide(field, central)
		}
	}
}

// wide reads the zip64 field.
func (h *ZipHeader) wide(field []byte, central bool) {
	next := func(v *int64) {
		if *v == 0xffffffff && len(field) >= 8 {
			if n := binary.LittleEndian.Uint64(field); n < 1<<62 {
				*v = int64(n)
			}
			field = field[8:]
		}
	}
	next(&h.Size)
	next(&h.Packed)
	if central {
		next(&h.Local)
	}
}
