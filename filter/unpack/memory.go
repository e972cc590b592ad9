package unpack

import "postern/filter/mail"

// This file keeps account of the memory that parts hold on to beyond the
// message: what was decoded, and the texts of other readings. All of it is
// granted by the budget before a part has it, and given back when the reading
// that needed it is not among the parts in the end.

// mark is what parts held at some time.
type mark struct{ held, kept int64 }

func (w *walker) mark() mark { return mark{w.held, w.kept} }

// hold reports whether n octets are granted. If not, the message is over the
// limits.
func (w *walker) hold(n int64) bool {
	if !w.budget.Hold(n) {
		w.budget.Note("memory")
		return false
	}
	w.held += n
	return true
}

// room reports whether n octets would be granted, before they are taken, and
// has what others took before cleared away if n is much.
func (w *walker) room(n int) bool {
	if int64(n) > w.budget.MemoryLeft() {
		w.budget.Note("memory")
		return false
	}
	w.budget.Collect(int64(n))
	return true
}

// drop gives back n octets.
func (w *walker) drop(n int64) {
	w.held -= n
	w.budget.Release(n)
}

// dropTo gives back all that was granted since m: none of it is held.
func (w *walker) dropTo(m mark) {
	w.drop(w.held - m.held)
	w.kept = m.kept
}

// dropUnused gives back the n octets of text unless p, or a part below it, lies
// in it.
func (w *walker) dropUnused(p *mail.Part, text []byte, n int64) {
	if n == 0 {
		return
	}
	for q := range p.All() {
		if within(text, q.Data) {
			return
		}
	}
	w.drop(n)
}
