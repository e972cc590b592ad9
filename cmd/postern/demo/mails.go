package demo

import (
	"strings"
	"time"
)

// Mail is one mail of the demo and what must come of it.
type Mail struct {
	What    string // in a few words
	Way     Way    // by which it comes in
	From    string
	To      []string
	Subject string
	Virus   bool   // the EICAR test string is in it
	Want    string // actions in the log line, as they stand there: {RelayedOutbound}
}

// Way is how a mail comes in.
type Way int

// The ways.
const (
	Inside  Way = iota // after the queue, from our own people
	Outside            // after the queue, from the world
	Gate               // before the queue, from the world, by milter
)

// Mails are those of the demo, in the order in which they are sent.
var Mails = []Mail{
	{"clean, from us to the world", Inside, "alice@example.org", []string{"bob@example.net"}, "Minutes", false, "{RelayedOutbound}"},
	{"clean, from outside", Outside, "bob@example.net", []string{"alice@example.org"}, "Re: Minutes", false, "{RelayedInbound}"},
	{"two recipients", Inside, "alice@example.org", []string{"carol@example.org", "bob@example.net"}, "Lunch", false, "{RelayedInternal,RelayedOutbound}"},
	{"test virus from one of us", Inside, "alice@example.org", []string{"bob@example.net"}, "Look at this", true, "{BouncedOutbound}"},
	{"test virus from a stranger", Outside, "eve@example.com", []string{"alice@example.org"}, "Invoice", true, "{NoBounceInbound,Quarantined}"},
	{"clean, before the queue", Gate, "bob@example.net", []string{"alice@example.org"}, "Re: Lunch", false, "{AcceptedInbound}"},
	{"test virus, before the queue", Gate, "eve@example.com", []string{"alice@example.org"}, "Reminder", true, "{RejectedInbound}"},
}

// EICAR is the test string of eicar.org, in two pieces so that scanners leave
// this program alone.
const EICAR = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// Text returns header and body as they are sent, without the final dot. No
// line of it begins with a dot.
func (m *Mail) Text() string {
	body := "Hello,\r\n\r\nnothing to see here.\r\n"
	if m.Virus {
		body = EICAR + "\r\n"
	}
	return "Received: from client.example.net (unknown [192.0.2.7])\r\n\tby mail.example.org (Postfix) with ESMTPS id 4DEMO\r\n" +
		"\t; Mon, 9 Aug 2021 09:36:36 +0200 (CEST)\r\n" +
		"Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: " + m.From + "\r\nTo: " + strings.Join(m.To, ", ") +
		"\r\nSubject: " + m.Subject + "\r\nMessage-ID: <" + strings.ReplaceAll(m.Subject, " ", "-") + "@example.org>\r\n\r\n" + body
}

// Send speaks LMTP with addr as Postfix does, XFORWARD included, and returns
// the reply for each recipient, one line each. It takes a minute at most.
func Send(addr string, m Mail) ([]string, error) {
	c := Dial(addr, time.Minute)
	defer c.Close()
	c.Send("2", "LHLO mail.example.org")
	c.Send("2", "XFORWARD ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=client.example.net IDENT=4DEMO SOURCE=REMOTE")
	c.Send("2", "MAIL FROM:<%s>", m.From)
	for _, to := range m.To {
		c.Send("2", "RCPT TO:<%s>", to)
	}
	c.Send("3", "DATA")
	c.Write(m.Text() + ".\r\n")
	var replies []string
	for range m.To {
		replies = append(replies, c.Expect(""))
	}
	c.Send("2", "QUIT")
	return replies, c.Err
}
