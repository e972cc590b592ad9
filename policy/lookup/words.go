package lookup

import (
	"errors"
	"fmt"
	"strings"

	"postern/policy/strict"
)

// Words is an ordered list of names, such as logins: the first entry that is
// the name decides, "*" is every name, and an entry with "!" in front decides
// that the list does not match. It is immutable.
type Words struct {
	entries []strict.Entry
	fold    bool
	// the lowest index, as 2*index, plus 1 for an exclusion
	first map[string]int
}

// anyWord is the entry for every name.
const anyWord = "*"

// ParseWords builds a list from its entries; "file:PATH" names a file with one
// entry a line and comments after "#". Paths are relative to dir. With fold the case
// of ASCII letters does not count. All mistakes are reported together.
func ParseWords(dir string, list []string, fold bool) (*Words, error) {
	entries, err := strict.Expand(dir, list)
	errs := []error{err}
	w := &Words{entries: entries, fold: fold, first: map[string]int{}}
	for i, e := range entries {
		rank := 2 * i
		name, not := strings.CutPrefix(e.Text, "!")
		if not {
			rank++
		}
		if err := checkWord(name); err != nil {
			errs = append(errs, e.Wrap(err))
			continue
		}
		if _, ok := w.first[w.key(name)]; !ok {
			w.first[w.key(name)] = rank
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return w, nil
}

// CheckWords reports what is wrong with a list of names, as [ParseWords] does.
func CheckWords(dir string, list []string) error {
	_, err := ParseWords(dir, list, false)
	return err
}

func checkWord(name string) error {
	switch {
	case name == "":
		return errors.New(`name is empty: "*" is every name`)
	case name == anyWord:
		return nil
	case strings.HasPrefix(name, "!"):
		return fmt.Errorf("name %q: one exclamation mark excludes", name)
	case strings.ContainsAny(name, "*"):
		return fmt.Errorf(`name %q: there are no patterns: write the whole name, or "*" for every one`, name)
	case strings.HasPrefix(name, "/"):
		return fmt.Errorf("name %q: regular expressions are not allowed here", name)
	case strings.ContainsAny(name, " \t,"):
		return fmt.Errorf("name %q: each name is an entry of its own", name)
	}
	return nil
}

// key is the form in which names are compared. Of letters beyond ASCII none is
// taken for another: they would only look alike.
func (w *Words) key(name string) string {
	if !w.fold {
		return name
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, name)
}

// Match reports whether a name is in the list, and the entry that says so. The
// empty name is in none, nor is any name in a nil list.
func (w *Words) Match(name string) (entry string, ok bool) {
	if w == nil || name == "" {
		return "", false
	}
	const none = int(^uint(0) >> 1)
	best := none
	for _, key := range []string{w.key(name), anyWord} {
		if r, ok := w.first[key]; ok {
			best = min(best, r)
		}
	}
	if best == none || best&1 == 1 {
		return "", false
	}
	return w.entries[best/2].String(), true
}

// Names returns the names of all entries in their order, exclusions too, and
// whether there is one for every name.
func (w *Words) Names() (names []string, every bool) {
	for _, e := range w.entries {
		name := strings.TrimPrefix(e.Text, "!")
		if name == anyWord {
			every = true
			continue
		}
		names = append(names, name)
	}
	return names, every
}
