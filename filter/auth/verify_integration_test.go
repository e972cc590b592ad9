//go:build integration

package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filter/mail"
)

// dkimpyAll verifies the topmost signature of many messages in one run.
const dkimpyAll = `
import sys, json, base64, logging, dkim
logging.disable(logging.CRITICAL)
out = []
for case in json.load(sys.stdin):
    def txt(name, timeout=5):
        return case["dns"].get(name.decode("ascii", "replace").rstrip("."), "").encode() or None
    try:
        out.append(bool(dkim.DKIM(base64.b64decode(case["msg"])).verify(dnsfunc=txt)))
    except Exception:
        out.append(False)
json.dump(out, sys.stdout)
`

// Our verdict and dkimpy's, over canonicalizations, kinds of keys and changes
// on the way.
func TestSameVerdictAsDkimpy(t *testing.T) {
	type message struct {
		Name string            `json:"-"`
		Msg  []byte            `json:"msg"`
		DNS  map[string]string `json:"dns"`
	}
	keys := testKeys(t, "ed25519 e:x.test")
	rsaKeys := testKeys(t, "rsa e:x.test")
	var cases []message
	body := "Hello,  Ann \n\n\tthis	is it. \n\n\n"
	text := "From: Ann <ann@x.test>\nTo: bob@y.test,\n\tcarl@z.test\nSubject: two\n lines\nDate: Mon, 9 Aug 2021 09:36:36 +0200\n\n" + body
	changes := []struct{ name, old, new string }{
		{"none", "", ""},
		{"body", "Hello", "Hallo"},
		{"blanks in the body", "Hello,  Ann", "Hello, \tAnn"},
		{"blanks at a line end", "it. \r\n", "it.\r\n"},
		{"empty lines at the end", "it. \r\n\r\n\r\n", "it. \r\n"},
		{"text at the end", "it. \r\n\r\n\r\n", "it. \r\n\r\n\r\nx"},
		{"subject", "Subject: two", "Subject: three"},
		{"fold", "two\r\n lines", "two lines"},
		{"case of a name", "\r\nSubject:", "\r\nSUBJECT:"},
		{"blank before a colon", "\r\nSubject:", "\r\nSubject :"},
		{"another subject above", "\r\nFrom:", "\r\nSubject: evil\r\nFrom:"},
		{"another subject below", "\r\nDate:", "\r\nSubject: evil\r\nDate:"},
		{"another from", "\r\nDate:", "\r\nFrom: evil@y.test\r\nDate:"},
		{"unsigned field", "\r\nDate:", "\r\nX-Other: 1\r\nDate:"},
	}
	for _, c := range []string{"simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"} {
		header, bodyCanon, _ := strings.Cut(c, "/")
		for kind, k := range map[string]*Keys{"ed25519": keys, "rsa": rsaKeys} {
			o := dkim.SignOptions{Signer: k.All()[0].signer, HeaderCanonicalization: dkim.Canonicalization(header), BodyCanonicalization: dkim.Canonicalization(bodyCanon),
				HeaderKeys: []string{"From", "To", "Subject", "Subject"}}
			good := sealed(t, o, text)
			for _, ch := range changes {
				msg := bytes.Replace(good, []byte(ch.old), []byte(ch.new), 1)
				cases = append(cases, message{fmt.Sprintf("%s %s, %s", kind, c, ch.name), msg, map[string]string{"e._domainkey.x.test": k.All()[0].Record()}})
			}
		}
	}
	record := keys.All()[0].Record()
	good := sealed(t, dkim.SignOptions{}, text)
	for _, r := range []string{"", "v=DKIM1; k=ed25519; p=", strings.Replace(record, "DKIM1", "DKIM2", 1), record + "; h=sha256", record + "; t=y", strings.Replace(record, "k=ed25519; ", "", 1), rsaKeys.All()[0].Record(), "p=!"} {
		cases = append(cases, message{"key " + r, good, map[string]string{"e._domainkey.x.test": r}})
	}
	for _, ch := range []struct{ old, new string }{
		{" v=1;", " v=2;"}, {"d=x.test", "d=y.test"}, {"s=e;", "s=f;"}, {"h=From:", "h=To:"}, {" v=1;", " v=1; v=1;"}, {" v=1;", ""}, {"bh=", "bh=A"}, {" v=1;", " v=1; i=@y.test;"},
	} {
		cases = append(cases, message{"tags " + ch.new, bytes.Replace(good, []byte(ch.old), []byte(ch.new), 1), map[string]string{"e._domainkey.x.test": record}})
	}
	for name, msg := range oddMessages {
		cases = append(cases, message{"odd: " + name, signed(t, keys, msg), map[string]string{"e._domainkey.x.test": record}})
	}
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", dkimpyAll)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []bool
	if err := json.Unmarshal(out, &theirs); err != nil || len(theirs) != len(cases) {
		t.Fatalf("%d answers for %d cases, %v", len(theirs), len(cases), err)
	}
	passed := 0
	for i, c := range cases {
		z := zone{}
		for name, r := range c.DNS {
			z["TXT "+name] = []string{r}
		}
		_, all := results(t, z, c.Msg)
		if len(all) == 0 {
			t.Errorf("%s: no signature", c.Name)
			continue
		}
		ours := all[0].Result == mail.AuthPass
		if ours {
			passed++
		}
		// RFC 6376 section 3.4.2 takes blanks before the colon away, dkimpy knows
		// no such field
		if strings.Contains(c.Name, "relaxed/") && strings.Contains(c.Name, "before a colon") {
			if !ours {
				t.Errorf("%s: %+v", c.Name, all[0])
			}
			continue
		}
		if ours != theirs[i] {
			t.Errorf("%s: %+v, and dkimpy says %v", c.Name, all[0], theirs[i])
		}
	}
	t.Logf("%d cases, %d pass", len(cases), passed)
	if len(cases) < 30 || passed < 20 || len(cases)-passed < 20 {
		t.Errorf("%d cases, %d pass: that shows little", len(cases), passed)
	}
}
