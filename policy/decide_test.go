package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

// selectionOf is a selection with one recipient for each of the settings.
func selectionOf(settings ...*Settings) *Selection {
	sel := &Selection{}
	for _, s := range settings {
		sel.Rcpts = append(sel.Rcpts, RcptSelection{Settings: s})
	}
	return sel
}

func found(c mail.Category, minor int) mail.Finding {
	return mail.Finding{Category: c, Minor: minor, Name: c.String(), Rcpt: mail.AllRcpts}
}

// TestDecideTable walks all destinies x lover x bypass of two categories, for
// each pair of categories that has settings.
func TestDecideTable(t *testing.T) {
	t.Parallel()
	var sets []CategorySettings
	for _, d := range []Destiny{Pass, Reject, Bounce, Discard, Tempfail} {
		for i := range 4 {
			sets = append(sets, CategorySettings{Destiny: d, Lover: i&1 > 0, Bypass: i&2 > 0})
		}
	}
	order := []mail.Category{mail.Infected, mail.Banned, mail.Unchecked, mail.Spam, mail.BadHeader}
	for h := range order {
		for l := h + 1; l < len(order); l++ {
			for _, high := range sets {
				for _, low := range sets {
					decideTwo(t, order[h], high, order[l], low)
				}
			}
		}
	}
}

func decideTwo(t *testing.T, hc mail.Category, high CategorySettings, lc mail.Category, low CategorySettings) {
	t.Helper()
	s := &Settings{}
	*s.category(hc), *s.category(lc) = high, low
	minors := map[mail.Category]int{mail.Unchecked: mail.Encrypted}
	// the lower one is found first
	v := Decide(selectionOf(s), []mail.Finding{found(lc, minors[lc]), found(hc, minors[hc])}, nil)[0]

	var cats []mail.Category
	destiny, blocking := Pass, mail.CatchAll
	for _, c := range []struct {
		mail.Category
		CategorySettings
	}{{hc, high}, {lc, low}} {
		if c.Bypass && c.Category != mail.Unchecked {
			continue
		}
		cats = append(cats, c.Category)
		if destiny == Pass && !c.Lover && c.Destiny != Pass {
			destiny, blocking = c.Destiny, c.Category
		}
	}
	where := fmt.Sprintf("%s %+v, %s %+v", hc, high, lc, low)
	if v.Destiny != destiny || v.Blocking.Category != blocking {
		t.Errorf("%s: got %s for %s, want %s for %s", where, v.Destiny, v.Blocking.Category, destiny, blocking)
	}
	var got, findings []mail.Category
	for _, c := range v.Categories {
		got = append(got, c.Category)
	}
	if !slices.Equal(got, append(slices.Clone(cats), mail.Clean)) {
		t.Errorf("%s: categories %v", where, got)
	}
	for _, f := range v.Findings {
		findings = append(findings, f.Category)
	}
	if blocking == lc && len(cats) == 2 {
		slices.Reverse(cats)
	}
	if !slices.Equal(findings, cats) {
		t.Errorf("%s: findings %v, want %v", where, findings, cats)
	}
	if len(v.Reasons) == 0 {
		t.Errorf("%s: no reason", where)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	base := func(edit func(*Settings)) *Settings {
		s := Default().Settings
		if edit != nil {
			edit(&s)
		}
		return &s
	}
	failed := found(mail.Unchecked, mail.CheckFailed)
	tests := []struct {
		name     string
		settings *Settings
		findings []mail.Finding
		destiny  Destiny
		blocking ContentCategory
		cats     string
		reason   string // part of the last one
	}{
		{"nothing", base(nil), nil, Pass, ContentCategory{}, "CLEAN,0", "nothing found"},
		{"virus", base(nil), []mail.Finding{found(mail.Infected, 0)}, Reject, ContentCategory{mail.Infected, 0}, "INFECTED,0 CLEAN,0", "INFECTED: destiny reject, built-in default"},
		// an infected mail that passes may still be blocked as spam
		{"virus passes, spam blocks", base(func(s *Settings) { s.Virus.Destiny = Pass }), []mail.Finding{found(mail.Spam, 0), found(mail.Spammy, 0), found(mail.Infected, 0)},
			Reject, ContentCategory{mail.Spam, 0}, "INFECTED,0 SPAM,0 SPAMMY,0 CLEAN,0", "SPAM: destiny reject"},
		{"spammy never blocks", base(func(s *Settings) { s.Spam.Lover = false }), []mail.Finding{found(mail.Spammy, 0)}, Pass, ContentCategory{}, "SPAMMY,0 CLEAN,0", "nothing blocks"},
		{"the highest minor", base(func(s *Settings) { s.BadHeader.Destiny = Discard }), []mail.Finding{found(mail.BadHeader, 2), found(mail.BadHeader, 7), found(mail.BadHeader, 2)},
			Discard, ContentCategory{mail.BadHeader, 7}, "BAD-HEADER,7 BAD-HEADER,2 CLEAN,0", "discard"},
		{"categories without settings pass", base(nil), []mail.Finding{found(mail.MTABlocked, 2)}, Pass, ContentCategory{}, "MTA-BLOCKED,2 CLEAN,0", "nothing blocks"},
		{"too large", base(nil), []mail.Finding{found(mail.Oversized, 0)}, Bounce, ContentCategory{mail.Oversized, 0}, "OVERSIZED,0 CLEAN,0", "destiny bounce"},

		{"failed check", base(nil), []mail.Finding{failed}, Tempfail, ContentCategory{mail.Unchecked, mail.CheckFailed}, "UNCHECKED,0 CLEAN,0", "on_error is tempfail, built-in"},
		{"failed check, whatever the destiny", base(func(s *Settings) { s.Unchecked.Destiny = Discard }), []mail.Finding{failed}, Tempfail, ContentCategory{mail.Unchecked, mail.CheckFailed}, "UNCHECKED,0 CLEAN,0", "on_error"},
		{"failed check of a lover", base(func(s *Settings) { s.Unchecked.Lover = true }), []mail.Finding{failed}, Tempfail, ContentCategory{mail.Unchecked, mail.CheckFailed}, "UNCHECKED,0 CLEAN,0", "on_error"},
		{"failed check cannot be bypassed", base(func(s *Settings) { s.Unchecked.Bypass = true }), []mail.Finding{failed}, Tempfail, ContentCategory{mail.Unchecked, mail.CheckFailed}, "UNCHECKED,0 CLEAN,0", "on_error"},
		{"failed check beside another minor", base(nil), []mail.Finding{found(mail.Unchecked, mail.Encrypted), failed}, Tempfail, ContentCategory{mail.Unchecked, mail.CheckFailed}, "UNCHECKED,1 UNCHECKED,0 CLEAN,0", "on_error"},
		{"failed check, higher category blocks", base(nil), []mail.Finding{failed, found(mail.Banned, 0)}, Reject, ContentCategory{mail.Banned, 0}, "BANNED,0 UNCHECKED,0 CLEAN,0", "BANNED"},
		{"failed check, higher category passes", base(func(s *Settings) { s.Banned.Lover = true }), []mail.Finding{failed, found(mail.Banned, 0)}, Tempfail, ContentCategory{mail.Unchecked, 0}, "BANNED,0 UNCHECKED,0 CLEAN,0", "on_error"},
		{"failed check before spam", base(nil), []mail.Finding{found(mail.Spam, 0), failed}, Tempfail, ContentCategory{mail.Unchecked, 0}, "UNCHECKED,0 SPAM,0 CLEAN,0", "on_error"},
		{"on_error unset is tempfail", &Settings{Unchecked: CategorySettings{Destiny: Pass}}, []mail.Finding{failed}, Tempfail, ContentCategory{mail.Unchecked, 0}, "UNCHECKED,0 CLEAN,0", "on_error"},
		{"on_error pass", base(func(s *Settings) { s.OnError = OnErrorPass }), []mail.Finding{failed}, Pass, ContentCategory{}, "UNCHECKED,0 CLEAN,0", "nothing blocks"},
		{"on_error pass, destiny decides", base(func(s *Settings) { s.OnError, s.Unchecked.Destiny = OnErrorPass, Bounce }), []mail.Finding{failed}, Bounce, ContentCategory{mail.Unchecked, 0}, "UNCHECKED,0 CLEAN,0", "UNCHECKED: destiny bounce"},
		{"encrypted is no failure", base(nil), []mail.Finding{found(mail.Unchecked, mail.Encrypted)}, Pass, ContentCategory{}, "UNCHECKED,1 CLEAN,0", "nothing blocks"},
		{"destiny unset is never success", &Settings{}, []mail.Finding{found(mail.Infected, 0)}, Tempfail, ContentCategory{mail.Infected, 0}, "INFECTED,0 CLEAN,0", "tempfail"},
		{"bypassed spam takes spammy with it", base(func(s *Settings) { s.Spam.Bypass = true }), []mail.Finding{found(mail.Spam, 0), found(mail.Spammy, 1)}, Pass, ContentCategory{}, "CLEAN,0", "nothing blocks"},
	}
	for _, tt := range tests {
		v := Decide(selectionOf(tt.settings), tt.findings, nil)[0]
		var cats []string
		for _, c := range v.Categories {
			cats = append(cats, fmt.Sprintf("%s,%d", c.Category, c.Minor))
		}
		if v.Destiny != tt.destiny || v.Blocking != tt.blocking || strings.Join(cats, " ") != tt.cats {
			t.Errorf("%s: got %s %v %v, want %s %v %s", tt.name, v.Destiny, v.Blocking, cats, tt.destiny, tt.blocking, tt.cats)
		}
		if len(v.Reasons) == 0 || !strings.Contains(v.Reasons[len(v.Reasons)-1], tt.reason) {
			t.Errorf("%s: reasons %q", tt.name, v.Reasons)
		}
	}
}

// TestUnanswerable: only a faulty header that is to bounce is excused, and
// nothing below it.
func TestUnanswerable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		bad, spam Destiny
		found     []mail.Finding
		want      Destiny
	}{
		{Bounce, Reject, []mail.Finding{found(mail.BadHeader, 8)}, Pass},
		{Reject, Reject, []mail.Finding{found(mail.BadHeader, 8)}, Reject},
		{Discard, Reject, []mail.Finding{found(mail.BadHeader, 8)}, Discard},
		{Bounce, Bounce, []mail.Finding{found(mail.BadHeader, 8), found(mail.Spam, 0)}, Bounce},
		{Bounce, Pass, []mail.Finding{found(mail.BadHeader, 8), found(mail.Spam, 0)}, Pass},
	} {
		s := Default().Settings
		s.BadHeader.Destiny, s.Spam.Destiny = tt.bad, tt.spam
		sel := selectionOf(&s)
		sel.Unanswerable = true
		if v := Decide(sel, tt.found, nil)[0]; v.Destiny != tt.want || (tt.want == Pass) != (v.Blocking == ContentCategory{}) {
			t.Errorf("%+v: got %s %v", tt, v.Destiny, v.Blocking)
		}
		sel.Unanswerable = false
		if v := Decide(sel, tt.found[:1], nil)[0]; v.Destiny != tt.bad {
			t.Errorf("%+v, answerable: got %s", tt, v.Destiny)
		}
	}
	s := Default().Settings
	s.BadHeader.Destiny = Bounce
	sel := selectionOf(&s)
	sel.Unanswerable = true
	if got := Flip(sel, 0, []mail.Finding{found(mail.BadHeader, 8)}, nil); len(got) != 1 || got[0].Value != string(Reject) {
		t.Errorf("flip: %v", got)
	}
}

func TestDecideByRecipient(t *testing.T) {
	t.Parallel()
	normal, lover, bypass := Default().Settings, Default().Settings, Default().Settings
	lover.Virus.Lover = true
	bypass.Virus.Bypass = true
	banned := found(mail.Banned, 0)
	banned.Rcpt = 3
	vs := Decide(selectionOf(&normal, &lover, &bypass, &normal), []mail.Finding{banned, found(mail.Infected, 0)}, nil)
	var got []string
	for _, v := range vs {
		got = append(got, fmt.Sprintf("%s %s %d", v.Main().Category, v.Destiny, len(v.Findings)))
	}
	want := []string{"INFECTED reject 1", "INFECTED pass 1", "CLEAN pass 0", "INFECTED reject 2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, want := range []string{
		"INFECTED: destiny reject, built-in default",
		"INFECTED skipped: recipient is a lover, built-in default",
		"INFECTED not counted: recipient bypasses the check, built-in default",
	} {
		if vs[i].Reasons[0] != want {
			t.Errorf("recipient %d: reasons %q, want %q", i, vs[i].Reasons, want)
		}
	}
	if n := vs[3].Names(mail.Banned); !slices.Equal(n, []string{"BANNED"}) {
		t.Errorf("names %q", n)
	}
}

func TestAdminFor(t *testing.T) {
	t.Parallel()
	s := &Settings{}
	s.Virus.Admin, s.Spam.Admin = "virus@a.test", "spam@a.test"
	want := map[mail.Category]mail.Address{mail.Infected: "virus@a.test", mail.Spam: "spam@a.test"}
	// none of the others falls back to one that is set
	for c := mail.CatchAll; c <= mail.Infected; c++ {
		if got := s.AdminFor(c); got != want[c] {
			t.Errorf("%s: got %q, want %q", c, got, want[c])
		}
	}
	s.Banned.Admin, s.Unchecked.Admin, s.BadHeader.Admin = "b@a.test", "u@a.test", "h@a.test"
	for c, want := range map[mail.Category]mail.Address{mail.Banned: "b@a.test", mail.Unchecked: "u@a.test", mail.BadHeader: "h@a.test"} {
		if got := s.AdminFor(c); got != want {
			t.Errorf("%s: got %q, want %q", c, got, want)
		}
	}
}

func BenchmarkDecideClean(b *testing.B) {
	s := Default().Settings
	sel := selectionOf(&s)
	for b.Loop() {
		Decide(sel, nil, nil)
	}
}

func BenchmarkDecideInfected(b *testing.B) {
	s := Default().Settings
	sel := selectionOf(&s)
	findings := []mail.Finding{found(mail.Infected, 0)}
	for b.Loop() {
		Decide(sel, findings, nil)
	}
}
