package entity

import (
	"bytes"

	"postern/filter/unpack/codec"
)

// This file finds the delimiter lines of multiparts (RFC 2046 section 5.1.1).

// Delimiter is a line that begins with "--" and a boundary.
type Delimiter struct {
	Start, End int  // the line, with its end
	Text       int  // offset after the "--"
	close      bool // "--" follows the boundary
	// Odd says that not every reader takes the line for a delimiter: blanks
	// before it or other text after it.
	Odd bool
}

// MaxDelimiters bounds the delimiters of one multipart: more than any message
// may have parts.
const MaxDelimiters = 20_000

// Delimiters returns all lines of body that are delimiters to any reader.
// bareCR says that there would be others if CR were an end of line.
func Delimiters(body []byte, boundary string) (out []Delimiter, bareCR bool) {
	needle := append([]byte("--"), boundary...)
	for from := 0; ; {
		i := bytes.Index(body[from:], needle)
		if i < 0 || len(out) == MaxDelimiters {
			return out, bareCR
		}
		at := from + i
		d := Delimiter{Start: from + bytes.LastIndexByte(body[from:at], '\n') + 1, End: len(body), Text: at + 2}
		if j := bytes.IndexByte(body[at:], '\n'); j >= 0 {
			d.End = at + j + 1
		}
		from = d.End
		line := codec.TrimEOL(body[d.Start:d.End])
		bareCR = bareCR || bytes.IndexByte(line, '\r') >= 0
		if !control(body[d.Start:at]) {
			continue
		}
		d.Odd = at > d.Start
		tail := bytes.TrimRight(line[min(len(line), at+len(needle)-d.Start):], " \t")
		if bytes.HasPrefix(tail, []byte("--")) {
			d.close = true
			tail = tail[2:]
		}
		d.Odd = d.Odd || len(tail) > 0
		out = append(out, d)
	}
}

// HasDelimiter reports whether any reader takes a line of body for a delimiter.
func HasDelimiter(body []byte, boundary string) bool {
	ds, _ := Delimiters(body, boundary)
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

// EndedDelimiters returns the lines of body that begin with "--" and one of the
// boundaries. Some readers do not ask what follows it.
func EndedDelimiters(body []byte, boundaries map[string]bool) (out []Delimiter) {
	for from := 0; len(out) < MaxDelimiters; {
		i := bytes.Index(body[from:], []byte("--"))
		if i < 0 {
			break
		}
		at := from + i
		d := Delimiter{Start: from + bytes.LastIndexByte(body[from:at], '\n') + 1, End: len(body), Text: at + 2}
		if j := bytes.IndexByte(body[at:], '\n'); j >= 0 {
			d.End = at + j + 1
		}
		from = d.End
		if !control(body[d.Start:at]) {
			continue
		}
		text := codec.TrimEOL(body[d.Text:d.End])
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

// OnlyDelimiters reports whether text holds nothing but lines that begin with
// "--" and empty ones.
func OnlyDelimiters(text []byte) bool {
	for l := (codec.Lines{Rest: text}); ; {
		line, ok := l.Next()
		if !ok {
			return true
		}
		if !Blank(line) && !bytes.HasPrefix(line, []byte("--")) {
			return false
		}
	}
}

// Span is a half-open range of offsets.
type Span struct{ Start, End int }

// Segmentation is a body cut at its delimiters.
type Segmentation struct {
	Parts []Span
	First int // end of the preamble
	Last  int // start of the epilogue, len(body) if there is none
}

// Segments cuts body. A strict reader ignores odd delimiters and all after the
// close delimiter.
func Segments(body []byte, ds []Delimiter, strict bool) Segmentation {
	s := Segmentation{First: len(body), Last: len(body)}
	open := -1
	for _, d := range ds {
		if strict && d.Odd {
			continue
		}
		if open >= 0 {
			s.Parts = append(s.Parts, Span{open, contentEnd(body, open, d.Start)})
		} else if len(s.Parts) == 0 && s.First == len(body) {
			s.First = d.Start
		}
		open = d.End
		if d.close {
			open = -1
			s.Last = d.End
			if strict {
				return s
			}
		}
	}
	if open >= 0 {
		s.Parts = append(s.Parts, Span{open, len(body)})
		s.Last = len(body)
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

// GuessBoundaries returns what looks like the boundaries of a body: lines that
// begin with "--" and are followed by a Content-* field.
func GuessBoundaries(body []byte) []string {
	var out []string
	for pos := 0; pos < len(body) && len(out) < maxGuesses; {
		end := len(body)
		if i := bytes.IndexByte(body[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := bytes.Trim(body[pos:end], " \t\r\n\x00")
		next := body[end:]
		if len(line) >= 2 && len(line) < 4096 && line[0] == '-' && line[1] == '-' &&
			BeginsWithContent(next) {
			out = dedupe(append(out, string(line[2:])))
		}
		pos = end
	}
	return out
}
