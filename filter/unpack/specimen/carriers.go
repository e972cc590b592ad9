package specimen

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
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Pack runs data through a writer that open makes.
func Pack(data []byte, open func(io.Writer) io.WriteCloser) []byte {
	var b bytes.Buffer
	w := open(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Must returns v; an error is a panic.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Gzip compresses data.
func Gzip(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

// XZ compresses data.
func XZ(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return Must(xz.NewWriter(w)) })
}

// LZMA compresses data into the older format of xz.
func LZMA(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return Must(lzma.NewWriter(w)) })
}

// Zstd compresses data.
func Zstd(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return Must(zstd.NewWriter(w)) })
}

// Bzip2Hello is "Hello, bzip2 of Postern\n" 20 times, since nothing here can
// write bzip2.
var Bzip2Hello = Must(base64.StdEncoding.DecodeString(bzip2HelloText))

// Hello is what Bzip2Hello decompresses to.
var Hello = bytes.Repeat([]byte("Hello, bzip2 of Postern\n"), 20)

// Tar writes an archive of members with these headers; ordinary files hold Evil.
func Tar(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = int64(len(Evil))
		}
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			w.Write(Evil)
		}
	}
	w.Close()
	return b.Bytes()
}

// TarHeader is one ustar header as it stands, with a right sum.
func TarHeader(name string, flag byte, size int) []byte {
	b := make([]byte, tarBlock)
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

// Padded fills data with zeros up to a multiple of to.
func Padded(data []byte, to int) []byte {
	return append(bytes.Clone(data), make([]byte, (to-len(data)%to)%to)...)
}

// Pax is an extended header of these records, "path=a".
func Pax(records ...string) []byte {
	var b []byte
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprintf("%d %s\n", n, r)) != n {
			n++
		}
		b = fmt.Appendf(b, "%d %s\n", n, r)
	}
	return Concat(TarHeader("pax", 'x', len(b)), Padded(b, tarBlock))
}

// Ar writes an archive of one file, its name as it stands in the header.
func Ar(name string, data []byte) []byte {
	return Concat([]byte("!<arch>\n"), fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data)), data)
}

// Newc is one member of a cpio file in the format newc.
func Newc(name string, mode int, data []byte) []byte {
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	return Concat(Padded([]byte(head+name+"\x00"), 4), Padded(data, 4))
}

// ODC is one member of a cpio file in the portable format of old.
func ODC(name string, data []byte) []byte {
	return fmt.Appendf(nil, "070707%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%s\x00%s", 0, 1, 0o100644, 0, 0, 1, 0, 0, len(name)+1, len(data), name, data)
}

// OldCpio is one member of a cpio file in the binary format.
func OldCpio(order binary.AppendByteOrder, name string, data []byte) []byte {
	var b []byte
	for _, v := range []int{0o070707, 0, 1, 0o100644, 0, 0, 1, 0, 0, 0, len(name) + 1, len(data) >> 16, len(data) & 0xffff} {
		b = order.AppendUint16(b, uint16(v))
	}
	return Concat(Padded(append(b, name+"\x00"...), 2), Padded(data, 2))
}

// Cab writes a cabinet of one folder with one file.
func Cab(name string, data []byte, method int) []byte {
	packed := data
	switch method {
	case CabMSZip:
		packed = append([]byte("CK"), Pack(data, func(w io.Writer) io.WriteCloser { return Must(flate.NewWriter(w, 9)) })...)
	case CabLZX | 15<<8: // one raw block: 0, 011, length, padding, offsets, data
		head := uint32(3)<<28 | uint32(len(data))<<4
		packed = binary.LittleEndian.AppendUint16(nil, uint16(head>>16))
		packed = binary.LittleEndian.AppendUint16(packed, uint16(head))
		packed = append(AppendLE(packed, 1, 4, 1, 4, 1, 4), data...)
	}
	file := append(AppendLE(nil, len(data), 4, 0, 4, 0, 2, 0, 2, 0, 2, 0x20, 2), name+"\x00"...)
	dataAt := CabHeader + 8 + len(file)
	b := AppendLE([]byte("MSCF"), 0, 4, dataAt+8+len(packed), 4, 0, 4, CabHeader+8, 4, 0, 4, 3, 1, 1, 1, 1, 2, 1, 2, 0, 2, 0, 2, 0, 2)
	b = AppendLE(b, dataAt, 4, 1, 2, method, 2)
	b = append(b, file...)
	b = AppendLE(b, 0, 4, len(packed), 2, len(data), 2)
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

// LH5 encodes data with literals of eight bits only.
func LH5(data []byte) []byte {
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

// LHA writes an archive of one file with a header of level 0; packed decodes to size octets.
func LHA(name, method string, packed []byte, size int) []byte {
	b := append([]byte{byte(22 + len(name)), 0}, method...)
	b = AppendLE(b, len(packed), 4, size, 4, 0, 4, 0x20, 1, 0, 1, len(name), 1)
	b = append(b, name...)
	return Concat(AppendLE(b, 0, 2), packed, []byte{0})
}

// ARJ writes an archive of one file; packed decodes to size octets.
func ARJ(name string, method byte, flags int, packed []byte, size int) []byte {
	block := func(h []byte) []byte {
		return AppendLE(append(AppendLE([]byte("\x60\xea"), len(h), 2), h...), int(crc32.ChecksumIEEE(h)), 4, 0, 2)
	}
	head := func(method, kind, flags, packed, size int, name string) []byte {
		h := AppendLE(nil, 30, 1, 11, 1, 1, 1, 0, 1, flags, 1, method, 1, kind, 1, 0, 1, 0, 4, packed, 4, size, 4, 0, 4, 0, 2, 0, 2, 0, 2)
		return append(h, name+"\x00\x00"...)
	}
	return Concat(block(head(0, 2, 0, 0, 0, "x.arj")), block(head(int(method), 0, flags, len(packed), size, name)), packed, []byte("\x60\xea\x00\x00"))
}

// Compress encodes data for compress -d with codes of nine bits, and a clear
// code, which ends a group, before there would be ten.
func Compress(data []byte) []byte {
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

// RPM is a package with that payload.
func RPM(payload []byte) []byte {
	empty := AppendLE([]byte("\x8e\xad\xe8\x01\x00\x00\x00\x00"), 0, 4, 0, 4)
	return Concat([]byte("\xed\xab\xee\xdb"), make([]byte, 92), empty, empty, payload)
}

// RAR5 writes a stored file, with encrypted as the service of a password.
func RAR5(name string, data []byte, headersEncrypted bool) []byte {
	block := func(fields ...byte) []byte {
		h := append([]byte{byte(len(fields))}, fields...)
		return append(AppendLE(nil, int(crc32.ChecksumIEEE(h)), 4), h...)
	}
	vint := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	b := []byte("Rar!\x1a\x07\x01\x00")
	if headersEncrypted {
		return append(b, block(slices.Concat([]byte{4, 0, 0, 0, 15}, make([]byte, 16))...)...)
	}
	b = append(b, block(1, 0, 0)...)
	file := slices.Concat([]byte{2, 2}, vint(len(data)), []byte{4}, vint(len(data)), vint(0x20),
		AppendLE(nil, int(crc32.ChecksumIEEE(data)), 4), vint(0), []byte{0}, vint(len(name)), []byte(name))
	return Concat(b, block(file...), data, block(5, 0, 0))
}

// SevenZip writes a 7-Zip archive of one stored file. With aes, it says that
// content or header are encrypted.
func SevenZip(name string, data []byte, aesContent, aesHeader bool) []byte {
	coder := []byte{1, 0}
	aes := append([]byte{0x24, 6, 0xf1, 7, 1, 2}, 0x13, 0)
	streams := func(at int, size int, coder []byte) []byte {
		num := func(n int) []byte { return []byte{0x80 | byte(n>>8), byte(n)} }
		return slices.Concat([]byte{6}, num(at), []byte{1, 9}, num(size), []byte{0, 7, 0x0b, 1, 0, 1}, coder, []byte{0x0c}, num(size), []byte{0, 0})
	}
	if aesContent {
		coder = aes
	}
	uname := Wide(name)
	header := slices.Concat([]byte{1, 4}, streams(0, len(data), coder), []byte{5, 1, 0x11, byte(len(uname) + 1), 0}, uname, []byte{0, 0})
	body := bytes.Clone(data)
	if aesHeader {
		packed := streams(len(body), len(header), aes)
		body = append(body, header...)
		header = append([]byte{0x17}, packed...)
	}
	start := AppendLE(nil, len(body), 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	head := AppendLE(slices.Concat(magic7z, []byte{0, 4}), int(crc32.ChecksumIEEE(start)), 4)
	return slices.Concat(head, start, body, header)
}

// ISO writes an image with one file, under one name in the primary tree, and
// under another in that of Joliet if it is not empty.
func ISO(name, joliet string, data []byte) []byte {
	const root, jolietRoot, file = 19, 20, 21
	img := make([]byte, file*IsoSector)
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
		d := img[sector*IsoSector:]
		d[0] = kind
		copy(d[1:], "CD001\x01")
		copy(d[88:], escape)
		copy(d[156:], record([]byte{0}, at, IsoSector, 2))
		copy(img[at*IsoSector:], slices.Concat(record([]byte{0}, at, IsoSector, 2), record([]byte{1}, at, IsoSector, 2), record(name, file, len(data), 0)))
	}
	volume(16, 1, "", root, []byte(name+";1"))
	end := 17
	if joliet != "" {
		utf := Wide(joliet)[:2*len(joliet)]
		for i := 0; i < len(utf); i += 2 {
			utf[i], utf[i+1] = utf[i+1], utf[i]
		}
		volume(17, 2, "%/E", jolietRoot, utf)
		end = 18
	}
	img[end*IsoSector] = 255
	copy(img[end*IsoSector+1:], "CD001\x01")
	return append(img, Padded(data, IsoSector)...)
}

// ISOWithRockRidge adds a name in the system use area.
func ISOWithRockRidge(name, rock string, data []byte) []byte {
	img := ISO(name, "", data)
	const itself, parent = 34, 34
	record := img[19*IsoSector+itself+parent:]
	field := append([]byte{'N', 'M', byte(5 + len(rock)), 1, 0}, rock...)
	copy(record[record[0]:], field)
	record[0] += byte(len(field))
	return img
}

// OLE writes a compound file with one stream in ordinary sectors.
func OLE(name string, data []byte) []byte {
	const sector = 512
	data = Padded(data, 4096)
	sectors := len(data) / sector
	head := make([]byte, sector)
	copy(head, oleMagic)
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
		n := copy(e, Wide(name)) - 2
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
	return Concat(head, fat, dir, data)
}

// Package is the data of an OLE 1 package.
func Package(name string, data []byte) []byte {
	b := append([]byte("\x02\x00"), name+"\x00C:\\"+name+"\x00\x00\x00\x03\x00"...)
	b = append(AppendLE(b, len(name)+1, 4), name+"\x00"...)
	return append(AppendLE(b, len(data), 4), data...)
}

// RTF is a document with one object.
func RTF(native []byte) []byte {
	object := append(AppendLE(nil, 0x501, 4, 2, 4, 8, 4), "Package\x00"...)
	object = append(AppendLE(object, 0, 4, 0, 4, len(native), 4), native...)
	text := hex.EncodeToString(object)
	return []byte(`{\rtf1 text {\object\objemb{\*\objdata ` + text[:100] + "\r\n" + `\bin0 ` + text[100:] + `}}}`)
}

// PDF is a document with one attachment.
func PDF(name string, data []byte) []byte {
	packed := Pack(data, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	return fmt.Appendf(nil, "%%PDF-1.4\n1 0 obj\n<</Type/Filespec/F(%s)/EF<</F 2 0 R>>>>\nendobj\n2 0 obj\n<</Type/EmbeddedFile/Filter/FlateDecode/Length %d>>\nstream\r\n%s\r\nendstream\nendobj\n%%%%EOF\n", name, len(packed), packed)
}

// OneNote is a section with one file in it.
func OneNote(data []byte) []byte {
	b := append([]byte("\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3"), make([]byte, 1000)...)
	return append(AppendLE(append(b, oneMagic...), len(data), 8, 0, 4, 0, 8), data...)
}

// SetupProgram is a program of one section with overlay behind it.
func SetupProgram(overlay []byte) []byte {
	b := make([]byte, 1024)
	copy(b, Evil[:0x80+26])
	copy(b[0x80+24+0xe0:], ".text")
	binary.LittleEndian.PutUint32(b[0x80+24+0xe0+16:], 512)
	binary.LittleEndian.PutUint32(b[0x80+24+0xe0+20:], 512)
	return append(b, overlay...)
}

// SetupFiles is what a setup program of InstallShield has behind it, one file.
func SetupFiles(name string, data []byte) []byte {
	return append(fmt.Appendf(nil, "%s\x00Disk1\\%s\x001.0\x00%d\x00", name, name, len(data)), data...)
}

// NSIS is what a Nullsoft installer has behind its program, with one block.
func NSIS(data []byte) []byte {
	packed := Pack(data, func(w io.Writer) io.WriteCloser { return Must(flate.NewWriter(w, 9)) })
	b := AppendLE([]byte("\x00\x00\x00\x00\xef\xbe\xad\xdeNullsoftInst"), 0, 4, 28+4+len(packed)+4, 4)
	return AppendLE(append(AppendLE(b, len(packed)|1<<31, 4), packed...), 0x12345678, 4)
}

// CHM writes a help file with one file that is not compressed.
func CHM(name string, data []byte) []byte {
	entry := append([]byte{byte(len(name))}, name...)
	entry = append(entry, 0, 0, 0x80|byte(len(data)>>7), byte(len(data)&0x7f))
	const chunk, directory = 4096, 0x60
	list := AppendLE([]byte("PMGL"), chunk-20-len(entry), 4, 0, 4, 0, 4, 0, 4)
	list = Padded(append(list, entry...), chunk)
	itsp := Padded(AppendLE([]byte("ITSP"), 1, 4, 0x54, 4, 10, 4, chunk, 4), 0x54)
	head := Padded(AppendLE([]byte("ITSF"), 3, 4, directory, 4), 0x48)
	head = AppendLE(head, directory, 8, len(itsp)+len(list), 8, directory+len(itsp)+len(list), 8)
	return Concat(head, itsp, list, data)
}

// Program is the start of a program without the payload, for what is put
// behind it.
var Program = Evil[:200]

const bzip2HelloText = "QlpoOTFBWSZTWUf/TjIAAEXfgAAQQAQQAABAQAATJdwQIABwU0yMTExApVQep6gyPKfCeidyYJwTkngmRPJNEwTZOSfiaJ0Jkn0miYJkmybJ/F3JFOFCQR/9OMg="

// HuffmanOnly is a Deflate stream without matches, which Deflate64 reads too.
func HuffmanOnly(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return Must(flate.NewWriter(w, flate.HuffmanOnly)) })
}

// ZipLZMAData compresses data as method 14 of zip.
func ZipLZMAData(data []byte) []byte {
	b := LZMA(data)
	return Concat([]byte{9, 20, 5, 0}, b[:5], b[13:])
}

// SevenZipHuge says that it has four billion files.
func SevenZipHuge() []byte {
	header := []byte{1, 4, 6, 0, 1, 9, 0, 0, 7, 0x0b, 1, 0, 1, 1, 0, 0x0c, 0, 0, 0, 5, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0}
	start := AppendLE(nil, 0, 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	return slices.Concat(magic7z, []byte{0, 4}, AppendLE(nil, int(crc32.ChecksumIEEE(start)), 4), start, header)
}

// XZHuge asks for a dictionary of 4 GiB in each of many small blocks; it gets
// what the blocks need.
func XZHuge() []byte {
	one := XZ([]byte("small"))
	const property = 12 + 4 // header, then: size, flags, filter, its size, property
	head := bytes.Clone(one)
	head[property] = 40
	n := 12 + (int(head[12])+1)*4
	binary.LittleEndian.PutUint32(head[n-4:], crc32.ChecksumIEEE(head[12:n-4]))
	return bytes.Repeat(head, 2000)
}

// TarFile is an archive of one file and an end mark.
func TarFile(name string, data []byte) []byte {
	return Concat(TarHeader(name, '0', len(data)), Padded(data, tarBlock), make([]byte, 1024))
}

// RAR4 writes a file in the format of RAR 3 and 4.
func RAR4(flags, main int, method byte) []byte {
	block := func(kind, flags int, fields []byte) []byte {
		b := append(AppendLE(nil, kind, 1, flags, 2, 7+len(fields), 2), fields...)
		return append(AppendLE(nil, int(crc32.ChecksumIEEE(b)&0xffff), 2), b...)
	}
	file := AppendLE(nil, len(Payload), 4, len(Payload), 4, 2, 1, int(crc32.ChecksumIEEE(Payload)), 4, 0, 4, 29, 1, int(method), 1, 5, 2, 0x20, 4)
	return Concat([]byte("Rar!\x1a\x07\x00"), block(0x73, main, make([]byte, 6)), block(0x74, 0x8000|flags, append(file, "a.dat"...)), Payload, block(0x7b, 0x4000, nil))
}

// CabFolders is a cabinet of two folders, of which the second has the payload.
func CabFolders(method int) []byte { // two folders, the second has it
	a, b := Cab("a.txt", []byte("text"), CabStored), Cab("a.dat", Payload, method)
	head := bytes.Clone(a[:CabHeader])
	fa, fb := bytes.Clone(a[CabHeader:CabHeader+8]), bytes.Clone(b[CabHeader:CabHeader+8])
	na, nb := bytes.Clone(a[CabHeader+8:binary.LittleEndian.Uint32(fa)]), bytes.Clone(b[CabHeader+8:binary.LittleEndian.Uint32(fb)])
	nb[8] = 1
	da, db := a[binary.LittleEndian.Uint32(fa):], b[binary.LittleEndian.Uint32(fb):]
	dataAt := CabHeader + 16 + len(na) + len(nb)
	binary.LittleEndian.PutUint32(fa, uint32(dataAt))
	binary.LittleEndian.PutUint32(fb, uint32(dataAt+len(da)))
	binary.LittleEndian.PutUint32(head[16:], CabHeader+16)
	head[26], head[28] = 2, 2
	binary.LittleEndian.PutUint32(head[8:], uint32(dataAt+len(da)+len(db)))
	return Concat(head, fa, fb, na, nb, da, db)
}

// Zlib compresses data.
func Zlib(data []byte) []byte {
	return Pack(data, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
}

// ASCII85 encodes data as streams of a PDF have it.
func ASCII85(data []byte) []byte {
	var b strings.Builder
	for group := range slices.Chunk(data, 4) {
		n := len(group)
		var v uint32
		for i := range 4 {
			v <<= 8
			if i < n {
				v |= uint32(group[i])
			}
		}
		var digits [5]byte
		for i := 4; i >= 0; i-- {
			digits[i] = byte(v%85) + '!'
			v /= 85
		}
		b.Write(digits[:n+1])
	}
	return []byte(b.String() + "~>")
}

// Noise is data like that of a compressed picture.
func Noise(start string, n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := []byte(start)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}
