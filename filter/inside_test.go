package filter

import (
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
	"postern/policy"
)

// partsCheck is a scanner that keeps what it was given.
type partsCheck struct{ got *mail.Part }

func (c *partsCheck) Check(_ context.Context, in *check.Input) (check.Answer, error) {
	c.got = in.Parts
	return check.Answer{}, nil
}

// examine runs Examine over message for recipients with these local parts.
func examine(t *testing.T, ctx context.Context, config, message string, c check.Check, rcpts ...string) *Examination {
	t.Helper()
	cfg, err := policy.Parse("postern.yaml", []byte(config), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler)}
	if c != nil {
		f.Checks = []check.Named{{Name: "scanner", Check: c, Categories: []mail.Category{mail.Infected}}}
	}
	tx := &mail.Transaction{Listener: "127.0.0.1:10024", From: "a@example.net", Message: mail.NewMessage([]byte(message))}
	for _, r := range rcpts {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: mail.Address(r + "@example.org")})
	}
	ex, err := f.Examine(ctx, tx)
	if err != nil {
		t.Fatal(err)
	}
	return ex
}

const openRcpt = `
recipients:
  - {match: open@, settings: {banned: {bypass: true}, virus: {bypass: true}}}
  - {match: scan@, settings: {banned: {bypass: true}}}
`

// TestExamineStages: the message is taken apart once, before the checks, and
// only if somebody needs it.
func TestExamineStages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rcpts, want string }{
		{"a", "unpack scanner banned"},
		{"open a", "unpack scanner banned"},
		{"scan", "unpack scanner"},
		{"open", ""},
	} {
		c := &partsCheck{}
		ex := examine(t, context.Background(), openRcpt, "Subject: x\r\n\r\nhello\r\n", c, strings.Fields(tt.rcpts)...)
		var names []string
		for _, r := range ex.Results {
			names = append(names, r.Check)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: checks %q, want %q", tt.rcpts, got, tt.want)
		}
		if (c.got != nil) != (tt.want != "") {
			t.Errorf("%s: parts %v", tt.rcpts, c.got)
		}
	}
}

// TestExamineNotTakenApart: what was not looked into is not clean for those
// who want it.
func TestExamineNotTakenApart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ex := examine(t, ctx, openRcpt, "Subject: x\r\n\r\nhello\r\n", nil, "a", "open")
	if c := ex.Verdicts[0].Main().Category; c != mail.Unchecked {
		t.Errorf("a message that nobody looked into is %s", c)
	}
	if v := ex.Verdicts[1]; v.Main().Category != mail.Clean {
		t.Errorf("who bypasses all gets %s: %q", v.Main().Category, v.Reasons)
	}
	if _, err := (bannedFiles{}).Check(ctx, &check.Input{}); err == nil {
		t.Error("banned files without parts are clean")
	}
}

// TestExamineLimits: the limits of the configuration hold.
func TestExamineLimits(t *testing.T) {
	t.Parallel()
	const message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b\r\n\r\n3\r\n--b--\r\n"
	for config, want := range map[string]policy.ContentCategory{
		"":                             {Category: mail.Clean},
		"limits: {unpack: {parts: 2}}": {Category: mail.Unchecked, Minor: mail.OverLimits},
	} {
		ex := examine(t, context.Background(), config, message, nil, "a")
		if got := ex.Verdicts[0].Main(); got != want {
			t.Errorf("%q: %v, want %v", config, got, want)
		}
		if len(ex.Findings) > 0 && !slices.ContainsFunc(ex.Results, func(r check.Result) bool { return r.Check == "unpack" && len(r.Findings) > 0 }) {
			t.Errorf("%q: the finding is not in the results", config)
		}
	}
}

// TestExaminePasswords: an archive that archive_passwords open is looked into
// as any other, and still is one with a password for rules.
func TestExaminePasswords(t *testing.T) {
	t.Parallel()
	locked, err := os.ReadFile("unpack/testdata/locked/zipcrypto.zip")
	if err != nil {
		t.Fatal(err)
	}
	message := "Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(locked) + "\r\n"
	for config, want := range map[string]policy.ContentCategory{
		"settings: {banned: {rules: []}}":                                                                                                {Category: mail.Unchecked, Minor: mail.Encrypted},
		"archive_passwords: [x]\nsettings: {banned: {rules: [{block: {type: exe-ms}}]}}":                                                 {Category: mail.Unchecked, Minor: mail.Encrypted},
		"archive_passwords: [x, infected]\nsettings: {banned: {rules: []}}":                                                              {Category: mail.Clean},
		"archive_passwords: [x, infected]\nsettings: {banned: {rules: [{block: {type: exe-ms}}]}}":                                       {Category: mail.Banned},
		"archive_passwords: [x, infected]\nsettings: {banned: {rules: [{block: {is: encrypted}}]}}":                                      {Category: mail.Banned},
		"archive_passwords: [infected]\nsettings: {banned: {rules: [{allow: {is: encrypted, name: '*.exe'}}, {block: {type: exe-ms}}]}}": {Category: mail.Clean},
	} {
		ex := examine(t, context.Background(), config, message, nil, "a")
		if got := ex.Verdicts[0].Main(); got != want {
			t.Errorf("%s: %v, want %v", config, got, want)
		}
	}
}

// TestExamineWaits: a message waits for the memory that others use, and is
// deferred when its time is up, whatever else the policy says of failures.
func TestExamineWaits(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", []byte("settings: {on_error: pass}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Policy: cfg, Log: slog.New(slog.DiscardHandler), Room: unpack.NewRoom(1)}
	tx := &mail.Transaction{
		Listener: "127.0.0.1:10024", From: "a@example.net", Rcpts: []mail.Recipient{{Address: "a@example.org"}},
		Message: mail.NewMessage([]byte("Subject: x\r\n\r\nhello\r\n")),
	}
	others, err := f.Room.Claim(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	replies := f.Process(ctx, tx)
	if len(replies) != 1 || replies[0].Code != 451 {
		t.Errorf("reply %v, want 451", replies)
	}
	others.Keep(0)
	ex, err := f.Examine(t.Context(), tx)
	if err != nil || ex.Verdicts[0].Main().Category != mail.Clean {
		t.Errorf("with memory: %v", err)
	}
	again, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if _, err := f.Room.Claim(again, 1); err != nil {
		t.Errorf("memory is not given back: %v", err)
	}
}

// claimant is a check that asks for the memory of another message.
type claimant struct{ room *unpack.Room }

// Check fails when the memory is not free.
func (c claimant) Check(ctx context.Context, _ *check.Input) (check.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	claim, err := c.room.Claim(ctx, 0)
	claim.Keep(0)
	return check.Answer{}, err
}

// TestChecksHoldNoRoom: while the checks look at a message, others may be
// taken apart.
func TestChecksHoldNoRoom(t *testing.T) {
	t.Parallel()
	cfg, err := policy.Parse("postern.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	room := unpack.NewRoom(65 << 20) // for one message, and what little another holds
	f := &Filter{
		Policy: cfg, Log: slog.New(slog.DiscardHandler), Room: room,
		Checks: []check.Named{{Name: "claimant", Check: claimant{room}}},
	}
	ex, err := f.Examine(t.Context(), &mail.Transaction{
		Listener: "127.0.0.1:10024", From: "a@example.net", Rcpts: []mail.Recipient{{Address: "a@example.org"}},
		Message: mail.NewMessage([]byte("Subject: x\r\n\r\nhello\r\n")),
	})
	if err != nil || len(ex.Findings) > 0 {
		t.Errorf("%v, %+v", err, ex)
	}
}
