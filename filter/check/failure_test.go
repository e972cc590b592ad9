package check

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

// TestCompleteOrUnchecked: whatever an engine answers is complete, or it has
// the name of a failure and the message is UNCHECKED (promise 3). A score that
// is not whole is none.
func TestCompleteOrUnchecked(t *testing.T) {
	t.Parallel()
	header := func(oldnew ...string) string {
		return spamdSays(hamAnswer, strings.NewReplacer(oldnew...).Replace(hamHeader))
	}
	rspamd := func(oldnew ...string) string { return rspamdSays(rspamdBody(oldnew...)) }
	whole := rspamd()
	for _, tt := range []struct {
		engine, name, answer string
		word                 string // empty: complete
		scored               bool
		category             mail.Category // of another finding
	}{
		{"spamassassin", "complete", header(), "", true, 0},
		{"spamassassin", "no rule matched", spamdSays("False ; 0.0 / 5.0", "X-Spam-Status: No, score=0.0 required=5.0 tests=none autolearn=no\r\n\r\n"), "", true, 0},
		{"spamassassin", "cut", header()[:300], FailedCut, false, 0},
		{"spamassassin", "cut in the status", "SPAMD/1.1 0", FailedCut, false, 0},
		{"spamassassin", "cut before the score", "SPAMD/1.1 0 EX_OK\r\nContent-le", FailedCut, false, 0},
		{"spamassassin", "empty", "", FailedEmpty, false, 0},
		{"spamassassin", "garbage", "\xff\xfe\r\n\r\n<html>", FailedGarbage, false, 0},
		{"spamassassin", "no length", "SPAMD/1.1 0 EX_OK\r\nSpam: " + hamAnswer + "\r\n\r\n" + hamHeader, FailedGarbage, false, 0},
		{"spamassassin", "no score", "SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\n\r\n\r\n", FailedGarbage, false, 0},
		{"spamassassin", "a score that is no number", spamdSays("False ; nan / 5.0", hamHeader), FailedGarbage, false, 0},
		{"spamassassin", "more than was said", header() + "x", FailedGarbage, false, 0},
		{"spamassassin", "rule that is none", header("MISSING_DATE=2.739", "<b>=1"), FailedGarbage, false, 0},
		{"spamassassin", "points that are none", header("=2.739", "=x"), FailedGarbage, false, 0},
		{"spamassassin", "too long", spamdSays(hamAnswer, hamHeader+strings.Repeat("x", 600<<10)), FailedTooLong, false, 0},
		{"spamassassin", "slow", hang, FailedTimeout, false, 0},
		{"spamassassin", "status", "SPAMD/1.0 76 Bad header line: (x)\r\n", FailedStatus, false, 0},
		{"spamassassin", "time-out of spamd", "SPAMD/1.0 79 Timeout: (300 second timeout)\r\n", FailedTimeLimit, false, 0},
		{"spamassassin", "time limit", header("MSGID_SHORT=0.155", "MSGID_SHORT=0.155,TIME_LIMIT_EXCEEDED=0.001"), FailedTimeLimit, false, 0},
		{"spamassassin", "no rules", header("tests=", "hits="), FailedNoSymbols, false, 0},
		{"spamassassin", "no status", header("X-Spam-Status", "X-Other"), FailedNoSymbols, false, 0},
		{"spamassassin", "two status", header("Subject: x", "X-Spam-Status: No, tests=none"), FailedNoSymbols, false, 0},
		{"spamassassin", "another mail", header("<one@b.test>", "<other@b.test>"), FailedOtherMail, false, 0},
		{"spamassassin", "no message id", header("Message-ID", "X-ID"), "", true, 0},

		{"rspamd", "complete", whole, "", true, 0},
		{"rspamd", "closed at the end", strings.Replace(whole, "Content-Length", "X-Length", 1), "", true, 0},
		{"rspamd", "cut", whole[:len(whole)-20], FailedCut, false, 0},
		{"rspamd", "cut without a length", strings.Replace(whole, "Content-Length", "X-Length", 1)[:len(whole)-20], FailedCut, false, 0},
		{"rspamd", "cut in the header", whole[:36], FailedCut, false, 0},
		{"rspamd", "empty", "", FailedEmpty, false, 0},
		{"rspamd", "empty body", rspamdSays(""), FailedEmpty, false, 0},
		{"rspamd", "garbage", "\xff\xfe\r\n\r\n<html>", FailedGarbage, false, 0},
		{"rspamd", "a page", rspamdSays("<html>no action</html>"), FailedGarbage, false, 0},
		{"rspamd", "two answers", rspamdSays(rspamdBody() + rspamdBody()), FailedGarbage, false, 0},
		{"rspamd", "no action", rspamd(`"action"`, `"acting"`), FailedGarbage, false, 0},
		{"rspamd", "no score", rspamd(`"score":2.1`, `"points":2.1`), FailedGarbage, false, 0},
		{"rspamd", "a list", rspamdSays("[]"), FailedGarbage, false, 0},
		{"rspamd", "too long", rspamd(`"text/plain"`, `"`+strings.Repeat("x", 5<<20)+`"`), FailedTooLong, false, 0},
		{"rspamd", "slow", hang, FailedTimeout, false, 0},
		{"rspamd", "status", strings.Replace(rspamdSays(`{"error":"cannot process task","error_domain":"x"}`), "200 OK", "503 x", 1), FailedStatus, false, 0},
		{"rspamd", "status in spite of an answer", strings.Replace(whole, "200 OK", "500 x", 1), FailedStatus, false, 0},
		{"rspamd", "error", rspamdSays(`{"error":"cannot process task"}`), FailedStatus, false, 0},
		{"rspamd", "time limit", rspamd("0.433169", "7.9"), FailedTimeLimit, false, 0},
		{"rspamd", "time limit, spam by then", rspamd("0.433169", "8.01", "no action", "reject"), FailedTimeLimit, false, mail.Spam},
		{"rspamd", "time limit as soft reject", rspamd("no action", "soft reject", `"messages":{}`, `"messages":{"smtp_message":"timeout processing message"}`), FailedTimeLimit, false, 0},
		{"rspamd", "no symbols", rspamdSays(`{"is_skipped":false,"score":0,"required_score":15.0,"action":"no action","symbols":{},"messages":{},"time_real":0.003}`), FailedNoSymbols, false, 0},
		{"rspamd", "failed symbol", rspamd("R_SPF_FAIL", "CLAM_VIRUS_FAIL", `"score":1.0`, `"score":0.0`), FailedSymbol, true, 0},
		{"rspamd", "list in the DNS that fails", rspamd("R_SPF_FAIL", "SPAMHAUS_FAIL", `"score":1.0`, `"score":0.0`), "", true, 0},
		{"rspamd", "failed symbol of a rule", rspamd("R_SPF_FAIL", "OUR_FAIL"), "", true, 0},
		{"rspamd", "skipped", rspamd("false", "true"), FailedSkipped, false, 0},
		{"rspamd", "skipped and refused", rspamd("false", "true", "no action", "reject"), "", true, mail.Spam},
		{"rspamd", "unknown action", rspamd("no action", "phone home"), FailedUnknownAction, true, 0},
		{"rspamd", "soft reject", rspamd("no action", "soft reject"), FailedSoftReject, true, 0},
		{"rspamd", "another mail", rspamd("one@b.test", "other@b.test"), FailedOtherMail, false, 0},
		{"rspamd", "no message id", rspamd("one@b.test", "undef"), "", true, 0},
		{"rspamd", "no field message-id", rspamd("message-id", "id"), "", true, 0},
		{"rspamd", "add header", rspamd("no action", "add header"), "", true, mail.Spammy},
		{"rspamd", "greylist", rspamd("no action", "greylist"), "", true, 0},
		{"rspamd", "discard", rspamd("no action", "discard"), "", true, mail.Spam},
	} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(tt.engine+", "+tt.name+", "+network, func(t *testing.T) {
				t.Parallel()
				timeout := time.Minute
				if tt.answer == hang {
					timeout = time.Second
				}
				var c Check
				var f *fakeEngine
				if tt.engine == "rspamd" {
					f = fakeRspamd(t, network, func(*http.Request, string) string { return tt.answer })
					o := rspamdOptions(f.url())
					o.Timeout = timeout
					c = newCheck(t, o)
				} else {
					f = fakeSpamd(t, network, func(string) string { return tt.answer })
					c = spamassassin(t, timeout, f.address)
				}
				r := run(t, tt.engine, c, input(plainMail))
				if got := FailureWord(r.Err); got != tt.word {
					t.Fatalf("failure %q (%v), want %q", got, r.Err, tt.word)
				}
				if r.Err != nil && !strings.Contains(r.Err.Error(), f.address) {
					t.Errorf("%v does not say which server", r.Err)
				}
				if unchecked(r) != (tt.word != "") || (r.Score != nil) != tt.scored || r.Scanned {
					t.Errorf("%+v", r)
				}
				want := 0
				if tt.word != "" {
					want++
				}
				if tt.category != 0 {
					want++
				}
				if len(r.Findings) != want || tt.category != 0 && r.Findings[0].Category != tt.category {
					t.Errorf("findings %+v", r.Findings)
				}
				if len(r.Fields) != 0 {
					t.Errorf("fields %+v", r.Fields)
				}
			})
		}
	}
}

func TestFailureWord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("x"), FailedOther},
		{t.Context().Err(), ""},
		{errDeadline, FailedDeadline},
		{fmt.Errorf("a: %w", fail(FailedCut, "b")), FailedCut},
		{failures{errors.New("a"), fmt.Errorf("b: %w", fail(FailedGarbage, "c"))}, FailedGarbage},
	} {
		if got := FailureWord(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestServersInTurn: the next server is asked when one fails, but for a
// message with which no server would get further; one that failed is asked last.
func TestServersInTurn(t *testing.T) {
	t.Parallel()
	good := fakeSpamd(t, "tcp", func(string) string { return spamdSays(hamAnswer, hamHeader) })
	bad := fakeSpamd(t, "tcp", func(string) string { return "SPAMD/1.0 74 x\r\n" })
	c := spamassassin(t, time.Minute, "tcp:127.0.0.1:1", bad.address, good.address)
	for range 3 {
		if r := run(t, "x", c, input(plainMail)); r.Err != nil || r.Score == nil {
			t.Errorf("%+v", r)
		}
	}
	if bad.asked.Load() != 1 || good.asked.Load() != 3 {
		t.Errorf("asked %d and %d times", bad.asked.Load(), good.asked.Load())
	}
	slow := fakeSpamd(t, "tcp", func(string) string { return "SPAMD/1.0 79 Timeout\r\n" })
	r := run(t, "x", spamassassin(t, time.Minute, slow.address, good.address), input(plainMail))
	if FailureWord(r.Err) != FailedTimeLimit || good.asked.Load() != 3 {
		t.Errorf("%+v", r)
	}
	r = run(t, "x", spamassassin(t, time.Minute, "tcp:127.0.0.1:1", bad.address), input(plainMail))
	if FailureWord(r.Err) != FailedConnect || !strings.Contains(r.Err.Error(), "127.0.0.1:1: no connection") || !strings.Contains(r.Err.Error(), "; spamd "+bad.address) {
		t.Errorf("%v", r.Err)
	}
}
