package archive

import (
	"bytes"
	"encoding/binary"
	"sort"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// A zip file (PKWARE APPNOTE) tells everything about a member twice: in the
// central directory at the end and in a local header before the data. Readers
// choose one or the other, look for the end record in different places and
// care in different degree for junk around the archive. This reader takes
// all of it: every end record with its directory, and every local header that
// no directory knows.

// zipMaxEnds bounds the end records that are followed.
const zipMaxEnds = 16

// zipMember is one local header offset with all that refers to it.
type zipMember struct {
	offset  int
	central []filetype.ZipHeader
}

// readZip lists and decodes data as a zip file.
func readZip(x *budget.Opener, data []byte) error {
	z := &zipReader{x: x, data: data}
	z.directories()
	if err := z.listed(); err != nil {
		return err
	}
	return z.unlisted()
}

type zipReader struct {
	x       *budget.Opener
	data    []byte
	members []zipMember // in directories, by offset
	index   map[int]int // offset -> members
	dirs    int         // directories with entries
	covered []zipSpan   // octets that belong to a member or a directory
	parsed  int         // entries of directories
	over    bool        // a directory was cut at the budget
}

// zipSpan is a half-open range of offsets.
type zipSpan struct{ from, to int }

// directories follows the end records from the last to the first, except those
// inside the members of a directory that was already read: they belong to a
// zip stored in this one.
func (z *zipReader) directories() {
	z.index = make(map[int]int)
	ends := 0
	for pos := len(z.data); ; {
		pos = bytes.LastIndex(z.data[:pos], []byte(filetype.ZipEnd))
		if pos < 0 {
			break
		}
		if z.over = z.over || z.x.Budget.Check() != nil; z.over {
			break
		}
		if pos+filetype.ZipEndLen > len(z.data) {
			z.x.Damage("zip: end record is cut")
			continue
		}
		if at, ok := z.inside(pos); ok {
			pos = at
			continue
		}
		if ends++; ends > zipMaxEnds {
			z.x.Damage("zip: more than %d end records", zipMaxEnds)
			break
		}
		z.directory(pos)
	}
	if ends == 0 {
		z.x.Damage("zip: no end record")
	}
	if z.dirs > 1 && z.alone() {
		z.x.Differ("zip has more than one central directory")
	}
	sort.Slice(z.members, func(i, j int) bool { return z.members[i].offset < z.members[j].offset })
}

// alone reports whether the file is meant as one zip. Other data, such as a
// document, may hold several, and then all of them are read.
func (z *zipReader) alone() bool { return bytes.HasPrefix(z.data, []byte("PK")) }

// inside reports whether pos lies in what directories have claimed so far, and
// where that begins.
func (z *zipReader) inside(pos int) (from int, ok bool) {
	for _, s := range z.covered {
		if s.from <= pos && pos < s.to {
			return s.from, true
		}
	}
	return 0, false
}

// directory reads the directory that the end record at pos points to. Where
// it is depends on the reader: at the offset given, or right before the end
// record if something was put before the archive.
func (z *zipReader) directory(pos int) {
	le := binary.LittleEndian
	end := z.data[pos:]
	count, size, offset := int64(le.Uint16(end[10:])), int64(le.Uint32(end[12:])), int64(le.Uint32(end[16:]))
	at := int64(pos)
	if p64 := z.end64(pos); p64 >= 0 {
		e := z.data[p64:]
		count, size, offset = int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:])), int64(le.Uint64(e[48:]))
		at = int64(p64)
	}
	if le.Uint16(end[4:]) != 0 && le.Uint16(end[4:]) != 0xffff {
		z.x.Damage("zip: part of a set of several files")
	}
	before, absolute := at-size, offset
	okBefore, okAbsolute := z.isCentral(before), z.isCentral(absolute)
	switch {
	case okBefore && okAbsolute && before != absolute:
		z.x.Differ("zip has two central directories")
		z.entries(before, before-offset, count)
		z.entries(absolute, 0, count)
	case okBefore:
		z.entries(before, before-offset, count)
	case okAbsolute:
		z.entries(absolute, 0, count)
	case count != 0 || size != 0:
		z.x.Damage("zip: central directory is not where the end record says")
	}
}

// end64 returns the offset of the zip64 end record for the end record at pos,
// or -1.
func (z *zipReader) end64(pos int) int {
	const lenLoc, lenEnd = 20, 56
	if pos < lenLoc || !bytes.HasPrefix(z.data[pos-lenLoc:], []byte(filetype.ZipLoc64)) {
		return -1
	}
	at := binary.LittleEndian.Uint64(z.data[pos-lenLoc+8:])
	if at <= uint64(pos) && z.has(int64(at), filetype.ZipEnd64) && int(at)+lenEnd <= len(z.data) {
		return int(at)
	}
	// something before the archive moves it
	if at := pos - lenLoc - lenEnd; at >= 0 && z.has(int64(at), filetype.ZipEnd64) {
		return at
	}
	z.x.Damage("zip: zip64 end record not found")
	return -1
}

func (z *zipReader) has(at int64, signature string) bool {
	return at >= 0 && at <= int64(len(z.data)-len(signature)) && string(z.data[at:at+4]) == signature
}

func (z *zipReader) isCentral(at int64) bool { return z.has(at, filetype.ZipCentral) }

// entries reads the central directory at at. Offsets in it are shift too low.
// It goes on as long as there are entries, whatever the count says.
func (z *zipReader) entries(at, shift, count int64) {
	start, n := int(at), int64(0)
	pos := start
	for z.isCentral(int64(pos)) {
		h, err := filetype.ParseZipCentral(z.data, pos)
		if err != nil {
			z.x.Damage("zip: central directory: %v", err)
			break
		}
		// entries for one place make one member, so both are counted
		if z.parsed++; len(z.members) > z.x.Budget.EntriesLeft() || z.parsed > zipMaxEnds*z.x.Budget.Limits().Entries {
			z.over = true
			break
		}
		if !z.has(h.Local+shift, filetype.ZipLocal) && z.has(h.Local, filetype.ZipLocal) {
			h.Local -= shift
		}
		h.Local += shift
		z.enter(h)
		pos = h.End
		n++
	}
	if n > 0 {
		z.dirs++
	}
	if n&0xffff != count&0xffff && !z.over {
		z.x.Differ("zip: directory has %d entries, its end record says %d", n, count)
	}
	z.covered = append(z.covered, zipSpan{start, pos})
}

// enter notes one entry of a directory. Entries without a local header are
// kept under negative offsets, each on its own.
func (z *zipReader) enter(h filetype.ZipHeader) {
	offset := -1 - len(z.members)
	if z.has(h.Local, filetype.ZipLocal) {
		offset = int(h.Local)
		end := h.Local + filetype.ZipLocalLen + h.Packed
		if local, err := filetype.ParseZipLocal(z.data, offset); err == nil {
			end = int64(local.End) + h.Packed
		}
		z.covered = append(z.covered, zipSpan{offset, int(min(end, int64(len(z.data))))})
	}
	if i, ok := z.index[offset]; ok {
		m := &z.members[i]
		if len(m.central) < 8 {
			m.central = append(m.central, h)
		}
		if !sameNames(m.central[0].Names, h.Names) {
			z.x.Differ("zip: two entries for one place: %q and %q", first(m.central[0].Names), first(h.Names))
		}
		return
	}
	z.index[offset] = len(z.members)
	z.members = append(z.members, zipMember{offset: offset, central: []filetype.ZipHeader{h}})
}

// listed gives the members of the directories and notes what they cover.
func (z *zipReader) listed() error {
	z.covered = z.covered[:0]
	last := 0
	for _, m := range z.members {
		if m.offset < 0 {
			z.x.Damage("zip: no local header for %q", first(m.central[0].Names))
			if err := z.x.Give(nameOnly(m.central[0])); err != nil {
				return err
			}
			continue
		}
		if m.offset < last {
			z.x.Differ("zip: members overlap")
		}
		end, err := z.member(m)
		if err != nil {
			return err
		}
		z.covered = append(z.covered, zipSpan{m.offset, end})
		last = max(last, end)
	}
	if z.over {
		return budget.ErrOverLimits
	}
	return nil
}

// unlisted gives the members that only their local headers know: there is no
// directory, or it hides them.
func (z *zipReader) unlisted() error {
	next := 0 // in covered, which is sorted by from
	for pos := 0; ; {
		i := bytes.Index(z.data[pos:], []byte(filetype.ZipLocal))
		if i < 0 {
			return nil
		}
		pos += i
		for next < len(z.covered) && z.covered[next].to <= pos {
			next++
		}
		if next < len(z.covered) && z.covered[next].from <= pos {
			pos = z.covered[next].to
			continue
		}
		if _, err := filetype.ParseZipLocal(z.data, pos); err != nil {
			pos += 4
			continue
		}
		if z.dirs > 0 && z.alone() {
			z.x.Differ("zip: a member is not in the central directory")
		}
		end, err := z.member(zipMember{offset: pos})
		if err != nil {
			return err
		}
		pos = max(end, pos+4)
	}
}

// nameOnly is a member of which there is only a directory entry.
func nameOnly(h filetype.ZipHeader) budget.Member {
	return budget.Member{Names: h.Names, Size: h.Size, Encrypted: h.Flags&filetype.ZipFlagEncrypted != 0, Note: "no data in the archive"}
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func sameNames(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
