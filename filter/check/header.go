package check

// The header check tells what in the top header breaks RFC 5322, RFC 6532 and
// RFC 2045, sorted by Amavis' minors. It is no engine: it asks nobody, needs no
// options and is always there; settings.bad_header.bypass leaves it out.

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"postern/filter/mail"
)

// Header returns the check for headers that break the rules.
func Header() Named {
	return Named{Name: "header", Check: headerCheck{}, Categories: []mail.Category{mail.BadHeader}}
}

type headerCheck struct{}

// Check reports the first complaint of each minor, in the order of the header.
func (headerCheck) Check(_ context.Context, in *Input) (Answer, error) {
	var s headerScan
	for _, f := range in.Tx.Message.Header() {
		s.field(f)
	}
	for i, name := range requiredFields {
		if s.seen&(1<<i) == 0 {
			s.complain(mail.BadHeaderMissing, "Missing field "+name)
		}
	}
	s.contentType()
	s.encoding()
	return Answer{Findings: s.findings}, nil
}

// requiredFields are those without which there is no message (RFC 5322 section
// 3.6). They are the first of the fields that may stand only once.
var requiredFields = []string{"Date", "From"}

// onceFields gives a number to the fields that may stand once (RFC 5322 section
// 3.6, RFC 2045, RFC 2183, RFC 3834), by their name in lower case.
var onceFields = func() map[string]int {
	m := map[string]int{}
	for i, name := range append(requiredFields,
		"Sender", "Reply-To", "To", "Cc", "Bcc", "Subject", "Message-ID", "In-Reply-To", "References",
		"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID",
		"Content-Description", "Auto-Submitted") {
		m[strings.ToLower(name)] = i
	}
	return m
}()

// maxOnceName is longer than any name in onceFields.
const maxOnceName = 32

// Classes of octets in a line of the header.
const (
	octetBlank   = 1 << iota // space and tab
	octetText                // other US-ASCII; what RFC 5322 section 4.1 calls obsolete is still to be read
	octetControl             // NUL and CR
	octetHigh                // 8-bit
)

var octetClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == ' ' || c == '\t':
			t[c] = octetBlank
		case c == 0 || c == '\r':
			t[c] = octetControl
		case c >= 0x80:
			t[c] = octetHigh
		default:
			t[c] = octetText
		}
	}
	return t
}()

// headerScan is one walk through a header.
type headerScan struct {
	line     int // number of the line, from 1
	seen     uint32
	found    [mail.BadHeaderDup + 1]bool
	findings []mail.Finding

	typeField, encodingField placedField
	container                string // media type whose body must not be encoded
}

// placedField is a field and the number of its first line.
type placedField struct {
	mail.Field
	line int
}

func (s *headerScan) field(f mail.Field) {
	s.name(placedField{f, s.line + 1})
	skip := 0
	if f.Name != "" {
		skip = len(f.Raw) - len(f.RawValue())
	}
	for raw := f.Raw; len(raw) > 0; skip = 0 {
		n := lineEnd(raw)
		s.line++
		s.octets(f.Name, bytes.TrimSuffix(raw[:n], crlf), skip)
		raw = raw[n:]
	}
}

// lineEnd returns the length of the first line of b with its CRLF.
func lineEnd(b []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return len(b)
		}
		if n += i + 1; bytes.HasSuffix(b[:n], crlf) {
			return n
		}
	}
}

var crlf = []byte("\r\n")

// maxHeaderLine is the longest line without its CRLF (RFC 5322 section 2.1.1).
const maxHeaderLine = 998

// octets looks at one line of the field name; in its first line the value
// begins at skip.
func (s *headerScan) octets(name string, line []byte, skip int) {
	var have uint8
	for _, c := range line {
		have |= octetClass[c]
	}
	if have&octetHigh != 0 && !s.found[mail.BadHeader8Bit] {
		s.high(name, line, skip)
	}
	if have&octetControl != 0 && !s.found[mail.BadHeaderControl] {
		at := bytes.IndexFunc(line, func(r rune) bool { return r < utf8.RuneSelf && octetClass[r] == octetControl })
		s.complainAt(mail.BadHeaderControl, fmt.Sprintf("Control character %02X hex", line[at]), name, line, skip, at)
	}
	if have == octetBlank && !s.found[mail.BadHeaderSpace] {
		s.complain(mail.BadHeaderSpace, fmt.Sprintf("Line of white space only%s, line %d", inField(name), s.line))
	}
	if len(line) > maxHeaderLine && !s.found[mail.BadHeaderLong] {
		s.complainAt(mail.BadHeaderLong, fmt.Sprintf("Line of %d characters, %d are allowed,", len(line), maxHeaderLine), name, line, skip, -1)
	}
}

// high complains about 8-bit octets that are no UTF-8 text. That the envelope
// does not say SMTPUTF8 is no complaint, as with Amavis ($allowed_header_tests
// without utf8): too much mail is like that, and everybody reads it.
func (s *headerScan) high(name string, line []byte, skip int) {
	for at := 0; at < len(line); {
		r, n := utf8.DecodeRune(line[at:])
		kind := ""
		switch {
		case r == utf8.RuneError && n == 1:
			kind = "and not UTF-8"
		case 0x80 <= r && r < 0xa0:
			kind = "a control character"
		}
		if kind != "" {
			s.complainAt(mail.BadHeader8Bit, fmt.Sprintf("Unencoded 8-bit character %02X hex (%s)", line[at:at+n], kind), name, line, skip, at)
			return
		}
		at += n
	}
}

// name looks at the syntax of the field name and counts the field.
func (s *headerScan) name(f placedField) {
	if f.Name == "" || strings.HasPrefix(f.Name, "--") { // some delimiters hold a colon
		s.noField(f)
		return
	}
	if len(f.Name) > maxOnceName {
		return
	}
	var lower [maxOnceName]byte
	i, once := onceFields[string(appendLower(lower[:0], f.Name))]
	if !once {
		return
	}
	if s.seen&(1<<i) != 0 {
		s.complainField(mail.BadHeaderDup, "Field stands more than once", f)
		return
	}
	s.seen |= 1 << i
	switch {
	case f.Is("Content-Type"):
		s.typeField = f
	case f.Is("Content-Transfer-Encoding"):
		s.encodingField = f
	}
}

// noField complains about a line without a field name.
func (s *headerScan) noField(f placedField) {
	switch start := bytes.TrimLeft(bytes.TrimSuffix(f.Raw[:lineEnd(f.Raw)], crlf), " \t"); {
	case len(start) == 0: // has a minor of its own
	case start[0] == ':':
		s.complainField(mail.BadHeaderSyntax, "Empty field name", f)
	default:
		s.complainField(mail.BadHeaderSyntax, "Line is no header field", f)
	}
}

func appendLower(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

const (
	maxMIMEValue = 16 << 10 // longer ones are not read
	maxBoundary  = 70       // RFC 2046 section 5.1.1
)

// contentType complains about a Content-Type that RFC 2045 does not allow.
func (s *headerScan) contentType() {
	f := s.typeField
	if f.Raw == nil || len(f.Raw) > maxMIMEValue {
		return
	}
	media, params, err := mime.ParseMediaType(withoutComments(f.Value()))
	boundary, has := params["boundary"]
	complaint := ""
	switch multipart := strings.HasPrefix(media, "multipart/"); {
	case err != nil || !strings.Contains(media, "/"):
		complaint = "Faulty Content-Type"
	case multipart && !has:
		complaint = "Content-Type without boundary"
	case multipart && (boundary == "" || len(boundary) > maxBoundary):
		complaint = "Boundary of wrong length"
	}
	if complaint != "" {
		s.complainField(mail.BadHeaderMIME, complaint, f)
	}
	if strings.HasPrefix(media, "multipart/") || media == "message/rfc822" || media == "message/partial" {
		s.container = media
	}
}

// encoding complains about a Content-Transfer-Encoding that does not exist, or
// not for that type (RFC 2045 section 6.4).
func (s *headerScan) encoding() {
	f := s.encodingField
	if f.Raw == nil || len(f.Raw) > maxMIMEValue {
		return
	}
	complaint := ""
	switch word := strings.ToLower(strings.Trim(withoutComments(f.Value()), " \t")); word {
	case "7bit", "8bit", "binary":
	case "quoted-printable", "base64":
		if s.container != "" {
			complaint = "Content-Transfer-Encoding is not allowed for " + s.container
		}
	default:
		if len(word) < 3 || !strings.HasPrefix(word, "x-") {
			complaint = "Unknown Content-Transfer-Encoding"
		}
	}
	if complaint != "" {
		s.complainField(mail.BadHeaderMIME, complaint, f)
	}
}

// withoutComments takes comments in brackets out of a structured value (RFC
// 5322 section 3.2.2).
func withoutComments(v string) string {
	if strings.IndexByte(v, '(') < 0 {
		return v
	}
	b := make([]byte, 0, len(v))
	depth, quoted := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && i+1 < len(v) && (quoted || depth > 0):
			if quoted {
				b = append(b, c, v[i+1])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// complain adds a finding unless there is one of that minor.
func (s *headerScan) complain(minor int, text string) {
	if s.found[minor] {
		return
	}
	s.found[minor] = true
	s.findings = append(s.findings, mail.Finding{
		Category: mail.BadHeader, Minor: minor, Check: "header", Name: text, Rcpt: mail.AllRcpts,
	})
}

// complainField adds the place of f and how it begins.
func (s *headerScan) complainField(minor int, what string, f placedField) {
	if !s.found[minor] {
		start := bytes.ReplaceAll(bytes.TrimSuffix(f.Raw[:min(len(f.Raw), 2*maxExcerpt)], crlf), crlf, nil)
		s.complain(minor, fmt.Sprintf("%s, line %d: %s", what, f.line, excerpt(start, 0, 0)))
	}
}

// complainAt adds field, place and surroundings of the octet at, or the start
// of the value if at is -1.
func (s *headerScan) complainAt(minor int, what, name string, line []byte, skip, at int) {
	column := ""
	if at >= 0 {
		column = fmt.Sprintf(" column %d", at+1)
	}
	s.complain(minor, fmt.Sprintf("%s%s, line %d%s: %s", what, inField(name), s.line, column, excerpt(line, skip, at)))
}

func inField(name string) string {
	if name == "" {
		return ""
	}
	return " in " + excerpt([]byte(name), 0, 0)
}

// maxExcerpt bounds what is quoted of a line, in octets of the line.
const maxExcerpt = 50

// excerpt quotes line from skip on, or what surrounds the octet at when that is
// far behind it, in printable US-ASCII.
func excerpt(line []byte, skip, at int) string {
	var b strings.Builder
	line = line[min(skip, len(line)):]
	if at -= skip; at > maxExcerpt/2 {
		b.WriteString("...")
		line = line[at-maxExcerpt/2:]
	} else {
		line = bytes.TrimLeft(line, " \t")
	}
	for i, c := range line {
		if i == maxExcerpt {
			b.WriteString("...")
			break
		}
		switch {
		case c == '\\':
			b.WriteString(`\\`)
		case c == '\t':
			b.WriteByte(' ')
		case ' ' <= c && c < 0x7f:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02X`, c)
		}
	}
	return b.String()
}
