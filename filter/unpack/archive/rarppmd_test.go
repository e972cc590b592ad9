package archive

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"postern/filter/unpack/specimen"
)

// TestRarModel: a model of PPMd that is larger than the memory of the message is
// not made. The file is named all the same.
func TestRarModel(t *testing.T) {
	t.Parallel()
	build := func(first, size byte, unpacked int) []byte {
		b := specimen.RAR4(0, 0, '3')
		head := b[20:57]
		binary.LittleEndian.PutUint32(head[11:], uint32(unpacked))
		binary.LittleEndian.PutUint16(head, uint16(crc32.ChecksumIEEE(head[2:])))
		b[57], b[58] = first, size
		return b
	}
	const ppmd, order8 = 0x80, 0x20 | 7
	for _, tt := range []struct {
		what string
		data []byte
		want int64
	}{
		{"256 MiB", build(ppmd|order8, 255, 100<<20), 256 << 20 / 12 * 16},
		{"a small file takes less", build(ppmd|order8, 255, 1000), 1000 * 8 * 32},
		{"another method", build(order8, 255, 100<<20), 0},
	} {
		if got := rarModels(tt.data); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
	data := build(ppmd|order8, 255, 100<<20)
	got := specimen.LookAs(t, expand, data, specimen.Budget(len(data)), "rar")
	if !got.OverLimits || len(got.Members) != 1 || got.Members[0].Names[0] != "a.dat" {
		t.Errorf("outcome %+v, members %+v", got.Outcome, got.Members)
	}
}
