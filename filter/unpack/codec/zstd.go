package codec

import (
	"bytes"
	"math"

	"github.com/klauspost/compress/zstd"
)

// NewZstd returns a decoder of zstd frames (RFC 8878) that starts no goroutine. No frame may have a
// larger window than the first one, which needs is asked for.
func NewZstd(in []byte, needs func(window int64) error) (*zstd.Decoder, error) {
	window := uint64(8 << 20) // what every decoder should have, by RFC 8878 section 3.1.1.1.2
	var h zstd.Header
	if h.Decode(in) == nil && !h.Skippable {
		if window = h.WindowSize; h.HasFCS {
			window = min(window, h.FrameContentSize)
		}
	}
	if err := needs(int64(min(window, math.MaxInt64))); err != nil {
		return nil, err
	}
	return zstd.NewReader(bytes.NewReader(in), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(max(h.WindowSize, window, zstd.MinWindowSize)), zstd.WithDecoderMaxMemory(1<<31))
}
