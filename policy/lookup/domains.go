package lookup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
)

// Domains is an ordered list of domains with the rules of Amavis' access
// lists: ".dom" is the domain and all below it, "dom" is exactly that domain,
// "." is every domain, and "!" in front excludes. The first entry that
// matches decides. It is immutable.
type Domains struct {
	// the lowest index, as 2*index, plus 1 for an exclusion
	exact, below map[string]int
}

// ParseDomains builds a list from its entries; "file:PATH" names a file with
// one entry a line and comments after "#". Paths are relative to dir. All
// mistakes are reported together.
func ParseDomains(dir string, list []string) (*Domains, error) {
	entries, err := strict.Expand(dir, list)
	errs := []error{err}
	d := &Domains{exact: map[string]int{}, below: map[string]int{}}
	for i, e := range entries {
		rank := 2 * i
		name, not := strings.CutPrefix(e.Text, "!")
		if not {
			rank++
		}
		if err := checkDomain(name); err != nil {
			errs = append(errs, e.Wrap(err))
			continue
		}
		m := d.exact
		name, isBelow := strings.CutPrefix(name, ".")
		if isBelow {
			m = d.below
		}
		name = foldDomain(name)
		if _, ok := m[name]; !ok {
			m[name] = rank
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

func checkDomain(name string) error {
	switch {
	case name == "":
		return errors.New("domain is empty: \".\" is every domain")
	case strings.HasPrefix(name, "/"):
		return fmt.Errorf("domain %q: regular expressions are not allowed here", name)
	case strings.HasPrefix(name, "*."):
		return fmt.Errorf("domain %q: write %q for the domain and all below it", name, name[1:])
	case strings.Contains(name, "@"):
		_, domain := mail.Address(name).Split()
		return fmt.Errorf("domain %q: want a domain, not an address: write %q", name, domain)
	case strings.ContainsAny(name, " \t,"):
		return fmt.Errorf("domain %q: each domain is an entry of its own", name)
	case strings.ContainsAny(name, "*!") || strings.Contains(name, ".."):
		return fmt.Errorf("domain %q: not a domain name", name)
	case name == ".":
		return nil
	}
	if _, problem := ParseDomain(strings.TrimPrefix(name, ".")); problem != "" {
		return errors.New(problem)
	}
	return nil
}

// Match reports whether the domain is in the list. The empty domain is in
// none, not even in ".", nor is any domain in a nil list.
func (d *Domains) Match(domain string) bool {
	domain = foldDomain(domain)
	if d == nil || domain == "" {
		return false
	}
	const none = int(^uint(0)>>1) &^ 1
	best := none
	if r, ok := d.exact[domain]; ok {
		best = r
	}
	ParentDomains(domain, func(p string) bool {
		if r, ok := d.below[p]; ok {
			best = min(best, r)
		}
		return true
	})
	return best != none && best&1 == 0
}

// Names returns the names of the entries that are no exclusions, without the
// leading dot and in order; "" stands for every domain.
func (d *Domains) Names() []string {
	var out []string
	for _, m := range []map[string]int{d.exact, d.below} {
		for name, rank := range m {
			if rank&1 == 0 {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
