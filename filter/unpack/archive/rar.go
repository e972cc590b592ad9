package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/nwaples/rardecode/v2"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// minRarWindow is the least that the library allocates.
const minRarWindow = 256 << 10

// readRar gives the members of a RAR archive, formats 1.5 to 5. Of a set of
// several files the library reads only the members that are whole.
func readRar(x *budget.Opener, data []byte) error {
	if bytes.HasPrefix(data, []byte("RE~^")) {
		return codec.ErrUnsupported // RAR 1.4
	}
	if !bytes.HasPrefix(data, []byte("Rar!")) {
		return x.Inside(data, "rar")
	}
	// the window comes with the header, but what it may cost is known only then
	window := max(x.Budget.MemoryLeft()/2, minRarWindow)
	x.Budget.Collect(window)
	options, opened := []rardecode.Option{rardecode.MaxDictionarySize(window)}, false
	if x.Budget.HasPasswords() && rarLocked(x, data, options) {
		for word := range x.Budget.Tries(rarRounds(data)) {
			if try := append(options, rardecode.Password(word)); opensRar(x, data, try) {
				x.Budget.Opened(word)
				options, opened = try, true
				break
			}
		}
	}
	r, err := rardecode.NewReader(x.Input(data), options...)
	if err != nil {
		return rarError(x, err)
	}
	models := rarModels(data)
	solid := int64(0) // octets so far that later members may refer to
	for i := 0; ; i++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return rarError(x, err)
		}
		if !h.Solid {
			solid = 0
		}
		solid += max(h.UnPackedSize, minRarWindow)
		need := min(window, solid)
		if i < len(models) {
			need += models[i]
		}
		if err := giveRar(x, r, h, opened, x.Needs(need)); err != nil {
			return err
		}
	}
}

// rarLocked reports whether names or a member need a password.
func rarLocked(x *budget.Opener, data []byte, options []rardecode.Option) bool {
	r, err := rardecode.NewReader(x.Input(data), options...)
	for err == nil && x.Budget.Check() == nil {
		var h *rardecode.FileHeader
		if h, err = r.Next(); err == nil && h.Encrypted {
			return true
		}
	}
	return errors.Is(err, rardecode.ErrArchiveEncrypted)
}

// opensRar reports whether the first encrypted member comes out whole.
func opensRar(x *budget.Opener, data []byte, options []rardecode.Option) bool {
	r, err := rardecode.NewReader(x.Input(data), options...)
	if err != nil {
		return false
	}
	for members := 0; ; members++ {
		h, err := r.Next() // which may make a key for each
		if err != nil || x.Budget.Check() != nil {
			return errors.Is(err, io.EOF) && members > 0
		}
		if h.Encrypted && !h.IsDir && h.UnPackedSize != 0 {
			_, err = x.Decode(r, h.UnPackedSize)
			return err == nil
		}
	}
}

// rarRounds returns how much hashing it takes to try one password on the
// archive. It is more than there is where a wrong password could not be told.
func rarRounds(data []byte) int64 {
	const version4, header = 1 << 18, 8
	if !bytes.HasPrefix(data, []byte("Rar!\x1a\x07\x01\x00")) {
		return version4
	}
	rounds := int64(1)
	for b := (vints{data[header:]}); len(b.in) > 4; {
		b.in = b.in[4:] // checksum
		size := b.next()
		h := vints{b.take(size)}
		kind, flags, extra, content := h.next(), h.next(), uint64(0), uint64(0)
		if flags&1 != 0 {
			extra = h.next()
		}
		if flags&2 != 0 {
			content = h.next()
		}
		const file, service, encrypted = 2, 3, 4
		switch kind {
		case encrypted: // all that follows
			h.next()
			h.next()
			return rarKDF(h.take(1))
		case file, service:
			hasSum := h.next()&4 != 0
			records := vints{h.in[len(h.in)-int(min(extra, uint64(len(h.in)))):]}
			for len(records.in) > 0 {
				record := vints{records.take(records.next())}
				if record.next() != 1 {
					continue
				}
				record.next()
				checks := record.next()&1 != 0
				if rounds = max(rounds, rarKDF(record.take(1))); !checks && !hasSum {
					return math.MaxInt64
				}
			}
		}
		b.take(content)
	}
	return rounds
}

// rarKDF returns the rounds for the power of two in b.
func rarKDF(b []byte) int64 {
	const most = 20 // 15 is usual
	if len(b) == 0 || b[0] > most {
		return math.MaxInt64
	}
	return 2 << b[0] // each is an HMAC
}

// vints reads the numbers of RAR 5, seven bits an octet.
type vints struct{ in []byte }

func (v *vints) next() uint64 {
	n, width := binary.Uvarint(v.in)
	if width <= 0 {
		v.in = nil
		return 0
	}
	v.in = v.in[width:]
	return n
}

func (v *vints) take(n uint64) []byte {
	b := v.in[:min(n, uint64(len(v.in)))]
	v.in = v.in[len(b):]
	return b
}

func rarError(x *budget.Opener, err error) error {
	switch {
	case errors.Is(err, rardecode.ErrArchiveEncrypted), errors.Is(err, rardecode.ErrArchivedFileEncrypted):
		x.NoteEncrypted()
		return nil
	case errors.Is(err, rardecode.ErrDictionaryTooLarge):
		return fmt.Errorf("%w: %w", budget.ErrOverLimits, err)
	}
	return err
}

// giveRar gives the member that r stands at, without content if there is no
// memory for decoding it. opened says that the password is known.
func giveRar(x *budget.Opener, r *rardecode.Reader, h *rardecode.FileHeader, opened bool, noMemory error) error {
	m := budget.Member{Names: filetype.AddName(nil, filetype.TextName([]byte(h.Name))), Size: max(h.UnPackedSize, 0)}
	locked := h.Encrypted || h.HeaderEncrypted
	switch {
	case h.IsDir:
		m.Dir = true
	case locked && !opened:
		m.Encrypted = true
	case h.LinkType != rardecode.LinkTypeNone:
		m.Link = true
		m.Note = "-> " + h.LinkTarget
	case h.Mode()&modeLink != 0:
		m.Link = true
	case h.Mode()&modeSpecial != 0:
		m.Special = true
	}
	if m.Dir || m.Encrypted || h.LinkType != rardecode.LinkTypeNone {
		return x.Give(m)
	}
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	if noMemory != nil {
		return x.HandDecoded(m, "rar", noMemory)
	}
	var err error
	m.Data, err = x.Decode(r, m.Size)
	if errors.Is(err, rardecode.ErrDictionaryTooLarge) {
		err = rarError(x, err)
	}
	if locked {
		if m.Opened = err == nil; err != nil {
			m.Encrypted, m.Data = true, nil // what a wrong password yields
		}
		if !errors.Is(err, budget.ErrOverLimits) {
			err = nil
		}
	}
	return x.HandDecoded(m, "rar", err)
}
