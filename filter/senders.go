package filter

// In whose name a message comes, and which of it is proven: the facts that
// sender lists ask for.

import (
	"slices"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

// sendersOf returns the sender of the envelope and the authors in From, each
// with the proof that authentication gives. Of several authors nobody knows who
// signed, so that none is proven.
func sendersOf(tx *mail.Transaction, a *mail.Authentication) []policy.Sender {
	out := []policy.Sender{{Address: tx.From, What: "sender", Proof: envelopeProof(auth.DomainOf(tx.From), a)}}
	if tx.Message == nil {
		return out
	}
	authors := auth.Authors(tx.Message.Header())
	known := map[mail.Address]bool{}
	for i, author := range authors {
		if i >= maxAuthors && known[author] {
			continue
		}
		known[author] = true
		s := policy.Sender{Address: author, What: "author", Guess: i >= maxAuthors}
		if len(authors) == 1 {
			s.Proof = authorProof(auth.DomainOf(author), a)
		}
		if out = append(out, s); len(out) > maxGuesses {
			return out
		}
	}
	for _, guess := range auth.Mentioned(tx.Message.Header(), maxGuesses) {
		if !known[guess] {
			known[guess] = true
			out = append(out, policy.Sender{Address: guess, What: "author", Guess: true})
		}
	}
	return out
}

// maxAuthors bounds the authors who may have something in their favour: each is
// looked for in every entry of a list. maxGuesses bounds those whom a blacklist is
// asked about; it is what a field of 64 KiB can hold in earnest.
const (
	maxAuthors = 20
	maxGuesses = 2000
)

// envelopeProof says by what it is proven that the domain answers for the sender
// of the envelope, empty if it is not.
func envelopeProof(domain string, a *mail.Authentication) string {
	if a == nil || domain == "" {
		return ""
	}
	for _, r := range a.SPF {
		if r.Scope == mail.SPFMailFrom && r.Result == mail.AuthPass && r.Domain == domain {
			return "SPF"
		}
	}
	return dkimProof(domain, a)
}

// authorProof is the same for the only author.
func authorProof(domain string, a *mail.Authentication) string {
	switch {
	case a == nil || domain == "":
		return ""
	case slices.Contains(a.Signers, domain):
		return "DKIM"
	case a.DMARC != nil && a.DMARC.Result == mail.AuthPass && a.DMARC.Author == domain:
		return "DMARC"
	}
	return ""
}

// dkimProof looks for a signature of the domain that it means.
func dkimProof(domain string, a *mail.Authentication) string {
	for _, r := range a.DKIM {
		if r.Result == mail.AuthPass && r.Domain == domain && !r.Testing {
			return "DKIM"
		}
	}
	return ""
}
