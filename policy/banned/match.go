package banned

// How banned rules are written and tested.

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
)

// The patterns of a rule. They are kept as they are written; each has been
// tested when it comes from a file.
type (
	// NamePattern is a shell pattern or a /regular expression/ for names.
	NamePattern string
	// FileType is a short type, without Amavis' dot.
	FileType string
	// MediaPattern is a media type in lower case, with * for any text.
	MediaPattern string
	// ContainerPattern is a short type, a NamePattern or a MediaPattern.
	ContainerPattern string
	// AmavisPattern is a /regular expression/ for the values of Amavis.
	AmavisPattern string
)

// UnmarshalText reads a pattern.
func (p *NamePattern) UnmarshalText(b []byte) error {
	s := string(b)
	switch {
	case strings.HasPrefix(s, "/"):
		if _, err := parseRegexp(s); err != nil {
			return err
		}
	case strings.Trim(s, "*?") == "":
		return errors.New("want a pattern for names")
	case !strings.ContainsAny(s, "*?") && strings.LastIndexByte(s, '.') <= 0:
		return &strict.Problem{What: "want a pattern for names", Hint: `for all files with that ending write "*.` + strings.TrimPrefix(s, ".") + `"`}
	}
	*p = NamePattern(s)
	return nil
}

// UnmarshalText reads a short type, with or without Amavis' dot.
func (t *FileType) UnmarshalText(b []byte) error {
	s := strings.TrimPrefix(string(b), ".")
	if !fileTypes()[s] {
		return &strict.Problem{What: "want a type of file", Hint: typeHint(s)}
	}
	*t = FileType(s)
	return nil
}

func typeHint(s string) string {
	if strings.ContainsAny(s, "*/?") {
		return "patterns are for name and media"
	}
	if near := strict.Nearest(s, typeWords()); near != "" {
		return "nearest is " + strict.Quote(near)
	}
	return "for the extension of a name write name: " + strict.Quote("*."+s)
}

// UnmarshalText reads a media type.
func (p *MediaPattern) UnmarshalText(b []byte) error {
	s := strings.ToLower(string(b))
	major, minor, ok := strings.Cut(s, "/")
	if !ok || major == "" || minor == "" || strings.ContainsAny(s, " ;\t") {
		return &strict.Problem{What: "want a media type", Hint: `for example application/x-msdownload or "image/*"`}
	}
	*p = MediaPattern(s)
	return nil
}

// UnmarshalText reads what a container may be.
func (p *ContainerPattern) UnmarshalText(b []byte) error {
	s := string(b)
	var err error
	switch {
	case strings.HasPrefix(s, "/") || strings.ContainsAny(s, "*?") && !strings.Contains(s, "/"):
		err = new(NamePattern).UnmarshalText(b)
	case strings.Contains(s, "/"):
		var m MediaPattern
		err, s = m.UnmarshalText(b), strings.ToLower(s)
	default:
		var t FileType
		if err = t.UnmarshalText(b); err != nil && strings.LastIndexByte(s, '.') > 0 {
			err = nil // the name of a file
		} else {
			s = string(t)
		}
	}
	*p = ContainerPattern(s)
	return err
}

// UnmarshalText reads a regular expression.
func (p *AmavisPattern) UnmarshalText(b []byte) error {
	if !strings.HasPrefix(string(b), "/") {
		return &strict.Problem{What: "want a regular expression", Hint: "it stands between two slashes, for example /^[.]exe-ms$/i"}
	}
	_, err := parseRegexp(string(b))
	*p = AmavisPattern(b)
	return err
}

// parseRegexp reads /.../ and /.../i.
func parseRegexp(s string) (*regexp.Regexp, error) {
	end := strings.LastIndexByte(s, '/')
	if end <= 0 || s[end+1:] != "" && s[end+1:] != "i" {
		return nil, &strict.Problem{What: "want a regular expression", Hint: "it stands between two slashes, with i after them for any case"}
	}
	if end == 1 {
		return nil, &strict.Problem{What: "want a regular expression", Hint: "an empty one fits everything"}
	}
	expr := s[1:end]
	if s[end+1:] == "i" {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("want a regular expression (%s)", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

// fileMatcher is a FileMatch made ready. The zero one fits everything.
type fileMatcher struct {
	allow    bool
	leafOnly bool

	name   *nameMatcher
	types  []string
	media  []mediaMatcher
	marks  *marksMatcher
	except *marksMatcher
	inside *containerMatcher
	depth  int
	amavis []*regexp.Regexp
}

// marksMatcher fits files that have one of the marks.
type marksMatcher struct {
	flags mail.PartFlags
	facts []string
}

// compileMarks returns nil for an empty list.
func compileMarks(list []FileMark) *marksMatcher {
	if len(list) == 0 {
		return nil
	}
	m := &marksMatcher{}
	for _, mark := range list {
		if flag := markFlags[mark]; flag != 0 {
			m.flags |= flag
		} else {
			m.facts = append(m.facts, string(mark))
		}
	}
	return m
}

func (m *marksMatcher) fits(p *mail.Part) bool {
	return p.Flags.Is(m.flags) || common(m.facts, p.Facts)
}

// containerMatcher fits what a container may be.
type containerMatcher struct {
	name  *nameMatcher
	types []string
	media []mediaMatcher
}

// compile makes f ready. A pattern that is wrong, as only program code can
// give, fits everything.
func (f *FileMatch) compile() *fileMatcher {
	m := &fileMatcher{name: compileNames(f.Name), depth: f.Depth, marks: compileMarks(f.Is), except: compileMarks(f.Except)}
	for _, t := range f.Type {
		m.types = append(m.types, string(t))
	}
	for _, p := range f.Media {
		m.media = append(m.media, compileMedia(p))
	}
	for _, p := range f.Amavis {
		re, err := parseRegexp(string(p))
		if err != nil {
			re = anything
		}
		m.amavis = append(m.amavis, re)
	}
	if len(f.Inside) > 0 {
		m.inside = compileContainers(f.Inside)
	}
	return m
}

var anything = regexp.MustCompile("")

func compileContainers(list []ContainerPattern) *containerMatcher {
	m := &containerMatcher{}
	var names []NamePattern
	for _, p := range list {
		switch s := string(p); {
		case fileTypes()[s]:
			m.types = append(m.types, s)
		case !strings.HasPrefix(s, "/") && strings.Contains(s, "/"):
			m.media = append(m.media, compileMedia(MediaPattern(s)))
		default:
			names = append(names, NamePattern(s))
		}
	}
	m.name = compileNames(names)
	return m
}

// fits reports whether all that is given fits x.
func (m *fileMatcher) fits(x *file) bool {
	p := x.part
	return (m.name == nil || m.name.fits(x, m.allow)) &&
		(m.types == nil || common(m.types, p.Types)) &&
		(m.media == nil || fitsMedia(m.media, p)) &&
		(m.marks == nil || m.marks.fits(p)) && (m.except == nil || !m.except.fits(p)) &&
		(m.depth == 0 || x.depth() >= m.depth) &&
		(m.inside == nil || m.inside.fits(x.above)) &&
		(m.amavis == nil || m.fitsAmavis(p))
}

func (m *containerMatcher) fits(above []*mail.Part) bool {
	for _, p := range above {
		if common(m.types, p.Types) || fitsMedia(m.media, p) || m.name != nil && m.name.fits(newFile(p, nil), false) {
			return true
		}
	}
	return false
}

// fitsAmavis tries the values that Amavis has for a part.
func (m *fileMatcher) fitsAmavis(p *mail.Part) bool {
	for _, re := range m.amavis {
		if slices.ContainsFunc(p.Media, re.MatchString) || slices.ContainsFunc(p.Names, re.MatchString) ||
			slices.ContainsFunc(p.Types, func(t string) bool { return re.MatchString("." + t) }) ||
			p.Flags.Is(mail.PartUndecipherable) && re.MatchString("UNDECIPHERABLE") {
			return true
		}
	}
	return false
}

func common(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// mediaMatcher is a media type, or the text around one "*" and more.
type mediaMatcher struct {
	exact string
	glob  *regexp.Regexp
}

func compileMedia(p MediaPattern) mediaMatcher {
	s := string(p)
	if !strings.Contains(s, "*") {
		return mediaMatcher{exact: s}
	}
	return mediaMatcher{glob: globRegexp(s)}
}

func fitsMedia(list []mediaMatcher, p *mail.Part) bool {
	for _, m := range list {
		for _, media := range p.Media {
			if m.fits(media) {
				return true
			}
		}
		if p.Detected != "" && m.fits(p.Detected) {
			return true
		}
	}
	return false
}

func (m mediaMatcher) fits(media string) bool {
	if m.glob == nil {
		return m.exact == media
	}
	return m.glob.MatchString(media)
}

// globRegexp turns a shell pattern with * and ? into a regular expression for
// text in lower case.
func globRegexp(glob string) *regexp.Regexp {
	s := regexp.QuoteMeta(strings.ToLower(glob))
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\*`, `.*`), `\?`, `.`)
	return regexp.MustCompile(`(?s)^` + s + `$`)
}

// nameMatcher fits file names.
type nameMatcher struct {
	extensions map[string]bool // of patterns "*.ext", which are most
	bases      []*regexp.Regexp
	paths      []*regexp.Regexp
	free       []*regexp.Regexp // written as such; for base and path in their own case
}

// compileNames returns nil for an empty list.
func compileNames(list []NamePattern) *nameMatcher {
	if len(list) == 0 {
		return nil
	}
	m := &nameMatcher{extensions: map[string]bool{}}
	for _, p := range list {
		s := string(p)
		ext, isExt := strings.CutPrefix(strings.ToLower(s), "*.")
		switch {
		case strings.HasPrefix(s, "/"):
			re, err := parseRegexp(s)
			if err != nil {
				re = anything
			}
			m.free = append(m.free, re)
		case isExt && !strings.ContainsAny(ext, "*?./"):
			m.extensions[ext] = true
		case strings.Contains(s, "/"):
			m.paths = append(m.paths, globRegexp(s))
		default:
			m.bases = append(m.bases, globRegexp(s))
		}
	}
	return m
}

// fits tries the spellings of the name: one is enough to block, but all must
// fit to allow. A folder cannot be opened as a file, whatever it is called.
func (m *nameMatcher) fits(x *file, all bool) bool {
	if len(x.part.Names) == 0 || x.part.Flags.Is(mail.PartDirectory) && x.part.Data == nil {
		return false
	}
	for _, n := range x.spellings() {
		if all && strings.HasSuffix(n.base, "?=") {
			continue // an encoded-word as it is written; what it means is there too
		}
		if m.one(n) != all {
			return !all
		}
	}
	return all
}

func (m *nameMatcher) one(n spelling) bool {
	if i := strings.LastIndexByte(n.lower, '.'); i >= 0 && m.extensions[n.lower[i+1:]] {
		return true
	}
	fits := func(list []*regexp.Regexp, s string) bool {
		return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(s) })
	}
	return fits(m.bases, n.lower) || fits(m.free, n.base) || n.path != n.base && fits(m.free, n.path) ||
		len(m.paths) > 0 && fits(m.paths, strings.ToLower(n.path))
}

// file is a part on the way through the rules.
type file struct {
	part  *mail.Part
	above []*mail.Part // the message first

	named []spelling // nil until somebody asks
}

func newFile(p *mail.Part, above []*mail.Part) *file { return &file{part: p, above: above} }

func (x *file) spellings() []spelling {
	if x.named == nil {
		x.named = spellings(x.part.Names)
	}
	return x.named
}

// depth counts the containers around the file that are files themselves.
func (x *file) depth() int {
	n := 0
	for _, p := range x.above {
		if len(p.Types) > 0 && !slices.Contains(p.Types, "mail") {
			n++
		}
	}
	return n
}
