package codec

import (
	"bufio"
	"io"

	"github.com/bodgit/sevenzip"
	"github.com/klauspost/compress/zstd"
)

// This file is for the methods of 7-Zip that its library decodes with the help
// of others, which ask nobody for their windows.

// What the decoders of these methods take at most, in octets: Brotli while its
// window grows to the largest one, LZ4 for two blocks of its old format.
const (
	Brotli7z = 28 << 20
	LZ47z    = 20 << 20
)

// maxZstd7z is the largest window; the highest level of zstd has it.
const maxZstd7z = 128 << 20

// Zstd7z returns what the decoder of a zstd stream in a 7-Zip archive takes. in
// is its start, nil if that is not known: the most then.
func Zstd7z(in []byte, size uint64) uint64 {
	window, _ := zstdWindow(in, size)
	if in == nil {
		window = 2 * max(size, zstdUsual)
	}
	return min(window, maxZstd7z) + 4*zstdBlock
}

// The library would decode zstd with a goroutine for each processor, in windows
// of any size.
func init() { sevenzip.RegisterDecompressor([]byte("\x04\xf7\x11\x01"), newZstd7z) }

func newZstd7z(_ []byte, size uint64, in []io.ReadCloser) (io.ReadCloser, error) {
	if len(in) != 1 {
		return nil, ErrDamaged
	}
	b := bufio.NewReader(in[0])
	start, _ := b.Peek(zstd.HeaderMaxSize)
	window, head := zstdWindow(start, size)
	if window > maxZstd7z {
		return nil, ErrUnsupported
	}
	if _, err := b.Discard(len(head)); err != nil {
		return nil, err
	}
	d, err := newZstd(head, b, window)
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
