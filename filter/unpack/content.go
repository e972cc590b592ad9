package unpack

import (
	"bytes"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/filter/unpack/armour"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/entity"
	"postern/filter/unpack/filetype"
)

// This file looks into the decoded content of a part: its type, containers,
// and what hides in text. What is found goes the same way again.

// leaf decodes a part that is neither multipart nor message. What all readings
// show in place as text is looked at in each of them, and in no doubt then: a
// footer behind base64 decodes to something else for each reader.
func (w *walker) leaf(p *mail.Part, body []byte, encs []string) {
	list := w.decode(body, encs)
	w.fill(p, list[0])
	w.content(p)
	if len(list) == 1 {
		return
	}
	var others []*mail.Part
	shown := w.shownInPlace(p) && isPlain(p) && !codec.GoesOn(body)
	for i, d := range list[1:] {
		if slices.ContainsFunc(list[:i+1], func(o decoded) bool { return bytes.HasPrefix(o.data, d.data) }) {
			w.drop(d.held)
			continue
		}
		q := w.detached(p, len(others))
		q.Media = p.Media
		q.Flags |= mail.PartAmbiguous
		w.fill(q, d)
		w.content(q)
		shown = shown && isPlain(q)
		others = append(others, q)
	}
	if !shown {
		w.doubt(p, "transfer encoding: readers decode different content")
	}
	for _, q := range others {
		if shown {
			q.Flags &^= mail.PartAmbiguous
		} else {
			w.note(q, "another reading of %s: transfer encoding", p.Place)
		}
		if !rawText(q) {
			p.Children = append(p.Children, q)
		}
	}
}

// isPlain reports whether nothing was found in p but text or what is nothing
// at all.
func isPlain(p *mail.Part) bool {
	if !p.Leaf() || len(p.Types) == 0 || len(p.Facts) > 0 {
		return false
	}
	switch p.Types[len(p.Types)-1] {
	case "asc", "txt", "html", "dat":
		return true
	}
	return false
}

func (w *walker) fill(p *mail.Part, d decoded) {
	p.Data, p.Size, p.How = d.data, int64(len(d.data)), d.how
	p.AddName(d.name)
}

// content types p.Data and looks for what is inside.
func (w *walker) content(p *mail.Part) {
	if w.budget.Check() != nil {
		return
	}
	w.guard(p, func() {
		w.typed(p)
		container, limit := filetype.IsContainer(p.Types), w.budget.Limits().Nesting
		if !container && !mayHide(p) {
			return
		}
		if w.nesting > limit || container && w.nesting == limit {
			w.budget.Note("nesting of archives")
			p.Flags |= mail.PartUndecipherable
			return
		}
		w.nesting++
		defer func() { w.nesting-- }()
		if container {
			w.container(p)
		}
		if mayHide(p) {
			w.embedded(p)
			w.attachedMail(p)
			w.smime(p)
		}
	})
}

// namesOf returns the names of p; those of its parent when p is another
// reading of it.
func namesOf(p *mail.Part) []string {
	if len(p.Names) == 0 && p.Parent != nil && p.Flags.Is(mail.PartAmbiguous) {
		return p.Parent.Names
	}
	return p.Names
}

// mayHide reports whether p could be text, as opposed to known binary data.
func mayHide(p *mail.Part) bool {
	for _, prefix := range []string{"image/", "audio/", "video/", "font/", "application/pdf"} {
		if strings.HasPrefix(p.Detected, prefix) && p.Detected != "image/svg+xml" {
			return false
		}
	}
	return true
}

// maxBinHex is what BinHex files in a text may have, besides four times its
// size.
const maxBinHex = 1 << 20

// embedded looks for files that stand in a text.
func (w *walker) embedded(p *mail.Part) {
	if w.budget.Check() != nil {
		return
	}
	var found []quoted
	add := func(list []armour.File) {
		for _, f := range list {
			found = append(found, quoted{File: f})
		}
	}
	add(armour.FindApple(p.Data))
	uu, yEnc, heads := armour.Marks(p.Data)
	if uu && p.How != "uuencode" {
		add(armour.FindUU(p.Data))
	}
	if yEnc {
		add(armour.FindYEnc(p.Data))
	}
	if heads && !isAttachedMail(p) && filetype.IsText(p.Data[:min(len(p.Data), 32)]) { // CMS is not
		found = append(found, w.findParts(p.Data)...)
	}
	if bytes.Contains(p.Data, []byte(armour.BinHexMark)) {
		files, over := armour.FindBinHex(p.Data, min(4*len(p.Data)+maxBinHex, int(w.budget.MemoryLeft())))
		add(files)
		if over {
			w.budget.Note("BinHex")
			p.Flags |= mail.PartUndecipherable
		}
	}
	if f, ok := armour.WholeBase64(p.Data); ok {
		found = append(found, quoted{File: f})
	}
	if isHTML(p) {
		files, facts := armour.FindInPage(p.Data)
		add(files)
		for _, fact := range facts {
			p.AddFact(fact)
		}
	}
	for _, f := range found {
		if w.budget.Entry() != nil || w.budget.Take(int64(len(f.Data))) != nil {
			return
		}
		if !f.held && !within(p.Data, f.Data) {
			if !w.hold(int64(cap(f.Data))) {
				p.Flags |= mail.PartUndecipherable
				return
			}
			f.Data = slices.Clip(f.Data)
		}
		c := w.child(p)
		c.AddName(entity.DecodeWords(f.Name))
		if f.head != nil {
			w.describe(c, f.head, "")
		}
		c.Data, c.Size, c.How = f.Data, int64(len(f.Data)), f.How
		w.content(c)
	}
}

func isHTML(p *mail.Part) bool {
	return slices.Contains(p.Types, "html") || slices.Contains(p.Media, "text/html") || strings.HasPrefix(p.Detected, "text/html") ||
		p.Detected == "image/svg+xml"
}

// attachedMail reads a part that is a message without being declared as one, or
// a mailbox of several.
func (w *walker) attachedMail(p *mail.Part) {
	if !isAttachedMail(p) {
		return
	}
	if !slices.ContainsFunc(p.Names, isMessageFile) {
		if letters := entity.Mailbox(p.Data); len(letters) > 1 {
			for _, letter := range letters {
				w.entity(w.child(p), letter, textPlain)
			}
			return
		}
	}
	c := w.child(p)
	w.entity(c, p.Data, textPlain)
	if slices.ContainsFunc(p.Names, isPage) {
		markPage(c)
	}
}

// isAttachedMail reports whether p is a message. Text shown in place is none:
// people quote headers.
func isAttachedMail(p *mail.Part) bool {
	inPlace := len(p.Names) == 0 && entity.IsIdentity(p.How) && (len(p.Media) == 0 || strings.HasPrefix(p.Media[0], "text/"))
	return !inPlace && entity.LooksLikeMail(p.Data)
}
