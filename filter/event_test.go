package filter

import (
	"net/netip"
	"testing"

	"postern/filter/mail"
)

func TestClientAndOrigin(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	const received = "Received: from client.example.net (unknown [91.11.190.91])\r\n\tby mail.example.org (Postfix) with ESMTPSA id 1\r\n"
	for _, c := range []struct {
		name, header  string
		peer          netip.AddrPort
		client        netip.Addr
		first, oldest string
	}{
		{"told", received, netip.MustParseAddrPort("127.0.0.1:1"), addr("84.200.7.149"), "84.200.7.149", "91.11.190.91"},
		{"not told", received, netip.MustParseAddrPort("127.0.0.1:1"), netip.Addr{}, "127.0.0.1", "91.11.190.91"},
		{"not told, socket", received, netip.AddrPort{}, netip.Addr{}, "91.11.190.91", "91.11.190.91"},
		{"no trace", "Subject: x\r\n", netip.MustParseAddrPort("127.0.0.1:1"), addr("192.0.2.7"), "192.0.2.7", "192.0.2.7"},
		{"private only", "Received: from a ([10.0.0.1]) by b\r\n", netip.AddrPort{}, addr("192.168.1.1"), "192.168.1.1", "invalid IP"},
		{"IPv6", "Received: from a (a [IPv6:2001:db8::1]) by b\r\n", netip.AddrPort{}, addr("2001:db8::2"), "2001:db8::2", "2001:db8::1"},
		{"rubbish", "Received: from [ by [1.2.3.4]\r\nReceived: [5.6.7.8]\r\nReceived:\r\n", netip.AddrPort{}, netip.Addr{}, "invalid IP", "invalid IP"},
	} {
		tx := &mail.Transaction{PeerAddr: c.peer, Client: mail.Client{Addr: c.client}, Message: mail.NewMessage([]byte(c.header + "\r\n"))}
		client, origin := clientAndOrigin(tx)
		if client.String() != c.first || origin.String() != c.oldest {
			t.Errorf("%s: client %s origin %s, want %s and %s", c.name, client, origin, c.first, c.oldest)
		}
	}
}

// TestQueueID: where nobody says the queue id, Postfix' own Received has it.
func TestQueueID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, header string
		ident        string
		input        mail.Input
		want         string
	}{
		{"told", "Received: by a (Postfix) id 3BBBBBB; x\r\n", "4AAAAAA", mail.InputLMTP, "4AAAAAA"},
		{"sendmail(1)", "Received: by mail.example.org (Postfix, from userid 1000)\r\n\tid 60AE113F8F9; Mon, 9 Aug 2021\r\n", "", mail.InputLMTP, "60AE113F8F9"},
		{"long id", "Received: from c (c [192.0.2.1])\r\n\tby a (Postfix) with ESMTP id 4Yl2Xk0zz9z1bQ\r\n\tfor <b@c>; x\r\n", "", mail.InputSMTP, "4Yl2Xk0zz9z1bQ"},
		{"only the topmost", "Received: by a\r\nReceived: by b (Postfix) id 3BBBBBB; x\r\n", "", mail.InputLMTP, ""},
		{"no queue before us", "Received: by b (Postfix) id 3BBBBBB; x\r\n", "", mail.InputMilter, ""},
		{"rubbish", "Received: by b id <script>; x\r\n", "", mail.InputLMTP, ""},
	} {
		tx := &mail.Transaction{Input: c.input, Client: mail.Client{Ident: c.ident, Source: "LOCAL"}, Message: mail.NewMessage([]byte(c.header + "\r\n"))}
		if got := queueID(tx); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
