package archive

import (
	"bytes"
	"encoding/binary"
)

// rarModels returns for each file of a RAR archive, formats 2 to 4, the memory
// for the model of PPMd that its content begins with. The library takes as much
// as the archive asks for. What goes over to PPMd later is not seen.
func rarModels(data []byte) (out []int64) {
	const base, mainHeader, fileHeader = 7, 0x73, 0x74
	const lockedHeaders, longBlock, large = 0x80, 0x8000, 0x100
	le := binary.LittleEndian
	b, ok := bytes.CutPrefix(data, []byte("Rar!\x1a\x07\x00"))
	for ok && len(b) >= base {
		kind, flags, size := b[2], le.Uint16(b[3:]), int(le.Uint16(b[5:]))
		if size < base || size > len(b) || kind == mainHeader && flags&lockedHeaders != 0 {
			break
		}
		var head []byte
		head, b = b[:size], b[size:]
		packed := uint64(0)
		if flags&longBlock != 0 && size >= base+4 {
			packed = uint64(le.Uint32(head[base:]))
		}
		if kind == fileHeader && flags&large != 0 && size >= 36 {
			packed |= uint64(le.Uint32(head[32:])) << 32
		}
		content := b[:min(packed, uint64(len(b)))]
		b = b[len(content):]
		if kind == fileHeader {
			out = append(out, rarModel(head, flags, content))
		}
	}
	return out
}

// rarModel is the memory for the model of one file.
func rarModel(head []byte, flags uint16, content []byte) int64 {
	const version, method, shortest = 24, 25, 32
	const continued, locked = 0x01, 0x04
	if len(head) < shortest || head[version] < 29 || head[method] == '0' || flags&(continued|locked) != 0 || len(content) < 2 {
		return 0
	}
	const ppmd, newModel = 0x80, 0x20
	first := content[0]
	if first&(ppmd|newModel) != ppmd|newModel {
		return 0
	}
	order := int64(first&0x1f) + 1
	if order > 16 {
		order = 16 + (order-16)*3
	}
	// units of 12 octets take 16 here; each octet adds to all orders
	const perOrder = 32
	asked := (int64(content[1]) + 1) << 20 / 12 * 16
	return min(asked, int64(binary.LittleEndian.Uint32(head[11:]))*order*perOrder)
}
