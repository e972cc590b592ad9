package codec

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

func BenchmarkBase64(b *testing.B) {
	line := strings.Repeat("A", 76) + "\r\n"
	src := []byte(strings.Repeat(line, 700<<10/57))
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		for range Base64(src, always) {
		}
	}
}

func TestBase64(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want []string // distinct readings
	}{
		{"", []string{""}},
		{"aGVsbG8=", []string{"hello"}},
		{"aGVsbG8", []string{"hello"}},
		{"aGVs\r\nbG8=\r\n", []string{"hello"}},
		{"aG Vs\tbG8=\r\n", []string{"hello"}},
		{"aGVsbG8====\r\n\r\n", []string{"hello"}},
		{"aGVsbA==bw==", []string{"hello", "hell"}},
		{"aGV*sbG8=", []string{"hello", "he"}},
		{"a-_v", []string{"k\xef\xef", "j", "i"}},
		{"a", []string{""}},
	} {
		var got []string
		for d := range Base64([]byte(tt.in), always) {
			if !slices.Contains(got, string(d)) {
				got = append(got, string(d))
			}
		}
		if len(tt.want) == 1 && !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
		if !slices.Contains(got, tt.want[0]) || len(tt.want) > 1 && len(got) < 2 {
			t.Errorf("%q: %q, want %q among several", tt.in, got, tt.want)
		}
	}
}

// TestBase64Lines compares with the standard library over lengths and line
// lengths around the steps of the fast path.
func TestBase64Lines(t *testing.T) {
	t.Parallel()
	data := make([]byte, 9000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, n := range []int{0, 1, 2, 3, 56, 57, 58, 3071, 3072, 3073, 9000} {
		for _, width := range []int{1, 3, 4, 5, 60, 76, 77, 998, 1024, 1028, 5000, 20000} {
			enc := base64.StdEncoding.EncodeToString(data[:n])
			var in strings.Builder
			for len(enc) > width {
				in.WriteString(enc[:width] + "\r\n")
				enc = enc[width:]
			}
			in.WriteString(enc)
			out, ok := StrictBase64([]byte(in.String()))
			if !ok || !bytes.Equal(out, data[:n]) {
				t.Errorf("%d octets in lines of %d: ok %v, %d octets", n, width, ok, len(out))
			}
		}
	}
}

func FuzzBase64(f *testing.F) {
	f.Add([]byte("aGVs\r\nbG8=\r\n"))
	f.Add([]byte("aGVsbA==bw==x-_\xff"))
	f.Fuzz(func(t *testing.T, src []byte) {
		list := slices.Collect(Base64(src, always))
		if want, err := base64.StdEncoding.DecodeString(string(src)); err == nil && (len(list) != 1 || !bytes.Equal(list[0], want)) {
			t.Errorf("%q: %q, want %q", src, list, want)
		}
		for _, out := range list {
			if len(out) > len(src) {
				t.Errorf("%d octets from %d", len(out), len(src))
			}
		}
	})
}

func always() bool { return true }
