package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dkimCommand runs "postern dkim args" and returns its output and exit code.
func dkimCommand(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newDKIMCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	var e *exitError
	switch {
	case err == nil:
		return out.String(), 0, nil
	case errors.As(err, &e):
		return out.String(), e.code, err
	}
	return out.String(), exitUsage, err
}

// dkimSite makes two keys and a configuration with them, and returns the
// configuration and a zone with both records.
func dkimSite(t *testing.T) (config, zone string) {
	t.Helper()
	dir := t.TempDir()
	config = filepath.Join(dir, "postern.yaml")
	var keys, records strings.Builder
	for _, kind := range []string{"rsa", "ed25519"} {
		out, _, err := dkimCommand(t, "keygen", "--domain", "example.org", "--selector", kind+"1", "--type", kind, "--out", filepath.Join(dir, "dkim", kind+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		record, entry, ok := strings.Cut(out, "# for postern.yaml\ndkim_keys:\n")
		if !ok {
			t.Fatalf("keygen printed %q", out)
		}
		keys.WriteString(entry)
		records.WriteString(record)
	}
	writeFile(t, config, "dkim_keys:\n"+keys.String())
	zone = filepath.Join(dir, "zone")
	writeFile(t, zone, records.String())
	return config, zone
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDKIMKeygen(t *testing.T) {
	t.Parallel()
	config, zone := dkimSite(t)
	path := filepath.Join(filepath.Dir(config), "dkim", "rsa.pem")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, code, err := dkimCommand(t, "keygen", "--domain", "example.org", "--selector", "x", "--out", path); code != exitCantCreate {
		t.Errorf("a key that exists: code %d, error %v", code, err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the key was replaced")
	}
	for _, args := range [][]string{
		{"--domain", "x y", "--selector", "s"},
		{"--domain", "x.test", "--selector", "s;"},
		{"--domain", "x.test", "--selector", "s", "--type", "dsa"},
		{"--domain", "x.test", "--selector", "s", "--bits", "512"},
		{"--domain", "x.test"},
	} {
		out := filepath.Join(t.TempDir(), "k.pem")
		if _, code, err := dkimCommand(t, append([]string{"keygen", "--out", out}, args...)...); code != exitUsage {
			t.Errorf("%q: code %d, error %v", args, code, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%q: a file was made", args)
		}
	}
	if text, _, err := dkimCommand(t, "test", "--config", config, "--zone", zone); err != nil {
		t.Errorf("the printed records do not fit the keys: %v\n%s", err, text)
	}
}

func TestDKIMShow(t *testing.T) {
	t.Parallel()
	config, zone := dkimSite(t)
	out, _, err := dkimCommand(t, "show", "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(zone)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if !strings.Contains(string(printed), line) {
			t.Errorf("show and keygen differ in %q", line)
		}
		for i, part := range strings.Split(line, `"`) {
			if i%2 == 1 && len(part) > 255 {
				t.Errorf("a string of %d octets", len(part))
			}
		}
	}
	out, _, err = dkimCommand(t, "show", "--config", config, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []keyRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0].Name != "rsa1._domainkey.example.org" || !strings.HasPrefix(rows[1].Record, "v=DKIM1; k=ed25519; p=") {
		t.Errorf("got %+v", rows)
	}

	none := filepath.Join(t.TempDir(), "none.yaml")
	writeFile(t, none, "domain: example.org\n")
	if _, code, err := dkimCommand(t, "show", "--config", none); code != exitConfig || !strings.Contains(err.Error(), "no dkim_keys") {
		t.Errorf("without keys: code %d, error %v", code, err)
	}
}

func TestDKIMTest(t *testing.T) {
	t.Parallel()
	config, zone := dkimSite(t)
	good, err := os.ReadFile(zone)
	if err != nil {
		t.Fatal(err)
	}
	_, otherZone := dkimSite(t)
	other, err := os.ReadFile(otherZone)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := zoneRecords(string(good))["rsa1._domainkey.example.org"][0]
	edLine := "ed25519" + strings.SplitN(string(good), "\ned25519", 2)[1]
	rsaName := "rsa1._domainkey.example.org. IN TXT "
	tests := []struct {
		name, zone, want string
		code             int
	}{
		{"good", string(good), "rsa1._domainkey.example.org: good\ned255191._domainkey.example.org: good\n", 0},
		{"upper case and comments", "; a comment\n" + strings.ToUpper(rsaName) + `( "` + rsaKey[:100] + "\" ; half\n \"" + rsaKey[100:] + "\" )\n" + edLine, "rsa1._domainkey.example.org: good\n", 0},
		{"no white space", rsaName + `"` + strings.ReplaceAll(rsaKey, " ", "") + "\"\n" + edLine, "rsa1._domainkey.example.org: good\n", 0},
		{"no k=", rsaName + `"` + strings.Replace(rsaKey, "k=rsa; ", "", 1) + "\"\n" + edLine, "rsa1._domainkey.example.org: good\n", 0},
		{"testing", rsaName + `"` + rsaKey + "; t=s:y\"\n" + edLine, "good, but t=y says", 0},
		{"missing", edLine, "rsa1._domainkey.example.org: there is no TXT record", exitConfig},
		{"other key", string(other), "rsa1._domainkey.example.org: the DNS has another key", exitConfig},
		{"twice", string(good) + rsaName + `"` + rsaKey + "\"\n", "there are 2 TXT records", exitConfig},
		{"revoked", rsaName + "\"v=DKIM1; p=\"\n" + edLine, "the key is revoked", exitConfig},
		{"no key", rsaName + "\"v=spf1 -all\"\n" + edLine, "it is no DKIM key", exitConfig},
		{"other type", rsaName + `"` + strings.Replace(rsaKey, "k=rsa", "k=ed25519", 1) + "\"\n" + edLine, `a key of type "ed25519", ours is "rsa"`, exitConfig},
		{"damaged", rsaName + `"` + rsaKey[:150] + "\"\n" + edLine, "the DNS has another key", exitConfig},
		{"other service", rsaName + `"` + rsaKey + "; s=tlsrpt\"\n" + edLine, "inappropriate service", exitConfig},
		{"other hash", rsaName + `"` + rsaKey + "; h=sha1\"\n" + edLine, "inappropriate hash", exitConfig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "zone")
			writeFile(t, path, tt.zone)
			out, code, err := dkimCommand(t, "test", "--config", config, "--zone", path)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("code %d, error %v, output:\n%s\nwant code %d and %q", code, err, out, tt.code, tt.want)
			}
			var rows []keyRow
			out, code, _ = dkimCommand(t, "test", "--config", config, "--zone", path, "--json")
			if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 2 || code != tt.code || (code == 0) != (rows[0].Error == "") {
				t.Errorf("as JSON: code %d, error %v, %+v", code, err, rows)
			}
		})
	}
}

func TestDKIMTestAsksTheDNS(t *testing.T) {
	t.Parallel()
	config, zone := dkimSite(t)
	text, err := os.ReadFile(zone)
	if err != nil {
		t.Fatal(err)
	}
	if out, code, err := dkimCommand(t, "test", "--config", config, "--dns", serveZone(t, zoneRecords(string(text)))); code != 0 {
		t.Errorf("code %d, error %v\n%s", code, err, out)
	}
	if out, code, _ := dkimCommand(t, "test", "--config", config, "--dns", serveZone(t, nil)); code != exitConfig || !strings.Contains(out, "there is no TXT record") {
		t.Errorf("an empty zone: code %d\n%s", code, out)
	}
	// a port that nobody has: it was ours a moment ago
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := conn.LocalAddr().String()
	conn.Close()
	out, code, err := dkimCommand(t, "test", "--config", config, "--dns", closed)
	if code != exitTempFail || !strings.Contains(out, "the DNS gave no answer") || err == nil || !strings.Contains(err.Error(), "no answer about 2 of 2 keys") || strings.Contains(err.Error(), "cannot be used") {
		t.Errorf("no server: code %d, %v\n%s", code, err, out)
	}
}

// serveZone answers TXT queries on a loopback port and returns its address.
func serveZone(t *testing.T, zone map[string][]string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := zoneReply(buf[:n], zone); err == nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func zoneReply(query []byte, zone map[string][]string) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	if len(m.Questions) != 1 {
		return nil, fmt.Errorf("%d questions", len(m.Questions))
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: m.Questions,
	}
	records := zone[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	if len(records) == 0 {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, r := range records {
		var parts []string
		for part := range slices.Chunk([]byte(r), 255) {
			parts = append(parts, string(part))
		}
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeTXT, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: parts},
		})
	}
	return reply.Pack()
}

func FuzzZoneRecords(f *testing.F) {
	f.Add("a.test. IN TXT ( \"x\" ; c\n \"y\" )\nb.test. 300 IN TXT z\n")
	f.Add(`a TXT "`)
	f.Add("a TXT x;")
	f.Fuzz(func(t *testing.T, zone string) {
		for name := range zoneRecords(zone) {
			if strings.ContainsAny(name, "\n\"();") {
				t.Errorf("%q gave the name %q", zone, name)
			}
		}
	})
}
