package armour

import (
	"bytes"
	"hash/maphash"
	"html"
	"slices"
	"strings"

	"postern/filter/unpack/codec"
)

// This file looks for files that an HTML or SVG page carries.

var hashSeed = maphash.MakeSeed()

// maxHTML bounds the text that is searched for scripts.
const maxHTML = 4 << 20

// FindInPage returns the files in the data: URIs of a page. The facts are
// "data-uri", and "html-smuggling" if the page puts a file together in a way
// that no filter sees.
func FindInPage(page []byte) (out []File, facts []string) {
	seen := map[uint64]bool{} // names and contents, by their hash
	for _, page := range pageViews(page[:min(len(page), maxHTML)]) {
		text := lowerASCII(page)
		has := func(list ...string) bool {
			return slices.ContainsFunc(list, func(s string) bool { return bytes.Contains(text, []byte(s)) })
		}
		if has("mssaveoropenblob", "mssaveblob") ||
			has("new blob", "'blob'", "\"blob\"", "new file(", "atob(", "'atob'", "\"atob\"") && has("createobjecturl", "download") {
			facts = append(facts, "html-smuggling")
		}
		for at := 0; len(out) < MaxHidden; {
			start, body, end := dataURI(text, at)
			if start < 0 {
				break
			}
			at = end
			name := downloadName(page[max(0, start-1024):start], page[end:min(len(page), end+1024)])
			facts = append(facts, "data-uri")
			if name != "" || downloads(text[end:min(len(text), end+256)]) || downloads(text[max(0, start-256):start]) {
				facts = append(facts, "html-smuggling")
			}
			f := File{Name: name, Data: codec.Percent(string(page[body:end])), How: "data-uri"}
			if bytes.Contains(text[start:body], []byte("base64")) {
				f.Data = codec.LooseBase64(f.Data)
			}
			var h maphash.Hash
			h.SetSeed(hashSeed)
			_, _ = h.WriteString(f.Name + "\x00")
			_, _ = h.Write(f.Data)
			if sum := h.Sum64(); !seen[sum] {
				seen[sum] = true
				out = append(out, f)
			}
		}
	}
	return out, facts
}

// dataURI finds the next data: URI (RFC 2397) in text, from at on: its start,
// the start of its data, and its end.
func dataURI(text []byte, at int) (start, body, end int) {
	for {
		i := bytes.Index(text[at:], []byte("data:"))
		if i < 0 {
			return -1, 0, 0
		}
		start = at + i
		at = start + len("data:")
		comma := bytes.IndexByte(text[at:min(len(text), at+256)], ',')
		if comma < 0 || bytes.ContainsAny(text[at:at+comma], "<>\"'(){}") || comma > 0 && !bytes.ContainsAny(text[at:at+comma], "/;") {
			continue
		}
		body, end = at+comma+1, len(text)
		stops := "\"'<>)\\ "
		if q := text[max(start-1, 0)]; q == '"' || q == '\'' {
			stops = string(q)
		}
		if i := bytes.IndexAny(text[body:], stops); i >= 0 {
			end = body + i
		}
		return start, body, end
	}
}

// pageViews returns the text of a page as browsers see it, which is never
// UTF-16 with its zero octets and sometimes UTF-7, and as its scripts and
// addresses are seen: without character references, line ends in addresses and
// strings taken apart.
func pageViews(page []byte) [][]byte {
	if bytes.IndexByte(page, 0) >= 0 {
		page = bytes.ReplaceAll(page, []byte{0}, nil)
	}
	views := [][]byte{page}
	if bytes.Contains(page, []byte("+ADw")) {
		page = []byte(codec.UTF7(string(page)))
		views = append(views, page)
	}
	plain := joinStrings.Replace(html.UnescapeString(string(page)))
	if plain != string(page) {
		views = append(views, []byte(plain))
	}
	return views
}

var joinStrings = strings.NewReplacer("\t", "", "\r", "", "\n", "", "'+'", "", `"+"`, "", "' + '", "", `" + "`, "")

// downloads reports whether a piece of a tag has the download attribute.
func downloads(b []byte) bool { return bytes.Contains(b, []byte("download")) }

// downloadName returns the value of the download attribute in the tag that
// begins in before and ends in after.
func downloadName(before, after []byte) string {
	if i := bytes.LastIndexByte(before, '<'); i >= 0 {
		before = before[i:]
	}
	if i := bytes.IndexByte(after, '>'); i >= 0 {
		after = after[:i]
	}
	for _, b := range [][]byte{after, before} {
		i := bytes.Index(lowerASCII(b), []byte("download="))
		if i < 0 {
			continue
		}
		v := string(b[i+len("download="):])
		if v != "" && (v[0] == '"' || v[0] == '\'') {
			v, _, _ = strings.Cut(v[1:], v[:1])
		} else if j := strings.IndexAny(v, " \t\r\n>"); j >= 0 {
			v = v[:j]
		}
		return v
	}
	return ""
}

func lowerASCII(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return out
}
