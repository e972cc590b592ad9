package check

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

func TestSpamAssassinScore(t *testing.T) {
	t.Parallel()
	f := fakeSpamd(t, "unix", func(string) string { return spamdSays(hamAnswer, hamHeader) })
	r := run(t, "spamassassin", spamassassin(t, time.Minute, f.address), input(plainMail))
	want := []mail.ScoreTest{{Name: "ALL_TRUSTED", Score: -1}, {Name: "MISSING_DATE", Score: 2.739}, {Name: "MSGID_SHORT", Score: 0.155}}
	if r.Err != nil || r.Score == nil || r.Score.Value != 1.894 || !slices.Equal(r.Score.Tests, want) || len(r.Findings) != 0 {
		t.Errorf("%+v, %+v", r, r.Score)
	}
	for _, tt := range []struct {
		name, spam, list string
		value            float64
	}{
		{"names only", "True ; 7.8 / 5.0", "A,B", 7.8},
		{"some without points", "True ; 7.8 / 5.0", "A=7.777,B", 7.8},
		{"points that are not those of the sum", "True ; 7.8 / 5.0", "A=1,B=2", 7.8},
		{"just not spam is told as less", "False ; 4.9 / 5.0", "A=4.997,B=0.001", 4.998},
		{"folded everywhere", "False ; 1.9 / 5.0", "A=1,\n\tB=0.9,\n C=0", 1.9},
		{"in brackets", "False ; -0.1 / 5.0", "[A=-0.1,B=0]", -0.1},
		{"none", "False ; 0.0 / 5.0", "none", 0},
	} {
		h := "X-Spam-Status: No, score=1 required=5.0\n\ttests=" + tt.list + "\n\tautolearn=no version=4.0.1\n\n" // LF alone
		score, err := parseSpamd([]byte(spamdSays(tt.spam, h)), nil)
		if err != nil || math.Abs(score.Value-tt.value) > 1e-12 {
			t.Errorf("%s: %+v, %v", tt.name, score, err)
		}
	}
}

// TestSpamdRequest: what spamd is told. Nothing of the mail can become more
// than the one line that it is meant for.
func TestSpamdRequest(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	client := mail.Client{Name: "client.example.net", Addr: netip.MustParseAddr("::ffff:91.11.190.91"), Helo: "[91.11.190.91]", Ident: "60AE"}
	for _, tt := range []struct {
		name    string
		options func(*SpamAssassinOptions)
		in      Input
		head    string
		added   string
	}{
		{"after the queue", nil, Input{Tx: &mail.Transaction{Input: mail.InputLMTP, From: "a@b.test", Client: client}}, "", "Return-Path: <a@b.test>\r\n"},
		{"null sender", nil, Input{Tx: &mail.Transaction{Input: mail.InputSMTP}}, "", "Return-Path: <>\r\n"},
		{"hostile sender", nil, Input{Tx: &mail.Transaction{From: "\"a\r\n\r\nX-Spam-Status: No\"@b"}}, "", "Return-Path: <\"a????X-Spam-Status: No\"@b>\r\n"},
		{"milter", nil, Input{Tx: &mail.Transaction{Input: mail.InputMilter, From: "a@b", Client: client, Received: received}, Hostname: "mail.test"}, "",
			"Return-Path: <a@b>\r\nReceived: from [91.11.190.91] (client.example.net [91.11.190.91])\r\n\tby mail.test (Postfix) with ESMTP id 60AE;\r\n\tFri, 27 Nov 2026 12:00:00 +0000\r\n"},
		{"milter, login", nil, Input{
			Tx:       &mail.Transaction{Input: mail.InputAMPDP, From: "a@b", Received: received, Client: mail.Client{Addr: netip.MustParseAddr("2001:db8::1"), Helo: "a) by (\r\nX: y"}},
			Hostname: "mail.test", Login: "me",
		}, "", "Return-Path: <a@b>\r\nReceived: from a??by????X:?y (unknown [IPv6:2001:db8::1])\r\n\tby mail.test (Postfix) with ESMTPSA id unknown;\r\n\tFri, 27 Nov 2026 12:00:00 +0000\r\n"},
		{"user", func(o *SpamAssassinOptions) { o.User = "filter" }, Input{Tx: &mail.Transaction{}}, "User: filter\r\n", "Return-Path: <>\r\n"},
		{"one recipient", func(o *SpamAssassinOptions) { o.User, o.UserByRecipient = "filter", true },
			Input{Tx: &mail.Transaction{Rcpts: []mail.Recipient{{Address: "b@c.test"}}}}, "User: b@c.test\r\n", "Return-Path: <>\r\n"},
		{"two recipients", func(o *SpamAssassinOptions) { o.User, o.UserByRecipient = "filter", true },
			Input{Tx: &mail.Transaction{Rcpts: []mail.Recipient{{Address: "b@c.test"}, {Address: "d@c.test"}}}}, "User: filter\r\n", "Return-Path: <>\r\n"},
		{"hostile recipient", func(o *SpamAssassinOptions) { o.UserByRecipient = true },
			Input{Tx: &mail.Transaction{Rcpts: []mail.Recipient{{Address: "\"b\r\nx\"@c.test"}}}}, "", "Return-Path: <>\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			f := fakeSpamd(t, "unix", func(request string) string { got <- request; return "" })
			o := Kinds()["spamassassin"]().(*SpamAssassinOptions)
			o.Address = []string{f.address}
			if tt.options != nil {
				tt.options(o)
			}
			tt.in.Tx.Message = mail.NewMessage([]byte(plainMail))
			run(t, "x", newCheck(t, o), &tt.in)
			body := tt.added + plainMail
			if got, want := <-got, "HEADERS SPAMC/1.5\r\nContent-length: "+strconv.Itoa(len(body))+"\r\n"+tt.head+"\r\n"+body; got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestSpamAssassinTooLarge(t *testing.T) {
	t.Parallel()
	o := Kinds()["spamassassin"]().(*SpamAssassinOptions)
	o.MaxSize = mail.Size(len(plainMail) - 1)
	for _, o := range []Options{o, func() Options {
		r := rspamdOptions("http://127.0.0.1:1")
		r.MaxSize = o.MaxSize
		return r
	}()} {
		r := run(t, "x", newCheck(t, o), input(plainMail))
		if r.Err != nil || r.Score != nil || len(r.Findings) != 0 || !strings.Contains(r.Skipped, "larger than max_size") {
			t.Errorf("%+v", r)
		}
	}
}

func TestSpamEngineOptions(t *testing.T) {
	t.Parallel()
	spamd := func(change func(*SpamAssassinOptions)) Options {
		o := Kinds()["spamassassin"]().(*SpamAssassinOptions)
		change(o)
		return o
	}
	rspamd := func(change func(*RspamdOptions)) Options {
		o := Kinds()["rspamd"]().(*RspamdOptions)
		change(o)
		return o
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{spamd(func(o *SpamAssassinOptions) {}), ""},
		{spamd(func(o *SpamAssassinOptions) { o.Address = nil }), "address: want unix:/path or tcp:host:port"},
		{spamd(func(o *SpamAssassinOptions) { o.Address = []string{"127.0.0.1"} }), `address: want unix:/path or tcp:host:port, not "127.0.0.1"`},
		{spamd(func(o *SpamAssassinOptions) { o.User = "a b" }), "user: want visible"},
		{spamd(func(o *SpamAssassinOptions) { o.MaxSize = 0 }), "max_size: must be more than 0"},
		{spamd(func(o *SpamAssassinOptions) { o.Timeout = 0 }), "timeout: must be more than 0"},
		{rspamd(func(o *RspamdOptions) {}), ""},
		{rspamd(func(o *RspamdOptions) { o.URL = []string{"https://[::1]:11333", "unix:/run/rspamd/worker.sock"} }), ""},
		{rspamd(func(o *RspamdOptions) { o.URL = nil }), "url: want http://host:port"},
		{rspamd(func(o *RspamdOptions) { o.URL = []string{"http://localhost"} }), "with a port"},
		{rspamd(func(o *RspamdOptions) { o.URL = []string{"tcp:127.0.0.1:11333"} }), "url: want http"},
		{rspamd(func(o *RspamdOptions) { o.URL = []string{"http://a:1/checkv2"} }), "url: want http"},
		{rspamd(func(o *RspamdOptions) { o.TimeLimit = 0 }), "time_limit: must"},
		{rspamd(func(o *RspamdOptions) { o.MaxSize = -1 }), "max_size: must"},
		{rspamd(func(o *RspamdOptions) { o.Scale = 0 }), "scale: must"},
		{rspamd(func(o *RspamdOptions) { o.Actions = map[string]string{"reject": "discard"} }), `for "reject", not "discard"`},
		{rspamd(func(o *RspamdOptions) { o.FailedSymbols = []string{"!["} }), "is no pattern"},
		{rspamd(func(o *RspamdOptions) { o.SettingsID = map[string]string{"X": "a b"} }), "settings_id: want a word"},
		{rspamd(func(o *RspamdOptions) { o.Headers = []string{"X-*-Y"} }), ""},
		{rspamd(func(o *RspamdOptions) { o.Headers = []string{"*"} }), "is no name"},
		{rspamd(func(o *RspamdOptions) { o.Timeout = -1 }), "timeout: must"},
		{&ICAPOptions{Timeout: 1}, "url: want icap"},
		{&ICAPOptions{Timeout: 1, URL: []string{"http://a/b"}}, "url: want icap"},
		{&ICAPOptions{Timeout: 1, URL: []string{"icap://a"}}, "url: want icap"},
		{&ICAPOptions{Timeout: 1, MaxSize: 1, URL: []string{"icap://a/avscan", "icap://[::1]:1345/b?x=y"}}, ""},
		{&ICAPOptions{MaxSize: 1, URL: []string{"icap://a/b"}}, "timeout: must"},
		{&ICAPOptions{Timeout: 1, URL: []string{"icap://a/b"}}, "max_size: must"},
		{&ClamAVOptions{Timeout: 1, Address: []string{"/a"}, Backup: []string{"x"}}, "backup: want"},
	} {
		_, err := tt.o.New()
		if got := ""; err != nil {
			got = err.Error()
			if tt.want == "" || !strings.Contains(got, tt.want) {
				t.Errorf("%+v: %q, want %q", tt.o, got, tt.want)
			}
		} else if tt.want != "" {
			t.Errorf("%+v: no error, want %q", tt.o, tt.want)
		}
	}
}

// Whatever comes back, a score is finite and made of names that are rules.
func FuzzSpamdAnswer(f *testing.F) {
	f.Add([]byte(spamdSays(hamAnswer, hamHeader)))
	f.Add([]byte(spamdSays("True ; 1000.0 / 5.0", "X-Spam-Status: Yes, tests=[GTUBE=1000]\r\n\r\n")))
	f.Add([]byte("SPAMD/1.0 79 Timeout\r\n"))
	f.Add([]byte(spamdSays("True ; 1 / 5", "X-Spam-Status: tests=,\r\n")))
	asked := mail.NewMessage([]byte(plainMail)).Header()
	f.Fuzz(func(t *testing.T, answer []byte) {
		score, err := parseSpamd(answer, asked)
		if (err == nil) != (score != nil) {
			t.Fatalf("%+v, %v", score, err)
		}
		if err != nil {
			if FailureWord(err) == FailedOther || len(err.Error()) > 2000 {
				t.Errorf("%v", err)
			}
			return
		}
		if !finite(score.Value) {
			t.Errorf("score %v", score.Value)
		}
		for _, test := range score.Tests {
			if !ruleName.MatchString(test.Name) || !finite(test.Score) || test.Name == timeLimitRule {
				t.Errorf("%+v", test)
			}
		}
	})
}
