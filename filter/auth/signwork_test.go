package auth

import (
	"runtime"
	"strings"
	"testing"

	"postern/filter/mail"
)

// Signing a field ten times as long may take ten times the work, not a hundred
// times. What is allocated stands for the work: it does not depend on the
// machine. Not parallel, since it counts what the whole process allocates.
func TestSignWorkGrowsWithLength(t *testing.T) {
	keys := testKeys(t, "ed25519 e:x.test")
	work := func(lines int) uint64 {
		m := mail.NewMessage([]byte("From: a@x.test" + strings.Repeat(",\r\n a@x.test", lines) + "\r\n\r\nbody\r\n"))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := keys.Sign(&mail.Outgoing{Message: m}, SignOptions{}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	work(1) // what is made once
	if small, large := work(2000), work(20000); large > 20*small {
		t.Errorf("2,000 lines take %d octets, 20,000 take %d", small, large)
	} else {
		t.Logf("2,000 lines take %d octets, 20,000 take %d", small, large)
	}
}
