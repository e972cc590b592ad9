package document

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// This file reads TNEF, the winmail.dat of Outlook ([MS-OXTNEF]): a list of
// attributes, some of which hold MAPI properties.

// TNEF attributes, without the type in the upper half of the identifier.
const (
	tnefAttachTitle  = 0x8010
	tnefAttachData   = 0x800f
	tnefAttachStart  = 0x9002
	tnefAttachProps  = 0x9005
	tnefMessageProps = 0x9003
)

// MAPI properties.
const (
	mapiBody       = 0x1000
	mapiHTML       = 0x1013
	mapiName       = 0x3001
	mapiData       = 0x3701
	mapiExtension  = 0x3703
	mapiShortName  = 0x3704
	mapiLongName   = 0x3707
	mapiObject     = 0x000d // type of an embedded message, after its class
	mapiUnicode    = 0x001f
	mapiString     = 0x001e
	mapiBinary     = 0x0102
	mapiMultiValue = 0x1000
)

// tnefAttachment collects what the attributes say about one attachment.
type tnefAttachment struct {
	names []string
	data  [][]byte // attribute and property can both hold it
}

func readTNEF(x *budget.Opener, data []byte) error {
	if len(data) < 6 {
		return codec.ErrDamaged
	}
	rest := data[6:] // signature and key
	var cur *tnefAttachment
	flush := func() error {
		if cur == nil {
			return nil
		}
		a := *cur
		cur = nil
		return giveTNEF(x, a)
	}
	var cut error
	for len(rest) > 0 {
		id, value, after, err := tnefAttribute(rest)
		if err != nil {
			cut = err
		}
		rest = after
		switch id {
		case tnefAttachStart:
			if err := flush(); err != nil {
				return err
			}
			cur = &tnefAttachment{}
		case tnefAttachTitle, tnefAttachData, tnefAttachProps:
			if cur == nil {
				cur = &tnefAttachment{}
			}
			if err := cur.add(id, value); err != nil {
				cut = err
			}
		case tnefMessageProps:
			if err := giveTNEFBody(x, value); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return cut
}

// tnefAttribute reads level, identifier, length, value and checksum. A value
// that is cut is returned as far as it goes.
func tnefAttribute(b []byte) (id uint16, value, rest []byte, err error) {
	if len(b) < 9 {
		if len(bytes.Trim(b, "\x00\r\n")) == 0 { // a line end that came with the way
			return 0, nil, nil, nil
		}
		return 0, nil, nil, codec.ErrDamaged
	}
	id = binary.LittleEndian.Uint16(b[1:])
	n := binary.LittleEndian.Uint32(b[5:])
	b = b[9:]
	if uint64(n)+2 > uint64(len(b)) {
		return id, b[:min(uint64(n), uint64(len(b)))], nil, codec.ErrDamaged
	}
	return id, b[:n], b[n+2:], nil
}

func (a *tnefAttachment) add(id uint16, value []byte) error {
	switch id {
	case tnefAttachTitle:
		a.names = filetype.AddName(a.names, filetype.TextName(bytes.TrimRight(value, "\x00")))
	case tnefAttachData:
		a.data = append(a.data, value)
	case tnefAttachProps:
		return mapiProps(value, func(id, kind uint16, v []byte) {
			switch id {
			case mapiLongName, mapiShortName, mapiName:
				a.names = filetype.AddName(a.names, mapiText(kind, v))
			case mapiData:
				if kind == mapiObject && len(v) > 16 {
					v = v[16:]
				}
				a.data = append(a.data, v)
			}
		})
	}
	return nil
}

func giveTNEF(x *budget.Opener, a tnefAttachment) error {
	if len(a.data) == 0 {
		return x.Give(budget.Member{Names: a.names, Note: "attachment without data"})
	}
	for _, data := range a.data {
		if err := x.GiveStored(budget.Member{Names: a.names}, data); err != nil {
			return err
		}
	}
	return nil
}

// giveTNEFBody hands over the text of the message where it is HTML or plain.
func giveTNEFBody(x *budget.Opener, props []byte) error {
	var err error
	perr := mapiProps(props, func(id, kind uint16, v []byte) {
		if err != nil || len(v) == 0 || (id != mapiHTML && id != mapiBody) {
			return
		}
		if kind == mapiUnicode {
			v = []byte(mapiText(kind, v))
		}
		err = x.GiveStored(budget.Member{}, v)
	})
	if perr != nil && err == nil {
		x.Damage("tnef: message properties: %v", perr)
	}
	return err
}

var errMAPI = errors.New("damaged MAPI properties")

// mapiProps calls f for each value of a list of MAPI properties ([MS-OXTNEF]
// section 2.1.3.4).
func mapiProps(b []byte, f func(id, kind uint16, v []byte)) error {
	if len(b) < 4 {
		return errMAPI
	}
	count := binary.LittleEndian.Uint32(b)
	b = b[4:]
	for ; count > 0; count-- {
		if len(b) < 4 {
			return errMAPI
		}
		kind, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		b = b[4:]
		if id >= 0x8000 { // a named property
			var ok bool
			if b, ok = skipMAPIName(b); !ok {
				return errMAPI
			}
		}
		var ok bool
		if b, ok = mapiValues(b, id, kind, f); !ok {
			return errMAPI
		}
	}
	return nil
}

func skipMAPIName(b []byte) ([]byte, bool) {
	if len(b) < 24 {
		return nil, false
	}
	kind, n := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	b = b[24:]
	if kind == 0 {
		return b, true
	}
	return skipPadded(b, n)
}

func skipPadded(b []byte, n uint32) ([]byte, bool) {
	padded := (uint64(n) + 3) &^ 3
	if padded > uint64(len(b)) {
		return nil, false
	}
	return b[padded:], true
}

// mapiValues reads the values of one property and returns what follows.
func mapiValues(b []byte, id, kind uint16, f func(id, kind uint16, v []byte)) ([]byte, bool) {
	base := kind &^ mapiMultiValue
	variable := base == mapiString || base == mapiUnicode || base == mapiBinary || base == mapiObject
	count := uint32(1)
	if variable || kind&mapiMultiValue != 0 {
		if len(b) < 4 {
			return nil, false
		}
		count = binary.LittleEndian.Uint32(b)
		b = b[4:]
	}
	if !variable && fixedMAPI(base) == 0 { // however many there are
		return b, count <= uint32(len(b))
	}
	for ; count > 0; count-- {
		n := fixedMAPI(base)
		if variable {
			if len(b) < 4 {
				return nil, false
			}
			n = binary.LittleEndian.Uint32(b)
			b = b[4:]
		}
		rest, ok := skipPadded(b, n)
		if !ok {
			if variable { // hand over what is there of the last one
				f(id, base, b)
			}
			return nil, false
		}
		if variable {
			f(id, base, b[:n])
		}
		if n == 0 && len(rest) == len(b) && count > uint32(len(b)) {
			return nil, false // a count that the data cannot hold
		}
		b = rest
	}
	return b, true
}

// fixedMAPI returns the length of values of a type that has one.
func fixedMAPI(kind uint16) uint32 {
	switch kind {
	case 0x05, 0x06, 0x07, 0x14, 0x40:
		return 8
	case 0x48:
		return 16
	case 0x00, 0x01:
		return 0
	}
	return 4
}

func mapiText(kind uint16, v []byte) string {
	if kind != mapiUnicode {
		return filetype.TextName(bytes.TrimRight(v, "\x00"))
	}
	return utf16Name(v)
}

// utf16Name decodes a little-endian name up to its NUL.
func utf16Name(v []byte) string {
	u := make([]uint16, 0, min(len(v)/2, filetype.MaxName))
	for i := 0; i+1 < len(v) && len(u) < filetype.MaxName; i += 2 {
		c := binary.LittleEndian.Uint16(v[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}
