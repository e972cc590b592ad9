package entity

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"postern/filter/unpack/codec"
)

// This file reads the parameters of Content-Type and Content-Disposition. A
// damaged parameter has several readings, and all are kept: the attacker
// needs only the one that the reader of the mail takes.

// Param is one "name=value" as it stood there.
type Param struct {
	name    string   // lower case; without the RFC 2231 section and "*"
	section int      // RFC 2231 section number, -1 without
	ext     bool     // RFC 2231 extended value: name ended in "*"
	values  []string // readings, the most probable first
	sure    int      // so many of them are what some reader surely sees
	spelled []string // how it is written, when that is no reading of its own
}

// maxValue bounds the octets of an unquoted value, maxReadings what is kept of
// one parameter: half of it are the first ones and half the last.
const (
	maxValue    = 16 << 10
	maxReadings = 24
)

// A value after which the semicolon was forgotten goes up to the next one, and
// so does each that follows: maxLong of them may be as long as others, further
// ones have maxShort octets. maxOpen bounds the comments without an end that
// are looked for. Then all values together take linear time.
const (
	maxLong  = 64
	maxShort = 128
	maxOpen  = 16
)

// wsp is what stands around words in an unfolded field. Other white space
// is not for RFC 5322.
const wsp = " \t\n"

// ParseValue splits a field value into its first word, such as the media type,
// and its parameters. clean says that the word has the syntax of RFC 2045.
func ParseValue(s string) (word string, clean bool, params []Param) {
	p := paramScan{s: s}
	start := strings.TrimLeft(s, wsp)
	if strings.HasPrefix(start, "=?") {
		// the whole field or its first word as an encoded-word
		if decoded := DecodeWords(s); decoded != s {
			word, _, params = ParseValue(strings.ReplaceAll(decoded, "=?", "= ?"))
			return word, false, params
		}
	}
	raw := p.until(";")
	if i := strings.IndexByte(raw, '='); i >= 0 && !strings.ContainsAny(raw[:i], "/\"(") {
		p.i = 0 // no first word: parameters begin at once
		raw = ""
	}
	if i := strings.IndexAny(raw, wsp); i > 0 && strings.IndexByte(raw[i:], '=') > 0 {
		p.i = i // the first semicolon was forgotten
		raw = raw[:i+1]
	}
	word = strings.Trim(stripComments(raw), " \t\n\"")
	clean = p.i >= len(s) || s[p.i] == ';'
	clean = clean && raw != "" && isToken(strings.Trim(raw, wsp))
	for p.i < len(s) {
		p.param()
	}
	return strings.ToLower(word), clean, p.out
}

// isToken reports whether s is a type or an encoding as it should be: token
// characters and at most one slash.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"[]?=`, c) >= 0 {
			return false
		}
	}
	return s != "" && strings.Count(s, "/") <= 1
}

type paramScan struct {
	s   string
	i   int
	out []Param

	// an opening quote or comment without its end was met: further ones are
	// not searched for, so that the time stays linear
	openQuote, openComment bool

	open      int // comments without an end that stood before or after a value
	forgotten int // semicolons
	semicolon int // offset of the next one, see next
	equals    int // the same
	trimmed   int // offset of the blanks before the next semicolon
}

// next returns the offset of the next c from at on, len(p.s) if there is none.
// It is kept in known, so that no stretch is searched twice.
func (p *paramScan) next(c byte, at int, known *int) int {
	if *known < at || *known == 0 {
		if i := strings.IndexByte(p.s[at:], c); i >= 0 {
			*known = at + i
		} else {
			*known = len(p.s)
		}
	}
	return *known
}

// until returns the text up to one of the stops outside quotes and comments,
// and stays there.
func (p *paramScan) until(stops string) string {
	start := p.i
	for p.i < len(p.s) {
		if strings.IndexByte(stops, p.s[p.i]) >= 0 {
			return p.s[start:p.i]
		}
		p.skip()
	}
	return p.s[start:]
}

// skip goes behind the next character, quoted string or comment. Of what is
// never closed it remembers that, so that no end is looked for twice.
func (p *paramScan) skip() {
	switch c := p.s[p.i]; {
	case c == '"' && !p.openQuote:
		if end := closingQuote(p.s, p.i); end > 0 {
			p.i = end
		} else {
			p.openQuote = true
		}
	case c == '(' && !p.openComment:
		if end := commentEnd(p.s, p.i); end > 0 {
			p.i = end - 1
		} else {
			p.openComment = true
		}
	}
	p.i++
}

// param reads one parameter and the semicolons before it.
func (p *paramScan) param() {
	for p.i < len(p.s) && strings.IndexByte("; \t\n,", p.s[p.i]) >= 0 {
		p.i++
	}
	name := p.until("=;")
	if p.i >= len(p.s) || p.s[p.i] == ';' {
		return
	}
	p.i++
	out := newParam(name)
	for p.i < len(p.s) && strings.IndexByte(wsp, p.s[p.i]) >= 0 {
		p.i++
	}
	if p.i < len(p.s) && p.s[p.i] == '(' && p.open < maxOpen {
		// "name=(comment)value"; without the comment taken off it is below
		if end := commentEnd(p.s, p.i); end > 0 {
			out.spelled = append(out.spelled, strings.TrimSpace(p.s[p.i:p.next(';', p.i, &p.semicolon)]))
			p.i = end
		} else {
			p.open++
		}
	}
	if p.i < len(p.s) && p.s[p.i] == '"' {
		p.quoted(&out)
	} else {
		p.token(&out)
	}
	out.vary()
	p.out = append(p.out, out)
}

// newParam takes name apart: "filename*1*" is filename, section 1, extended.
func newParam(name string) Param {
	name = strings.TrimSpace(stripComments(name))
	if i := strings.IndexByte(name, '*'); i >= 0 {
		name = strings.TrimRight(name[:i], wsp) + strings.Join(strings.Fields(name[i:]), "")
	}
	if i := strings.LastIndexAny(name, wsp); i >= 0 {
		name = name[i+1:]
	}
	name = strings.ToLower(strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == '"' {
			return -1
		}
		return r
	}, name))
	out := Param{section: -1, sure: 1}
	if strings.HasSuffix(name, "*") {
		out.ext = true
		name = strings.TrimRight(name, "*")
	}
	if base, number, ok := strings.Cut(name, "*"); ok {
		if n, err := strconv.Atoi(number); err == nil && n >= 0 {
			out.section = n
		}
		name = base
	}
	out.name = name
	return out
}

// quoted reads a quoted string at p.i and what stands between it and the next
// semicolon.
func (p *paramScan) quoted(out *Param) {
	end := closingQuote(p.s, p.i)
	if end < 0 { // never closed
		rest := p.s[p.i+1:]
		short, _, cut := strings.Cut(rest, ";")
		out.values = append(out.values, unescape(rest))
		if cut {
			out.values = append(out.values, strings.TrimSpace(unescape(short)))
		}
		if line, _, ok := strings.Cut(rest, "\n"); ok {
			out.values = append(out.values, strings.TrimRight(unescape(line), "; \t"))
		}
		p.i += 1 + len(short)
		return
	}
	raw := p.s[p.i+1 : end]
	value := unescape(raw)
	out.values = append(out.values, value)
	if value != raw {
		out.spelled = append(out.spelled, raw)
		if i := strings.IndexByte(raw, '"'); i >= 0 {
			// a reader without escapes ends here
			out.values = append(out.values, raw[:i])
		}
	}
	p.i = end + 1
	if p.skipComments(); p.i >= len(p.s) || p.s[p.i] == ';' {
		return
	}
	p.i = end + 1
	if p.forgets() {
		return
	}
	tail := p.until(";")
	out.values = append(out.values, value+unescape(strings.ReplaceAll(strings.TrimSpace(tail), `"`, "")))
}

// skipComments goes over blanks and comments.
func (p *paramScan) skipComments() {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case strings.IndexByte(wsp, c) >= 0:
			p.i++
		case c == '(' && p.open < maxOpen:
			end := commentEnd(p.s, p.i)
			if end < 0 {
				p.open++
				return
			}
			p.i = end
		default:
			return
		}
	}
}

// forgets reports whether an equals sign comes before the next semicolon: the
// one between two parameters was forgotten. It stays where it is and looks no
// further than to that sign.
func (p *paramScan) forgets() bool {
	start := p.i
	equals := p.next('=', start, &p.equals)
	if equals == start || equals == len(p.s) {
		return false
	}
	defer func() { p.i = start }()
	for p.i <= equals {
		if p.s[p.i] == ';' {
			return false
		}
		p.skip()
	}
	return true
}

// token reads an unquoted value, which may hold what it should not.
func (p *paramScan) token(out *Param) {
	end := p.next(';', p.i, &p.semicolon)
	if p.trimmed < p.i || p.trimmed > end { // not yet known of this semicolon
		p.trimmed = p.i + len(strings.TrimRightFunc(p.s[p.i:end], unicode.IsSpace))
	}
	raw := strings.TrimLeftFunc(p.s[p.i:p.trimmed], unicode.IsSpace)
	start := p.trimmed - len(raw)
	p.i = end
	// "boundary=a boundary=b": a forgotten semicolon
	if i := strings.IndexAny(raw, wsp); i >= 0 && p.next('=', start+i, &p.equals) < end && !strings.HasPrefix(raw, "=?") {
		p.forgotten++
		p.i = start + i
	}
	most := maxValue
	if p.forgotten > maxLong {
		most = maxShort
	}
	if n := len(raw) - most; n > 0 {
		out.spelled = append(out.spelled, raw[n:])
		raw = raw[:most]
	}
	if !strings.ContainsAny(raw, " \t\n(\"") {
		out.values = append(out.values, raw)
		return
	}
	if strings.HasPrefix(raw, "=?") {
		out.values = append(out.values, raw)
		return
	}
	word := raw[:strings.IndexAny(raw, " \t\n(\"")]
	stripped := strings.TrimSpace(stripComments(raw))
	out.values = append(out.values, stripped, raw, word)
	out.sure = 2
	if strings.IndexByte(raw, '"') >= 0 {
		out.values = append(out.values, strings.ReplaceAll(stripped, `"`, ""))
	}
}

// vary adds the readings that come from folds and NULs inside a value.
func (p *Param) vary() {
	for _, v := range slices.Clone(p.values) {
		if strings.IndexByte(v, '\n') >= 0 {
			p.values = append(p.values, unfold(v, true))
		}
	}
	for i, v := range p.values {
		p.values[i] = unfold(v, false)
	}
	for _, v := range slices.Clone(p.values) {
		if i := strings.IndexByte(v, 0); i >= 0 {
			p.values = append(p.values, strings.ReplaceAll(v, "\x00", ""), v[:i])
		}
	}
	p.values = dedupe(p.values)
}

// unfold removes the line ends; with blanks also the white space of the folds.
func unfold(s string, blanks bool) string {
	if !blanks {
		return strings.ReplaceAll(s, "\n", "")
	}
	lines := strings.Split(s, "\n")
	for i := 1; i < len(lines); i++ {
		lines[i] = strings.TrimLeft(lines[i], " \t")
	}
	return strings.Join(lines, "")
}

// closingQuote returns the offset of the quote that closes the one at i, or -1.
func closingQuote(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// commentEnd returns the offset after the comment that opens at i, or -1.
func commentEnd(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// stripComments removes RFC 5322 comments outside quotes.
func stripComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var b strings.Builder
	openQuote := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			if end := commentEnd(s, i); end > 0 {
				i = end - 1
				continue
			}
			return b.String() + s[i:] // never closed: no comment
		case '"':
			if openQuote {
				break
			}
			if end := closingQuote(s, i); end > 0 {
				b.WriteString(s[i : end+1])
				i = end
				continue
			}
			openQuote = true
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unescape removes the backslashes of quoted pairs.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// dedupe drops what stands in list before, which it overwrites.
func dedupe(list []string) []string {
	const few = 32 // of so many the search takes no longer than a map
	out := list[:0]
	var seen map[string]bool
	for _, s := range list {
		if len(out) == few && seen == nil {
			seen = make(map[string]bool, len(list))
			for _, o := range out {
				seen[o] = true
			}
		}
		if seen[s] || seen == nil && slices.Contains(out, s) {
			continue
		}
		if out = append(out, s); seen != nil {
			seen[s] = true
		}
	}
	return out
}

// Lookup returns all readings of the parameter name, the most probable first,
// and further spellings of them. Equal ones appear once.
func Lookup(params []Param, name string) (readings, spelled []string) {
	sure, other, spelled := lookupSure(params, name)
	return dedupe(append(sure, other...)), spelled
}

// lookupSure tells the readings that some reader surely takes from those that
// only a sloppy one might.
func lookupSure(params []Param, name string) (sure, other, spelled []string) {
	var named, pieces []Param
	for _, p := range params {
		if p.name == name && len(p.values) > 0 {
			named = append(named, p)
		}
	}
	params = named
	for i, p := range params {
		if p.section < 0 && i >= maxReadings/2 && i < len(params)-maxReadings/2 {
			continue
		}
		spelled = append(spelled, p.spelled...)
		switch {
		case p.section >= 0:
			pieces = append(pieces, p)
		case p.ext:
			sure = append(sure, DecodeWords(decodeExtended(p.values[0])))
			spelled = append(spelled, p.values...)
		default:
			for i, v := range p.values {
				d := DecodeWords(v)
				if d != v {
					spelled = append(spelled, v)
				}
				if i < p.sure {
					sure = append(sure, d)
				} else {
					other = append(other, d)
				}
			}
		}
	}
	if len(pieces) > 0 {
		s, o := joinPieces(pieces)
		sure, other = append(sure, s...), append(other, o)
	}
	return dedupe(sure), dedupe(other), dedupe(spelled)
}

// joinPieces puts RFC 2231 sections together by number, with and without what
// follows a gap, with the first and with the last of two that have the same
// number; other is the order of appearance.
func joinPieces(pieces []Param) (sure []string, other string) {
	byNumber := slices.Clone(pieces)
	sort.SliceStable(byNumber, func(i, j int) bool { return byNumber[i].section < byNumber[j].section })
	var first, last, whole []Param
	for i, p := range byNumber {
		if i == 0 || byNumber[i-1].section != p.section {
			first = append(first, p)
		}
		if i == len(byNumber)-1 || byNumber[i+1].section != p.section {
			last = append(last, p)
		}
	}
	for i, p := range first {
		if p.section != i {
			break
		}
		whole = append(whole, p)
	}
	for _, list := range [][]Param{whole, first, last} {
		if len(list) > 0 {
			sure = append(sure, join(list, false))
		}
	}
	if s := join(first, true); first[0].ext && s != "" {
		sure = append(sure, s)
	}
	return dedupe(sure), join(pieces, false)
}

// join concatenates the pieces. The charset stands in the first. Extended
// pieces are percent-decoded; some readers, when the first is one, decode all.
func join(pieces []Param, all bool) string {
	var raw []byte
	charset := ""
	for i, p := range pieces {
		v := p.values[0]
		if i == 0 && p.ext {
			if a, rest, ok := strings.Cut(v, "'"); ok {
				if _, b, ok := strings.Cut(rest, "'"); ok {
					charset, v = a, b
				}
			}
		}
		if p.ext || all {
			raw = append(raw, codec.Percent(v)...)
		} else {
			raw = append(raw, v...)
		}
	}
	return DecodeWords(ToUTF8(charset, raw))
}
