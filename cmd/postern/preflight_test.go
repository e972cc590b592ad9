package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"postern/filter/auth"
)

// TestProbeDomain: what receivers will miss is said before they refuse.
func TestProbeDomain(t *testing.T) {
	t.Parallel()
	newKey := func(selector string) *auth.Key {
		t.Helper()
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k, err := auth.NewKey("example.org", selector, private)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, other := newKey("s2026"), newKey("s2027")
	all := map[string]string{k.RecordName(): k.Record(), "example.org": "v=spf1 mx -all", "_dmarc.example.org": "v=DMARC1; p=reject; rua=mailto:x@example.org"}
	without := func(names ...string) map[string]string {
		out := map[string]string{}
		for name, record := range all {
			out[name] = record
		}
		for _, name := range names {
			delete(out, name)
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		keys    []*auth.Key
		records map[string]string
		said    string
		err     string
	}{
		{"good", []*auth.Key{k}, all, "signed by s2026, SPF, DMARC p=reject", ""},
		{"no key in the DNS", []*auth.Key{k}, without(k.RecordName()), "SPF, DMARC p=reject", "s2026._domainkey.example.org: there is no TXT record (hint: postern dkim show prints it)"},
		{"one of two", []*auth.Key{k, other}, all, "signed by s2026, SPF, DMARC p=reject", "s2027._domainkey.example.org: there is no TXT record (hint: postern dkim show prints it)"},
		{"another key in the DNS", []*auth.Key{k}, map[string]string{k.RecordName(): other.Record()}, "no SPF record: large receivers refuse such mail, no DMARC record: large receivers refuse such mail", "s2026._domainkey.example.org: the DNS has another key (hint: postern dkim show prints ours)"},
		{"no key in force", nil, all, "SPF, DMARC p=reject", "no DKIM key is in force, it goes out unsigned"},
		{"only another TXT", []*auth.Key{k}, map[string]string{k.RecordName(): k.Record(), "example.org": "hello", "_dmarc.example.org": "v=DMARC1;p=none"}, "signed by s2026, no SPF record: large receivers refuse such mail, DMARC p=none", ""},
	} {
		lookup := func(_ context.Context, name string) ([]string, error) {
			if r, ok := tt.records[name]; ok {
				return []string{r}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		p := probeDomain(t.Context(), "example.org", tt.keys, lookup)
		if p.Said != tt.said || p.Error != tt.err {
			t.Errorf("%s: %q, %q", tt.name, p.Said, p.Error)
		}
	}
	silent := func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	}
	if p := probeDomain(t.Context(), "example.org", []*auth.Key{k}, silent); !strings.Contains(p.Error, "the DNS gave no answer") || p.Said != "" {
		t.Errorf("%+v", p)
	}
	keys, err := auth.NewKeys(k, other)
	if err != nil {
		t.Fatal(err)
	}
	other.From = time.Now().Add(time.Hour)
	if m := signingKeys(keys, time.Now()); len(m) != 1 || len(m["example.org"]) != 1 {
		t.Errorf("%v", m)
	}
	k.Until = time.Now()
	if m, ok := signingKeys(keys, time.Now())["example.org"]; !ok || len(m) != 0 {
		t.Errorf("%v", m)
	}
}
