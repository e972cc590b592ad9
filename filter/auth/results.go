package auth

import (
	"fmt"
	"io"
	"mime"
	"regexp"
	"strings"
	"unicode"

	"postern/filter/mail"
)

// ResultsField is the name of the field that says what was found out (RFC 8601).
const ResultsField = "Authentication-Results"

// AuthenticationResults returns the value of an Authentication-Results field
// (RFC 8601 section 2.2): US-ASCII, folded with CRLF and a tab, ready for a
// [mail.Edit]. id is the authserv-id, by which readers know whom to believe: a
// host name as a rule. a may be nil.
func AuthenticationResults(id string, a *mail.Authentication) string {
	w := &resultWriter{}
	w.b.WriteString(pvalue(id))
	if a == nil {
		a = &mail.Authentication{}
	}
	for _, r := range a.DKIM {
		w.method("dkim", r.Result, r.Reason)
		w.property("header.d", r.Domain)
		w.property("header.s", r.Selector)
		w.property("header.a", r.Algorithm)
		w.property("header.b", r.Start)
	}
	if a.Unverified > 0 {
		w.method("dkim", mail.AuthNeutral, fmt.Sprintf("%d more signatures were not verified", a.Unverified))
	}
	if a.Unsigned {
		w.method("dkim", mail.AuthNone, "")
	}
	for _, r := range a.SPF {
		reason := r.Reason
		if r.Result == mail.AuthPass {
			reason = ""
		}
		w.method("spf", r.Result, reason)
		w.property("smtp."+string(r.Scope), r.Domain)
	}
	if d := a.DMARC; d != nil {
		w.method("dmarc", d.Result, d.Reason)
		w.property("header.from", d.Author)
		if d.Domain != "" {
			w.property("policy.dmarc", string(d.Wish))
		}
	}
	if w.methods == 0 {
		w.b.WriteString("; none")
	}
	return w.b.String()
}

// resultWriter writes the list of results. Each begins on a line of its own.
type resultWriter struct {
	b       strings.Builder
	line    int // length of the line so far
	methods int
}

func (w *resultWriter) method(name string, r mail.AuthResult, reason string) {
	w.methods++
	w.b.WriteString(";\r\n\t")
	s := name + "=" + string(r)
	w.b.WriteString(s)
	w.line = 8 + len(s)
	w.property("reason", bounded(reason))
}

// property adds "name=value", and nothing if there is no value.
func (w *resultWriter) property(name, value string) {
	if value == "" {
		return
	}
	s := name + "=" + pvalue(value)
	if w.line+1+len(s) > 78 {
		w.b.WriteString("\r\n\t\t")
		w.line = 16
	} else {
		w.b.WriteByte(' ')
		w.line++
	}
	w.b.WriteString(s)
	w.line += len(s)
}

// maxReason bounds the text of a reason in octets.
const maxReason = 120

// bounded cuts a reason and makes it printable US-ASCII.
func bounded(s string) string {
	var b strings.Builder
	for _, r := range mail.Escape(s) {
		if b.Len() == maxReason {
			b.WriteString("...")
			break
		}
		if r >= 0x7f {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// pvalue writes a value as it is if it is a token (RFC 2045 section 5.1), and
// else as a quoted string. What cannot stand in one becomes a question mark.
func pvalue(s string) string {
	token := s != ""
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			token = false
		}
	}
	if token {
		return s
	}
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f:
			b = append(b, '?')
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// ForgedResults returns which Authentication-Results fields claim to be of id:
// numbers as [mail.Edit].Index counts them, 1 for the topmost field of that
// name. Mail that comes in must lose them (RFC 8601 section 5), in whatever
// spelling some reader may take for ours. The first known fields of h are by
// programs of ours, so they may say what they like. Nothing is forged if id is
// one of trusted: then another program before us signs as id does, and it is
// its business to remove what others have forged.
func ForgedResults(h mail.Header, known int, id string, trusted []string) []int {
	own := spelling(id)
	for _, t := range trusted {
		if spelling(t) == own {
			return nil
		}
	}
	var out []int
	n := 0
	for i, f := range h {
		if !f.Is(ResultsField) {
			continue
		}
		n++
		if i >= known && claimsID(string(f.RawValue()), own) {
			out = append(out, n)
		}
	}
	return out
}

// spelling brings an authserv-id into the one form in which two are compared.
func spelling(id string) string {
	id = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, strings.ToLower(id))
	if d, ok := domainToASCII(id); ok {
		return d
	}
	return strings.TrimRight(id, ".")
}

// maxClaim bounds the octets of a field that are read to find the authserv-id.
// A longer field is not honest, and is taken for forged.
const maxClaim = 64 << 10

// claimsID reports whether a reader of the field may take it for one of own. By
// RFC 8601 the authserv-id is a token or a quoted string, with comments and
// folds around it and perhaps a version behind. Readers are less strict, so the
// value is read in several ways: as it is and with encoded words decoded, with
// comments that nest and with such that end at the first parenthesis, as words
// and with all blanks dropped.
func claimsID(value, own string) bool {
	if len(value) > maxClaim {
		return true
	}
	readings := []string{value}
	if strings.Contains(value, "=?") {
		// a reader that decodes does so line by line, or after unfolding
		decoder := &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
		unfolded := strings.NewReplacer("\r\n", "", "\n", "").Replace(value)
		if decoded, err := decoder.DecodeHeader(unfolded); err == nil {
			readings = append(readings, decoded)
		}
	}
	for _, r := range readings {
		if names(plainWords(withoutComments(r)), own) || names(plainWords(flatComment.ReplaceAllString(r, " ")), own) {
			return true
		}
	}
	return false
}

// flatComment is a comment for readers that know neither nested ones nor
// backslashes.
var flatComment = regexp.MustCompile(`\([^)]*\)`)

// names reports whether words are own: the first one, all of them without the
// blanks between, or all but a version at the end.
func names(words []string, own string) bool {
	if len(words) == 0 {
		return false
	}
	first, _, _ := strings.Cut(words[0], "/")
	all := strings.Join(words, "")
	butLast := strings.TrimSuffix(all, words[len(words)-1])
	return spelling(first) == own || spelling(all) == own || spelling(butLast) == own
}

// plainWords returns the words before the first semicolon, without quotes and
// backslashes; parentheses are blanks. A semicolon within quotes ends them as
// well: no authserv-id has one.
func plainWords(s string) []string {
	s, _, _ = strings.Cut(s, ";")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\' || r == '\'' || r == '<' || r == '>':
			return -1
		case r == '(' || r == ')' || r == ',' || unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	return strings.Fields(s)
}

// withoutComments drops all comments (RFC 5322 section 3.2.2). The opener of one
// that does not end is dropped alone.
func withoutComments(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '(' {
			n := mail.EndOfQuoted(s[i:])
			switch {
			case n == 0:
				// never closed: what follows has no comment or string to find
				b.WriteString(s[i+1:])
				return b.String()
			case c == '(':
				b.WriteByte(' ')
				i += n
				continue
			default:
				b.WriteString(s[i : i+n+1])
				i += n
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
