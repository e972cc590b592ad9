package filter

// The header fields that a copy of the message gets and loses: one function for
// each family of fields, all of them pure. The DKIM signature comes later, over
// what they have made.

import (
	"cmp"
	"mime"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/filter/mail"
	"postern/policy"
)

// product is our name in header fields.
const product = "Postern"

// copyFacts is what the families look at: a message, which need not be the one
// that came in, and one of its recipients.
type copyFacts struct {
	tx       *mail.Transaction // its ids, for the subject
	header   mail.Header
	verdict  *policy.Verdict
	rcpt     *policy.RcptSelection
	scanned  bool        // a virus scanner gave a complete answer
	domain   string      // ours, for X-Virus-Scanned
	hostname string      // ours
	engines  []mail.Edit // fields that engines add
	received string      // the value of our Received field, equal for all copies; empty where we are no hop
	results  string      // that of our Authentication-Results; empty where there is nothing to tell
	forged   *forgedMarks
}

// families are all families, in the order in which their fields stand, from the
// top.
var families = []func(*copyFacts) []mail.Edit{
	forgedEdits, holdEdits, scannedEdits, alertEdits, spamEdits, engineEdits, resultsEdits, subjectEdits, receivedEdits,
}

// edits returns what every family does to the copy.
func (f *copyFacts) edits() []mail.Edit {
	out := make([]mail.Edit, 0, len(families)+2)
	for _, family := range families {
		out = append(out, family(f)...)
	}
	return out
}

// add makes an edit of a new field.
func add(name, value string) []mail.Edit {
	return []mail.Edit{{Op: mail.Add, Name: name, Value: value}}
}

// forgedMarks are the removals of what only a filter of ours may say, and which
// came in all the same: every instance, whatever is checked. Other bytes stay.
type forgedMarks struct {
	always []mail.Edit
	local  []mail.Edit // for recipients of ours, whose programs sort mail by it
}

// findForged looks for the marks in a header: X-Amavis-*, X-Virus-Scanned that
// names this filter or Amavis at one of hosts, and X-Spam-*.
func findForged(h mail.Header, hosts ...string) *forgedMarks {
	const virusScanned = "X-Virus-Scanned"
	out := &forgedMarks{}
	var known map[string]bool
	scanned := 0
	for _, field := range h {
		if len(field.Name) < 2 || field.Name[0]|0x20 != 'x' || field.Name[1] != '-' {
			continue
		}
		if known == nil {
			known = map[string]bool{}
		}
		name := strings.ToLower(field.Name)
		switch {
		case field.Is(virusScanned):
			if scanned++; claims(field.Value(), hosts) {
				out.always = append(out.always, mail.Edit{Op: mail.Remove, Name: virusScanned, Index: scanned})
			}
		case known[name]:
		case strings.HasPrefix(name, "x-amavis-"):
			known[name] = true
			out.always = append(out.always, mail.Edit{Op: mail.Remove, Name: field.Name})
		case strings.HasPrefix(name, "x-spam-"):
			known[name] = true
			out.local = append(out.local, mail.Edit{Op: mail.Remove, Name: field.Name})
		}
	}
	return out
}

// filterWords are the names by which Amavis and we call ourselves.
var filterWords = []string{"postern", "amavis", "amavisd", "amavisd-new"}

// claims reports whether a reader of value sees that one of the filterWords was at
// work "at HOST", for one of hosts. What stands between them, a version for
// example, may be anything, and the name may stand in a comment.
func claims(value string, hosts []string) bool {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		value = decoded
	}
	value = strings.ToLower(visible(value))
	if !slices.ContainsFunc(wordsOf(value), func(w string) bool { return slices.Contains(filterWords, w) }) {
		return false
	}
	words := wordsOf(withoutComments(value))
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "at" && slices.Contains(hosts, strings.TrimRight(words[i+1], ".")) {
			return true
		}
	}
	return false
}

// wordsOf cuts a value into words and names of hosts.
func wordsOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// visible takes out what cannot be seen.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
}

// withoutComments takes comments out (RFC 5322 section 3.2.2).
func withoutComments(s string) string {
	var b strings.Builder
	comments := true // one that does not end is none, nor is what follows
	for i := 0; i < len(s); i++ {
		if s[i] == '(' && comments {
			if n := mail.EndOfQuoted(s[i:]); n > 0 {
				i += n
				b.WriteByte(' ')
				continue
			}
			comments = false
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// forgedEdits removes marks that are not ours.
func forgedEdits(f *copyFacts) []mail.Edit {
	if f.rcpt.Local {
		return slices.Concat(f.forged.always, f.forged.local)
	}
	return f.forged.always
}

// holdEdits says that not everything in the message was looked at.
func holdEdits(f *copyFacts) []mail.Edit {
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Unchecked && c.Minor == mail.OverLimits {
			return add("X-Amavis-Hold", mail.UncheckedPhrase(mail.OverLimits))
		}
	}
	return nil
}

// scannedEdits says that a virus scanner has seen the message.
func scannedEdits(f *copyFacts) []mail.Edit {
	if !f.scanned || f.rcpt.Settings.Virus.Bypass {
		return nil
	}
	return add("X-Virus-Scanned", product+" at "+f.domain)
}

// alertEdits warns of what is in the message, and complains about its header.
func alertEdits(f *copyFacts) []mail.Edit {
	var out []mail.Edit
	const name = "X-Amavis-Alert"
	if c := f.alerted(); c != mail.CatchAll {
		text := "INFECTED, message contains virus:"
		if c == mail.Banned {
			text = "BANNED, message contains"
		}
		out = add(name, withText(text, strings.Join(f.verdict.ShortNames(c), ", ")))
	}
	if names := f.verdict.Names(mail.BadHeader); len(names) > 0 {
		out = append(out, add(name, withText("BAD HEADER SECTION,", names[0]))...)
	}
	return out
}

// alerted returns the category that the copy warns of, CatchAll if none.
func (f *copyFacts) alerted() mail.Category {
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Infected || c.Category == mail.Banned {
			return c.Category
		}
	}
	return mail.CatchAll
}

// subjectTag returns what a local recipient is to see in front of the subject:
// the tag of the highest category that has one. Mail that is UNCHECKED only
// because its sender encrypted it for the reader has none for that: the tag
// would break the sender's signature, and tell the reader nothing. Nor has mail
// that only lacks its spam score.
func (f *copyFacts) subjectTag() string {
	if !f.rcpt.Local {
		return ""
	}
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Unchecked && (f.onlyEndToEnd() || f.verdict.Unscored()) {
			continue
		}
		tag := f.rcpt.Settings.Category(c.Category).SubjectTag
		if f.verdict.Tag3() && (c.Category == mail.Spam || c.Category == mail.Spammy) {
			tag = cmp.Or(f.rcpt.Settings.Spam.Tag3SubjectTag, tag)
		}
		if tag != "" {
			return f.expand(tag)
		}
	}
	return ""
}

// expand puts values where Amavis does.
func (f *copyFacts) expand(tag string) string {
	if strings.Count(tag, "_") < 2 {
		return tag
	}
	yes, caps := "No", "NO"
	if f.spam() {
		yes, caps = "Yes", "YES"
	}
	prefix := ""
	if s := f.verdict.Score; s != nil {
		prefix = s.SubjectPrefix
	}
	return strings.NewReplacer(
		"_SCORE_", scoreText(f.score()), "_REQD_", mail.ScoreText(f.rcpt.Settings.Spam.Tag2Level),
		"_YESNO_", yes, "_YESNOCAPS_", caps, "_HOSTNAME_", f.hostname,
		"_DATE_", f.tx.Received.Format("Mon, 2 Jan 2006 15:04:05 -0700"), "_U_", f.tx.Received.UTC().Format("20060102T150405Z"),
		"_LOGID_", f.tx.ID, "_MAILID_", f.tx.MailID, "_SUBJPREFIX_", prefix,
	).Replace(tag)
}

// onlyEndToEnd reports whether all that is UNCHECKED is encrypted from end to end.
func (f *copyFacts) onlyEndToEnd() bool {
	return !slices.ContainsFunc(f.verdict.Findings, func(x mail.Finding) bool {
		return x.Category == mail.Unchecked && !x.EndToEnd
	})
}

// spamEdits tell a local recipient the score, from tag_level on.
func spamEdits(f *copyFacts) []mail.Edit {
	if !f.rcpt.Local || f.rcpt.Settings.Spam.Bypass || !f.spam() && !f.verdict.Tagged() {
		return nil
	}
	flag := "NO"
	if f.spam() {
		flag = "YES"
	}
	out := add("X-Spam-Flag", flag)
	if s := f.score(); s != nil {
		out = append(out, mail.Edit{Name: "X-Spam-Score", Value: scoreText(s)},
			mail.Edit{Name: "X-Spam-Level", Value: strings.Repeat("*", int(min(max(s.Value, 0), maxStars)))})
	}
	return append(out, mail.Edit{Name: "X-Spam-Status", Value: f.spamStatus()})
}

// engineEdits are the fields that engines may add, for local recipients. What
// came in under their names is not theirs.
func engineEdits(f *copyFacts) []mail.Edit {
	if !f.rcpt.Local || len(f.engines) == 0 || f.rcpt.Settings.Spam.Bypass {
		return nil
	}
	var out []mail.Edit
	for _, e := range f.engines {
		if !strings.EqualFold(e.Name, "Authentication-Results") && f.header.Count(e.Name) > 0 {
			out = append(out, mail.Edit{Op: mail.Remove, Name: e.Name})
		}
	}
	return append(out, f.engines...)
}

// maxStars is where Amavis ends X-Spam-Level.
const maxStars = 64

// spam reports whether the recipient is to take the message for spam.
func (f *copyFacts) spam() bool { return f.verdict.Is(mail.Spam, mail.Spammy) }

// blackScore is shown at least for blacklisted senders (Amavis).
const blackScore = 64

// score is what the recipient is shown. Where the sender is whitelisted or
// blacklisted it is not to look as if it could decide otherwise.
func (f *copyFacts) score() *mail.Score {
	s := f.verdict.Score
	switch {
	case f.verdict.Listed.Black():
		out := mail.Score{Value: blackScore}
		if s != nil {
			out = *s
			out.Value = max(s.Value, blackScore)
		}
		return &out
	case f.verdict.Listed.White() && s != nil && s.Value > 0:
		out := *s
		out.Value = 0
		return &out
	}
	return s
}

// spamStatus is the value of X-Spam-Status in Amavis' form.
func (f *copyFacts) spamStatus() string {
	yes, s := "No,", f.score()
	if f.spam() {
		yes = "Yes,"
	}
	levels := f.rcpt.Settings.Spam
	words := []string{yes, "score=" + scoreText(s), "tagged_above=" + mail.ScoreText(levels.TagLevel), "required=" + mail.ScoreText(levels.Tag2Level)}
	switch {
	case f.verdict.Listed.Black():
		words = append(words, "BLACKLISTED")
	case f.verdict.Listed.White():
		words = append(words, "WHITELISTED")
	}
	autolearn := "unavailable"
	tests := []string{""}
	if s != nil {
		autolearn = cmp.Or(s.Autolearn, autolearn)
		tests = testWords(s)
		if len(s.Tests) > maxTests {
			tests = append(tests, "...")
		}
	}
	words = append(words, strings.Split("tests=["+strings.Join(tests, ", ")+"]", " ")...)
	return foldWords("X-Spam-Status", append(words, "autolearn="+autolearn))
}

// maxTests bounds the list in X-Spam-Status; real ones have fewer than 100.
const maxTests = 200

// testName is the name of a test with nothing in it that would part the list.
func testName(name string) string {
	clean := func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(",=[]", r) {
			return '_'
		}
		return r
	}
	return strings.Map(clean, name[:min(len(name), maxTestName)])
}

// maxTestName bounds one name, in octets.
const maxTestName = 100

// foldWords writes words into lines of at most 78 octets, where they allow it.
func foldWords(name string, words []string) string {
	const limit = 78
	var b strings.Builder
	at := len(name) + 1
	for i, w := range words {
		switch {
		case i == 0:
			at++
		case at+1+len(w) > limit:
			b.WriteString("\r\n ")
			at = 1
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(w)
		at += len(w)
	}
	return b.String()
}

// scoreText writes a score as Amavis does, "x" for none.
func scoreText(s *mail.Score) string {
	if s == nil {
		return "x"
	}
	return mail.ScoreText(s.Value)
}

// extension returns what is to stand behind the user name of a local recipient:
// that of the highest category that has one.
func (f *copyFacts) extension() string {
	if !f.rcpt.Local {
		return ""
	}
	for _, c := range f.verdict.Categories {
		if c.Category == mail.Unchecked && f.verdict.Unscored() {
			continue
		}
		if e := f.rcpt.Settings.Category(c.Category).AddressExtension; e != "" {
			return e
		}
	}
	return ""
}

// subjectEdits puts the tag in front of the subject, whose own bytes stay.
func subjectEdits(f *copyFacts) []mail.Edit {
	tag := f.subjectTag()
	if tag == "" {
		return nil
	}
	bare := strings.TrimSpace(tag)
	for _, h := range f.header {
		if !h.Is("Subject") {
			continue
		}
		if seen, err := new(mime.WordDecoder).DecodeHeader(h.Value()); err == nil && strings.HasPrefix(seen, bare) || strings.HasPrefix(h.Value(), bare) {
			return nil
		}
		v := strings.TrimLeft(strings.TrimSuffix(string(h.RawValue()), "\r\n"), " \t")
		return []mail.Edit{{Op: mail.Replace, Name: "Subject", Index: 1, Value: besideSubject(tag, v, isEncoded(h.Value())) + v}}
	}
	return add("Subject", mail.EncodeText(bare, maxText))
}

func isEncoded(s string) bool { return strings.HasPrefix(s, "=?") }

// besideSubject writes a tag so that the subject v may follow. An encoded-word
// and its neighbour are parted by a blank (RFC 2047 section 5), which is not
// shown if that is an encoded-word too (section 6.2).
func besideSubject(tag, v string, encoded bool) string {
	text := mail.EncodeText(tag, maxText)
	switch blank := strings.HasPrefix(v, "\r\n"); {
	case isEncoded(text) && !encoded:
		text = mail.EncodeText(strings.TrimRight(tag, " "), maxText)
		fallthrough
	case isEncoded(text):
		if !blank {
			text += " "
		}
	case encoded && !blank && !strings.HasSuffix(text, " "):
		text += " "
	}
	return text
}

// receivedEdits names this hop. A message that its client still has makes none
// here.
func receivedEdits(f *copyFacts) []mail.Edit {
	if f.received == "" {
		return nil
	}
	return add("Received", f.received)
}

// receivedValue describes the hop from the feeding MTA to us (RFC 5321
// section 4.4): the remote client stands in the MTA's own field below. By the
// mark we know the field again, see [Mark].
func receivedValue(tx *mail.Transaction, hostname, mark string) string {
	helo := headerWord(tx.Helo)
	if helo == "" {
		helo = "localhost"
	}
	var b strings.Builder
	b.WriteString("from " + helo)
	if tx.PeerAddr.IsValid() {
		b.WriteString(" (" + addressLiteral(tx.PeerAddr.Addr()) + ")")
	}
	b.WriteString("\r\n by localhost (" + hostname)
	if tx.LocalAddr.IsValid() {
		b.WriteString(" " + addressLiteral(tx.LocalAddr.Addr()))
	}
	b.WriteString(") (" + product)
	if tx.LocalAddr.IsValid() {
		b.WriteString(", port " + strconv.Itoa(int(tx.LocalAddr.Port())))
	}
	b.WriteString(", mark " + mark + ")\r\n with " + tx.Protocol + " id " + tx.MailID)
	b.WriteString(forClause(tx))
	b.WriteString("; " + tx.Received.Format("Mon, 2 Jan 2006 15:04:05 -0700 (MST)"))
	return b.String()
}

// forClause names the only recipient, unless the address may not stand there:
// one beyond US-ASCII needs SMTPUTF8 (RFC 6531 section 3.7.3).
func forClause(tx *mail.Transaction) string {
	if len(tx.Rcpts) != 1 || len(tx.Rcpts[0].Address) > maxText {
		return ""
	}
	for _, r := range string(tx.Rcpts[0].Address) {
		if !unicode.IsPrint(r) || r == utf8.RuneError || r >= utf8.RuneSelf && !tx.FromOpts.UTF8 {
			return ""
		}
	}
	return "\r\n for " + tx.Rcpts[0].Address.String()
}

// addressLiteral is the form of RFC 5321 section 4.1.3.
func addressLiteral(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

// maxText bounds foreign text in a header field, in octets before it is encoded:
// a line of it stays well below 998.
const maxText = 450

// withText puts foreign text after our own words. Encoded-words stand on lines of
// their own, which they keep below 76 octets (RFC 2047 section 2).
func withText(words, foreign string) string {
	text := mail.EncodeText(foreign, maxText)
	if isEncoded(text) {
		return words + strings.ReplaceAll(" "+text, " ", "\r\n ")
	}
	return words + " " + text
}

// headerWord makes foreign text fit for a structured field, where encoded-words
// cannot stand: one line of US-ASCII.
func headerWord(s string) string {
	return mail.NewReply(451, 0, 0, "%s", s).Text
}
