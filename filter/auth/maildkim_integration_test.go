//go:build integration

package auth

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Our signatures before a third verifier, Mail::DKIM (package
// libmail-dkim-perl), which is the one that Amavis and SpamAssassin ask.

// It prints a line for each signature, from the top: result and algorithm.
const mailDKIMScript = `
use strict; use warnings;
use Net::DNS; use Mail::DKIM::Verifier; use Mail::DKIM::DNS;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [shift], recurse => 1, udp_timeout => 5, retry => 1));
my $v = Mail::DKIM::Verifier->new;
binmode STDIN;
while (read(STDIN, my $block, 65536)) { $v->PRINT($block) }
$v->CLOSE;
print join(" ", $_->result, $_->algorithm), "\n" for $v->signatures;
`

// mailDKIM returns what Mail::DKIM says of each signature of msg.
func mailDKIM(t *testing.T, resolver string, msg []byte) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/perl", "-e", mailDKIMScript, resolver)
	cmd.Stdin = bytes.NewReader(msg)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("Mail::DKIM: %v, %s", err, stderr.Bytes())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// Mail::DKIM knows no Ed25519 yet. Such a signature must not keep it from the
// RSA signature beside.
func TestMailDKIM(t *testing.T) {
	keys := testKeys(t, "rsa r:x.test", "ed25519 e:x.test")
	resolver := serveTXT(t, keys)
	for name, msg := range oddMessages {
		t.Run(name, func(t *testing.T) {
			if got := mailDKIM(t, resolver, signed(t, keys, msg)); !slices.Contains(got, "pass rsa-sha256") {
				t.Errorf("Mail::DKIM says %q", got)
			}
		})
	}
}

func TestMailDKIMSeesChanges(t *testing.T) {
	keys := testKeys(t, "rsa r:x.test")
	resolver := serveTXT(t, keys)
	msg := signed(t, keys, strings.ReplaceAll(ordinary, "\n", "\r\n"))
	if got := fmt.Sprint(mailDKIM(t, resolver, msg)); got != "[pass rsa-sha256]" {
		t.Fatalf("unchanged: Mail::DKIM says %s", got)
	}
	for name, changed := range map[string][]byte{
		"another From":             slices.Concat([]byte("From: evil@x.test\r\n"), msg),
		"a Reply-To":               slices.Concat([]byte("Reply-To: evil@x.test\r\n"), msg),
		"another List-Unsubscribe": bytes.Replace(msg, []byte("<https://x.test/>"), []byte("<https://evil.test/>"), 1),
		"no List-Unsubscribe-Post": bytes.Replace(msg, []byte("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), nil, 1),
		"another body":             bytes.Replace(msg, []byte("Bob"), []byte("Eve"), 1),
	} {
		if bytes.Equal(changed, msg) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if got := fmt.Sprint(mailDKIM(t, resolver, changed)); got != "[fail rsa-sha256]" {
			t.Errorf("%s: Mail::DKIM says %s", name, got)
		}
	}
}
