package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

// keyZone is a DNS with the public halves of keys.
func keyZone(keys *Keys) zone {
	z := zone{}
	for _, k := range keys.All() {
		z["TXT "+k.RecordName()] = []string{k.Record()}
	}
	return z
}

// results returns "result" of each signature, and reasons for the test's log.
func results(t testing.TB, dns Lookup, msg []byte) (words []string, all []mail.DKIMResult) {
	t.Helper()
	all, _ = verifier(dns).signatures(t.Context(), mail.NewMessage(msg))
	for _, r := range all {
		words = append(words, string(r.Result))
		if (r.Result == mail.AuthPass) != (r.Reason == "") {
			t.Errorf("%s, and the reason is %q", r.Result, r.Reason)
		}
	}
	return words, all
}

// crlfs gives a text the line ends of mail.
func crlfs(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// What we sign verifies, whatever the message looks like.
func TestVerifyOurs(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "rsa r:x.test", "ed25519 e:x.test")
	for name, msg := range oddMessages {
		words, all := results(t, keyZone(keys), signed(t, keys, msg))
		if !slices.Equal(words, []string{"pass", "pass"}) {
			t.Errorf("%s: %+v", name, all)
			continue
		}
		if r := all[0]; r.Selector+":"+r.Domain != "r:x.test" || r.Algorithm != "rsa-sha256" || r.Bits != 2048 || len(r.Start) != 8 || r.Testing {
			t.Errorf("%s: %+v", name, r)
		}
		if r := all[1]; r.Selector+":"+r.Domain != "e:x.test" || r.Algorithm != "ed25519-sha256" || r.Bits != 256 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestVerifyBroken(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	good := string(signed(t, keys, crlfs(ordinary)))
	for name, change := range map[string][2]string{
		"body":         {"Hello,", "Hallo,"},
		"subject":      {"Subject: two", "Subject: three"},
		"from":         {"ann@x.test", "eve@x.test"},
		"second from":  {"From: Ann", "From: eve@y.test\r\nFrom: Ann"},
		"from below":   {"MIME-Version: 1.0\r\n", "MIME-Version: 1.0\r\nFrom: eve@y.test\r\n"},
		"field added":  {"\r\nSubject:", "\r\nReply-To: eve@y.test\r\nSubject:"},
		"body added":   {"this\tis\tit.\r\n", "this\tis\tit.\r\nmore\r\n"},
		"field lost":   {"MIME-Version: 1.0\r\n", ""},
		"another hash": {"bh=", "bh=A"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Errorf("%s: nothing was changed", name)
		}
		if words, all := results(t, keyZone(keys), []byte(bad)); len(words) != 1 || words[0] == "pass" {
			t.Errorf("%s: %+v", name, all)
		}
	}
	for name, change := range map[string][2]string{
		"trace field": {"DKIM-Signature:", "Received: from a\r\nDKIM-Signature:"},
		"blanks":      {"Subject: two\r\n lines", "Subject:  two \r\n\tlines"},
		"end of body": {"this\tis\tit.\r\n", "this\tis\tit.  \r\n\r\n\r\n"},
	} {
		same := strings.Replace(good, change[0], change[1], 1)
		if words, all := results(t, keyZone(keys), []byte(same)); same == good || !slices.Equal(words, []string{"pass"}) {
			t.Errorf("%s: %+v", name, all)
		}
	}
}

// RFC 8463 appendix A: both signatures of its message, the keys as printed.
func TestVerifyRFC8463(t *testing.T) {
	t.Parallel()
	const msg = `DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`
	dns := zone{
		"TXT brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		"TXT test._domainkey.football.example.com": {"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR" +
			"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC" +
			"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3" +
			"Ip3G+2kryOTIKT+l/K4w3QIDAQAB"},
	}
	words, all := results(t, dns, []byte(crlfs(msg)))
	if !slices.Equal(words, []string{"pass", "pass"}) {
		t.Errorf("%+v", all)
	}
}

// dkimpyData reads a file of the test data of Debian's python3-dkim.
func dkimpyData(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/usr/lib/python3/dist-packages/dkim/tests/data", name))
	if err != nil {
		t.Skip("package python3-dkim is not installed: ", err)
	}
	return data
}

func TestVerifyDkimpyVectors(t *testing.T) {
	t.Parallel()
	dns := zone{
		"TXT brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		"TXT test._domainkey.football.example.com":     {strings.TrimSpace(string(dkimpyData(t, "test.txt")))},
	}
	for file, want := range map[string][]string{
		"rfc6376.signed.msg":     {"pass", "pass"},
		"rfc6376.signed.rsa.msg": {"pass"},
	} {
		if words, all := results(t, dns, []byte(crlfs(string(dkimpyData(t, file))))); !slices.Equal(words, want) {
			t.Errorf("%s: %+v", file, all)
		}
	}
	// keys that dkimpy's tests hold for wrong
	block, _ := pem.Decode(dkimpyData(t, "test.private"))
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey("example.com", "test", key)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := NewKeys(k)
	msg := signed(t, keys, crlfs(strings.ReplaceAll(ordinary, "x.test", "example.com")))
	for file, want := range map[string]string{"test.txt": "pass", "test2.txt": "pass", "badversion.txt": "permerror", "badk.txt": "permerror", "test_bad.txt": "permerror"} {
		dns := zone{"TXT test._domainkey.example.com": {strings.TrimSpace(string(dkimpyData(t, file)))}}
		if words, all := results(t, dns, msg); !slices.Equal(words, []string{want}) {
			t.Errorf("%s: %+v, want %s", file, all, want)
		}
	}
}

// sealed signs with go-msgauth itself, for what our own signer does not do.
func sealed(t testing.TB, o dkim.SignOptions, msg string) []byte {
	t.Helper()
	if o.Signer == nil {
		o.Signer = edKey()
	}
	if o.Domain == "" {
		o.Domain = "x.test"
	}
	o.Selector, o.Hash = "e", crypto.SHA256
	if o.HeaderKeys == nil {
		o.HeaderKeys = []string{"From", "Subject"}
	}
	var b bytes.Buffer
	if err := dkim.Sign(&b, strings.NewReader(crlfs(msg)), &o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const plain = "From: Ann <ann@x.test>\nSubject: x\n\nbody\n"

// What the tags of a signature say, judged before anybody is asked.
func TestVerifyTags(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	good := string(sealed(t, dkim.SignOptions{}, plain))
	timeless := regexp.MustCompile(` t=\d+;`).ReplaceAllString(good, "")
	tag := func(s string) string { return strings.Replace(timeless, " v=1;", " v=1; "+s+";", 1) }
	for _, c := range []struct{ name, msg, want, reason string }{
		{"good", good, "pass", ""},
		{"no signature", plain, "", ""},
		{"no value", "DKIM-Signature:\r\nFrom: a@x.test\r\n\r\n", "permerror", "there is no v="},
		{"rubbish", "DKIM-Signature: x\r\nFrom: a@x.test\r\n\r\n", "neutral", "no name or no value"},
		{"twice", tag("d=x.test"), "neutral", "comes twice"},
		{"version", strings.Replace(good, "v=1", "v=2", 1), "neutral", "version"},
		{"SHA-1", strings.Replace(good, "a=ed25519-sha256", "a=rsa-sha1", 1), "fail", "RFC 8301"},
		{"algorithm", strings.Replace(good, "a=ed25519-sha256", "a=rsa-sha3", 1), "neutral", "algorithm"},
		{"canonicalization", strings.Replace(good, "c=simple/simple", "c=nofws", 1), "neutral", "canonicalization"},
		{"query", tag("q=http"), "neutral", "not in the DNS"},
		{"length", tag("l=4"), "policy", "l="},
		{"expired", tag("x=1000000000"), "fail", "expired"},
		{"expires later", tag("x=99999999999"), "fail", "did not verify"},
		{"expires first", tag("t=1000000001; x=1000000000"), "permerror", "expires before"},
		{"no time", tag("x=soon"), "permerror", "not a time"},
		{"agent", tag("i=@y.test"), "permerror", "i="},
		{"agent, part of a name", tag("i=@evilx.test"), "permerror", "i="},
		{"agent, case", tag("i=@X.test"), "neutral", "case"},
		{"agent below", tag("i=@sub.x.test"), "fail", "did not verify"},
		{"domain", strings.Replace(good, "d=x.test", "d=x..test", 1), "permerror", "not a name"},
		{"domain in UTF-8", strings.Replace(good, "d=x.test", "d=\u00fc.test", 1), "permerror", "not a name"},
		{"selector", strings.Replace(good, "s=e;", "s=e/../f;", 1), "permerror", "not a name"},
		{"from not signed", strings.Replace(good, "h=From:", "h=To:", 1), "permerror", "From is not signed"},
		{"no field name", strings.Replace(good, "h=From:", "h=From:a\x00b:", 1), "permerror", "no field"},
		{"many names", strings.Replace(good, "h=From:", "h=From:"+strings.Repeat("a:", maxNamesSigned), 1), "permerror", "h= has"},
		{"copied header", tag("z=Subject:Job=20offer"), "neutral", "z="},
		{"a tag in b", tag("xb=1"), "neutral", "xb="},
		{"many tags", tag(manyTags()), "neutral", "too many"},
		{"long", tag("n=" + strings.Repeat("x", maxTagged)), "neutral", "too long"},
		{"bad base64", strings.Replace(good, "bh=", "bh=!", 1), "permerror", "body hash"},
	} {
		words, all := results(t, keyZone(keys), []byte(c.msg))
		if got := strings.Join(words, " "); got != c.want || c.reason != "" && !strings.Contains(all[0].Reason, c.reason) {
			t.Errorf("%s: %+v, want %s, %s", c.name, all, c.want, c.reason)
		}
	}
}

func manyTags() string {
	var tags []string
	for i := range 100 {
		tags = append(tags, fmt.Sprintf("y%d=1", i))
	}
	return strings.Join(tags, ";")
}

// What is published at the place of the key.
func TestVerifyKeys(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	msg := string(sealed(t, dkim.SignOptions{}, plain))
	record := keys.All()[0].Record()
	_, p, _ := strings.Cut(record, "p=")
	rsaRecord := testKeys(t, "rsa r:x.test").All()[0].Record()
	for _, c := range []struct {
		name    string
		records []string
		want    string
	}{
		{"good", []string{record}, "pass"},
		{"no version", []string{"k=ed25519; p=" + p}, "pass"},
		{"folded", []string{"v=DKIM1; k=ed25519; p=" + p[:10] + " \t" + p[10:]}, "pass"},
		{"without padding", []string{"v=DKIM1; k=ed25519; p=" + strings.TrimRight(p, "=")}, "pass"},
		{"a note", []string{record + "; n=what=20ever; x=y"}, "pass"},
		{"another record beside", []string{"v=spf1 -all", record}, "pass"},
		{"two keys", []string{record, record}, "permerror"},
		{"none", []string{}, "permerror"},
		{"another record only", []string{"v=spf1 -all"}, "permerror"},
		{"revoked", []string{"v=DKIM1; k=ed25519; p="}, "permerror"},
		{"version", []string{strings.Replace(record, "DKIM1", "DKIM2", 1)}, "permerror"},
		{"version not first", []string{"k=ed25519; v=DKIM1; p=" + p}, "permerror"},
		{"kind", []string{"v=DKIM1; p=" + p}, "permerror"},
		{"rsa", []string{rsaRecord}, "permerror"},
		{"size", []string{"v=DKIM1; k=ed25519; p=AAAA"}, "permerror"},
		{"base64", []string{"v=DKIM1; k=ed25519; p=!"}, "permerror"},
		{"for SHA-1", []string{record + "; h=sha1"}, "permerror"},
		{"for SHA-256 too", []string{record + "; h=sha1:sha256"}, "pass"},
		{"for another service", []string{record + "; s=tlsrpt"}, "permerror"},
		{"for mail", []string{record + "; s=tlsrpt:email"}, "pass"},
		{"not for domains below", []string{record + "; t=s"}, "pass"},
		{"testing", []string{record + "; t=y:s"}, "pass"},
		{"no answer", []string{"FAIL"}, "temperror"},
	} {
		words, all := results(t, zone{"TXT e._domainkey.x.test": c.records}, []byte(msg))
		if !slices.Equal(words, []string{c.want}) {
			t.Errorf("%s: %+v, want %s", c.name, all, c.want)
			continue
		}
		if all[0].Testing != (c.name == "testing") {
			t.Errorf("%s: testing is %v", c.name, all[0].Testing)
		}
	}
	below := sealed(t, dkim.SignOptions{Identifier: "@sub.x.test"}, plain)
	for flags, want := range map[string]string{"": "pass", "; t=s": "permerror"} {
		if words, all := results(t, zone{"TXT e._domainkey.x.test": {record + flags}}, below); !slices.Equal(words, []string{want}) {
			t.Errorf("i= below, %q: %+v", flags, all)
		}
	}
}

// rsaRecord makes the record of an RSA key of some size that signed nothing.
func rsaRecord(t *testing.T, bits int) string {
	t.Helper()
	n := make([]byte, bits/8)
	_, _ = rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(der)
}

// RFC 8301 section 3.2: at least 1024 bits. Too many are a burden.
func TestVerifyKeySizes(t *testing.T) {
	t.Parallel()
	msg := bytes.Replace(sealed(t, dkim.SignOptions{}, plain), []byte("ed25519-sha256"), []byte("rsa-sha256"), 1)
	for bits, want := range map[int]string{512: "an RSA key of 512 bits", 768: "an RSA key of 768 bits", 1016: "an RSA key of 1016 bits",
		1024: "signature did not verify", 4096: "signature did not verify", 8192: "signature did not verify", 16384: "too long", 60000: "too long"} {
		words, all := results(t, zone{"TXT e._domainkey.x.test": {rsaRecord(t, bits)}}, msg)
		if len(words) != 1 || words[0] == "pass" || !strings.Contains(all[0].Reason, want) {
			t.Errorf("%d bits: %+v", bits, all)
		}
		if bits <= maxRSABits && all[0].Bits != bits {
			t.Errorf("%d bits, said to be %d", bits, all[0].Bits)
		}
		if bits < minRSABits && words[0] != "fail" {
			t.Errorf("%d bits: %s", bits, words[0])
		}
	}
}

func TestVerifyManySignatures(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	good := string(sealed(t, dkim.SignOptions{HeaderCanonicalization: "relaxed"}, plain))
	field, _, _ := strings.Cut(good, "From: ")
	dns := &counting{Lookup: keyZone(keys)}
	v := verifier(dns)
	all, rest := v.signatures(t.Context(), mail.NewMessage([]byte(strings.Repeat(field, 2000)+good)))
	if len(all) != maxSignatures || rest != 2001-maxSignatures || dns.count() != 1 {
		t.Errorf("%d looked at, %d not, %d questions", len(all), rest, dns.count())
	}
	for _, r := range all {
		if r.Result != mail.AuthPass {
			t.Errorf("%+v", r)
		}
	}
	a := &mail.Authentication{DKIM: all}
	if got := a.Valid(); len(got) != 1 || got[0].String() != "e:x.test" {
		t.Errorf("valid: %v", got)
	}
}

// A signature over another one.
func TestVerifySignedSignature(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	inner := sealed(t, dkim.SignOptions{}, plain)
	outer := sealed(t, dkim.SignOptions{HeaderKeys: []string{"From", "DKIM-Signature"}}, strings.ReplaceAll(string(inner), "\r\n", "\n"))
	if words, all := results(t, keyZone(keys), outer); !slices.Equal(words, []string{"pass", "pass"}) {
		t.Errorf("%+v", all)
	}
	broken := bytes.Replace(outer, []byte("\r\nFrom:"), []byte("\r\nDKIM-Signature: x\r\nFrom:"), 1)
	if words, all := results(t, keyZone(keys), broken); !slices.Equal(words, []string{"fail", "pass", "neutral"}) {
		t.Errorf("%+v", all)
	}
}

// costly messages are to make the verifier slow.
func costly(t testing.TB) map[string]string {
	good := string(sealed(t, dkim.SignOptions{}, plain))
	field, _, _ := strings.Cut(good, "From: ")
	header, _, _ := strings.Cut(good, "\r\n\r\n")
	return map[string]string{
		"empty lines":   strings.Repeat(field, 8) + header + strings.Repeat("\r\n", 4<<20),
		"fields":        strings.Repeat(field, 8) + "From: a@x.test\r\n" + strings.Repeat("Subject: x\r\n", 200000) + "\r\n",
		"folds":         strings.Repeat(field, 8) + "From: a@x.test\r\nSubject: x" + strings.Repeat("\r\n ", 1000000) + "x\r\n\r\n",
		"folds between": strings.Repeat(field, 8) + "From: a@x.test\r\nSubject: x" + strings.Repeat("\r\n x", 20000) + "x\r\n\r\n",
		"unsigned":      strings.Repeat(field, 8) + "From: a@x.test\r\nOther: x" + strings.Repeat("\r\n ", 1000000) + "x\r\n\r\n",
		"long names":    strings.Repeat(strings.Replace(field, "h=", "h="+strings.Repeat("subject:", 490), 1), 8) + "From: a@x.test\r\n" + strings.Repeat("Subject: x\r\n", 200000) + "\r\n",
		"blanked":       strings.Repeat(strings.Replace(field, "v=1", "v=1; n="+strings.Repeat("b ", 15000), 1), 8) + header + "\r\n\r\n",
	}
}

func TestVerifyCostly(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	for name, msg := range costly(t) {
		if _, all := results(t, keyZone(keys), []byte(msg)); len(all) != maxSignatures {
			t.Errorf("%s: %d signatures", name, len(all))
		}
	}
}

func BenchmarkVerifyCostly(b *testing.B) {
	keys := testKeys(b, "ed25519 e:x.test")
	for name, msg := range costly(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				results(b, keyZone(keys), []byte(msg))
			}
		})
	}
}

// A DNS that does not answer holds a message up no longer than the deadline.
func TestVerifyDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := verifier(&stuck{})
		good := string(sealed(t, dkim.SignOptions{}, plain))
		field, _, _ := strings.Cut(good, "From: ")
		msg := []byte(strings.Repeat(field, 7) + good)
		// the context has less time than there is by default
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		a := v.Authenticate(ctx, transaction(string(msg), "192.0.2.1"), both)
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("took %v", took)
		}
		for _, r := range a.DKIM {
			if r.Result != mail.AuthTempError {
				t.Errorf("%+v", r)
			}
		}
		if len(a.DKIM) != 8 || len(a.SPF) != 2 || a.SPF[1].Result != mail.AuthTempError || a.DMARC.Result != mail.AuthTempError || len(a.Signers) > 0 {
			t.Errorf("%+v", a)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if words, _ := verifier(keyZone(testKeys(t, "ed25519 e:x.test"))).signatures(ctx, mail.NewMessage(msg)); words[0].Result != mail.AuthTempError {
			t.Errorf("%+v", words[0])
		}
	})
}

// slowKeys is a DNS that never answers about keys.
type slowKeys struct{ zone }

func (z slowKeys) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if strings.Contains(name, "._domainkey.") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return z.zone.LookupTXT(ctx, name)
}

// However little time there is, keys that do not come leave something of it for
// DMARC.
func TestVerifyLeavesTime(t *testing.T) {
	t.Parallel()
	msg := string(sealed(t, dkim.SignOptions{}, plain))
	synctest.Test(t, func(t *testing.T) {
		dns := slowKeys{zone{"TXT x.test": {"v=spf1 ip4:192.0.2.1 -all"}, "TXT _dmarc.x.test": {"v=DMARC1; p=reject"}}}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		a := verifier(dns).Authenticate(ctx, transaction(msg, "192.0.2.1"), both)
		if a.DKIM[0].Result != mail.AuthTempError || a.SPF[1].Result != mail.AuthPass || a.DMARC.Result != mail.AuthPass {
			t.Errorf("%+v, %+v", a, a.DMARC)
		}
		if took := time.Since(start); took >= 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func FuzzVerify(f *testing.F) {
	keys := testKeys(f, "rsa r:x.test", "ed25519 e:x.test")
	dns := keyZone(keys)
	dns["TXT e._domainkey.down.test"] = []string{"FAIL"}
	good := signed(f, keys, crlfs(ordinary))
	f.Add(good, keys.All()[1].Record())
	f.Add(sealed(f, dkim.SignOptions{}, plain), "v=DKIM1; k=ed25519; p=")
	f.Add([]byte("DKIM-Signature: v=1; a=rsa-sha256; b=b; bh=b; d=x.test; s=z; h=from\r\nFrom: a\r\n"), "p=AAAA")
	f.Add([]byte("DKIM-Signature: v=1;a=rsa-sha256;b=;bh=b;d=x.test;s=z;h=from:dkim-signature\r\n \r\nFrom:\r\n\r\n\r\n"), "")
	f.Fuzz(func(t *testing.T, msg []byte, record string) {
		z := zone{"TXT z._domainkey.x.test": {record}}
		for k, v := range dns {
			z[k] = v
		}
		all, rest := verifier(z).signatures(t.Context(), mail.NewMessage(msg))
		h := mail.NewMessage(msg).Header()
		if n := h.Count("DKIM-Signature"); len(all)+rest != n || len(all) > maxSignatures {
			t.Errorf("%d and %d of %d signatures", len(all), rest, n)
		}
		for _, r := range all {
			if r.Result == "" || (r.Result == mail.AuthPass) != (r.Reason == "") || strings.Contains(r.Reason, "broke") {
				t.Errorf("%+v", r)
			}
		}
		value := AuthenticationResults("mx.test", &mail.Authentication{DKIM: all})
		wellFormed(t, "mx.test", value)
	})
}
