// Package lookup finds what a list says about a client, a domain or an address,
// by the rules that Amavis' lists have. It knows nothing of settings: what an
// entry means is for who made the list. Start with [Networks], [Domains] and
// [Addresses].
package lookup

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy/strict"
)

// delimiter separates a local part from its extension (Postfix:
// recipient_delimiter).
const delimiter = "+"

// Addresses finds the rules whose keys match an address, as a hash lookup
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
type Addresses[T comparable] struct {
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

// Add enters a rule under a key. Of two rules with the same key, and of two
// regular expressions, the one that was added first is the more specific.
func (t *Addresses[T]) Add(key string, rule T) error {
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
	local, domain := FoldAddress(mail.Address(key))
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

func (t *Addresses[T]) addPattern(key, re string, rule T) error {
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

// Find returns the rules for a, the most specific first, each once.
func (t *Addresses[T]) Find(a mail.Address) []T {
	if t.keys == 0 {
		return nil
	}
	local, domain := FoldAddress(a)
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
	ParentDomains(domain, func(d string) bool {
		take(t.below[d])
		return true
	})
	return out
}

// AddAll enters a rule under each key of a list; "file:PATH" names a file with
// one key a line and comments after "#". Paths are relative to dir. All
// mistakes are reported together.
func (t *Addresses[T]) AddAll(dir string, keys []string, rule T) error {
	entries, err := strict.Expand(dir, keys)
	errs := []error{err}
	for _, e := range entries {
		if err := t.Add(e.Text, rule); err != nil {
			errs = append(errs, e.Wrap(err))
		}
	}
	return errors.Join(errs...)
}

// CheckAddresses reports what is wrong with a list of keys, as
// [Addresses.AddAll] does.
func CheckAddresses(dir string, keys []string) error {
	return new(Addresses[bool]).AddAll(dir, keys, false)
}

// Samples returns an address for each key, regular expressions excepted. local
// is the domain of those for keys of a local part only.
func (t *Addresses[T]) Samples(local string) []mail.Address {
	var out []mail.Address
	add := func(m map[string][]T, address func(key string) string) {
		for key := range m {
			if key != "" {
				out = append(out, mail.Address(address(key)))
			}
		}
	}
	add(t.full, func(key string) string { return key })
	add(t.local, func(key string) string { return key + "@" + local })
	add(t.domain, func(key string) string { return "someone@" + key })
	add(t.below, func(key string) string { return "someone@below." + key })
	slices.Sort(out)
	return out
}
