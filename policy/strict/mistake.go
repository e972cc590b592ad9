package strict

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Place is where something stands in a file.
type Place struct {
	File   string
	Line   int // from 1; 0: the file as a whole
	Column int // from 1, in characters; 0: the line as a whole
}

// Problem is an error about a value that says how to mend it. Whoever reads
// its own text (encoding.TextUnmarshaler) returns one.
type Problem struct{ What, Hint string }

// Error returns what is wrong, without the hint.
func (p *Problem) Error() string { return p.What }

// Checker judges an entry of a list as a whole, once it has been read without
// a mistake: what is wrong with it, and how to mend it, empty where all is
// well.
type Checker interface{ Check() (what, hint string) }

// Mistake is one thing wrong in the configuration, told to people.
type Mistake struct {
	File   string
	Line   int    // 0: the file as a whole
	Column int    // 0: the line as a whole
	What   string // one line
	Hint   string // how to mend it; may be empty
}

// Place returns "postern.yaml:3:5", or less where less is known.
func (m Mistake) Place() string {
	s := m.File
	for _, n := range []int{m.Line, m.Column} {
		if n == 0 {
			break
		}
		s += ":" + strconv.Itoa(n)
	}
	return s
}

// String returns "postern.yaml:3:5: what; hint".
func (m Mistake) String() string {
	s := m.Place() + ": " + m.What
	if m.Hint != "" {
		s += "; " + m.Hint
	}
	return s
}

// Mistake reports one; the hint may be empty.
func (r *Reader) Mistake(at Place, what, hint string) {
	r.mistakes = append(r.mistakes, Mistake{at.File, at.Line, at.Column, what, hint})
}

// Unread reports a file that should have been read, but was not.
func (r *Reader) Unread(file, what, hint string) {
	r.files = append(r.files, file)
	r.Mistake(Place{File: file}, what, hint)
}

// At reports a mistake about the value of a key, or about the first key above
// it that the files give.
func (r *Reader) At(key, what, hint string) {
	p, ok := r.places[key]
	for k := key; !ok && k != ""; p, ok = r.places[k] {
		k = k[:max(strings.LastIndexAny(k, ".["), 0)]
	}
	if !ok && len(r.files) > 0 {
		p = Place{r.files[0], 1, 1}
	}
	r.Mistake(p, key+": "+what, hint)
}

// Bad reports whether a mistake was found in the value of a key.
func (r *Reader) Bad(key string) bool { return r.bad[key] }

// BadBelow reports whether a mistake was found in key or below it: what is
// missing there was then meant to be given.
func (r *Reader) BadBelow(key string) bool {
	for k := range r.bad {
		if rest, ok := strings.CutPrefix(k, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// Err returns all mistakes so far as one [Error], or nil.
func (r *Reader) Err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	sortMistakes(r.mistakes, r.files)
	r.mistakes = slices.Compact(r.mistakes)
	return &Error{slices.Clone(r.mistakes)}
}

// Error is all that is wrong in a configuration, in the order of the files.
type Error struct {
	Mistakes []Mistake
}

// Error returns one line for each mistake.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// sortMistakes orders by file as read, then by place.
func sortMistakes(ms []Mistake, files []string) {
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
}

// Nearest returns the known word that is most like word, or "" when none is
// like it.
func Nearest(word string, known []string) string {
	best, bestDist := "", len(word)
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d < bestDist && d <= max(1, max(len(word), len(k))/3) {
			best, bestDist = k, d
		}
	}
	for _, k := range known {
		if best == "" && len(word) > 2 && strings.HasPrefix(k, strings.ToLower(word)) {
			best = k
		}
	}
	return best
}

// distance counts the letters inserted, deleted, changed or swapped with their
// neighbour that turn a into b (optimal string alignment).
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// Quote returns s in quotes, escaped and bounded for one line.
func Quote(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "..."
	}
	return strconv.Quote(s)
}

// Or joins words as in "a, b or c".
func Or(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// Typographic quotes come from text processors and web pages. To YAML they are
// letters like others.
const (
	Typographic = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
	QuotesHint  = "quotes are straight, \" or '"
)
