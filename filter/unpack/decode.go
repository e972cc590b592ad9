package unpack

import (
	"bytes"
	"slices"

	"postern/filter/unpack/armour"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/entity"
)

// This file undoes the transfer encodings of a part, all that readers may see.

// decoded is what one reading of a transfer encoding yields.
type decoded struct {
	data []byte
	how  string
	name string // uuencode brings its own
	held int64  // octets of data that the budget granted

	bare []byte // data without the line ends at its end
}

// decode returns the results of all encodings that readers may see in body,
// without those that are equal; never none. New texts are clipped: what the
// walker cuts from a text has a capacity up to its end.
func (w *walker) decode(body []byte, encs []string) []decoded {
	var out []decoded
	add := func(d decoded) bool {
		d.bare = bytes.TrimRight(d.data, "\r\n")
		for _, o := range out {
			if bytes.Equal(o.bare, d.bare) {
				return true
			}
		}
		if !entity.IsIdentity(d.how) && !w.own(body, out, &d) {
			return false
		}
		out = append(out, d)
		return true
	}
	for _, e := range encs {
		if !entity.IsIdentity(e) && w.budget.Take(int64(len(body))) != nil {
			break
		}
		switch e {
		case "base64":
			ready := func() bool { return w.room(len(body)) && w.budget.Take(int64(len(body)/2)) == nil }
			for data := range codec.Base64(body, ready) {
				if !add(decoded{data: data, how: e}) {
					break
				}
			}
		case "quoted-printable":
			if !w.room(2 * len(body)) {
				break
			}
			for _, data := range codec.QuotedPrintable(body) {
				add(decoded{data: data, how: e})
			}
		case "uuencode":
			files := armour.FindUU(body)
			for _, f := range files {
				if !add(decoded{data: f.Data, how: e, name: f.Name}) {
					break
				}
			}
			if len(files) > 0 {
				break
			}
			if data := armour.UUBody(body); len(data) > 0 { // without its first line
				add(decoded{data: data, how: e})
			} else {
				add(decoded{data: body, how: "7bit"})
			}
		default:
			add(decoded{data: body, how: "7bit"})
		}
	}
	if len(out) == 0 {
		return []decoded{{data: body, how: "7bit"}}
	}
	return out
}

// own asks for the memory of d, a new text, unless it is body itself or the
// start of one of the others, which is taken in its place.
func (w *walker) own(body []byte, others []decoded, d *decoded) bool {
	if len(d.data) == 0 || within(body, d.data) {
		d.data = slices.Clip(d.data)
		return true
	}
	for _, o := range others {
		if bytes.HasPrefix(o.data, d.data) {
			d.data = o.data[:len(d.data):len(d.data)]
			return true
		}
	}
	d.held = int64(cap(d.data))
	d.data = slices.Clip(d.data)
	return w.hold(d.held)
}
