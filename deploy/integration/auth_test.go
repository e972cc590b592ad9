//go:build integration

package integration

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/d--j/go-milter"
	"github.com/emersion/go-msgauth/dkim"
)

// partnerKeys sign for partner.test, whose mail comes from 198.51.100.9, by
// selector.
var partnerKeys = sync.OnceValues(func() (map[string]crypto.Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return map[string]crypto.Signer{"e": ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), "r": key}, err
})

// partnerRecords are what partner.test publishes.
func partnerRecords(t *testing.T) records {
	t.Helper()
	keys, err := partnerKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(keys["r"].Public())
	if err != nil {
		t.Fatal(err)
	}
	return records{
		"r._domainkey.partner.test": "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public),
		"e._domainkey.partner.test": "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(keys["e"].Public().(ed25519.PublicKey)),
		"partner.test":              "v=spf1 ip4:198.51.100.9 -all",
		"_dmarc.partner.test":       "v=DMARC1; p=reject",
	}
}

var partner = envelope{client: "198.51.100.9", helo: "mx.partner.test", from: "pat@partner.test", rcpts: []string{"ann@example.org"}}

// sealed signs a message for partner.test with both keys, Ed25519 on top.
func (s *site) sealed(msg string) string {
	s.t.Helper()
	keys, err := partnerKeys()
	s.must(err)
	for _, selector := range []string{"r", "e"} {
		var b bytes.Buffer
		s.must(dkim.Sign(&b, strings.NewReader(msg), &dkim.SignOptions{
			Domain: "partner.test", Selector: selector, Signer: keys[selector], Hash: crypto.SHA256,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed, HeaderKeys: []string{"From", "To", "Subject", "Date"},
		}))
		msg = b.String()
	}
	return msg
}

// forged are spellings of a field that only we may write.
var forged = []string{
	"Authentication-Results: mail.example.org; dkim=pass header.d=bank.test",
	"AUTHENTICATION-results: MAIL.Example.ORG; dkim=pass header.d=bank.test",
	"Authentication-Results:\r\n\tmail.example.org\r\n\t; dkim=pass header.d=bank.test",
	"authentication-results: (hi (you)) mail.example.org (yes)\r\n 1; dkim=pass header.d=bank.test",
	"Authentication-Results: \"mail.example.org\"; dkim=pass header.d=bank.test",
	"Authentication-Results: mail(a).example.org.; dkim=pass header.d=bank.test",
	"Authentication-Results: mail.\r\n example.org; dkim=pass header.d=bank.test",
	"Authentication-Results: =?utf-8?q?mail.example.org?=; dkim=pass header.d=bank.test",
}

const foreignResults = "Authentication-Results: mx.else.test; dkim=pass header.d=else.test"

// Two foreign verifiers for the signatures of partner.test: dkimpy for both, and
// Mail::DKIM for RSA.
const (
	dkimpyBoth = `
import json, sys, dkim
records = json.loads(sys.argv[1])
d = dkim.DKIM(sys.stdin.buffer.read())
for i in (0, 1):
    if not d.verify(idx=i, dnsfunc=lambda name, timeout=5: records[name.decode().rstrip(".")].encode()):
        sys.exit("signature %d does not verify" % i)
`
	mailDKIM = `
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;
my ($host, $port) = split /:/, $ARGV[0];
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 1));
my $v = Mail::DKIM::Verifier->new; binmode STDIN;
$v->load(\*STDIN);
my @rsa = grep { $_->selector eq "r" } $v->signatures;
@rsa == 1 && $rsa[0]->result eq "pass" or die "RSA: " . join(", ", map { $_->result_detail } @rsa) . "\n";
`
)

// TestAuthentication: by all ways in results are told under our name, and those
// that came in under it are gone, 1, 2 or 100 of them in any spelling. What
// verified before verifies after.
func TestAuthentication(t *testing.T) {
	records := partnerRecords(t)
	helper, helperPort := t.TempDir(), freePorts(t, 1)[0]
	ampdp, helperSocket, work := filepath.Join(helper, "am.pdp.sock"), filepath.Join(helper, "milter.sock"), filepath.Join(helper, "work")
	s := newSiteWith(t, "virus: {destiny: reject}", addition{
		records: records, listeners: fmt.Sprintf("  - {protocol: am.pdp, address: \"unix:%s\", folders: %q, bank: HELPER}\n", ampdp, work),
		config:   "signer_banks: [{domains: partner.test, bank: PARTNER}]\n",
		banks:    "  PARTNER: {spam: {bypass: true}}\n  HELPER: {spam: {bypass: true}}\n",
		services: fmt.Sprintf("%s inet n - n - - smtpd\n  -o syslog_name=postfix/helper\n  -o content_filter=\n  -o smtpd_milters=unix:%s\n", helperPort, helperSocket),
		set: func(s *site) {
			for d := helper; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				s.must(os.Chmod(d, 0o755))
			}
			s.must(os.Mkdir(work, 0o750))
			cmd := exec.Command(program(t, "amavisd-milter"), "-f", "-B", "-s", "unix:"+helperSocket, "-S", ampdp, "-w", work, "-p", filepath.Join(helper, "pid"))
			s.start(cmd, "amavisd-milter.log")
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			eventually(t, "amavisd-milter listens", func() bool { return os.Chmod(helperSocket, 0o777) == nil })
		},
	})
	published, err := json.Marshal(records)
	s.must(err)
	for _, way := range []struct{ name, addr, bank string }{
		{"after the queue", s.mx, "{RelayedInbound}, PARTNER [198.51.100.9]"},
		{"milter", s.gate, "{AcceptedInbound}, GATE/PARTNER [198.51.100.9]"},
		{"AM.PDP", helperPort, "{AcceptedInbound}, HELPER/PARTNER [198.51.100.9]"},
	} {
		for _, n := range []int{1, 2, 100} {
			var b strings.Builder
			for i := range n {
				b.WriteString(forged[i%len(forged)] + "\r\n" + foreignResults + "\r\n")
			}
			before := len(s.mailboxes.deliveries())
			submit(t, way.addr, partner, b.String()+s.sealed(message("Pat <pat@partner.test>", fmt.Sprintf("%s %d", way.name, n), "Hello\n\u00fc")))
			s.settle()
			got := s.mailboxes.deliveries()[before:]
			if len(got) != 1 {
				t.Fatalf("%s: delivered %v", way.name, got)
			}
			text := string(got[0].data)
			if strings.Contains(text, "bank.test") || strings.Count(text, foreignResults+"\r\n") != n || strings.Count(strings.ToLower(text), "\r\nauthentication-results") != n+1 {
				t.Errorf("%s, %d forged fields: left in\n%.3000s", way.name, n, text)
			}
			if value := got[0].header("Authentication-Results"); !strings.HasPrefix(value, "mail.example.org; dkim=pass header.d=partner.test header.s=e ") || strings.Count(value, "; dkim=pass ") != 2 ||
				!strings.Contains(value, "; spf=pass smtp.mailfrom=partner.test; dmarc=pass header.from=partner.test policy.dmarc=none") {
				t.Errorf("%s: results %s", way.name, value)
			}
			run(t, got[0].data, "/usr/bin/python3", "-c", dkimpyBoth, string(published))
			run(t, got[0].data, "/usr/bin/perl", "-e", mailDKIM, s.dns)
		}
		for _, want := range []string{way.bank, ", dkim_sd=e:partner.test,r:partner.test, "} {
			if n := strings.Count(s.posternLog(), want); n < 3 {
				t.Errorf("%s: %d lines have %q:\n%s", way.name, n, want, s.posternLog())
			}
		}
	}
}

// TestAuthenticationWithoutDNS: while the DNS does not answer mail goes on, by
// all ways in, and the facts say that they could not be had.
func TestAuthenticationWithoutDNS(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := newSiteWith(t, "dmarc: {score: {reject: 9}}", addition{otherDNS: silent.LocalAddr().String()})
	msg := s.sealed(message("Pat <pat@partner.test>", "no answer", "Hello"))
	for n, addr := range []string{s.mx, s.gate} {
		submit(t, addr, partner, msg)
		s.settle()
		got := s.mailboxes.deliveries()
		if len(got) != n+1 {
			t.Fatalf("delivered: %v", got)
		}
		if value := got[n].header("Authentication-Results"); strings.Count(value, "dkim=temperror ") != 2 || strings.Count(value, "spf=temperror ") != 2 || strings.Count(value, "dmarc=temperror ") != 1 {
			t.Errorf("results %s", value)
		}
	}
	took := regexp.MustCompile(`Hits: -, .* (\d+) ms\n`).FindAllStringSubmatch(s.posternLog(), -1)
	if len(took) != 2 {
		t.Fatalf("log:\n%s", s.posternLog())
	}
	for _, x := range took {
		// ten seconds are for authentication
		if ms, err := strconv.Atoi(x[1]); err != nil || ms > 15000 {
			t.Errorf("took %s ms, %v", x[1], err)
		}
		t.Logf("%s ms", x[1])
	}
}

// inserting is a milter that puts results into the header: as OpenDKIM and
// OpenDMARC do behind the first field, which is that of Postfix, and at the top.
type inserting struct{ milter.NoOpMilter }

func (inserting) EndOfMessage(m milter.Modifier) (*milter.Response, error) {
	for _, at := range []int{1, 0} {
		if err := m.InsertHeader(at, "Authentication-Results", fmt.Sprintf(" mail.example.org; dkim=pass header.d=at%d.test", at)); err != nil {
			return nil, err
		}
	}
	return milter.RespAccept, nil
}

// startInserting starts it at an address that names OpenDKIM, and returns that.
func startInserting(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "opendkim.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	for p := path; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	server := milter.NewServer(milter.WithMilter(func() milter.Milter { return inserting{} }),
		milter.WithActions(milter.OptAddHeader|milter.OptChangeHeader), milter.WithProtocol(milter.OptHeaderLeadingSpace))
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); served.Wait() })
	return "unix:" + path
}

// TestResultsOfPostfix: what stands above the Received field of the feeding
// Postfix stays, by whomever it is. What comes with the mail, and what a milter
// puts below that field, can be anybody's and goes, but for trusted_results.
func TestResultsOfPostfix(t *testing.T) {
	for config, want := range map[string]string{"": "policy at0", "trusted_results: [mail.example.org]\n": "policy at0 at1 bank bank"} {
		milters, withMilter := startInserting(t), freePorts(t, 1)[0]
		s := newSiteWith(t, "virus: {destiny: reject}", addition{config: config, set: func(s *site) {
			etc := filepath.Join(s.dir, "postfix")
			run(t, nil, "postconf", "-c", etc, "-e", "prepended = check_sender_access static:{PREPEND Authentication-Results: mail.example.org; spf=pass smtp.mailfrom=policy.test}")
			run(t, nil, "postconf", "-c", etc, "-P", s.mx+"/inet/smtpd_sender_restrictions=$prepended")
			run(t, nil, "postconf", "-c", etc, "-M", withMilter+"/inet="+withMilter+" inet n - n - - smtpd -o content_filter=amavisfeed:[127.0.0.1]:"+port(s.feedOther)+" -o smtpd_milters="+milters)
			told := slices.ContainsFunc(s.postfixCheck(), func(f postfixFinding) bool { return f.Rule == "results-name" && strings.Contains(f.What, milters) })
			if told != (config == "") {
				t.Errorf("%q: postfix check tells of the milter: %v", config, told)
			}
		}})
		for _, addr := range []string{s.mx, withMilter} {
			submit(t, addr, world, forged[0]+"\r\n"+message(world.from, "results before us", "Hello"))
			s.settle()
		}
		got := s.mailboxes.deliveries()
		if len(got) != 2 {
			t.Fatalf("delivered: %v", got)
		}
		order := []string{"policy", "at0", "at1", "bank"}
		var words []string
		for _, d := range got {
			for _, who := range order {
				words = append(words, slices.Repeat([]string{who}, strings.Count(string(d.data), "="+who+".test\r\n"))...)
			}
		}
		slices.SortFunc(words, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
		if text := strings.Join(words, " "); text != want {
			t.Errorf("%q: left are %s, want %s, in\n%s\n%s", config, text, want, got[0].data, got[1].data)
		}
	}
}
