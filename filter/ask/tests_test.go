package ask

import (
	"os"
	"strings"
	"testing"

	"postern/policy"
)

// The article verifies its set-up with a virus from INT-MTA that the destiny of
// that bank lets pass.
func TestArticleWithDestinyPass(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(articleConfig)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "virus:  {admin: postmaster@no-uce.de}", "virus:  {admin: postmaster@no-uce.de, destiny: pass}", 1)
	if text == string(data) {
		t.Fatal("INT-MTA is not what it was")
	}
	run := dryRunOf(t, articleConfig, text)
	cases, err := policy.ParseTests("a.test.yaml", []byte(`tests:
  - name: the verification
    listener: unix:/var/spool/postfix/postern/milter.sock
    client: 84.200.7.149
    from: himself@jeanbruenn.info
    to: xxx@gmail.com
    findings: [INFECTED Eicar-Signature]
    want:
      banks: AM.PDP-SOCK/INT-MTA
      originating: true
      direction: Outbound
      destiny: pass
      action: AcceptedOutbound
      reply: 250 2.6.0 Ok
      report: none
      notices: [postmaster@no-uce.de]
      signed: []
`))
	if err != nil {
		t.Fatal(err)
	}
	result, err := Test(t.Context(), run, &cases[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range result.Failures {
		t.Errorf("%s is %s, want %s: %s", f.Key, f.Got, f.Want, f.Reason)
	}
}

// A case may say who has signed: that chooses banks, where signatures are
// verified.
func TestSignersOfACase(t *testing.T) {
	t.Parallel()
	cases, err := policy.ParseTests("a.test.yaml", []byte(`tests:
  - {name: signed, from: a@partner.test, to: b@ours.test, listener: "127.0.0.1:10024", signers: partner.test, want: {banks: PARTNER}}
  - {name: by others, from: a@partner.test, to: b@ours.test, listener: "127.0.0.1:10024", signers: else.test, want: {banks: ""}}
  - {name: not signed, from: a@partner.test, to: b@ours.test, listener: "127.0.0.1:10024", want: {banks: ""}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for verify, failed := range map[string]int{"true": 0, "false": 1} {
		run := dryRunOf(t, "postern.yaml", "settings: {dkim: {verify: "+verify+"}}\nsigner_banks: [{domains: partner.test, bank: PARTNER}]\nbanks: {PARTNER: {}}\n")
		n := 0
		for i := range cases {
			result, err := Test(t.Context(), run, &cases[i])
			if err != nil {
				t.Fatal(err)
			}
			n += len(result.Failures)
		}
		if n != failed {
			t.Errorf("verify %s: %d failures, want %d", verify, n, failed)
		}
	}
}
