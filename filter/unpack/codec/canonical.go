package codec

// canonical is a canonical prefix code of at most 16 bits whose codes come
// most significant bit first, as LHA, ARJ and LZX have it.
type canonical struct {
	count   [17]int
	symbols []uint16
	single  int // the only symbol of a code without bits, -1 if there are codes
}

// bitSource yields single bits.
type bitSource interface{ bit() int }

// init builds the code from the lengths of its symbols. It reports whether no
// code is used twice. A code may be empty until it is needed.
func (c *canonical) init(lengths []uint8) bool {
	*c = canonical{symbols: make([]uint16, len(lengths)), single: -1}
	for _, l := range lengths {
		if l > 16 {
			return false
		}
		c.count[l]++
	}
	c.count[0] = 0
	var offset [18]int
	left := 1
	for l := 1; l < 17; l++ {
		left = left<<1 - c.count[l]
		if left < 0 {
			return false
		}
		offset[l+1] = offset[l] + c.count[l]
	}
	for s, l := range lengths {
		if l > 0 {
			c.symbols[offset[l]] = uint16(s)
			offset[l]++
		}
	}
	return true
}

// decode reads one symbol, -1 if there is none with the bits that come.
func (c *canonical) decode(in bitSource) int {
	if c.single >= 0 {
		return c.single
	}
	code, firstCode, index := 0, 0, 0
	for l := 1; l < 17; l++ {
		code |= in.bit()
		n := c.count[l]
		if code-n < firstCode {
			return int(c.symbols[index+code-firstCode])
		}
		index += n
		firstCode = (firstCode + n) << 1
		code <<= 1
	}
	return -1
}
