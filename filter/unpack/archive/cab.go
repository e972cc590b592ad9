package archive

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// The layout is that of [MS-CAB]. A folder is one compressed stream that holds
// several files; it is decoded as a whole and the files are cut out of it.

const (
	cabStored = 0
	cabMSZip  = 1
	cabLZX    = 3
	cabHeader = 36
)

type cabFolder struct {
	at     int // of the first data block
	blocks int
	method uint16
	files  []cabFile
	end    int64 // of the last file in the decoded folder
}

type cabFile struct {
	name   []byte
	size   int64
	offset int64
	utf8   bool
}

// readCab gives the files of a cabinet.
func readCab(x *budget.Opener, data []byte) error {
	if !bytes.HasPrefix(data, []byte("MSCF")) {
		return x.Inside(data, "cab")
	}
	c := &cabReader{x: x, data: data}
	if err := c.parse(); err != nil {
		x.Damage("cab: %v", err)
	}
	for _, f := range c.folders {
		if err := c.folder(f); err != nil {
			return err
		}
	}
	if c.size > len(data) || c.size < cabHeader {
		return io.ErrUnexpectedEOF
	}
	return x.GiveTail(data[c.size:])
}

type cabReader struct {
	x       *budget.Opener
	data    []byte
	size    int // of the cabinet
	reserve int // octets before the content of a data block
	folders []cabFolder
}

// parse reads headers, folders and files. Those before an error stay.
func (c *cabReader) parse() error {
	le := binary.LittleEndian
	const header = cabHeader
	d := c.data
	if len(d) < header {
		return io.ErrUnexpectedEOF
	}
	c.size = int(le.Uint32(d[8:]))
	filesAt, folders, files, flags := int(le.Uint32(d[16:])), int(le.Uint16(d[26:])), int(le.Uint16(d[28:])), le.Uint16(d[30:])
	pos, folderReserve := header, 0
	if flags&4 != 0 {
		if len(d) < header+4 {
			return io.ErrUnexpectedEOF
		}
		folderReserve, c.reserve = int(d[38]), int(d[39])
		pos += 4 + int(le.Uint16(d[36:]))
	}
	for _, bit := range []uint16{1, 1, 2, 2} { // names of the neighbours in a set
		if flags&bit == 0 {
			continue
		}
		c.x.Damage("cab: part of a set of several files")
		i := bytes.IndexByte(d[min(pos, len(d)):], 0)
		if i < 0 {
			return io.ErrUnexpectedEOF
		}
		pos += i + 1
	}
	for range folders {
		if pos+8 > len(d) {
			return io.ErrUnexpectedEOF
		}
		c.folders = append(c.folders, cabFolder{at: int(le.Uint32(d[pos:])), blocks: int(le.Uint16(d[pos+4:])), method: le.Uint16(d[pos+6:])})
		pos += 8 + folderReserve
	}
	if files == 0 {
		return errors.New("no files")
	}
	return c.parseFiles(filesAt, files)
}

func (c *cabReader) parseFiles(pos, files int) error {
	le := binary.LittleEndian
	for range files {
		if pos+17 > len(c.data) {
			return io.ErrUnexpectedEOF
		}
		b := c.data[pos:]
		n := bytes.IndexByte(b[16:], 0)
		if n < 0 || n > filetype.MaxName {
			return codec.ErrDamaged
		}
		i := int(le.Uint16(b[8:]))
		if i >= 0xfffd && len(c.folders) > 0 { // goes on in, or comes from, another cabinet
			c.x.Damage("cab: member in several files")
			i = map[int]int{0xfffd: 0, 0xfffe: len(c.folders) - 1, 0xffff: 0}[i]
		}
		if i >= len(c.folders) {
			return codec.ErrDamaged
		}
		f := cabFile{name: b[16 : 16+n], size: int64(le.Uint32(b)), offset: int64(le.Uint32(b[4:])), utf8: le.Uint16(b[14:])&0x80 != 0}
		c.folders[i].files = append(c.folders[i].files, f)
		c.folders[i].end = max(c.folders[i].end, f.offset+f.size)
		pos += 17 + n
	}
	return nil
}

// folder decodes one folder and gives its files.
func (c *cabReader) folder(f cabFolder) error {
	content, fail := c.content(f)
	if fail != nil {
		c.x.Fail("cab", fail)
	}
	claimed := 0
	for _, file := range f.files {
		m := budget.Member{Names: filetype.AddName(nil, filetype.TextName(file.name)), Size: file.size}
		if fail != nil {
			m.Note = fail.Error()
		}
		if file.offset < int64(len(content)) {
			end := min(file.offset+file.size, int64(len(content)))
			m.Data = content[file.offset:end:end]
		}
		claimed += len(m.Data)
		if err := c.x.Pay(len(m.Data), claimed, len(content)); err != nil {
			return err
		}
		if m.Data == nil && file.size == 0 {
			m.Data = []byte{}
		}
		if err := c.x.Give(m); err != nil {
			return err
		}
	}
	if errors.Is(fail, budget.ErrOverLimits) {
		return fail
	}
	return nil
}

// content decodes the data blocks of f.
func (c *cabReader) content(f cabFolder) ([]byte, error) {
	var r io.Reader
	blocks := &cabBlocks{c: c, pos: f.at, left: f.blocks}
	switch f.method & 15 {
	case cabStored:
		r = &cabStream{next: func() ([]byte, error) {
			b, _, err := blocks.next()
			return b, err
		}}
	case cabMSZip:
		r = &cabStream{next: (&mszip{blocks: blocks}).next}
	case cabLZX:
		lzx, err := codec.NewLZX(int(f.method >> 8 & 31))
		if err != nil {
			return nil, err
		}
		r = &cabStream{next: func() ([]byte, error) {
			b, size, err := blocks.next()
			if err != nil {
				return nil, err
			}
			return lzx.Frame(b, size)
		}}
	default:
		return nil, fmt.Errorf("compression %d: %w", f.method&15, codec.ErrUnsupported)
	}
	// what no file claims is not decoded
	data, err := c.x.Decode(io.LimitReader(r, f.end), f.end)
	if err == nil && int64(len(data)) < f.end {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

// cabBlocks goes through the data blocks of a folder.
type cabBlocks struct {
	c         *cabReader
	pos, left int
}

// next returns the content of a block and what it decodes to in size.
func (b *cabBlocks) next() (content []byte, size int, err error) {
	const header = 8
	if b.left == 0 {
		return nil, 0, io.EOF
	}
	b.left--
	d := b.c.data
	if b.pos < 0 || b.pos+header > len(d) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	n, size := int(binary.LittleEndian.Uint16(d[b.pos+4:])), int(binary.LittleEndian.Uint16(d[b.pos+6:]))
	b.pos += header + b.c.reserve
	if b.pos+n > len(d) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	content = d[b.pos : b.pos+n]
	b.pos += n
	return content, size, nil
}

// cabStream is the decoded blocks one behind the other.
type cabStream struct {
	next func() ([]byte, error)
	rest []byte
}

func (s *cabStream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		var err error
		if s.rest, err = s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// mszip decodes blocks of Deflate, each with the one before as dictionary
// ([MS-MCI]).
type mszip struct {
	blocks *cabBlocks
	r      io.ReadCloser
	out    [2][32 << 10]byte
	turn   int
	last   []byte
}

func (z *mszip) next() ([]byte, error) {
	b, size, err := z.blocks.next()
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte("CK")) || size > len(z.out[0]) {
		return nil, codec.ErrDamaged
	}
	in := bytes.NewReader(b[2:])
	if z.r == nil {
		z.r = flate.NewReader(in)
	} else if err := z.r.(flate.Resetter).Reset(in, z.last); err != nil {
		return nil, err
	}
	z.turn = 1 - z.turn
	out := z.out[z.turn][:size]
	n, err := io.ReadFull(z.r, out)
	z.last = out[:n]
	if err != nil && n > 0 {
		return z.last, nil // the next block fails, or the size does
	}
	return z.last, err
}
