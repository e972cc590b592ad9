package codec

import (
	"encoding/binary"
	"fmt"
)

// LZX decodes the LZX method of cabinets ([MS-PATCH] section 2): LZ77 with
// canonical Huffman codes in frames of 32 KiB, the last three offsets kept,
// and the operands of x86 calls translated.
type LZX struct {
	window []byte
	pos    int
	in     []byte
	bits   uint64
	nbits  uint
	short  bool // the input ended early

	started      bool
	kind         int
	left         int // of the block
	oddRaw       bool
	recent       [3]int
	main, length lzxTree
	aligned      lzxTree
	slots        int
	frames       int
	fileSize     int32 // for the translation of calls, 0 if there is none
	out          [LZXFrame]byte
}

// LZXFrame is how many octets each frame but the last one decodes to.
const LZXFrame = 32 << 10

const (
	lzxVerbatim = 1
	lzxAligned  = 2
	lzxRaw      = 3
)

// lzxTree keeps the code lengths, which the next block gives as differences.
type lzxTree struct {
	lengths []uint8
	code    canonical
}

// NewLZX returns a decoder with a window of 15 to 21 bits, or ErrUnsupported.
func NewLZX(windowBits int) (*LZX, error) {
	if windowBits < 15 || windowBits > 21 {
		return nil, fmt.Errorf("LZX window of %d bits: %w", windowBits, ErrUnsupported)
	}
	z := &LZX{window: make([]byte, 1<<windowBits), recent: [3]int{1, 1, 1}}
	z.slots = [...]int{30, 32, 34, 36, 38, 42, 50}[windowBits-15]
	z.main.lengths = make([]uint8, 256+8*z.slots)
	z.length.lengths = make([]uint8, 249)
	z.aligned.lengths = make([]uint8, 8)
	return z, nil
}

// need returns n bits, n <= 24. Words are little endian, bits in them come
// from the top.
func (z *LZX) need(n uint) int {
	z.refill(n)
	if z.nbits < n {
		z.short = true
		z.bits, z.nbits = 0, 64
	}
	z.nbits -= n
	return int(z.bits >> z.nbits & (1<<n - 1))
}

func (z *LZX) refill(n uint) {
	for z.nbits < n && len(z.in) >= 2 {
		z.bits = z.bits<<16 | uint64(binary.LittleEndian.Uint16(z.in))
		z.nbits += 16
		z.in = z.in[2:]
	}
}

// bit is need(1) for canonical.
func (z *LZX) bit() int { return z.need(1) }

// Frame decodes one data block of a cabinet to size octets. They are good until
// the next call.
func (z *LZX) Frame(in []byte, size int) ([]byte, error) {
	if size > LZXFrame {
		return nil, ErrDamaged
	}
	z.in, z.bits, z.nbits = in, 0, 0
	if !z.started {
		z.started = true
		if z.need(1) == 1 {
			z.fileSize = int32(uint32(z.need(16))<<16 | uint32(z.need(16)))
		}
	}
	for done := 0; done < size; {
		if z.left == 0 {
			if err := z.block(); err != nil {
				return nil, err
			}
		}
		n, err := z.run(min(z.left, size-done))
		if err != nil {
			return nil, err
		}
		if z.short || n > size-done {
			return nil, ErrDamaged
		}
		done += n
		z.left -= n
	}
	if z.left < 0 {
		return nil, ErrDamaged
	}
	start := (z.pos - size) & (len(z.window) - 1)
	n := copy(z.out[:size], z.window[start:])
	copy(z.out[n:size], z.window)
	z.calls(z.out[:size])
	z.frames++
	return z.out[:size], nil
}

// block reads a block header.
func (z *LZX) block() error {
	if z.kind == lzxRaw && z.oddRaw && len(z.in) > 0 {
		z.in = z.in[1:]
	}
	z.oddRaw = false
	z.kind = z.need(3)
	z.left = z.need(16)<<8 | z.need(8)
	switch z.kind {
	case lzxAligned:
		for i := range z.aligned.lengths {
			z.aligned.lengths[i] = uint8(z.need(3))
		}
		if !z.aligned.code.init(z.aligned.lengths) {
			return ErrDamaged
		}
		fallthrough
	case lzxVerbatim:
		if !z.tree(z.main.lengths[:256]) || !z.tree(z.main.lengths[256:]) || !z.main.code.init(z.main.lengths) ||
			!z.tree(z.length.lengths) || !z.length.code.init(z.length.lengths) {
			return ErrDamaged
		}
	case lzxRaw:
		if z.need(1); z.nbits&15 != 0 { // 1 to 16 bits of padding
			z.need(z.nbits & 15)
		}
		z.bits, z.nbits = 0, 0
		if len(z.in) < 12 {
			return ErrDamaged
		}
		for i := range z.recent {
			z.recent[i] = int(int32(binary.LittleEndian.Uint32(z.in[4*i:])))
		}
		z.in = z.in[12:]
		z.oddRaw = z.left&1 == 1
	default:
		return ErrDamaged
	}
	if z.left == 0 || z.short {
		return ErrDamaged
	}
	return nil
}

// tree reads code lengths as differences to those before.
func (z *LZX) tree(lengths []uint8) bool {
	var pre [20]uint8
	for i := range pre {
		pre[i] = uint8(z.need(4))
	}
	var code canonical
	if !code.init(pre[:]) {
		return false
	}
	for i := 0; i < len(lengths) && !z.short; {
		s := code.decode(z)
		n, value := 1, 0
		switch s {
		case 17:
			n = z.need(4) + 4
		case 18:
			n = z.need(5) + 20
		case 19:
			n = z.need(1) + 4
			d := code.decode(z)
			if d < 0 || d > 16 {
				return false
			}
			value = (int(lengths[i]) - d + 17) % 17
		default:
			if s < 0 {
				return false
			}
			value = (int(lengths[i]) - s + 17) % 17
		}
		if i+n > len(lengths) {
			return false
		}
		for ; n > 0; n-- {
			lengths[i] = uint8(value)
			i++
		}
	}
	return !z.short
}

func (z *LZX) put(b byte) {
	z.window[z.pos] = b
	z.pos = (z.pos + 1) & (len(z.window) - 1)
}

// run decodes at least one octet and about n; a match may go beyond.
func (z *LZX) run(n int) (done int, err error) {
	if z.kind == lzxRaw {
		if len(z.in) < n {
			return 0, ErrDamaged
		}
		for _, b := range z.in[:n] {
			z.put(b)
		}
		z.in = z.in[n:]
		return n, nil
	}
	for done < n && !z.short {
		s := z.main.code.decode(z)
		if s < 0 {
			return done, ErrDamaged
		}
		if s < 256 {
			z.put(byte(s))
			done++
			continue
		}
		length, distance, ok := z.match(s - 256)
		if !ok || distance < 1 || distance > len(z.window) {
			return done, ErrDamaged
		}
		for range length {
			z.put(z.window[(z.pos-distance)&(len(z.window)-1)])
		}
		done += length
	}
	return done, nil
}

// match reads the rest of a match symbol.
func (z *LZX) match(s int) (length, distance int, ok bool) {
	length = s & 7
	if length == 7 {
		more := z.length.code.decode(z)
		if more < 0 {
			return 0, 0, false
		}
		length += more
	}
	length += 2
	slot := s >> 3
	if slot < 3 {
		distance = z.recent[slot]
		z.recent[slot] = z.recent[0]
		z.recent[0] = distance
		return length, distance, true
	}
	extra, base := lzxSlot(slot)
	offset := 0
	if z.kind == lzxAligned && extra >= 3 {
		offset = z.need(extra-3) << 3
		low := z.aligned.code.decode(z)
		if low < 0 {
			return 0, 0, false
		}
		offset += low
	} else {
		offset = z.need(extra)
	}
	distance = base + offset - 2
	z.recent = [3]int{distance, z.recent[0], z.recent[1]}
	return length, distance, true
}

// lzxSlot returns the extra bits and the first offset of a position slot.
func lzxSlot(slot int) (extra uint, base int) {
	if slot < 4 {
		return 0, slot
	}
	if slot >= 36 {
		return 17, 1<<18 + (slot-36)<<17
	}
	extra = uint(slot/2 - 1)
	return extra, (2 + slot&1) << extra
}

// calls turns the absolute operands of E8 instructions back to relative ones.
func (z *LZX) calls(out []byte) {
	if z.fileSize == 0 || z.frames >= 32768 || len(out) <= 10 {
		return
	}
	base := int32(z.frames * LZXFrame)
	for i := 0; i < len(out)-10; i++ {
		if out[i] != 0xe8 {
			continue
		}
		at := base + int32(i)
		operand := int32(binary.LittleEndian.Uint32(out[i+1:]))
		if operand >= -at && operand < z.fileSize {
			if operand >= 0 {
				operand -= at
			} else {
				operand += z.fileSize
			}
			binary.LittleEndian.PutUint32(out[i+1:], uint32(operand))
		}
		i += 4
	}
}
