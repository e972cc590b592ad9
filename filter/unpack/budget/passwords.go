package budget

import (
	"iter"
	"slices"
)

// MaxRounds bounds the hashing that makes keys of passwords, for one message.
// It is 30 passwords for 7-Zip, which asks for most.
const MaxRounds = 16 << 20

// Tries yields what is to be tried on one archive or member, the password
// that opened the last one first, as long as each can be paid for: making its
// key takes that many rounds of hashing.
func (b *Budget) Tries(rounds int64) iter.Seq[string] {
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

// SetPasswords sets the words that Tries yields.
func (b *Budget) SetPasswords(words []string) { b.passwords = words }

// HasPasswords reports whether there is anything to try.
func (b *Budget) HasPasswords() bool { return len(b.passwords) > 0 }

// RoundsLeft is how many rounds of hashing can still be paid for.
func (b *Budget) RoundsLeft() int64 { return b.rounds }

// Opened moves a password that was right to the front: the next archive may
// have it too.
func (b *Budget) Opened(word string) {
	if i := slices.Index(b.passwords, word); i > 0 {
		b.passwords = slices.Insert(slices.Delete(b.passwords, i, i+1), 0, word)
	}
}
