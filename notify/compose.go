package notify

// How a mail of ours is put together. Whatever foreign text goes into it, the
// result is seven-bit, its lines end in CRLF and are at most 998 octets long,
// and its header holds the fields that were added and no other. The one
// exception are UTF-8 addresses in the header of a mail that asks for SMTPUTF8.

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// Bounds of foreign text, in octets.
const (
	maxName   = 200      // a virus name, a file name, a subject
	maxWord   = 900      // what has no blank in a header field: no line gets longer than 998
	maxValue  = 16 << 10 // any header field
	maxHeader = 64 << 10 // the original header
	maxLine   = 998
	maxListed = 100 // recipients or findings in a text
)

// fields is a header under construction, topmost first.
type fields struct {
	list [][2]string
	utf8 bool // RFC 6532: UTF-8 may stand unencoded
}

// add appends a field. An empty value adds none.
func (f *fields) add(name, value string) {
	if value != "" {
		f.list = append(f.list, [2]string{name, value})
	}
}

// text appends an unstructured field, encoded by RFC 2047 if need be.
func (f *fields) text(name, value string) {
	f.add(name, mail.EncodeText(printable(value, maxName), maxName))
}

// date appends a field in the form of RFC 5322 section 3.3.
func (f *fields) date(name string, t time.Time) {
	f.add(name, t.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// header returns what was added. Raw fields are used so that names keep their
// usual spelling ("MIME-Version").
func (f *fields) header() textproto.Header {
	var h textproto.Header
	for i := len(f.list) - 1; i >= 0; i-- { // textproto adds on top
		name, value := f.list[i][0], printable(f.list[i][1], maxValue)
		if !f.utf8 {
			value = ascii(value)
		}
		h.AddRaw(fold(name, value))
	}
	return h
}

// fold writes one field, broken at blanks where it gets longer than 76.
func fold(name, value string) []byte {
	b := append([]byte(name), ':')
	column := len(b)
	for i, word := range strings.Split(value, " ") {
		word = printable(word, maxWord)
		// an empty word comes from a run of blanks, and a line of blanks
		// only could be taken for the end of the header
		if i > 0 && word != "" && column+1+len(word) > 76 {
			b = append(b, "\r\n"...)
			column = 0
		}
		b = append(append(b, ' '), word...)
		column += 1 + len(word)
	}
	return append(b, "\r\n"...)
}

// printable makes foreign text fit for one line: what is not printable, be it
// a line end or a change of the writing direction, becomes "?". It is cut at
// max octets.
func printable(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\u00a0':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	if len(s) <= max {
		return s
	}
	s = s[:max-3]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}

func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, s)
}

// part is one body part. Its body has CRLF line ends.
type part struct {
	contentType string
	description string
	body        []byte
}

// sevenBit returns the body as it can travel everywhere, and the word for
// Content-Transfer-Encoding.
func (p *part) sevenBit() (string, []byte) {
	if plain(p.body) {
		return "7bit", p.body
	}
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write(p.body) // a bytes.Buffer takes everything
	_ = w.Close()
	return "quoted-printable", b.Bytes()
}

func plain(b []byte) bool {
	column := 0
	for i, c := range b {
		switch {
		case c == '\n' && i > 0 && b[i-1] == '\r':
			column = 0
			continue
		case c == '\r' && i+1 < len(b) && b[i+1] == '\n':
			continue
		case c == 0 || c == '\r' || c == '\n' || c >= utf8.RuneSelf:
			return false
		}
		if column++; column > maxLine {
			return false
		}
	}
	return true
}

// compose writes the whole mail: the fields of top, then MIME-Version and
// Content-Type with a boundary, then the parts.
func compose(top *fields, contentType string, parts ...part) (*mail.Message, error) {
	var body bytes.Buffer
	w := textproto.NewMultipartWriter(&body)
	for _, p := range parts {
		encoding, b := p.sevenBit()
		var f fields
		f.add("Content-Type", p.contentType)
		f.add("Content-Disposition", "inline")
		f.add("Content-Description", p.description)
		f.add("Content-Transfer-Encoding", encoding)
		pw, err := w.CreatePart(f.header())
		if err != nil {
			return nil, err
		}
		if _, err := pw.Write(b); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	top.add("MIME-Version", "1.0")
	top.add("Content-Type", contentType+`; boundary="`+w.Boundary()+`"`)
	var out bytes.Buffer
	if err := textproto.WriteHeader(&out, top.header()); err != nil {
		return nil, err
	}
	out.Write(body.Bytes())
	return mail.NewMessage(out.Bytes()), nil
}

// begin returns the first fields of every mail of ours.
func (r *Report) begin(subject, id, autoSubmitted string, to []mail.Address) *fields {
	f := &fields{utf8: !r.From.ASCII()}
	rcpts := make([]string, len(to))
	for i, a := range to {
		rcpts[i] = a.String()
		f.utf8 = f.utf8 || !a.ASCII()
	}
	f.add("From", fmt.Sprintf(`"Content-filter at %s" %s`, r.host(), r.From))
	f.add("To", strings.Join(rcpts, ", "))
	f.text("Subject", subject)
	f.date("Date", r.Now)
	f.add("Message-ID", fmt.Sprintf("<%s.%s@%s>", id, r.Tx.MailID, r.host()))
	f.add("Auto-Submitted", autoSubmitted)
	return f
}

// host is our name as it can stand in any field.
func (r *Report) host() string {
	return strings.Map(func(c rune) rune {
		if c == '"' || c == '\\' || c == '<' || c == '>' || c == ' ' {
			return -1
		}
		return c
	}, ascii(printable(r.Hostname, maxName)))
}

// outgoing wraps a mail of ours. No NOTIFY is asked for: a mail with the null
// sender causes no report, and when a notice cannot be delivered its sender,
// who is a postmaster, should learn of it.
func outgoing(kind mail.Kind, from mail.Address, to []mail.Address, m *mail.Message, utf8 bool) *mail.Outgoing {
	o := &mail.Outgoing{Kind: kind, From: from, Message: m}
	o.FromOpts.Body = smtp.Body7Bit
	if utf8 {
		o.FromOpts.Body, o.FromOpts.UTF8 = smtp.Body8BitMIME, true
	}
	for _, a := range to {
		o.Rcpts = append(o.Rcpts, mail.Recipient{Address: a})
	}
	return o
}

// checkAddress refuses what cannot stand in an envelope or a field.
func checkAddress(a mail.Address) error {
	s := string(a)
	if s == "" || len(s) > 512 || printable(s, len(s)) != s {
		return fmt.Errorf("address %q is not fit for a mail of ours", a)
	}
	return nil
}

// originalHeader returns the part that shows the header of the message.
// international asks for the type of RFC 6533 if the header calls for it.
func (r *Report) originalHeader(international bool) part {
	p := part{contentType: "text/rfc822-headers", description: "Header of the message"}
	m := r.Tx.Message
	for _, f := range m.Header() {
		if len(p.body)+len(f.Raw) > maxHeader {
			p.body = fmt.Appendf(p.body, "X-Postern-Note: the header goes on, %d of %d octets are shown\r\n", len(p.body), len(m.HeaderBytes()))
			break
		}
		p.body = appendLines(p.body, f.Raw)
	}
	switch {
	case !bytes.ContainsFunc(p.body, func(c rune) bool { return c >= utf8.RuneSelf }):
	case !utf8.Valid(p.body):
		p.contentType += "; charset=unknown-8bit" // RFC 1428
	case international:
		p.contentType = "message/global-headers"
	default:
		p.contentType += "; charset=utf-8"
	}
	return p
}

// appendLines appends raw with a CRLF at its end. What a reader could take for
// another line end becomes "?".
func appendLines(b, raw []byte) []byte {
	raw = bytes.TrimSuffix(raw, []byte("\r\n"))
	for i, c := range raw {
		switch {
		case c == '\r' && i+1 < len(raw) && raw[i+1] == '\n':
		case c == '\n' && i > 0 && raw[i-1] == '\r':
		case c == '\r' || c == '\n' || c == 0:
			c = '?'
		}
		b = append(b, c)
	}
	return append(b, '\r', '\n')
}

// lines joins the lines of a text.
type lines struct{ bytes.Buffer }

func (l *lines) add(format string, args ...any) {
	fmt.Fprintf(&l.Buffer, format, args...)
	l.WriteString("\r\n")
}

// value returns a field of the message for a text, decoded and escaped.
func (r *Report) value(name string) string {
	v, ok := r.Tx.Message.Header().First(name)
	if !ok {
		return ""
	}
	return decoded(v)
}

// decoded returns the value of a field for a text.
func decoded(v string) string {
	if d, err := new(mime.WordDecoder).DecodeHeader(v); err == nil {
		v = d
	}
	return printable(v, maxName)
}
