package codec

import (
	"errors"
	"io"
	"math/bits"
)

// inflate64 decodes Deflate64 (zip method 9): Deflate (RFC 1951) with a window
// of 64 KiB, two more distance codes, and a length code 285 with 16 extra bits.
type inflate64 struct {
	in    io.ByteReader
	bits  uint64
	nbits uint

	window [1 << 16]byte
	pos    int // next octet of the window to write
	sent   int // next octet to hand out
	last   bool
	err    error

	length, distance int // what is left of a match
	stored           int // what is left of a stored block
	inBlock          bool
	lit, dist        huffman
}

// NewInflate64 returns a decoder of a Deflate64 stream, which ends itself: what
// follows it stays in in.
func NewInflate64(in io.ByteReader) io.Reader { return &inflate64{in: in} }

var errInflate64 = errors.New("deflate64 stream is damaged")

// Read decodes until p is full or the stream ends.
func (z *inflate64) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if z.sent == z.pos && z.err == nil {
			z.fill()
		}
		if z.sent == z.pos {
			if n > 0 {
				return n, nil
			}
			return 0, z.err
		}
		end := z.pos
		if end < z.sent {
			end = len(z.window)
		}
		c := copy(p[n:], z.window[z.sent:end])
		z.sent = (z.sent + c) & (len(z.window) - 1)
		n += c
	}
	return n, nil
}

func (z *inflate64) put(b byte) {
	z.window[z.pos] = b
	z.pos = (z.pos + 1) & (len(z.window) - 1)
}

// fill decodes up to half a window.
func (z *inflate64) fill() {
	for n := 0; n < len(z.window)/2 && z.err == nil; n++ {
		switch {
		case z.length > 0:
			z.put(z.window[(z.pos-z.distance)&(len(z.window)-1)])
			z.length--
		case z.stored > 0:
			z.put(byte(z.need(8)))
			z.stored--
		case z.inBlock:
			z.symbol()
		case z.last:
			z.err = io.EOF
		default:
			z.header()
		}
	}
}

// need returns the next n bits, n <= 32.
func (z *inflate64) need(n uint) uint32 {
	for z.nbits < n {
		b, err := z.in.ReadByte()
		if err != nil {
			z.fail(io.ErrUnexpectedEOF)
			return 0
		}
		z.bits |= uint64(b) << z.nbits
		z.nbits += 8
	}
	v := uint32(z.bits & (1<<n - 1))
	z.bits >>= n
	z.nbits -= n
	return v
}

func (z *inflate64) fail(err error) {
	if z.err == nil {
		z.err = err
	}
}

// header starts a block.
func (z *inflate64) header() {
	z.last = z.need(1) == 1
	switch z.need(2) {
	case 0:
		z.need(z.nbits & 7)
		n := z.need(16)
		if z.need(16) != n^0xffff {
			z.fail(errInflate64)
			return
		}
		z.stored = int(n)
	case 1:
		var lengths [288 + 32]uint8
		for i := range lengths {
			switch {
			case i < 144:
				lengths[i] = 8
			case i < 256:
				lengths[i] = 9
			case i < 280:
				lengths[i] = 7
			case i < 288:
				lengths[i] = 8
			default:
				lengths[i] = 5
			}
		}
		z.tables(lengths[:288], lengths[288:])
	case 2:
		z.dynamic()
	default:
		z.fail(errInflate64)
	}
}

func (z *inflate64) tables(lit, dist []uint8) {
	if z.err == nil && (!z.lit.init(lit) || !z.dist.init(dist)) {
		z.fail(errInflate64)
	}
	z.inBlock = z.err == nil
}

// dynamic reads the code lengths of a block.
func (z *inflate64) dynamic() {
	nlit, ndist, nclen := int(z.need(5))+257, int(z.need(5))+1, int(z.need(4))+4
	order := [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var clen [19]uint8
	for _, i := range order[:nclen] {
		clen[i] = uint8(z.need(3))
	}
	var codes huffman
	if !codes.init(clen[:]) {
		z.fail(errInflate64)
		return
	}
	var lengths [288 + 32]uint8
	for i := 0; i < nlit+ndist && z.err == nil; {
		s := codes.decode(z)
		value, n := uint8(0), 1
		switch {
		case s < 16:
			value = uint8(s)
		case s == 16 && i > 0:
			value, n = lengths[i-1], int(z.need(2))+3
		case s == 17:
			n = int(z.need(3)) + 3
		case s == 18:
			n = int(z.need(7)) + 11
		default:
			z.fail(errInflate64)
		}
		if i+n > nlit+ndist {
			z.fail(errInflate64)
			return
		}
		for ; n > 0; n-- {
			lengths[i] = value
			i++
		}
	}
	z.tables(lengths[:nlit], lengths[nlit:nlit+ndist])
}

// symbol decodes a literal, the start of a match, or the end of a block.
func (z *inflate64) symbol() {
	s := z.lit.decode(z)
	switch {
	case z.err != nil:
	case s < 256:
		z.put(byte(s))
	case s == 256:
		z.inBlock = false
	case s < 265:
		z.match(s - 257 + 3)
	case s < 285:
		extra := uint(s-261) / 4
		z.match(3 + (4+(s-261)%4)<<extra + int(z.need(extra)))
	case s == 285:
		z.match(3 + int(z.need(16)))
	default:
		z.fail(errInflate64)
	}
}

func (z *inflate64) match(length int) {
	s := z.dist.decode(z)
	distance := s + 1
	if s >= 4 {
		extra := uint(s-2) / 2
		distance = 1 + (2+s&1)<<extra + int(z.need(extra))
	}
	if z.err == nil {
		z.length, z.distance = length, distance
	}
}

// huffman is a canonical prefix code of at most 15 bits, sent most
// significant bit first.
type huffman struct {
	count   [16]int
	symbols [320]uint16
	fast    [1 << 9]uint16 // symbol<<4 | length for codes of at most 9 bits
}

// init builds the code. It reports whether no code is used twice.
func (h *huffman) init(lengths []uint8) bool {
	*h = huffman{}
	for _, l := range lengths {
		h.count[l]++
	}
	h.count[0] = 0
	var offset, code [17]int
	left := 1
	for l := 1; l < 16; l++ {
		left = left<<1 - h.count[l]
		if left < 0 {
			return false
		}
		offset[l+1] = offset[l] + h.count[l]
		code[l+1] = (code[l] + h.count[l]) << 1
	}
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		h.symbols[offset[l]] = uint16(s)
		offset[l]++
		if l <= 9 {
			reversed := int(bits.Reverse16(uint16(code[l])) >> (16 - l))
			for i := reversed; i < len(h.fast); i += 1 << l {
				h.fast[i] = uint16(s)<<4 | uint16(l)
			}
		}
		code[l]++
	}
	return true
}

// decode reads one symbol.
func (h *huffman) decode(z *inflate64) int {
	if z.nbits >= 9 {
		if f := h.fast[z.bits&(1<<9-1)]; f != 0 {
			z.bits >>= f & 15
			z.nbits -= uint(f & 15)
			return int(f >> 4)
		}
	}
	code, firstCode, index := 0, 0, 0
	for l := 1; l < 16; l++ {
		code |= int(z.need(1))
		if z.err != nil {
			return 0
		}
		n := h.count[l]
		if code-n < firstCode {
			return int(h.symbols[index+code-firstCode])
		}
		index += n
		firstCode = (firstCode + n) << 1
		code <<= 1
	}
	z.fail(errInflate64)
	return 0
}
