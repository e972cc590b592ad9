package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// The compression methods of zip (APPNOTE 4.4.5) that are decoded.
const (
	zipStore     = 0
	zipDeflate   = 8
	zipDeflate64 = 9
	zipBzip2     = 12
	zipLZMA      = 14
	zipZstdOld   = 20
	zipZstd      = 93
	zipXZ        = 95
	zipAES       = 99 // WinZip: the true method is in an extra field
)

// member gives the member at m.offset and returns where its data ends, as far
// as that can be told.
func (z *zipReader) member(m zipMember) (end int, err error) {
	local, err := filetype.ParseZipLocal(z.data, m.offset)
	if err != nil {
		z.x.Damage("zip: %v", err)
		for _, h := range m.central {
			if err := z.x.Give(nameOnly(h)); err != nil {
				return 0, err
			}
		}
		return m.offset + 4, nil
	}
	if err := z.x.Budget.Entry(); err != nil {
		return 0, err
	}
	v := z.view(m, local)
	if v.encrypted {
		return v.skip(), z.locked(v)
	}
	const empty = 2 // octets of an empty Deflate stream
	if v.out.Dir && v.packed <= empty && v.size <= 0 {
		return v.skip(), z.x.Hand(v.out)
	}
	if v.out.Dir {
		z.x.Differ("zip: directory %q has content", first(v.out.Names))
		v.out.Dir = false
	}
	return z.open(v)
}

// zipView is the member that all headers together describe.
type zipView struct {
	out       budget.Member
	start     int    // of the data
	rest      []byte // from start to the end of the file
	packed    int64  // the largest that a header says, -1 if none does
	size      int64  // the same
	methods   []uint16
	flags     uint16
	sums      []uint32 // CRC-32 values that headers give
	times     []uint16
	aes       byte // strength of the encryption of WinZip, 0 if there is none
	sizes     []int64
	encrypted bool
}

// skip returns the end of the data by the headers.
func (v *zipView) skip() int {
	return v.start + int(min(max(v.packed, 0), int64(len(v.rest))))
}

// view joins the headers of m and notes where they differ.
func (z *zipReader) view(m zipMember, local filetype.ZipHeader) *zipView {
	v := &zipView{start: local.End, rest: z.data[local.End:], packed: -1, size: -1}
	for _, h := range append(m.central, local) {
		z.join(v, h)
	}
	if len(m.central) > 0 {
		c := m.central[0]
		name := first(local.Names)
		if name != first(c.Names) && local.Flags&filetype.ZipFlagMasked == 0 {
			z.x.Differ("zip: %q is called %q in its local header", first(c.Names), name)
		}
		if local.Packed >= 0 && (local.Packed != c.Packed || local.Size != c.Size) {
			z.x.Differ("zip: sizes of %q differ between directory and local header", first(c.Names))
		}
		if local.Method != c.Method {
			z.x.Differ("zip: methods of %q differ between directory and local header", first(c.Names))
		}
	}
	v.out.Size = max(v.size, 0)
	return v
}

// join adds what one header says.
func (z *zipReader) join(v *zipView, h filetype.ZipHeader) {
	for _, n := range h.Names {
		if i := strings.IndexByte(n, 0); i >= 0 {
			z.x.Differ("zip: name with a NUL: %q", n)
		}
		v.out.Names = filetype.AddName(v.out.Names, n)
	}
	if h.Path != "" && pathConflict(first(h.Names), h.Path) {
		z.x.Differ("zip: %q has the Unicode path %q", first(h.Names), h.Path)
	}
	v.packed, v.size = max(v.packed, h.Packed), max(v.size, h.Size)
	if h.Size >= 0 {
		v.sizes = append(v.sizes, h.Size)
		v.sums = append(v.sums, h.CRC)
	}
	v.times = append(v.times, h.Time)
	v.encrypted = v.encrypted || h.Flags&(filetype.ZipFlagEncrypted|filetype.ZipFlagMasked) != 0 || h.Method == zipAES
	if h.Method == zipAES {
		v.aes = max(v.aes, h.AES)
		v.addMethod(h.Strong)
		v.addMethod(zipDeflate)
		v.addMethod(zipStore)
	} else {
		v.addMethod(h.Method)
	}
	v.flags |= h.Flags
	v.out.Dir = v.out.Dir || h.DirBit || strings.HasSuffix(first(h.Names), "/")
	switch h.Mode & 0o170000 {
	case 0o120000:
		v.out.Link = true
	case 0o010000, 0o020000, 0o060000, 0o140000:
		v.out.Special = true
	}
}

func (v *zipView) addMethod(m uint16) {
	for _, have := range v.methods {
		if have == m {
			return
		}
	}
	v.methods = append(v.methods, m)
}

// pathConflict reports whether the Unicode path is another name, not the same
// one with its letters written better.
func pathConflict(name, path string) bool {
	if isASCII(path) {
		return name != path
	}
	return !strings.EqualFold(filetype.Extension(name), filetype.Extension(path))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// locked gives a member that says it is encrypted. Some only say so, to be
// left alone: if it decodes to the right checksum, its content is given too.
func (z *zipReader) locked(v *zipView) error {
	for _, method := range v.methods {
		if method == zipStore && v.packed != v.size {
			continue
		}
		data, _, err := z.decode(v, method)
		if errors.Is(err, budget.ErrOverLimits) {
			return err
		}
		if err == nil && len(data) > 0 && v.sumIs(crc32.ChecksumIEEE(data)) {
			v.out.Data, v.out.Encrypted, v.out.Note = data, true, "called encrypted and is not"
			return z.x.Hand(v.out)
		}
	}
	const unknown = filetype.ZipFlagStrong | filetype.ZipFlagMasked
	if v.packed >= 0 && v.packed <= int64(len(v.rest)) && v.flags&unknown == 0 && z.x.Budget.HasPasswords() && z.x.Budget.Hold(v.packed) {
		defer z.x.Budget.Release(v.packed)
		opened, err := z.unlock(v, v.rest[:v.packed], make([]byte, v.packed))
		if err != nil {
			return err
		}
		v.out.Encrypted = !opened
	} else {
		v.out.Encrypted = true
	}
	return z.x.Hand(v.out)
}

func (v *zipView) sumIs(sum uint32) bool {
	for _, s := range v.sums {
		if s == sum {
			return true
		}
	}
	return false
}

// open decodes and gives a member. If headers name several methods, each
// result is given.
func (z *zipReader) open(v *zipView) (end int, err error) {
	end = v.skip()
	for i, method := range v.methods {
		data, used, err := z.decode(v, method)
		name := first(v.out.Names)
		if used >= 0 && err == nil {
			if v.packed >= 0 && int64(used) != v.packed {
				z.x.Differ("zip: data of %q does not end where the headers say", name)
			}
			end = v.start + used
		}
		if err == nil && len(v.sums) > 0 && !v.sumIs(crc32.ChecksumIEEE(data)) {
			err = errors.New("checksum does not match")
		}
		v.out.Data, v.out.Note = data, ""
		if err != nil {
			v.out.Note = err.Error()
			z.x.Fail(fmt.Sprintf("zip: %q", name), err)
			if len(data) == 0 {
				v.out.Data = nil
			}
		} else {
			for _, size := range v.sizes {
				if size != int64(len(data)) {
					z.x.Differ("zip: %q has %d octets, a header says %d", name, len(data), size)
				}
			}
		}
		if i > 0 && v.out.Data == nil {
			continue
		}
		if herr := z.x.Hand(v.out); herr != nil {
			return end, herr
		}
		if errors.Is(err, budget.ErrOverLimits) {
			return end, err
		}
	}
	return end, nil
}

// decode returns the content of v by one method. used is the length of the
// compressed data if the method tells it, else -1.
func (z *zipReader) decode(v *zipView, method uint16) (data []byte, used int, err error) {
	in := v.rest
	if v.packed >= 0 && v.packed < int64(len(in)) {
		in = in[:v.packed]
	}
	switch method {
	case zipStore:
		if v.packed < 0 {
			var scanned int
			in, scanned = beforeDescriptor(in)
			if err := z.x.Budget.Take(int64(scanned / 4)); err != nil {
				return nil, 0, err
			}
		}
		if v.packed > int64(len(in)) {
			err = io.ErrUnexpectedEOF
		}
		if terr := z.x.Budget.Take(int64(len(in))); terr != nil {
			err = terr
		}
		return in, len(in), err
	case zipDeflate:
		// the stream ends itself: a wrong size in a header does not matter
		br := z.x.Input(v.rest)
		data, err = z.x.Decode(flate.NewReader(br), v.size)
		return data, len(v.rest) - br.Len(), err
	case zipDeflate64:
		br := z.x.Input(v.rest)
		data, err = z.x.Decode(codec.NewInflate64(br), v.size)
		return data, len(v.rest) - br.Len(), err
	}
	r, err := zipDecoder(z.x, method, in, v.size)
	if err != nil {
		return nil, -1, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	data, err = z.x.Decode(r, v.size)
	return data, -1, err
}

// beforeDescriptor returns stored data that only its data descriptor ends:
// signature, CRC-32, and the length twice. scanned is how far it was looked for.
func beforeDescriptor(in []byte) (data []byte, scanned int) {
	for pos := 0; ; {
		i := bytes.Index(in[pos:], []byte("PK\x07\x08"))
		if i < 0 {
			break
		}
		pos += i
		if pos+16 <= len(in) && binary.LittleEndian.Uint32(in[pos+8:]) == uint32(pos) {
			return in[:pos], pos
		}
		pos += 4
	}
	scanned = len(in)
	for _, signature := range []string{filetype.ZipLocal, filetype.ZipCentral} {
		if i := bytes.Index(in, []byte(signature)); i >= 0 {
			in = in[:i]
		}
	}
	return in, scanned
}

// zipDecoder returns the decoder of the methods whose data does not tell its
// own end.
func zipDecoder(x *budget.Opener, method uint16, in []byte, size int64) (io.Reader, error) {
	switch method {
	case zipBzip2:
		return bzip2.NewReader(x.Input(in)), nil
	case zipZstd, zipZstdOld:
		d, err := codec.NewZstd(in, x)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case zipXZ:
		return codec.NewXZ(in, x)
	case zipLZMA:
		return openZipLZMA(x, in, size)
	}
	return nil, fmt.Errorf("method %d: %w", method, codec.ErrUnsupported)
}

// openZipLZMA turns the header of APPNOTE 5.8.8 into that of an LZMA file.
func openZipLZMA(x *budget.Opener, in []byte, size int64) (io.Reader, error) {
	if len(in) < 9 || binary.LittleEndian.Uint16(in[2:]) != 5 {
		return nil, codec.ErrDamaged
	}
	return codec.NewLZMA(in[4:9], size, in[9:], x)
}
