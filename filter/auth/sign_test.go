package auth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var edKey = sync.OnceValue(func() crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func testKeys(t testing.TB, specs ...string) *Keys {
	t.Helper()
	var keys []*Key
	for _, spec := range specs {
		// "rsa sel:domain"
		kind, name, _ := strings.Cut(spec, " ")
		selector, domain, _ := strings.Cut(name, ":")
		signer := rsaKey()
		if kind == "ed25519" {
			signer = edKey()
		}
		k, err := NewKey(domain, selector, signer)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	k, err := NewKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// txt answers for the public keys, as the DNS would.
func txt(keys *Keys) func(string) ([]string, error) {
	return func(name string) ([]string, error) {
		for _, k := range keys.All() {
			if k.RecordName() == name {
				return []string{k.Record()}, nil
			}
		}
		return nil, fmt.Errorf("no record %s", name)
	}
}

func written(t testing.TB, o *mail.Outgoing) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := o.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// verifyErrors returns the error of each signature of msg.
func verifyErrors(t testing.TB, msg []byte, keys *Keys) []error {
	t.Helper()
	// go-msgauth wants an empty line after the header
	if !bytes.Contains(msg, []byte("\r\n\r\n")) {
		msg = append(msg[:len(msg):len(msg)], "\r\n"...)
	}
	results, err := dkim.VerifyWithOptions(bytes.NewReader(msg), &dkim.VerifyOptions{LookupTXT: txt(keys)})
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, r := range results {
		errs = append(errs, r.Err)
	}
	return errs
}

func outgoing(msg string) *mail.Outgoing {
	return &mail.Outgoing{From: "bounce@x.test", Message: mail.NewMessage([]byte(strings.ReplaceAll(msg, "\n", "\r\n")))}
}

const ordinary = `Received: from client.example.net
From: Ann <ann@x.test>
To: bob@y.test,
	carl@z.test
Subject: two
 lines
Date: Mon, 9 Aug 2021 09:36:36 +0200
Message-ID: <1@x.test>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
References: <0@x.test>
List-Unsubscribe: <https://x.test/>
List-Unsubscribe-Post: List-Unsubscribe=One-Click

Hello,  Bob 

this	is	it.


`

func signed(t testing.TB, keys *Keys, msg string) []byte {
	t.Helper()
	o := &mail.Outgoing{Message: mail.NewMessage([]byte(msg))}
	if _, err := keys.Sign(o, SignOptions{}); err != nil {
		t.Fatal(err)
	}
	return written(t, o)
}

func TestSignVerifies(t *testing.T) {
	t.Parallel()
	for _, specs := range [][]string{
		{"rsa r:x.test"},
		{"ed25519 e:x.test"},
		{"rsa r:x.test", "ed25519 e:x.test"},
	} {
		keys := testKeys(t, specs...)
		o := outgoing(ordinary)
		o.Edits = []mail.Edit{
			{Op: mail.Add, Name: "X-Virus-Scanned", Value: "by us"},
			{Op: mail.Replace, Name: "Subject", Index: 1, Value: "[x]\r\n two lines"},
			{Op: mail.Remove, Name: "References"},
		}
		signatures, err := keys.Sign(o, SignOptions{})
		if err != nil || len(signatures) != len(specs) {
			t.Fatalf("%v: signed %v, error %v", specs, signatures, err)
		}
		for i, s := range signatures {
			if !strings.HasSuffix(specs[i], " "+s.String()) {
				t.Errorf("signature %d is %s, want %s", i, s, specs[i])
			}
			if e := o.Edits[i]; e.Op != mail.Add || e.Name != "DKIM-Signature" {
				t.Errorf("edit %d is %+v", i, e)
			}
		}
		msg := written(t, o)
		errs := verifyErrors(t, msg, keys)
		if len(errs) != len(specs) {
			t.Fatalf("%d signatures, want %d", len(errs), len(specs))
		}
		for i, err := range errs {
			if err != nil {
				t.Errorf("%v: signature %d: %v", specs, i, err)
			}
		}
		for line := range bytes.SplitSeq(msg, []byte("\r\n")) {
			if len(line) > 998 {
				t.Errorf("line of %d octets: %s", len(line), line)
			}
		}
		if i := bytes.Index(msg, []byte("DKIM-Signature")); i != 0 {
			t.Error("the signature is not the topmost field")
		}
	}
}

// A field of an oversigned name that is added later must break the signature,
// whether the message had one or not.
func TestSignOversigns(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	for _, message := range []string{ordinary, "From: ann@x.test\n\nbody\n"} {
		o := outgoing(message)
		if _, err := keys.Sign(o, SignOptions{}); err != nil {
			t.Fatal(err)
		}
		msg := written(t, o)
		for _, name := range []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type"} {
			added := slices.Concat([]byte(name+": added\r\n"), msg)
			if errs := verifyErrors(t, added, keys); errs[0] == nil {
				t.Errorf("the signature is still valid with another %s", name)
			}
		}
		if errs := verifyErrors(t, slices.Concat([]byte("Received: from us\r\n"), msg), keys); errs[0] != nil {
			t.Errorf("a further hop breaks the signature: %v", errs[0])
		}
	}
}

func TestSignedFields(t *testing.T) {
	t.Parallel()
	h, _ := mail.ParseHeader([]byte("Return-Path: <>\r\nReceived: x\r\nX-Virus-Scanned: x\r\nAuthentication-Results: x\r\n" +
		"To: 1\r\nList-Id: l\r\nto: 2\r\nFrom: f\r\nSender: s\r\n"))
	names := signedNames(h)
	want := "From From To To To Cc Subject Date Message-ID Reply-To MIME-Version Content-Type Content-Transfer-Encoding Sender List-Id"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSignPicksKey(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 a:x.test", "ed25519 b:.parent.test", "ed25519 c:deep.parent.test", "ed25519 d:B\u00fccher.test", "ed25519 e:.deep.other.test", "ed25519 f:.other.test")
	tests := []struct {
		name, header, from, want string
	}{
		{"author", "From: a@x.test", "", "a:x.test"},
		{"case", "From: a@X.TEST", "", "a:x.test"},
		{"no walk up without a dot", "From: a@sub.x.test", "", ""},
		{"parent", "From: a@sub.parent.test", "", "b:parent.test"},
		{"parent itself", "From: a@parent.test", "", "b:parent.test"},
		{"exact before parent", "From: a@deep.parent.test", "", "c:deep.parent.test"},
		{"below exact", "From: a@very.deep.parent.test", "", "b:parent.test"},
		{"nearest parent", "From: a@very.deep.other.test", "", "e:deep.other.test"},
		{"not a suffix of letters", "From: a@notparent.test", "", ""},
		{"second author", "From: a@nobody.test, b@x.test", "", "a:x.test"},
		{"author before sender", "Sender: s@parent.test\r\nFrom: a@x.test", "e@parent.test", "a:x.test"},
		{"resent before sender", "Sender: s@parent.test\r\nResent-From: a@x.test\r\nFrom: a@nobody.test", "e@parent.test", "a:x.test"},
		{"sender before envelope", "Sender: s@parent.test\r\nFrom: a@nobody.test", "e@x.test", "b:parent.test"},
		{"envelope", "From: a@nobody.test", "e@x.test", "a:x.test"},
		{"no From", "Subject: s", "e@x.test", "a:x.test"},
		{"nobody", "From: a@nobody.test", "", ""},
		{"international", "From: j\u00fcrgen@b\u00fccher.test", "", "d:xn--bcher-kva.test"},
		{"international in ASCII", "From: j@xn--bcher-kva.test", "", "d:xn--bcher-kva.test"},
	}
	for _, tt := range tests {
		o := &mail.Outgoing{From: mail.Address(tt.from), Message: mail.NewMessage([]byte(tt.header + "\r\n\r\nbody\r\n"))}
		signatures, err := keys.Sign(o, SignOptions{})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := ""
		if len(signatures) > 0 {
			got = signatures[0].String()
		}
		if got != tt.want || len(o.Edits) != len(signatures) {
			t.Errorf("%s: signed by %q with %d edits, want %q", tt.name, got, len(o.Edits), tt.want)
		}
		if got != "" && tt.header[:4] == "From" {
			if errs := verifyErrors(t, written(t, o), keys); errs[0] != nil {
				t.Errorf("%s: %v", tt.name, errs[0])
			}
		}
	}
}

// A message that carries a signature of its own keeps it, below ours.
func TestSignAgain(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "rsa r:x.test")
	o := outgoing("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=x.test; h=from:subject;\n s=old; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\n" + ordinary)
	if _, err := keys.Sign(o, SignOptions{}); err != nil {
		t.Fatal(err)
	}
	errs := verifyErrors(t, written(t, o), keys)
	if len(errs) != 2 || errs[0] != nil || errs[1] == nil {
		t.Errorf("got %v, want ours valid and the other not", errs)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	for name, msg := range unsignable {
		o := &mail.Outgoing{Message: mail.NewMessage([]byte(msg))}
		if signatures, err := keys.Sign(o, SignOptions{}); err == nil || len(o.Edits) != 0 {
			t.Errorf("%s: signed %v, error %v, %d edits", name, signatures, err, len(o.Edits))
		}
	}
	broken := testKeys(t, "rsa r:x.test", "rsa s:x.test")
	broken.all[1].signer = &rsa.PrivateKey{}
	o := outgoing(ordinary)
	if _, err := broken.Sign(o, SignOptions{}); err == nil || len(o.Edits) != 0 {
		t.Errorf("a key that cannot sign: error %v, %d edits", err, len(o.Edits))
	}
	if signatures, err := (*Keys)(nil).Sign(o, SignOptions{}); err != nil || signatures != nil {
		t.Errorf("no keys at all: %v, %v", signatures, err)
	}
}

// The edits of one bundle must not change under another.
func TestSignLeavesEditsAlone(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	edits := make([]mail.Edit, 1, 8)
	edits[0] = mail.Edit{Op: mail.Add, Name: "X-A", Value: "a"}
	o := outgoing(ordinary)
	o.Edits = edits
	if _, err := keys.Sign(o, SignOptions{}); err != nil {
		t.Fatal(err)
	}
	if edits[0].Name != "X-A" || o.Edits[1] != edits[0] || len(o.Edits) != 2 {
		t.Errorf("edits are now %v and %v", edits, o.Edits)
	}
}

// oddMessages are what a canonicalization must get right. All have a From
// field with domain x.test.
var oddMessages = map[string]string{
	"plain":                        "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\nbody\r\n",
	"empty body":                   "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: s\r\n\r\n",
	"no empty line":                "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: s\r\n",
	"blank lines only":             "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n \t \r\n\r\n\t\r\n",
	"blank lines at the beginning": "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n\r\n\r\nbody\r\n",
	"blanks in front":              "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n  body\r\n\tmore\r\n",
	"trailing blanks":              "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject:  s \t \r\n\r\nbody \t \r\n more\t\r\n\r\n \r\n",
	"inner blanks":                 "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: a  b\tc \t d\r\n\r\na  b\tc \t d\r\n",
	"folds":                        "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a\r\n\t@\r\n x.test\r\nSubject:\r\n s\r\n  t\r\n\r\nbody\r\n",
	"empty fold":                   "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: s\r\n \r\n t\r\n\r\nbody\r\n",
	"empty value":                  "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject:\r\nTo: \r\n\r\nbody\r\n",
	"8 bit":                        "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: \xfc\xa0 \xc2\xa0 x\r\n\r\nbody \xa0 \xff\r\n",
	"NUL":                          "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\na\x00b\r\n",
	"UTF-8":                        "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: J\u00fcrgen <j\u00fcrgen@x.test>\r\nSubject: Gr\u00fc\u00dfe\u2028\r\n\r\nGr\u00fc\u00dfe\r\n",
	"dots":                         "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n.\r\n..\r\n.x\r\n",
	"long lines":                   "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: " + strings.Repeat("s", 900) + "\r\n\r\n" + strings.Repeat("body ", 1000) + "\r\n",
	"1 MB":                         "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n" + strings.Repeat("Sphinx of black quartz, judge my vow.  \r\n", 25000),
	"empty lines without end":      "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\nbody\r\n" + strings.Repeat("\r\n", 200000),
	"repeated fields":              "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nTo: 1\r\nFrom: b@x.test\r\nto: 2\r\nTO: 3\r\n\r\nbody\r\n",
	"long field":                   "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test" + strings.Repeat(",\r\n a@x.test", 2000) + "\r\n\r\nbody\r\n",
	"many fields":                  "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n" + strings.Repeat("Cc: c@y.test\r\n", 200) + "\r\nbody\r\n",
}

// unsignable are messages that verifiers would read in different ways.
var unsignable = map[string]string{
	"bare CR in the body":        "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\na \rb\rc\r\n\rd\r\n",
	"CR at a line end":           "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\na\r\r\nb \r\r\n\r\r\n",
	"bare CR in the header":      "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\nSubject: a \r b\r\n\r\nbody\r\n",
	"begins with a continuation": " continued\r\nFrom: a@x.test\r\n\r\nbody\r\n",
	"too many fields":            "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n" + strings.Repeat("To: b@y.test\r\n", maxSigned) + "\r\nbody\r\n",
}

func TestSignOddMessages(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "rsa r:x.test", "ed25519 e:x.test")
	for name, msg := range oddMessages {
		o := &mail.Outgoing{Message: mail.NewMessage([]byte(msg))}
		if _, err := keys.Sign(o, SignOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out := written(t, o)
		for i, err := range verifyErrors(t, out, keys) {
			if err != nil {
				t.Errorf("%s: signature %d: %v", name, i, err)
			}
		}
		if !bytes.HasSuffix(out, []byte(msg)) {
			t.Errorf("%s: the message was changed", name)
		}
	}
}

// Whatever comes in, signing adds fields on top and changes nothing else, and
// what comes out verifies where go-msgauth can judge.
func FuzzSign(f *testing.F) {
	for _, msg := range oddMessages {
		if len(msg) < 1000 {
			f.Add([]byte(msg))
		}
	}
	for _, msg := range unsignable {
		f.Add([]byte(msg))
	}
	keys := testKeys(f, "ed25519 e:x.test")
	f.Fuzz(func(t *testing.T, msg []byte) {
		o := &mail.Outgoing{From: "a@x.test", Message: mail.NewMessage(msg)}
		signatures, err := keys.Sign(o, SignOptions{})
		out := written(t, o)
		added, ok := bytes.CutSuffix(out, msg)
		if !ok {
			t.Fatalf("%q became %q", msg, out)
		}
		if err != nil || len(signatures) == 0 {
			if len(added) > 0 {
				t.Fatalf("not signed, but %q was added", added)
			}
			return
		}
		if h, n := mail.ParseHeader(added); n != len(added) || len(h) != 1 || !h[0].Is("DKIM-Signature") {
			t.Fatalf("added %q", added)
		}
		if h := o.Message.Header(); h.Count("From") == 0 || !judgeable(o.Message) {
			return
		}
		if errs := verifyErrors(t, out, keys); errs[0] != nil {
			t.Errorf("%q: %v", out, errs[0])
		}
	})
}

// judgeable reports whether go-msgauth reads the message as we do: no bare CR
// or LF, no second signature, only fields in the header.
func judgeable(m *mail.Message) bool {
	b := bytes.ReplaceAll(m.Bytes(), []byte("\r\n"), nil)
	if bytes.ContainsAny(b, "\r\n") || !bytes.Contains(m.Bytes(), []byte("\r\n\r\n")) {
		return false
	}
	for _, f := range m.Header() {
		if f.Name == "" || f.Is("DKIM-Signature") {
			return false
		}
	}
	return true
}

// TestSignOptions: who signs, on whose behalf and how long.
func TestSignOptions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	keys := testKeys(t, "rsa old:.x.test", "ed25519 new:.x.test", "rsa late:.x.test")
	keys.all[0].Until = now.Add(24 * time.Hour)
	keys.all[1].From = now.Add(-time.Hour)
	keys.all[2].From = now.Add(48 * time.Hour)
	for _, tt := range []struct {
		name    string
		from    string
		options SignOptions
		want    string
	}{
		{"while both hold", "a@x.test", SignOptions{Now: now}, "old:x.test new:x.test"},
		{"before the new one", "a@x.test", SignOptions{Now: now.Add(-2 * time.Hour)}, "old:x.test"},
		{"at the end of the old one", "a@x.test", SignOptions{Now: now.Add(24 * time.Hour)}, "new:x.test"},
		{"with the next", "a@x.test", SignOptions{Now: now.Add(48 * time.Hour)}, "new:x.test late:x.test"},
		{"by selector", "a@x.test", SignOptions{Now: now, Selectors: []string{"new", "late"}}, "new:x.test"},
		{"by a selector that is not there", "a@x.test", SignOptions{Now: now, Selectors: []string{"other"}}, ""},
		{"below", "a@sub.x.test", SignOptions{Now: now, Expire: 72 * time.Hour}, "old:x.test new:x.test"},
	} {
		o := outgoing("From: " + tt.from + "\nSubject: s\n\nbody\n")
		signatures, err := keys.Sign(o, tt.options)
		if got := strings.Trim(fmt.Sprint(signatures), "[]"); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
		for _, e := range o.Edits {
			tags := strings.ReplaceAll(e.Value, "\r\n\t", " ")
			if strings.Contains(tags, "i=@sub.x.test;") != (tt.name == "below") || strings.Contains(tags, fmt.Sprintf("x=%d;", tt.options.Now.Add(tt.options.Expire).Unix())) != (tt.options.Expire > 0) {
				t.Errorf("%s: %s", tt.name, tags)
			}
		}
		for i, err := range verifyErrors(t, written(t, o), keys) {
			if err != nil && !strings.Contains(err.Error(), "expired") {
				t.Errorf("%s: signature %d: %v", tt.name, i, err)
			}
		}
	}
}

// TestOneClick: what RFC 8058 section 4 wants is inside the signature, and comes
// from our own list, so that nobody adds or changes it afterwards.
func TestOneClick(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, "ed25519 e:x.test")
	o := outgoing(ordinary)
	if _, err := keys.Sign(o, SignOptions{}); err != nil {
		t.Fatal(err)
	}
	msg := written(t, o)
	for _, name := range []string{"List-Unsubscribe", "List-Unsubscribe-Post"} {
		changed := bytes.Replace(msg, []byte("\n"+name+": "), []byte("\n"+name+": x"), 1)
		if errs := verifyErrors(t, changed, keys); errs[0] == nil {
			t.Errorf("%s may be changed", name)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	const line = "Pack my box with five dozen liquor jugs, and then some more of them.\r\n"
	for _, size := range []int{4 << 10, 1 << 20} {
		msg := mail.NewMessage([]byte(strings.ReplaceAll(ordinary, "\n", "\r\n") + strings.Repeat(line, size/len(line))))
		for _, specs := range [][]string{{"rsa r:x.test"}, {"ed25519 e:x.test"}, {"rsa r:x.test", "ed25519 e:x.test"}} {
			keys := testKeys(b, specs...)
			b.Run(fmt.Sprintf("%dkB/%s", size>>10, strings.Join(specs, "+")), func(b *testing.B) {
				b.SetBytes(msg.Size())
				b.ReportAllocs()
				for b.Loop() {
					o := &mail.Outgoing{Message: msg}
					if _, err := keys.Sign(o, SignOptions{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for _, n := range []int{20_000, 40_000} { // go-msgauth took 4 s for the first
		b.Run(fmt.Sprintf("From of %d addresses", n), func(b *testing.B) {
			msg := mail.NewMessage([]byte("Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test" + strings.Repeat(",\r\n a@x.test", n) + "\r\n\r\nbody\r\n"))
			keys := testKeys(b, "ed25519 e:x.test")
			for b.Loop() {
				if _, err := keys.Sign(&mail.Outgoing{Message: msg}, SignOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("8MB of line ends", func(b *testing.B) {
		msg := mail.NewMessage([]byte("Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@x.test\r\n\r\n" + strings.Repeat("\r\n", 4<<20)))
		keys := testKeys(b, "ed25519 e:x.test")
		for b.Loop() {
			if _, err := keys.Sign(&mail.Outgoing{Message: msg}, SignOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
