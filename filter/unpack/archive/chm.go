package archive

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// chmReader reads compiled HTML help: a directory of names, and two sections
// of content, the second one packed with LZX.
type chmReader struct {
	data    []byte
	content int64 // offset of section 0
	entries []chmEntry
}

type chmEntry struct {
	name         string
	packed       bool
	offset, size int64
}

// readCHM gives the files of a help file.
func readCHM(x *budget.Opener, data []byte) error {
	r := &chmReader{data: data}
	if err := r.directory(x.Budget.EntriesLeft() + 16); err != nil {
		return err
	}
	plain, err := r.unpack(x)
	if err != nil {
		x.Fail("chm", err)
	}
	claimed := 0
	for _, e := range r.entries {
		if strings.HasPrefix(e.name, "::") || strings.HasSuffix(e.name, "/") || e.size == 0 {
			continue
		}
		m := budget.Member{Names: []string{e.name}, Size: e.size}
		section := plain
		if !e.packed {
			section = data[min(r.content, int64(len(data))):]
		}
		if e.offset < int64(len(section)) {
			m.Data = section[e.offset:min(e.offset+e.size, int64(len(section)))]
		}
		claimed += len(m.Data)
		if err := x.Pay(len(m.Data), claimed, len(plain)); err != nil {
			return err
		}
		if int64(len(m.Data)) < e.size {
			m.Note = io.ErrUnexpectedEOF.Error()
			x.Damage("chm: %q is cut", e.name)
		}
		if err := x.Give(m); err != nil {
			return err
		}
	}
	return nil
}

// directory reads the listing chunks.
func (r *chmReader) directory(limit int) error {
	le := binary.LittleEndian
	d := r.data
	if len(d) < 0x60 {
		return codec.ErrDamaged
	}
	at := le.Uint64(d[0x48:])
	r.content = int64(le.Uint64(d[0x58:]) & (1<<62 - 1))
	if le.Uint32(d[4:]) < 3 || at > uint64(len(d)-0x54) || !bytes.HasPrefix(d[at:], []byte("ITSP")) {
		return codec.ErrDamaged
	}
	head := d[at:]
	length, chunk := int64(le.Uint32(head[8:])), int64(le.Uint32(head[16:]))
	if chunk < 64 || length > int64(len(head)) {
		return codec.ErrDamaged
	}
	for b := head[length:]; int64(len(b)) >= chunk; b = b[chunk:] {
		if !bytes.HasPrefix(b, []byte("PMGL")) {
			if !bytes.HasPrefix(b, []byte("PMGI")) {
				break
			}
			continue
		}
		free := int64(le.Uint32(b[4:]))
		if free > chunk-20 {
			return codec.ErrDamaged
		}
		for list := b[20 : chunk-free]; len(list) > 0; {
			if len(r.entries) >= limit {
				return budget.ErrOverLimits
			}
			var e chmEntry
			var ok bool
			if e, list, ok = parseCHMEntry(list); !ok {
				return codec.ErrDamaged
			}
			r.entries = append(r.entries, e)
		}
	}
	if len(r.entries) == 0 {
		return codec.ErrDamaged
	}
	return nil
}

func parseCHMEntry(b []byte) (e chmEntry, rest []byte, ok bool) {
	number := func() (v int64) {
		for i := 0; i < len(b) && i < 8; i++ {
			v = v<<7 | int64(b[i]&0x7f)
			if b[i] < 0x80 {
				b = b[i+1:]
				return v
			}
		}
		b = nil
		return -1
	}
	n := number()
	if n < 0 || n > int64(len(b)) {
		return e, nil, false
	}
	e.name = filetype.TextName(b[:n])
	b = b[n:]
	section := number()
	e.packed = section == 1
	e.offset, e.size = number(), number()
	return e, b, section >= 0 && section <= 1 && e.offset >= 0 && e.size >= 0
}

// stored returns an entry of section 0 by its name.
func (r *chmReader) stored(name string) []byte {
	for _, e := range r.entries {
		at := r.content + e.offset
		if strings.HasSuffix(e.name, name) && !e.packed && at <= int64(len(r.data)) && e.size <= int64(len(r.data))-at {
			return r.data[at : at+e.size]
		}
	}
	return nil
}

// unpack decodes the packed section. The reset table tells where each frame
// begins, the control data after how many of them the decoder starts anew.
func (r *chmReader) unpack(x *budget.Opener) ([]byte, error) {
	le := binary.LittleEndian
	packed, control, table := r.stored("MSCompressed/Content"), r.stored("MSCompressed/ControlData"), r.stored("/ResetTable")
	if packed == nil {
		return nil, nil // nothing is packed
	}
	if len(control) < 24 || len(table) < 40 || string(control[4:8]) != "LZXC" {
		return nil, codec.ErrDamaged
	}
	interval, window := int64(le.Uint32(control[12:])), int64(le.Uint32(control[16:]))
	if le.Uint32(control[8:]) == 2 {
		interval, window = interval*codec.LZXFrame, window*codec.LZXFrame
	}
	frames, size := table[min(int64(le.Uint32(table[12:])), int64(len(table))):], int64(le.Uint64(table[16:])&(1<<62-1))
	windowBits := 15
	for int64(1)<<windowBits < window && windowBits < 22 {
		windowBits++
	}
	if interval < codec.LZXFrame || le.Uint64(table[32:]) != codec.LZXFrame {
		return nil, codec.ErrUnsupported
	}
	frame := int64(0)
	var z *codec.LZX
	next := func() ([]byte, error) {
		left := size - frame*codec.LZXFrame
		if left <= 0 {
			return nil, io.EOF
		}
		if frame%(interval/codec.LZXFrame) == 0 {
			if err := x.Budget.Check(); err != nil {
				return nil, err
			}
			var err error
			if z, err = codec.NewLZX(windowBits); err != nil {
				return nil, err
			}
		}
		if int64(len(frames)) < 8*(frame+1) {
			return nil, io.ErrUnexpectedEOF
		}
		from, to := le.Uint64(frames[8*frame:]), uint64(len(packed))
		if int64(len(frames)) >= 8*(frame+2) {
			to = le.Uint64(frames[8*frame+8:])
		}
		if from > to || to > uint64(len(packed)) {
			return nil, codec.ErrDamaged
		}
		frame++
		return z.Frame(packed[from:to], int(min(left, codec.LZXFrame)))
	}
	return x.Decode(&cabStream{next: next}, size)
}
