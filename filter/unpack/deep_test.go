package unpack

import (
	"strings"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// deep goes into members as the walker of a message does, and gives the leaves
// and the outcome of all containers together.
func deep(t testing.TB, data []byte, names []string, b *budget.Budget, level int) specimen.Seen {
	t.Helper()
	short, _ := filetype.Of(data, names)
	s := specimen.Seen{Members: []budget.Member{{Names: names, Data: append([]byte{}, data...)}}}
	if !filetype.IsContainer(short) {
		return s
	}
	if level == 0 {
		s.OverLimits = true
		return s
	}
	out, err := expand(data, short, b, func(m budget.Member) error {
		if m.Data == nil {
			s.Members = append(s.Members, m)
			return nil
		}
		in := deep(t, m.Data, m.Names, b, level-1)
		s.Members = append(s.Members, in.Members...)
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
