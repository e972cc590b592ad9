package codec

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// zstdUsual is the window that every decoder should have, by RFC 8878 section
// 3.1.1.1.2, zstdBlock the largest block.
const (
	zstdUsual = 8 << 20
	zstdBlock = 128 << 10
)

// NewZstd returns a decoder of zstd frames (RFC 8878) that starts no goroutine. No frame may have a
// larger window than the first one, which host is asked for.
func NewZstd(in []byte, host Host) (*zstd.Decoder, error) {
	window, head := zstdWindow(in, math.MaxUint64)
	if err := host.Needs(int64(min(window, math.MaxInt64-4*zstdBlock)) + 4*zstdBlock); err != nil {
		return nil, err
	}
	return newZstd(head, host.Feed(in[len(head):]), window)
}

// zstdWindow returns the window that the first frame needs, of which in is the
// start, if all frames yield no more than size octets. The library takes what the
// header says, even for a frame that says that it is short. Then head is what
// the frame is to begin with instead, so that its window is no larger.
func zstdWindow(in []byte, size uint64) (window uint64, head []byte) {
	var h zstd.Header
	if h.Decode(in) != nil || h.Skippable {
		return zstdUsual, nil
	}
	if h.SingleSegment {
		return max(h.FrameContentSize, zstd.MinWindowSize), nil
	}
	if h.HasFCS {
		size = min(size, h.FrameContentSize)
	}
	const descriptor, least = 5, 10 // offset of the window, and its lowest power of two
	if power := bits.Len64(max(size, zstdBlock) - 1); power < 63 && 1<<power < h.WindowSize {
		head = bytes.Clone(in[:descriptor+1])
		head[descriptor] = byte(power-least) << 3
		return 1 << power, head
	}
	return h.WindowSize, nil
}

func newZstd(head []byte, rest io.Reader, window uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(io.MultiReader(bytes.NewReader(head), bufio.NewReader(rest)), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(max(window, zstd.MinWindowSize)), zstd.WithDecoderMaxMemory(1<<31))
}
