//go:build integration

package integration

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// records are the TXT records of a DNS, by name. All other names do not exist.
type records map[string]string

// startDNS answers with records until the test ends, and returns its address.
func startDNS(t *testing.T, r records) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		question := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if reply, err := r.answer(question[:n]); err == nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); served.Wait() })
	return conn.LocalAddr().String()
}

func (r records) answer(question []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError},
		Questions: []dnsmessage.Question{q},
	}
	if txt, ok := r[strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")]; ok {
		m.RCode = dnsmessage.RCodeSuccess
		if q.Type == dnsmessage.TypeTXT {
			var pieces []string // of at most 255 octets, as long keys are published
			for piece := range slices.Chunk([]byte(txt), 255) {
				pieces = append(pieces, string(piece))
			}
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 300},
				Body:   &dnsmessage.TXTResource{TXT: pieces},
			}}
		}
	}
	return m.Pack()
}
