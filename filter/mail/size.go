package mail

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of octets in a configuration, written 4096, 256KiB, 50MiB or 1GiB.
type Size int64

var sizeUnits = []struct {
	name   string
	octets int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText reads the written form.
func (s *Size) UnmarshalText(text []byte) error {
	num, unit := string(text), int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(num, u.name); ok {
			num, unit = n, u.octets
			break
		}
	}
	n, err := strconv.ParseUint(num, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit || num[0] == '0' && num != "0" {
		return errors.New("want a number of octets, or one with KiB, MiB or GiB, for example 256KiB")
	}
	*s = Size(int64(n) * unit)
	return nil
}

// String returns the shortest written form.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.octets == 0 {
			return strconv.FormatInt(int64(s)/u.octets, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
