package unpack

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"io"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// bomb is a message with an archive that holds members of size octets, and
// enough ballast that the ratio of the message does not end the work first.
func bomb(t *testing.T, members, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	ballast := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(ballast)
	zeros := make([]byte, 1<<20)
	for i := range members {
		w, err := z.Create(strings.Repeat("x", i+1) + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			w.Write(ballast)
		}
		for n := 0; n < size; n += len(zeros) {
			w.Write(zeros)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(b.Bytes())
	return []byte("Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text + "\r\n")
}

// Promise of the limits: no message needs more than 64 MiB and three times its
// size, whatever an archive claims; beyond that it is over the limits.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name          string
		members, size int
		over          bool
	}{
		{"many small ones", 100, 1 << 20, false},
		{"one that fits", 1, 30 << 20, false},
		{"one that does not", 1, 150 << 20, true},
	} {
		msg := bomb(t, c.members, c.size)
		m := mail.NewMessage(msg)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := Parts(context.Background(), m, budget.DefaultLimits)
		runtime.GC()
		runtime.ReadMemStats(&after)
		over := false
		for _, f := range r.Findings {
			over = over || f.Minor == mail.OverLimits
		}
		if over != c.over {
			t.Errorf("%s: over limits %v: %v", c.name, over, r.Findings)
		}
		if held, bound := int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20+3*len(msg)); held > bound {
			t.Errorf("%s: %d octets are held, at most %d may be", c.name, held, bound)
		}
		runtime.KeepAlive(r)
	}
}
