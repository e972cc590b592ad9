package banned

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// spelling is one way in which a reader of mail or Windows could see a name.
type spelling struct {
	path  string // with "/" between folders
	base  string // what follows the last folder
	lower string // base in lower case
}

// maxMatchedName bounds what is looked at of one name. The end is what counts.
const maxMatchedName = 4096

// classID ends a name whose program Windows finds by that id, without showing
// it.
var classID = regexp.MustCompile(`(?i)[.]?\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$`)

// spellings returns how the names of a part could be seen. What cannot be seen
// is taken out: a name is as dangerous as the file that is written under it.
func spellings(names []string) []spelling {
	out := make([]spelling, 0, len(names))
	add := func(path string) {
		path = strings.TrimRight(path, hiddenEnd)
		base := path[strings.LastIndexByte(path, '/')+1:]
		if path != "" && !slices.ContainsFunc(out, func(s spelling) bool { return s.path == path }) {
			out = append(out, spelling{path, base, strings.ToLower(base)})
		}
	}
	for _, name := range names {
		if n := len(name) - maxMatchedName; n > 0 {
			name = strings.ToValidUTF8(name[n:], "")
		}
		if i := strings.IndexByte(name, 0); i > 0 {
			add(visible(name[:i])) // for readers written in C the name ends here
		}
		path := visible(name)
		add(path)
		// "x.exe:stream" is a stream of the file x.exe (NTFS)
		start := strings.LastIndexByte(path, '/') + 1
		if i := strings.IndexByte(path[start:], ':'); i > 0 {
			add(path[:start+i])
		}
		if i := classID.FindStringIndex(strings.TrimRight(path, hiddenEnd)); i != nil {
			add(path[:i[0]])
		}
	}
	return out
}

// hiddenEnd are characters that Windows drops from the end of a name, or that
// cannot stand in one.
const hiddenEnd = " ./\"'`<>|?*”’»"

// visible returns a name in the form in which two names that look the same
// are the same: compatibility forms replaced (NFKC), control characters, marks
// of direction and others that take no room left out, one kind of blank and of
// slash.
func visible(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = ' ' <= name[i] && name[i] < 0x7f && name[i] != '\\'
	}
	if plain {
		return name
	}
	name = norm.NFKC.String(strings.ToValidUTF8(name, string(utf8.RuneError)))
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\\' || r == '\u2215' || r == '\u2044': // division and fraction slash
			return '/'
		case r == '\t' || r == '\u2800' || unicode.IsSpace(r) && !unicode.IsControl(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r),
			unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
			return -1
		}
		return r
	}, name)
}
