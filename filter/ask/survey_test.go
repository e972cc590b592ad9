package ask

import (
	"context"
	"strings"
	"testing"

	"postern/filter"
	"postern/filter/mail"
	"postern/policy"
)

// newEachTime answers as a database does, with settings that nobody has seen.
type newEachTime struct{ o *policy.Overlay }

func (l newEachTime) Lookup(_ context.Context, a mail.Address) ([]*policy.Overlay, error) {
	if !strings.HasPrefix(string(a), "sql") {
		return nil, nil
	}
	o := *l.o
	return []*policy.Overlay{&o}, nil
}

// Recipients with equal settings are one kind of mail, wherever in memory the
// settings are.
func TestSurveyComparesValues(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte(`local_domains: [example.org]
banks: {SQL: {spam: {lover: true}}}
recipients:
  - {match: [sql1@example.org, sql2@example.org, sql3@example.org], settings: {virus: {lover: true}}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.AddLookup(newEachTime{cfg.Bank("SQL")})
	run, err := New(&filter.Filter{Policy: cfg})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSurvey(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range s.recipients {
		got = append(got, r.String())
	}
	if want := "local; foreign; sql1@example.org, sql2@example.org, sql3@example.org"; strings.Join(got, "; ") != want {
		t.Errorf("kinds of recipients are %s, want %s", strings.Join(got, "; "), want)
	}
}
