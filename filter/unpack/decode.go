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
}

// decode returns the results of all encodings that readers may see in body,
// without those that are equal; never none. New texts are clipped: what the
// walker cuts from a text has a capacity up to its end.
func (w *walker) decode(body []byte, encs []string) []decoded {
	var out []decoded
	add := func(d decoded) {
		for _, o := range out {
			if bytes.Equal(bytes.TrimRight(o.data, "\r\n"), bytes.TrimRight(d.data, "\r\n")) {
				return
			}
		}
		if !entity.IsIdentity(d.how) {
			d.data = slices.Clip(d.data)
		}
		out = append(out, d)
	}
	for _, e := range encs {
		if !entity.IsIdentity(e) && w.budget.Take(int64(len(body))) != nil {
			break
		}
		switch e {
		case "base64":
			for _, data := range codec.Base64(body) {
				add(decoded{data: data, how: e})
			}
		case "quoted-printable":
			for _, data := range codec.QuotedPrintable(body) {
				add(decoded{data: data, how: e})
			}
		case "uuencode":
			files := armour.FindUU(body)
			for _, f := range files {
				add(decoded{data: f.Data, how: e, name: f.Name})
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
