package unpack

import (
	"hash/maphash"
	"slices"
	"strings"
	"unicode/utf8"

	"postern/filter/mail"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/entity"
	"postern/filter/unpack/filetype"
)

// This file collects what the header of a part says about it, and compares
// what readings extract.

// describe sets names and media types of p.
func (w *walker) describe(p *mail.Part, h *entity.Head, def string) {
	var readings, spelled []string
	certain, external := false, false
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Name != "content-type" {
			continue
		}
		word, clean, params := entity.ParseValue(f.Value)
		certain = certain || clean && !f.Odd
		addMedia(p, word)
		if word == "message/external-body" && !external { // the content is elsewhere, its header is here
			external = true
			p.AddFact("external-body")
			inner := w.heads(h.Body)[0]
			r, s := entity.DispositionNames(&inner, true)
			readings, spelled = append(r, readings...), append(s, spelled...)
		}
		for _, name := range entity.NameParams {
			r, s := entity.Lookup(params, name)
			readings, spelled = append(readings, r...), append(spelled, s...)
		}
	}
	if !certain {
		addMedia(p, def)
	}
	r, s := entity.DispositionNames(h, false)
	w.setNames(p, append(r, readings...), append(s, spelled...))
	if len(p.Names) == 0 {
		if loose := entity.LooseNames(h); len(loose) > 0 {
			w.vague[p] = loose
		}
	}
	w.attached[p] = w.attached[p] || entity.Attached(h)
}

func addMedia(p *mail.Part, media string) {
	if media != "" && len(p.Media) < maxNames && !slices.Contains(p.Media, media) {
		p.Media = append(p.Media, media)
	}
}

// setNames stores the names. Readings that end in different extensions are a
// doubt if one of them is what a system runs: one reader shows a text where
// another starts a program. Names of a document that differ are sloppy only.
func (w *walker) setNames(p *mail.Part, readings, spelled []string) {
	ext, runs, other := "", false, ""
	for _, name := range readings {
		if len(p.Names) >= maxNames {
			w.doubt(p, "too many names")
			break
		}
		name = filetype.NameTail(name)
		if !utf8.ValidString(name) {
			p.AddName(entity.ToUTF8("windows-1252", []byte(name))) // as clients show it
		}
		p.AddName(name)
		e := entity.NameEnd(name)
		runs = runs || filetype.RunsByName(e)
		switch {
		case e == "" || e == ext:
		case ext == "":
			ext = e
		default:
			other = name
		}
	}
	if other != "" && runs {
		w.doubt(p, "names differ: %.200q and %.200q", readings[0], other)
	}
	for _, name := range append(spelled, readings...) {
		if len(p.Names) < 2*maxNames {
			name = filetype.NameTail(name)
			p.AddName(name)
			p.AddName(string(codec.Percent(name)))
		}
	}
}

// contents are the hashes of all that readings extract. The value says that
// it is more than unnamed text.
type contents map[uint64]bool

var hashSeed = maphash.MakeSeed()

// contentsOf returns the contents of p and all below it. Line ends and blank
// parts make no difference.
func (w *walker) contentsOf(p *mail.Part) contents {
	out := contents{}
	for q := range p.All() {
		if w.budget.Check() != nil {
			break // the message is over the limits, whatever differs
		}
		if q.Data == nil || entity.Blank(q.Data) {
			continue
		}
		var h maphash.Hash
		h.SetSeed(hashSeed)
		text := entity.IsIdentity(q.How)
		if text {
			writeText(&h, q.Data)
		} else {
			_, _ = h.Write(q.Data)
		}
		plain := text && len(q.Names) == 0 && len(q.Facts) == 0 && len(q.Media) > 0 && strings.HasPrefix(q.Media[0], "text/")
		out[h.Sum64()] = !plain
	}
	return out
}

// writeText hashes b without its line ends.
func writeText(h *maphash.Hash, b []byte) {
	start := 0
	for i, c := range b {
		if c == '\r' || c == '\n' {
			_, _ = h.Write(b[start:i])
			start = i + 1
		}
	}
	_, _ = h.Write(b[start:])
}

// differs reports whether two readings extract different things. Two readings
// that are both only unnamed text do not differ: nothing can hide in it that
// scanning the text does not see.
func (c contents) differs(d contents) bool {
	material := false
	same := len(c) == len(d)
	for k, m := range c {
		material = material || m
		_, ok := d[k]
		same = same && ok
	}
	for _, m := range d {
		material = material || m
	}
	return material && !same
}

func (c contents) clone() contents {
	out := make(contents, len(c))
	for k, v := range c {
		out[k] = v
	}
	return out
}

// add adds d and reports whether there was something new in it.
func (c contents) add(d contents) bool {
	n := len(c)
	for k, v := range d {
		c[k] = v
	}
	return len(c) > n
}
