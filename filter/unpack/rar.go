package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/nwaples/rardecode/v2"
)

// readRar gives the members of a RAR archive, formats 1.5 to 5. Of a set of
// several files the library reads only the members that are whole.
func readRar(x *expander, data []byte) error {
	if bytes.HasPrefix(data, []byte("RE~^")) {
		return errUnsupported // RAR 1.4
	}
	if !bytes.HasPrefix(data, []byte("Rar!")) {
		return x.readInside(data, "rar")
	}
	in := bytes.NewReader(data)
	r, err := rardecode.NewReader(in, rardecode.MaxDictionarySize(maxDictionary))
	if err != nil {
		return x.rarError(err)
	}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return x.rarError(err)
		}
		if err := x.giveRar(r, h); err != nil {
			return err
		}
	}
}

func (x *expander) rarError(err error) error {
	switch {
	case errors.Is(err, rardecode.ErrArchiveEncrypted), errors.Is(err, rardecode.ErrArchivedFileEncrypted):
		x.out.encrypted = true
		return nil
	case errors.Is(err, rardecode.ErrDictionaryTooLarge):
		return fmt.Errorf("%w: %w", ErrOverLimits, err)
	}
	return err
}

// giveRar gives the member that r stands at.
func (x *expander) giveRar(r *rardecode.Reader, h *rardecode.FileHeader) error {
	m := member{names: addName(nil, textName([]byte(h.Name))), size: max(h.UnPackedSize, 0)}
	switch {
	case h.IsDir:
		m.dir = true
	case h.Encrypted || h.HeaderEncrypted:
		m.encrypted = true
	case h.LinkType != rardecode.LinkTypeNone:
		m.link = true
		m.note = "-> " + h.LinkTarget
	case h.Mode()&modeLink != 0:
		m.link = true
	case h.Mode()&modeSpecial != 0:
		m.special = true
	}
	if m.dir || m.encrypted || h.LinkType != rardecode.LinkTypeNone {
		return x.give(m)
	}
	if err := x.budget.Entry(); err != nil {
		return err
	}
	var err error
	m.data, err = x.decode(r, m.size)
	if errors.Is(err, rardecode.ErrArchivedFileEncrypted) {
		m.encrypted, err = true, nil
	}
	if errors.Is(err, rardecode.ErrDictionaryTooLarge) {
		err = x.rarError(err)
	}
	return x.handDecoded(m, "rar", err)
}
