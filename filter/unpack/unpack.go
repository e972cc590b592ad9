// Package unpack takes a message apart: all plausible readings of its MIME
// structure, transfer encodings, archives and file types, within one budget.
// It reports parts and findings and decides nothing; it never changes a byte
// of the message, writes no file and starts no program.
//
// Start with Parts and Result. Parts walks: entity (mime.go) reads a part in
// all ways, leaf and content (content.go) look at what its body decodes to,
// container (container.go) opens what holds other files, and each member goes
// the same way again. What the walk asks stands in the rooms below: entity
// knows heads and bodies, armour files that stand in text, filetype what
// octets are, archive and document open containers with the streams of codec,
// and budget says what all of it may cost. No room knows the walk.
package unpack

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// Result is what was found in one message.
type Result struct {
	// Root is the message itself. Of a message that is no multipart it is
	// also the only part.
	Root *mail.Part
	// Parts are all parts in the order of the tree, Root first.
	Parts []*mail.Part
	// Findings are the doubts: UNCHECKED with the minors Ambiguous, Encrypted
	// or OverLimits, or unspecified after a panic in a decoder.
	Findings []mail.Finding
	// Held is the memory that the parts take up until they are given up.
	Held int64
}

// What a message may cost, alone and together with others, is said in budget;
// those who only take messages apart need no more of it than this.
type (
	// Limits bound the work on one message.
	Limits = budget.Limits
	// Room is the memory of all messages that are in work together.
	Room = budget.Room
	// Claim is the share of one message in a Room.
	Claim = budget.Claim
)

// DefaultLimits are the figures of the documentation.
var DefaultLimits = budget.DefaultLimits

// NewRoom returns a Room of size octets.
func NewRoom(size int64) *Room { return budget.NewRoom(size) }

// checkName stands in the findings of this package.
const checkName = "unpack"

// maxFindings bounds the findings of each kind. More say no more.
const maxFindings = 10

// Parts takes msg apart. The parts are the union of what any plausible reading
// of the message extracts; where two readings differ in parts, octets or names
// the part is ambiguous. Encrypted archives are tried with passwords, and with
// words of the message. It never fails: what could not be done is a finding.
func Parts(ctx context.Context, msg *mail.Message, limits budget.Limits, passwords ...string) *Result {
	w := &walker{budget: budget.New(ctx, limits, msg.Size()), notes: map[*mail.Part]string{}, ended: map[string]bool{},
		vague: map[*mail.Part][]string{}, attached: map[*mail.Part]bool{}}
	root := &mail.Part{Place: "1"}
	w.budget.SetPasswords(slices.Clone(passwords))
	w.guard(root, func() { w.entity(root, slices.Clip(msg.Bytes()), textPlain) })
	w.guard(root, func() { w.unlockAll(root) })
	r := &Result{Root: root}
	for p := range root.All() {
		r.Parts = append(r.Parts, p)
	}
	r.Findings = w.findings(root)
	r.Held = w.held + msg.Size()
	return r
}

// walker is the state of one Parts.
type walker struct {
	budget  *budget.Budget
	depth   int // nesting of MIME parts
	nesting int // nesting of archives and other containers

	notes    map[*mail.Part]string   // why a part is ambiguous or undecipherable
	vague    map[*mail.Part][]string // what else could be the name of a part that has none
	attached map[*mail.Part]bool     // parts that say so, as opposed to those shown in place
	sealed   bool                    // the container at hand is opened as a whole: nobody sees its members
	panics   []mail.Finding
	bounds   []string        // boundaries of all multiparts walked so far
	ended    map[string]bool // those of multiparts that were left again
	held     int64           // octets that parts hold on to beyond the message, see hold
	kept     int64           // those of decoded members among them
}

// maxKept bounds the decoded members that stay in memory for scanners. What
// MIME decodes is not among them.
const maxKept = 24 << 20

// maxNames bounds the spellings of one name that are kept.
const maxNames = 64

// child adds a part to p.
func (w *walker) child(p *mail.Part) *mail.Part {
	c := w.detached(p, 0)
	p.Children = append(p.Children, c)
	return c
}

// detached makes a part that is not yet among the children of p, where others
// may come to stand in front of it: no two parts have the same place.
func (w *walker) detached(p *mail.Part, others int) *mail.Part {
	return &mail.Part{Place: p.Place + "/" + strconv.Itoa(len(p.Children)+1+others), Parent: p}
}

// doubt marks p as ambiguous. The first reason is kept.
func (w *walker) doubt(p *mail.Part, format string, args ...any) {
	p.Flags |= mail.PartAmbiguous
	w.note(p, format, args...)
}

func (w *walker) note(p *mail.Part, format string, args ...any) {
	if w.notes[p] == "" {
		w.notes[p] = fmt.Sprintf(format, args...)
	}
}

// guard runs f; a panic in it becomes a finding. So does a fault in memory that
// is mapped (see budget.Opener): it would end the program, and again with the
// same message.
func (w *walker) guard(p *mail.Part, f func()) {
	depth, nesting := w.depth, w.nesting
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if e := recover(); e != nil {
			w.depth, w.nesting = depth, nesting
			p.Flags |= mail.PartUndecipherable
			w.panics = append(w.panics, mail.Finding{Part: p.Path(), Detail: fmt.Sprintf("panic while unpacking: %v", e)})
		}
	}()
	f()
}

// findings collects what the flags of the parts and the budget say.
func (w *walker) findings(root *mail.Part) []mail.Finding {
	var out []mail.Finding
	count := map[int]int{}
	report := func(minor int, f mail.Finding) {
		kind := minor
		if f.EndToEnd {
			kind = -1 // many of these must not hide an archive
		}
		if count[kind]++; count[kind] <= maxFindings {
			f.Category, f.Minor, f.Check, f.Rcpt = mail.Unchecked, minor, checkName, mail.AllRcpts
			out = append(out, f)
		}
	}
	for _, f := range w.panics {
		report(mail.CheckFailed, f)
	}
	if why := w.budget.Spent(); why != "" {
		report(mail.OverLimits, mail.Finding{Detail: "over limits: " + why})
	}
	for p := range root.All() {
		const locked = mail.PartEncrypted | mail.PartUndecipherable
		encrypted, why := p.Flags&locked == locked, w.notes[p]
		if encrypted {
			report(mail.Encrypted, mail.Finding{Name: p.Name(), Part: p.Path(), Detail: why, EndToEnd: endToEnd(p)})
		}
		// what cannot be read in full is in doubt as well
		if why != "" && (p.Flags.Is(mail.PartAmbiguous) || p.Flags.Is(mail.PartUndecipherable) && !encrypted) {
			report(mail.Ambiguous, mail.Finding{Name: p.Name(), Part: p.Path(), Detail: why})
		}
	}
	return out
}
