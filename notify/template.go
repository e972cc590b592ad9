package notify

// Texts of the postmaster in the place of ours: in any language, by category, and
// by bank. A text can change what a mail says to people, and nothing else of it.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"postern/filter/mail"
	"postern/policy"
)

// Fields are what a text may name: {{.Sender}}. All of it is printable and bounded,
// whoever wrote it.
type Fields struct {
	Host       string   // our name
	Contact    string   // whom people may ask: notify_from
	Reference  string   // log id and mail_id
	MailID     string   // the mail_id alone
	Sender     string   // of the envelope
	From       string   // field From
	Subject    string   // field Subject
	Date       string   // field Date
	MessageID  string   // field Message-ID
	Recipients []string // whom it concerns, in a report with the answer of the next hop
	Category   string   // word of the log: INFECTED, BANNED, ...
	Reason     string   // ends "... because ..."
	Short      string   // the same in a few words
	Names      []string // of viruses or files
	Advice     string   // what the sender can do
	Score      string   // of the spam engines, empty for none
	Client     string   // address of the client, empty if it is not known
	Quarantine string   // where a copy is, empty if there is none
	Details    string   // of a notice: all that our own text says
}

// textNames are the files of a folder of texts.
var textNames = []string{
	"ndr.txt", "ndr-virus.txt", "ndr-banned.txt", "ndr-spam.txt", "ndr-unchecked.txt", "ndr-bad_header.txt", "ndr-oversized.txt",
	"notice.txt", "recipient.txt",
}

// Templates are the texts of one folder. Nil has none.
type Templates struct {
	texts map[string]*text
}

type text struct{ subject, body *template.Template }

// mostText bounds a text that is written from a template.
const mostText = 64 << 10

// LoadTemplates reads a folder of texts. A file that is missing stands for our own
// text. The error names file and line of every mistake; each text is tried, so that
// there is none left when it is needed.
func LoadTemplates(dir string) (*Templates, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	t := &Templates{texts: map[string]*text{}}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".txt") {
			continue
		}
		path := filepath.Join(dir, name)
		if !slices.Contains(textNames, name) {
			errs = append(errs, fmt.Errorf("%s: no text has this name (hint: there are %s)", path, strings.Join(textNames, ", ")))
			continue
		}
		data, err := os.ReadFile(path)
		if err == nil {
			t.texts[name], err = parseText(path, string(data))
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

func parseText(path, data string) (*text, error) {
	data = strings.ReplaceAll(data, "\r\n", "\n")
	first, rest, _ := strings.Cut(data, "\n")
	subject, ok := strings.CutPrefix(first, "Subject:")
	blank, body, _ := strings.Cut(rest, "\n")
	if !ok || strings.TrimSpace(blank) != "" || strings.TrimSpace(body) == "" {
		return nil, fmt.Errorf(`%s:1: want a line "Subject: ...", an empty line and the text`, path)
	}
	t := &text{}
	var err error
	if t.subject, err = template.New("x").Option("missingkey=error").Parse(strings.TrimSpace(subject)); err == nil {
		// so that lines have their numbers
		t.body, err = template.New("x").Option("missingkey=error").Parse("\n\n" + body)
	}
	if err == nil {
		_, _, err = t.write(&sampleFields)
	}
	if err != nil {
		return nil, textError(path, err)
	}
	return t, nil
}

var (
	templatePlace = regexp.MustCompile(`^template: x:(\d+)(?::\d+)?: (?:executing "x" at )?(.*)$`)
	unknownField  = regexp.MustCompile(`can't evaluate field (\w+) in`)
)

// textError says it in the words of a postmaster.
func textError(path string, err error) error {
	what := strings.ReplaceAll(err.Error(), "\n", " ")
	if m := templatePlace.FindStringSubmatch(what); m != nil {
		path, what = path+":"+m[1], m[2]
	}
	if m := unknownField.FindStringSubmatch(what); m != nil {
		var known []string
		for f := range reflect.TypeFor[Fields]().Fields() {
			known = append(known, f.Name)
		}
		return fmt.Errorf("%s: there is no field {{.%s}} (hint: there are %s)", path, m[1], strings.Join(known, ", "))
	}
	return fmt.Errorf("%s: %s", path, what)
}

// sampleFields try every text.
var sampleFields = Fields{
	Host: "mail.example.org", Contact: "postmaster@example.org", Reference: "1-1/AAAAAAAAAAAA", MailID: "AAAAAAAAAAAA", Sender: "<a@example.org>",
	From: "a@example.org", Subject: "hello", Date: "Mon, 9 Aug 2021 09:36:36 +0200", MessageID: "<1@example.org>", Recipients: []string{"<b@example.net>"},
	Category: "INFECTED", Reason: "a virus was found in it", Short: "it holds a virus", Names: []string{"Eicar"}, Advice: "Please check.", Score: "7.5",
	Client: "192.0.2.7", Quarantine: "A/virus-AAAAAAAAAAAA", Details: "details",
}

var errLongText = errors.New("the text is too long")

// boundedText is a builder that ends a text which would not end.
type boundedText struct{ strings.Builder }

func (b *boundedText) Write(p []byte) (int, error) {
	if b.Len()+len(p) > mostText {
		return 0, errLongText
	}
	return b.Builder.Write(p)
}

// write fills in the fields.
func (t *text) write(f *Fields) (subject string, body []byte, err error) {
	var s, b boundedText
	if err := errors.Join(t.subject.Execute(&s, f), t.body.Execute(&b, f)); err != nil {
		return "", nil, err
	}
	var l lines
	for line := range strings.SplitSeq(strings.Trim(b.String(), "\n"), "\n") {
		l.add("%s", printable(strings.TrimRight(line, " \r"), maxHeader))
	}
	return printable(s.String(), maxName), l.Bytes(), nil
}

// written returns a text of the postmaster, if there is one under one of the names.
// One that fails is not used: it was tried when it was read.
func (r *Report) written(f *Fields, names ...string) (subject string, body []byte, ok bool) {
	if r.Templates == nil {
		return "", nil, false
	}
	for _, name := range names {
		if t := r.Templates.texts[name]; t != nil {
			subject, body, err := t.write(f)
			return subject, body, err == nil
		}
	}
	return "", nil, false
}

// fields are what there is to say about some recipients, all for the same cause.
func (r *Report) fields(rcpts []int, c cause, cc policy.ContentCategory) *Fields {
	f := &Fields{
		Host: r.host(), Contact: string(r.From), Reference: r.reference(), MailID: r.Tx.MailID, Sender: printable(r.Tx.From.String(), maxName),
		From: r.value("From"), Subject: r.value("Subject"), Date: r.value("Date"), MessageID: r.value("Message-ID"),
		Category: cc.Category.String(), Reason: c.what, Short: c.short, Names: c.names, Advice: c.advice,
		Quarantine: printable(r.Quarantine, maxName),
	}
	if a := r.Tx.Client.Addr; a.IsValid() {
		f.Client = a.String()
	}
	for n, i := range rcpts {
		if n == maxListed {
			f.Recipients = append(f.Recipients, fmt.Sprintf("and %d more", len(rcpts)-maxListed))
			break
		}
		s := r.recipient(i)
		if o := &r.Outcomes[i]; o.refusedByNextHop() {
			s += ": " + printable(o.Receipt.Reply.String(), maxWord)
		}
		f.Recipients = append(f.Recipients, s)
		if v := r.Outcomes[i].Verdict; v.Score != nil {
			f.Score = mail.ScoreText(v.Score.Value)
		}
	}
	return f
}

// ndrNames are the texts for a cause, the best first.
func ndrNames(c mail.Category, byNextHop bool) []string {
	key := policy.CategoryKey(c)
	if c == mail.Spammy {
		key = "spam"
	}
	if key == "" || byNextHop {
		return []string{"ndr.txt"}
	}
	return []string{"ndr-" + key + ".txt", "ndr.txt"}
}
