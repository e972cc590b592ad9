package document

import (
	"bytes"
	"compress/zlib"
	"encoding/ascii85"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readPDF gives the embedded files of a PDF, and streams that are programs or
// containers by their content. Its text and pictures are not given.
func readPDF(o *budget.Opener, data []byte) error {
	x := &pdfReader{Opener: o}
	key := x.pdfUnlock(data)
	if key != nil && key.key != nil {
		if key.secret {
			x.NoteOpened()
		}
	} else if key != nil && (bytes.Contains(data, []byte("/EmbeddedFile")) || bytes.Contains(data, []byte("/ObjStm"))) {
		x.NoteEncrypted() // what may be attached is, too
	}
	names := x.pdfNames(data, key)
	for pos, end := 0, 0; ; {
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
		head := data[end:at]
		head = head[max(0, bytes.LastIndex(head, []byte("endobj"))):]
		plain := content
		if i := bytes.Index(content, []byte("endstream")); i >= 0 {
			plain = content[:i]
			pos = len(data) - len(content) + i
		} else {
			x.Damage("pdf: stream without an end")
			pos = len(data)
		}
		end = pos
		if err := x.pdfStream(head, content, plain, names, key); err != nil {
			return err
		}
	}
}

// pdfReader is the opener of a PDF with the decoder of its streams. There is
// only one of it at a time: a document may have thousands of streams.
type pdfReader struct {
	*budget.Opener
	zlib io.ReadCloser
}

// inflate returns a decoder of the zlib stream at the start of b.
func (x *pdfReader) inflate(b []byte) (io.Reader, error) {
	in := x.Input(b)
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

// pdfStream gives one stream if it is a file. head ends with its dictionary;
// plain is up to the end mark, content goes on behind it.
func (x *pdfReader) pdfStream(head, content, plain []byte, names map[int][]string, key *pdfKey) error {
	if err := x.Budget.Check(); err != nil {
		return err
	}
	dict := pdfUnescape(head)
	embedded := bytes.Contains(dict, []byte("/EmbeddedFile"))
	of := pdfRef{number: -1}
	if i := bytes.LastIndex(head, []byte(" obj")); i >= 0 {
		of = pdfObject(head[:i])
	}
	m := budget.Member{Note: "embedded file", Names: names[of.number]}
	if key != nil && key.key == nil && embedded && !x.pdfFits(dict, content, plain, true) {
		return x.Give(budget.Member{Size: int64(len(plain)), Encrypted: true, Note: m.Note})
	}
	method := key.method(embedded)
	if method == "/Identity" {
		return x.pdfGive(m, dict, content, plain, embedded)
	}
	// as it is, too: readers may disagree about what is encrypted
	if err := x.pdfGive(m, dict, content, plain, false); err != nil {
		return err
	}
	if n := len(plain); n > cap(key.buf) {
		if err := x.Needs(int64(n)); err != nil {
			x.Fail("pdf: encrypted stream", err)
			return nil
		}
		key.buf = make([]byte, 0, n)
	}
	m.Opened = key.secret
	open := key.decrypt(method, of, plain, key.buf)
	short := open == nil && embedded && len(bytes.TrimSpace(plain)) > 0
	if short || len(open) > 0 && !x.pdfFits(dict, open, open, embedded) {
		x.Damage("pdf: the key does not fit a stream")
	}
	return x.pdfGive(m, dict, open, open, embedded)
}

// pdfFits reports whether a stream can be what its dictionary says. If it is
// not, it is encrypted, or was decrypted with a key that is not the one of
// readers.
func (x *pdfReader) pdfFits(dict, content, plain []byte, embedded bool) bool {
	filters := pdfFilters(dict)
	switch {
	case embedded && len(filters) == 0:
		short, _ := filetype.Of(plain, nil)
		return short[len(short)-1] != "dat"
	case !embedded && !bytes.Contains(dict, []byte("/ObjStm")):
		return true
	}
	var r io.Reader = bytes.NewReader(plain)
	if len(filters) > 0 {
		var err error
		if r, err = x.pdfDecoder(filters, content, plain); err != nil {
			return false
		}
	}
	var start [8]byte
	n, err := io.ReadFull(r, start[:])
	if embedded {
		return err == nil || err == io.EOF || err == io.ErrUnexpectedEOF && n > 0
	}
	// it begins with the numbers of objects, up to the first object
	index := start[:min(n, pdfFirst(dict, len(start)))]
	return len(index) > 0 && len(bytes.Trim(index, "0123456789 \t\r\n\f\x00")) == 0
}

// pdfFirst returns the length of the index of an object stream, but no more
// than most and that where the dictionary does not say it, or nothing sane.
func pdfFirst(dict []byte, most int) int {
	const least = 3 // "1 0"
	i := bytes.LastIndex(dict, []byte("/First"))
	if i < 0 {
		return most
	}
	digits := pdfSpace(dict[i+len("/First"):])
	end := 0
	for end < len(digits) && '0' <= digits[end] && digits[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(string(digits[:end]))
	if err != nil || n < least {
		return most
	}
	return min(n, most)
}

// pdfGive gives a stream if it is embedded or begins like a file.
func (x *pdfReader) pdfGive(m budget.Member, dict, content, plain []byte, embedded bool) error {
	filters := pdfFilters(dict)
	if len(filters) == 0 {
		if !embedded && !startsFile(plain) {
			return nil
		}
		return x.GiveStored(m, plain)
	}
	if !embedded {
		var start [16]byte
		r, err := x.pdfDecoder(filters, content, plain)
		if err != nil {
			return nil // a picture, most often
		}
		n, _ := io.ReadFull(r, start[:])
		if !startsFile(start[:n]) {
			return nil
		}
	}
	r, err := x.pdfDecoder(filters, content, plain)
	if err != nil {
		x.Fail("pdf: embedded file", err)
		return x.GiveStored(m, plain)
	}
	if bytes.Contains(dict, []byte("/Predictor")) && embedded {
		x.Damage("pdf: embedded file with a predictor")
	}
	return x.GiveDecoded(m, r, -1)
}

// pdfDecoder returns a decoder of a stream for all its filters.
func (x *pdfReader) pdfDecoder(filters []string, content, plain []byte) (io.Reader, error) {
	var r io.Reader
	for i, f := range filters {
		var err error
		switch {
		case i > 4:
			err = codec.ErrUnsupported
		case f == "Crypt":
			err = errors.New("encrypted")
		case i == 0 && (f == "FlateDecode" || f == "Fl"):
			r, err = x.inflate(content) // whatever the end mark says
		case f == "FlateDecode" || f == "Fl":
			r, err = zlib.NewReader(&paid{r, x.Budget})
		case i == 0 && (f == "ASCIIHexDecode" || f == "AHx"):
			r = hex.NewDecoder(&pdfASCII{in: plain, end: '>'})
		case i == 0 && (f == "ASCII85Decode" || f == "A85"):
			r = ascii85.NewDecoder(&pdfASCII{in: bytes.TrimPrefix(bytes.TrimSpace(plain), []byte("<~")), end: '~'})
		default:
			err = errors.New("filter " + strconv.Quote(f[:min(len(f), 40)]) + " is not supported")
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// paid is a stage between two decoders, which costs as much as a last one.
type paid struct {
	r      io.Reader
	budget *budget.Budget
}

func (p *paid) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if terr := p.budget.Take(int64(n)); terr != nil {
		err = terr
	}
	return n, err
}

// pdfASCII is text up to its end mark, without white space.
type pdfASCII struct {
	in  []byte
	end byte
}

func (r *pdfASCII) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.in) == 0 || r.in[0] == r.end {
			if n == 0 {
				err = io.EOF
			}
			return n, err
		}
		if c := r.in[0]; c > ' ' {
			p[n] = c
			n++
		}
		r.in = r.in[1:]
	}
	return n, nil
}

// pdfFilters returns the names in the value of /Filter.
func pdfFilters(dict []byte) []string {
	i := bytes.LastIndex(dict, []byte("/Filter"))
	if i < 0 {
		return nil
	}
	value := bytes.TrimLeft(dict[i+len("/Filter"):], " \t\r\n\f\x00")
	if len(value) > 0 && value[0] == '[' {
		value, _, _ = bytes.Cut(value[1:], []byte("]"))
	} else if len(value) > 0 && value[0] == '/' {
		n := bytes.IndexAny(value[1:], "/<>[]() \t\r\n\f\x00")
		if n >= 0 {
			value = value[:n+1]
		}
	} else {
		return []string{"by reference"}
	}
	return strings.FieldsFunc(string(value), func(c rune) bool { return strings.ContainsRune("/ \t\r\n\f\x00", c) })
}

// pdfUnescape decodes "#xx" in names.
func pdfUnescape(b []byte) []byte {
	if bytes.IndexByte(b, '#') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '#' && i+2 < len(b) {
			if high, low := codec.HexDigit(b[i+1]), codec.HexDigit(b[i+2]); high >= 0 && low >= 0 {
				out = append(out, byte(high<<4|low))
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// pdfRef is the number and generation of an object.
type pdfRef struct{ number, generation int }

// pdfObject returns the reference in "12 0" at the end of b.
func pdfObject(b []byte) pdfRef {
	fields := bytes.Fields(b[max(0, len(b)-24):])
	if len(fields) < 2 {
		return pdfRef{number: -1}
	}
	n, err1 := strconv.Atoi(string(fields[len(fields)-2]))
	generation, err2 := strconv.Atoi(string(fields[len(fields)-1]))
	if err1 != nil || err2 != nil {
		return pdfRef{number: -1}
	}
	return pdfRef{n, generation}
}

// pdfNames maps the numbers of embedded file objects to the names in the file
// specifications that refer to them.
func (x *pdfReader) pdfNames(data []byte, key *pdfKey) map[int][]string {
	names := make(map[int][]string)
	const maxSpecs = 4096
	for pos, specs := 0, 0; specs < maxSpecs && x.Budget.Check() == nil; specs++ {
		i := bytes.Index(data[pos:], []byte("/EF"))
		if i < 0 {
			break
		}
		pos += i + 3
		spec := data[max(0, pos-1024):min(len(data), pos+1024)]
		at := pos - max(0, pos-1024)
		of := pdfRef{number: -1}
		if i := bytes.LastIndex(spec[:at], []byte(" obj")); i >= 0 {
			of = pdfObject(spec[:i])
			spec, at = spec[i:], at-i
		}
		if i := bytes.Index(spec[at:], []byte("endobj")); i >= 0 {
			spec = spec[:at+i]
		}
		var found []string
		for _, name := range []string{"/UF", "/F"} {
			found = append(found, x.pdfStrings(spec, name, of, key)...)
		}
		fields := bytes.FieldsFunc(spec[at:], func(r rune) bool { return r == ' ' || r == '\r' || r == '\n' || r == '<' || r == '>' || r == '/' })
		for i := 0; i+2 < len(fields); i++ {
			if n, err := strconv.Atoi(string(fields[i])); err == nil && string(fields[i+2]) == "R" {
				for _, f := range found {
					names[n] = filetype.AddName(names[n], f)
				}
			}
		}
	}
	return names
}

// pdfStrings returns the strings that follow name in an object. Each is paid with
// what comes after it, since it may go on to the end.
func (x *pdfReader) pdfStrings(b []byte, name string, of pdfRef, key *pdfKey) (out []string) {
	const free = 8 // a file has two names
	for n := 0; n < free || x.Budget.Take(int64(len(b))) == nil; n++ {
		i := bytes.Index(b, []byte(name))
		if i < 0 {
			return out
		}
		b = b[i+len(name):]
		s, _ := pdfString(pdfSpace(b))
		if s == nil {
			continue
		}
		if key != nil && key.key != nil {
			s = key.decrypt(key.words, of, s, nil)
		}
		if bytes.HasPrefix(s, []byte("\xfe\xff")) {
			s = filetype.Narrow(s, 2)
		}
		out = append(out, filetype.TextName(s))
	}
	return out
}

// startsFile reports whether content begins like a program or a container.
func startsFile(b []byte) bool {
	for _, magic := range []string{"MZ", "PK\x03\x04", "7z\xbc\xaf", "Rar!", "MSCF", string(filetype.OLEMagic), "\x7fELF", "\x4c\x00\x00\x00\x01\x14\x02\x00", "\x1f\x8b\x08"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return false
}
