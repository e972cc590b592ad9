//go:build integration

package listen

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/filter/mail"
)

// session is what opendkim's miltertest says to us, in its own words: two
// messages on one connection, the first taken with a header field, the second
// refused.
const session = `
mt.echo("begin")
conn = mt.connect("inet:%s@127.0.0.1")
if conn == nil then error "no connection" end
if mt.conninfo(conn, "mail.example.net", "198.51.100.9") ~= nil then error "connect" end
if mt.getreply(conn) ~= SMFIR_CONTINUE then error "connect is not continued" end
if mt.helo(conn, "client.example.net") ~= nil then error "helo" end
if mt.getreply(conn) ~= SMFIR_CONTINUE then error "helo is not continued" end
for n = 1, 2 do
  mt.macro(conn, SMFIC_MAIL, "i", "t-" .. n)
  if mt.mailfrom(conn, "a@example.net") ~= nil then error "mail" end
  if mt.getreply(conn) ~= SMFIR_CONTINUE then error "mail is not continued" end
  if mt.rcptto(conn, "b@example.org") ~= nil then error "rcpt" end
  if mt.getreply(conn) ~= SMFIR_CONTINUE then error "rcpt is not continued" end
  if mt.header(conn, "From", "a@example.net") ~= nil then error "header" end
  if mt.header(conn, "Subject", "message " .. n) ~= nil then error "header" end
  if mt.eoh(conn) ~= nil then error "eoh" end
  if mt.bodystring(conn, "hello\r\n") ~= nil then error "body" end
  if mt.eom(conn) ~= nil then error "eom" end
  if n == 1 then
    if mt.getreply(conn) ~= SMFIR_CONTINUE and mt.getreply(conn) ~= SMFIR_ACCEPT then error "the first is not taken" end
    if not mt.eom_check(conn, MT_HDRINSERT, "X-Seen") then error "no header field" end
  else
    if mt.getreply(conn) ~= SMFIR_REPLYCODE then error "the second is not refused" end
  end
  mt.abort(conn)
end
mt.disconnect(conn)
mt.echo("end")
`

// TestMiltertest: a foreign milter client of another family.
func TestMiltertest(t *testing.T) {
	t.Parallel()
	h := &milterHandler{do: func(ctx context.Context, tx *mail.Transaction) mail.Reply {
		if v, _ := tx.Message.Header().First("Subject"); v == "message 2" {
			return mail.NewReply(554, 7, 0, "Reject, id=%s", tx.ID)
		}
		return tx.Back.Send(ctx, &mail.Outgoing{Message: tx.Message, Rcpts: tx.Rcpts, Edits: []mail.Edit{{Op: mail.Add, Name: "X-Seen", Value: "yes"}}})[0].Reply
	}}
	_, addr := startMilter(t, h, MilterOptions{})
	_, port, _ := strings.Cut(addr, ":")
	script := filepath.Join(t.TempDir(), "session.lua")
	if err := os.WriteFile(script, []byte(fmt.Sprintf(session, port)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("miltertest", "-s", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "end") {
		t.Errorf("%v\n%s", err, out)
	}
	if len(h.raw) != 2 || h.raw[0] != "From: a@example.net\r\nSubject: message 1\r\n\r\nhello\r\n" || h.txs[1].Client.Ident != "t-2" {
		t.Errorf("%q, %+v", h.raw, h.txs)
	}
}
