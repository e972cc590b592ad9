// Package banned says which files of a message may not pass. Rules are read from
// the configuration, each entry by itself with its own mistakes, and tried on
// the parts of a message: every file in it, also those inside archives,
// documents and attached messages, under every name that a reader could see.
//
// It is not for whose rules hold and what becomes of the message, which are
// policy's, nor for what a file is, which whoever took the message apart has
// found. Start with [Rule] and [Files].
package banned

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"postern/filter/mail"
)

// Rule is one entry of banned.rules.
//
// An Amavis configuration is expressed like this, without loss: a
// $banned_filename_re is the list of its entries in order, each a rule with
// the key amavis, under block where the right side is true or missing and
// under allow where it is false. A pattern is tried on the values that Amavis
// has (see [FileMatch]) of the file and of all its containers, and the first
// rule that fits any of them decides. Names in %banned_rules and
// @banned_filename_maps have no counterpart: the lists that they name, one
// after the other, are the rules of the recipient, and DEFAULT is
// built_in: true unless the configuration has a list of its own. The comment
// (?#...) of a pattern is the comment of the rule.
type Rule struct {
	// Files that may not pass. It is enough when a container around the file
	// fits.
	Block FileMatch `yaml:"block"`
	// Files that may pass even if a later rule fits. Only the file itself
	// counts; a container that fits allows nothing that is in it.
	Allow FileMatch `yaml:"allow"`
	// The built-in rules are put here.
	BuiltIn bool `yaml:"built_in"`
	// Stands before the name of the file in the log and in replies.
	Comment string `yaml:"comment"`

	matcher *fileMatcher
}

// FileMatch says which files a rule fits: those for which each key that is
// given has at least one entry that fits.
type FileMatch struct {
	// Shell patterns for the file name, in any case; one with a slash is for
	// the whole path in an archive. /.../ or /.../i is a regular expression.
	// All spellings count, as readers see them: decoded, without invisible
	// characters, in ordinary width, without the blanks and dots, streams and
	// class ids that Windows drops from the end.
	Name []NamePattern `yaml:"name"`
	// Short types by content, in the words of Amavis: exe-ms, zip, lnk.
	Type []FileType `yaml:"type"`
	// Media types, as declared or by content; * stands for any text.
	Media []MediaPattern `yaml:"media"`
	// Marks of the file: encrypted; undecipherable (not read in full);
	// ambiguous (readers see different things); directory, link and special
	// (members of archives that are no files); macros (a document with
	// macros); data-uri and html-smuggling (a page that holds a file or puts
	// one together); external-body and partial (the content is elsewhere);
	// in-document (a piece of a document, a package or a saved page, which no
	// click reaches); no-program (content that nothing runs, whatever its name
	// says: a picture that is declared as one, a score, a mesh).
	Is []FileMark `yaml:"is"`
	// Marks of files that the rule does not fit, whatever else fits.
	Except []FileMark `yaml:"except"`
	// Containers, at any distance around the file, by short type, name or
	// media type.
	Inside []ContainerPattern `yaml:"inside"`
	// Least number of containers around the file; messages and multiparts do
	// not count.
	Depth int `yaml:"depth"`
	// Regular expressions, /.../ or /.../i, as in $banned_filename_re of
	// Amavis: for each declared media type, each name as it is written, each
	// short type with a dot before it, and UNDECIPHERABLE, of the file and of
	// everything around it.
	Amavis []AmavisPattern `yaml:"amavis"`
}

// FileMark is a property of a file that rules can ask for.
type FileMark string

// The marks.
const (
	MarkEncrypted      FileMark = "encrypted"
	MarkUndecipherable FileMark = "undecipherable"
	MarkAmbiguous      FileMark = "ambiguous"
	MarkDirectory      FileMark = "directory"
	MarkLink           FileMark = "link"
	MarkSpecial        FileMark = "special"
	MarkMacros         FileMark = "macros"
	MarkDataURI        FileMark = "data-uri"
	MarkSmuggling      FileMark = "html-smuggling"
	MarkExternalBody   FileMark = "external-body"
	MarkPartial        FileMark = "partial"
	MarkInDocument     FileMark = "in-document"
	MarkNoProgram      FileMark = "no-program"
)

// Marks are the marks in the order in which they are told.
var Marks = []string{string(MarkEncrypted), string(MarkUndecipherable), string(MarkAmbiguous), string(MarkDirectory), string(MarkLink), string(MarkSpecial),
	string(MarkMacros), string(MarkDataURI), string(MarkSmuggling), string(MarkExternalBody), string(MarkPartial), string(MarkInDocument), string(MarkNoProgram)}

// markFlags are the marks that are flags of a part; the others are facts.
var markFlags = map[FileMark]mail.PartFlags{
	MarkEncrypted: mail.PartEncrypted, MarkUndecipherable: mail.PartUndecipherable, MarkAmbiguous: mail.PartAmbiguous,
	MarkDirectory: mail.PartDirectory, MarkLink: mail.PartLink, MarkSpecial: mail.PartSpecial,
}

// maxHits bounds the files of one message that are told. More say no more.
const maxHits = 10

// Equal reports whether two lists say the same.
func Equal(a, b []Rule) bool {
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return true // one list, as recipients of one bank have it
	}
	return slices.EqualFunc(a, b, func(x, y Rule) bool {
		return x.BuiltIn == y.BuiltIn && x.Comment == y.Comment && x.Block.equal(&y.Block) && x.Allow.equal(&y.Allow)
	})
}

func (f *FileMatch) equal(o *FileMatch) bool {
	return slices.Equal(f.Name, o.Name) && slices.Equal(f.Type, o.Type) && slices.Equal(f.Media, o.Media) && slices.Equal(f.Is, o.Is) && slices.Equal(f.Except, o.Except) &&
		slices.Equal(f.Inside, o.Inside) && f.Depth == o.Depth && slices.Equal(f.Amavis, o.Amavis)
}

// Hit is a file that may not pass, and the first rule that fits it.
type Hit struct {
	Part *mail.Part
	Rule *Rule

	names string // that say of the part why it is blocked
}

// Name describes the file as the log calls it: the comment of the rule, then
// media types, short types and names as Amavis' macro %F gives them. It is
// foreign text of up to about 1,000 octets.
func (f Hit) Name() string {
	const most = 4 // the rest are other spellings
	var names []string
	for _, n := range f.Part.Names[:min(len(f.Part.Names), most)] {
		names = append(names, cut(n, 200))
	}
	return f.describe(names)
}

// Short is Name with the name of the file once, for replies: not in all its
// spellings.
func (f Hit) Short() string {
	if f.names == "" {
		return f.describe(nil)
	}
	return f.describe([]string{f.names})
}

func (f Hit) describe(names []string) string {
	const most = 4 // of each
	p := f.Part
	var list []string
	list = append(list, p.Media[:min(len(p.Media), most)]...)
	for _, t := range p.Types[:min(len(p.Types), most)] {
		list = append(list, "."+t)
	}
	s := strings.Join(append(list, names...), ",")
	if f.Rule.Comment != "" {
		return f.Rule.Comment + ":" + s
	}
	return s
}

// Why returns what the rule says, as in a file and bounded for one line.
func (f Hit) Why() string { return cut(f.Rule.Block.String(), 200) }

// Files tests the files of a message: every file in it, also those
// inside archives, documents and attached messages. The first rule that fits
// decides. It returns those that are blocked, up to ten, in the order of the
// message. root is the message.
func Files(rules []Rule, root *mail.Part) []Hit {
	w := &walk{rules: withBuiltIn(rules)}
	w.part(root, decision{rule: len(w.rules)})
	var out []Hit
	for _, d := range w.found {
		out = append(out, Hit{d.part, &w.rules[d.rule], d.names})
	}
	return out
}

// withBuiltIn puts the built-in rules where a rule asks for them.
func withBuiltIn(rules []Rule) []Rule {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.BuiltIn })
	if i < 0 {
		return rules
	}
	out := slices.Clone(rules[:i])
	for _, r := range rules[i:] {
		if r.BuiltIn {
			out = append(out, builtIn...)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// walk tests the parts of one message.
type walk struct {
	rules []Rule
	above []*mail.Part // the containers around the part at hand, the message first
	found []decision
}

// decision is the first rule that fits, and what it fits.
type decision struct {
	rule  int // its number; len(rules) when none fits
	part  *mail.Part
	allow bool
	names string // that say of the part why it is blocked
}

// part decides about p and what is inside. d is the first rule that fits a
// container around it: only an earlier one is of interest.
func (w *walk) part(p *mail.Part, d decision) {
	if len(w.found) == maxHits {
		return
	}
	x := newFile(p, w.above)
	for i := range w.rules[:d.rule] {
		r := &w.rules[i]
		m := r.compiled()
		if m.leafOnly && !p.Leaf() || !m.fits(x) {
			continue
		}
		d = decision{rule: i, part: p, allow: m.allow}
		if !m.allow {
			d.names = told(m, x)
		}
		break
	}
	if p.Leaf() {
		if d.part != nil && !d.allow && !slices.Contains(w.found, d) {
			w.found = append(w.found, d)
		}
		return
	}
	w.above = append(w.above, p)
	for _, c := range p.Children {
		w.part(c, d)
	}
	w.above = w.above[:len(w.above)-1]
}

// compiled returns the matcher, which rules that did not come from a file do
// not have yet.
func (r *Rule) compiled() *fileMatcher {
	if r.matcher != nil {
		return r.matcher
	}
	m, _, _ := r.compile()
	return m
}

// Check completes a rule that was read from a file, or says what is wrong
// with it.
func (r *Rule) Check() (what, hint string) {
	r.matcher, what, hint = r.compile()
	return what, hint
}

// compile makes the matcher of a rule. That of a wrong rule blocks everything.
func (r *Rule) compile() (m *fileMatcher, what, hint string) {
	everything := &fileMatcher{}
	n := 0
	for _, given := range []bool{!r.Block.empty(), !r.Allow.empty(), r.BuiltIn} {
		if given {
			n++
		}
	}
	switch {
	case n == 0:
		return everything, "this rule says nothing", `for example {block: {name: "*.exe"}} or {allow: {type: pdf, inside: zip}}`
	case n > 1:
		return everything, "want only one of block, allow and built_in", "make two rules of it: the first one that fits decides"
	case r.Block.Depth < 0 || r.Allow.Depth < 0:
		return everything, "depth must not be negative", ""
	case r.BuiltIn:
		return everything, "", ""
	case !r.Block.empty():
		m = r.Block.compile()
	default:
		m = r.Allow.compile()
		m.allow, m.leafOnly = true, len(r.Allow.Amavis) == 0
	}
	return m, "", ""
}

func (f *FileMatch) empty() bool {
	return len(f.Name)+len(f.Type)+len(f.Media)+len(f.Is)+len(f.Inside)+len(f.Amavis) == 0 && f.Depth == 0
}

// String writes the rule as in a file.
func (r Rule) String() string {
	var pairs []string
	for _, x := range []struct {
		key   string
		match *FileMatch
	}{{"block", &r.Block}, {"allow", &r.Allow}} {
		if !x.match.empty() {
			pairs = append(pairs, x.key+": "+x.match.String())
		}
	}
	if r.BuiltIn {
		pairs = append(pairs, "built_in: true")
	}
	if r.Comment != "" {
		pairs = append(pairs, "comment: "+strconv.Quote(r.Comment))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// MarshalText returns the rule as String does, for JSON.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String writes the keys that are given as in a file.
func (f *FileMatch) String() string {
	var pairs []string
	pairs = appendList(pairs, "name", f.Name)
	pairs = appendList(pairs, "type", f.Type)
	pairs = appendList(pairs, "media", f.Media)
	pairs = appendList(pairs, "is", f.Is)
	pairs = appendList(pairs, "except", f.Except)
	pairs = appendList(pairs, "inside", f.Inside)
	if f.Depth != 0 {
		pairs = append(pairs, "depth: "+strconv.Itoa(f.Depth))
	}
	pairs = appendList(pairs, "amavis", f.Amavis)
	return "{" + strings.Join(pairs, ", ") + "}"
}

// appendList adds "key: [values]" for a list that is not empty. Words stand
// without quotes, patterns with them.
func appendList[T ~string](pairs []string, key string, list []T) []string {
	if len(list) == 0 {
		return pairs
	}
	items := make([]string, len(list))
	for i, v := range list {
		items[i] = string(v)
		if strings.ContainsFunc(items[i], func(r rune) bool {
			return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("-.", r))
		}) {
			items[i] = strconv.Quote(items[i])
		}
	}
	return append(pairs, key+": ["+strings.Join(items, ", ")+"]")
}

// told returns what is to be told of the names of a file that m fits: the most
// probable one. If m does not fit that but another, readers differ about the
// name, and the other one says why the file is blocked.
func told(m *fileMatcher, x *file) string {
	names := x.part.Names
	if len(names) == 0 {
		return ""
	}
	for i, name := range names {
		only := *x.part
		only.Names = []string{name}
		if !m.fits(newFile(&only, x.above)) {
			continue
		}
		if i > 0 {
			return cut(names[0], 200) + "," + cut(name, 200)
		}
		break
	}
	return cut(names[0], 200)
}

// cut bounds s to about n octets.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
