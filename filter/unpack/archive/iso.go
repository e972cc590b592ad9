package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

const (
	isoSector  = 2048
	isoPerFile = 16 // directory records for one file: names, trees, extents
)

// isoFile is one extent with the names it has in all directory trees.
type isoFile struct {
	names []string
	at    int64
	size  int64
	trees int // bits of the trees that have it
	dir   bool
	link  bool
	more  bool // goes on in the next record
}

// isoReader reads the directory trees of an ISO 9660 image: the primary one
// with Rock Ridge names, and that of Joliet. Readers show one of them.
type isoReader struct {
	x     *budget.Opener
	data  []byte
	files []isoFile
	index map[int64]int // extent -> files
	seen  map[int64]bool
	err   error

	records int
}

// readISO gives the files of an ISO 9660 image, also of one with raw sectors.
func readISO(x *budget.Opener, data []byte) error {
	data, err := cooked(x, data)
	if err != nil {
		return err
	}
	r := &isoReader{x: x, data: data, index: make(map[int64]int)}
	trees := 0
	udf := false
descriptors:
	for at := 16 * isoSector; ; at += isoSector {
		if at+isoSector > len(data) {
			x.Damage("iso: volume descriptors are cut")
			break
		}
		d := data[at : at+isoSector]
		switch id := string(d[1:6]); {
		case id == "CD001" && (d[0] == 1 || d[0] == 2):
			joliet := d[0] == 2 && d[88] == '%' && d[89] == '/'
			r.seen = make(map[int64]bool)
			r.directory(d[156:190], "", joliet, 1<<trees, 0)
			trees++
		case id == "BEA01", id == "TEA01", id == "NSR02", id == "NSR03", id == "BOOT2":
			udf = udf || id[:3] == "NSR"
		case id == "CD001":
		default:
			break descriptors
		}
		if trees > 8 {
			return codec.ErrDamaged
		}
	}
	if udf || trees == 0 {
		x.Damage("iso: the UDF tree is not read")
	}
	if err := r.give(1<<trees - 1); err != nil {
		return err
	}
	return r.err
}

// cooked returns the image with sectors of 2048 octets.
func cooked(x *budget.Opener, data []byte) ([]byte, error) {
	const raw = 2352
	if len(data) >= 17*raw && bytes.HasPrefix(data, []byte("\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00")) {
		head := 16
		if data[15] == 2 { // mode 2 with its subheader
			head = 24
		}
		size := len(data) / raw * isoSector
		if err := x.Budget.Take(int64(size)); err != nil {
			return nil, err
		}
		out := make([]byte, 0, size)
		for ; len(data) >= raw; data = data[raw:] {
			out = append(out, data[head:head+isoSector]...)
		}
		return out, nil
	}
	return data, nil
}

// extent returns the octets of an extent, and whether all are there.
func (r *isoReader) extent(at, size int64) ([]byte, bool) {
	end := at + size
	if size == 0 {
		return nil, true
	}
	if at > int64(len(r.data)) {
		return nil, false
	}
	return r.data[at:min(end, int64(len(r.data)))], end <= int64(len(r.data))
}

// directory walks the directory of a record.
func (r *isoReader) directory(record []byte, path string, joliet bool, tree, depth int) {
	const maxDepth = 64
	at, size := isoExtent(record)
	if r.seen[at] || depth > maxDepth || r.err != nil {
		return
	}
	r.seen[at] = true
	content, whole := r.extent(at, size)
	if !whole {
		r.x.Damage("iso: directory is cut")
	}
	for len(content) > 0 {
		n := int(content[0])
		if n == 0 { // records do not cross sectors
			pad := min(isoSector-(int(size)-len(content))%isoSector, len(content))
			content = content[pad:]
			continue
		}
		if n < 34 || n > len(content) || 33+int(content[32]) > n {
			r.x.Damage("iso: directory record is broken")
			return
		}
		rec := content[:n]
		content = content[n:]
		if name := rec[33 : 33+rec[32]]; len(name) == 1 && name[0] <= 1 { // itself, its parent
			continue
		}
		if r.records++; len(r.files) > r.x.Budget.EntriesLeft() || r.records > isoPerFile*r.x.Budget.Limits().Entries {
			r.err = budget.ErrOverLimits
			return
		}
		r.record(rec, path, joliet, tree, depth)
	}
}

func isoExtent(record []byte) (at, size int64) {
	le := binary.LittleEndian
	at = (int64(le.Uint32(record[2:])) + int64(record[1])) * isoSector
	return at, int64(le.Uint32(record[10:]))
}

// record notes one file and goes into a directory.
func (r *isoReader) record(rec []byte, path string, joliet bool, tree, depth int) {
	names, link := isoNames(rec, joliet)
	for i := range names {
		names[i] = path + names[i]
	}
	at, size := isoExtent(rec)
	f := isoFile{names: names, at: at, size: size, trees: tree, link: link, dir: rec[25]&2 != 0, more: rec[25]&0x80 != 0}
	if f.dir {
		r.note(f)
		r.directory(rec, first(names)+"/", joliet, tree, depth+1)
		return
	}
	r.note(f)
}

// note adds f, or its names to the file that has the same extent. Files
// without content share places, so they are kept apart.
func (r *isoReader) note(f isoFile) {
	i, ok := r.index[f.at]
	if !ok || f.size == 0 || f.dir != r.files[i].dir {
		r.index[f.at] = len(r.files)
		r.files = append(r.files, f)
		return
	}
	have := &r.files[i]
	for _, n := range f.names {
		have.names = filetype.AddName(have.names, n)
	}
	if have.size != f.size && !f.dir {
		r.x.Differ("iso: two sizes of %q", first(have.names))
		have.size = max(have.size, f.size)
	}
	have.trees |= f.trees
}

// isoNames returns the names of a record: that of its tree, and the one of
// Rock Ridge in the system use area.
func isoNames(rec []byte, joliet bool) (names []string, link bool) {
	n := int(rec[32])
	raw := rec[33 : 33+n]
	name := ""
	if joliet {
		units := make([]uint16, 0, n/2)
		for i := 0; i+1 < n; i += 2 {
			units = append(units, binary.BigEndian.Uint16(raw[i:]))
		}
		name = string(utf16.Decode(units))
	} else {
		name = filetype.TextName(raw)
	}
	if i := strings.LastIndexByte(name, ';'); i > 0 { // version number
		name = name[:i]
	}
	area := rec[33+n:]
	if n%2 == 0 {
		area = area[min(1, len(area)):]
	}
	rock := ""
	for len(area) >= 4 && int(area[2]) >= 4 && int(area[2]) <= len(area) {
		field := area[:area[2]]
		area = area[len(field):]
		switch string(field[:2]) {
		case "NM":
			if len(field) > 5 {
				rock += filetype.TextName(field[5:])
			}
		case "SL":
			link = true
		}
	}
	names = filetype.AddName(nil, rock)
	return filetype.AddName(names, name), link
}

// give hands over the files. all has the bits of all trees.
func (r *isoReader) give(all int) error {
	for i := 0; i < len(r.files); i++ {
		f := r.files[i]
		m := budget.Member{Names: f.names, Size: f.size, Dir: f.dir, Link: f.link}
		if f.trees != all && !f.dir && f.size > 0 {
			r.x.Differ("iso: %q is not in every directory tree", first(f.names))
		}
		if f.dir || f.link && f.size == 0 {
			if err := r.x.Give(m); err != nil {
				return err
			}
			continue
		}
		size := f.size
		for f.more && i+1 < len(r.files) && r.files[i+1].at == f.at+(size+isoSector-1)/isoSector*isoSector {
			i++ // a file of several extents, which lie one behind the other
			size += r.files[i].size
			f.more = r.files[i].more
		}
		content, whole := r.extent(f.at, size)
		if !whole {
			m.Note = io.ErrUnexpectedEOF.Error()
			r.x.Fail(fmt.Sprintf("iso: %q", first(f.names)), io.ErrUnexpectedEOF)
		}
		if err := r.x.GiveStored(m, content); err != nil {
			return err
		}
	}
	return nil
}
