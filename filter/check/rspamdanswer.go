package check

// What an answer of Rspamd means. It has many ways to give half of one: with a
// status of success and an action that lets the message pass.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

// meaning is what an action of Rspamd is to us.
type meaning uint8

const (
	meansPass meaning = iota + 1
	meansSpammy
	meansSpam
	meansUnchecked
)

var meanings = map[string]meaning{"pass": meansPass, "spammy": meansSpammy, "spam": meansSpam, "unchecked": meansUnchecked}

// builtInActions are those of Rspamd. One that it would have us do by its own
// word (discard, quarantine) is for the policy to decide.
var builtInActions = map[string]meaning{
	"no action": meansPass, "greylist": meansPass,
	"add header": meansSpammy, "rewrite subject": meansSpammy,
	"reject": meansSpam, "quarantine": meansSpam, "discard": meansSpam,
	softReject: meansUnchecked,
}

const softReject = "soft reject"

// rspamdAnswer is the part of an answer that we read.
type rspamdAnswer struct {
	Action   *string  `json:"action"`
	Score    *float64 `json:"score"`
	Required float64  `json:"required_score"`
	Skipped  bool     `json:"is_skipped"`
	Symbols  map[string]struct {
		Score float64 `json:"score"`
	} `json:"symbols"`
	MessageID string   `json:"message-id"`
	TimeReal  *float64 `json:"time_real"` // seconds
	Error     string   `json:"error"`

	Thresholds lenient[map[string]*float64] `json:"thresholds"` // newer versions only
	Messages   lenient[map[string]any]      `json:"messages"`
	Subject    lenient[string]              `json:"subject"` // as it would be rewritten
	Milter     lenient[struct {
		Add json.RawMessage `json:"add_headers"`
	}] `json:"milter"`
}

// lenient is a part of an answer that may have another form than is known: it
// is then as if it was not there.
type lenient[T any] struct{ is T }

func (l *lenient[T]) UnmarshalJSON(b []byte) error {
	var v T
	if json.Unmarshal(b, &v) == nil {
		l.is = v
	}
	return nil
}

// message is the text that Rspamd has for the client.
func (r *rspamdAnswer) message() string {
	s, _ := r.Messages.is["smtp_message"].(string)
	return oneLine(string(clip([]byte(s))))
}

// readRspamd reads a reply.
func readRspamd(status int, body []byte) (*rspamdAnswer, error) {
	var r rspamdAnswer
	dec := json.NewDecoder(bytes.NewReader(body))
	err := dec.Decode(&r)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one value")
		}
	}
	switch {
	case status != http.StatusOK:
		return nil, fail(FailedStatus, "status %d %q", status, clip([]byte(r.Error)))
	case len(bytes.TrimSpace(body)) == 0:
		return nil, fail(FailedEmpty, "empty answer")
	case err == io.ErrUnexpectedEOF:
		return nil, fail(FailedCut, "the answer ends in its middle")
	case err != nil:
		return nil, fail(FailedGarbage, "no answer of Rspamd: %w", err)
	case r.Error != "":
		return nil, fail(FailedStatus, "error %q", clip([]byte(r.Error)))
	case r.Action == nil || r.Score == nil || !finite(*r.Score):
		return nil, fail(FailedGarbage, "no action or no score in the answer")
	}
	return &r, nil
}

// judge makes an answer of a reply. A message that Rspamd calls spam is spam
// also if it was not done with it.
func (o *RspamdOptions) judge(status int, body []byte, took time.Duration, asked mail.Header) (Answer, error) {
	r, err := readRspamd(status, body)
	if err != nil {
		return Answer{}, err
	}
	if id := r.MessageID; id != "" && id != "undef" {
		if err := sameMessage(asked, []string{"<" + strings.Trim(id, "<>") + ">"}); err != nil {
			return Answer{}, err
		}
	}
	answer := Answer{Findings: o.findings(r), Score: o.score(r), Fields: o.wishes(r.Milter.is.Add)}
	answer.Score.SubjectPrefix = subjectPrefix(r.Subject.is, asked)
	if err := o.incomplete(r, took); err != nil {
		return answer, err
	}
	return answer, nil
}

// maxPrefix bounds what may stand before a subject, in octets.
const maxPrefix = 100

// subjectPrefix is what the rewritten subject has before that of the message. The
// rest of it is not ours to change.
func subjectPrefix(rewritten string, asked mail.Header) string {
	subject, _ := asked.First("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		subject = decoded
	}
	prefix, ok := strings.CutSuffix(rewritten, subject)
	if !ok || len(prefix) > maxPrefix {
		return ""
	}
	return oneLine(prefix)
}

// meaning returns what the action of r means, 0 if nobody knows.
func (o *RspamdOptions) meaning(r *rspamdAnswer) meaning {
	if m := meanings[o.Actions[*r.Action]]; m != 0 {
		return m
	}
	if m := builtInActions[*r.Action]; m != 0 {
		return m
	}
	own := r.Thresholds.is[*r.Action]
	if own == nil {
		return 0
	}
	switch reject, header := r.Thresholds.is["reject"], r.Thresholds.is["add header"]; {
	case reject != nil && *own >= *reject:
		return meansSpam
	case header != nil && *own >= *header:
		return meansSpammy
	}
	return meansPass
}

// findings is what the action says.
func (o *RspamdOptions) findings(r *rspamdAnswer) []mail.Finding {
	f := mail.Finding{Check: "rspamd", Name: oneLine(*r.Action), Detail: r.message(), Rcpt: mail.AllRcpts}
	switch o.meaning(r) {
	case meansSpam:
		f.Category = mail.Spam
	case meansSpammy:
		f.Category = mail.Spammy
	default:
		return nil
	}
	return []mail.Finding{f}
}

// score has the symbols with the most points first.
func (o *RspamdOptions) score(r *rspamdAnswer) *mail.Score {
	s := &mail.Score{Value: o.scaled(*r.Score)}
	for name, symbol := range r.Symbols {
		if finite(symbol.Score) {
			s.Tests = append(s.Tests, mail.ScoreTest{Name: name, Score: o.scaled(symbol.Score)})
		}
	}
	slices.SortFunc(s.Tests, func(a, b mail.ScoreTest) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)), cmp.Compare(a.Name, b.Name))
	})
	return s
}

// incomplete says what is missing in an answer, nil for nothing.
func (o *RspamdOptions) incomplete(r *rspamdAnswer, took time.Duration) error {
	if r.TimeReal != nil {
		took = time.Duration(min(math.Abs(*r.TimeReal), 1e6) * float64(time.Second))
	}
	action := *r.Action
	means := o.meaning(r)
	switch {
	case took >= o.TimeLimit:
		return fail(FailedTimeLimit, "Rspamd took %v, and stops at its task_timeout whatever it has done (time_limit %v)", took.Round(time.Millisecond), o.TimeLimit)
	case action == softReject && strings.Contains(r.message(), "timeout"):
		return fail(FailedTimeLimit, "Rspamd reached its task_timeout")
	case r.Skipped && means != meansSpam && means != meansSpammy:
		return fail(FailedSkipped, "Rspamd did not look at the message, and says %q", clip([]byte(action)))
	case len(r.Symbols) == 0:
		return fail(FailedNoSymbols, "no symbol in the answer, not even for what every message has")
	case means == 0:
		f := fail(FailedUnknownAction, "action %q has no meaning: engines.rspamd.actions can give it one", clip([]byte(action)))
		f.Partial = true
		return f
	}
	var failed []string
	for name, symbol := range r.Symbols {
		if symbol.Score == 0 && o.failedSymbol(name) {
			failed = append(failed, oneLine(string(clip([]byte(name)))))
		}
	}
	switch {
	case len(failed) > 0:
		slices.Sort(failed)
		return &Failure{Word: FailedSymbol, Partial: true, Err: fmt.Errorf("something did not answer Rspamd: %s", strings.Join(failed[:min(len(failed), 5)], ", "))}
	case means == meansUnchecked && action == softReject:
		return &Failure{Word: FailedSoftReject, Partial: true, Err: fmt.Errorf("told to come again later by Rspamd: %q", r.message())}
	case means == meansUnchecked:
		return &Failure{Word: FailedUnknownAction, Partial: true, Err: fmt.Errorf("action %q is unchecked by engines.rspamd.actions", clip([]byte(action)))}
	}
	return nil
}

// failedSymbol reports whether a symbol says that something did not answer.
func (o *RspamdOptions) failedSymbol(name string) bool {
	for _, p := range o.FailedSymbols {
		if ok, _ := path.Match(strings.TrimPrefix(p, "!"), name); ok {
			return !strings.HasPrefix(p, "!")
		}
	}
	return false
}

// The most that Rspamd may add.
const (
	maxWishes     = 50
	maxWishOctets = 8 << 10
)

// wishes returns those fields that Rspamd may add. A value is a text, an object
// with one, or a list of these.
func (o *RspamdOptions) wishes(raw json.RawMessage) []mail.Edit {
	var fields map[string]json.RawMessage
	if len(o.Headers) == 0 || json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		if o.mayAdd(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []mail.Edit
	for _, name := range names {
		var list []json.RawMessage
		if json.Unmarshal(fields[name], &list) != nil {
			list = []json.RawMessage{fields[name]}
		}
		for _, item := range list {
			var value string
			if json.Unmarshal(item, &value) != nil {
				var object struct {
					Value *string `json:"value"`
				}
				if json.Unmarshal(item, &object) != nil || object.Value == nil {
					continue
				}
				value = *object.Value
			}
			if len(out) < maxWishes && len(value) <= maxWishOctets {
				out = append(out, mail.Edit{Op: mail.Add, Name: name, Value: foldedText(value)})
			}
		}
	}
	return out
}

func (o *RspamdOptions) mayAdd(name string) bool {
	return fieldName(name) && slices.ContainsFunc(o.Headers, func(p string) bool {
		prefix, any := strings.CutSuffix(p, "*")
		return strings.EqualFold(name, p) || any && len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	})
}

// fieldName reports whether s can be the name of a header field (RFC 5322
// section 3.6.8).
func fieldName(s string) bool {
	return len(s) <= 76 && visible(s) && !strings.ContainsRune(s, ':')
}

// foldedText makes a value of Rspamd, which folds with LF, one of ours.
func foldedText(value string) string {
	value = strings.ReplaceAll(value, "\r\n", "\n")
	var lines []string
	for i, line := range strings.Split(value, "\n") {
		line = mail.EncodeText(strings.ReplaceAll(strings.TrimRight(line, " \t"), "\t", " "), maxWishOctets)
		switch {
		case line == "":
		case i == 0:
			lines = append(lines, line)
		default:
			lines = append(lines, " "+strings.TrimLeft(line, " "))
		}
	}
	return strings.Join(lines, "\r\n")
}
