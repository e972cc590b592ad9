package unpack

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
)

// Documents carry other files: a PDF its attachments, RTF its objects in
// hexadecimal, OneNote whatever was dropped on the page.

// readPDF gives the embedded files of a PDF, and streams that are programs or
// containers by their content. Its text and pictures are not given.
func readPDF(x *expander, data []byte) error {
	names := pdfNames(data)
	for pos := 0; ; {
		i := bytes.Index(data[pos:], []byte("stream"))
		if i < 0 {
			return nil
		}
		at := pos + i
		pos = at + len("stream")
		if at >= 3 && string(data[at-3:at]) == "end" {
			continue
		}
		content := bytes.TrimPrefix(data[pos:], []byte("\r"))
		if !bytes.HasPrefix(content, []byte("\n")) {
			continue
		}
		content = content[1:]
		head := data[max(0, at-1024):at]
		head = head[max(0, bytes.LastIndex(head, []byte("endobj"))):]
		plain := content
		if i := bytes.Index(content, []byte("endstream")); i >= 0 {
			plain = content[:i]
			pos = len(data) - len(content) + i
		} else {
			x.damage("pdf: stream without an end")
			pos = len(data)
		}
		if err := x.pdfStream(head, content, plain, names); err != nil {
			return err
		}
	}
}

// pdfStream gives one stream if it is a file. head ends with its dictionary;
// plain is up to the end mark, content goes on behind it.
func (x *expander) pdfStream(head, content, plain []byte, names map[int][]string) error {
	if err := x.budget.Check(); err != nil {
		return err
	}
	embedded := bytes.Contains(head, []byte("/EmbeddedFile"))
	packed := bytes.Contains(head, []byte("/FlateDecode")) || bytes.Contains(head, []byte("/Fl "))
	m := member{note: "embedded file"}
	if i := bytes.LastIndex(head, []byte(" obj")); i >= 0 {
		m.names = names[pdfObject(head[:i])]
	}
	if !packed {
		if !embedded && !startsFile(plain) {
			return nil
		}
		if bytes.Contains(head, []byte("/Filter")) {
			x.damage("pdf: embedded file with an unknown filter")
		}
		return x.giveStored(m, plain)
	}
	if !embedded {
		var start [16]byte
		r, err := x.inflate(content)
		if err != nil {
			return nil
		}
		n, _ := io.ReadFull(r, start[:])
		if !startsFile(start[:n]) {
			return nil
		}
	}
	r, err := x.inflate(content)
	if err != nil {
		x.fail("pdf: embedded file", err)
		return x.giveStored(m, plain)
	}
	return x.giveDecoded(m, r, -1)
}

// inflate returns a decoder of the zlib stream at the start of b. There is only
// one at a time: a document may have thousands of streams.
func (x *expander) inflate(b []byte) (io.Reader, error) {
	return x.inflateFrom(bytes.NewReader(b))
}

func (x *expander) inflateFrom(in *bytes.Reader) (io.Reader, error) {
	if x.zlib == nil {
		r, err := zlib.NewReader(in)
		if err != nil {
			return nil, err
		}
		x.zlib = r
		return r, nil
	}
	return x.zlib, x.zlib.(zlib.Resetter).Reset(in, nil)
}

// startsFile reports whether content begins like a program or a container.
func startsFile(b []byte) bool {
	for _, magic := range []string{"MZ", "PK\x03\x04", "7z\xbc\xaf", "Rar!", "MSCF", string(oleMagic), "\x7fELF", "\x4c\x00\x00\x00\x01\x14\x02\x00", "\x1f\x8b\x08"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return false
}

// pdfObject returns the number in "12 0" at the end of b.
func pdfObject(b []byte) int {
	fields := bytes.Fields(b[max(0, len(b)-24):])
	if len(fields) < 2 {
		return -1
	}
	n, err := strconv.Atoi(string(fields[len(fields)-2]))
	if err != nil {
		return -1
	}
	return n
}

// pdfNames maps the numbers of embedded file objects to the names in the file
// specifications that refer to them.
func pdfNames(data []byte) map[int][]string {
	names := make(map[int][]string)
	const maxSpecs = 4096
	for pos, specs := 0, 0; specs < maxSpecs; specs++ {
		i := bytes.Index(data[pos:], []byte("/EF"))
		if i < 0 {
			break
		}
		pos += i + 3
		spec := data[max(0, pos-1024):min(len(data), pos+1024)]
		at := pos - max(0, pos-1024)
		if i := bytes.LastIndex(spec[:at], []byte(" obj")); i >= 0 {
			spec, at = spec[i:], at-i
		}
		if i := bytes.Index(spec[at:], []byte("endobj")); i >= 0 {
			spec = spec[:at+i]
		}
		var found []string
		for _, key := range []string{"/UF", "/F"} {
			found = append(found, pdfStrings(spec, key)...)
		}
		fields := bytes.FieldsFunc(spec[at:], func(r rune) bool { return r == ' ' || r == '\r' || r == '\n' || r == '<' || r == '>' || r == '/' })
		for i := 0; i+2 < len(fields); i++ {
			if n, err := strconv.Atoi(string(fields[i])); err == nil && string(fields[i+2]) == "R" {
				for _, f := range found {
					names[n] = addName(names[n], f)
				}
			}
		}
	}
	return names
}

// pdfStrings returns the strings "(...)" that follow key.
func pdfStrings(b []byte, key string) (out []string) {
	for {
		i := bytes.Index(b, []byte(key))
		if i < 0 {
			return out
		}
		b = bytes.TrimLeft(b[i+len(key):], " \r\n")
		if !bytes.HasPrefix(b, []byte("(")) {
			continue
		}
		end := bytes.IndexByte(b, ')')
		if end < 0 {
			return out
		}
		s := b[1:end]
		if bytes.HasPrefix(s, []byte("\xfe\xff")) {
			s = narrow(s, 2)
		}
		out = append(out, textName(bytes.ReplaceAll(s, []byte("\\"), nil)))
	}
}

// readRTF gives the objects of an RTF document.
func readRTF(x *expander, data []byte) error {
	for {
		i := bytes.Index(data, []byte(`\objdata`))
		if i < 0 {
			return nil
		}
		data = data[i+len(`\objdata`):]
		content := data
		if i := bytes.Index(data, []byte(`\objdata`)); i >= 0 {
			content = data[:i]
		}
		if content = rtfHex(content); len(content) == 0 {
			continue
		}
		if err := x.budget.Take(int64(len(content))); err != nil {
			return err
		}
		if err := x.giveObject(content); err != nil {
			return err
		}
	}
}

// rtfHex decodes the hexadecimal digits up to the end of the group; white space
// and control words between them do not count.
func rtfHex(b []byte) []byte {
	var out []byte
	half, high := false, byte(0)
	for i := 0; i < len(b); i++ {
		c := b[i]
		var v byte
		switch {
		case c >= '0' && c <= '9':
			v = c - '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			v = c | 0x20 - 'a' + 10
		case c == '}':
			return out
		case c == '\\':
			for i+1 < len(b) && b[i+1] != ' ' && b[i+1] != '\r' && b[i+1] != '\n' && b[i+1] != '}' && b[i+1] != '\\' {
				i++
			}
			continue
		default:
			continue
		}
		if half = !half; half {
			high = v << 4
		} else {
			out = append(out, high|v)
		}
	}
	return out
}

// giveObject gives what an OLE 1 object holds ([MS-OLEDS] 2.2.5): version,
// format, three strings with their length, and the native data with its length.
func (x *expander) giveObject(b []byte) error {
	rest := b
	number := func() int64 {
		if len(rest) < 4 {
			rest = nil
			return -1
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		return n
	}
	number()
	number()
	class := ""
	for i := range 3 {
		n := number()
		if n < 0 || n > int64(len(rest)) {
			return x.giveStored(member{note: "embedded object"}, b)
		}
		if i == 0 {
			class = cString(rest[:n])
		}
		rest = rest[n:]
	}
	n := number()
	if n < 0 {
		return x.giveStored(member{note: "embedded object"}, b)
	}
	native := rest[:min(n, int64(len(rest)))]
	if class == "Package" {
		return x.givePackage(native, 0)
	}
	return x.giveStored(member{note: "embedded object"}, native)
}

// oneNoteFile begins a FileDataStoreObject ([MS-ONESTORE] 2.6.13): GUID, length,
// 12 octets, content.
var oneNoteFile = []byte("\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac")

// readOneNote gives the files in a OneNote section. Their names are elsewhere
// in it and are not read.
func readOneNote(x *expander, data []byte) error {
	const header = 36
	for {
		i := bytes.Index(data, oneNoteFile)
		if i < 0 || i+header > len(data) {
			return nil
		}
		size := binary.LittleEndian.Uint64(data[i+16:])
		data = data[i+header:]
		content := data[:min(size, uint64(len(data)))]
		if size > uint64(len(data)) {
			x.damage("one: embedded file is cut")
		}
		if err := x.giveStored(member{note: "embedded file"}, content); err != nil {
			return err
		}
	}
}

// readCompress gives the content of a file of the Unix program compress: LZW
// with codes of 9 up to 16 bits.
func readCompress(x *expander, data []byte) error {
	if len(data) < 3 || data[1] != 0x9d {
		return errUnsupported
	}
	widest := uint(data[2] & 31)
	if widest < 9 || widest > 16 {
		return errDamaged
	}
	z := &lzw{in: data[3:], widest: widest, block: data[2]&0x80 != 0, old: -1}
	z.reset()
	return x.giveDecoded(member{}, z, -1)
}

type lzw struct {
	in       []byte
	at       int // in bits
	start    int // in bits, of the present width: codes come in groups of eight
	width    uint
	widest   uint
	block    bool
	old      int
	first    byte
	next     int
	prefix   [1 << 16]uint16
	suffix   [1 << 16]byte
	out      []byte
	backward [1 << 16]byte
}

func (z *lzw) reset() {
	z.width, z.next, z.old = 9, 256, -1
	if z.block {
		z.next = 257
	}
}

// align skips the rest of a group of eight codes.
func (z *lzw) align() {
	group := int(z.width) * 8
	z.at = z.start + (z.at-z.start+group-1)/group*group
	z.start = z.at
}

func (z *lzw) Read(p []byte) (int, error) {
	for len(z.out) == 0 {
		if err := z.code(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// code decodes one code.
func (z *lzw) code() error {
	if z.next >= 1<<z.width && z.width < z.widest {
		z.align()
		z.width++
	}
	if z.at+int(z.width) > 8*len(z.in) {
		return io.EOF
	}
	c := 0
	for i := range int(z.width) {
		bit := z.at + i
		c |= int(z.in[bit/8]>>(bit%8)&1) << i
	}
	z.at += int(z.width)
	if c == 256 && z.block {
		z.align()
		z.reset()
		return nil
	}
	if z.old < 0 {
		if c > 255 {
			return errDamaged
		}
		z.old, z.first = c, byte(c)
		z.out = append(z.backward[:0], byte(c))
		return nil
	}
	at, k := len(z.backward), c
	if c >= z.next {
		if c > z.next {
			return errors.New("code is not yet defined")
		}
		at--
		z.backward[at] = z.first
		k = z.old
	}
	for k >= 256 && at > 0 {
		at--
		z.backward[at] = z.suffix[k]
		k = int(z.prefix[k])
	}
	if at == 0 {
		return errDamaged
	}
	at--
	z.backward[at], z.first = byte(k), byte(k)
	if z.next < 1<<z.widest {
		z.prefix[z.next], z.suffix[z.next] = uint16(z.old), z.first
		z.next++
	}
	z.old = c
	z.out = z.backward[at:]
	return nil
}

// readPGP reports an encrypted message.
func readPGP(x *expander, _ []byte) error {
	x.out.encrypted = true
	return nil
}
