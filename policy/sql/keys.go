package sql

// Under which keys a recipient stands in the tables, and the values of the
// placeholders of a question.

import (
	"strings"

	"postern/filter/mail"
)

// keys are what is asked about one address.
type keys struct {
	address, local, user, extension, domain string
	list                                    []string // the most specific first
}

// maxParents bounds the keys of a domain, as in Amavis.
const maxParents = 20

// keysOf returns the keys of an address as Amavis has them for SQL. Case does
// not count: all are in lower case, as the tables must be.
func keysOf(a mail.Address, delimiters string, ours func(mail.Address) bool) *keys {
	local, domain := a.Split()
	if !strings.Contains(a.Local(), "@") {
		local = a.Local() // else it would be the key of another address
	}
	k := &keys{local: strings.ToLower(local), domain: strings.TrimSuffix(strings.ToLower(domain), ".")}
	k.user = k.local
	if i := strings.IndexAny(k.local, delimiters); delimiters != "" && i > 0 {
		k.user, k.extension = k.local[:i], k.local[i+1:]
	}
	k.address = k.local
	if k.domain != "" {
		k.address += "@" + k.domain
	}
	add := func(s string) {
		if s != "" && askable(s) {
			k.list = append(k.list, s)
		}
	}
	whole := func(user string) {
		if k.domain != "" && user != "" {
			add(user + "@" + k.domain)
		}
	}
	whole(k.local)
	if k.user != k.local {
		whole(k.user)
	}
	if ours(a) {
		add(k.local)
		if k.user != k.local {
			add(k.user)
		}
	}
	if k.domain != "" {
		add("@" + k.domain)
		parent := k.domain
		for range maxParents {
			add("@." + parent)
			_, rest, ok := strings.Cut(parent, ".")
			if !ok {
				break
			}
			parent = rest
		}
	}
	add("@.")
	return k
}

// values returns the values of a placeholder.
func (k *keys) values(want string) []string {
	v := ""
	switch want {
	case "k":
		return k.list
	case "a":
		v = k.address
	case "l":
		v = k.local
	case "u":
		v = k.user
	case "e":
		v = k.extension
	case "d":
		v = k.domain
	}
	if !askable(v) {
		v = ""
	}
	return []string{v}
}

// askable reports whether a server can be asked for s: it may read a backslash as
// the start of an escape. No table has such names. What was no UTF-8 is since it
// is in lower case.
func askable(s string) bool { return !strings.ContainsAny(s, "\\\x00") }
