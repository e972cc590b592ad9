package specimen

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// Expand opens a container of these types and hands its members to add.
type Expand func(data []byte, short []string, b *budget.Budget, add func(budget.Member) error) (budget.Outcome, error)

// Seen is what one Expand gave, with the data copied.
type Seen struct {
	Members []budget.Member
	budget.Outcome
}

// Names returns the names of all members.
func (s Seen) Names() []string {
	var out []string
	for _, m := range s.Members {
		out = append(out, m.Names...)
	}
	return out
}

// HasData reports whether a member holds exactly want.
func (s Seen) HasData(want []byte) bool {
	return slices.ContainsFunc(s.Members, func(m budget.Member) bool { return bytes.Equal(m.Data, want) })
}

// HasPrefix reports whether a member begins with want.
func (s Seen) HasPrefix(want []byte) bool {
	return slices.ContainsFunc(s.Members, func(m budget.Member) bool { return bytes.HasPrefix(m.Data, want) })
}

// Clean reports whether nothing in the outcome makes a message unchecked.
func (s Seen) Clean() bool {
	return !s.Encrypted && !s.Damaged && !s.OverLimits && s.Disagreement == ""
}

// Budget is that of a message of size octets by the default limits.
func Budget(size int) *budget.Budget {
	return budget.New(context.Background(), budget.DefaultLimits, int64(size))
}

// Look expands data as what filetype says it is.
func Look(t testing.TB, expand Expand, data []byte, names ...string) Seen {
	t.Helper()
	short, _ := filetype.Of(data, names)
	return LookAs(t, expand, data, Budget(len(data)), short...)
}

// LookAs expands data as these types.
func LookAs(t testing.TB, expand Expand, data []byte, b *budget.Budget, short ...string) Seen {
	t.Helper()
	var s Seen
	out, err := expand(data, short, b, func(m budget.Member) error {
		if m.Data != nil {
			m.Data = append([]byte{}, m.Data...)
		}
		s.Members = append(s.Members, m)
		return nil
	})
	if err != nil {
		t.Fatalf("expand: %v", err)
	}
	s.Outcome = out
	return s
}

// Spend leaves so many rounds of hashing to b, which has passwords.
func Spend(b *budget.Budget, rounds int64) {
	for range b.Tries(b.RoundsLeft() - rounds) {
		break
	}
}

// Fuzz runs a reader on anything: no panic, no more than the budget.
func Fuzz(t *testing.T, read budget.Reader, search budget.Search, data []byte) {
	limits := budget.DefaultLimits
	limits.Bytes, limits.Entries = 4<<20, 200
	b := budget.New(t.Context(), limits, int64(len(data)))
	b.SetPasswords([]string{"wrong", "infected"})
	Spend(b, 1<<16)
	members := 0
	x := budget.NewOpener(b, func(m budget.Member) error {
		members++
		for _, n := range m.Names {
			if len(n) > 2*filetype.MaxName+2 {
				t.Errorf("name of %d octets", len(n))
			}
		}
		return nil
	}, search)
	defer x.Free()
	_ = read(x, data) // damaged is what most of it is
	if members > limits.Entries+16 {
		t.Errorf("%d members", members)
	}
}
