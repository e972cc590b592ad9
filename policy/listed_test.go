package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

const listedConfig = `
settings:
  spam:
    sender_list:
      - {match: ann@a.test, as: whitelisted}
      - {match: [bad@a.test, .bad.test], as: blacklisted}
      - {match: .news.test, as: score, score: 3.5}
      - {match: .nice.test, as: score, score: -4}
recipients:
  - match: own@ours.test
    settings:
      spam:
        sender_list:
          - {match: friend@bad.test, as: whitelisted, verified: false}
          - {match: other@bad.test, as: neutral}
  - {match: bypass@ours.test, settings: {spam: {bypass: true}}}
`

// listedSelection is the selection of mail of one sender to the three.
func listedSelection(t *testing.T, c *Config, from mail.Address, proof, listener string) *Selection {
	t.Helper()
	sel, err := c.Select(t.Context(), Request{
		Listener: listener, From: from, Senders: []Sender{{Address: from, What: "sender", Proof: proof}},
		Rcpts: []mail.Address{"b@ours.test", "own@ours.test", "bypass@ours.test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func TestSenderList(t *testing.T) {
	t.Parallel()
	c := mustParse(t, listedConfig)
	for _, tt := range []struct {
		from      mail.Address
		proof     string
		score     float64
		rcpt      int
		cats      string
		destiny   Destiny
		value     float64 // of the verdict's score
		reason    string
		whitelist bool
	}{
		{"ann@a.test", "SPF", 100, 0, "CLEAN,1", Pass, 100, "sender <ann@a.test> is whitelisted, postern.yaml:5, verified by SPF", true},
		{"ann@a.test", "", 100, 0, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, 100, "whitelisted, postern.yaml:5 is not counted: the sender is not verified", false},
		{"ann@a.test", "SPF", 11, 0, "CLEAN,0", Pass, 11, "is below spam.tag_level", true},
		{"ann@a.test", "SPF", 12, 0, "CLEAN,1", Pass, 12, "reaches spam.tag_level", true},
		{"bad@a.test", "", -5, 0, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, -5, "sender <bad@a.test> is blacklisted, postern.yaml:6", false},
		{"friend@bad.test", "", 0, 0, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, 0, "blacklisted, postern.yaml:6", false},
		{"friend@bad.test", "", 100, 1, "CLEAN,1", Pass, 100, "whitelisted, postern.yaml:14", true},
		{"other@bad.test", "", 0, 1, "CLEAN,0", Pass, 0, "neutral, postern.yaml:15", false},
		{"third@bad.test", "", 0, 1, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, 0, "blacklisted, postern.yaml:6", false},
		{"third@bad.test", "", 0, 2, "CLEAN,0", Pass, 0, "is not counted: recipient bypasses the check", false},
		{"x@news.test", "", 3, 0, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, 6.5, "listed with score 3.5, postern.yaml:7", false},
		{"x@nice.test", "", 10, 0, "CLEAN,1", Pass, 6, "listed with score -4, postern.yaml:8", false},
		{"x@else.test", "", 10, 0, "SPAM,0 SPAMMY,0 CLEAN,1", Reject, 10, "reaches spam.kill_level", false},
	} {
		sel := listedSelection(t, c, tt.from, tt.proof, "127.0.0.1:10024")
		v := Decide(sel, nil, &mail.Score{Value: tt.score})[tt.rcpt]
		if got := shown(&v); got != tt.cats || v.Destiny != tt.destiny {
			t.Errorf("%s, %v: %s %s, want %s %s", tt.from, tt.score, got, v.Destiny, tt.cats, tt.destiny)
		}
		if v.Score != nil && v.Score.Value != tt.value || v.Listed.White() != tt.whitelist {
			t.Errorf("%s, %v: score %+v, whitelisted %v", tt.from, tt.score, v.Score, v.Listed.White())
		}
		if all := strings.Join(v.Reasons, "; "); !strings.Contains(all, tt.reason) {
			t.Errorf("%s: reasons %q, want %q", tt.from, all, tt.reason)
		}
	}
}

// Our own people are who they say; others without a score are judged as well.
func TestSenderListWithoutScore(t *testing.T) {
	t.Parallel()
	c := mustParse(t, listedConfig)
	v := Decide(listedSelection(t, c, "ann@a.test", "", "127.0.0.1:10023"), nil, nil)[0]
	if !v.Listed.White() || !strings.Contains(v.Reasons[0], "verified by originating") {
		t.Errorf("%+v", v)
	}
	v = Decide(listedSelection(t, c, "bad@a.test", "", "127.0.0.1:10024"), nil, nil)[0]
	if shown(&v) != "SPAM,0 SPAMMY,0 CLEAN,1" || v.Destiny != Reject || v.Score != nil {
		t.Errorf("%+v", v)
	}
	v = Decide(listedSelection(t, c, "x@nice.test", "", "127.0.0.1:10024"), nil, nil)[0]
	if v.Score == nil || v.Score.Value != -4 || v.Score.Tests[0] != (mail.ScoreTest{Name: "AM.WBL", Score: -4}) {
		t.Errorf("%+v", v)
	}
}

// A whitelist is about spam alone.
func TestWhitelistedAndInfected(t *testing.T) {
	t.Parallel()
	sel := listedSelection(t, mustParse(t, listedConfig), "ann@a.test", "DKIM", "127.0.0.1:10024")
	for _, tt := range []struct {
		finding mail.Finding
		cats    string
		destiny Destiny
	}{
		{mail.Finding{Category: mail.Infected, Name: "Eicar", Rcpt: mail.AllRcpts}, "INFECTED,0 CLEAN,0", Reject},
		{mail.Finding{Category: mail.Banned, Name: "x.exe", Rcpt: mail.AllRcpts}, "BANNED,0 CLEAN,0", Reject},
		{mail.Finding{Category: mail.Unchecked, Minor: mail.CheckFailed, Missing: mail.SetOf(mail.Infected), Rcpt: mail.AllRcpts}, "UNCHECKED,0 CLEAN,0", Tempfail},
		{mail.Finding{Category: mail.Unchecked, Minor: mail.CheckFailed, Rcpt: mail.AllRcpts}, "UNCHECKED,0 CLEAN,0", Tempfail},
		{mail.Finding{Category: mail.Unchecked, Minor: mail.CheckFailed, Missing: mail.SetOf(mail.Spam), Rcpt: mail.AllRcpts}, "CLEAN,0", Pass},
		{mail.Finding{Category: mail.Spam, Name: "GTUBE", Rcpt: mail.AllRcpts}, "CLEAN,0", Pass},
	} {
		v := Decide(sel, []mail.Finding{tt.finding}, nil)[0]
		got := shown(&v)
		if got != tt.cats || v.Destiny != tt.destiny {
			t.Errorf("%+v: %s %s, want %s %s", tt.finding, got, v.Destiny, tt.cats, tt.destiny)
		}
	}
}

// What would make a blacklisted sender's mail pass is told.
func TestFlipBlacklisted(t *testing.T) {
	t.Parallel()
	sel := listedSelection(t, mustParse(t, listedConfig), "bad@a.test", "", "127.0.0.1:10024")
	changes := Flip(sel, 0, nil, nil)
	if len(changes) != 1 || changes[0].Key != "spam.sender_list" || !strings.Contains(changes[0].Value, "bad@a.test") || changes[0].Origin.Line != 5 {
		t.Errorf("%+v", changes)
	}
}

// Lists of senders in files are known, wherever they are named.
func TestSenderListFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"base", "bank", "rcpt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x@"+name+".test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules := func(name string) string {
		return "{spam: {sender_list: [{match: 'file:" + name + "', as: blacklisted}]}}"
	}
	c, err := Parse(filepath.Join(dir, "postern.yaml"), []byte("settings: "+rules("base")+"\nbanks: {B: "+rules("bank")+"}\nrecipients: [{match: ., settings: "+rules("rcpt")+"}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"base", "bank", "rcpt"} {
		if !slices.Contains(c.Files(), filepath.Join(dir, name)) {
			t.Errorf("%s is not among %q", name, c.Files())
		}
	}
	if v := Decide(listedSelection(t, c, "x@base.test", "", "127.0.0.1:10024"), nil, nil)[0]; !v.Listed.Black() {
		t.Errorf("%+v", v)
	}
}

func TestSenderListMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[{match: '*@b.test', as: whitelisted}]":             "postern.yaml:1:",
		"[{match: b.test}]":                                  "no as",
		"[{match: b.test, as: score}]":                       "no score",
		"[{match: b.test, as: white}]":                       `"whitelisted" is nearest`,
		"[{match: b.test, as: blacklisted, score: 1}]":       "a score is for as: score only",
		"[{as: blacklisted}]":                                "no match",
		"[{match: 'file:nowhere.list', as: blacklisted}]":    "nowhere.list",
		"[{match: b.test, as: blacklisted, verified: 'no'}]": "verified",
	} {
		for _, place := range []string{"settings: {spam: {sender_list: %}}", "banks: {B: {spam: {sender_list: %}}}", "recipients: [{match: ., settings: {spam: {sender_list: %}}}]"} {
			_, err := Parse("postern.yaml", []byte(strings.Replace(place, "%", text, 1)), nil)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "postern.yaml:1:") {
				t.Errorf("%s: %v, want %q", text, err, want)
			}
		}
	}
}
