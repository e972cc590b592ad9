package filetype

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// TarBlock is the length of a header, and what all of a tar file is filled up to.
const TarBlock = 512

// TarChecksum reports whether the header sum in block is right, with octets
// taken as unsigned or, as old programs did, as signed.
func TarChecksum(block []byte) bool {
	const from, to = 148, 156
	for _, c := range block[from:to] {
		if c != ' ' && c != 0 && (c < '0' || c > '7') {
			return false
		}
	}
	want, err := TarNumber(block[from:to])
	if err != nil || want == 0 {
		return false
	}
	var unsigned, signed int64
	for i, c := range block[:TarBlock] {
		if from <= i && i < to {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

// TarNumber reads an octal number, or the GNU form for large ones.
func TarNumber(b []byte) (int64, error) {
	if b[0] == 0x80 && len(b) > 8 {
		if n := binary.BigEndian.Uint64(b[len(b)-8:]); n < 1<<62 {
			return int64(n), nil
		}
		return 0, strconv.ErrRange
	}
	s := strings.Trim(string(b), " \x00")
	if i := strings.IndexAny(s, " \x00"); i >= 0 {
		s = s[:i]
	}
	if s == "" {
		return 0, nil
	}
	return strconv.ParseInt(s, 8, 63)
}
