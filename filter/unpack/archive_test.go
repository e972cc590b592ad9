package unpack

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// seen is what one expand gave, with the data copied.
type seen struct {
	members []budget.Member
	budget.Outcome
}

func (s seen) names() []string {
	var out []string
	for _, m := range s.members {
		out = append(out, m.Names...)
	}
	return out
}

func (s seen) hasData(want []byte) bool {
	return slices.ContainsFunc(s.members, func(m budget.Member) bool { return bytes.Equal(m.Data, want) })
}

// clean reports whether nothing in the outcome makes a message unchecked.
func (s seen) clean() bool {
	return !s.Encrypted && !s.Damaged && !s.OverLimits && s.Disagreement == ""
}

func testBudget(size int) *budget.Budget {
	return budget.New(context.Background(), budget.DefaultLimits, int64(size))
}

// look expands data as what fileTypes says it is.
func look(t testing.TB, data []byte, names ...string) seen {
	t.Helper()
	short, _ := filetype.Of(data, names)
	return lookAs(t, data, testBudget(len(data)), short...)
}

func lookAs(t testing.TB, data []byte, b *budget.Budget, short ...string) seen {
	t.Helper()
	var s seen
	out, err := expand(data, short, b, func(m budget.Member) error {
		if m.Data != nil {
			m.Data = append([]byte{}, m.Data...)
		}
		s.members = append(s.members, m)
		return nil
	})
	if err != nil {
		t.Fatalf("expand: %v", err)
	}
	s.Outcome = out
	return s
}

// deep goes into members as the walker of a message does, and gives the leaves
// and the outcome of all containers together.
func deep(t testing.TB, data []byte, names []string, b *budget.Budget, level int) seen {
	t.Helper()
	short, _ := filetype.Of(data, names)
	s := seen{members: []budget.Member{{Names: names, Data: append([]byte{}, data...)}}}
	if !filetype.IsContainer(short) {
		return s
	}
	if level == 0 {
		s.OverLimits = true
		return s
	}
	out, err := expand(data, short, b, func(m budget.Member) error {
		if m.Data == nil {
			s.members = append(s.members, m)
			return nil
		}
		in := deep(t, m.Data, m.Names, b, level-1)
		s.members = append(s.members, in.members...)
		s.Outcome = joined(s.Outcome, in.Outcome)
		return nil
	})
	if err != nil {
		t.Fatalf("expand: %v", err)
	}
	s.Outcome = joined(s.Outcome, out)
	return s
}

func joined(a, b budget.Outcome) budget.Outcome {
	a.Encrypted = a.Encrypted || b.Encrypted
	a.Damaged = a.Damaged || b.Damaged
	a.OverLimits = a.OverLimits || b.OverLimits
	a.Disagreement = strings.Trim(a.Disagreement+"; "+b.Disagreement, "; ")
	a.Reason = strings.Trim(a.Reason+"; "+b.Reason, "; ")
	return a
}
