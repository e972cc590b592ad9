package lookup

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/policy/strict"
)

// Networks is an ordered list of networks with the rules of Amavis' IP lists:
// the first entry that holds an address decides, and an entry with a "!" in
// front decides that the list does not match. It is immutable.
type Networks struct {
	entries []Network
	// first has the lowest index for each prefix. Looking an address up at
	// every prefix length in use and taking the lowest index found is the
	// same as walking the entries in order.
	first        map[netip.Prefix]int
	bits4, bits6 []int // the prefix lengths in use
}

// Network is one entry of [Networks].
type Network struct {
	Entry  strict.Entry
	Prefix netip.Prefix
	Not    bool // an exclusion
	index  int  // in the list
}

// ParseNetworks builds a list from entries such as "10.0.0.0/8", "![::1]",
// "2001:db8::/32" or "file:PATH", a file with one entry a line and comments
// after "#". Paths are relative to dir. An address without a length is that
// address only; an IPv4-mapped IPv6 network is the IPv4 one. All mistakes are
// reported together.
func ParseNetworks(dir string, list []string) (*Networks, error) {
	entries, err := strict.Expand(dir, list)
	errs := []error{err}
	n := &Networks{first: make(map[netip.Prefix]int, len(entries))}
	for _, e := range entries {
		text, not := strings.CutPrefix(e.Text, "!")
		p, err := parsePrefix(strings.TrimSpace(text))
		if err != nil {
			errs = append(errs, e.Wrap(err))
			continue
		}
		if _, ok := n.first[p]; !ok {
			n.first[p] = len(n.entries)
			bits := &n.bits6
			if p.Addr().Is4() {
				bits = &n.bits4
			}
			if !slices.Contains(*bits, p.Bits()) {
				*bits = append(*bits, p.Bits())
			}
		}
		n.entries = append(n.entries, Network{e, p, not, len(n.entries)})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return n, nil
}

// Match reports whether a is in the list, and the entry that says so. An
// invalid address, an unknown client, is in no list, nor is any address in a
// nil one.
func (n *Networks) Match(a netip.Addr) (entry string, ok bool) {
	if n == nil || !a.IsValid() {
		return "", false
	}
	a = a.Unmap()
	bits := n.bits6
	if a.Is4() {
		bits = n.bits4
	}
	best := len(n.entries)
	for _, b := range bits {
		p, _ := a.Prefix(b) // without the zone; b came from a prefix of this family
		if i, ok := n.first[p]; ok && i < best {
			best = i
		}
	}
	if best == len(n.entries) || n.entries[best].Not {
		return "", false
	}
	return n.entries[best].Entry.String(), true
}

// shortNetwork is a network without its last numbers, as Amavis takes them.
var shortNetwork = regexp.MustCompile(`^(\d{1,3}(?:\.\d{1,3}){0,2})\.?(?:/\d+)?$`)

// parsePrefix reads one network, with host bits set to zero as Amavis does.
func parsePrefix(s string) (netip.Prefix, error) {
	addr, length, hasLength := strings.Cut(s, "/")
	inner, bracket := strings.CutPrefix(addr, "[")
	if bracket {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return netip.Prefix{}, fmt.Errorf("network %q: the bracket is not closed before the length: write [::1]/128", s)
		}
	}
	if strings.ContainsAny(s, ", \t") {
		return netip.Prefix{}, fmt.Errorf("network %q: each network is an entry of its own", s)
	}
	if m := shortNetwork.FindStringSubmatch(s); m != nil {
		octets := strings.Split(m[1], ".")
		if length == "" {
			length = strconv.Itoa(8 * len(octets))
		}
		return netip.Prefix{}, fmt.Errorf("network %q: want all four numbers: write %s/%s", s, m[1]+strings.Repeat(".0", 4-len(octets)), length)
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Zone() != "" || bracket && !a.Is6() {
		return netip.Prefix{}, fmt.Errorf("network %q: want an address such as 192.0.2.1 or [2001:db8::1], with or without /length", s)
	}
	bits := a.BitLen()
	if hasLength {
		// Atoi would take "+8" and "08"
		n, err := strconv.Atoi(length)
		if err != nil || strconv.Itoa(n) != length || n < 0 || n > bits {
			return netip.Prefix{}, fmt.Errorf("network %q: the length must be a number from 0 to %d", s, bits)
		}
		bits = n
	}
	if a.Is4In6() {
		if bits < 96 {
			return netip.Prefix{}, fmt.Errorf("network %q: a mapped IPv4 network needs a length from 96 to 128: better write the IPv4 network", s)
		}
		a, bits = a.Unmap(), bits-96
	}
	return a.Prefix(bits)
}

// Entries returns the entries in their order. Nobody may write to them.
func (n *Networks) Entries() []Network {
	if n == nil {
		return nil
	}
	return n.entries
}

// HiddenBy returns the entry before e in its own list n that holds all of e,
// or nil.
func (n *Networks) HiddenBy(e *Network) *Network {
	if x := n.first[e.Prefix]; x != e.index {
		return &n.entries[x]
	}
	return n.cover(e.Prefix, e.index)
}

// TakenBy returns the entry of n that takes every address of e, an entry of
// another list, or nil.
func (n *Networks) TakenBy(e *Network) *Network {
	by := n.Cover(e.Prefix)
	if by == nil || by.Not {
		return nil
	}
	for i := range n.entries[:by.index] {
		if x := &n.entries[i]; x.Not && x.Prefix.Overlaps(e.Prefix) {
			return nil
		}
	}
	return by
}

// Cover returns the first entry that holds all of p, or nil.
func (n *Networks) Cover(p netip.Prefix) *Network { return n.cover(p, len(n.entries)) }

// cover returns the first entry before index that holds all of p, or nil.
func (n *Networks) cover(p netip.Prefix, index int) *Network {
	bits := n.bits6
	if p.Addr().Is4() {
		bits = n.bits4
	}
	var found *Network
	for _, b := range bits {
		if b > p.Bits() {
			continue
		}
		wide, _ := p.Addr().Prefix(b) // b came from a prefix of this family
		if i, ok := n.first[wide]; ok && i < index {
			index, found = i, &n.entries[i]
		}
	}
	return found
}
