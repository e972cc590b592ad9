package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Documents carry other files: a PDF its attachments, RTF its objects in
// hexadecimal, OneNote whatever was dropped on the page.

// startsFile reports whether content begins like a program or a container.
func startsFile(b []byte) bool {
	for _, magic := range []string{"MZ", "PK\x03\x04", "7z\xbc\xaf", "Rar!", "MSCF", string(oleMagic), "\x7fELF", "\x4c\x00\x00\x00\x01\x14\x02\x00", "\x1f\x8b\x08"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return false
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
		if err := giveObject(x, content); err != nil {
			return err
		}
	}
}

// rtfHex decodes the hexadecimal digits up to the end of the group. What else
// stands there does not count: white space, control words, groups in the group,
// escaped octets; \bin is followed by octets as they are (RTF 1.9.1,
// "Objects").
func rtfHex(b []byte) []byte {
	var out []byte
	half, high, depth := false, byte(0), 0
	for i := 0; i < len(b); i++ {
		v := hexDigit(b[i])
		switch {
		case b[i] == '{':
			depth++
		case b[i] == '}':
			if depth--; depth < 0 {
				return out
			}
		case b[i] == '\\':
			word, number, n := rtfControl(b[i:])
			i += n - 1
			if word == "bin" && number > 0 {
				binary := b[i+1:][:min(number, len(b)-i-1)]
				out = append(out, binary...)
				i += len(binary)
			}
		case v >= 0 && depth == 0:
			if half = !half; half {
				high = byte(v) << 4
			} else {
				out = append(out, high|byte(v))
			}
		}
	}
	return out
}

// rtfControl returns the control word at the start of b with its number, and
// the length of all. An escaped octet has two digits.
func rtfControl(b []byte) (word string, number, n int) {
	n = 1
	for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
		n++
	}
	if n == 1 {
		if len(b) > 1 && b[1] == '\'' {
			return "'", 0, min(4, len(b))
		}
		return "", 0, min(2, len(b))
	}
	word = string(b[1:min(n, 33)])
	digits := n
	for n < len(b) && n < digits+11 && (b[n] >= '0' && b[n] <= '9' || n == digits && b[n] == '-') {
		n++
	}
	number, _ = strconv.Atoi(string(b[digits:n]))
	if n < len(b) && b[n] == ' ' {
		n++
	}
	return word, number, n
}

// giveObject gives what an OLE 1 object holds ([MS-OLEDS] 2.2.5): version,
// format, three strings with their length, and the native data with its length.
func giveObject(x *expander, b []byte) error {
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
	if class == "Package" || bytes.HasPrefix(native, []byte("\x02\x00")) {
		return givePackage(x, native, 0)
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
	return x.giveDecoded(member{}, newLZW(data[3:], widest, data[2]&0x80 != 0), -1)
}

// lzw decodes what the Unix program compress writes: LZW with codes of 9 bits
// up to a limit.
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

// newLZW returns a decoder of in whose codes have up to widest bits, at most
// 16. With block the code 256 begins anew.
func newLZW(in []byte, widest uint, block bool) *lzw {
	z := &lzw{in: in, widest: widest, block: block, old: -1}
	z.reset()
	return z
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
	x.noteEncrypted()
	return nil
}

// readXML gives the files that documents in one XML file carry in base64: those
// of Office are in elements binaryData and binData, those of OpenDocument in
// binary-data.
func readXML(x *expander, data []byte) error {
	if err := x.inside(data, ""); err != nil {
		return err
	}
	for {
		i := bytes.Index(data, []byte("bin"))
		if i < 0 {
			return nil
		}
		data = data[i:]
		name, rest, ok := bytes.Cut(data[:min(len(data), 256)], []byte(">"))
		if j := bytes.IndexAny(name, " \t\r\n"); j >= 0 {
			name = name[:j]
		}
		if word := string(name); !ok || word != "binaryData" && word != "binData" && word != "binary-data" {
			data = data[3:]
			continue
		}
		data = data[len(data[:min(len(data), 256)])-len(rest):]
		end := bytes.IndexByte(data, '<')
		if end < 0 {
			end = len(data)
		}
		if content := looseBase64(data[:end]); len(content) > 0 {
			if err := x.giveStored(member{note: "embedded file"}, content); err != nil {
				return err
			}
		}
		data = data[end:]
	}
}

// readCard gives the files that a calendar or an address card carries in base64
// (RFC 5545 section 3.8.1.1, RFC 6350 section 6.2.4).
func readCard(x *expander, data []byte) error {
	if err := x.inside(data, ""); err != nil {
		return err
	}
	for len(data) > 0 {
		line := data
		for at := 0; ; { // up to a line end that no blank follows
			i := bytes.IndexByte(data[at:], '\n')
			if i < 0 {
				data = nil
				break
			}
			if at += i + 1; at >= len(data) || data[at] != ' ' && data[at] != '\t' {
				line, data = data[:at], data[at:]
				break
			}
		}
		head, value, ok := bytes.Cut(line, []byte(":"))
		params := strings.ToUpper(string(head[:min(len(head), 1024)]))
		if !ok || !strings.Contains(params, ";ENCODING=B") && !strings.Contains(params, ";BASE64") {
			continue
		}
		m := member{note: "attachment"}
		for _, p := range strings.Split(string(head[:min(len(head), 1024)]), ";") {
			if key, name, _ := strings.Cut(p, "="); strings.HasSuffix(strings.ToUpper(key), "FILENAME") {
				m.names = addName(m.names, textName([]byte(strings.Trim(strings.TrimSpace(name), `"`))))
			}
		}
		if content := looseBase64(value); len(content) > 0 {
			if err := x.giveStored(m, content); err != nil {
				return err
			}
		}
	}
	return nil
}
