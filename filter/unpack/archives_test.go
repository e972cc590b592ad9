//go:build corpus

package unpack

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// TestArchives reads the archives that libraries test themselves with: those
// of the modules used here and of the Go toolchain, and the folders named in
// POSTERN_ARCHIVES (separated as in PATH), for example the test files of
// libarchive, libzip and libmspack; uuencoded files are decoded. Each must be
// read in 5 s and 256 MiB, without a panic.
func TestArchives(t *testing.T) {
	for _, folder := range archiveFolders(t) {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(folder, "/"), "/", "_"), func(t *testing.T) {
			n, doubts := 0, 0
			eachFile(t, folder, func(s sample) {
				n++
				if !judgeArchive(t, s.name, s.data).Clean() {
					doubts++
				}
			})
			if n == 0 {
				t.Error("no files there")
			}
			t.Logf("%d files, %d with doubts", n, doubts)
		})
	}
}

func archiveFolders(t *testing.T) []string {
	return append(filepath.SplitList(os.Getenv("POSTERN_ARCHIVES")),
		moduleDir(t, "github.com/bodgit/sevenzip")+"/testdata", moduleDir(t, "github.com/gabriel-vasile/mimetype")+"/testdata",
		goroot(t)+"/src/archive/zip/testdata", goroot(t)+"/src/archive/tar/testdata")
}

// eachFile gives f every file below folder.
func eachFile(t *testing.T, folder string, f func(sample)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(path, ".uu"); ok {
			path, data = name, uudecoded(data)
		}
		f(sample{path, data})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// judgeArchive takes one file apart, to the depth that a message may have.
func judgeArchive(t *testing.T, path string, data []byte) specimen.Seen {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	// the time of the thread: other load on the machine does not count
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, start := memory(t, "VmRSS"), cpu(t)
	got := leaves(t, data, []string{filepath.Base(path)}, specimen.Budget(len(data)), budget.DefaultLimits.Nesting)
	if took := cpu(t) - start; took > 5*time.Second {
		t.Errorf("%s: took %v", path, took)
	}
	if used := memory(t, "VmHWM") - before; used > 256<<10 {
		t.Errorf("%s: used %d KiB", path, used)
	}
	if strings.Contains(got.Reason, "gave up") {
		t.Errorf("%s: %s", path, got.Reason)
	}
	return got
}

// leaves is deep without copies of what was found.
func leaves(t *testing.T, data []byte, names []string, b *budget.Budget, level int) (s specimen.Seen) {
	short, _ := filetype.Of(data, names)
	if !filetype.IsContainer(short) || level == 0 {
		s.OverLimits = level == 0
		return s
	}
	out, err := expand(data, short, b, func(m budget.Member) error {
		in := leaves(t, m.Data, m.Names, b, level-1)
		s.Outcome = joined(s.Outcome, in.Outcome)
		return b.Check()
	})
	if err != nil {
		t.Errorf("expand: %v", err)
	}
	s.Outcome = joined(s.Outcome, out)
	return s
}

// memory returns a line of /proc/self/status in KiB.
func memory(t *testing.T, key string) int {
	n, err := statusKiB(key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func statusKiB(key string) (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), key+":")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return strconv.Atoi(number)
}

func moduleDir(t *testing.T, module string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func goroot(t *testing.T) string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func uudecoded(text []byte) (out []byte) {
	_, text, _ = bytes.Cut(append([]byte("\n"), text...), []byte("\nbegin "))
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if string(line) == "end" {
			break
		}
		if i == 0 || len(line) == 0 {
			continue
		}
		n, chunk := int(line[0]-' ')&63, []byte(nil)
		for group := line[1:]; len(group) > 0; group = group[min(4, len(group)):] {
			var v [4]byte
			for j := range min(4, len(group)) {
				v[j] = (group[j] - ' ') & 63
			}
			chunk = append(chunk, v[0]<<2|v[1]>>4, v[1]<<4|v[2]>>2, v[2]<<6|v[3])
		}
		out = append(out, chunk[:min(n, len(chunk))]...)
	}
	return out
}

func TestEndlessZips(t *testing.T) {
	for name, data := range endlessZips(t) {
		if got := judgeArchive(t, name, data); !got.OverLimits {
			t.Errorf("%s: outcome %+v", name, got.Outcome)
		}
	}
}

// endlessZips are two files from the tests of Go's archive/zip: one that
// contains itself, and one of 4 GiB of zeros in three layers.
func endlessZips(t *testing.T) map[string][]byte {
	source, err := os.ReadFile(goroot(t) + "/src/archive/zip/reader_test.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, name := range []string{"rZipBytes", "biggestZipBytes"} {
		dump := regexp.MustCompile("(?s)func " + name + `\(\) \[\]byte \{\s*s := .(.*?)` + "`").FindSubmatch(source)
		if dump == nil {
			t.Fatalf("%s not found", name)
		}
		text := regexp.MustCompile(`(?m)^[0-9a-f]{7}|\s+`).ReplaceAll(dump[1], nil)
		if out[name], err = hex.DecodeString(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
