package unpack

import (
	"slices"

	"postern/filter/mail"
	"postern/filter/unpack/filetype"
)

// endToEnd reports whether the encrypted part p is what mail programs write when
// the sender encrypts for the reader: OpenPGP in a multipart/encrypted (RFC 3156)
// or as the text itself, or S/MIME (RFC 8551). A file with a password is not, and
// neither is an OpenPGP file that is attached.
func endToEnd(p *mail.Part) bool {
	if slices.Contains(p.Types, "pgp.enc") {
		inText := len(p.Names) == 0 && (len(p.Media) == 0 || p.Media[0] == "text/plain")
		return inText || p.Parent != nil && slices.Contains(p.Parent.Media, "multipart/encrypted")
	}
	isSMIME := slices.ContainsFunc(p.Media, func(m string) bool {
		return m == "application/pkcs7-mime" || m == "application/x-pkcs7-mime"
	})
	const sequence = 0x30 // with which CMS begins (RFC 5652)
	return isSMIME && p.Leaf() && len(p.Data) > 0 && p.Data[0] == sequence && !filetype.IsContainer(p.Types)
}
