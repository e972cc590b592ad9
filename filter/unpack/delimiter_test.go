package unpack

import "testing"

func FuzzDelimiters(f *testing.F) {
	f.Add([]byte("x\r\n--b\r\ny\r\n --b \r\n--b--\r\nz\r\n--b"), "b")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if boundary == "" {
			return
		}
		ds, _ := delimiters(body, boundary)
		for _, strict := range []bool{true, false} {
			s := segments(body, ds, strict)
			end := 0
			for _, p := range s.parts {
				if p.start < end || p.end < p.start || p.end > len(body) {
					t.Fatalf("segments %+v of %d octets", s.parts, len(body))
				}
				end = p.end
			}
			if s.first > len(body) || s.last > len(body) || s.last < end {
				t.Fatalf("preamble %d, epilogue %d of %d octets, parts end at %d", s.first, s.last, len(body), end)
			}
		}
	})
}
