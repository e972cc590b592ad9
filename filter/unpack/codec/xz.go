package codec

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// XZ decodes an xz file, all streams of it. The frame is read here and
// not by the library because each block may ask for a dictionary of 4 GiB,
// and a file may have a block for every 40 octets.
type XZ struct {
	in    []byte // what is left
	size  int    // of the checksum after each block
	sum   hash.Hash
	block io.Reader
	host  Host
}

var (
	xzMagic  = []byte("\xfd7zXZ\x00")
	errXZ    = errors.New("xz stream is damaged")
	crcTable = crc64.MakeTable(crc64.ECMA)
)

// NewXZ returns a decoder of an xz file. It asks host before a block gets its
// window.
func NewXZ(data []byte, host Host) (*XZ, error) {
	r := &XZ{in: data, host: host}
	return r, r.stream()
}

// Read reads on through blocks and streams. After the last one Rest has
// what is left of the input.
func (r *XZ) Read(p []byte) (int, error) {
	for {
		if r.block == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.block.Read(p)
		if r.sum != nil {
			r.sum.Write(p[:n])
		}
		if err == io.EOF {
			r.block = nil
			err = r.check()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Rest is the input that is left.
func (r *XZ) Rest() []byte { return r.in }

// stream reads a stream header.
func (r *XZ) stream() error {
	const length = 12
	if len(r.in) < length || !bytes.HasPrefix(r.in, xzMagic) {
		return errXZ
	}
	switch r.in[7] & 15 {
	case 0:
		r.size, r.sum = 0, nil
	case 1:
		r.size, r.sum = 4, crc32.NewIEEE()
	case 4:
		r.size, r.sum = 8, crc64.New(crcTable)
	case 10:
		r.size, r.sum = 32, sha256.New()
	default:
		return errXZ
	}
	r.in = r.in[length:]
	return nil
}

// Next opens the next block, past the index and footer of a stream if need be.
func (r *XZ) next() error {
	for {
		if len(r.in) == 0 {
			return io.ErrUnexpectedEOF
		}
		if r.in[0] != 0 {
			return r.openBlock()
		}
		if err := r.skipIndex(); err != nil {
			return err
		}
		for len(r.in) >= 4 && binary.LittleEndian.Uint32(r.in) == 0 {
			r.in = r.in[4:]
		}
		if !bytes.HasPrefix(r.in, xzMagic) {
			return io.EOF
		}
		if err := r.stream(); err != nil {
			return err
		}
	}
}

// skipIndex goes over index and footer.
func (r *XZ) skipIndex() error {
	rest := r.in[1:]
	count, n := binary.Uvarint(rest)
	if n <= 0 || count > uint64(len(rest)) {
		return errXZ
	}
	rest = rest[n:]
	for range 2 * count {
		if _, n = binary.Uvarint(rest); n <= 0 {
			return errXZ
		}
		rest = rest[n:]
	}
	used := (len(r.in) - len(rest) + 3) &^ 3
	const sumAndFooter = 4 + 12
	if used+sumAndFooter > len(r.in) {
		return errXZ
	}
	r.in = r.in[used+sumAndFooter:]
	return nil
}

// openBlock reads a block header and opens the LZMA2 data after it.
func (r *XZ) openBlock() error {
	length := (int(r.in[0]) + 1) * 4
	if length > len(r.in) || length < 8 {
		return errXZ
	}
	head := r.in[1 : length-4]
	flags := head[0]
	head = head[1:]
	for _, bit := range []byte{0x40, 0x80} { // compressed, uncompressed size
		if flags&bit != 0 {
			_, n := binary.Uvarint(head)
			if n <= 0 {
				return errXZ
			}
			head = head[n:]
		}
	}
	if flags&3 != 0 || len(head) < 3 || head[0] != 0x21 || head[1] != 1 || head[2] > 40 {
		return fmt.Errorf("xz filter: %w", ErrUnsupported)
	}
	packed, size, err := lzma2Length(r.in[length:])
	if err != nil {
		return err
	}
	end := min(length+(packed+3)&^3, len(r.in))
	r.block, err = NewLZMA2(r.in[length:length+packed], head[2], size, r.host)
	if err != nil {
		return err
	}
	r.in = r.in[end:]
	if r.sum != nil {
		r.sum.Reset()
	}
	return nil
}

// check compares the checksum after a block.
func (r *XZ) check() error {
	if len(r.in) < r.size {
		return io.ErrUnexpectedEOF
	}
	want := r.in[:r.size]
	r.in = r.in[r.size:]
	if r.sum == nil {
		return nil
	}
	have := r.sum.Sum(nil)
	if r.size < 32 { // the CRCs are little endian
		for i, j := 0, len(have)-1; i < j; i, j = i+1, j-1 {
			have[i], have[j] = have[j], have[i]
		}
	}
	if !bytes.Equal(have, want) {
		return errors.New("checksum does not match")
	}
	return nil
}

// LZMAMemory is what the decoder of LZMA takes, in windows: it leaves so much
// garbage behind that the heap grows to twice the window.
const LZMAMemory = 2

// NewLZMA2 returns a decoder of LZMA2 data whose dictionary, by its property
// byte, is no larger than what it yields.
func NewLZMA2(in []byte, property byte, size int64, host Host) (io.Reader, error) {
	dict := int64(2|property&1) << (property/2 + 11)
	dict = max(min(dict, size), lzma.MinDictCap)
	if err := host.Needs(LZMAMemory * dict); err != nil {
		return nil, err
	}
	return lzma.Reader2Config{DictCap: int(dict)}.NewReader2(host.Feed(in))
}

// NewLZMA returns a decoder of LZMA data with these five octets of properties.
// size is that of the content, negative if it is not known.
func NewLZMA(properties []byte, size int64, in []byte, host Host) (io.Reader, error) {
	dict := int64(binary.LittleEndian.Uint32(properties[1:]))
	if size >= 0 {
		dict = min(dict, size)
	}
	dict = max(dict, lzma.MinDictCap)
	if err := host.Needs(LZMAMemory * dict); err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint32([]byte{properties[0]}, uint32(dict))
	head = binary.LittleEndian.AppendUint64(head, uint64(max(size, -1)))
	return lzma.ReaderConfig{DictCap: int(dict)}.NewReader(io.MultiReader(bytes.NewReader(head), host.Feed(in)))
}

// lzma2Length walks over the chunks of LZMA2 data and returns the length of
// the data and of what it decodes to.
func lzma2Length(in []byte) (packed int, size int64, err error) {
	for packed < len(in) {
		rest := in[packed:]
		c := rest[0]
		switch {
		case c == 0:
			return packed + 1, size, nil
		case c <= 2 && len(rest) >= 3:
			n := int(binary.BigEndian.Uint16(rest[1:])) + 1
			packed += 3 + n
			size += int64(n)
		case c >= 0x80 && len(rest) >= 6:
			size += int64(c&0x1f)<<16 + int64(binary.BigEndian.Uint16(rest[1:])) + 1
			packed += 5 + int(binary.BigEndian.Uint16(rest[3:])) + 1
			if c >= 0xc0 {
				packed++
			}
		default:
			return 0, 0, errXZ
		}
	}
	return len(in), size, nil // cut, which the decoder finds out
}
