package filetype

import (
	"strings"
	"testing"
)

// A name beyond all bounds keeps what counts.
func TestLongNameKeepsItsEnd(t *testing.T) {
	t.Parallel()
	if got := TextName([]byte(strings.Repeat("a", 3*MaxName) + ".exe")); !strings.HasSuffix(got, "a.exe") || len(got) != MaxName {
		t.Errorf("%d octets, ends in %q", len(got), got[len(got)-5:])
	}
}
