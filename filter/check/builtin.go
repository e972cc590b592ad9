package check

// The builtin check finds two harmless test strings, so that Postern can show
// its work without any daemon. It protects from nothing.

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"

	"postern/filter/mail"
)

func init() {
	register("builtin", func() Options { return &BuiltinOptions{} }, mail.Infected, mail.Spam)
}

// BuiltinOptions are the options of the check "builtin": there are none. Finds
// the test strings EICAR and GTUBE, and protects from nothing.
type BuiltinOptions struct{}

// New returns the check.
func (*BuiltinOptions) New() (Check, error) { return builtin{}, nil }

type builtin struct{}

// The strings are put together at run time: a scanner that finds them in a
// program would take it for what it is not.
var (
	eicar = strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}`, `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!`, `H+H*`}, "$")
	gtube = strings.Join([]string{`XJS`, `C4JDBQADN1.NSBN3`, `2IDNEN`, `GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL`, `C.34X`}, "*")

	testStrings = [...][]byte{[]byte(eicar), []byte(gtube)}
)

// gtubeScore is what SpamAssassin gives for GTUBE.
const gtubeScore = 1000

// Check looks at the message as it is, at everything that could be
// quoted-printable, at everything after an empty line that could be base64,
// and into all parts.
func (builtin) Check(ctx context.Context, in *Input) (Answer, error) {
	data := in.Tx.Message.Bytes()
	s := &seeker{ctx: ctx}
	s.look(data)
	s.quotedPrintable(data)
	s.base64(data)
	if in.Parts != nil {
		for p := range in.Parts.All() {
			s.look(p.Data)
		}
	}
	var a Answer
	if s.found[0] {
		a.Findings = []mail.Finding{{Category: mail.Infected, Check: "builtin", Name: "Eicar-Signature", Rcpt: mail.AllRcpts}}
	}
	if s.found[1] {
		a.Score = &mail.Score{Value: gtubeScore, Tests: []mail.ScoreTest{{Name: "GTUBE", Score: gtubeScore}}}
	}
	return a, s.err
}

// seeker looks for the test strings in a stream of decoded octets.
type seeker struct {
	ctx   context.Context
	err   error
	buf   []byte
	found [len(testStrings)]bool
}

const (
	seekBuffer  = 64 << 10
	seekOverlap = 80 // more than the longest string
)

func (s *seeker) look(b []byte) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	for i, t := range testStrings {
		s.found[i] = s.found[i] || bytes.Contains(b, t)
	}
}

// flush looks at what was decoded; what comes next follows on it directly,
// unless the stream ends here.
func (s *seeker) flush(end bool) {
	s.look(s.buf)
	if end || len(s.buf) < seekOverlap {
		s.buf = s.buf[:0]
		return
	}
	s.buf = append(s.buf[:0], s.buf[len(s.buf)-seekOverlap:]...)
}

// quotedPrintable takes the escapes out wherever they stand.
func (s *seeker) quotedPrintable(data []byte) {
	for s.err == nil {
		if len(s.buf) > seekBuffer {
			s.flush(false)
		}
		plain := data[:min(len(data), seekBuffer)]
		if i := bytes.IndexByte(plain, '='); i >= 0 {
			plain = plain[:i]
		}
		s.buf = append(s.buf, plain...)
		if data = data[len(plain):]; len(data) == 0 {
			break
		}
		if data[0] != '=' {
			continue
		}
		if rest := bytes.TrimLeft(data[1:], " \t"); bytes.HasPrefix(rest, []byte("\r\n")) {
			data = rest[2:]
		} else if c, ok := hexByte(data); ok {
			s.buf = append(s.buf, c)
			data = data[3:]
		} else {
			s.buf = append(s.buf, '=')
			data = data[1:]
		}
	}
	s.flush(true)
}

func hexByte(b []byte) (byte, bool) {
	if len(b) < 3 {
		return 0, false
	}
	hi, lo := hexDigit(b[1]), hexDigit(b[2])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// base64 decodes each run of lines that are nothing but base64 and begin after
// an empty line, as the body of a part does.
func (s *seeker) base64(data []byte) {
	inRun, afterEmpty := false, false
	var quad []byte // the letters that do not make a whole group yet
	for len(data) > 0 && s.err == nil {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		line = bytes.Trim(line, " \t\r")
		switch {
		case len(line) > 0 && (inRun || afterEmpty) && isBase64(line):
			inRun = true
			quad = append(quad, bytes.TrimRight(line, "=")...)
			whole := len(quad) &^ 3
			if bytes.HasSuffix(line, []byte("=")) {
				whole = len(quad)
			}
			s.buf, _ = base64.RawStdEncoding.AppendDecode(s.buf, quad[:whole])
			quad = append(quad[:0], quad[whole:]...)
			if len(s.buf) > seekBuffer {
				s.flush(false)
			}
		case inRun:
			s.endRun(quad)
			quad, inRun = quad[:0], false
		}
		afterEmpty = len(line) == 0
	}
	s.endRun(quad)
}

func (s *seeker) endRun(quad []byte) {
	s.buf, _ = base64.RawStdEncoding.AppendDecode(s.buf, quad)
	s.flush(true)
}

func isBase64(line []byte) bool {
	for _, c := range bytes.TrimRight(line, "=") {
		if !base64Letter[c] {
			return false
		}
	}
	return true
}

var base64Letter = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = true
	}
	return t
}()
