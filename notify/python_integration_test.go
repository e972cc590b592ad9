//go:build integration

package notify

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"postern/filter/mail"
)

// readReport prints what Python's email package makes of a report.
const readReport = `
import email, email.policy, json, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
parts = list(m.iter_parts())
print(json.dumps({
    "type": m.get_content_type(), "report": m.get_param("report-type"), "auto": m["Auto-Submitted"],
    "defects": [str(d) for p in m.walk() for d in p.defects],
    "parts": [p.get_content_type() for p in parts],
    "status": [dict(b.items()) for b in parts[1].get_payload()],
    "text": parts[0].get_content(),
}))
`

// TestNDRAsPythonReadsIt: a foreign parser finds in a report what RFC 3464 and RFC
// 6522 want there, whatever stands in the message that it is about.
func TestNDRAsPythonReadsIt(t *testing.T) {
	for _, subject := range []string{"virus test", "x\r\nBcc: evil@example.com\r\n\r\nbody", "=?utf-8?q?a=0D=0ABcc:_x?=", "Grüße", strings.Repeat("x", 5000)} {
		r := virusReport()
		r.Tx.Message = mail.NewMessage([]byte("From: a@example.org\r\nSubject: " + subject + "\r\n\r\nbody\r\n"))
		r.Tx.FromOpts.EnvelopeID = "QQ314159+x"
		r.Tx.Rcpts[0].ORCPT = "rfc822;xxx+2B1@gmail.com"
		r.addRcpt("friend@example.net", mail.Receipt{Disposal: mail.Relayed, NextHop: "smtp:[192.0.2.1]:25", Reply: mail.NewReply(250, 0, 0, "Ok")})
		o, err := r.NDR([]int{0, 1})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("python3", "-c", readReport)
		cmd.Stdin = bytes.NewReader(o.Message.Bytes())
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		var got struct {
			Type, Report, Auto string
			Defects, Parts     []string
			Status             []map[string]string
			Text               string
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if got.Type != "multipart/report" || got.Report != "delivery-status" || got.Auto != "auto-replied" || len(got.Defects) > 0 ||
			strings.Join(got.Parts, " ") != "text/plain message/delivery-status text/rfc822-headers" {
			t.Errorf("%.40q: %+v", subject, got)
		}
		if len(got.Status) != 3 {
			t.Fatalf("%.40q: %d blocks: %v", subject, len(got.Status), got.Status)
		}
		for name, want := range map[string]string{"Reporting-MTA": "dns; mail.no-uce.de", "Original-Envelope-Id": "QQ314159+x"} {
			if got.Status[0][name] != want {
				t.Errorf("%s: %q, want %q", name, got.Status[0][name], want)
			}
		}
		for name, want := range map[string]string{"Original-Recipient": "rfc822;xxx+1@gmail.com", "Final-Recipient": "rfc822;xxx@gmail.com", "Action": "failed", "Status": "5.7.0"} {
			if got.Status[1][name] != want {
				t.Errorf("%s: %q, want %q", name, got.Status[1][name], want)
			}
		}
		if got.Status[2]["Action"] != "relayed" || got.Status[2]["Remote-MTA"] != "dns; [192.0.2.1]:25" {
			t.Errorf("relayed: %v", got.Status[2])
		}
	}
}
