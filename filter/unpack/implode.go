package unpack

import (
	"io"
	"slices"
)

// implode decodes method 6 of zip (APPNOTE 5.3): a sliding dictionary whose
// lengths, distances and, optionally, literals are in Shannon-Fano codes.
type implode struct {
	in        []byte
	bits      uint32
	nbits     uint
	left      int64
	window    []byte
	pos       int
	from      int // of a match
	matched   int // octets left of it
	lowBits   uint
	shortest  int
	literals  fano // nil if literals are plain octets
	lengths   fano
	distances fano
	err       error
}

// fano maps a code, with its length in the upper half, to a symbol.
type fano map[uint32]int

// newImplode reads the codes. The flags are those of the zip header.
func newImplode(in []byte, flags uint16, size int64) (*implode, error) {
	z := &implode{in: in, left: size, window: make([]byte, 8192), lowBits: 6, shortest: 2}
	if flags&2 != 0 {
		z.lowBits = 7
	}
	if flags&4 != 0 {
		z.shortest = 3
		z.literals = z.code(256)
	}
	z.lengths, z.distances = z.code(64), z.code(64)
	return z, z.err
}

// code reads a code for n symbols: runs of equal lengths. Codes are given from
// the last and longest upwards.
func (z *implode) code(n int) fano {
	runs := z.need(8) + 1
	lengths := make([]int, 0, n)
	for range runs {
		run := z.need(8)
		for range run>>4 + 1 {
			lengths = append(lengths, run&15+1)
		}
	}
	if len(lengths) != n {
		z.err = errDamaged
		return nil
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return lengths[a] - lengths[b] })
	f := make(fano, n)
	next, step, last := uint32(0), uint32(0), 0
	for _, s := range slices.Backward(order) {
		next += step
		if l := lengths[s]; l != last {
			last, step = l, 1<<(16-l)
		}
		if next > 0xffff {
			z.err = errDamaged
			return nil
		}
		f[uint32(last)<<16|next>>(16-last)] = s
	}
	return f
}

// need returns n bits, n <= 16, the least significant first.
func (z *implode) need(n uint) int {
	for z.nbits < n {
		if len(z.in) == 0 {
			z.err = io.ErrUnexpectedEOF
			return 0
		}
		z.bits |= uint32(z.in[0]) << z.nbits
		z.in = z.in[1:]
		z.nbits += 8
	}
	v := z.bits & (1<<n - 1)
	z.bits >>= n
	z.nbits -= n
	return int(v)
}

func (z *implode) symbol(f fano) int {
	code := uint32(0)
	for l := uint32(1); l <= 16 && z.err == nil; l++ {
		code = code<<1 | uint32(z.need(1))
		if s, ok := f[l<<16|code]; ok {
			return s
		}
	}
	if z.err == nil {
		z.err = errDamaged
	}
	return 0
}

func (z *implode) Read(p []byte) (n int, err error) {
	for n < len(p) && z.err == nil {
		if z.left == 0 {
			z.err = io.EOF
			break
		}
		b := byte(0)
		if z.matched == 0 && !z.next(&b) {
			z.match()
		}
		if z.err != nil {
			break
		}
		if z.matched > 0 {
			b = z.window[z.from&(len(z.window)-1)]
			z.from++
			z.matched--
		}
		z.window[z.pos&(len(z.window)-1)] = b
		z.pos++
		z.left--
		p[n] = b
		n++
	}
	if n > 0 {
		return n, nil
	}
	return 0, z.err
}

// next reads a literal, or reports that a match comes.
func (z *implode) next(b *byte) bool {
	if z.need(1) == 0 {
		return false
	}
	if z.literals != nil {
		*b = byte(z.symbol(z.literals))
	} else {
		*b = byte(z.need(8))
	}
	return true
}

func (z *implode) match() {
	low := z.need(z.lowBits)
	distance := z.symbol(z.distances)<<z.lowBits | low
	length := z.symbol(z.lengths)
	if length == 63 {
		length += z.need(8)
	}
	z.from, z.matched = z.pos-distance-1, length+z.shortest
}
