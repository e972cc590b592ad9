package specimen

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// SevenZipBy writes a 7-Zip archive of one file that a coder, by its identifier,
// has packed to what is given here. It says that the file has size octets.
func SevenZipBy(coder string, packed []byte, size int) []byte {
	num := func(n int) []byte { return binary.LittleEndian.AppendUint64([]byte{0xff}, uint64(n)) }
	name := Wide("a.dat")
	header := slices.Concat([]byte{1, 4, 6, 0, 1, 9}, num(len(packed)), []byte{0, 7, 0x0b, 1, 0, 1, byte(len(coder))}, []byte(coder),
		[]byte{0x0c}, num(size), []byte{0, 0, 5, 1, 0x11, byte(len(name) + 1), 0}, name, []byte{0, 0})
	start := AppendLE(nil, len(packed), 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	head := AppendLE(slices.Concat(magic7z, []byte{0, 4}), int(crc32.ChecksumIEEE(start)), 4)
	return slices.Concat(head, start, packed, header)
}

// Brotli writes data, in pieces of 64 KiB as they are, with the largest window.
func Brotli(data []byte) []byte {
	var out []byte
	begun := false
	for piece := range slices.Chunk(data, 1<<16) {
		// last 0, length in four nibbles, uncompressed 1
		bits, n := uint64(len(piece)-1)<<3|1<<19, 20
		if !begun {
			bits, n = bits<<4|15, n+4
			begun = true
		}
		out = append(out, AppendLE(nil, int(bits), (n+7)/8)...)
		out = append(out, piece...)
	}
	return append(out, 3)
}

// LZ4 writes data, in blocks as they are, of the largest size.
func LZ4(data []byte) []byte {
	out := []byte("\x04\x22\x4d\x18\x60\x70\x73")
	for piece := range slices.Chunk(data, 4<<20) {
		out = append(AppendLE(out, len(piece)|1<<31, 4), piece...)
	}
	return append(out, 0, 0, 0, 0)
}

// ZstdHuge is a frame of five octets that asks for a window of a power of two.
func ZstdHuge(power int) []byte {
	return slices.Concat([]byte("\x28\xb5\x2f\xfd\x00"), []byte{byte(power-10) << 3}, []byte("\x29\x00\x00hello"))
}
