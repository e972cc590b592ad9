package codec

import (
	"errors"
	"io"
)

// lzw decodes what the Unix program compress writes: LZW with codes of 9 bits
// up to a limit.
type lzw struct {
	in       []byte
	at       int // in bits
	start    int // in bits, of the present width: codes come in groups of eight
	width    uint
	widest   uint
	block    bool
	old      int
	first    byte
	next     int
	prefix   [1 << 16]uint16
	suffix   [1 << 16]byte
	out      []byte
	backward [1 << 16]byte
}

// NewLZW returns a decoder of in whose codes have up to widest bits, at most
// 16. With block the code 256 begins anew.
func NewLZW(in []byte, widest uint, block bool) io.Reader {
	z := &lzw{in: in, widest: widest, block: block, old: -1}
	z.reset()
	return z
}

func (z *lzw) reset() {
	z.width, z.next, z.old = 9, 256, -1
	if z.block {
		z.next = 257
	}
}

// align skips the rest of a group of eight codes.
func (z *lzw) align() {
	group := int(z.width) * 8
	z.at = z.start + (z.at-z.start+group-1)/group*group
	z.start = z.at
}

func (z *lzw) Read(p []byte) (int, error) {
	for len(z.out) == 0 {
		if err := z.code(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// code decodes one code.
func (z *lzw) code() error {
	if z.next >= 1<<z.width && z.width < z.widest {
		z.align()
		z.width++
	}
	if z.at+int(z.width) > 8*len(z.in) {
		return io.EOF
	}
	c := 0
	for i := range int(z.width) {
		bit := z.at + i
		c |= int(z.in[bit/8]>>(bit%8)&1) << i
	}
	z.at += int(z.width)
	if c == 256 && z.block {
		z.align()
		z.reset()
		return nil
	}
	if z.old < 0 {
		if c > 255 {
			return ErrDamaged
		}
		z.old, z.first = c, byte(c)
		z.out = append(z.backward[:0], byte(c))
		return nil
	}
	at, k := len(z.backward), c
	if c >= z.next {
		if c > z.next {
			return errors.New("code is not yet defined")
		}
		at--
		z.backward[at] = z.first
		k = z.old
	}
	for k >= 256 && at > 0 {
		at--
		z.backward[at] = z.suffix[k]
		k = int(z.prefix[k])
	}
	if at == 0 {
		return ErrDamaged
	}
	at--
	z.backward[at], z.first = byte(k), byte(k)
	if z.next < 1<<z.widest {
		z.prefix[z.next], z.suffix[z.next] = uint16(z.old), z.first
		z.next++
	}
	z.old = c
	z.out = z.backward[at:]
	return nil
}
