package unpack

import (
	"bytes"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// TestBinHexBomb is made of run lengths.
func TestBinHexBomb(t *testing.T) {
	t.Parallel()
	// 0x90 0xff repeats the octet before it 254 times
	bomb := mailHead + "\r\n" + specimen.BinHexText(append([]byte("\x01x\x00APPLxxxx\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00a"), bytes.Repeat([]byte{0x90, 0xff}, 100_000)...))
	r := unpackWith(budget.DefaultLimits, bomb)
	if !hasMinor(r, mail.OverLimits) {
		t.Errorf("bomb is quiet\n%s", describeTree(r))
	}
}
