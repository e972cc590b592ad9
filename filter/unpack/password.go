package unpack

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/filter/unpack/filetype"
)

// Archives that need a password are tried with those of the configuration and
// with words of the message that seem to be one. What a password yields counts
// only if a checksum or an authentication code says that it is right.

// maxWords bounds the words of the message that are tried.
const maxWords = 8

var (
	markupTags = regexp.MustCompile(`<[^<>]{0,200}>|&nbsp;`)
	// "Passwort für das Archiv: xyz", "the password is xyz"
	passwordWords = []*regexp.Regexp{
		regexp.MustCompile(`(?i)\b(?:password|passwort|passphrase|passcode|kennwort|pwd?|pin|code)\b[^:=\n]{0,40}[:=]\s*(\S{1,64})`),
		regexp.MustCompile(`(?i)\b(?:password|passwort|passphrase|passcode|kennwort|pwd?|pin|code)\b\s+(?:(?:is|ist|lautet)\b[:\s]*)?(\S{1,64})`),
	}
)

// wordsOf returns the words of the texts below root that seem to be passwords.
func wordsOf(root *mail.Part) (words []string) {
	left := 256 << 10 // octets of text
	for p := range root.All() {
		if len(p.Types) == 0 || p.Types[0] != "asc" && p.Types[0] != "txt" && p.Types[0] != "html" {
			continue
		}
		text := p.Data[:min(len(p.Data), left, 64<<10)]
		left -= len(text)
		text = markupTags.ReplaceAll(text, []byte(" "))
		for _, pattern := range passwordWords {
			for _, m := range pattern.FindAllSubmatch(text, maxWords) {
				quoted := string(bytes.Trim(m[1], "\"'`*_()[]\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"))
				for _, word := range []string{quoted, strings.TrimRight(quoted, ".,;:!?\"')\u201c\u201d\u00bb")} {
					if word != "" && len(words) < maxWords && !slices.Contains(words, word) {
						words = append(words, word)
					}
				}
			}
		}
	}
	return words
}

// unlockAll opens the encrypted archives below root once more, with the words
// of the message, if there are any and the limits were not met.
func (w *walker) unlockAll(root *mail.Part) {
	if w.budget.Spent() != "" {
		return
	}
	for p := range root.All() {
		if !isLocked(p) {
			continue
		}
		if w.budget.SetPasswords(wordsOf(root)); w.budget.HasPasswords() {
			w.unlock(root)
		}
		return
	}
}

// isLocked reports whether p is an archive that could not be opened for want
// of a password. What is read in two ways is left alone: its parts are not
// only its content.
func isLocked(p *mail.Part) bool {
	const ways = mail.PartEncrypted | mail.PartUndecipherable | mail.PartAmbiguous
	return p.Flags&ways == mail.PartEncrypted|mail.PartUndecipherable && len(p.Data) > 0 && filetype.IsContainer(p.Types)
}

func (w *walker) unlock(p *mail.Part) {
	if !isLocked(p) {
		for _, c := range p.Children {
			w.unlock(c)
		}
		return
	}
	children, flags, note := p.Children, p.Flags, w.notes[p]
	p.Children, p.Flags = nil, p.Flags&^(mail.PartEncrypted|mail.PartUndecipherable)
	delete(w.notes, p)
	// no less than they were on the way to it
	w.depth = strings.Count(p.Place, "/")
	w.nesting = max(w.depth-1, 0)
	w.content(p)
	if w.budget.Spent() != "" {
		// what was found the first time stays
		p.Children, p.Flags, w.notes[p] = children, flags, note
	}
}
