package codec

import (
	"bufio"
	"io"

	"github.com/bodgit/sevenzip"
	"github.com/klauspost/compress/flate"
)

// Coders of 7-Zip archives: Deflate64, which the library lacks, and Deflate,
// whose end it loses before BCJ2 reads the last octet.
func init() {
	sevenzip.RegisterDecompressor([]byte{4, 1, 8}, sevenCoder(func(in *bufio.Reader) io.Reader { return flate.NewReader(in) }))
	sevenzip.RegisterDecompressor([]byte{4, 1, 9}, sevenCoder(func(in *bufio.Reader) io.Reader { return NewInflate64(in) }))
}

// sevenCoder makes a coder with one input out of a decoder.
func sevenCoder(decode func(*bufio.Reader) io.Reader) sevenzip.Decompressor {
	return func(_ []byte, _ uint64, in []io.ReadCloser) (io.ReadCloser, error) {
		if len(in) != 1 {
			return nil, ErrDamaged
		}
		return &sevenStream{r: decode(bufio.NewReader(in[0])), in: in[0]}, nil
	}
}

// sevenStream is what a coder yields. It tells the end after the last octet and
// not together with it: readers of single octets would drop that.
type sevenStream struct {
	r  io.Reader
	in io.Closer
}

func (s *sevenStream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (s *sevenStream) Close() error { return s.in.Close() }
