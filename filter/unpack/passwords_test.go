package unpack

import (
	"strings"
	"testing"
)

func TestPasswordFirst(t *testing.T) {
	t.Parallel()
	b := NewBudget(t.Context(), DefaultLimits, 0)
	b.setPasswords([]string{"a", "b", "c"})
	for word := range b.tries(1) {
		if word == "c" {
			b.opened(word)
		}
	}
	if got := strings.Join(b.passwords, ""); got != "cab" {
		t.Errorf("passwords %s", got)
	}
}
