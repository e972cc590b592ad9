package policy

import (
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy/virusname"
)

func virusFinding(check, name string) mail.Finding {
	return mail.Finding{Category: mail.Infected, Check: check, Name: name, Rcpt: mail.AllRcpts}
}

// The built-in entries say of real names what Amavis says.
func TestBuiltInNames(t *testing.T) {
	t.Parallel()
	const virus = -1
	for name, want := range map[string]float64{
		"Eicar-Signature":                              virus,
		"Win.Test.EICAR_HDB-1":                         virus,
		"Heuristics.Phishing.Email.SpoofedDomain":      0.1,
		"Phishing.Email":                               0.1,
		"Heuristics.Structured.CreditCardNumber":       0.1,
		"Structured.SSN":                               0.1,
		"Email.Phishing.VOF1-6311337-0":                0.1,
		"HTML.Phishing.Bank-1":                         0.1,
		"Email.Phishing.Bank.12.Sanesecurity.08":       virus,
		"Sanesecurity.Phishing.Bank.2666.UNOFFICIAL":   0.1,
		"Sanesecurity.Malware.24419.UNOFFICIAL":        virus,
		"Sanesecurity.Foxhole.Zip_exe.7.UNOFFICIAL":    0.1,
		"Sanesecurity.Foxhole.Mail_tar.UNOFFICIAL":     0,
		"Sanesecurity.Foxhole.JS_Zip_2.UNOFFICIAL":     virus,
		"Sanesecurity_PhishBar_12":                     0,
		"Email.Spam.Bounce.21.Sanesecurity.07":         0,
		"Email.Spam1.Gen-SecuriteInfo.com.UNOFFICIAL":  0.1,
		"Trojan.Gen-SecuriteInfo.com.UNOFFICIAL":       virus,
		"HTML/Bankish.S":                               0.1,
		"MBL_NA.UNOFFICIAL":                            0.1,
		"MBL_123.UNOFFICIAL":                           virus,
		"winnow.spam.ts.1.UNOFFICIAL":                  0.1,
		"winnow.malware.1.UNOFFICIAL":                  virus,
		"PUA.Win.Packer.Upx-1":                         virus,
		"Heuristics.OLE2.ContainsMacros.VBA":           virus,
		"Heuristics.Broken.Executable":                 virus,
		"heuristics.phishing.email.spoofeddomain":      virus,
		"Win.Trojan.X (a.exe, Heuristics.Phishing.)":   virus,
		"Heuristics.Phishing.Email.SSL-Spoof/a/b\x00c": 0.1,
	} {
		s := Default().Settings
		v := Decide(selectionOf(&s), []mail.Finding{virusFinding("clamav", name)}, nil)[0]
		switch {
		case want == virus && (v.Main().Category != mail.Infected || v.Score != nil || !s.Infected([]mail.Finding{virusFinding("clamav", name)})):
			t.Errorf("%q is %s with score %+v, want INFECTED", name, v.Main().Category, v.Score)
		case want != virus && (v.Main().Category != mail.Clean || v.Destiny != Pass || v.Score == nil || v.Score.Value != want || s.Infected([]mail.Finding{virusFinding("clamav", name)})):
			t.Errorf("%q is %s with score %+v, want CLEAN with %v", name, v.Main().Category, v.Score, want)
		}
	}
}

const ownNames = `virus:
    names:
      - {match: "PUA.*", as: score, score: 2}
      - {match: Heuristics.OLE2.ContainsMacros*, as: unchecked}
      - {match: ["Heuristics.Phishing.Email.SSL*"], as: infected}
      - {built_in: true}
      - {match: "*.Spam*", as: score, score: -1}`

func TestNames(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "hostname: mail.example.org\nsettings:\n  "+ownNames+"\n").Settings
	engines := &mail.Score{Value: 5, Tests: []mail.ScoreTest{{Name: "BAYES_99", Score: 5}}}
	for _, tt := range []struct {
		name     string
		findings []mail.Finding
		score    *mail.Score
		want     string // categories, score, tests
		reasons  []string
	}{
		{"points", []mail.Finding{virusFinding("a", "PUA.X")}, nil, "CLEAN 2 AV:PUA.X=2", []string{"PUA.X counts as score 2: virus.names, base settings (postern.yaml:5)", "score 2 reaches spam.tag_level 2, built-in default", "CLEAN: nothing blocks"}},
		{"points on those of an engine", []mail.Finding{virusFinding("a", "PUA.X")}, engines, "SPAM SPAMMY CLEAN 7 BAYES_99=5 AV:PUA.X=2", nil},
		{"an engine alone", nil, engines, "CLEAN 5 BAYES_99=5", []string{"score 5 reaches spam.tag_level 2, built-in default", "CLEAN: nothing blocks"}},
		{"of one scanner the highest counts", []mail.Finding{virusFinding("a", "PUA.X"), virusFinding("a", "Sanesecurity.Junk.1"), virusFinding("a", "PUA.X")}, nil, "CLEAN 2 AV:PUA.X=2 AV:Sanesecurity.Junk.1=0.1", nil},
		{"two scanners", []mail.Finding{virusFinding("a", "PUA.X"), virusFinding("b", "PUA.Y"), virusFinding("b", "PUA.X")}, nil, "CLEAN 4 AV:PUA.X=2 AV:PUA.Y=2", nil},
		{"what stands behind the built-in ones", []mail.Finding{virusFinding("a", "Mail.Spam-1")}, nil, "CLEAN -1 AV:Mail.Spam-1=-1", nil},
		{"what stands before them", []mail.Finding{virusFinding("a", "Heuristics.Phishing.Email.SSL-Spoof")}, nil, "INFECTED CLEAN", []string{"INFECTED: destiny reject, built-in default"}},
		{"a doubt", []mail.Finding{virusFinding("a", "Heuristics.OLE2.ContainsMacros.VBA")}, nil, "UNCHECKED CLEAN", []string{"Heuristics.OLE2.ContainsMacros.VBA is UNCHECKED: virus.names, base settings (postern.yaml:5)", "UNCHECKED: destiny pass, built-in default", "CLEAN: nothing blocks"}},
		{"a virus too", []mail.Finding{virusFinding("a", "PUA.X"), virusFinding("a", "Eicar")}, engines, "INFECTED CLEAN 5 BAYES_99=5", []string{"score 5 reaches spam.tag_level 2, built-in default", "INFECTED: destiny reject, built-in default"}},
		{"a virus by another scanner", []mail.Finding{virusFinding("a", "PUA.X"), virusFinding("b", "Eicar")}, nil, "INFECTED CLEAN 2 AV:PUA.X=2", nil},
		{"foreign text", []mail.Finding{virusFinding("a", "PUA.\u202e\n")}, nil, "CLEAN 2 AV:PUA.\u202e\n=2", []string{`PUA.\x{202e}\x0a counts as score 2: virus.names, base settings (postern.yaml:5)`, "score 2 reaches spam.tag_level 2, built-in default", "CLEAN: nothing blocks"}},
	} {
		before := slices.Clone(tt.findings)
		v := Decide(selectionOf(&s), tt.findings, tt.score)[0]
		var got []string
		for _, c := range v.Categories {
			got = append(got, c.Category.String())
		}
		if v.Score != nil {
			got = append(got, virusname.Points(v.Score.Value))
			for _, test := range v.Score.Tests {
				got = append(got, test.Name+"="+virusname.Points(test.Score))
			}
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, g, tt.want)
		}
		if tt.reasons != nil && !slices.Equal(v.Reasons, tt.reasons) {
			t.Errorf("%s: reasons %q, want %q", tt.name, v.Reasons, tt.reasons)
		}
		if !slices.Equal(before, tt.findings) || engines.Value != 5 || len(engines.Tests) != 1 {
			t.Errorf("%s: what the checks said was changed", tt.name)
		}
	}
}

// Each recipient has names of his own; who bypasses the check has no points.
func TestNamesByRecipient(t *testing.T) {
	t.Parallel()
	normal, strict, bypass := Default().Settings, Default().Settings, Default().Settings
	strict.Virus.Names = []virusname.NameRule{{Match: []string{"Heuristics.*"}, As: virusname.Infected}}
	bypass.Virus.Bypass = true
	guess := []mail.Finding{virusFinding("clamav", "Heuristics.Phishing.Email")}
	vs := Decide(selectionOf(&normal, &strict, &bypass), guess, nil)
	if vs[0].Main().Category != mail.Clean || vs[0].Score == nil || vs[1].Main().Category != mail.Infected || vs[1].Score != nil ||
		vs[2].Main().Category != mail.Clean || vs[2].Score != nil {
		t.Errorf("%+v", vs)
	}
	if normal.Infected(guess) || !strict.Infected(guess) || bypass.Infected(guess) {
		t.Error("Infected is wrong")
	}
}

// The points of names count as those of an engine do (Amavis).
func TestPointsBlock(t *testing.T) {
	t.Parallel()
	s := Default().Settings
	points := 6.31
	s.Virus.Names = []virusname.NameRule{{Match: []string{"*"}, As: virusname.Score, Score: &points}}
	if v := Decide(selectionOf(&s), []mail.Finding{virusFinding("a", "X")}, nil)[0]; v.Destiny != Reject || v.Blocking.Category != mail.Spam {
		t.Errorf("%+v", v)
	}
}

func TestFlipName(t *testing.T) {
	t.Parallel()
	s := Default().Settings
	guess := []mail.Finding{virusFinding("clamav", "Heuristics.Phishing.Email")}
	got := Flip(selectionOf(&s), 0, guess, nil)
	want := Change{Key: "virus.names", Value: `{match: ["Heuristics.Phishing.Email"], as: infected}`, Origin: Origin{File: BuiltIn}}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
	s.Virus.Destiny, s.Virus.Lover = Pass, true
	if got := Flip(selectionOf(&s), 0, guess, nil); len(got) != 3 || got[1].Key != "virus.destiny" || got[2].Key != "virus.lover" {
		t.Errorf("%+v", got)
	}
	s.Virus.Bypass = true
	if got := Flip(selectionOf(&s), 0, guess, nil); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestNameRuleText(t *testing.T) {
	t.Parallel()
	var got []string
	for _, r := range mustParse(t, "hostname: mail.example.org\nsettings:\n  "+ownNames+"\n").Settings.Virus.Names {
		got = append(got, r.String())
	}
	want := []string{
		`{match: ["PUA.*"], as: score, score: 2}`, `{match: ["Heuristics.OLE2.ContainsMacros*"], as: unchecked}`,
		`{match: ["Heuristics.Phishing.Email.SSL*"], as: infected}`, `{built_in: true}`, `{match: ["*.Spam*"], as: score, score: -1}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
