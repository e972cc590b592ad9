package unpack

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// clock is a context that tells when it is asked whether time is up.
type clock struct {
	context.Context
	look func() error
}

func (c clock) Err() error { return c.look() }

func zstdOf(data []byte, options ...zstd.EOption) []byte {
	return specimen.Pack(data, func(w io.Writer) io.WriteCloser { return specimen.Must(zstd.NewWriter(w, options...)) })
}

// TestNoGoroutines: a panic in a goroutine of a decoder would end the program.
func TestNoGoroutines(t *testing.T) {
	data := bytes.Repeat(specimen.Evil, 3<<20/len(specimen.Evil))
	packed := zstdOf(data)
	for name, file := range map[string][]byte{
		"7z, zstd": specimen.SevenZipBy("\x04\xf7\x11\x01", packed, len(data)), "7z, brotli": specimen.SevenZipBy("\x04\xf7\x11\x02", specimen.Brotli(data), len(data)),
		"7z, lz4": specimen.SevenZipBy("\x04\xf7\x11\x04", specimen.LZ4(data), len(data)), "7z, copy": specimen.SevenZipBy("\x00", data, len(data)),
		"zst": packed, "gz": specimen.Gzip(data), "xz": specimen.XZ(data), "lzma": specimen.LZMA(data),
		"zip, zstd": specimen.Zip(specimen.ZipFile{Name: "a", Data: data, Method: specimen.ZipZstd, Raw: packed}),
		"zip":       specimen.Zip(specimen.ZipFile{Name: "a", Data: data, Method: specimen.ZipDeflate}),
		"cab":       specimen.Cab("a", data[:30000], specimen.CabMSZip),
	} {
		before, most, looks := runtime.NumGoroutine(), 0, 0
		ctx := clock{t.Context(), func() error {
			most = max(most, runtime.NumGoroutine())
			looks++
			return nil
		}}
		b := budget.New(ctx, budget.DefaultLimits, int64(len(file)))
		got := specimen.LookAs(t, expand, file, b, typesOf(file)...)
		if !got.HasPrefix(data[:30000]) || !got.Clean() || looks < 3 {
			t.Errorf("%s: %d members, %+v, %d looks", name, len(got.Members), got.Outcome, looks)
		}
		if most > before {
			t.Errorf("%s: %d goroutines more while it was decoded", name, most-before)
		}
	}
}

// TestWindows: what a decoder takes before it yields anything is granted first,
// and no more than the content can need.
func TestWindows(t *testing.T) {
	const small = 40 << 20
	single := []byte("\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x08\x29\x00\x00hello") // one segment of 128 MiB
	for name, file := range map[string][]byte{
		"7z, zstd":             specimen.SevenZipBy("\x04\xf7\x11\x01", specimen.ZstdHuge(26), 5),
		"7z, zstd, larger":     specimen.SevenZipBy("\x04\xf7\x11\x01", specimen.ZstdHuge(27), 5),
		"7z, zstd, large file": specimen.SevenZipBy("\x04\xf7\x11\x01", specimen.ZstdHuge(26), 150<<20),
		"7z, zstd, segment":    specimen.SevenZipBy("\x04\xf7\x11\x01", single, 5),
		"7z, brotli":           specimen.SevenZipBy("\x04\xf7\x11\x02", specimen.Brotli([]byte("hello")), 5),
		"7z, lz4":              specimen.SevenZipBy("\x04\xf7\x11\x04", specimen.LZ4([]byte("hello")), 5),
		"zst":                  specimen.ZstdHuge(26),
		"zst, segment":         single,
		"zip, zstd":            specimen.Zip(specimen.ZipFile{Name: "a", Data: []byte("hello"), Method: specimen.ZipZstd, Raw: specimen.ZstdHuge(26)}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := specimen.LookAs(t, expand, file, specimen.Budget(len(file)), typesOf(file)...)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > small {
			t.Errorf("%s: %d octets cost %d", name, len(file), n)
		}
		if !got.HasData([]byte("hello")) && !got.OverLimits && !got.Damaged {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// an ordinary file with a large window is not refused for it
	text := bytes.Repeat([]byte("some text, and more of it\n"), 100_000)
	for _, options := range [][]zstd.EOption{nil, {zstd.WithWindowSize(32 << 20)}, {zstd.WithSingleSegment(true)}} {
		packed := zstdOf(text, options...)
		for name, file := range map[string][]byte{
			"zst": packed, "7z": specimen.SevenZipBy("\x04\xf7\x11\x01", packed, len(text)),
			"short zst": zstdOf(text[:26], options...), "encoded at once": specimen.Must(zstd.NewWriter(nil, options...)).EncodeAll(text, nil),
		} {
			if got := specimen.LookAs(t, expand, file, specimen.Budget(len(file)), typesOf(file)...); !got.HasPrefix(text[:26]) || !got.Clean() {
				t.Errorf("%s: %d members, %+v", name, len(got.Members), got.Outcome)
			}
		}
	}
}

// TestTimeUp: time that is up ends all work within a second of processor time,
// wherever the work is.
func TestTimeUp(t *testing.T) {
	const most = time.Second
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	messages := map[string]string{"many readings": manyReadings(2 << 20), "archives": string(bomb(t, 20, 1<<20))}
	for name, build := range scanners() {
		messages[name] = build(2 << 20)
	}
	for name, text := range messages {
		looks, last, longest := 0, cpu(t), time.Duration(0)
		look := func() error {
			looks++
			now := cpu(t)
			longest = max(longest, now-last)
			last = now
			return nil
		}
		unpackBy(clock{t.Context(), look}, text)
		if _ = look(); longest > most {
			t.Errorf("%s: %v between two looks at the clock", name, longest)
		}
		up, end := looks/2, time.Duration(0)
		look = func() error {
			if up--; up > 0 {
				return nil
			}
			if end == 0 {
				end = cpu(t)
			}
			return context.Canceled
		}
		unpackBy(clock{t.Context(), look}, text)
		if took := cpu(t) - end; end > 0 && took > most {
			t.Errorf("%s: went on for %v", name, took)
		}
	}
}

func unpackBy(ctx context.Context, text string) *Result {
	return Parts(ctx, mail.NewMessage([]byte(text)), budget.DefaultLimits)
}

func typesOf(file []byte) []string {
	short, _ := filetype.Of(file, nil)
	return short
}
