package entity

import "testing"

func FuzzDelimiters(f *testing.F) {
	f.Add([]byte("x\r\n--b\r\ny\r\n --b \r\n--b--\r\nz\r\n--b"), "b")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if boundary == "" {
			return
		}
		ds, _ := Delimiters(body, boundary)
		for _, strict := range []bool{true, false} {
			s := Segments(body, ds, strict)
			end := 0
			for _, p := range s.Parts {
				if p.Start < end || p.End < p.Start || p.End > len(body) {
					t.Fatalf("segments %+v of %d octets", s.Parts, len(body))
				}
				end = p.End
			}
			if s.First > len(body) || s.Last > len(body) || s.Last < end {
				t.Fatalf("preamble %d, epilogue %d of %d octets, parts end at %d", s.First, s.Last, len(body), end)
			}
		}
	})
}
