package unpack

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unsafe"

	"postern/filter/mail"
	"postern/filter/unpack/archive"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/document"
	"postern/filter/unpack/filetype"
)

// reader returns the reader of a type, nil if it is no container.
func reader(kind string) budget.Reader {
	switch {
	case archive.Readers[kind] != nil:
		return archive.Readers[kind]
	case document.Readers[kind] != nil:
		return document.Readers[kind]
	case filetype.IsContainer([]string{kind}):
		return unreadable
	}
	return nil
}

// expand opens one container and hands its members to add, one at a time. It
// does not look into the members. The error is what add returned; anything
// else that goes wrong is in the outcome, and the members found until then
// have been given.
func expand(data []byte, short []string, b *budget.Budget, add func(budget.Member) error) (budget.Outcome, error) {
	x := budget.NewOpener(b, add, readInside)
	defer x.Free()
	for i, s := range short {
		read := reader(s)
		if read == nil || slices.Contains(short[:i], s) {
			continue
		}
		if err := x.Run(s, read, data); err != nil {
			return x.Outcome(), err
		}
	}
	return x.Outcome(), nil
}

// unreadable is the reader of containers that are only recognised.
func unreadable(*budget.Opener, []byte) error {
	return errors.New("containers of this kind cannot be opened")
}

// container opens an archive.
func (w *walker) container(p *mail.Part) {
	outer := w.sealed
	w.sealed = isSealed(p)
	defer func() { w.sealed = outer }()
	out, err := expand(p.Data, p.Types, w.budget, func(m budget.Member) error {
		w.member(p, m)
		return w.budget.Check()
	})
	if err != nil || out.OverLimits {
		p.Flags |= mail.PartUndecipherable
		w.budget.Note("container")
	}
	if out.Opened {
		p.Flags |= mail.PartEncrypted
	}
	if out.Encrypted {
		p.Flags |= mail.PartEncrypted | mail.PartUndecipherable
	}
	if out.Damaged {
		p.Flags |= mail.PartUndecipherable
		w.note(p, "%s", out.Reason)
	}
	if out.Disagreement != "" {
		w.doubt(p, "%s", out.Disagreement)
	}
}

// member adds one file of the container p. Its data is only lent to us unless
// it lies in p.Data.
func (w *walker) member(p *mail.Part, m budget.Member) {
	if !w.budget.Hold(memberCost(m)) {
		w.budget.Note("memory")
		p.Flags |= mail.PartUndecipherable
		return
	}
	c := w.child(p)
	c.Size, c.How = m.Size, p.Types[len(p.Types)-1]
	for _, name := range m.Names[:min(len(m.Names), maxNames)] {
		c.AddName(name)
	}
	c.Flags = memberFlags(m)
	if w.sealed {
		c.AddFact(inDocument)
	}
	if m.Note != "" {
		w.note(c, "%s", m.Note)
	}
	if slices.ContainsFunc(m.Names, func(n string) bool { return isMacros(p, n) }) {
		p.AddFact("macros")
	}
	if len(m.Data) == 0 {
		return
	}
	c.Data = m.Data
	lies, before, size := within(p.Data, m.Data), w.mark(), int64(len(m.Data))
	keep := lies || w.kept+size <= maxKept && w.budget.Hold(size)
	if keep && !lies {
		// before anything inside refers to it
		c.Data = bytes.Clone(m.Data)
		w.held += size
		w.kept += size
	}
	w.content(c)
	if !keep {
		for q := range c.All() {
			q.Data = nil
		}
		w.dropTo(before)
	}
}

// memberCost is about what the part of a member takes up besides its content:
// its names as they are, as they were read, and as garbage.
func memberCost(m budget.Member) int64 {
	n := 1 << 10
	for _, name := range m.Names {
		n += 4 * len(name)
	}
	return int64(n)
}

// isMacros reports whether a member of the document p holds its macros.
func isMacros(p *mail.Part, name string) bool {
	switch strings.ToLower(name[strings.LastIndexByte(name, '/')+1:]) {
	case "vbaproject.bin":
		return true
	case "vba", "_vba_project_cur":
		return slices.Contains(p.Types, "doc") || slices.Contains(p.Types, "cdf-ms")
	}
	return false
}

func memberFlags(m budget.Member) (f mail.PartFlags) {
	if m.Encrypted {
		f |= mail.PartEncrypted | mail.PartUndecipherable
	}
	if m.Opened {
		f |= mail.PartEncrypted
	}
	if m.Dir {
		f |= mail.PartDirectory
	}
	if m.Link {
		f |= mail.PartLink
	}
	if m.Special {
		f |= mail.PartSpecial
	}
	return f
}

// within reports whether part is a slice of whole, which their places in memory
// tell.
func within(whole, part []byte) bool {
	start, at := uintptr(unsafe.Pointer(unsafe.SliceData(whole))), uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	return len(part) > 0 && at >= start && at-start < uintptr(len(whole))
}

// readInside opens the archives of one kind, or all if it is empty, that begin
// inside data.
func readInside(x *budget.Opener, data []byte, kind string) error {
	for _, e := range filetype.FindEmbedded(data) {
		if kind != "" && e.Kind != kind {
			continue
		}
		part := data
		if e.Kind != "zip" {
			part = data[e.At:]
		}
		if err := reader(e.Kind)(x, part); err != nil {
			return err
		}
	}
	return nil
}
