//go:build corpus

package unpack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// The corpus test reads the folders named in POSTERN_CORPUS (separated as in
// PATH), every message in them and every message of every mailbox. A folder
// may be given with the most messages that may be called ambiguous there:
// "/cache/dovecot=3".
//
// The largest one is a mailing list of 3,237 messages, in the Go module
// github.com/ProtonMail/gluon@v0.17.1-0.20230724134000-308be39be96e, file
// benchmarks/imaptest/dovecot-crlf: fetch it with "go mod download" into a
// GOMODCACHE of its own and copy the file to a folder.

type sample struct {
	name string
	data []byte
}

func TestCorpus(t *testing.T) {
	folders := filepath.SplitList(os.Getenv("POSTERN_CORPUS"))
	if len(folders) == 0 {
		t.Fatal("POSTERN_CORPUS names no folders")
	}
	for _, folder := range folders {
		folder, limit, limited := strings.Cut(folder, "=")
		t.Run(filepath.Base(folder), func(t *testing.T) {
			ambiguous, n := 0, 0
			eachSample(t, folder, func(s sample) {
				n++
				if judgeSample(t, s) {
					ambiguous++
				}
			})
			t.Logf("%d messages, %d ambiguous", n, ambiguous)
			if n == 0 {
				t.Error("no messages there")
			}
			if limited && ambiguous > atoi(t, limit) {
				t.Errorf("%d messages are ambiguous, at most %s may be", ambiguous, limit)
			}
		})
	}
}

func atoi(t *testing.T, s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			t.Fatalf("limit %q is no number", s)
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// judgeSample unpacks one message: no panic, no change of its octets, in time
// and memory. It reports whether the message is ambiguous.
func judgeSample(t *testing.T, s sample) (ambiguous bool) {
	t.Helper()
	before := sha256.Sum256(s.data)
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	start := time.Now()
	r := Parts(context.Background(), mail.NewMessage(s.data), budget.DefaultLimits)
	took := time.Since(start)
	runtime.ReadMemStats(&m1)
	if sha256.Sum256(s.data) != before {
		t.Errorf("%s: the message was changed", s.name)
	}
	if took > 30*time.Second {
		t.Errorf("%s: took %v", s.name, took)
	}
	held := int64(m1.HeapAlloc) - int64(m0.HeapAlloc)
	if limit := 64<<20 + 3*int64(len(s.data)); held > limit {
		t.Errorf("%s: holds %d octets, limit %d", s.name, held, limit)
	}
	for _, f := range r.Findings {
		switch f.Minor {
		case mail.CheckFailed:
			t.Errorf("%s: %s: %s", s.name, f.Part, f.Detail)
		case mail.Ambiguous:
			if !ambiguous {
				t.Logf("%s: ambiguous: %q: %s", s.name, f.Part, f.Detail)
			}
			ambiguous = true
		case mail.OverLimits:
			t.Logf("%s: over limits: %s", s.name, f.Detail)
		}
	}
	return ambiguous
}

var fieldLine = regexp.MustCompile(`(?m)^(?i:from|to|subject|date|received|return-path|message-id|mime-version|content-type|x-mailer)[ \t]*:`)

func eachSample(t *testing.T, folder string, f func(sample)) {
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		switch filepath.Ext(path) {
		case ".xml", ".ref", ".out", ".go", ".md": // expectations and programs that quote mail
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch top := data[:min(len(data), 4096)]; {
		case bytes.HasPrefix(data, []byte("From ")):
			for i, m := range mailbox(data) {
				f(sample{path + "#" + itoa(i+1), crlf(m)})
			}
		case len(fieldLine.FindAll(top, 2)) == 2:
			f(sample{path, crlf(data)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

var fromLine = regexp.MustCompile(`(?m)^From \S.*\d\d:\d\d.*\d{4}\r?\n`)

func mailbox(data []byte) [][]byte {
	var out [][]byte
	at := fromLine.FindAllIndex(data, -1)
	for i, a := range at {
		end := len(data)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		out = append(out, data[a[1]:end])
	}
	return out
}

// crlf gives the message the line ends that it has on the wire.
func crlf(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}
