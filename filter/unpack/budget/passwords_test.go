package budget

import (
	"strings"
	"testing"
)

func TestPasswordFirst(t *testing.T) {
	t.Parallel()
	b := New(t.Context(), DefaultLimits, 0)
	b.SetPasswords([]string{"a", "b", "c"})
	for word := range b.Tries(1) {
		if word == "c" {
			b.Opened(word)
		}
	}
	if got := strings.Join(b.passwords, ""); got != "cab" {
		t.Errorf("passwords %s", got)
	}
}
