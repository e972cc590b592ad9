// Package entity reads what a part of a message says about itself: the fields of
// its header, parameters and names in all spellings, boundaries and delimiters,
// transfer encodings. Where readers of mail differ, it returns what each of them
// sees. It is pure: it walks nothing, pays nothing and decides nothing.
//
// Start with ScanHead and Head, and with ParseValue, whose parameters Lookup
// reads.
package entity

import (
	"bytes"

	"postern/filter/unpack/codec"
)

// This file finds the header block of a part and the Content-* fields in it.
// Readers of mail differ in where a damaged header ends and in which damaged
// lines still are fields: Head keeps what each of them needs.

// Field is one field whose name begins with "Content-".
type Field struct {
	at    int    // offset of the field in the part
	Name  string // lower case, without blanks: "content-type"
	Value string // folds are kept as "\n" with the blanks after it
	Odd   bool   // some readers do not take this line for that field
}

// Head is one reading of the header of a part. Body is what follows it, and a
// slice of the part up to its end.
type Head struct {
	Fields []Field
	Body   []byte
	// Weird says that the header holds bare CR, which some readers take for
	// an end of line.
	Weird bool
	Over  bool // longer than the limits: the rest was not parsed
}

// Limits bound what is parsed of one header block.
type Limits struct {
	Header int // octets
	Fields int // number of fields
}

// ScanHead parses the header at the start of data. The first head is the
// reading that skips damaged lines. The others, few and seldom there, end the
// header at a line that is no field or at one of blanks only.
func ScanHead(data []byte, l Limits) []Head {
	s := headScan{data: data, limits: l, junk: -1, blank: -1, lateJunk: -1}
	s.run()
	heads := []Head{s.Head}
	if s.named == 0 && s.junk < 0 {
		return append(heads, afterEmptyLines(data, l)...)
	}
	if s.junk >= 0 && s.named == 0 {
		// no field before the first line that is none: all is body
		heads[0] = s.cut(s.junk)
		if len(s.Fields) > 0 {
			heads = append(heads, s.Head)
		}
		return heads
	}
	done := map[int]bool{-1: true}
	for _, at := range []int{s.junk, s.lateJunk, s.blank} {
		if !done[at] {
			done[at] = true
			heads = append(heads, s.cut(at))
		}
	}
	return heads
}

// afterEmptyLines returns the header of a part that begins with empty lines,
// which some readers skip.
func afterEmptyLines(data []byte, l Limits) []Head {
	data = bytes.TrimPrefix(data, utf8BOM)
	rest := bytes.TrimLeft(data, "\r\n")
	if len(rest) == len(data) || !BeginsWithContent(rest) && !LooksLikeMail(rest) {
		return nil
	}
	return ScanHead(rest, l)
}

// BeginsWithContent reports whether b begins with a Content-* field.
func BeginsWithContent(b []byte) bool {
	return len(b) > 8 && bytes.EqualFold(b[:8], []byte("content-"))
}

type headScan struct {
	Head
	data   []byte
	limits Limits

	named    int // valid fields, of any name
	junk     int // offset of the first line that is no field
	lateJunk int // the same after the last Content-* field
	blank    int // offset of the first line of blanks only
}

func (s *headScan) cut(at int) Head {
	h := Head{Body: s.data[at:], Weird: s.Weird, Over: s.Over}
	for _, f := range s.Fields {
		if f.at < at {
			h.Fields = append(h.Fields, f)
		}
	}
	return h
}

func (s *headScan) run() {
	pos := 0
	bom := bytes.HasPrefix(s.data, utf8BOM)
	if bom {
		pos = len(utf8BOM)
	}
	if rest := s.data[pos:]; bytes.HasPrefix(rest, []byte("From ")) || bytes.HasPrefix(rest, []byte(">From ")) {
		pos = codec.LineEnd(s.data, pos) // mailbox separator: all readers skip it here
	}
	for n := 0; pos < len(s.data); n++ {
		if pos > s.limits.Header || n >= s.limits.Fields {
			s.Over = true
			break
		}
		end := codec.LineEnd(s.data, pos)
		line := codec.TrimEOL(s.data[pos:end])
		if end-pos-len(line) > 2 {
			s.Weird = true
		}
		if len(line) == 0 {
			pos = end
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			s.stray(pos, line)
			pos = end
			continue
		}
		if bytes.IndexByte(line, '\r') >= 0 {
			s.Weird = true
		}
		end = s.fieldEnd(end)
		s.field(pos, line, end, bom && n == 0)
		pos = end
	}
	s.Body = s.data[pos:]
}

// fieldEnd returns the end of a field whose first line ends at end. A line of
// blanks only does not continue it, so that it is seen for what it is.
func (s *headScan) fieldEnd(end int) int {
	for end < len(s.data) && end <= s.limits.Header && (s.data[end] == ' ' || s.data[end] == '\t') {
		next := codec.LineEnd(s.data, end)
		line := codec.TrimEOL(s.data[end:next])
		if Blank(line) {
			break
		}
		if next-end-len(line) > 2 || bytes.IndexByte(line, '\r') >= 0 {
			s.Weird = true
		}
		end = next
	}
	return end
}

// stray takes a line that begins with a blank and continues no field.
func (s *headScan) stray(at int, line []byte) {
	if Blank(line) {
		if s.blank < 0 {
			s.blank = at
		}
		return
	}
	if s.blank < 0 { // else it continues the field before the blank line
		s.noField(at)
	}
}

func (s *headScan) noField(at int) {
	if s.junk < 0 {
		s.junk = at
	}
	if s.lateJunk < 0 {
		s.lateJunk = at
	}
}

// field takes the field of data[at:end] whose first line is line.
func (s *headScan) field(at int, line []byte, end int, bom bool) {
	colon := bytes.IndexByte(line, ':')
	if colon > 0 && validName(line[:colon]) {
		s.named++
		if colon >= len("content-") && line[0]|0x20 == 'c' && bytes.EqualFold(line[:len("content-")], []byte("content-")) {
			s.lateJunk = -1
			s.add(at, line[:colon], s.data[at+colon+1:end], bom)
		}
		return
	}
	// "Content-Type :", a name folded in the middle, blanks, NUL or 8-bit in it
	whole := s.data[at:end]
	colon = bytes.IndexByte(whole[:min(len(whole), 200)], ':')
	if colon <= 0 {
		s.noField(at)
		return
	}
	name := cleanName(whole[:colon])
	if blanks := bytes.TrimRight(whole[:colon], " \t"); !validName(blanks) {
		s.noField(at)
	} else {
		s.named++
	}
	if bytes.HasPrefix(name, []byte("content-")) {
		s.lateJunk = -1
		s.add(at, name, whole[colon+1:], true)
	}
}

// maxField bounds what is parsed of one field.
const maxField = 256 << 10

func (s *headScan) add(at int, name, value []byte, odd bool) {
	if len(value) > maxField {
		s.Over = true
		value = value[:maxField]
	}
	s.Fields = append(s.Fields, Field{
		at:    at,
		Name:  string(bytes.ToLower(name)),
		Value: string(bytes.Trim(bytes.ReplaceAll(value, []byte("\r"), nil), wsp)),
		Odd:   odd,
	})
}

// All returns the fields of that name.
func (h *Head) All(name string) []Field {
	var out []Field
	for _, f := range h.Fields {
		if f.Name == name {
			out = append(out, f)
		}
	}
	return out
}

var utf8BOM = []byte("\xef\xbb\xbf")

// validName is RFC 5322 section 2.2: printable US-ASCII without the colon.
func validName(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// cleanName drops all that cannot stand in a field name.
func cleanName(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c > ' ' && c < 0x7f {
			out = append(out, c)
		}
	}
	return bytes.ToLower(out)
}

// Blank reports whether b holds nothing but blanks and line ends.
func Blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// headerNames are fields that tell a mail from other text.
var headerNames = [][]byte{
	[]byte("from"), []byte("to"), []byte("cc"), []byte("subject"), []byte("date"), []byte("received"),
	[]byte("message-id"), []byte("mime-version"), []byte("content-type"), []byte("return-path"),
	[]byte("reply-to"), []byte("sender"), []byte("delivered-to"), []byte("x-mailer"),
	[]byte("content-transfer-encoding"), []byte("content-disposition"), []byte("dkim-signature"),
}

// LooksLikeMail reports whether data begins with the header of a message: at
// least two well-known fields among the first lines, and only fields.
func LooksLikeMail(data []byte) bool {
	data = bytes.TrimPrefix(data, utf8BOM)
	known := 0
	for n := 0; n < 60 && len(data) > 0; n++ {
		i := bytes.IndexByte(data[:min(len(data), 8192)], '\n')
		line := data
		if i >= 0 {
			line = data[:i]
			data = data[i+1:]
		} else {
			data = nil
		}
		line = codec.TrimEOL(line)
		if len(line) == 0 {
			// a blank line at the very top is seen in files saved by hand
			if n > 1 {
				break
			}
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !couldBeName(line[:colon]) {
			if n == 0 && (bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))) {
				continue
			}
			break
		}
		name := bytes.TrimRight(line[:colon], " \t")
		for _, k := range headerNames {
			if len(name) == len(k) && bytes.EqualFold(name, k) {
				known++
			}
		}
		if known >= 2 {
			return true
		}
	}
	return false
}

// couldBeName reports whether b, which stands before a colon, is no prose: the
// name of a field, blanks before the colon included, or one short word of any
// octets.
func couldBeName(b []byte) bool {
	return validName(bytes.TrimRight(b, " \t")) || len(b) <= 60 && bytes.IndexByte(b, ' ') < 0
}

// FieldsEnd returns the end of the header fields that begin at pos, with the
// empty line after them.
func FieldsEnd(text []byte, pos int) int {
	for start := pos; pos < len(text); {
		end := codec.LineEnd(text, pos)
		line := codec.TrimEOL(text[pos:end])
		switch colon := bytes.IndexByte(line, ':'); {
		case len(line) == 0 && pos > start:
			return end
		case colon > 0 && (validName(line[:colon]) || bytes.HasPrefix(cleanName(line[:min(colon, 100)]), []byte("content"))):
		case pos > start && (line[0] == ' ' || line[0] == '\t'):
		default:
			return pos
		}
		pos = end
	}
	return pos
}
