package check

import (
	"strings"
	"testing"
	"time"
)

func TestClamAVSignatures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer, version string
		date                  time.Time
		word                  string
	}{
		{"daily", "ClamAV 1.4.6/27812/Mon Nov 23 09:26:45 2026\x00", "ClamAV 1.4.6/27812", time.Date(2026, 11, 23, 9, 26, 45, 0, time.Local), ""},
		{"day of one digit", "ClamAV 1.4.6/27812/Tue Nov  3 09:26:45 2026\x00", "ClamAV 1.4.6/27812", time.Date(2026, 11, 3, 9, 26, 45, 0, time.Local), ""},
		{"no daily", "ClamAV 1.4.6\x00", "ClamAV 1.4.6", time.Time{}, ""},
		{"switched off", "UNKNOWN COMMAND\x00", "", time.Time{}, ""},
		{"cut", "ClamAV 1.4.6/27812/Mon", "", time.Time{}, FailedCut},
		{"garbage", "hello\x00", "", time.Time{}, FailedGarbage},
		{"no date", "ClamAV 1.4.6/27812/yesterday\x00", "", time.Time{}, FailedOther},
	} {
		version, date, err := parseVersion([]byte(tt.answer))
		if FailureWord(err) != tt.word || err == nil && (version != tt.version || !date.Equal(tt.date)) {
			t.Errorf("%s: %q %v %v", tt.name, version, date, err)
		}
	}
}

// TestClamAVBackup: who stands in is asked only when all others have failed,
// and only they count for a message.
func TestClamAVBackup(t *testing.T) {
	t.Parallel()
	good := newFakeClamd(t, "tcp", always("stream: OK\x00"))
	bad := newFakeClamd(t, "tcp", always("stream: x ERROR\x00"))
	backup := newFakeClamd(t, "unix", always("stream: Eicar FOUND\x00"))
	ask := func(addresses ...string) Result {
		o := Kinds()["clamav"]().(*ClamAVOptions)
		o.Address, o.Backup = addresses, []string{backup.address}
		return run(t, "clamav", newCheck(t, o), input("x"))
	}
	if r := ask(bad.address, good.address); r.Err != nil || !r.Scanned || len(r.Findings) != 0 || backup.asked.Load() != 0 {
		t.Errorf("%+v", r)
	}
	if r := ask(bad.address, "tcp:127.0.0.1:1"); r.Err != nil || !r.Scanned || len(r.Findings) != 1 || backup.asked.Load() == 0 {
		t.Errorf("%+v", r)
	}
	o := Kinds()["clamav"]().(*ClamAVOptions)
	o.Address, o.Backup = []string{bad.address}, []string{"tcp:127.0.0.1:1"}
	if r := run(t, "clamav", newCheck(t, o), input("x")); FailureWord(r.Err) != FailedStatus || !strings.Contains(r.Err.Error(), bad.address) || !strings.Contains(r.Err.Error(), "127.0.0.1:1") {
		t.Errorf("%+v", r)
	}
}
