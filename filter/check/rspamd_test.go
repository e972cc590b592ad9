package check

import (
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

func TestRspamdScore(t *testing.T) {
	t.Parallel()
	f := fakeRspamd(t, "unix", func(*http.Request, string) string { return rspamdSays(rspamdBody()) })
	o := rspamdOptions(f.url())
	r := run(t, "rspamd", newCheck(t, o), input(plainMail))
	want := []mail.ScoreTest{{Name: "DATE_IN_PAST", Score: 1.225}, {Name: "R_SPF_FAIL", Score: 1}, {Name: "MIME_GOOD", Score: -0.1}}
	if r.Err != nil || r.Score == nil || r.Score.Value != 2.125 || !slices.Equal(r.Score.Tests, want) {
		t.Errorf("%+v, %+v", r, r.Score)
	}
	o.Scale = 0.42
	r = run(t, "rspamd", newCheck(t, o), input(plainMail))
	if r.Score == nil || r.Score.Value != 0.892 || r.Score.Tests[1].Score != 0.42 {
		t.Errorf("%+v", r.Score)
	}
}

// TestRspamdRequest: what Rspamd is told. Names are ours, values one line.
func TestRspamdRequest(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	f := fakeRspamd(t, "tcp", func(r *http.Request, body string) string {
		if r.Method != "POST" || r.URL.Path != "/checkv2" || body != plainMail {
			t.Errorf("%+v %q", r, body)
		}
		got <- r.Header
		return ""
	})
	o := rspamdOptions(f.url())
	o.SettingsID = map[string]string{"ORIGINATING": "outbound", "INT-MTA": "internal", "OTHER": "other"}
	ask := func(in *Input) map[string][]string {
		in.Tx.Message = mail.NewMessage([]byte(plainMail))
		run(t, "x", newCheck(t, o), in)
		h := <-got
		for _, name := range []string{"Content-Length", "Connection", "User-Agent", "Content-Type"} {
			h.Del(name)
		}
		return h
	}
	h := ask(&Input{
		Tx: &mail.Transaction{
			ID: "1-2", From: "a@b.test", Rcpts: []mail.Recipient{{Address: `"x, y"@c.test`}, {Address: "d@c.test"}},
			Client: mail.Client{Name: "client.test", Addr: netip.MustParseAddr("::ffff:91.11.190.91"), Helo: "helo.test", Ident: "60AE"},
		},
		Hostname: "mail.test", Banks: []string{"ORIGINATING", "INT-MTA", "LAST"}, Login: "me",
	})
	if want := map[string][]string{
		"From": {"<a@b.test>"}, "Rcpt": {`<"x, y"@c.test>`, "<d@c.test>"}, "Ip": {"91.11.190.91"}, "Helo": {"helo.test"},
		"Hostname": {"client.test"}, "User": {"me"}, "Queue-Id": {"60AE"}, "Mta-Name": {"mail.test"}, "Mta-Tag": {"ORIGINATING/INT-MTA/LAST"}, "Settings-Id": {"internal"},
	}; !reflect.DeepEqual(h, want) {
		t.Errorf("got %v\nwant %v", h, want)
	}
	// unknown is not told, and a value ends no line
	h = ask(&Input{Tx: &mail.Transaction{ID: "1-2", Client: mail.Client{Helo: "x\r\nFile: /etc/passwd\r\n\r\n", Name: "\x00\x7fy"}}})
	if want := map[string][]string{"From": {"<>"}, "Helo": {"x??File: /etc/passwd????"}, "Hostname": {"??y"}, "Queue-Id": {"1-2"}}; !reflect.DeepEqual(h, want) {
		t.Errorf("got %v\nwant %v", h, want)
	}
	// more recipients than Rspamd would read
	h = ask(&Input{Tx: &mail.Transaction{ID: "1-2", Rcpts: make([]mail.Recipient, 5000)}})
	if len(h["Rcpt"]) != maxRcptFields {
		t.Errorf("%d recipients", len(h["Rcpt"]))
	}
}

func TestRspamdActions(t *testing.T) {
	t.Parallel()
	o := rspamdOptions("http://127.0.0.1:1")
	o.Actions = map[string]string{"soft reject": "pass", "custom": "spammy", "add header": "pass", "reject": "unchecked"}
	const thresholds = `"required_score":15.0,"thresholds":{"reject":15,"add header":6,"high":20,"middle":7,"low":1,"soft reject":null},`
	for action, want := range map[string]struct {
		category mail.Category
		word     string
	}{
		"no action": {0, ""}, "add header": {0, ""}, "rewrite subject": {mail.Spammy, ""}, "quarantine": {mail.Spam, ""},
		"soft reject": {0, ""}, "custom": {mail.Spammy, ""}, "reject": {0, FailedUnknownAction},
		"high": {mail.Spam, ""}, "middle": {mail.Spammy, ""}, "low": {0, ""}, "unheard of": {0, FailedUnknownAction}, "": {0, FailedUnknownAction},
	} {
		body := rspamdBody("no action", action, `"required_score":15.0,`, thresholds, `"messages":{}`, `"messages":{"smtp_message":"Try\r\nagain"}`)
		answer, err := o.judge(200, []byte(body), time.Second, nil)
		if FailureWord(err) != want.word || answer.Score == nil {
			t.Errorf("%q: %+v, %v", action, answer, err)
		}
		switch f := answer.Findings; {
		case want.category == 0 && len(f) == 0:
		case len(f) == 1 && f[0].Category == want.category && f[0].Name == action && f[0].Detail == "Try??again" && f[0].Rcpt == mail.AllRcpts:
		default:
			t.Errorf("%q: %+v", action, f)
		}
	}
}

// TestRspamdTime: our own clock counts where the answer names no time.
func TestRspamdTime(t *testing.T) {
	t.Parallel()
	o := rspamdOptions("http://127.0.0.1:1")
	for _, tt := range []struct {
		body string
		took time.Duration
		word string
	}{
		{rspamdBody(), time.Minute, ""}, // it waited for a worker
		{rspamdBody("time_real", "time"), time.Minute, FailedTimeLimit},
		{rspamdBody("time_real", "time"), time.Second, ""},
		{rspamdBody("0.433169", "1e300"), time.Second, FailedTimeLimit},
	} {
		if _, err := o.judge(200, []byte(tt.body), tt.took, nil); FailureWord(err) != tt.word {
			t.Errorf("%v: %v", tt, err)
		}
	}
}

func TestRspamdWishes(t *testing.T) {
	t.Parallel()
	milter := `"milter":{"add_headers":{"X-Spamd-Result":{"value":"default: False [1/15];\n\tA(1.00)[<ü>]\r\nBcc: x","order":0},` +
		`"x-spamd-bar":["+","++"],"X-Rspamd-Server":"s","Bcc":"x","X-Spamd-A: b\r\nX":"y","X-Spamd-Number":7,` +
		`"Authentication-Results":[{"value":"mail.test; dkim=pass","order":1}]},"remove_headers":{"X-Spam":0}}`
	body := []byte(rspamdBody(`"milter":{"remove_headers":{"X-Spam":0}}`, milter))
	for _, tt := range []struct {
		headers []string
		want    []mail.Edit
	}{
		{nil, nil},
		{[]string{"X-Spamd-*"}, []mail.Edit{
			{Name: "X-Spamd-Result", Value: "default: False [1/15];\r\n =?utf-8?q?_A(1.00)[<=C3=BC>]?=\r\n Bcc: x"},
			{Name: "x-spamd-bar", Value: "+"}, {Name: "x-spamd-bar", Value: "++"},
		}},
		{[]string{"authentication-results"}, []mail.Edit{{Name: "Authentication-Results", Value: "mail.test; dkim=pass"}}},
	} {
		o := rspamdOptions("http://127.0.0.1:1")
		o.Headers = tt.headers
		answer, err := o.judge(200, body, time.Second, nil)
		if err != nil || !slices.Equal(answer.Fields, tt.want) {
			t.Errorf("%v: %+v, %v", tt.headers, answer.Fields, err)
		}
	}
}

// TestRspamdOtherForms: parts of an answer that are not needed may be of any
// form.
func TestRspamdOtherForms(t *testing.T) {
	t.Parallel()
	o := rspamdOptions("http://127.0.0.1:1")
	o.Headers = []string{"X-*"}
	for _, replace := range [][]string{
		{`"messages":{}`, `"messages":[]`}, {`"messages":{}`, `"messages":{"smtp_message":[1]}`}, {`"milter":{`, `"milter":[],"x":{`},
		{`"remove_headers"`, `"add_headers"`}, {`"required_score":15.0`, `"thresholds":"none"`}, {`"milter":{`, `"milter":null,"x":{`},
	} {
		if answer, err := o.judge(200, []byte(rspamdBody(replace...)), time.Second, nil); err != nil || answer.Score == nil || len(answer.Fields) != 0 {
			t.Errorf("%v: %+v, %v", replace, answer, err)
		}
	}
}

// Whatever comes back: finite scores, and fields that we have asked for.
func FuzzRspamdAnswer(f *testing.F) {
	f.Add([]byte(rspamdBody()), 200)
	f.Add([]byte(rspamdBody("no action", "reject", "false", "true")), 200)
	f.Add([]byte(rspamdBody(`"remove_headers":{"X-Spam":0}`, `"add_headers":{"X-Spamd-A":[{"value":"a\n\tb"},"c"]}`)), 200)
	f.Add([]byte(`{"error":"x"}`), 500)
	o := rspamdOptions("http://127.0.0.1:1")
	o.Headers = []string{"X-Spamd-*"}
	asked := mail.NewMessage([]byte(plainMail)).Header()
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		answer, err := o.judge(status, body, time.Second, asked)
		if err == nil && (status != 200 || answer.Score == nil || len(answer.Score.Tests) == 0) {
			t.Fatalf("%d: %+v", status, answer)
		}
		if err != nil && FailureWord(err) == FailedOther {
			t.Errorf("%v", err)
		}
		if s := answer.Score; s != nil {
			for _, test := range append(s.Tests, mail.ScoreTest{Score: s.Value}) {
				if math.IsNaN(test.Score) || math.IsInf(test.Score, 0) {
					t.Errorf("%+v", test)
				}
			}
		}
		for _, e := range answer.Fields {
			if !fieldName(e.Name) || !strings.EqualFold(e.Name[:8], "X-Spamd-") || strings.Contains(strings.ReplaceAll(e.Value, "\r\n ", ""), "\n") {
				t.Errorf("%+v", e)
			}
			for i := range len(e.Value) {
				if e.Value[i] >= 0x80 {
					t.Errorf("%q", e.Value)
				}
			}
		}
	})
}

// What Rspamd would put before a subject is all that counts of its rewriting.
func TestSubjectPrefix(t *testing.T) {
	t.Parallel()
	h, _ := mail.ParseHeader([]byte("Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"))
	for rewritten, want := range map[string]string{
		"*** SPAM *** gr\u00fc\u00dfe": "*** SPAM *** ", "a\r\nX: b gr\u00fc\u00dfe": "a??X: b ", "gr\u00fc\u00dfe": "", "": "", "other": "", strings.Repeat("x", 101) + "gr\u00fc\u00dfe": "",
	} {
		if got := subjectPrefix(rewritten, h); got != want {
			t.Errorf("%q: %q, want %q", rewritten, got, want)
		}
	}
}
