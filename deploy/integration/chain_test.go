//go:build integration

package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// message returns a complete message with CRLF line ends.
func message(from, subject, body string) string {
	return strings.ReplaceAll(fmt.Sprintf(`Date: Mon, 9 Aug 2021 09:36:36 +0200
From: %s
To: somebody@example.net
Subject: %s
Message-ID: <%s@client.test>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

%s
`, from, subject, strings.ReplaceAll(subject, " ", "."), body), "\n", "\r\n")
}

// virus returns a message with the test virus in an attachment.
func virus(from string) string {
	return strings.ReplaceAll(`Date: Mon, 9 Aug 2021 09:36:36 +0200
From: `+from+`
To: somebody@example.net
Subject: invoice
Message-ID: <virus@client.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

see below
--b
Content-Type: application/octet-stream; name=invoice.com
Content-Disposition: attachment; filename=invoice.com
Content-Transfer-Encoding: base64

`+base64.StdEncoding.EncodeToString([]byte(eicar))+`
--b--
`, "\n", "\r\n")
}

var own = envelope{client: "192.0.2.7", from: "ann@example.org", rcpts: []string{"bob@example.net", "carl@example.com"}}

const verifyScript = `
import json, sys, dkim
records = {r["name"]: r["record"] for r in json.loads(sys.argv[1])}
d = dkim.DKIM(sys.stdin.buffer.read())
for i in range(len(records)):
    if not d.verify(idx=i, dnsfunc=lambda name, timeout=5: records[name.decode().rstrip(".")].encode()):
        sys.exit("signature %d does not verify" % i)
`

// verifyDKIM fails the test unless dkimpy accepts both signatures.
func (s *site) verifyDKIM(d delivery) {
	s.t.Helper()
	binary, err := posternBinary()
	s.must(err)
	records := run(s.t, nil, binary, "dkim", "show", "--json", "--config", filepath.Join(s.dir, "postern.yaml"))
	var list []json.RawMessage
	s.must(json.Unmarshal([]byte(records), &list))
	if n := strings.Count(string(d.data), "DKIM-Signature: "); n != len(list) || n != 2 {
		s.t.Errorf("%d signatures for %d keys", n, len(list))
	}
	run(s.t, d.data, "/usr/bin/python3", "-c", verifyScript, records)
}

func TestCleanMail(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	msg := message("ann@example.org", "clean mail", "Hello")
	submit(t, s.submission, own, msg)
	s.settle()

	got := s.world.deliveries()
	if len(got) != 1 || len(got[0].rcpts) != 2 || got[0].from != own.from {
		t.Fatalf("delivered: %v", got)
	}
	s.verifyDKIM(got[0])
	if !strings.HasSuffix(string(got[0].data), msg) {
		t.Errorf("the message was changed:\n%s", got[0].data)
	}
	if v := got[0].header("X-Virus-Scanned"); v == "" {
		t.Error("no X-Virus-Scanned")
	}
	if lines := s.logged(`postfix/10025/smtpd\[\d+\]: \w+: client=`); len(lines) != 1 || !strings.Contains(lines[0], "orig_client=unknown[192.0.2.7]") {
		t.Errorf("the second pass does not know the client: %q", lines)
	}
	if n := len(s.mailboxes.deliveries()); n != 0 {
		t.Errorf("%d other mails", n)
	}
}

// What the submitting program left out is added before the signature, not
// after it.
func TestIncompleteMailIsSignedComplete(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	submit(t, s.submission, own, "From: ann@example.org\r\nSubject: bare\r\n\r\nHello\r\n")
	s.settle()
	got := s.world.deliveries()
	if len(got) != 1 {
		t.Fatalf("delivered: %v", got)
	}
	for _, name := range []string{"Date", "Message-ID"} {
		if got[0].header(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	s.verifyDKIM(got[0])
}

func TestIncomingMailIsNotSigned(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	msg := message("eve@example.net", "from outside", "Hello")
	submit(t, s.mx, envelope{client: "198.51.100.9", from: "eve@example.net", rcpts: []string{"ann@example.org"}}, msg)
	s.settle()
	got := s.mailboxes.deliveries()
	if len(got) != 1 || !strings.HasSuffix(string(got[0].data), msg) {
		t.Fatalf("delivered: %v", got)
	}
	if got[0].header("DKIM-Signature") != "" {
		t.Error("mail from outside is signed")
	}
}

func TestSameBytes(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	long := strings.Repeat("0123456789", 500)
	for name, body := range map[string]string{
		"long lines":      long + "\n" + long,
		"eight bit":       "Gr\u00fc\u00dfe \xff\xfe",
		"dots":            ".\n..\n.x\n...",
		"trailing blanks": "a  \n\t\n\n\n",
	} {
		for _, way := range []struct {
			addr string
			to   *sink
			envelope
		}{
			{s.submission, s.world, envelope{from: "ann@example.org", rcpts: []string{"bob@example.net"}}},
			{s.mx, s.mailboxes, envelope{client: "198.51.100.9", from: "eve@example.net", rcpts: []string{"ann@example.org"}}},
		} {
			before := len(way.to.deliveries())
			msg := message(way.from, name, body)
			submit(t, way.addr, way.envelope, msg)
			s.settle()
			got := way.to.deliveries()[before:]
			if len(got) != 1 {
				t.Fatalf("%s: delivered: %v", name, got)
			}
			if !strings.HasSuffix(string(got[0].data), msg) {
				t.Errorf("%s from %s was changed:\n%q", name, way.from, got[0].data)
			}
			if way.to == s.world {
				s.verifyDKIM(got[0])
			}
		}
	}
}

// What Postfix has taken in arrives, although Postern makes it longer: nothing
// on the way back asks for its size again.
func TestMailBelowTheLimit(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	taken, refused := 0, 0
	for below := 0; below <= 2400; below += 300 {
		msg := message(own.from, fmt.Sprintf("%d below", below), "")
		line := strings.Repeat("x", 76) + "\r\n"
		for len(msg)+len(line) <= messageSizeLimit-below {
			msg += line
		}
		if rest := messageSizeLimit - below - len(msg); rest >= 2 {
			msg += strings.Repeat("x", rest-2) + "\r\n"
		}
		switch reply := offer(t, s.submission, own, msg); {
		case strings.HasPrefix(reply, "250"):
			taken++
		case strings.HasPrefix(reply, "552"):
			refused++
		default:
			t.Fatalf("%d below the limit: %q", below, reply)
		}
	}
	s.settle()
	if taken < 4 {
		t.Fatalf("%d taken, %d refused", taken, refused)
	}
	t.Logf("%d taken, %d refused", taken, refused)
	if got := len(s.world.deliveries()); got != taken {
		t.Errorf("%d of %d delivered, told: %v", got, taken, s.mailboxes.deliveries())
	}
}

// A message to many is handed to Postern once, not once for each fifty.
func TestManyRecipients(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	many := envelope{client: own.client, from: own.from}
	for i := range 120 {
		many.rcpts = append(many.rcpts, fmt.Sprintf("r%d@example.net", i))
	}
	submit(t, s.submission, many, message(own.from, "to many", "Hello"))
	s.settle()
	if lines := s.logged(`postfix/10025/smtpd\[\d+\]: \w+: client=`); len(lines) != 1 {
		t.Errorf("%d messages came back: %q", len(lines), lines)
	}
	rcpts := 0
	for _, d := range s.world.deliveries() {
		rcpts += len(d.rcpts)
	}
	if rcpts != len(many.rcpts) {
		t.Errorf("%d recipients of %d", rcpts, len(many.rcpts))
	}
}

func TestVirusRejected(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	submit(t, s.submission, own, virus(own.from))
	s.settle()
	for _, rcpt := range own.rcpts {
		if lines := s.logged("to=<" + rcpt + ">,.*status="); len(lines) != 1 || !strings.Contains(lines[0], "status=bounced") || !strings.Contains(lines[0], " 554 5.7.0 ") {
			t.Errorf("%s: %q", rcpt, lines)
		}
	}
	if got := s.world.deliveries(); len(got) != 0 {
		t.Errorf("delivered: %v", got)
	}
	// Postfix tells its own user
	if got := s.mailboxes.deliveries(); len(got) != 1 || got[0].from != "" || got[0].rcpts[0] != own.from {
		t.Errorf("told: %v", got)
	}
}

func TestVirusBounced(t *testing.T) {
	const admin = "postmaster@example.org"
	s := newSite(t, "virus: {destiny: bounce, admin: "+admin+"}")

	submit(t, s.submission, own, virus(own.from))
	s.settle()
	var reports, notices int
	for _, d := range s.mailboxes.deliveries() {
		switch {
		case d.rcpts[0] == own.from && d.from == "":
			reports++
			if ct := d.header("Content-Type"); !strings.Contains(ct, "multipart/report") || !strings.Contains(ct, "delivery-status") {
				t.Errorf("the report is a %s", ct)
			}
			if v := d.header("Auto-Submitted"); v != "auto-replied" {
				t.Errorf("the report has Auto-Submitted %q", v)
			}
			if strings.Contains(string(d.data), "see below") {
				t.Error("the report carries the body of the message")
			}
		case d.rcpts[0] == admin:
			notices++
		default:
			t.Errorf("to %q: %s", d.rcpts, d.data)
		}
	}
	if reports != 1 || notices != 1 {
		t.Errorf("%d reports to the sender and %d notices to the administrator, want one of each", reports, notices)
	}
	if got := s.world.deliveries(); len(got) != 0 {
		t.Errorf("sent to the world: %v", got)
	}

	// a stranger hears nothing, on either way in
	before := len(s.mailboxes.deliveries())
	foreign := envelope{client: "198.51.100.9", from: "eve@example.net", rcpts: []string{"ann@example.org"}}
	submit(t, s.mx, foreign, virus(foreign.from))
	foreign.client, foreign.rcpts = own.client, own.rcpts
	submit(t, s.submission, foreign, virus(foreign.from))
	s.settle()
	got := s.mailboxes.deliveries()[before:]
	if len(got) != 2 || got[0].rcpts[0] != admin || got[1].rcpts[0] != admin {
		t.Errorf("told: %v, want the administrator twice", got)
	}
	if got := s.world.deliveries(); len(got) != 0 {
		t.Errorf("sent to the world: %v", got)
	}
}

// Reject after the queue must not make Postfix tell a stranger either.
func TestVirusRejectedFromOutside(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	foreign := envelope{client: "198.51.100.9", from: "eve@example.net", rcpts: []string{"ann@example.org"}}
	submit(t, s.mx, foreign, virus(foreign.from))
	s.settle()
	if n := len(s.world.deliveries()) + len(s.mailboxes.deliveries()); n != 0 {
		t.Errorf("%d mails came of it", n)
	}
}

func TestScannerDown(t *testing.T) {
	s := newSite(t, "virus: {destiny: reject}")
	s.stopClamd()
	submit(t, s.submission, own, message(own.from, "patience", "Hello"))
	for _, rcpt := range own.rcpts {
		if lines := s.logged("to=<" + rcpt + ">,.*status="); !strings.Contains(lines[0], "status=deferred") || !strings.Contains(lines[0], " 451 ") {
			t.Errorf("%s: %q", rcpt, lines)
		}
	}
	if n := len(s.world.deliveries()) + len(s.mailboxes.deliveries()); n != 0 {
		t.Errorf("%d mails came of it", n)
	}
	// nothing is lost: the mail goes out when the scanner is back
	s.startClamd()
	s.flush()
	s.settle()
	if got := s.world.deliveries(); len(got) != 1 || len(got[0].rcpts) != 2 {
		t.Errorf("delivered: %v", got)
	}
}
