package mail

import "testing"

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"0": 0, "1": 1, "1023": 1023, "256KiB": 256 << 10, "50MiB": 50 << 20, "3GiB": 3 << 30, "9223372036854775807": 1<<63 - 1} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("%q is %d, written %q (%v)", text, s, s, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "01", "1.5KiB", "1 KiB", "1kib", "1KB", "1K", "9223372036854775808", "9007199254740992KiB", "0x10", "1_000"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d", text, s)
		}
	}
}
