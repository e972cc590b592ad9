package notify

import (
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/policy"
)

// gateCase starts as a message whose sender may be told; each test changes
// one thing.
type gateCase struct {
	tx  *mail.Transaction
	sel *policy.Selection
	v   *policy.Verdict
}

func openCase() *gateCase {
	s := &policy.Settings{}
	return &gateCase{
		tx: &mail.Transaction{
			Input:   mail.InputLMTP,
			From:    "himself@jeanbruenn.info",
			Rcpts:   []mail.Recipient{{Address: "xxx@gmail.com"}},
			Message: mail.NewMessage([]byte("From: Himself <himself@jeanbruenn.info>\r\nAuto-Submitted: no\r\nPrecedence: first-class\r\nSubject: x\r\n\r\nbody\r\n")),
		},
		sel: &policy.Selection{
			Originating: true, SenderLocal: true, Settings: s,
			Rcpts: []policy.RcptSelection{{Address: "xxx@gmail.com", Settings: s, Direction: policy.Outbound}},
		},
		v: &policy.Verdict{
			Categories: []policy.ContentCategory{{Category: mail.Infected}, {Category: mail.Clean}},
			Blocking:   policy.ContentCategory{Category: mail.Infected},
			Destiny:    policy.Bounce,
			Findings:   []mail.Finding{{Category: mail.Infected, Check: "clamav", Name: "Win/Worm.Phish-1", Rcpt: mail.AllRcpts}},
		},
	}
}

// gate is what the filter makes of the case.
func (c *gateCase) gate() *Gate {
	c.sel.Automatic = Automatic(c.tx)
	return NewGate(c.tx, c.sel)
}

func (c *gateCase) header(field string) {
	c.tx.Message = mail.NewMessage([]byte(field + "\r\nFrom: himself@jeanbruenn.info\r\n\r\nbody\r\n"))
}

func (c *gateCase) notify(n ...smtp.DSNNotify) { c.tx.Rcpts[0].Opts.Notify = n }

func (c *gateCase) settings() *policy.Settings { return c.sel.Rcpts[0].Settings }

// TestGate covers promise 2: taking any one condition out of the gate makes a
// case fail.
func TestGate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*gateCase)
		want   string // reason word; empty: open
	}{
		{"own user", func(*gateCase) {}, ""},
		{"null sender", func(c *gateCase) { c.tx.From = "" }, "null-sender"},
		{"not originating", func(c *gateCase) { c.sel.Originating = false }, "not-originating"},
		{"sender too long", func(c *gateCase) {
			c.tx.From = mail.Address(strings.Repeat("x", 520) + "@jeanbruenn.info")
		}, "sender-address"},
		{"sender that nobody can read", func(c *gateCase) { c.tx.From = "a\u200bb@jeanbruenn.info" }, "sender-address"},
		{"sender with a control character", func(c *gateCase) { c.tx.From = "\"a\x01b\"@jeanbruenn.info" }, "sender-address"},
		{"sender elsewhere", func(c *gateCase) { c.sel.SenderLocal = false }, "sender-not-local"},

		{"List-Id", func(c *gateCase) { c.header("List-Id: <l.example.org>") }, "bulk"},
		{"List-Unsubscribe", func(c *gateCase) { c.header("LIST-unsubscribe: <mailto:x>") }, "bulk"},
		{"List-Post", func(c *gateCase) { c.header("List-Post: NO") }, "bulk"},
		{"Mailing-List", func(c *gateCase) { c.header("Mailing-List: contact x") }, "bulk"},
		{"Precedence bulk", func(c *gateCase) { c.header("Precedence: Bulk") }, "bulk"},
		{"Precedence list", func(c *gateCase) { c.header("Precedence: list (digest)") }, "bulk"},
		{"Precedence behind a comment", func(c *gateCase) { c.header("Precedence: (c) (d (e)) bulk") }, "bulk"},
		{"Precedence of a kind of its own", func(c *gateCase) { c.header("Precedence: (bulk) special-delivery") }, ""},
		{"X-BeenThere", func(c *gateCase) { c.header("X-BeenThere: l@example.org") }, "bulk"},
		{"Sender of a list", func(c *gateCase) { c.header("Sender: \"L\" <owner-l@jeanbruenn.info>") }, "bulk"},
		{"Sender of a person", func(c *gateCase) { c.header("Sender: secretary@jeanbruenn.info") }, ""},
		{"report", func(c *gateCase) {
			c.header("Content-Type: (x) Multipart/Report; report-type=disposition-notification")
		}, "bulk"},
		{"Precedence junk", func(c *gateCase) { c.header("Precedence:\r\n junk") }, "bulk"},
		{"Precedence auto_reply", func(c *gateCase) { c.header("Precedence: auto_reply") }, "bulk"},
		{"Auto-Submitted generated", func(c *gateCase) { c.header("Auto-Submitted: auto-generated") }, "bulk"},
		{"Auto-Submitted replied", func(c *gateCase) { c.header("Auto-Submitted: auto-replied; owner-email=x") }, "bulk"},
		{"Auto-Submitted empty", func(c *gateCase) { c.header("Auto-Submitted:") }, "bulk"},
		{"Auto-Submitted no", func(c *gateCase) { c.header("Auto-Submitted: No (typed by hand)") }, ""},
		{"second Auto-Submitted", func(c *gateCase) { c.header("Auto-Submitted: no\r\nAuto-Submitted: auto-notified") }, "bulk"},
		{"author is a daemon", func(c *gateCase) { c.header("From: Mailer <MAILER-DAEMON@jeanbruenn.info>") }, "bulk"},
		{"one of the authors is a daemon", func(c *gateCase) { c.header("From: a@b.example, autoreply@b.example") }, "bulk"},
		{"daemon", func(c *gateCase) { c.tx.From = "mailer-daemon@jeanbruenn.info" }, "bulk"},
		{"double bounce", func(c *gateCase) { c.tx.From = "double-bounce@jeanbruenn.info" }, "bulk"},
		{"mailer", func(c *gateCase) { c.tx.From = "Mailer@jeanbruenn.info" }, "bulk"},
		{"list bounces", func(c *gateCase) { c.tx.From = "news-bounces+x=gmail.com@jeanbruenn.info" }, "bulk"},
		{"list request", func(c *gateCase) { c.tx.From = "news-request@jeanbruenn.info" }, "bulk"},
		{"list owner", func(c *gateCase) { c.tx.From = "owner-news@jeanbruenn.info" }, "bulk"},
		{"list owner behind", func(c *gateCase) { c.tx.From = "news-owner@jeanbruenn.info" }, "bulk"},
		{"an administrator is a person", func(c *gateCase) { c.tx.From = "site-admin@jeanbruenn.info" }, ""},
		{"postmaster is a person", func(c *gateCase) { c.tx.From = "postmaster@jeanbruenn.info" }, ""},

		{"NOTIFY=NEVER", func(c *gateCase) { c.notify(smtp.DSNNotifyNever) }, "notify"},
		{"NOTIFY=SUCCESS,DELAY", func(c *gateCase) { c.notify(smtp.DSNNotifySuccess, smtp.DSNNotifyDelayed) }, "notify"},
		{"NOTIFY=SUCCESS,FAILURE", func(c *gateCase) { c.notify(smtp.DSNNotifySuccess, smtp.DSNNotifyFailure) }, ""},

		{"virus fakes its sender", func(c *gateCase) { c.settings().Virus.FakesSender = []string{"Other.*", "Win*Phish*"} }, "fakes-sender"},
		{"another virus fakes", func(c *gateCase) { c.settings().Virus.FakesSender = []string{"Phish", "Win"} }, ""},
		{"broken pattern", func(c *gateCase) { c.settings().Virus.FakesSender = []string{"[a-"} }, "fakes-sender"},
		{"second name fakes", func(c *gateCase) {
			c.settings().Virus.FakesSender = []string{"B"}
			c.v.Findings = append(c.v.Findings, mail.Finding{Category: mail.Infected, Name: "B"})
		}, "fakes-sender"},

		{"score at the cutoff", func(c *gateCase) { c.settings().Spam.DSNCutoffLevel, c.v.Score = 10, &mail.Score{Value: 10} }, "score"},
		{"score below the cutoff", func(c *gateCase) { c.settings().Spam.DSNCutoffLevel, c.v.Score = 10, &mail.Score{Value: 9.9} }, ""},
		{"no cutoff", func(c *gateCase) { c.v.Score = &mail.Score{Value: 1000} }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCase()
			tt.change(c)
			got := c.gate().Failure(0, c.v)
			if got.Word != tt.want {
				t.Errorf("Failure: %+v, want %q", got, tt.want)
			}
			if (got.Text == "") != got.Open() {
				t.Errorf("a closed gate says why, an open one nothing: %+v", got)
			}
		})
	}
}

// TestRefusal: a 5xx after the queue is a report that the feeding MTA writes.
func TestRefusal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*gateCase)
		want   string
		tells  bool
	}{
		{"own user", func(*gateCase) {}, "", true},
		{"stranger", func(c *gateCase) { c.sel.Originating = false }, "not-originating", true},
		{"stranger by SMTP", func(c *gateCase) { c.sel.Originating, c.tx.Input = false, mail.InputSMTP }, "not-originating", true},
		{"stranger, null sender", func(c *gateCase) { c.sel.Originating, c.tx.From = false, "" }, "", false},
		{"stranger, NOTIFY=NEVER", func(c *gateCase) { c.sel.Originating = false; c.notify(smtp.DSNNotifyNever) }, "", false},
		{"stranger, NOTIFY=FAILURE", func(c *gateCase) { c.sel.Originating = false; c.notify(smtp.DSNNotifyFailure) }, "not-originating", true},
		{"stranger, NOTIFY=SUCCESS", func(c *gateCase) { c.sel.Originating = false; c.notify(smtp.DSNNotifySuccess) }, "", false},
		{"stranger before the queue", func(c *gateCase) { c.sel.Originating, c.tx.Input = false, mail.InputMilter }, "", true},
		{"stranger by AM.PDP", func(c *gateCase) { c.sel.Originating, c.tx.Input = false, mail.InputAMPDP }, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCase()
			tt.change(c)
			g := c.gate()
			if got := g.Refusal(0, c.v); got.Word != tt.want {
				t.Errorf("Refusal: %+v, want %q", got, tt.want)
			}
			if got := g.WouldTell(0); got != tt.tells {
				t.Errorf("WouldTell: %v", got)
			}
		})
	}
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	asked := func(c *gateCase) { c.notify(smtp.DSNNotifySuccess) }
	tests := []struct {
		name   string
		change func(*gateCase)
		want   string
	}{
		{"asked for", asked, ""},
		{"not asked for", func(*gateCase) {}, "notify"},
		{"only failure", func(c *gateCase) { c.notify(smtp.DSNNotifyFailure) }, "notify"},
		{"stranger", func(c *gateCase) { asked(c); c.sel.Originating = false }, "not-originating"},
		{"bulk", func(c *gateCase) { c.header("List-Id: <x>"); asked(c) }, "bulk"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCase()
			tt.change(c)
			if got := c.gate().Success(0); got.Word != tt.want {
				t.Errorf("%+v, want %q", got, tt.want)
			}
		})
	}
}

func TestGateReasonIsOneLine(t *testing.T) {
	t.Parallel()
	c := openCase()
	c.settings().Virus.FakesSender = []string{"*"}
	c.v.Findings[0].Name = "evil\r\nname\x1b[2J" + strings.Repeat("x", 5000)
	got := c.gate().Failure(0, c.v).Text
	if strings.ContainsAny(got, "\r\n\x1b") || len(got) > 400 {
		t.Errorf("%q", got)
	}
}

func BenchmarkGate(b *testing.B) {
	c := openCase()
	b.ReportAllocs()
	for b.Loop() {
		c.gate().Failure(0, c.v)
	}
}
