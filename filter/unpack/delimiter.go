package unpack

import (
	"bytes"

	"postern/filter/unpack/codec"
)

// This file finds the delimiter lines of multiparts (RFC 2046 section 5.1.1).

// delimiter is a line that begins with "--" and a boundary.
type delimiter struct {
	start, end int  // the line, with its end
	text       int  // offset after the "--"
	close      bool // "--" follows the boundary
	// odd says that not every reader takes the line for a delimiter: blanks
	// before it or other text after it.
	odd bool
}

// maxDelimiters bounds the delimiters of one multipart: more than any message
// may have parts.
const maxDelimiters = 20_000

// delimiters returns all lines of body that are delimiters to any reader.
// bareCR says that there would be others if CR were an end of line.
func delimiters(body []byte, boundary string) (out []delimiter, bareCR bool) {
	needle := append([]byte("--"), boundary...)
	for from := 0; ; {
		i := bytes.Index(body[from:], needle)
		if i < 0 || len(out) == maxDelimiters {
			return out, bareCR
		}
		at := from + i
		d := delimiter{start: from + bytes.LastIndexByte(body[from:at], '\n') + 1, end: len(body), text: at + 2}
		if j := bytes.IndexByte(body[at:], '\n'); j >= 0 {
			d.end = at + j + 1
		}
		from = d.end
		line := codec.TrimEOL(body[d.start:d.end])
		bareCR = bareCR || bytes.IndexByte(line, '\r') >= 0
		if !control(body[d.start:at]) {
			continue
		}
		d.odd = at > d.start
		tail := bytes.TrimRight(line[min(len(line), at+len(needle)-d.start):], " \t")
		if bytes.HasPrefix(tail, []byte("--")) {
			d.close = true
			tail = tail[2:]
		}
		d.odd = d.odd || len(tail) > 0
		out = append(out, d)
	}
}

func hasDelimiter(body []byte, boundary string) bool {
	ds, _ := delimiters(body, boundary)
	return len(ds) > 0
}

// control reports whether b holds only blanks and control characters.
func control(b []byte) bool {
	for _, c := range b {
		if c > ' ' {
			return false
		}
	}
	return true
}

// maxEnded bounds the boundaries that are looked for where they should not be:
// more than the 70 octets of RFC 2046.
const maxEnded = 256

// endedDelimiters returns the lines of body that begin with "--" and one of the
// boundaries. Some readers do not ask what follows it.
func endedDelimiters(body []byte, boundaries map[string]bool) (out []delimiter) {
	for from := 0; len(out) < maxDelimiters; {
		i := bytes.Index(body[from:], []byte("--"))
		if i < 0 {
			break
		}
		at := from + i
		d := delimiter{start: from + bytes.LastIndexByte(body[from:at], '\n') + 1, end: len(body), text: at + 2}
		if j := bytes.IndexByte(body[at:], '\n'); j >= 0 {
			d.end = at + j + 1
		}
		from = d.end
		if !control(body[d.start:at]) {
			continue
		}
		text := codec.TrimEOL(body[d.text:d.end])
		for n := min(len(text), maxEnded); n > 0; n-- {
			if boundaries[string(text[:n])] {
				d.close = bytes.HasPrefix(text[n:], []byte("--"))
				out = append(out, d)
				break
			}
		}
	}
	return out
}

// onlyDelimiters reports whether text holds nothing but lines that begin with
// "--" and empty ones.
func onlyDelimiters(text []byte) bool {
	for l := (codec.Lines{Rest: text}); ; {
		line, ok := l.Next()
		if !ok {
			return true
		}
		if !blank(line) && !bytes.HasPrefix(line, []byte("--")) {
			return false
		}
	}
}

type span struct{ start, end int }

// segmentation is a body cut at its delimiters.
type segmentation struct {
	parts []span
	first int // end of the preamble
	last  int // start of the epilogue, len(body) if there is none
}

// segments cuts body. A strict reader ignores odd delimiters and all after the
// close delimiter.
func segments(body []byte, ds []delimiter, strict bool) segmentation {
	s := segmentation{first: len(body), last: len(body)}
	open := -1
	for _, d := range ds {
		if strict && d.odd {
			continue
		}
		if open >= 0 {
			s.parts = append(s.parts, span{open, contentEnd(body, open, d.start)})
		} else if len(s.parts) == 0 && s.first == len(body) {
			s.first = d.start
		}
		open = d.end
		if d.close {
			open = -1
			s.last = d.end
			if strict {
				return s
			}
		}
	}
	if open >= 0 {
		s.parts = append(s.parts, span{open, len(body)})
		s.last = len(body)
	}
	return s
}

// contentEnd takes off the line end that belongs to the delimiter at end.
func contentEnd(body []byte, start, end int) int {
	if end > start && body[end-1] == '\n' {
		end--
		if end > start && body[end-1] == '\r' {
			end--
		}
	}
	return end
}

// maxGuesses bounds the boundaries that are guessed for one multipart.
const maxGuesses = 3

// guessBoundaries returns what looks like the boundaries of a body: lines that
// begin with "--" and are followed by a Content-* field.
func guessBoundaries(body []byte) []string {
	var out []string
	for pos := 0; pos < len(body) && len(out) < maxGuesses; {
		end := len(body)
		if i := bytes.IndexByte(body[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := bytes.Trim(body[pos:end], " \t\r\n\x00")
		next := body[end:]
		if len(line) >= 2 && len(line) < 4096 && line[0] == '-' && line[1] == '-' &&
			beginsWithContent(next) {
			out = dedupe(append(out, string(line[2:])))
		}
		pos = end
	}
	return out
}
