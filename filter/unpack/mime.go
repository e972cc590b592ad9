package unpack

import (
	"bytes"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/filter/unpack/entity"
)

// This file walks the MIME structure. An entity, the message or a part of it,
// has one reading if it is written as it should be. If it is not, every way in
// which some reader of mail would understand it is walked too, and what the
// readings extract is compared.

const (
	textPlain = "text/plain"
	rfc822    = "message/rfc822"
)

type kind uint8

const (
	leaf kind = iota
	multipart
	message
)

// reading is one way to understand an entity.
type reading struct {
	head     *entity.Head
	kind     kind
	boundary string
	digest   bool   // multipart/digest: parts are messages by default
	why      string // what is odd about it
}

// maxAlternatives bounds the readings of one entity, maxTypes the Content-Type
// fields that are looked at, maxSloppy the further boundaries of each.
const (
	maxAlternatives = 16
	maxTypes        = 16
	maxSloppy       = 8
)

// entity reads header and body of one part into p. def is the media type of a
// part that has none.
func (w *walker) entity(p *mail.Part, data []byte, def string) {
	p.Size = int64(len(data))
	if w.budget.Part() != nil {
		return
	}
	if w.depth >= w.budget.Limits().Depth {
		w.budget.Note("nesting of MIME parts")
		p.Flags |= mail.PartUndecipherable
		return
	}
	w.depth++
	defer func() { w.depth-- }()

	heads := w.heads(data)
	if heads[0].Over {
		w.budget.Note("header")
	}
	w.describe(p, &heads[0], def)
	readings := w.readings(p, heads, def)
	w.read(p, readings[0])
	if readings[0].kind == leaf {
		w.foreign(p, readings[0].head.Body)
	}
	if len(readings) > 1 {
		w.others(p, readings, def)
	}
	if p.Data == nil && p.Leaf() {
		w.fallback(p, readings)
	}
	for i := range heads {
		if heads[i].Weird {
			w.bareCR(p, data, def)
			break
		}
	}
}

// heads parses the header at the start of data.
func (w *walker) heads(data []byte) []entity.Head {
	l := w.budget.Limits()
	return entity.ScanHead(data, entity.Limits{Header: l.Header, Fields: l.Fields})
}

// readings lists the ways to understand the entity, the most probable first.
func (w *walker) readings(p *mail.Part, heads []entity.Head, def string) []reading {
	var out []reading
	add := func(r reading) {
		for _, o := range out {
			if o.head == r.head && o.kind == r.kind && o.boundary == r.boundary {
				return
			}
		}
		if len(out) == maxAlternatives {
			w.doubt(p, "more readings than can be tried")
			return
		}
		out = append(out, r)
	}
	for i := range heads {
		h := &heads[i]
		why := "Content-Type"
		if i > 0 {
			why = "damaged header"
		}
		types := h.All("content-type")
		if len(types) > maxTypes {
			w.doubt(p, "more Content-Type fields than can be tried")
			types = append(types[:maxTypes/2], types[len(types)-maxTypes/2:]...)
		}
		certain := false
		for _, f := range types {
			word, clean, params := entity.ParseValue(f.Value)
			r := reading{head: h, kind: kindOf(word), digest: word == "multipart/digest", why: why}
			certain = certain || clean && !f.Odd
			if r.kind != multipart {
				add(r)
			}
			sure, other := entity.Boundaries(params)
			if r.kind != multipart && clean {
				// the parameter is a left-over of some editor unless it is used
				sure, other = nil, append(sure, other...)
			}
			other = slices.DeleteFunc(other[:min(len(other), maxSloppy)], func(b string) bool { return !w.uses(h.Body, b) })
			for _, b := range append(sure, other...) {
				m := r
				m.kind, m.boundary = multipart, b
				add(m)
			}
			add(r)
		}
		if !certain {
			add(reading{head: h, kind: kindOf(def), why: why})
		}
	}
	return dropBare(out)
}

// uses reports whether boundary occurs in body. It is paid for, because header
// fields can ask for it many times.
func (w *walker) uses(body []byte, boundary string) bool {
	return w.budget.Take(int64(len(body)/4)) == nil && entity.HasDelimiter(body, boundary)
}

// dropBare removes multiparts without a boundary when the same head has one
// with: they would only be guessed at.
func dropBare(list []reading) []reading {
	return slices.DeleteFunc(list, func(r reading) bool {
		return r.kind == multipart && r.boundary == "" && slices.ContainsFunc(list, func(o reading) bool {
			return o.head == r.head && o.kind == multipart && o.boundary != ""
		})
	})
}

func kindOf(media string) kind {
	switch {
	case strings.HasPrefix(media, "multipart/") || media == "multipart":
		return multipart
	case media == "message/delivery-status", media == "message/global-delivery-status", media == "message/disposition-notification",
		media == "message/global-disposition-notification", media == "message/feedback-report", media == "message/tracking-status",
		media == "message/external-body", media == "message/global-headers":
		return leaf
	case strings.HasPrefix(media, "message/"):
		return message
	}
	return leaf
}

// read extracts what one reading sees in the entity into p.
func (w *walker) read(p *mail.Part, r reading) {
	switch r.kind {
	case multipart:
		if r.boundary != "" {
			w.multipart(p, r)
			w.ended[r.boundary] = true
		}
	case message:
		w.message(p, r)
	default:
		w.leaf(p, r.head.Body, entity.Encodings(r.head))
	}
}

// others walks the further readings of an entity whose first is in p, adds
// what is new in them and compares.
func (w *walker) others(p *mail.Part, list []reading, def string) {
	first := w.contentsOf(p)
	seen := first.clone()
	for _, r := range list[1:] {
		if w.budget.Take(int64(len(r.head.Body))) != nil {
			return
		}
		q := w.detached(p, 0)
		q.Size = int64(len(r.head.Body))
		q.Media = p.Media
		before := w.mark()
		if r.head != list[0].head {
			q.Media = nil
			w.describe(q, r.head, def)
		}
		w.read(q, r)
		w.merge(p, q, first, seen, before, r.why)
	}
}

// merge adds q, another reading of p, to its children if there is something
// new in it, and marks p when the readings differ. before is what was held
// before q was read.
func (w *walker) merge(p, q *mail.Part, first, seen contents, before mark, why string) (added bool) {
	got := w.contentsOf(q)
	if !first.differs(got) {
		w.dropTo(before)
		return false
	}
	w.doubt(p, "readings differ: %s", why)
	if !seen.add(got) || rawText(q) {
		w.dropTo(before)
		return false
	}
	q.Flags |= mail.PartAmbiguous
	w.note(q, "another reading of %s: %s", p.Place, why)
	p.Children = append(p.Children, q)
	return true
}

// rawText reports whether q is only a piece of the message as it stands there,
// without a name.
func rawText(q *mail.Part) bool { return q.Leaf() && entity.IsIdentity(q.How) && len(q.Names) == 0 }

// fallback is for a multipart in which no reading found a delimiter: the
// boundary is guessed from the body. Without a guess the body is one part.
func (w *walker) fallback(p *mail.Part, list []reading) {
	i := slices.IndexFunc(list, func(r reading) bool { return r.kind == multipart })
	if i < 0 {
		return
	}
	r := list[i]
	none := w.contentsOf(p)
	seen := none.clone()
	for _, d := range w.decode(r.head.Body, entity.Encodings(r.head)) {
		for _, b := range entity.GuessBoundaries(d.data) {
			if w.budget.Take(int64(len(d.data))) != nil {
				return
			}
			q, before := w.detached(p, 0), w.mark()
			g := reading{head: &entity.Head{Body: d.data, Weird: r.head.Weird}, kind: multipart, digest: r.digest, boundary: b}
			w.multipart(q, g)
			w.merge(p, q, none, seen, before, "boundary is missing or does not occur")
		}
		w.dropUnused(p, d.data, d.held)
	}
	if p.Leaf() && p.Data == nil {
		w.leaf(p, r.head.Body, entity.Encodings(r.head))
	}
}

// bareCR walks the entity once more as those see it who take CR for an end of
// line, and CR CR LF for one or for two.
func (w *walker) bareCR(p *mail.Part, data []byte, def string) {
	first := w.contentsOf(p)
	seen := first.clone()
	for _, runs := range []bool{true, false} {
		if !runs && !bytes.Contains(data, []byte("\r\r\n")) || w.budget.Take(2*int64(len(data))) != nil {
			return
		}
		q, before := w.detached(p, 0), w.mark()
		size := 0
		eachCR(data, runs, func(text []byte, ends int) { size += len(text) + 2*ends })
		w.budget.Collect(int64(size))
		if !w.hold(int64(size)) {
			return
		}
		text := make([]byte, 0, size)
		eachCR(data, runs, func(piece []byte, ends int) {
			for text = append(text, piece...); ends > 0; ends-- {
				text = append(text, '\r', '\n')
			}
		})
		w.entity(q, text, def)
		if w.merge(p, q, first, seen, before, "bare CR") {
			w.dropUnused(q, text, int64(size))
		}
	}
}

// eachCR takes data apart for those who take every CR for an end of line: text
// and how many ends of line follow it. With runs, all CR that stand before one
// LF are one.
func eachCR(data []byte, runs bool, f func(text []byte, ends int)) {
	for {
		i := bytes.IndexByte(data, '\r')
		if i < 0 {
			f(data, 0)
			return
		}
		rest := bytes.TrimLeft(data[i:], "\r")
		ends := len(data) - i - len(rest)
		if len(rest) > 0 && rest[0] == '\n' {
			rest = rest[1:]
			if runs {
				ends = 1
			}
		}
		f(data[:i], ends)
		data = rest
	}
}

// message walks an attached message. It must not be encoded (RFC 2046 section
// 5.2.1), but some readers decode it.
func (w *walker) message(p *mail.Part, r reading) {
	if slices.Contains(p.Media, "message/partial") {
		p.AddFact("partial")
	}
	texts := w.decode(r.head.Body, entity.Encodings(r.head))
	if !entity.IsIdentity(texts[0].how) && entity.LooksLikeMail(r.head.Body) {
		texts = append([]decoded{{data: r.head.Body, how: "7bit"}}, texts...)
	}
	p.How, p.Size = texts[0].how, int64(len(texts[0].data))
	var first, seen contents
	for i, t := range texts {
		if i > 0 && !entity.IsIdentity(t.how) && !entity.LooksLikeMail(t.data) {
			w.drop(t.held)
			continue
		}
		q, before := w.detached(p, 0), w.mark()
		w.entity(q, t.data, textPlain)
		if first == nil {
			p.Children = append(p.Children, q)
			first = w.contentsOf(p)
			seen = first.clone()
			continue
		}
		w.merge(p, q, first, seen, before, "encoded message")
		w.dropUnused(p, t.data, t.held)
	}
}

// multipart walks the parts between the delimiters of r.boundary.
func (w *walker) multipart(p *mail.Part, r reading) {
	body := r.head.Body
	w.bounds = append(w.bounds, r.boundary)
	mark := len(w.bounds)
	ds, bare := entity.Delimiters(body, r.boundary)
	r.head.Weird = r.head.Weird || bare
	if len(ds) == entity.MaxDelimiters {
		w.budget.Note("number of delimiters")
	}
	if e := entity.Encodings(r.head); !entity.IsIdentity(e[0]) && (len(ds) == 0 || e[0] == "base64") {
		w.encodedMultipart(p, r, e, len(ds) > 0)
	}
	if len(ds) == 0 {
		return // not with this boundary
	}
	def := textPlain
	if r.digest {
		def = rfc822
	}
	strict := entity.Segments(body, ds, true)
	for _, s := range strict.Parts {
		if w.budget.Check() != nil {
			return
		}
		c := w.child(p)
		w.entity(c, body[s.Start:s.End], def)
		if s.End == len(body) {
			w.overrun(c, body[s.Start:], r.boundary)
		}
	}
	if strict.First == len(body) {
		strict.First = ds[0].Start // all are odd
	}
	w.loose(p, body[:strict.First])
	w.loose(p, body[strict.Last:])
	w.oddDelimiters(p, body, ds, strict, def, w.bounds[mark:])
}

// overrun decodes the last part of a multipart without a close delimiter as
// those do who know the innermost boundary only: past the delimiters of the
// multiparts around it. The result is a further part and no doubt, because
// close delimiters are forgotten in all innocence.
func (w *walker) overrun(p *mail.Part, part []byte, boundary string) {
	rest := part[len(part):cap(part)]
	if entity.IsIdentity(p.How) || entity.OnlyDelimiters(rest) {
		return
	}
	h := w.heads(part)[0]
	if w.budget.Take(int64(len(rest)/4)) != nil {
		return
	}
	if ds, _ := entity.Delimiters(rest, boundary); len(ds) > 0 {
		rest = rest[:ds[0].Start]
	}
	for _, d := range w.decode(h.Body[:len(h.Body)+len(rest)], entity.Encodings(&h)) {
		if entity.IsIdentity(d.how) || bytes.HasPrefix(p.Data, d.data) {
			w.drop(d.held)
			continue
		}
		q := w.child(p)
		q.Media = p.Media
		w.fill(q, d)
		w.content(q)
	}
}

// oddDelimiters walks the parts that appear when lines that almost are
// delimiters count, and those after the close delimiter. Lines that are
// delimiters of an inner multipart do not.
func (w *walker) oddDelimiters(p *mail.Part, body []byte, ds []entity.Delimiter, strict entity.Segmentation, def string, inner []string) {
	if !slices.ContainsFunc(ds, func(d entity.Delimiter) bool { return d.Odd || d.Start >= strict.Last }) {
		return
	}
	known := map[string]bool{}
	for _, b := range inner {
		known[b], known[b+"--"] = true, true
	}
	ds = slices.DeleteFunc(ds, func(d entity.Delimiter) bool {
		return d.Odd && known[string(bytes.TrimRight(body[d.Text:d.End], " \t\r\n"))]
	})
	have := map[entity.Span]bool{}
	for _, s := range strict.Parts {
		have[s] = true
	}
	for _, s := range entity.Segments(body, ds, false).Parts {
		if have[s] || entity.Blank(body[s.Start:s.End]) {
			continue
		}
		if w.budget.Take(int64(s.End-s.Start)) != nil {
			return
		}
		c := w.child(p)
		w.entity(c, body[s.Start:s.End], def)
		c.Flags |= mail.PartAmbiguous
		w.doubt(p, "readings differ: odd delimiter or parts after the close delimiter")
	}
}

// foreign walks the parts that a leaf has for readers who go on to take the
// delimiters of a multipart for such after one around it has ended it.
func (w *walker) foreign(p *mail.Part, body []byte) {
	if len(w.ended) == 0 {
		return
	}
	ds := entity.EndedDelimiters(body, w.ended)
	if len(ds) == 0 || w.budget.Take(int64(len(body))) != nil {
		return
	}
	// the pieces are cut at all such lines: none of them has more
	ended := w.ended
	w.ended = map[string]bool{}
	defer func() { w.ended = ended }()
	first := w.contentsOf(p)
	q, before := w.detached(p, 0), w.mark()
	q.Size = int64(len(body))
	q.Media = p.Media
	for _, s := range entity.Segments(body, ds, false).Parts {
		w.entity(w.child(q), body[s.Start:s.End], textPlain)
	}
	w.merge(p, q, first, first.clone(), before, "delimiter of a multipart that has ended")
}

// encodedMultipart looks for parts in the decoded body of a multipart, which
// must not be encoded (RFC 2045 section 6.4).
func (w *walker) encodedMultipart(p *mail.Part, r reading, encs []string, plain bool) {
	for _, d := range w.decode(r.head.Body, encs) {
		if entity.IsIdentity(d.how) || !entity.HasDelimiter(d.data, r.boundary) {
			w.drop(d.held)
			continue
		}
		if w.budget.Take(int64(len(d.data))) != nil {
			return
		}
		inner := r
		inner.head = &entity.Head{Body: d.data}
		q := p
		if plain {
			q = w.child(p)
			q.Flags |= mail.PartAmbiguous
		}
		w.doubt(p, "encoded multipart")
		w.multipart(q, inner)
	}
}

// loose looks into text before the first and after the last delimiter. It is
// a part only if something is hidden there.
func (w *walker) loose(p *mail.Part, text []byte) {
	if len(text) == 0 || entity.Blank(text) {
		return
	}
	q := w.detached(p, 0)
	if h := bytes.TrimLeft(text, "\r\n"); entity.BeginsWithContent(h) {
		// a part whose delimiter is missing
		w.entity(q, h, textPlain)
		if q.Data != nil || !q.Leaf() {
			w.doubt(p, "a part header stands outside the delimiters")
			q.Flags |= mail.PartAmbiguous
			p.Children = append(p.Children, q)
		}
		return
	}
	q.Media, q.Data, q.Size, q.How = []string{textPlain}, text, int64(len(text)), "7bit"
	w.embedded(q)
	if !q.Leaf() {
		p.Children = append(p.Children, q)
	}
}
