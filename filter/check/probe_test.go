package check

import (
	"context"
	"errors"
	"strings"
	"testing"

	"postern/filter/mail"
)

// scripted is an engine that answers what it is told.
type scripted func(message string) (Answer, error)

func (s scripted) Check(_ context.Context, in *Input) (Answer, error) {
	return s(string(in.Tx.Message.Bytes()))
}

// TestProbe: an engine must find what it is for, and silence has a name.
func TestProbe(t *testing.T) {
	t.Parallel()
	virus := []mail.Category{mail.Infected}
	spam := []mail.Category{mail.Spam, mail.Spammy}
	clean := scripted(func(string) (Answer, error) { return Answer{}, nil })
	finds := scripted(func(m string) (Answer, error) {
		var a Answer
		if strings.Contains(m, eicar) {
			a.Findings = []mail.Finding{{Category: mail.Infected, Name: "Eicar-Test", Rcpt: mail.AllRcpts}}
		}
		if strings.Contains(m, gtube) {
			a.Score = &mail.Score{Value: 998}
		}
		return a, nil
	})
	for _, tt := range []struct {
		name       string
		check      Check
		categories []mail.Category
		said, err  string
		word       string
	}{
		{"a scanner", finds, virus, "found Eicar-Test", "", ""},
		{"a spam engine", finds, spam, "found GTUBE", "", ""},
		{"both", builtin{}, append(spam, virus...), "found Eicar-Signature and GTUBE", "", ""},
		{"a scanner without signatures", clean, virus, "", "did not find the EICAR test string: has it loaded its signatures?", ""},
		{"a spam engine without rules", clean, spam, "", "did not find the GTUBE test string", ""},
		{"one that is away", scripted(func(string) (Answer, error) { return Answer{}, fail(FailedConnect, "refused") }), virus, "", "refused", FailedConnect},
		{"one that finds it, but not all of the rest", scripted(func(m string) (Answer, error) {
			a, _ := finds(m)
			return a, &Failure{Word: FailedSymbol, Err: errors.New("x"), Partial: true}
		}), spam, "found GTUBE", "", ""},
	} {
		said, _, err := Probe(t.Context(), Named{Name: "x", Check: tt.check, Categories: tt.categories}, "mail.example.org")
		if said != tt.said || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s: %q, %v", tt.name, said, err)
		}
		if f, ok := errors.AsType[*Failure](err); ok != (tt.word != "") || ok && f.Word != tt.word {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
