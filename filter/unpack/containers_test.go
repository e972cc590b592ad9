package unpack

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
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
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
	return concat(tarBlockOf("pax", 'x', len(b)), padded(b, tarBlock))
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

// implodeOf encodes data as literals, with codes that are never used.
func implodeOf(data []byte) []byte {
	code := []byte{3, 0xf5, 0xf5, 0xf5, 0xf5} // 64 symbols of six bits
	out, n := slices.Concat(code, code), 0
	put := func(bit byte) {
		if n%8 == 0 {
			out = append(out, 0)
		}
		out[len(out)-1] |= bit << (n % 8)
		n++
	}
	for _, b := range data {
		put(1)
		for i := range 8 {
			put(b >> i & 1)
		}
	}
	return out
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

func szddOf(data []byte) []byte {
	b := appendLE([]byte("SZDD\x88\xf0\x27\x33A\x00"), len(data), 4)
	for chunk := range slices.Chunk(data, 8) {
		b = append(append(b, 0xff), chunk...)
	}
	return b
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
	uname := append(utf16Text(name), 0, 0)
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
		wide := utf16Text(joliet)
		for i := 0; i < len(wide); i += 2 {
			wide[i], wide[i+1] = wide[i+1], wide[i]
		}
		volume(17, 2, "%/E", jolietRoot, wide)
		end = 18
	}
	img[end*isoSector] = 255
	copy(img[end*isoSector+1:], "CD001\x01")
	return append(img, padded(data, isoSector)...)
}

// oleOf writes a compound file with one stream in ordinary sectors.
func oleOf(name string, data []byte) []byte {
	const sector = 512
	data = padded(data, 4096)
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
		n := copy(e, utf16Text(name))
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

func installShieldOf(name string, data []byte) []byte {
	packed := pack(data, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	for i, c := range packed {
		k := i % 1024 % len(name)
		c ^= name[k] ^ ^"\x13\x35\x86\x07"[k%4]
		packed[i] = c<<4 | c>>4
	}
	head := padded([]byte("InstallShield\x00\x01"), 46)
	file := padded([]byte(name), 260)
	return concat(head, padded(appendLE(file, 6, 4, 0, 4, len(packed), 4), 312), packed)
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

func TestContainers(t *testing.T) {
	t.Parallel()
	files := map[string]struct {
		data  []byte
		kind  string // last short type
		names []string
	}{
		"gzip":           {gz(evil), "gz", nil},
		"gzip with name": {pack(evil, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); z.Name = "evil.exe"; return z }), "gz", []string{"evil.exe"}},
		"gzip, second":   {concat(gz([]byte("some text")), gz(evil)), "gz", nil},
		"xz":             {xzOf(evil), "xz", nil},
		"xz, second":     {concat(xzOf(nil), xzOf(evil)), "xz", nil},
		"lzma":           {lzmaOf(evil), "lzma", nil},
		"zstd":           {zstdOf(evil), "zst", nil},
		"compress":       {compressOf(evil), "Z", nil},
		"szdd":           {szddOf(evil), "szdd", nil},
		"tar":            {tarOf(tar.Header{Name: "evil.exe"}), "tar", []string{"evil.exe"}},
		"tar, pax name":  {concat(paxOf("path=evil.exe"), tarBlockOf("ok.txt", '0', len(evil)), padded(evil, tarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"tar, GNU name":  {concat(tarBlockOf("././@LongLink", 'L', 9), padded([]byte("evil.exe\x00"), tarBlock), tarBlockOf("ok.txt", '0', len(evil)), padded(evil, tarBlock), make([]byte, 1024)), "tar", []string{"evil.exe", "ok.txt"}},
		"newc":           {concat(newcOf("evil.exe", 0o100644, evil), newcOf("TRAILER!!!", 0, nil)), "cpio", []string{"evil.exe"}},
		"odc":            {concat(odcOf("evil.exe", evil), odcOf("TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio":       {concat(oldCpioOf(binary.LittleEndian, "evil.exe", evil), oldCpioOf(binary.LittleEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"old cpio, big":  {concat(oldCpioOf(binary.BigEndian, "evil.exe", evil), oldCpioOf(binary.BigEndian, "TRAILER!!!", nil)), "cpio", []string{"evil.exe"}},
		"ar":             {arOf("evil.exe/", evil), "a", []string{"evil.exe"}},
		"ar, BSD name":   {arOf("#1/8", append([]byte("evil.exe"), evil...)), "a", []string{"evil.exe"}},
		"rpm":            {rpmOf(evil), "rpm", nil},
		"7z":             {sevenOf("evil.exe", evil, false, false), "7z", []string{"evil.exe"}},
		"rar5":           {rar5Of("evil.exe", evil, false), "rar", []string{"evil.exe"}},
		"cab":            {cabOf("evil.exe", evil, cabStored), "cab", []string{"evil.exe"}},
		"cab, MSZIP":     {cabOf("evil.exe", evil, cabMSZip), "cab", []string{"evil.exe"}},
		"cab, LZX":       {cabOf("evil.exe", evil, cabLZX|15<<8), "cab", []string{"evil.exe"}},
		"lha":            {lhaOf("evil.exe", "-lh0-", evil, len(evil)), "lha", []string{"evil.exe"}},
		"lha -lh5-":      {lhaOf("evil.exe", "-lh5-", lh5Of(evil), len(evil)), "lha", []string{"evil.exe"}},
		"arj":            {arjOf("evil.exe", 0, 0, evil, len(evil)), "arj", []string{"evil.exe"}},
		"iso":            {isoOf("EVIL.EXE", "", evil), "iso", []string{"EVIL.EXE"}},
		"iso, Joliet":    {isoOf("OK.TXT", "evil.exe", evil), "iso", []string{"OK.TXT", "evil.exe"}},
		"ole package":    {oleOf("\x01Ole10Native", append(appendLE(nil, 500, 4), packageOf("evil.exe", evil)...)), "cdf-ms", []string{"evil.exe", `C:\evil.exe`}},
		"rtf":            {rtfOf(packageOf("evil.exe", evil)), "rtf", []string{"evil.exe", `C:\evil.exe`}},
		"pdf":            {pdfOf("evil.exe", evil), "pdf", []string{"evil.exe"}},
		"onenote":        {oneOf(evil), "one", nil},
		"zip bzip2":      {zipOf(zipFile{name: "evil.exe", data: hello, raw: bzip2Hello, method: zipBzip2}), "zip", []string{"evil.exe"}},
		"zip zstd":       {zipOf(zipFile{name: "evil.exe", data: evil, raw: zstdOf(evil), method: zipZstd}), "zip", []string{"evil.exe"}},
		"zip xz":         {zipOf(zipFile{name: "evil.exe", data: evil, raw: xzOf(evil), method: zipXZ}), "zip", []string{"evil.exe"}},
		"zip lzma":       {zipOf(zipFile{name: "evil.exe", data: evil, raw: zipLZMAOf(evil), method: zipLZMA, flags: 2}), "zip", []string{"evil.exe"}},
		"zip deflate64":  {zipOf(zipFile{name: "evil.exe", data: evil, raw: huffmanOnly(evil), method: zipDeflate64}), "zip", []string{"evil.exe"}},
		"zip implode":    {zipOf(zipFile{name: "evil.exe", data: evil, raw: implodeOf(evil), method: zipImplode}), "zip", []string{"evil.exe"}},
		"bzip2":          {bzip2Hello, "bz2", nil},
		"exe with zip":   {zipAfter(program, false, zipFile{name: "evil.exe", data: evil, method: zipDeflate}), "exe-ms", []string{"evil.exe"}},
		"exe with 7z":    {concat(program, sevenOf("evil.exe", evil, false, false)), "exe-ms", []string{"evil.exe"}},
		"exe with rar":   {concat(program, rar5Of("evil.exe", evil, false)), "exe-ms", []string{"evil.exe"}},
		"exe with cab":   {concat(program, cabOf("evil.exe", evil, cabMSZip)), "exe-ms", []string{"evil.exe"}},
		"setup":          {setupProgram(setupFilesOf("evil.exe", evil)), "exe-ms", []string{"evil.exe", `Disk1\evil.exe`}},
		"InstallShield":  {setupProgram(installShieldOf("evil.exe", evil)), "exe-ms", []string{"evil.exe"}},
		"NSIS":           {setupProgram(nsisOf(evil)), "exe-ms", nil},
		"sis":            {concat([]byte("\x00\x00\x00\x01\x12\x3a\x00\x10\x19\x04\x00\x10"), make([]byte, 99), pack(evil, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })), "sis", nil},
		"chm":            {chmOf("/evil.exe", evil), "chm", []string{"/evil.exe"}},
		"gif with rar":   {concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), rar5Of("evil.exe", evil, false)), "rar", []string{"evil.exe"}},
		"text with 7z":   {concat([]byte(strings.Repeat("plain text\n", 900)), sevenOf("evil.exe", evil, false, false)), "7z", []string{"evil.exe"}},
	}
	for name, c := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short, _ := fileTypes(c.data, nil)
			if short[len(short)-1] != c.kind {
				t.Errorf("types %q, want %q", short, c.kind)
			}
			got := look(t, c.data)
			if !got.hasPrefix(evil) && !got.hasPrefix(hello) {
				t.Errorf("payload not found among %q", got.names())
			}
			if !got.clean() {
				t.Errorf("outcome %+v", got.outcome)
			}
			if c.names != nil && !slices.Equal(slices.Compact(got.names()), c.names) {
				t.Errorf("names %q, want %q", got.names(), c.names)
			}
			cut := lookAs(t, c.data[:len(c.data)*9/10], testBudget(len(c.data)), short...)
			if cut.clean() && !slices.Contains(uncut, name) {
				t.Errorf("cut file: nothing said, names %q", cut.names())
			}
		})
	}
}

// uncut are the cases where nine tenths of the file are whole: the end is
// padding, or the payload lies in the open and is seen without the container.
var uncut = []string{"setup", "tar", "tar, pax name", "tar, GNU name", "iso", "iso, Joliet", "exe with zip", "rpm", "rtf", "compress", "text with 7z", "lha", "lha -lh5-"}

func (s seen) hasPrefix(want []byte) bool {
	return slices.ContainsFunc(s.members, func(m member) bool { return bytes.HasPrefix(m.data, want) })
}

func huffmanOnly(data []byte) []byte {
	return pack(data, func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, flate.HuffmanOnly)) })
}

func zipLZMAOf(data []byte) []byte {
	b := lzmaOf(data)
	return concat([]byte{9, 20, 5, 0}, b[:5], b[13:])
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	tarFile := tarOf(tar.Header{Name: "a.txt"})
	for name, c := range map[string]struct {
		data []byte
		want func(outcome) bool
	}{
		"7z content encrypted": {sevenOf("a.exe", evil, true, false), func(o outcome) bool { return o.encrypted }},
		"7z header encrypted":  {sevenOf("a.exe", evil, false, true), func(o outcome) bool { return o.encrypted }},
		"rar5 names encrypted": {rar5Of("a.exe", evil, true), func(o outcome) bool { return o.encrypted }},
		"arj encrypted":        {arjOf("a.exe", 1, 1, evil, 400), func(o outcome) bool { return o.encrypted }},
		"ole encrypted":        {oleOf("EncryptedPackage", evil), func(o outcome) bool { return o.encrypted }},
		"pgp":                  {[]byte("-----BEGIN PGP MESSAGE-----\n\nabcd\n"), func(o outcome) bool { return o.encrypted }},
		"arj method 4":         {arjOf("a.exe", 4, 0, evil, 400), func(o outcome) bool { return o.damaged }},
		"cab quantum":          {cabOf("a.exe", evil, 2), func(o outcome) bool { return o.damaged }},
		"lha -lh1-":            {lhaOf("a.exe", "-lh1-", evil, 400), func(o outcome) bool { return o.damaged }},
		"tar behind the end":   {concat(tarFile, tarFile), func(o outcome) bool { return o.disagreement != "" }},
		"tar two pax names": {concat(paxOf("path=a", "path=b"), tarBlockOf("c", '0', 0), make([]byte, 1024)),
			func(o outcome) bool { return o.disagreement != "" }},
		"tar two sizes": {concat(paxOf("size=400"), tarBlockOf("c", '0', 10), padded(evil, tarBlock), make([]byte, 1024)),
			func(o outcome) bool { return o.disagreement != "" }},
		"tar sum":                     {concat(tarFile[:1024], bytes.Repeat([]byte("x"), 512), tarFile), func(o outcome) bool { return o.damaged }},
		"vhd":                         {append([]byte("conectix"), make([]byte, 512)...), func(o outcome) bool { return o.damaged }},
		"second volume":               {[]byte{1, 2, 3, 4}, func(o outcome) bool { return o.damaged }},
		"7z header asks for too much": {sevenHuge(), func(o outcome) bool { return o.damaged || o.overLimits }},
		"xz asks for too much":        {xzHuge(), func(o outcome) bool { return o.clean() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := look(t, c.data, "x.7z.002")
			if !c.want(got.outcome) {
				t.Errorf("names %q, outcome %+v", got.names(), got.outcome)
			}
		})
	}
}

func (o outcome) clean() bool { return seen{outcome: o}.clean() }

// sevenHuge says that it has four billion files.
func sevenHuge() []byte {
	header := []byte{1, 4, 6, 0, 1, 9, 0, 0, 7, 0x0b, 1, 0, 1, 1, 0, 0x0c, 0, 0, 0, 5, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0}
	start := appendLE(nil, 0, 8, len(header), 8, int(crc32.ChecksumIEEE(header)), 4)
	return slices.Concat(magic7z, []byte{0, 4}, appendLE(nil, int(crc32.ChecksumIEEE(start)), 4), start, header)
}

// xzHuge asks for a dictionary of 4 GiB in each of many small blocks; it gets
// what the blocks need.
func xzHuge() []byte {
	one := xzOf([]byte("small"))
	const property = 12 + 4 // header, then: size, flags, filter, its size, property
	head := bytes.Clone(one)
	head[property] = 40
	n := 12 + (int(head[12])+1)*4
	binary.LittleEndian.PutUint32(head[n-4:], crc32.ChecksumIEEE(head[12:n-4]))
	return bytes.Repeat(head, 2000)
}

func TestTarKinds(t *testing.T) {
	t.Parallel()
	got := look(t, tarOf(tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		tar.Header{Name: "c", Typeflag: tar.TypeChar}, tar.Header{Name: "f", Typeflag: tar.TypeFifo}))
	m := got.members
	if len(m) != 4 || !m[0].dir || !m[1].link || !m[2].special || !m[3].special {
		t.Errorf("got %+v", m)
	}
}

// TestNested checks that a container in a container is found at every level.
func TestNested(t *testing.T) {
	t.Parallel()
	data := evil
	for range 4 {
		data = zipOf(zipFile{name: "x.zip", data: data, method: zipDeflate})
		data = gz(tarOf2("y.tar", data))
	}
	got := deep(t, data, nil, testBudget(1<<20), 14)
	if !got.hasData(evil) || !got.clean() {
		t.Errorf("%d members, outcome %+v", len(got.members), got.outcome)
	}
	got = deep(t, data, nil, testBudget(1<<20), 8)
	if got.clean() {
		t.Error("too deep, and nothing said")
	}
}

func tarOf2(name string, data []byte) []byte {
	return concat(tarBlockOf(name, '0', len(data)), padded(data, tarBlock), make([]byte, 1024))
}

// TestGzipBomb is 64 MB of zeros before the program.
func TestGzipBomb(t *testing.T) {
	t.Parallel()
	data := gz(append(make([]byte, 64<<20), evil...))
	if got := lookAs(t, data, testBudget(len(data)), "gz"); !got.overLimits {
		t.Errorf("outcome %+v", got.outcome)
	}
}

// TestCallerStops checks that an error of the caller comes back as it is
// and that no member follows it.
func TestCallerStops(t *testing.T) {
	t.Parallel()
	data := zipOf(zipFile{name: "a", data: evil}, zipFile{name: "b", data: evil})
	n := 0
	_, err := expand(data, []string{"zip"}, testBudget(len(data)), func(member) error { n++; return io.ErrClosedPipe })
	if err != io.ErrClosedPipe || n != 1 {
		t.Errorf("error %v after %d members", err, n)
	}
}

// TestPanic checks that a panic in a reader is an outcome.
func TestPanic(t *testing.T) {
	t.Parallel()
	x := &expander{budget: testBudget(1)}
	if err := x.run("test", func(*expander, []byte) error { panic("boom") }, nil); err != nil || !x.out.damaged {
		t.Errorf("error %v, outcome %+v", err, x.out)
	}
}

func fuzzReader(f *testing.F, short string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzExpand(t, data, short) })
}

func FuzzTar(f *testing.F) {
	fuzzReader(f, "tar", tarOf(tar.Header{Name: "evil.exe"}), concat(paxOf("path=a", "GNU.sparse.major=1", "GNU.sparse.minor=0"), tarBlockOf("b", 'S', 400), padded(evil, 512)))
}

func FuzzGzip(f *testing.F)     { fuzzReader(f, "gz", concat(gz(evil), gz(evil))) }
func FuzzBzip2(f *testing.F)    { fuzzReader(f, "bz2", bzip2Hello, concat(bzip2Hello, bzip2Hello, evil)) }
func FuzzXZ(f *testing.F)       { fuzzReader(f, "xz", concat(xzOf(evil), xzOf(evil)), xzHuge()[:400]) }
func FuzzLZMA(f *testing.F)     { fuzzReader(f, "lzma", lzmaOf(evil)) }
func FuzzZstd(f *testing.F)     { fuzzReader(f, "zst", zstdOf(evil)) }
func FuzzCompress(f *testing.F) { fuzzReader(f, "Z", compressOf(evil)) }
func FuzzSZDD(f *testing.F)     { fuzzReader(f, "szdd", szddOf(evil)) }
func Fuzz7z(f *testing.F) {
	fuzzReader(f, "7z", sevenOf("evil.exe", evil, false, false), sevenOf("e", evil, true, false), sevenOf("e", evil, false, true), sevenHuge())
}
func FuzzRar(f *testing.F) {
	fuzzReader(f, "rar", rar5Of("evil.exe", evil, false), rar5Of("e", evil, true))
}
func FuzzCab(f *testing.F) {
	fuzzReader(f, "cab", cabOf("evil.exe", evil, cabMSZip), cabOf("evil.exe", evil, cabLZX|15<<8))
}
func FuzzLHA(f *testing.F) { fuzzReader(f, "lha", lhaOf("evil.exe", "-lh5-", lh5Of(evil), len(evil))) }
func FuzzARJ(f *testing.F) { fuzzReader(f, "arj", arjOf("evil.exe", 1, 0, lh5Of(evil), len(evil))) }
func FuzzISO(f *testing.F) { fuzzReader(f, "iso", isoOf("OK.TXT", "evil.exe", evil)) }
func FuzzCpio(f *testing.F) {
	fuzzReader(f, "cpio", newcOf("evil.exe", 0o100644, evil), odcOf("evil.exe", evil), oldCpioOf(binary.BigEndian, "evil.exe", evil))
}
func FuzzAr(f *testing.F)  { fuzzReader(f, "a", arOf("#1/8", append([]byte("evil.exe"), evil...))) }
func FuzzRPM(f *testing.F) { fuzzReader(f, "rpm", rpmOf(evil)) }
func FuzzOLE(f *testing.F) {
	fuzzReader(f, "cdf-ms", oleOf("\x01Ole10Native", append(appendLE(nil, 500, 4), packageOf("evil.exe", evil)...)), oleOf("PowerPoint Document", evil))
}
func FuzzRTF(f *testing.F)     { fuzzReader(f, "rtf", rtfOf(packageOf("evil.exe", evil))) }
func FuzzPDF(f *testing.F)     { fuzzReader(f, "pdf", pdfOf("evil.exe", evil)) }
func FuzzOneNote(f *testing.F) { fuzzReader(f, "one", oneOf(evil)) }
func FuzzCHM(f *testing.F)     { fuzzReader(f, "chm", chmOf("/evil.exe", evil)) }
func FuzzProgram(f *testing.F) {
	fuzzReader(f, "exe", setupProgram(setupFilesOf("evil.exe", evil)), setupProgram(installShieldOf("evil.exe", evil)), setupProgram(nsisOf(evil)), concat(program, cabOf("evil.exe", evil, cabMSZip)))
}

const bzip2HelloText = "QlpoOTFBWSZTWUf/TjIAAEXfgAAQQAQQAABAQAATJdwQIABwU0yMTExApVQep6gyPKfCeidyYJwTkngmRPJNEwTZOSfiaJ0Jkn0miYJkmybJ/F3JFOFCQR/9OMg="
