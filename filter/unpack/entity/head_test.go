package entity

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzHead(f *testing.F) {
	f.Add([]byte("From: a@example.com\r\nMIME-Version: 1.0\r\n \r\njunk\r\nContent-\r\n Type: x\r\n\r\nbody"))
	f.Add([]byte("\xef\xbb\xbfContent-Type : a\r\r\nb: \rc\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range ScanHead(data, Limits{Header: 64 << 10, Fields: 500}) {
			if !bytes.HasSuffix(data, h.Body) {
				t.Errorf("body %q is not the end of %q", h.Body, data)
			}
			for _, fl := range h.Fields {
				if !strings.HasPrefix(fl.Name, "content-") || fl.at >= len(data) {
					t.Errorf("field %+v", fl)
				}
			}
		}
	})
}
