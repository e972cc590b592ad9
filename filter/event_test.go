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
