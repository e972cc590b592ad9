package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

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

// ConfigError is all that is wrong in a configuration, in the order of the
// files.
type ConfigError struct {
	Mistakes []Mistake
}

// Error returns one line for each mistake.
func (e *ConfigError) Error() string {
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

// nearest returns the known word that is most like word, or "" when none is
// like it.
func nearest(word string, known []string) string {
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

// quote returns s in quotes, escaped and bounded for one line.
func quote(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "..."
	}
	return strconv.Quote(s)
}

// or joins words as in "a, b or c".
func or(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " or " + words[n]
}
