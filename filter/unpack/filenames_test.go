package unpack

import (
	"strings"
	"testing"
)

// A name beyond all bounds keeps what counts.
func TestLongNameKeepsItsEnd(t *testing.T) {
	t.Parallel()
	if got := textName([]byte(strings.Repeat("a", 3*maxName) + ".exe")); !strings.HasSuffix(got, "a.exe") || len(got) != maxName {
		t.Errorf("%d octets, ends in %q", len(got), got[len(got)-5:])
	}
}
