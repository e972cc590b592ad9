package unpack

import (
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/filter/unpack/filetype"
)

// This file says what a file is under the names that it has, and marks what no
// click reaches or nothing runs. Rules for names ask for the marks: a wrong
// hit is mail that does not arrive.

// The facts.
const (
	inDocument = "in-document" // a piece of a document, a package or a saved page
	noProgram  = "no-program"  // nothing runs this content, whatever its name says
)

// typed sets types and, where only the content can tell whether that is a name,
// the names of p.
func (w *walker) typed(p *mail.Part) {
	names := namesOf(p)
	if len(names) == 0 {
		names = w.vague[p]
	}
	p.Types, p.Detected = filetype.Of(p.Data, names)
	if isCMSFile(p) {
		// what is signed in it is no archive that stands in it, but its content
		p.Types, p.Detected = []string{"p7s"}, "application/pkcs7-mime"
	}
	if len(p.Names) == 0 && len(w.vague[p]) > 0 && !w.isHarmless(p) {
		p.Names = w.vague[p]
	}
	if i := slices.Index(p.Types, "hta"); i >= 0 && !w.runsAsPage(p) {
		p.Types, p.Detected = slices.Clone(p.Types), "text/html"
		p.Types[i] = "html"
	}
	if len(p.Names) > 0 && (isPicture(p) || strings.HasPrefix(p.Detected, "text/") && filetype.RunsNowhere(p.Data)) {
		p.AddFact(noProgram)
	}
}

// shownInPlace reports whether p is a text without a name that is not attached.
func (w *walker) shownInPlace(p *mail.Part) bool {
	return len(p.Names) == 0 && !w.attached[p] && len(p.Media) > 0 && strings.HasPrefix(p.Media[0], "text/")
}

// isHarmless reports whether a part without a name of its own is what it says,
// and is shown rather than saved and run: a picture, a film, a text.
func (w *walker) isHarmless(p *mail.Part) bool {
	if len(p.Media) == 0 {
		return false
	}
	declared, _, _ := strings.Cut(p.Media[0], "/")
	switch declared {
	case "image", "audio", "video", "font":
		return strings.HasPrefix(p.Detected, declared+"/") && p.Detected != "image/svg+xml"
	case "text", "message":
		switch p.Detected {
		case "text/plain", "text/html", "text/calendar", "text/vcard", "text/rtf", "message/rfc822", "application/x-empty":
			return !w.attached[p] && !isCode(p.Media[0])
		}
		return false
	}
	return p.Media[0] == p.Detected && (p.Detected == "application/pdf" || strings.HasPrefix(p.Detected, "application/vnd.openxmlformats") ||
		strings.HasPrefix(p.Detected, "application/vnd.oasis"))
}

// isCode reports whether a text is declared as one that runs.
func isCode(media string) bool {
	return strings.HasSuffix(media, "script") || strings.HasSuffix(media, "-batch") || strings.HasPrefix(media, "text/x-")
}

// runsAsPage reports whether p is opened as an HTML application: it has the
// name or the type of one, or is attached without a name that leads to another
// program. In the text of a mail the same octets are only shown.
func (w *walker) runsAsPage(p *mail.Part) bool {
	if slices.Contains(p.Media, "application/hta") {
		return true
	}
	names := namesOf(p)
	if len(names) == 0 {
		return !w.shownInPlace(p)
	}
	return slices.ContainsFunc(names, func(n string) bool { return !filetype.IsKnownName(n) })
}

// isPicture reports whether p is a picture by declaration and by content.
func isPicture(p *mail.Part) bool {
	if len(p.Media) == 0 || len(p.Types) != 2 || p.Types[0] != "image" || !strings.HasPrefix(p.Detected, "image/") || p.Detected == "image/svg+xml" {
		return false
	}
	return !slices.ContainsFunc(p.Media, func(m string) bool { return !strings.HasPrefix(m, "image/") })
}

// isSealed reports whether nobody sees the members of a container. Those of a
// package are in archives that it holds.
func isSealed(p *mail.Part) bool {
	if filetype.Sealed(p.Data, p.Types, p.Names, p.Media) {
		return true
	}
	for q := p; q.Parent != nil && slices.Contains(q.Facts, inDocument) && isLayer(q); q = q.Parent {
		if slices.Contains(q.Parent.Types, "deb") || slices.Contains(q.Parent.Types, "rpm") {
			return true
		}
	}
	return false
}

// isLayer reports whether p is an archive as packages have them inside.
func isLayer(p *mail.Part) bool {
	return slices.ContainsFunc(p.Types, func(t string) bool {
		return slices.Contains([]string{"tar", "cpio", "gz", "xz", "zst", "bz2", "lzma"}, t)
	})
}

// isPage reports whether a message with that name is a saved web page.
func isPage(name string) bool {
	ext := strings.ToLower(filetype.Extension(name))
	return ext == "mht" || ext == "mhtml"
}

// isMessageFile reports whether mail programs open a file with that name as one
// message, whatever else stands in it.
func isMessageFile(name string) bool {
	return isPage(name) || strings.EqualFold(filetype.Extension(name), "eml")
}

// markPage marks the pieces of a saved page: those that are parts of the
// message, but not what is in archives among them.
func markPage(p *mail.Part) {
	p.AddFact(inDocument)
	if len(p.Media) > 0 && kindOf(p.Media[0]) == multipart {
		for _, c := range p.Children {
			markPage(c)
		}
	}
}
