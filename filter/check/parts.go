package check

import (
	"slices"
	"strings"

	"postern/filter/mail"
)

// Which parts of a message a virus scanner is handed besides the message as it
// is. A scanner that decodes MIME and opens archives by itself sees only what
// its own reading shows, within its own limits; what it does not reach counts
// as clean. So it gets every file that a message carries, decoded. Left to it
// are only text and pictures inside archives that it opens: documents hold
// many of them.

// maxHanded bounds the parts of one message that are handed over.
const maxHanded = 500

// trustedNesting is how deep text in archives in archives is left to the
// scanner, well below the limits that scanners have.
const trustedNesting = 6

// opened are the formats of which a scanner sees the same files as we do, as
// long as nothing in them is in doubt and they are packed in a usual way.
var opened = []string{"zip", "rar", "7z", "tar", "cab", "iso", "cpio", "arj", "doc", "cdf-ms", "pdf"}

// compressed are formats whose readers differ about what follows the first
// stream.
var compressed = []string{"gz", "bz2", "xz", "lzma", "zst", "Z", "lz", "lzo", "a", "deb", "rpm", "exe"}

// handed returns the parts that a scanner is to be given, and in one line what
// should be among them and cannot, if there is such a thing.
func handed(root *mail.Part) (parts []*mail.Part, missing string) {
	if root == nil {
		return nil, ""
	}
	h := handing{}
	for p := range root.All() {
		h.doubt = h.doubt || p.Flags.Is(mail.PartAmbiguous)
	}
	h.walk(root, false, 0)
	return h.parts, h.missing
}

type handing struct {
	doubt   bool // readers differ about the message: everything goes
	parts   []*mail.Part
	missing string
}

// walk looks at p. reached says that the scanner gets at it by opening what it
// has, if it knows the way in which it is packed.
func (h *handing) walk(p *mail.Part, reached bool, nesting int) {
	if leave := isMedia(p) || len(p.Data) == 0; !(reached && leave) && !h.inPlace(p) {
		h.add(p)
	}
	reached = false
	if len(p.Types) > 0 && !isText(p) {
		nesting++
		reached = !h.doubt && nesting <= trustedNesting && sameForAll(p)
	}
	for _, c := range p.Children {
		h.walk(c, reached, nesting)
	}
}

func (h *handing) add(p *mail.Part) {
	const unread = mail.PartEncrypted | mail.PartUndecipherable | mail.PartDirectory | mail.PartLink | mail.PartSpecial
	switch {
	case len(p.Data) == 0 && (p.Size == 0 || !p.Leaf() || p.Flags.Is(unread)):
	case len(p.Data) == 0:
		h.missing = "a part is too large to be handed to the scanner: " + p.Path()
	case len(h.parts) == maxHanded:
		h.missing = "more parts than are handed to the scanner"
	default:
		h.parts = append(h.parts, p)
	}
}

// inPlace reports whether p is text that is shown in place: it has no name
// under which it could be started, and every reader shows it.
func (h *handing) inPlace(p *mail.Part) bool {
	return !h.doubt && len(p.Names) == 0 && isText(p) && (len(p.Media) == 0 || strings.HasPrefix(p.Media[0], "text/"))
}

func isText(p *mail.Part) bool {
	for _, t := range p.Types {
		if t != "asc" && t != "txt" && t != "html" && t != "xml" && t != "ics" && t != "vcf" && t != "empty" {
			return false
		}
	}
	return len(p.Types) > 0
}

// isMedia reports whether p is text or something to look at or listen to, and
// nothing else at the same time.
func isMedia(p *mail.Part) bool {
	if isText(p) {
		return true
	}
	if len(p.Types) == 0 || p.Types[0] != "image" && p.Types[0] != "audio" && p.Types[0] != "movie" {
		return false
	}
	return !slices.ContainsFunc(p.Types, func(t string) bool { return slices.Contains(opened, t) || slices.Contains(compressed, t) })
}

// sameForAll reports whether a scanner finds the same in the container p.
func sameForAll(p *mail.Part) bool {
	if p.Flags.Is(mail.PartAmbiguous|mail.PartUndecipherable|mail.PartEncrypted) || !slices.Contains(opened, p.Types[0]) {
		return false
	}
	return !slices.ContainsFunc(p.Types[1:], func(t string) bool { return slices.Contains(opened, t) || slices.Contains(compressed, t) })
}
