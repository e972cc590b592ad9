package unpack

// The containers that the tests read are written here, from the format
// descriptions and not with the code under test.

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"postern/filter/unpack/filetype"
)

// pack runs data through a writer that open makes.
func pack(data []byte, open func(io.Writer) io.WriteCloser) []byte {
	var b bytes.Buffer
	w := open(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func gz(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

func xzOf(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return must(xz.NewWriter(w)) })
}

func lzmaOf(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return must(lzma.NewWriter(w)) })
}

func zstdOf(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return must(zstd.NewWriter(w)) })
}

// bzip2Hello is "Hello, bzip2 of Postern\n" 20 times, since nothing here can
// write bzip2.
var bzip2Hello = must(base64.StdEncoding.DecodeString(bzip2HelloText))

var hello = bytes.Repeat([]byte("Hello, bzip2 of Postern\n"), 20)

func tarOf(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = int64(len(evil))
		}
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			w.Write(evil)
		}
	}
	w.Close()
	return b.Bytes()
}

// tarBlockOf is one ustar header as it stands, with a right sum.
func tarBlockOf(name string, flag byte, size int) []byte {
	b := make([]byte, filetype.TarBlock)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[148:], "        ")
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(data []byte, to int) []byte {
	return append(bytes.Clone(data), make([]byte, (to-len(data)%to)%to)...)
}

func paxOf(records ...string) []byte {
	var b []byte
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprintf("%d %s\n", n, r)) != n {
			n++
		}
		b = fmt.Appendf(b, "%d %s\n", n, r)
	}
	return concat(tarBlockOf("pax", 'x', len(b)), padded(b, filetype.TarBlock))
}

func arOf(name string, data []byte) []byte {
	return concat([]byte("!<arch>\n"), fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data)), data)
}

func newcOf(name string, mode int, data []byte) []byte {
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	return concat(padded([]byte(head+name+"\x00"), 4), padded(data, 4))
}

func odcOf(name string, data []byte) []byte {
	return fmt.Appendf(nil, "070707%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%s\x00%s", 0, 1, 0o100644, 0, 0, 1, 0, 0, len(name)+1, len(data), name, data)
}

func oldCpioOf(order binary.AppendByteOrder, name string, data []byte) []byte {
	var b []byte
	for _, v := range []int{0o070707, 0, 1, 0o100644, 0, 0, 1, 0, 0, 0, len(name) + 1, len(data) >> 16, len(data) & 0xffff} {
		b = order.AppendUint16(b, uint16(v))
	}
	return concat(padded(append(b, name+"\x00"...), 2), padded(data, 2))
}

// cabOf writes a cabinet of one folder with one file.
func cabOf(name string, data []byte, method int) []byte {
	packed := data
	switch method {
	case cabMSZip:
		packed = append([]byte("CK"), pack(data, func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, 9)) })...)
	case cabLZX | 15<<8: // one raw block: 0, 011, length, padding, offsets, data
		head := uint32(3)<<28 | uint32(len(data))<<4
		packed = binary.LittleEndian.AppendUint16(nil, uint16(head>>16))
		packed = binary.LittleEndian.AppendUint16(packed, uint16(head))
		packed = append(appendLE(packed, 1, 4, 1, 4, 1, 4), data...)
	}
	file := append(appendLE(nil, len(data), 4, 0, 4, 0, 2, 0, 2, 0, 2, 0x20, 2), name+"\x00"...)
	dataAt := cabHeader + 8 + len(file)
	b := appendLE([]byte("MSCF"), 0, 4, dataAt+8+len(packed), 4, 0, 4, cabHeader+8, 4, 0, 4, 3, 1, 1, 1, 1, 2, 1, 2, 0, 2, 0, 2, 0, 2)
	b = appendLE(b, dataAt, 4, 1, 2, method, 2)
	b = append(b, file...)
	b = appendLE(b, 0, 4, len(packed), 2, len(data), 2)
	return append(b, packed...)
}

// bitWriter writes the most significant bit first.
type bitWriter struct {
	out []byte
	n   int
}

func (w *bitWriter) put(v, width int) {
	for i := width - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.out = append(w.out, 0)
		}
		w.out[len(w.out)-1] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
}

// lh5Of encodes data with literals of eight bits only.
func lh5Of(data []byte) []byte {
	var w bitWriter
	w.put(len(data), 16)
	w.put(0, 5)
	w.put(8+2, 5) // every code has length 8
	w.put(256, 9)
	w.put(0, 4)
	w.put(0, 4)
	for _, b := range data {
		w.put(int(b), 8)
	}
	return w.out
}

func lhaOf(name, method string, packed []byte, size int) []byte {
	b := append([]byte{byte(22 + len(name)), 0}, method...)
	b = appendLE(b, len(packed), 4, size, 4, 0, 4, 0x20, 1, 0, 1, len(name), 1)
	b = append(b, name...)
	return concat(appendLE(b, 0, 2), packed, []byte{0})
}

func arjOf(name string, method byte, flags int, packed []byte, size int) []byte {
	block := func(h []byte) []byte {
		return appendLE(append(appendLE([]byte("\x60\xea"), len(h), 2), h...), int(crc32.ChecksumIEEE(h)), 4, 0, 2)
	}
	head := func(method, kind, flags, packed, size int, name string) []byte {
		h := appendLE(nil, 30, 1, 11, 1, 1, 1, 0, 1, flags, 1, method, 1, kind, 1, 0, 1, 0, 4, packed, 4, size, 4, 0, 4, 0, 2, 0, 2, 0, 2)
		return append(h, name+"\x00\x00"...)
	}
	return concat(block(head(0, 2, 0, 0, 0, "x.arj")), block(head(int(method), 0, flags, len(packed), size, name)), packed, []byte("\x60\xea\x00\x00"))
}

// compressOf encodes data for compress -d with codes of nine bits, and a clear
// code, which ends a group, before there would be ten.
func compressOf(data []byte) []byte {
	out, n := []byte{0x1f, 0x9d, 0x90}, 0
	put := func(v int) {
		for i := range 9 {
			if n%8 == 0 {
				out = append(out, 0)
			}
			out[len(out)-1] |= byte(v>>i&1) << (n % 8)
			n++
		}
	}
	for i, b := range data {
		if i > 0 && i%200 == 0 {
			put(256)
			for n%72 != 0 {
				put(0)
			}
		}
		put(int(b))
	}
	return out
}

func rpmOf(payload []byte) []byte {
	empty := appendLE([]byte("\x8e\xad\xe8\x01\x00\x00\x00\x00"), 0, 4, 0, 4)
	return concat([]byte("\xed\xab\xee\xdb"), make([]byte, 92), empty, empty, payload)
}

// rar5Of writes a stored file, with encrypted as the service of a password.
func rar5Of(name string, data []byte, headersEncrypted bool) []byte {
	block := func(fields ...byte) []byte {
		h := append([]byte{byte(len(fields))}, fields...)
		return append(appendLE(nil, int(crc32.ChecksumIEEE(h)), 4), h...)
	}
	vint := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	b := []byte("Rar!\x1a\x07\x01\x00")
	if headersEncrypted {
		return append(b, block(slices.Concat([]byte{4, 0, 0, 0, 15}, make([]byte, 16))...)...)
	}
	b = append(b, block(1, 0, 0)...)
	file := slices.Concat([]byte{2, 2}, vint(len(data)), []byte{4}, vint(len(data)), vint(0x20),
		appendLE(nil, int(crc32.ChecksumIEEE(data)), 4), vint(0), []byte{0}, vint(len(name)), []byte(name))
	return concat(b, block(file...), data, block(5, 0, 0))
}

// sevenOf writes a 7-Zip archive of one stored file. With aes, it says that
// content or header are encrypted.
func sevenOf(name string, data []byte, aesContent, aesHeader bool) []byte {
	coder := []byte{1, 0}
	aes := append([]byte{0x24, 6, 0xf1, 7, 1, 2}, 0x13, 0)
	streams := func(at int, size int, coder []byte) []byte {
		num := func(n int) []byte { return []byte{0x80 | byte(n>>8), byte(n)} }
		return slices.Concat([]byte{6}, num(at), []byte{1, 9}, num(size), []byte{0, 7, 0x0b, 1, 0, 1}, coder, []byte{0x0c}, num(size), []byte{0, 0})
	}
	if aesContent {
		coder = aes
	}
	uname := wide(name)
	header := slices.Concat([]byte{1, 4}, streams(0, len(data), coder), []byte{5, 1, 0x11, byte(len(uname) + 1), 0}, uname, []byte{0, 0})
	body := bytes.Clone(data)
	if aesHeader {
		packed := streams(len(body), len(header), aes)
		body = append(body, header...)
		header = append([]byte{0x17}, packed...)
	}
	start := appendLE(nil, len(body), 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	head := appendLE(slices.Concat(magic7z, []byte{0, 4}), int(crc32.ChecksumIEEE(start)), 4)
	return slices.Concat(head, start, body, header)
}

// isoOf writes an image with one file, under one name in the primary tree, and
// under another in that of Joliet if it is not empty.
func isoOf(name, joliet string, data []byte) []byte {
	const root, jolietRoot, file = 19, 20, 21
	img := make([]byte, file*isoSector)
	record := func(name []byte, at, size int, dir byte) []byte {
		n := 33 + len(name)
		n += n & 1
		r := make([]byte, n)
		r[0], r[25], r[32] = byte(n), dir, byte(len(name))
		binary.LittleEndian.PutUint32(r[2:], uint32(at))
		binary.LittleEndian.PutUint32(r[10:], uint32(size))
		copy(r[33:], name)
		return r
	}
	volume := func(sector int, kind byte, escape string, at int, name []byte) {
		d := img[sector*isoSector:]
		d[0] = kind
		copy(d[1:], "CD001\x01")
		copy(d[88:], escape)
		copy(d[156:], record([]byte{0}, at, isoSector, 2))
		copy(img[at*isoSector:], slices.Concat(record([]byte{0}, at, isoSector, 2), record([]byte{1}, at, isoSector, 2), record(name, file, len(data), 0)))
	}
	volume(16, 1, "", root, []byte(name+";1"))
	end := 17
	if joliet != "" {
		utf := wide(joliet)[:2*len(joliet)]
		for i := 0; i < len(utf); i += 2 {
			utf[i], utf[i+1] = utf[i+1], utf[i]
		}
		volume(17, 2, "%/E", jolietRoot, utf)
		end = 18
	}
	img[end*isoSector] = 255
	copy(img[end*isoSector+1:], "CD001\x01")
	return append(img, padded(data, isoSector)...)
}

// isoWithRockRidge adds a name in the system use area.
func isoWithRockRidge(name, rock string, data []byte) []byte {
	img := isoOf(name, "", data)
	const itself, parent = 34, 34
	record := img[19*isoSector+itself+parent:]
	field := append([]byte{'N', 'M', byte(5 + len(rock)), 1, 0}, rock...)
	copy(record[record[0]:], field)
	record[0] += byte(len(field))
	return img
}

// oleOf writes a compound file with one stream in ordinary sectors.
func oleOf(name string, data []byte) []byte {
	const sector = 512
	data = padded(data, 4096)
	sectors := len(data) / sector
	head := make([]byte, sector)
	copy(head, filetype.OLEMagic)
	le := binary.LittleEndian
	le.PutUint16(head[26:], 3)
	le.PutUint16(head[30:], 9)
	le.PutUint16(head[32:], 6)
	le.PutUint32(head[44:], 1)
	le.PutUint32(head[48:], 1) // directory
	le.PutUint32(head[56:], 4096)
	le.PutUint32(head[60:], 0xfffffffe)
	le.PutUint32(head[68:], 0xfffffffe)
	for i := range 109 {
		le.PutUint32(head[76+4*i:], 0xffffffff)
	}
	le.PutUint32(head[76:], 0) // allocation table
	fat := bytes.Repeat([]byte{0xff}, sector)
	le.PutUint32(fat, 0xfffffffd)
	le.PutUint32(fat[4:], 0xfffffffe)
	for i := range sectors {
		le.PutUint32(fat[4*(2+i):], uint32(3+i))
	}
	le.PutUint32(fat[4*(1+sectors):], 0xfffffffe)
	dir := make([]byte, sector)
	entry := func(i int, name string, kind byte, child, start uint32, size int) {
		e := dir[128*i:]
		n := copy(e, wide(name)) - 2
		le.PutUint16(e[64:], uint16(n+2))
		e[66] = kind
		for _, at := range []int{68, 72} {
			le.PutUint32(e[at:], 0xffffffff)
		}
		le.PutUint32(e[76:], child)
		le.PutUint32(e[116:], start)
		le.PutUint32(e[120:], uint32(size))
	}
	entry(0, "Root Entry", 5, 1, 0xfffffffe, 0)
	entry(1, name, 2, 0xffffffff, 2, len(data))
	return concat(head, fat, dir, data)
}

func packageOf(name string, data []byte) []byte {
	b := append([]byte("\x02\x00"), name+"\x00C:\\"+name+"\x00\x00\x00\x03\x00"...)
	b = append(appendLE(b, len(name)+1, 4), name+"\x00"...)
	return append(appendLE(b, len(data), 4), data...)
}

func rtfOf(native []byte) []byte {
	object := append(appendLE(nil, 0x501, 4, 2, 4, 8, 4), "Package\x00"...)
	object = append(appendLE(object, 0, 4, 0, 4, len(native), 4), native...)
	text := hex.EncodeToString(object)
	return []byte(`{\rtf1 text {\object\objemb{\*\objdata ` + text[:100] + "\r\n" + `\bin0 ` + text[100:] + `}}}`)
}

func pdfOf(name string, data []byte) []byte {
	packed := pack(data, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	return fmt.Appendf(nil, "%%PDF-1.4\n1 0 obj\n<</Type/Filespec/F(%s)/EF<</F 2 0 R>>>>\nendobj\n2 0 obj\n<</Type/EmbeddedFile/Filter/FlateDecode/Length %d>>\nstream\r\n%s\r\nendstream\nendobj\n%%%%EOF\n", name, len(packed), packed)
}

func oneOf(data []byte) []byte {
	b := append([]byte("\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3"), make([]byte, 1000)...)
	return append(appendLE(append(b, oneNoteFile...), len(data), 8, 0, 4, 0, 8), data...)
}

// setupProgram is a program of one section with overlay behind it.
func setupProgram(overlay []byte) []byte {
	b := make([]byte, 1024)
	copy(b, evil[:0x80+26])
	copy(b[0x80+24+0xe0:], ".text")
	binary.LittleEndian.PutUint32(b[0x80+24+0xe0+16:], 512)
	binary.LittleEndian.PutUint32(b[0x80+24+0xe0+20:], 512)
	return append(b, overlay...)
}

func setupFilesOf(name string, data []byte) []byte {
	return append(fmt.Appendf(nil, "%s\x00Disk1\\%s\x001.0\x00%d\x00", name, name, len(data)), data...)
}

func nsisOf(data []byte) []byte {
	packed := pack(data, func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, 9)) })
	b := appendLE([]byte("\x00\x00\x00\x00\xef\xbe\xad\xdeNullsoftInst"), 0, 4, 28+4+len(packed)+4, 4)
	return appendLE(append(appendLE(b, len(packed)|1<<31, 4), packed...), 0x12345678, 4)
}

// chmOf writes a help file with one file that is not compressed.
func chmOf(name string, data []byte) []byte {
	entry := append([]byte{byte(len(name))}, name...)
	entry = append(entry, 0, 0, 0x80|byte(len(data)>>7), byte(len(data)&0x7f))
	const chunk, directory = 4096, 0x60
	list := appendLE([]byte("PMGL"), chunk-20-len(entry), 4, 0, 4, 0, 4, 0, 4)
	list = padded(append(list, entry...), chunk)
	itsp := padded(appendLE([]byte("ITSP"), 1, 4, 0x54, 4, 10, 4, chunk, 4), 0x54)
	head := padded(appendLE([]byte("ITSF"), 3, 4, directory, 4), 0x48)
	head = appendLE(head, directory, 8, len(itsp)+len(list), 8, directory+len(itsp)+len(list), 8)
	return concat(head, itsp, list, data)
}

// program is the start of a program without the payload, for what is put
// behind it.
var program = evil[:200]

const bzip2HelloText = "QlpoOTFBWSZTWUf/TjIAAEXfgAAQQAQQAABAQAATJdwQIABwU0yMTExApVQep6gyPKfCeidyYJwTkngmRPJNEwTZOSfiaJ0Jkn0miYJkmybJ/F3JFOFCQR/9OMg="
