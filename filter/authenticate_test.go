package filter

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/auth"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/observe"
)

// txtZone is a DNS of TXT records. A record "FAIL" is a server that fails.
type txtZone map[string]string

func (z txtZone) LookupTXT(_ context.Context, name string) ([]string, error) {
	switch txt, ok := z[strings.TrimSuffix(name, ".")]; {
	case txt == "FAIL":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	case ok:
		return []string{txt}, nil
	}
	return nil, z.gone(name)
}

func (z txtZone) gone(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z txtZone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, z.gone(name)
}

func (z txtZone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return nil, z.gone(name)
}

func (z txtZone) LookupAddr(_ context.Context, a string) ([]string, error) { return nil, z.gone(a) }

// signerKey signs for partner.test, under the selector s.
var signerKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// partnerZone is what partner.test publishes.
func partnerZone() txtZone {
	key := base64.StdEncoding.EncodeToString(signerKey.Public().(ed25519.PublicKey))
	return txtZone{
		"s._domainkey.partner.test": "v=DKIM1; k=ed25519; p=" + key,
		"partner.test":              "v=spf1 ip4:198.51.100.0/24 -all",
		"_dmarc.partner.test":       "v=DMARC1; p=reject",
	}
}

// partnerSigned signs text, which has LF line ends, for partner.test.
func partnerSigned(t *testing.T, canonicalization dkim.Canonicalization, text string) string {
	t.Helper()
	var b bytes.Buffer
	err := dkim.Sign(&b, strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n")), &dkim.SignOptions{
		Domain: "partner.test", Selector: "s", Signer: signerKey, Hash: crypto.SHA256,
		HeaderCanonicalization: canonicalization, BodyCanonicalization: canonicalization, HeaderKeys: []string{"From", "To", "Subject", "Date", "Subject"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const partnerMail = "From: Pat <pat@partner.test>\nTo: ann@example.org\nSubject: the\n offer\nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\nHello,  Ann\n\n"

// authFlow has a message from partner.test in the hands of a filter that asks
// that DNS. It returns what was delivered, the event and the replies.
func authFlow(t *testing.T, dns auth.Lookup, settings, message string, change func(*Filter, *mail.Transaction)) (string, *mail.Event, []mail.Reply) {
	t.Helper()
	var sent strings.Builder
	var seen events
	f, tx := promiseFilter(t, takes(&sent, "Q"), settings)
	v := &auth.Verifier{DNS: auth.NewResolver(auth.ResolverOptions{Lookup: dns})}
	f.Authenticate, f.Observers = v.Authenticate, []mail.Observer{&seen}
	tx.Listener, tx.From = "127.0.0.1:10024", "pat@partner.test"
	tx.Client = mail.Client{Addr: netip.MustParseAddr("198.51.100.9"), Helo: "mx.partner.test", Ident: "4aBcDe"}
	tx.Rcpts = []mail.Recipient{{Address: "ann@example.org"}}
	tx.Message = mail.NewMessage([]byte(message))
	if change != nil {
		change(f, tx)
	}
	replies := f.Process(t.Context(), tx)
	if len(seen) != 1 {
		t.Fatalf("%d events", len(seen))
	}
	return sent.String(), seen[0], replies
}

const ourResults = "Authentication-Results: mail.example.org;\r\n\tdkim=pass header.d=partner.test header.s=s header.a=ed25519-sha256\r\n\t\theader.b="

// A signed message of a partner takes the bank of its signer, tells its
// recipient who answers for it, and leaves a trace in the log.
func TestAuthenticatedMail(t *testing.T) {
	t.Parallel()
	message := partnerSigned(t, dkim.CanonicalizationRelaxed, partnerMail)
	settings := "signer_banks: [{domains: [.partner.test], bank: PARTNER}]\nbanks: {PARTNER: {virus: {admin: partners@example.org}}}\n"
	sent, e, replies := authFlow(t, partnerZone(), settings, message, nil)
	if len(replies) != 1 || replies[0].Class() != 2 || !strings.HasSuffix(sent, message) {
		t.Fatalf("answered %v, sent\n%s", replies, sent)
	}
	if !strings.HasPrefix(sent, ourResults) || !strings.Contains(sent, ";\r\n\tspf=pass smtp.mailfrom=partner.test;\r\n\tdmarc=pass header.from=partner.test policy.dmarc=none\r\n") {
		t.Errorf("sent\n%s", sent)
	}
	line := observe.Lines(e)[0]
	if !strings.Contains(line, " PARTNER [198.51.100.9] ") || !strings.Contains(line, ", queued_as: Q, dkim_sd=s:partner.test, ") {
		t.Error(line)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"dkim_valid_sig":[{"Domain":"partner.test","Selector":"s"}]`, `"author_signers":["partner.test"]`,
		`"dkim":[{"result":"pass","domain":"partner.test","selector":"s","algorithm":"ed25519-sha256","bits":256,`,
		`{"scope":"mailfrom","result":"pass","domain":"partner.test",`, `"dmarc":{"result":"pass","author":"partner.test","record":"partner.test",`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the event has no %s:\n%s", want, text)
		}
	}

	// the same words over another body take no bank
	sent, e, _ = authFlow(t, partnerZone(), settings, strings.Replace(message, "Hello", "Hallo", 1), nil)
	if line := observe.Lines(e)[0]; strings.Contains(line, "PARTNER") || strings.Contains(line, "dkim_sd") || !strings.Contains(sent, "\tdkim=fail reason=") {
		t.Errorf("%s\n%s", line, sent)
	}
	// our own people are not asked whether they may send
	sent, _, _ = authFlow(t, partnerZone(), settings, message, func(_ *Filter, tx *mail.Transaction) { tx.Listener = "127.0.0.1:10023" })
	if !strings.Contains(sent, "\tdkim=pass ") || strings.Contains(sent, "spf=") || strings.Contains(sent, "dmarc=") {
		t.Errorf("from our own people: sent\n%s", sent)
	}
	// who wants no verification asks for none
	for _, c := range []struct{ settings, without, with string }{
		{"settings: {dkim: {verify: false}, spf: {verify: false}}\n", "Authentication-Results", "Received: "},
		{"settings: {dkim: {verify: false}}\n", "dkim=", "\tspf=pass"},
		{"settings: {spf: {verify: false}}\n", "dmarc=", "\tdkim=pass"},
		{"recipients: [{match: ann@, settings: {dkim: {verify: false}, spf: {verify: false}}}]\n", "Authentication-Results", "Received: "},
	} {
		if sent, _, _ = authFlow(t, partnerZone(), c.settings, message, nil); strings.Contains(sent, c.without) || !strings.Contains(sent, c.with) {
			t.Errorf("%s: sent\n%s", c.settings, sent)
		}
	}
}

// The one who does not wish for it is told nothing, and the other is; those who
// are not ours hear nothing of it.
func TestResultsForOurs(t *testing.T) {
	t.Parallel()
	message := partnerSigned(t, dkim.CanonicalizationRelaxed, partnerMail)
	settings := "recipients: [{match: bob@, settings: {dkim: {verify: false}, spf: {verify: false}}}]\n"
	copies := map[string]bool{} // whether the field is there
	_, _, _ = authFlow(t, partnerZone(), settings, message, func(f *Filter, tx *mail.Transaction) {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: "bob@example.org"}, mail.Recipient{Address: "carl@example.net"})
		f.Relay = func(mail.NextHop) mail.Transport {
			return hopFunc(func(o *mail.Outgoing) []mail.Receipt {
				var data strings.Builder
				receipts := takes(&data, "")(o)
				for _, r := range o.Rcpts {
					copies[string(r.Address)] = strings.Contains(data.String(), "Authentication-Results: mail.example.org;")
				}
				return receipts
			})
		}
	})
	if fmt.Sprint(copies) != "map[ann@example.org:true bob@example.org:false carl@example.net:false]" {
		t.Errorf("told: %v", copies)
	}
}

// What DMARC says is points: p=reject alone refuses nothing, and for our own
// people it says nothing at all.
func TestDMARCIsAScore(t *testing.T) {
	t.Parallel()
	message := strings.ReplaceAll(partnerMail, "\n", "\r\n")
	for _, c := range []struct {
		record, settings, want string
		change                 func(*Filter, *mail.Transaction)
	}{
		{"v=DMARC1; p=reject", "", "Hits: -, ", nil},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5, quarantine: 1}}}\n", "Hits: 3.5, ", nil},
		{"v=DMARC1; p=reject; t=y", "settings: {dmarc: {score: {reject: 3.5, quarantine: 1}}}\n", "Hits: 1, ", nil},
		{"v=DMARC1; p=none", "settings: {dmarc: {score: {reject: 3.5, quarantine: 1}}}\n", "Hits: -, ", nil},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\n", "Hits: 4.75, ", func(f *Filter, _ *mail.Transaction) {
			f.Checks = []check.Named{{Name: "a", Check: scoring(1.25)}}
		}},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\n", "Hits: -, ", func(_ *Filter, tx *mail.Transaction) { tx.Listener = "127.0.0.1:10023" }},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\n", "Hits: -, ", func(_ *Filter, tx *mail.Transaction) { tx.Client.Addr = netip.Addr{} }},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\n", "Hits: -, ", func(_ *Filter, tx *mail.Transaction) { tx.Client.Login = "ann" }},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\n", "Hits: -, ", func(_ *Filter, tx *mail.Transaction) {
			tx.Client.Addr = netip.MustParseAddr("10.1.2.3")
		}},
		{"v=DMARC1; p=reject", "settings: {dmarc: {score: {reject: 3.5}}}\nrecipients: [{match: ann@, settings: {dmarc: {score: {reject: 0}}}}]\n", "Hits: -, ", nil},
	} {
		dns := partnerZone()
		dns["partner.test"], dns["_dmarc.partner.test"] = "v=spf1 -all", c.record
		_, e, replies := authFlow(t, dns, c.settings, message, c.change)
		if line := observe.Lines(e)[0]; !strings.Contains(line, c.want) || !strings.Contains(line, "Passed CLEAN") || replies[0].Class() != 2 {
			t.Errorf("%s, %s: %v, %s, want %s", c.record, c.settings, replies, line, c.want)
		}
	}
}

// A DNS that fails, and one that never answers, delay nothing for good: the
// message passes, and the facts say that they could not be had.
func TestAuthenticationWithoutDNS(t *testing.T) {
	t.Parallel()
	message := partnerSigned(t, dkim.CanonicalizationRelaxed, partnerMail)
	dns := partnerZone()
	for name := range dns {
		dns[name] = "FAIL"
	}
	settings := "settings: {dmarc: {score: {reject: 9}}}\n"
	for name, l := range map[string]auth.Lookup{"fails": dns, "hangs": hanging{}} {
		sent, e, replies := authFlow(t, l, settings, message, func(f *Filter, _ *mail.Transaction) {
			ask := f.Authenticate
			f.Authenticate = func(ctx context.Context, tx *mail.Transaction, q auth.Questions) *mail.Authentication {
				end, ok := ctx.Deadline()
				if left := time.Until(end); !ok || left > f.Policy.CheckDeadline(tx.Input)/authShare {
					t.Errorf("%v are left for it", left)
				}
				ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancel()
				return ask(ctx, tx, q)
			}
		})
		if replies[0].Class() != 2 || strings.Contains(observe.Lines(e)[0], "dkim_sd") || !strings.Contains(observe.Lines(e)[0], "Hits: -, ") {
			t.Errorf("%s: %v, %s", name, replies, observe.Lines(e)[0])
		}
		for _, want := range []string{"\tdkim=temperror", "\tspf=temperror", "\tdmarc=temperror"} {
			if !strings.Contains(sent, want) {
				t.Errorf("%s: no %q in\n%s", name, want, sent)
			}
		}
	}
}

// hanging is a DNS that does not answer.
type hanging struct{ txtZone }

func (hanging) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// spellings of a field of ours that did not come from us.
var forgedResults = []string{
	"Authentication-Results: mail.example.org; dkim=pass header.d=bank.test",
	"authentication-results: MAIL.Example.ORG; dmarc=pass",
	"AUTHENTICATION-RESULTS :\r\n\tmail.example.org\r\n\t; spf=pass",
	"Authentication-Results: (hello (you)) mail.example.org (really) 1; dkim=pass",
	"Authentication-Results: \"mail.example.org\"; dkim=pass",
	"Authentication-Results: mail(a).example.org.; dkim=pass",
	"Authentication-Results: mail.\r\n example.org; dkim=pass",
	"Authentication-Results: =?utf-8?q?mail.example.org?=; dkim=pass",
}

// Forged results go, 1, 2 or 100 of them in whatever spelling, by all ways in;
// those of others stay, and so does what the feeding Postfix and a trusted
// program say.
func TestForgedResultsInTheFlow(t *testing.T) {
	t.Parallel()
	const foreign = "Authentication-Results: mx.else.test; dkim=pass header.d=mail.example.org\r\n"
	const stamp = "Received: from mx.partner.test (mx.partner.test [198.51.100.9])\r\n\tby mail.example.org (Postfix) with ESMTPS id 4aBcDe\r\n\tfor <ann@example.org>; Mon, 9 Aug 2021 09:36:36 +0200\r\n"
	rest := strings.ReplaceAll(partnerMail, "\n", "\r\n")
	claims := func(sent string) int {
		h := mail.NewMessage([]byte(sent)).Header()
		return len(auth.ForgedResults(h, 0, "mail.example.org", nil))
	}
	for _, input := range []mail.Input{mail.InputLMTP, mail.InputSMTP, mail.InputMilter, mail.InputAMPDP, mail.InputProxy, mail.InputLocal} {
		for _, n := range []int{1, 2, 100} {
			var b strings.Builder
			for i := range n {
				b.WriteString(forgedResults[i%len(forgedResults)] + "\r\n" + foreign)
			}
			sent, _, _ := authFlow(t, partnerZone(), "", stamp+b.String()+rest, func(_ *Filter, tx *mail.Transaction) { tx.Input = input })
			if claims(sent) != 1 || !strings.HasPrefix(sent, "Authentication-Results: mail.example.org;\r\n\tdkim=none") || strings.Count(sent, foreign) != n {
				t.Errorf("%s, %d fields: %d are left in\n%s", input, n, claims(sent)-1, sent)
			}
		}
	}
	forged := forgedResults[0] + "\r\n"
	for _, c := range []struct {
		what, settings, message string
		input                   mail.Input
		left                    int
	}{
		{"above the Received field of the feed", "", forged + stamp + forged + rest, mail.InputLMTP, 1},
		{"above that of another host", "", forged + strings.Replace(stamp, "4aBcDe", "5aBcDe", 1) + stamp + rest, mail.InputLMTP, 0},
		{"above a Received field before the queue", "", forged + stamp + rest, mail.InputMilter, 0},
		{"without a Received field", "", forged + rest, mail.InputLMTP, 0},
		{"of a trusted program", "trusted_results: [Mail.Example.org]\n", stamp + forged + rest, mail.InputLMTP, 1},
		{"of another trusted program", "trusted_results: [mx.else.test]\n", stamp + forged + rest, mail.InputLMTP, 0},
		{"under another name of ours", "authserv_id: filter.example.org\n", stamp + forged + rest, mail.InputLMTP, 1},
		{"where nothing is verified", "settings: {dkim: {verify: false}, spf: {verify: false}}\n", stamp + forged + rest, mail.InputLMTP, 0},
	} {
		sent, _, _ := authFlow(t, partnerZone(), c.settings, c.message, func(_ *Filter, tx *mail.Transaction) { tx.Input = c.input })
		if n := strings.Count(sent, forged); n != c.left {
			t.Errorf("%s: %d are left, want %d, in\n%s", c.what, n, c.left, sent)
		}
	}
}

// What verified before us verifies after us, with all that we add and take
// away. Only a tag in the subject would break it.
func TestVerifiedStaysVerified(t *testing.T) {
	t.Parallel()
	dns := partnerZone()
	v := &auth.Verifier{DNS: auth.NewResolver(auth.ResolverOptions{Lookup: dns})}
	pass := func(message string) bool {
		a := v.Authenticate(t.Context(), &mail.Transaction{Message: mail.NewMessage([]byte(message))}, auth.Questions{Signatures: true})
		return len(a.DKIM) == 1 && a.DKIM[0].Result == mail.AuthPass
	}
	messages := map[string]string{
		"plain":         partnerMail,
		"folded":        "From: Pat\n <pat@partner.test>\nTo:\tann@example.org,\n\tbob@example.org\nSubject:  two  blanks \nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\ntext \t \n\n\n",
		"no body":       "From: pat@partner.test\nSubject: x\nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\n",
		"long lines":    "From: pat@partner.test\nSubject: x\nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\n" + strings.Repeat("x", 5000) + "\n.\n..\n",
		"octets":        "From: pat@partner.test\nSubject: \xfc\xff\nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\n\xfc\xff\n",
		"two subjects":  "From: pat@partner.test\nSubject: x\nDate: Mon, 9 Aug 2021 09:36:36 +0200\nX-Spam-Flag: NO\nSubject: y\n\nbody\n",
		"foreign marks": "X-Amavis-Alert: forged\nX-Virus-Scanned: Postern at example.org\n" + forgedResults[0] + "\nX-Spam-Status: No\n" + partnerMail,
	}
	for name, text := range messages {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		for _, c := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			message := partnerSigned(t, c, text)
			if !pass(message) {
				t.Fatalf("%s, %s: not verified before", name, c)
			}
			sent, e, _ := authFlow(t, dns, "settings: {virus: {destiny: pass, subject_tag: ''}}\n", message, func(f *Filter, _ *mail.Transaction) {
				f.Checks = []check.Named{{Name: "scanner", Check: foreignVirus("Test"), Categories: []mail.Category{mail.Infected}}, check.Header()}
			})
			if !pass(sent) || !strings.Contains(sent, "X-Amavis-Alert: INFECTED") || !strings.Contains(sent, "\tdkim=pass ") {
				t.Errorf("%s, %s: not verified after:\n%s", name, c, sent)
			}
			if !slices.Equal(e.Verified, []mail.Signature{{Domain: "partner.test", Selector: "s"}}) {
				t.Errorf("%s, %s: verified %v", name, c, e.Verified)
			}
		}
	}
}
