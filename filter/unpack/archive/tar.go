package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// tarReader is the state between the headers of a tar file: what extended
// headers said for the next member or for all.
type tarReader struct {
	x      *budget.Opener
	data   []byte
	pos    int
	names  []string // from pax and GNU headers, for the next member
	size   int64    // from pax, -1 if not given
	sparse bool
	seen   bool // a member was found
	end    int  // of the last member
	stale  bool // behind the end mark, in the last record: left by what was there before
}

// tarRecord is what tar writes at a time. It fills the last record up with
// whatever is in its memory, and stops at the end mark when it reads.
const tarRecord = 20 * filetype.TarBlock

// readTar gives the members of all tar files in data, one behind the other.
// The library shows one name of each; here a member has all that its headers
// give, and headers after the end mark count too.
func readTar(x *budget.Opener, data []byte) error {
	t := &tarReader{x: x, data: data, size: -1}
	sparse, ended := false, false
	for t.pos+filetype.TarBlock <= len(data) {
		block := data[t.pos : t.pos+filetype.TarBlock]
		if !filetype.TarChecksum(block) {
			if !ended && len(bytes.Trim(block, "\x00")) > 0 {
				x.Damage("tar: header is broken at offset %d", t.pos)
			}
			// the end mark, or a gap: look for the next header
			if !ended && len(bytes.Trim(block, "\x00")) == 0 {
				ended, t.stale = true, t.isLast()
			}
			t.pos += filetype.TarBlock
			continue
		}
		if ended && t.seen && !t.stale {
			x.Differ("tar: members after the end mark")
			ended = false
		}
		t.pos += filetype.TarBlock
		if err := t.header(block); err != nil {
			return err
		}
		sparse = sparse || t.sparse
		t.sparse, t.end = false, t.pos
	}
	if !t.seen {
		x.Damage("tar: no members")
	}
	if sparse {
		if err := readSparse(x, data); err != nil {
			return err
		}
	}
	if t.stale && t.end > 0 {
		return nil
	}
	return x.GiveTail(data[t.end:])
}

// isLast reports whether the two blocks of an end mark begin here, and what
// follows them fills up the last record and no more.
func (t *tarReader) isLast() bool {
	rest := t.data[t.pos:]
	return t.seen && len(t.data)%tarRecord == 0 && len(rest) <= tarRecord && len(rest) >= 2*filetype.TarBlock &&
		len(bytes.Trim(rest[:2*filetype.TarBlock], "\x00")) == 0
}

// header reads one member or extended header; t.pos is behind its block.
func (t *tarReader) header(block []byte) error {
	size, err := filetype.TarNumber(block[124:136])
	if err != nil || size < 0 {
		if !t.stale {
			t.x.Damage("tar: size is broken")
		}
		return nil
	}
	flag := block[156]
	if flag == 'x' || flag == 'g' || flag == 'X' || flag == 'L' || flag == 'K' {
		content, err := t.content(size)
		if err != nil {
			return err
		}
		switch flag {
		case 'L':
			t.names = filetype.AddName(t.names, filetype.TextName(bytes.TrimRight(content, "\x00")))
		case 'x', 'X', 'g':
			t.pax(content)
		}
		return nil
	}
	return t.member(block, flag, size)
}

// member gives one member.
func (t *tarReader) member(block []byte, flag byte, size int64) error {
	names := t.names
	own := filetype.CString(block[:100])
	if string(block[257:263]) == "ustar\x00" {
		if prefix := filetype.CString(block[345:500]); prefix != "" {
			names = filetype.AddName(names, prefix+"/"+own)
		}
	}
	names = filetype.AddName(names, own)
	if t.size >= 0 && t.size != size {
		t.x.Differ("tar: sizes of %q differ between headers", first(names))
		size = max(size, t.size)
	}
	t.names, t.size, t.seen = nil, -1, true
	m := budget.Member{Names: names, Size: size}
	switch flag {
	case '1', '2':
		m.Link = true
	case '3', '4', '6':
		m.Special = true
	case '5', 'D':
		m.Dir = true
	case 'S':
		t.sparse = true
		t.skipSparseMaps(block)
	}
	if flag == '3' || flag == '4' || flag == '5' || flag == '6' || flag == '2' {
		// some readers skip what the size says, others do not
		if size > 0 {
			t.x.Differ("tar: %q has content though it is no file", first(names))
			m.Dir, m.Link, m.Special = false, false, false
		}
	}
	if strings.HasSuffix(own, "/") && size == 0 {
		m.Dir = true
	}
	if m.Dir || m.Special || m.Link && size == 0 {
		return t.x.Give(m)
	}
	content, err := t.content(size)
	if err != nil {
		return err
	}
	return t.x.GiveStored(m, content)
}

// content returns the next size octets and moves to the block behind them.
func (t *tarReader) content(size int64) ([]byte, error) {
	rest := t.data[t.pos:]
	if size > int64(len(rest)) {
		if !t.stale {
			t.x.Damage("tar: cut in a member")
		}
		t.pos = len(t.data)
		return rest, nil
	}
	t.pos = min(len(t.data), t.pos+int((size+filetype.TarBlock-1)&^(filetype.TarBlock-1)))
	return rest[:size], t.x.Budget.Check()
}

// skipSparseMaps goes over the blocks that continue a GNU sparse header.
func (t *tarReader) skipSparseMaps(block []byte) {
	more := block[482] != 0
	for more && t.pos+filetype.TarBlock <= len(t.data) {
		more = t.data[t.pos+504] != 0
		t.pos += filetype.TarBlock
	}
}

// pax reads the records of an extended header: "length key=value\n". Every
// path counts, since readers take the first or the last.
func (t *tarReader) pax(b []byte) {
	for len(b) > 0 {
		digits, _, ok := bytes.Cut(b, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n <= len(digits)+1 || n > len(b) {
			t.x.Damage("tar: extended header is broken")
			return
		}
		record := strings.TrimSuffix(string(b[len(digits)+1:n]), "\n")
		b = b[n:]
		key, value, _ := strings.Cut(record, "=")
		switch key {
		case "path", "GNU.sparse.name":
			if len(t.names) > 0 && !slices.Contains(t.names, value) {
				t.x.Differ("tar: %q is also called %q", t.names[0], value)
			}
			t.names = filetype.AddName(t.names, filetype.TextName([]byte(value)))
		case "size":
			if size, err := strconv.ParseInt(value, 10, 63); err == nil {
				t.size = size
			}
		case "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks":
			t.sparse = true
		}
	}
}

// readSparse gives the sparse members once more, with their holes filled.
func readSparse(x *budget.Opener, data []byte) error {
	r := tar.NewReader(x.Input(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, pax := h.PAXRecords["GNU.sparse.major"]
		_, oldPax := h.PAXRecords["GNU.sparse.map"]
		if h.Typeflag != tar.TypeGNUSparse && !pax && !oldPax {
			continue
		}
		if err := x.GiveDecoded(budget.Member{Names: filetype.AddName(nil, h.Name)}, r, h.Size); err != nil {
			return err
		}
	}
}
