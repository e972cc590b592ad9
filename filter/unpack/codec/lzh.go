package codec

import (
	"io"
)

// lzh decodes the methods -lh4- to -lh7- of LHA and 1 to 3 of ARJ: LZ77 with
// canonical Huffman codes that are sent anew for each block of symbols.
type lzh struct {
	in      []byte
	bits    uint64
	nbits   uint
	past    int // bits taken beyond the end
	left    int64
	window  []byte
	pos     int
	block   int // symbols left in the block
	matched int // octets left of a match
	from    int
	err     error

	distances, distBits int
	lit, dist           canonical
}

const lzhLiterals = 510

// NewLZH returns a decoder of size octets with a window of so many bits, at most
// 16. distances is how many codes of distances there are, distBits how many bits
// their number takes.
func NewLZH(in []byte, windowBits, distances, distBits int, size int64) io.Reader {
	return &lzh{in: in, left: size, window: make([]byte, 1<<windowBits), distances: distances, distBits: distBits}
}

func (z *lzh) Read(p []byte) (n int, err error) {
	for n < len(p) && z.err == nil {
		if z.left == 0 {
			z.err = io.EOF
			break
		}
		if z.matched == 0 {
			z.symbol()
		}
		if z.err != nil {
			break
		}
		if z.matched > 0 {
			p[n] = z.window[z.from&(len(z.window)-1)]
			z.from++
			z.matched--
		} else {
			p[n] = byte(z.from)
		}
		z.window[z.pos] = p[n]
		z.pos = (z.pos + 1) & (len(z.window) - 1)
		z.left--
		n++
	}
	if n > 0 {
		return n, nil
	}
	return 0, z.err
}

func (z *lzh) need(n uint) int {
	for z.nbits < n {
		z.bits <<= 8
		if len(z.in) > 0 {
			z.bits |= uint64(z.in[0])
			z.in = z.in[1:]
		} else if z.past += 8; z.past > 64 {
			z.err = io.ErrUnexpectedEOF
		}
		z.nbits += 8
	}
	z.nbits -= n
	return int(z.bits >> z.nbits & (1<<n - 1))
}

func (z *lzh) bit() int { return z.need(1) }

// symbol decodes a literal, which is then in from, or the start of a match.
func (z *lzh) symbol() {
	for z.block == 0 && z.err == nil {
		z.block = z.need(16)
		if !z.tables() {
			z.err = ErrDamaged
		}
	}
	if z.err != nil {
		return
	}
	z.block--
	s := z.lit.decode(z)
	if s < 0 || z.err != nil {
		z.fail()
		return
	}
	if s < 256 {
		z.from = s
		return
	}
	d := z.dist.decode(z)
	if d < 0 || d > 17 {
		z.fail()
		return
	}
	if d > 1 {
		d = 1<<(d-1) + z.need(uint(d-1))
	}
	z.matched, z.from = s-256+3, z.pos-d-1
}

func (z *lzh) fail() {
	if z.err == nil {
		z.err = ErrDamaged
	}
}

// tables reads the codes of a block.
func (z *lzh) tables() bool {
	var pre canonical
	if !z.lengths(&pre, 19, 5, 3) {
		return false
	}
	n := z.need(9)
	if n == 0 {
		z.lit = canonical{single: z.need(9)}
	} else {
		var lengths [lzhLiterals]uint8
		for i := 0; i < min(n, lzhLiterals) && z.err == nil; {
			s := pre.decode(z)
			zeros := 0
			switch {
			case s < 0:
				return false
			case s == 0:
				zeros = 1
			case s == 1:
				zeros = z.need(4) + 3
			case s == 2:
				zeros = z.need(9) + 20
			default:
				lengths[i] = uint8(s - 2)
				i++
			}
			i += zeros
		}
		if !z.lit.init(lengths[:]) {
			return false
		}
	}
	return z.lengths(&z.dist, z.distances, z.distBits, -1)
}

// lengths reads a short code; after the symbol at gap a run of zeros may follow.
func (z *lzh) lengths(code *canonical, symbols, width, gap int) bool {
	n := z.need(uint(width))
	if n == 0 {
		*code = canonical{single: z.need(uint(width))}
		return true
	}
	var lengths [32]uint8
	for i := 0; i < min(n, symbols) && z.err == nil; {
		l := z.need(3)
		if l == 7 {
			for z.need(1) == 1 && l < 17 && z.err == nil {
				l++
			}
		}
		lengths[i] = uint8(l)
		i++
		if i == gap {
			i += z.need(2)
		}
	}
	return code.init(lengths[:])
}
