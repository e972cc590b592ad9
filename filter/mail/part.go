package mail

import (
	"iter"
	"strings"
)

// Part is one thing inside a message: the message itself, a MIME part, a
// member of an archive, a file hidden in a text. MIME tree and archive tree
// are one tree. It is read-only once the message is unpacked.
type Part struct {
	// Place is the number of the part (Amavis: L): "1" is the message, "1/2"
	// its second part, "1/2/1" the first member of an archive in it.
	Place    string
	Parent   *Part // nil for the message itself
	Children []*Part

	// Names are all names that any reader could show or save the part under,
	// raw and decoded (Amavis: N), the most probable first. Foreign text, not
	// normalised; inside archives the whole path.
	Names []string
	// Media are all declared media types, the most probable first, lower
	// case and without parameters.
	Media []string
	// Detected is the media type by content, empty when nothing is known.
	Detected string
	// Types are the short types by content (Amavis: T) without the dot,
	// the most specific last: "exe", "exe-ms".
	Types []string

	// Size is the number of decoded octets, also when Data is missing.
	Size int64
	// Data is the decoded content. It may alias the message and must not be
	// changed. It is nil for a multipart, for an attached message, whose parts
	// have it, and for what was not read or is too much to keep.
	Data []byte
	// How says by which coding the part was got out of its parent: "7bit",
	// "base64", "uuencode", "zip", ...
	How string

	Flags PartFlags
	// Facts are things for rules to look at: "external-body", "partial",
	// "data-uri", "html-smuggling", "macros". They are no findings.
	Facts []string
}

// PartFlags are the marks of a part (Amavis: A).
type PartFlags uint8

// The flags.
const (
	PartEncrypted      PartFlags = 1 << iota // content needs a password; one that is not known if PartUndecipherable is set too
	PartUndecipherable                       // content could not be read in full
	PartAmbiguous                            // readers of MIME or of the container see different things here
	PartDirectory                            // a folder of an archive
	PartLink                                 // a symbolic or hard link of an archive
	PartSpecial                              // a device, pipe or socket of an archive
)

// String returns the letters of Amavis: C, U, B, D, L, S.
func (f PartFlags) String() string {
	var b strings.Builder
	for i, c := range []byte("CUBDLS") {
		if f&(1<<i) != 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Is reports whether any of the flags in g is set.
func (f PartFlags) Is(g PartFlags) bool { return f&g != 0 }

// All yields the part and all below it, parents first.
func (p *Part) All() iter.Seq[*Part] {
	return func(yield func(*Part) bool) { p.walk(yield) }
}

func (p *Part) walk(yield func(*Part) bool) bool {
	if !yield(p) {
		return false
	}
	for _, c := range p.Children {
		if !c.walk(yield) {
			return false
		}
	}
	return true
}

// Leaf reports whether nothing was found inside the part.
func (p *Part) Leaf() bool { return len(p.Children) == 0 }

// Name returns the most probable name, or the empty string.
func (p *Part) Name() string {
	if len(p.Names) == 0 {
		return ""
	}
	return p.Names[0]
}

// AddName adds a spelling of the name unless it is there already.
func (p *Part) AddName(name string) {
	if name != "" && !contains(p.Names, name) {
		p.Names = append(p.Names, name)
	}
}

// AddFact adds a fact unless it is there already.
func (p *Part) AddFact(fact string) {
	if !contains(p.Facts, fact) {
		p.Facts = append(p.Facts, fact)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Path says to people where the part is: its place and the names on the way
// to it, "1/2/1 docs.zip/invoice.exe". It holds foreign text.
func (p *Part) Path() string {
	var names string
	for q := p; q != nil; q = q.Parent {
		switch n := q.Name(); {
		case n == "":
		case names == "":
			names = n
		default:
			names = n + "/" + names
		}
	}
	if names == "" {
		return p.Place
	}
	return p.Place + " " + names
}
