package unpack

import (
	"iter"
	"slices"
)

// maxRounds bounds the hashing that makes keys of passwords, for one message.
// It is 30 passwords for 7-Zip, which asks for most.
const maxRounds = 16 << 20

// tries yields what is to be tried on one archive or member, the password
// that opened the last one first, as long as each can be paid for: making its
// key takes that many rounds of hashing.
func (b *Budget) tries(rounds int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, word := range slices.Clone(b.passwords) {
			if rounds > b.rounds || b.Check() != nil {
				return
			}
			b.rounds -= rounds
			if !yield(word) {
				return
			}
		}
	}
}

// setPasswords sets what tries yields.
func (b *Budget) setPasswords(words []string) { b.passwords = words }

// hasPasswords reports whether there is anything to try.
func (b *Budget) hasPasswords() bool { return len(b.passwords) > 0 }

// roundsLeft is how many rounds of hashing can still be paid for.
func (b *Budget) roundsLeft() int64 { return b.rounds }

// opened moves a password to the front.
func (b *Budget) opened(word string) {
	if i := slices.Index(b.passwords, word); i > 0 {
		b.passwords = slices.Insert(slices.Delete(b.passwords, i, i+1), 0, word)
	}
}
