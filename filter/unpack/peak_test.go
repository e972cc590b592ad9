//go:build corpus

package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// Promise of the limits: whatever a message is, it costs at most 64 MiB and
// three times its size of memory and 30 s of processor time. What counts is
// the peak that the system sees, garbage of the runtime included, so each
// message gets a process of its own: this test binary, started again.

const (
	peakMemory = 64 << 20
	peakTimes  = 3
	peakTime   = 30 * time.Second
	// peakChild in the environment makes the binary take one message apart.
	peakChild = "POSTERN_PEAK_CHILD"
)

func TestMain(m *testing.M) {
	if os.Getenv(peakChild) == "" {
		os.Exit(m.Run())
	}
	if err := peakOfInput(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// peakOfInput takes the message on standard input apart, spooled as the
// daemon does it, and prints the largest memory of this process in KiB.
func peakOfInput() error {
	var s mail.Spool
	if _, err := io.Copy(&s, os.Stdin); err != nil {
		return err
	}
	msg, err := s.Message()
	if err != nil {
		return err
	}
	r := Parts(context.Background(), msg, budget.DefaultLimits)
	for _, f := range r.Findings {
		if f.Minor == mail.CheckFailed {
			return fmt.Errorf("%s: %s", f.Part, f.Detail)
		}
	}
	// not what the parent is told by wait4: that counts its own pages from
	// before the exec as well
	peak, err := statusKiB("VmHWM")
	fmt.Println(peak)
	return err
}

// cost is what one message took.
type cost struct {
	name   string
	size   int64
	memory int64 // octets at the peak, beyond those of an empty message
	cpu    time.Duration
}

func (c cost) over() bool { return c.memory > peakMemory+peakTimes*c.size || c.cpu > peakTime }

func (c cost) String() string {
	return fmt.Sprintf("%6.1f MiB %6.2f s for %8.1f KiB: %s", float64(c.memory)/(1<<20), c.cpu.Seconds(), float64(c.size)/(1<<10), c.name)
}

// measure takes s apart in a process of its own.
func measure(s sample) (cost, error) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), peakChild+"=1")
	c.Stdin = bytes.NewReader(s.data)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w: %.2000s", s.name, err, stderr.String())
	}
	var peak int64
	if _, err := fmt.Sscan(string(out), &peak); err != nil {
		return cost{}, fmt.Errorf("%s: %q: %w", s.name, out, err)
	}
	return cost{s.name, int64(len(s.data)), peak << 10, c.ProcessState.UserTime() + c.ProcessState.SystemTime()}, nil
}

// TestPeak measures every message of POSTERN_CORPUS, every archive of
// POSTERN_ARCHIVES and of the modules used here as an attachment, all tricks of
// the evasion suite and what is built to be costly.
func TestPeak(t *testing.T) {
	folders := filepath.SplitList(os.Getenv("POSTERN_CORPUS"))
	if len(folders) == 0 {
		t.Fatal("POSTERN_CORPUS names no folders")
	}
	for _, folder := range folders {
		folder, _, _ := strings.Cut(folder, "=")
		peaks(t, "messages of "+folder, func(measure func(sample)) { eachSample(t, folder, measure) })
	}
	for _, folder := range archiveFolders(t) {
		peaks(t, "archives of "+folder, func(measure func(sample)) {
			eachFile(t, folder, func(s sample) { measure(attachedFile(s.name, s.data)) })
		})
	}
	peaks(t, "tricks", func(measure func(sample)) {
		for _, trick := range EvasionTricks() {
			measure(sample{trick.ID + " " + trick.What, []byte(trick.Message)})
		}
	})
	peaks(t, "costly input", func(measure func(sample)) {
		for name, build := range scanners() {
			measure(sample{name, []byte(build(4 << 20))})
		}
		measure(sample{"many readings", []byte(manyReadings(30 << 20))})
		for name, data := range bombs(t) {
			measure(attachedFile(name, data))
		}
	})
}

// peaks measures what each yields, as many at a time as there are processors.
func peaks(t *testing.T, what string, each func(func(sample))) {
	t.Helper()
	empty, err := measure(sample{name: "empty message"})
	if err != nil {
		t.Fatal(err)
	}
	todo := make(chan sample)
	var mu sync.Mutex // guards costs
	var costs []cost
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for s := range todo {
				c, err := measure(s)
				if err != nil {
					t.Errorf("%v", err)
					continue
				}
				c.memory -= empty.memory
				mu.Lock()
				costs = append(costs, c)
				mu.Unlock()
			}
		})
	}
	each(func(s sample) { todo <- s })
	close(todo)
	work.Wait()
	if len(costs) == 0 {
		t.Fatalf("%s: none", what)
	}
	report(t, what, costs)
}

// report fails for those that cost too much, and shows the worst.
func report(t *testing.T, what string, costs []cost) {
	t.Helper()
	for _, c := range costs {
		if c.over() {
			t.Errorf("costs too much: %v", c)
		}
	}
	t.Logf("%s: %d", what, len(costs))
	const worst = 10
	byMemory := func(a, b cost) int { return int(b.memory - peakTimes*b.size - a.memory + peakTimes*a.size) }
	byTime := func(a, b cost) int { return int(b.cpu - a.cpu) }
	for order, compare := range map[string]func(a, b cost) int{"memory": byMemory, "time": byTime} {
		slices.SortFunc(costs, compare)
		for _, c := range costs[:min(worst, len(costs))] {
			t.Logf("%-6s %v", order, c)
		}
	}
}

// attachedFile is a message that carries data.
func attachedFile(name string, data []byte) sample {
	head := fmt.Sprintf("Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=%q\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n", filepath.Base(name))
	return sample{name, []byte(withPart(head + specimen.Wrap64(data)))}
}

// bombs are archives that yield far more than they are. The ballast keeps them
// from being over the limits for their ratio alone.
func bombs(t *testing.T) map[string][]byte {
	ballast := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(ballast)
	const large = 128 << 20
	long := append(ballast, make([]byte, large)...)
	repeated := bytes.Repeat(ballast, 60)
	out := endlessZips(t)
	add := func(name string, data []byte) { out[name] = data }
	add("zeros.gz", specimen.Gzip(long))
	add("zeros.gz.gz", specimen.Gzip(specimen.Gzip(long)))
	add("ballast.zst", specimen.Pack(repeated, func(w io.Writer) io.WriteCloser {
		return specimen.Must(zstd.NewWriter(w, zstd.WithWindowSize(large)))
	}))
	add("ballast.xz", specimen.Pack(repeated, func(w io.Writer) io.WriteCloser {
		return specimen.Must(xz.WriterConfig{DictCap: large}.NewWriter(w))
	}))
	add("ballast.lzma", specimen.Pack(repeated, func(w io.Writer) io.WriteCloser {
		return specimen.Must(lzma.WriterConfig{DictCap: large}.NewWriter(w))
	}))
	third := append(ballast, make([]byte, 15<<20)...)
	add("three.gz", bytes.Repeat(specimen.Gzip(third), 3))
	add("nested.gz", specimen.Gzip(append(specimen.Gzip(third), third...)))
	var names []tar.Header
	for i := range 5000 {
		names = append(names, tar.Header{Name: strings.Repeat("n", 4000) + strconv.Itoa(i)})
	}
	add("names.tar.gz", specimen.Gzip(append(specimen.Tar(names...), ballast...)))
	var small []specimen.ZipFile
	packed := specimen.ZipFile{Data: make([]byte, 100<<10), Method: specimen.ZipDeflate}
	packed.Raw = packed.Packed()
	for i := range 4900 {
		packed.Name = strconv.Itoa(i)
		small = append(small, packed)
	}
	small = append(small, specimen.ZipFile{Name: "ballast", Data: ballast})
	add("small.zip", specimen.Zip(small...))
	return out
}
