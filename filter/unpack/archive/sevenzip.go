package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"

	"github.com/bodgit/sevenzip"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// read7z gives the members of a 7-Zip archive. The library decodes it, but it
// believes the counts in the header and may ask for hundreds of gigabytes at
// once, which nothing can recover from; so the header is walked here first.
func read7z(x *budget.Opener, data []byte) error {
	if !bytes.HasPrefix(data, magic7z) {
		return x.Inside(data, "7z")
	}
	w := &walk7z{x: x, data: data}
	tail, err := w.check()
	if errors.Is(err, errEncrypted) {
		x.NoteEncrypted()
		return nil
	}
	if errors.Is(err, errEmpty) {
		return x.GiveTail(tail)
	}
	if err != nil {
		return err
	}
	r, err := sevenzip.NewReaderWithPassword(x.Input(data), int64(len(data)), w.password)
	if err != nil {
		return err
	}
	r, opened := w.unlock(r)
	for _, f := range r.File {
		if err := w.give(f, opened); err != nil {
			return err
		}
	}
	return x.GiveTail(tail)
}

var (
	magic7z      = []byte("7z\xbc\xaf\x27\x1c")
	errEncrypted = errors.New("encrypted")
	errSum7z     = errors.New("checksum does not match")
	errEmpty     = errors.New("no members") // and no header
)

// walk7z goes through the header of a 7-Zip archive (7zFormat.txt of the LZMA
// SDK) only to see that it asks for nothing unreasonable.
type walk7z struct {
	x    *budget.Opener
	data []byte
	in   []byte // what is left of the header
	err  error

	folders  []folder7z
	packAt   uint64   // of the first packed stream
	packs    []uint64 // lengths of the packed streams
	password string   // that opened the header
}

// folder7z is a chain of coders.
type folder7z struct {
	coders  []coder7z
	outputs int
	sizes   []uint64 // decoded, one for each output
	hasSum  bool
	sum     uint32
	streams uint64   // members
	bound   []uint64 // pairs of input and output that are connected
	packs   int      // packed streams

	given   uint64 // octets of the members so far
	decoded uint64 // so far by the library
	broken  bool   // it cannot be decoded any further
}

type coder7z struct {
	id         string
	properties []byte
}

const (
	// maxHeader7z bounds the header, decoded; 5,000 members need far less
	maxHeader7z = 4 << 20
	maxFiles7z  = 1 << 14
	lzma7z      = "\x03\x01\x01"
	lzma27z     = "\x21"
	ppmd7z      = "\x03\x04\x01"
	zstd7z      = "\x04\xf7\x11\x01"
	brotli7z    = "\x04\xf7\x11\x02"
	lz47z       = "\x04\xf7\x11\x04"
	aes7z       = "\x06\xf1\x07\x01"
)

// locked reports whether the members of a folder are encrypted.
func (w *walk7z) locked(folder int) bool {
	return folder < len(w.folders) && slices.ContainsFunc(w.folders[folder].coders, isAES7z)
}

// give gives one member. opened says that the password of the locked ones is
// known.
func (w *walk7z) give(f *sevenzip.File, opened bool) error {
	m := budget.Member{Names: filetype.AddName(nil, filetype.TextName([]byte(f.Name))), Size: int64(min(f.UncompressedSize, 1<<62))}
	info, locked := f.FileInfo(), w.locked(f.Stream)
	if f.Stream < len(w.folders) {
		w.folders[f.Stream].given += f.UncompressedSize
	}
	switch {
	case info.IsDir():
		m.Dir = true
		return w.x.Give(m)
	case locked && m.Size > 0 && (!opened || f.CRC32 == 0):
		m.Encrypted = true
		return w.x.Give(m)
	case info.Mode()&modeSpecial != 0:
		m.Special = true
	case info.Mode()&modeLink != 0:
		m.Link = true
	}
	if err := w.x.Budget.Entry(); err != nil {
		return err
	}
	var err error
	if m.Data, err = w.content(f); err != nil {
		w.x.KeepWindow() // not given back: the library keeps its decoder
	}
	if locked && m.Size > 0 {
		if m.Opened = err == nil; err != nil {
			m.Encrypted, m.Data = true, nil // what a wrong password yields
		}
		if !errors.Is(err, budget.ErrOverLimits) {
			err = nil
		}
	}
	return w.x.HandDecoded(m, "7z", err)
}

// content decodes a member. The library goes over those before it that were
// passed over, from the start if it met an error: so they are paid, and nothing
// is tried behind an error.
func (w *walk7z) content(f *sevenzip.File) ([]byte, error) {
	if f.Stream >= len(w.folders) || f.UncompressedSize == 0 {
		return w.decode(f)
	}
	folder := &w.folders[f.Stream]
	if folder.broken {
		return nil, codec.ErrDamaged
	}
	if err := w.x.Budget.Take(int64(folder.given - f.UncompressedSize - folder.decoded)); err != nil {
		return nil, err
	}
	folder.decoded = folder.given
	data, err := w.decode(f)
	folder.broken = err != nil && !errors.Is(err, errSum7z)
	return data, err
}

func (w *walk7z) decode(f *sevenzip.File) ([]byte, error) {
	if f.Stream < len(w.folders) && f.UncompressedSize > 0 {
		if err := w.x.Needs(w.window(f.Stream)); err != nil {
			return nil, err
		}
	}
	in, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := w.x.Decode(in, int64(min(f.UncompressedSize, 1<<62)))
	if err == nil && f.CRC32 != 0 && crc32.ChecksumIEEE(data) != f.CRC32 {
		err = errSum7z
	}
	return data, err
}

// check walks the header, decoding it first if need be, and returns what
// follows the archive.
func (w *walk7z) check() (tail []byte, err error) {
	le := binary.LittleEndian
	const start = 32
	if len(w.data) < start {
		return nil, codec.ErrDamaged
	}
	offset, size := le.Uint64(w.data[12:]), le.Uint64(w.data[20:])
	rest := uint64(len(w.data) - start)
	if offset > rest || size > rest-offset {
		return nil, io.ErrUnexpectedEOF
	}
	if size == 0 && offset == 0 && le.Uint32(w.data[28:]) == 0 {
		return w.data[start:], errEmpty
	}
	if size == 0 {
		return w.data[start:], codec.ErrDamaged
	}
	w.in = w.data[start+offset : start+offset+size]
	tail = w.data[start+offset+size:]
	for range 4 { // a packed header may hold a packed header
		if len(w.in) == 0 || w.in[0] != 0x17 {
			break
		}
		if w.in, err = w.unpackHeader(); err != nil {
			return nil, err
		}
	}
	return tail, w.header()
}

// unpackHeader decodes an encoded header.
func (w *walk7z) unpackHeader() ([]byte, error) {
	w.take(1)
	w.folders = nil
	packAt, packed := w.streams()
	if w.err != nil {
		return nil, w.err
	}
	if len(w.folders) != 1 || len(w.folders[0].sizes) == 0 {
		return nil, codec.ErrUnsupported
	}
	f := w.folders[0]
	size := f.sizes[len(f.sizes)-1]
	if size > maxHeader7z {
		return nil, budget.ErrOverLimits
	}
	if packAt > uint64(len(w.data)-32) || packed > uint64(len(w.data)-32)-packAt {
		return nil, codec.ErrDamaged
	}
	in := w.data[32+packAt : 32+packAt+packed]
	if slices.ContainsFunc(f.coders, isAES7z) {
		return w.unlockHeader(f, in, size)
	}
	if len(f.coders) != 1 {
		return nil, codec.ErrDamaged
	}
	return w.decodeHeader(f.coders[0], in, size)
}

// decodeHeader runs one coder.
func (w *walk7z) decodeHeader(c coder7z, in []byte, size uint64) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case c.id == "\x00":
		return in[:min(size, uint64(len(in)))], nil
	case c.id == lzma7z && len(c.properties) == 5:
		r, err = codec.NewLZMA(c.properties, int64(size), in, w.x)
	case c.id == lzma27z && len(c.properties) == 1 && c.properties[0] <= 40:
		r, err = codec.NewLZMA2(in, c.properties[0], int64(size), w.x)
	default:
		return nil, codec.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	if err := w.x.Budget.Take(int64(size)); err != nil {
		return nil, err
	}
	out := make([]byte, size)
	_, err = io.ReadFull(r, out)
	return out, err
}

// header walks a plain header.
func (w *walk7z) header() error {
	if w.take(1); w.err != nil {
		return w.err
	}
	w.folders = nil
	id := w.byte()
	if id == 0x04 {
		w.streams()
		id = w.byte()
	}
	if id == 0x05 {
		n := w.count()
		if n > maxFiles7z {
			return budget.ErrOverLimits
		}
		w.files(n)
	}
	if id != 0x05 && id != 0 && w.err == nil {
		return codec.ErrUnsupported // archive properties, additional streams
	}
	if w.err != nil {
		return w.err
	}
	return nil
}

// files walks the properties of n files. The library takes it for granted that
// there is a stream for each that is not empty.
func (w *walk7z) files(n int) {
	for _, f := range w.folders {
		n -= int(f.streams)
	}
	empty := 0
	for id := w.byte(); id != 0; id = w.byte() {
		content := w.take(w.number())
		if id == 0x0e { // a bit for each file
			empty = 0
			for _, b := range content {
				empty += bits.OnesCount8(b)
			}
		}
	}
	if empty != n {
		w.fail()
	}
}

// streams walks a StreamsInfo and returns where the first packed stream is and
// the length of it. Sections are in the order in which they are always
// written, and which the library wants too: both must see the same.
func (w *walk7z) streams() (at, packed uint64) {
	id := w.byte()
	if id == 0x06 {
		at, packed = w.packInfo()
		id = w.byte()
	}
	if id == 0x07 {
		w.unpackInfo()
		id = w.byte()
	}
	if id == 0x08 {
		w.subStreams()
		id = w.byte()
	}
	if id != 0 {
		w.fail()
	}
	return at, packed
}

func (w *walk7z) packInfo() (at, packed uint64) {
	at = w.number()
	n := w.count()
	id := w.byte()
	w.packAt, w.packs = at, nil
	if id == 0x09 {
		for i := 0; i < n && w.err == nil; i++ {
			w.packs = append(w.packs, w.number())
		}
		id = w.byte()
	}
	w.digestsAndEnd(id, n)
	if len(w.packs) > 0 {
		packed = w.packs[0]
	}
	return at, packed
}

func (w *walk7z) unpackInfo() {
	if w.byte() != 0x0b {
		w.fail()
	}
	n := w.count()
	if w.byte() != 0 { // elsewhere
		w.fail()
	}
	for i := 0; i < n && w.err == nil; i++ {
		w.folders = append(w.folders, w.folder())
	}
	if w.byte() != 0x0c {
		w.fail()
	}
	for i := range w.folders {
		f := &w.folders[i]
		f.streams = 1
		for j := 0; j < f.outputs && w.err == nil; j++ {
			f.sizes = append(f.sizes, w.number())
		}
	}
	have, sums := w.digestsAndEnd(w.byte(), n)
	for i := range min(len(have), len(w.folders)) {
		w.folders[i].hasSum, w.folders[i].sum = have[i], sums[i]
	}
}

// digestsAndEnd reads the optional checksums that end a section.
func (w *walk7z) digestsAndEnd(id byte, n int) (have []bool, sums []uint32) {
	if id == 0x0a {
		have, sums = w.digests(n)
		id = w.byte()
	}
	if id != 0 {
		w.fail()
	}
	return have, sums
}

// folder reads one chain of coders.
func (w *walk7z) folder() (f folder7z) {
	inputs := 0
	for n := min(w.count(), 65); n > 0 && w.err == nil; n-- {
		flags := w.byte()
		c := coder7z{id: string(w.take(uint64(flags & 15)))}
		in, out := 1, 1
		if flags&0x10 != 0 {
			in, out = w.count(), w.count()
		}
		if flags&0x20 != 0 {
			c.properties = w.take(w.number())
		}
		inputs, f.outputs = inputs+in, f.outputs+out
		f.coders = append(f.coders, c)
	}
	if inputs > 64 || f.outputs > 64 || f.outputs == 0 {
		w.fail()
		return f
	}
	for range 2 * (f.outputs - 1) { // bind pairs
		f.bound = append(f.bound, w.number())
	}
	if f.packs = inputs - (f.outputs - 1); f.packs > 1 {
		for range f.packs {
			w.number()
		}
	} else if f.packs < 1 {
		w.fail()
	}
	return f
}

func (w *walk7z) subStreams() {
	id := w.byte()
	counted := id == 0x0d
	total, unknown := 0, 0
	for i := range w.folders {
		f := &w.folders[i]
		if counted {
			f.streams = uint64(w.count())
		}
		total += int(f.streams)
		if f.streams != 1 || !f.hasSum {
			unknown += int(f.streams)
		}
	}
	if total > maxFiles7z {
		w.err = budget.ErrOverLimits
		return
	}
	if counted {
		id = w.byte()
	}
	if id == 0x09 {
		for _, f := range w.folders {
			for i := uint64(1); i < f.streams && w.err == nil; i++ {
				w.number()
			}
		}
		id = w.byte()
	}
	if id == 0x0a && unknown != total {
		w.err = codec.ErrUnsupported // the library counts them otherwise
	}
	w.digestsAndEnd(id, total)
}

// digests reads which of n have a CRC-32, and those.
func (w *walk7z) digests(n int) (have []bool, sums []uint32) {
	have, sums = make([]bool, n), make([]uint32, n)
	if w.byte() == 0 {
		for i := 0; i < n && w.err == nil; i += 8 {
			b := w.byte()
			for j := i; j < min(n, i+8); j++ {
				have[j] = b&(0x80>>(j-i)) != 0
			}
		}
	} else {
		for i := range have {
			have[i] = true
		}
	}
	for i, h := range have {
		if !h {
			continue
		}
		if b := w.take(4); b != nil {
			sums[i] = binary.LittleEndian.Uint32(b)
		}
	}
	return have, sums
}

func (w *walk7z) fail() {
	if w.err == nil {
		w.err = fmt.Errorf("7z header: %w", codec.ErrDamaged)
	}
	w.in = nil
}

func (w *walk7z) take(n uint64) []byte {
	if n > uint64(len(w.in)) {
		w.fail()
		return nil
	}
	b := w.in[:n]
	w.in = w.in[n:]
	return b
}

func (w *walk7z) byte() byte {
	if b := w.take(1); b != nil {
		return b[0]
	}
	return 0
}

// count reads a number of things that each take at least a bit of the header.
func (w *walk7z) count() int {
	n := w.number()
	if n > 8*uint64(len(w.in)) {
		w.fail()
		return 0
	}
	return int(n)
}

// number reads a number whose first octet tells how many follow.
func (w *walk7z) number() uint64 {
	first := w.byte()
	var v uint64
	mask := byte(0x80)
	for i := range 8 {
		if first&mask == 0 {
			return v | uint64(first&(mask-1))<<(8*i)
		}
		v |= uint64(w.byte()) << (8 * i)
		mask >>= 1
	}
	return v
}
