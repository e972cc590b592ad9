package unpack

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzHead(f *testing.F) {
	f.Add([]byte(mimeHead + " \r\njunk\r\nContent-\r\n Type: x\r\n\r\nbody"))
	f.Add([]byte("\xef\xbb\xbfContent-Type : a\r\r\nb: \rc\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range scanHead(data, headLimits{Header: fuzzLimits.Header, Fields: fuzzLimits.Fields}) {
			if !bytes.HasSuffix(data, h.body) {
				t.Errorf("body %q is not the end of %q", h.body, data)
			}
			for _, fl := range h.fields {
				if !strings.HasPrefix(fl.name, "content-") || fl.at >= len(data) {
					t.Errorf("field %+v", fl)
				}
			}
		}
	})
}
