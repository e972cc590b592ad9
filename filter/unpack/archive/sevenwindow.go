package archive

import (
	"encoding/binary"

	"postern/filter/unpack/codec"
)

// window returns the memory that the decoders of a folder ask for.
func (w *walk7z) window(folder int) int64 {
	f := w.folders[folder]
	size := uint64(0)
	for _, s := range f.sizes {
		size = max(size, s)
	}
	total := uint64(0)
	for i, c := range f.coders {
		p := c.properties
		switch {
		case c.id == ppmd7z && len(p) == 5:
			total += uint64(binary.LittleEndian.Uint32(p[1:]))
		case c.id == lzma7z && len(p) == 5:
			total += codec.LZMAMemory * min(uint64(binary.LittleEndian.Uint32(p[1:])), size)
		case c.id == lzma27z && len(p) == 1:
			total += codec.LZMAMemory * min(uint64(2|p[0]&1)<<(min(p[0], 40)/2+11), size)
		case c.id == zstd7z:
			total += codec.Zstd7z(w.packed(folder, i), size)
		case c.id == brotli7z:
			total += codec.Brotli7z
		case c.id == lz47z:
			total += codec.LZ47z
		}
	}
	return int64(total)
}

// packed returns the packed stream that a coder of a folder reads, nil if it is
// not the only one or something else comes before.
func (w *walk7z) packed(folder, coder int) []byte {
	at, next := w.packAt, 0
	for _, f := range w.folders[:folder] {
		next += f.packs
	}
	f := w.folders[folder]
	if f.packs != 1 || next >= len(w.packs) || len(f.coders) != f.outputs {
		return nil
	}
	for i := 0; i < len(f.bound); i += 2 {
		if f.bound[i] == uint64(coder) {
			return nil
		}
	}
	for _, size := range w.packs[:next] {
		at += size
	}
	start := w.data[32:]
	if at >= uint64(len(start)) {
		return nil
	}
	return start[at:]
}
