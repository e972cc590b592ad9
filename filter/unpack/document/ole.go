package document

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode/utf16"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// A compound file ([MS-CFB]) is a small file system: Office documents, Outlook
// messages and installers are kept in it. Of its streams only those are given
// that can be a file of their own.

const (
	cfbFree    = 0xfffffffa // and above: no sector
	cfbEntry   = 128
	cfbMaxDirs = 1 << 14
)

type cfbReader struct {
	x       *budget.Opener
	data    []byte
	shift   uint
	fat     []uint32
	mini    []uint32
	ministr []byte
	cutoff  int64
	entries []cfbStream
}

type cfbStream struct {
	name               string
	kind               byte // 1 storage, 2 stream, 5 root
	left, right, child uint32
	start              uint32
	size               int64
	parent             int
}

// readOLE gives what is embedded in or attached to a compound file.
func readOLE(x *budget.Opener, data []byte) error {
	if !bytes.HasPrefix(data, filetype.OLEMagic) {
		return nil // an office document in a zip
	}
	r := &cfbReader{x: x, data: data}
	if err := r.open(); err != nil {
		return err
	}
	for i, e := range r.entries {
		if e.kind == 1 && (strings.EqualFold(e.name, "VBA") || e.name == "_VBA_PROJECT_CUR") {
			// named only: scanners look for macros in the document itself
			if err := x.Give(budget.Member{Names: []string{e.name}, Dir: true, Note: "macros"}); err != nil {
				return err
			}
		}
		if e.kind != 2 {
			continue
		}
		if err := r.stream(i, e); err != nil {
			return err
		}
	}
	return nil
}

// open reads header, allocation tables and directory.
func (r *cfbReader) open() error {
	le := binary.LittleEndian
	d := r.data
	if len(d) < 512 {
		return codec.ErrDamaged
	}
	r.shift = uint(le.Uint16(d[30:]))
	if r.shift != 9 && r.shift != 12 || le.Uint16(d[32:]) != 6 {
		return codec.ErrDamaged
	}
	r.cutoff = int64(le.Uint32(d[56:]))
	var sectors []uint32
	for i := range 109 {
		sectors = append(sectors, le.Uint32(d[76+4*i:]))
	}
	per := 1<<r.shift/4 - 1
	for next, n := le.Uint32(d[68:]), 0; next < cfbFree; n++ {
		s := r.sector(next)
		if len(s) < 1<<r.shift || n > len(d)>>r.shift {
			return codec.ErrDamaged
		}
		for i := range per {
			sectors = append(sectors, le.Uint32(s[4*i:]))
		}
		next = le.Uint32(s[4*per:])
	}
	for _, id := range sectors {
		s := r.sector(id)
		for i := 0; i+3 < len(s) && len(r.fat) <= len(d)>>r.shift+per+1; i += 4 {
			r.fat = append(r.fat, le.Uint32(s[i:]))
		}
	}
	dirs, err := r.chain(le.Uint32(d[48:]), -1)
	if err != nil {
		return err
	}
	if err := r.directory(dirs); err != nil {
		return err
	}
	table, err := r.chain(le.Uint32(d[60:]), -1)
	if err != nil {
		return err
	}
	for i := 0; i+3 < len(table); i += 4 {
		r.mini = append(r.mini, le.Uint32(table[i:]))
	}
	r.ministr, err = r.chain(r.entries[0].start, r.entries[0].size)
	return err
}

func (r *cfbReader) sector(id uint32) []byte {
	at := (int64(id) + 1) << r.shift
	if id >= cfbFree || at >= int64(len(r.data)) {
		return nil
	}
	return r.data[at:min(at+1<<r.shift, int64(len(r.data)))]
}

// chain returns the octets of a chain of sectors, size of them if it is not -1.
func (r *cfbReader) chain(id uint32, size int64) ([]byte, error) {
	var out []byte
	for id < cfbFree && (size < 0 || int64(len(out)) < size) {
		s := r.sector(id)
		if s == nil || int64(id) >= int64(len(r.fat)) || len(out) > len(r.data) {
			return out, codec.ErrDamaged
		}
		if err := r.x.Budget.Take(int64(len(s))); err != nil {
			return out, err
		}
		out = append(out, s...)
		id = r.fat[id]
	}
	if size >= 0 && int64(len(out)) > size {
		out = out[:size]
	}
	return out, nil
}

// content returns the octets of a stream.
func (r *cfbReader) content(e cfbStream) ([]byte, error) {
	if e.size >= r.cutoff {
		return r.chain(e.start, e.size)
	}
	if err := r.x.Budget.Take(min(e.size, int64(len(r.ministr)))); err != nil {
		return nil, err
	}
	var out []byte
	const length = 64
	for id := e.start; id < cfbFree && int64(len(out)) < e.size; id = r.mini[id] {
		at := int64(id) * length
		if int64(id) >= int64(len(r.mini)) || at >= int64(len(r.ministr)) || len(out) > len(r.ministr) {
			return out, codec.ErrDamaged
		}
		out = append(out, r.ministr[at:min(at+length, int64(len(r.ministr)))]...)
	}
	return out[:min(e.size, int64(len(out)))], nil
}

// directory parses all entries and tells each its storage.
func (r *cfbReader) directory(b []byte) error {
	le := binary.LittleEndian
	for ; len(b) >= cfbEntry && len(r.entries) < cfbMaxDirs; b = b[cfbEntry:] {
		n := min(int(le.Uint16(b[64:])), 64)
		units := make([]uint16, 0, 32)
		for i := 0; i+3 < n; i += 2 {
			units = append(units, le.Uint16(b[i:]))
		}
		r.entries = append(r.entries, cfbStream{
			name: string(utf16.Decode(units)), kind: b[66], left: le.Uint32(b[68:]), right: le.Uint32(b[72:]), child: le.Uint32(b[76:]),
			start: le.Uint32(b[116:]), size: int64(le.Uint32(b[120:])), parent: -1,
		})
	}
	if len(r.entries) == 0 || r.entries[0].kind != 5 {
		return codec.ErrDamaged
	}
	type place struct {
		id     uint32
		parent int
	}
	todo := []place{{r.entries[0].child, 0}}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if int64(p.id) >= int64(len(r.entries)) || r.entries[p.id].parent >= 0 || p.id == 0 {
			continue
		}
		e := &r.entries[p.id]
		e.parent = p.parent
		todo = append(todo, place{e.left, p.parent}, place{e.right, p.parent}, place{e.child, int(p.id)})
	}
	return nil
}

// stream gives one stream if it is worth it.
func (r *cfbReader) stream(i int, e cfbStream) error {
	switch {
	case e.name == "EncryptedPackage":
		r.x.NoteEncrypted()
		return r.x.Give(budget.Member{Names: []string{e.name}, Size: e.size, Encrypted: true})
	case strings.HasPrefix(e.name, "__substg1.0_3701"): // PidTagAttachDataBinary
		return r.give(budget.Member{Names: r.attachmentNames(e.parent), Note: "attachment"}, e)
	case strings.HasPrefix(e.name, "__substg1.0_"), e.size < 16:
		return nil
	}
	content, err := r.content(e)
	if errors.Is(err, budget.ErrOverLimits) {
		return err
	}
	if err != nil {
		r.x.Fail("ole: "+e.name, err)
	}
	if locked(e.name, content) {
		r.x.NoteEncrypted()
		return r.x.Give(budget.Member{Names: []string{e.name}, Size: e.size, Encrypted: true})
	}
	switch e.name {
	case "PowerPoint Document":
		return slides(r.x, content)
	case "\x01Ole10Native":
		return givePackage(r.x, content, 4)
	}
	if isWorkbook(e.name, content) || !worthGiving(content) && e.name != "Package" {
		return nil
	}
	return r.x.GiveStored(budget.Member{Names: filetype.AddName(nil, msiName(e.name)), Note: "stream"}, content)
}

// msiName turns the name of a stream of an installer into what was meant: there
// one code unit stands for one or two characters of a set of 64. Other names
// stay as they are.
func msiName(name string) string {
	const set = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
	var b strings.Builder
	for _, c := range name {
		switch {
		case c >= 0x3800 && c < 0x4800:
			b.WriteByte(set[(c-0x3800)&63])
			b.WriteByte(set[(c-0x3800)>>6])
		case c >= 0x4800 && c < 0x4840:
			b.WriteByte(set[c-0x4800])
		case c == 0x4840: // a table
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// isWorkbook reports whether a stream is what a workbook is named for, records
// from BOF on ([MS-XLS] section 2.4.21). It has its theme and its drawings in
// zips that are cut into records, and none of them is a file that anybody gets
// at.
func isWorkbook(name string, b []byte) bool {
	return (name == "Workbook" || name == "Book") && len(b) > 4 && b[0] == 9 && b[1] <= 8
}

// locked reports whether the main stream of a document is encrypted: fEncrypted
// in the FIB of Word ([MS-DOC] section 2.5.2), FILEPASS after BOF in a workbook
// ([MS-XLS] section 2.4.117).
func locked(name string, b []byte) bool {
	switch name {
	case "WordDocument":
		return len(b) > 11 && b[11]&1 != 0
	case "Workbook", "Book":
		for n := 0; n < 8 && len(b) >= 4; n++ {
			if binary.LittleEndian.Uint16(b) == 0x2f {
				return true
			}
			b = b[min(len(b), 4+int(binary.LittleEndian.Uint16(b[2:]))):]
		}
	}
	return false
}

func (r *cfbReader) give(m budget.Member, e cfbStream) error {
	content, err := r.content(e)
	if errors.Is(err, budget.ErrOverLimits) {
		return err
	}
	if err != nil {
		r.x.Fail("ole: attachment", err)
	}
	return r.x.GiveStored(m, content)
}

// attachmentNames collects the file names in an attachment of a message.
func (r *cfbReader) attachmentNames(parent int) (names []string) {
	for _, e := range r.entries {
		if e.parent != parent || e.size > 2*filetype.MaxName || !strings.HasPrefix(e.name, "__substg1.0_") {
			continue
		}
		tag, kind := e.name[12:min(16, len(e.name))], e.name[min(16, len(e.name)):]
		if tag != "3707" && tag != "3704" && tag != "3001" { // long and short file name, display name
			continue
		}
		b, err := r.content(e)
		if err != nil {
			continue
		}
		if kind == "001F" {
			units := make([]uint16, 0, len(b)/2)
			for i := 0; i+1 < len(b); i += 2 {
				units = append(units, binary.LittleEndian.Uint16(b[i:]))
			}
			b = []byte(string(utf16.Decode(units)))
		}
		names = filetype.AddName(names, filetype.TextName(bytes.TrimRight(b, "\x00")))
	}
	return names
}

// worthGiving reports whether a stream inside a document is a file by itself.
func worthGiving(content []byte) bool {
	short, _ := filetype.Of(content, nil)
	if filetype.IsContainer(short) {
		return true
	}
	switch short[len(short)-1] {
	case "exe-ms", "exe-unix", "dll", "lnk", "pdf", "rtf", "swf", "html", "hta", "wsf", "one", "chm":
		return true
	}
	return false
}

// givePackage gives the file in an OLE 1 "Package": flags, label, path, two
// numbers, path of the temporary file, and the content with its length before
// it. The first skip octets are the length of the whole.
func givePackage(x *budget.Opener, b []byte, skip int) error {
	whole := b
	text := func() (string, bool) {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i > filetype.MaxName {
			return "", false
		}
		s := filetype.TextName(b[:i])
		b = b[i+1:]
		return s, true
	}
	number := func() (int64, bool) {
		if len(b) < 4 {
			return 0, false
		}
		n := int64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		return n, true
	}
	b = b[min(len(b), skip+2):]
	label, ok1 := text()
	path, ok2 := text()
	_, ok3 := number()
	_, ok4 := number()
	temp, ok5 := text()
	size, ok6 := number()
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || size > int64(len(b)) {
		// not a package but the data of some other program
		if worthGiving(whole[min(len(whole), skip):]) {
			return x.GiveStored(budget.Member{Note: "embedded object"}, whole[min(len(whole), skip):])
		}
		return nil
	}
	return x.GiveStored(budget.Member{Names: filetype.AddName(filetype.AddName(filetype.AddName(nil, label), path), temp), Note: "embedded file"}, b[:size])
}

// slides gives the objects in a PowerPoint stream: records ExOleObjStg
// ([MS-PPT] 2.10.34), compressed or not.
func slides(x *budget.Opener, b []byte) error {
	const header, object = 8, 0x1011
	le := binary.LittleEndian
	for len(b) >= header {
		instance, kind := le.Uint16(b)>>4, le.Uint16(b[2:])
		n := min(int64(le.Uint32(b[4:])), int64(len(b)-header))
		content := b[header : header+n]
		b = b[header+n:]
		if kind != object {
			continue
		}
		m := budget.Member{Note: "embedded object"}
		var err error
		if instance == 0 || len(content) < 4 {
			err = x.GiveStored(m, content)
		} else if r, zerr := zlib.NewReader(x.Input(content[4:])); zerr != nil {
			x.Fail("ppt", zerr)
		} else {
			// the stream may lack its end: PowerPoint takes as much as the record says
			size := int64(le.Uint32(content))
			err = x.GiveDecoded(m, &mayEnd{r, size}, size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayEnd is a stream that may end in its middle once n octets of it are there.
type mayEnd struct {
	r io.Reader
	n int64
}

func (a *mayEnd) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if a.n -= int64(n); a.n <= 0 && err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
