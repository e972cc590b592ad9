package policy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"postern/filter/mail"
	"postern/policy/strict"
)

// Lookup finds the overlays for an address outside the configuration, in a
// database for example. They come back in the order in which they are laid
// over the settings: the least specific first. No match is no error. Lookup
// must be safe for concurrent use and return soon after ctx has ended.
type Lookup interface {
	Lookup(ctx context.Context, a mail.Address) ([]*Overlay, error)
}

// delimiter separates a local part from its extension (Postfix:
// recipient_delimiter).
const delimiter = "+"

// foldDomain returns the form in which domains are compared: lower case,
// A-labels, no final dot. What is no valid IDN is only put in lower case.
func foldDomain(d string) string {
	if !mail.Address(d).ASCII() {
		if a, err := idna.Lookup.ToASCII(d); err == nil {
			d = a
		}
	}
	return strings.TrimSuffix(strings.ToLower(d), ".")
}

// foldAddress returns the parts in which addresses are compared. Quoting does
// not count, nor does case (Amavis: $localpart_is_case_sensitive = 0).
func foldAddress(a mail.Address) (local, domain string) {
	_, domain = a.Split()
	return strings.ToLower(a.Local()), foldDomain(domain)
}

// parentDomains calls visit with d, then with each parent, then with "" for
// the root, until visit returns false. A domain literal has no parents.
func parentDomains(d string, visit func(string) bool) {
	if strings.HasPrefix(d, "[") {
		d = ""
	}
	for d != "" {
		if !visit(d) {
			return
		}
		_, d, _ = strings.Cut(d, ".")
	}
	visit("")
}

// addressTable finds the rules whose keys match an address, as a hash lookup
// of Amavis does. For user+ext@sub.dom the keys are, the most specific first:
//
//	user+ext@sub.dom
//	user@sub.dom
//	user+ext@
//	user@
//	/regular expression/
//	sub.dom
//	.sub.dom  .dom  .
//
// Regular expressions, which Amavis keeps in tables of their own, stand
// between addresses and domains: they can single out a group of addresses
// from a domain, and one address can be singled out from the group.
type addressTable[T comparable] struct {
	full     map[string][]T // "user+ext@sub.dom" and "user@sub.dom"
	local    map[string][]T // "user+ext@" and "user@", without "@"
	domain   map[string][]T // "sub.dom"
	below    map[string][]T // ".sub.dom" without the dot
	patterns []pattern[T]
	keys     int // added so far; most configurations have no rules
}

type pattern[T comparable] struct {
	re   *regexp.Regexp
	rule T
}

// add enters a rule under a key. Of two rules with the same key, and of two
// regular expressions, the one that was added first is the more specific.
func (t *addressTable[T]) add(key string, rule T) error {
	if re, ok := strings.CutPrefix(key, "/"); ok {
		return t.addPattern(key, re, rule)
	}
	if err := checkKey(key); err != nil {
		return err
	}
	t.keys++
	put := func(m *map[string][]T, k string) {
		if *m == nil {
			*m = map[string][]T{}
		}
		(*m)[k] = append((*m)[k], rule)
	}
	local, domain := foldAddress(mail.Address(key))
	below, isBelow := strings.CutPrefix(key, ".")
	switch {
	case strings.Contains(key, "@") && domain == "":
		put(&t.local, local)
	case strings.Contains(key, "@"):
		put(&t.full, local+"@"+domain)
	case isBelow:
		put(&t.below, foldDomain(below))
	default:
		put(&t.domain, foldDomain(key))
	}
	return nil
}

func (t *addressTable[T]) addPattern(key, re string, rule T) error {
	re, closed := strings.CutSuffix(re, "/")
	if !closed || re == "" {
		return fmt.Errorf("address key %q: a regular expression stands between two slashes", key)
	}
	// what it is matched with is folded, so it must not ask for capitals
	c, err := regexp.Compile("(?i:" + re + ")")
	if err != nil {
		return fmt.Errorf("address key %q: %w", key, err)
	}
	t.keys++
	t.patterns = append(t.patterns, pattern[T]{c, rule})
	return nil
}

// checkKey finds the usual slips of the pen.
func checkKey(key string) error {
	local, domain := mail.Address(key).Split()
	if !strings.Contains(key, "@") {
		local, domain = "", strings.TrimPrefix(key, ".")
	}
	switch {
	case key == "":
		return errors.New("address key is empty: \".\" matches every address")
	case strings.HasPrefix(key, "!"):
		return fmt.Errorf("address key %q: there are no exclusions here: give the excluded address a rule of its own", key)
	case strings.HasPrefix(key, "@"):
		return fmt.Errorf("address key %q: write %q for the domain, %q for the domain and all below it", key, key[1:], "."+key[1:])
	case strings.HasPrefix(key, "*"):
		return fmt.Errorf("address key %q: there are no wildcards: write domain, .domain or /regular expression/", key)
	case strings.ContainsAny(domain, " \t") || strings.ContainsAny(local, " \t") && local[0] != '"':
		return fmt.Errorf("address key %q: a blank cannot stand in an address: each key is an entry of its own", key)
	case strings.ContainsAny(domain, "\"/"):
		return fmt.Errorf("address key %q: not an address", key)
	case strings.Contains(domain, "..") || strings.HasPrefix(domain, "."):
		return fmt.Errorf("address key %q: empty label in the domain", key)
	}
	return nil
}

// find returns the rules for a, the most specific first, each once.
func (t *addressTable[T]) find(a mail.Address) []T {
	if t.keys == 0 {
		return nil
	}
	local, domain := foldAddress(a)
	var out []T
	take := func(rules []T) {
		for _, r := range rules {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	base := local
	if i := strings.Index(local, delimiter); i > 0 {
		base = local[:i]
	}
	var buf [128]byte
	full := append(append(append(buf[:0], local...), '@'), domain...)
	take(t.full[string(full)])
	if base != local {
		take(t.full[string(append(append(append(buf[:0:0], base...), '@'), domain...))])
	}
	take(t.local[local])
	if base != local {
		take(t.local[base])
	}
	for _, p := range t.patterns {
		if p.re.Match(full) {
			take([]T{p.rule})
		}
	}
	take(t.domain[domain])
	parentDomains(domain, func(d string) bool {
		take(t.below[d])
		return true
	})
	return out
}

// overlayTable has the rules of the configuration and its files.
type overlayTable struct{ addressTable[*Overlay] }

// addKeys enters an overlay under each key of a list, which may name files.
func (t *overlayTable) addKeys(dir string, keys []string, o *Overlay) error {
	entries, err := strict.Expand(dir, keys)
	errs := []error{err}
	for _, e := range entries {
		if err := t.add(e.Text, o); err != nil {
			errs = append(errs, e.Wrap(err))
		}
	}
	return errors.Join(errs...)
}

// CheckAddressKeys reports what is wrong with keys of a rule: addresses,
// domains, regular expressions or "file:PATH" with one of these a line. Paths
// are relative to dir. All mistakes are reported together.
func CheckAddressKeys(dir string, keys []string) error {
	return new(overlayTable).addKeys(dir, keys, nil)
}

// lookup returns the overlays for a, the least specific first.
func (t *overlayTable) lookup(a mail.Address) []*Overlay {
	out := t.find(a)
	slices.Reverse(out)
	return out
}

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
	if _, problem := parseDomain(strings.TrimPrefix(name, ".")); problem != "" {
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
	parentDomains(domain, func(p string) bool {
		if r, ok := d.below[p]; ok {
			best = min(best, r)
		}
		return true
	})
	return best != none && best&1 == 0
}
