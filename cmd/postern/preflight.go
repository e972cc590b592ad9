package main

// check --probe: would large receivers take the mail of our domains? Since 2025
// they refuse mail whose author's domain has no DKIM signature, no SPF or no
// DMARC record.

import (
	"context"
	"slices"
	"strings"
	"time"

	"postern/filter/auth"
)

// signingKeys are the keys that sign at that time, by domain; a domain of which
// none does is there without any.
func signingKeys(keys *auth.Keys, now time.Time) map[string][]*auth.Key {
	out := map[string][]*auth.Key{}
	for _, k := range keys.All() {
		signing := out[k.Domain]
		if k.InForce(now) {
			signing = append(signing, k)
		}
		out[k.Domain] = signing
	}
	return out
}

// probeDomain looks for what receivers will look for. What is wrong for all mail
// of the domain is an error, what some receivers miss is said.
func probeDomain(ctx context.Context, domain string, keys []*auth.Key, lookup lookupTXT) probed {
	p := probed{What: "mail of " + domain}
	began := time.Now()
	var said, wrong []string
	for _, k := range keys {
		warning, err := testKey(ctx, k, lookup)
		switch {
		case err != nil:
			wrong = append(wrong, k.RecordName()+": "+err.Error())
		case warning != "":
			said = append(said, "signed by "+k.Selector+", but "+warning)
		default:
			said = append(said, "signed by "+k.Selector)
		}
	}
	if len(keys) == 0 {
		wrong = append(wrong, "no DKIM key is in force, it goes out unsigned")
	}
	for _, r := range []struct{ what, name, begins, without string }{
		{"SPF", domain, "v=spf1", "no SPF record"},
		{"DMARC", "_dmarc." + domain, "v=DMARC1", "no DMARC record"},
	} {
		records, err := lookup(ctx, r.name)
		is := func(s string) bool {
			return len(s) >= len(r.begins) && strings.EqualFold(s[:len(r.begins)], r.begins)
		}
		switch i := slices.IndexFunc(records, is); {
		case unanswered(err):
			wrong = append(wrong, r.name+": the DNS gave no answer: "+err.Error())
		case i < 0:
			said = append(said, r.without+": large receivers refuse such mail")
		case r.what == "DMARC":
			said = append(said, r.what+" p="+recordTags(records[i])["p"])
		default:
			said = append(said, r.what)
		}
	}
	p.Millis = float64(time.Since(began).Microseconds()) / 1000
	p.Said = strings.Join(said, ", ")
	if len(wrong) > 0 {
		p.Error = strings.Join(wrong, "; ")
	}
	return p
}
