package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func writeKey(t *testing.T, data []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	// the umask does not count
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadKeys(t *testing.T) {
	t.Parallel()
	rsa2048 := rsaKey().(*rsa.PrivateKey)
	pkcs8RSA, err := x509.MarshalPKCS8PrivateKey(rsa2048)
	rsaPEM := pemOf(t, "PRIVATE KEY", pkcs8RSA, err)
	pkcs8Ed, err := x509.MarshalPKCS8PrivateKey(edKey())
	edPEM := pemOf(t, "PRIVATE KEY", pkcs8Ed, err)
	pkcs1 := pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2048), nil)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8EC, err := x509.MarshalPKCS8PrivateKey(ec)
	ecPEM := pemOf(t, "PRIVATE KEY", pkcs8EC, err)
	public, err := x509.MarshalPKIXPublicKey(rsa2048.Public())
	publicPEM := pemOf(t, "PUBLIC KEY", public, err)

	tests := []struct {
		name             string
		data             []byte
		mode             os.FileMode
		domain, selector string
		err              string // part of it, empty for none
		record           string // beginning of Record
	}{
		{"PKCS #1", pkcs1, 0o600, "x.test", "s", "", "v=DKIM1; k=rsa; p=MIIBIjAN"},
		{"PKCS #8", rsaPEM, 0o640, ".x.test", "s.2026", "", "v=DKIM1; k=rsa; p=MIIBIjAN"},
		{"Ed25519", edPEM, 0o400, "X.Test", "s", "", "v=DKIM1; k=ed25519; p="},
		{"text before the key", append([]byte("a note\n"), edPEM...), 0o600, "x.test", "s", "", "v=DKIM1; k=ed25519"},
		{"open to others", rsaPEM, 0o644, "x.test", "s", "mode 0644 lets others read or write it (hint: chmod 0640)", ""},
		{"written by the group", rsaPEM, 0o660, "x.test", "s", "mode 0660", ""},
		{"ECDSA", ecPEM, 0o600, "x.test", "s", "*ecdsa.PrivateKey", ""},
		{"old ECDSA", pemOf(t, "EC PRIVATE KEY", pkcs8EC, nil), 0o600, "x.test", "s", "ECDSA", ""},
		{"public", publicPEM, 0o600, "x.test", "s", "this is the public key", ""},
		{"encrypted", pemOf(t, "ENCRYPTED PRIVATE KEY", pkcs8RSA, nil), 0o600, "x.test", "s", "encrypted", ""},
		{"encrypted as of old", []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), 0o600, "x.test", "s", "encrypted", ""},
		{"no PEM", []byte("hello"), 0o600, "x.test", "s", "no private key in PEM form", ""},
		{"damaged", pemOf(t, "PRIVATE KEY", pkcs8RSA[:100], nil), 0o600, "x.test", "s", "asn1", ""},
		{"domain", rsaPEM, 0o600, "x test", "s", `"x test" is not a domain name`, ""},
		{"no domain", rsaPEM, 0o600, "", "s", "not a domain name", ""},
		{"selector", rsaPEM, 0o600, "x.test", "s;t=1", "not a selector", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeKey(t, tt.data, tt.mode)
			keys, err := LoadKeys([]KeyFile{{Domain: tt.domain, Selector: tt.selector, Path: path}})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want the path and %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			k := keys.All()[0]
			if want := tt.selector + "._domainkey.x.test"; k.RecordName() != want {
				t.Errorf("record name %q, want %q", k.RecordName(), want)
			}
			if !strings.HasPrefix(k.Record(), tt.record) {
				t.Errorf("record %q, want %q...", k.Record(), tt.record)
			}
			if w := keys.Warnings(time.Now()); len(w) != 0 {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

func TestLoadKeysNamesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := LoadKeys([]KeyFile{
		{Domain: "a.test", Selector: "s", Path: "/nowhere/a.pem"},
		{Domain: "b.test", Selector: "s", Path: writeKey(t, []byte("x"), 0o600)},
	})
	if err == nil || !strings.Contains(err.Error(), "DKIM key for a.test: open /nowhere/a.pem: no such file") || !strings.Contains(err.Error(), "DKIM key for b.test") {
		t.Errorf("got %v, want both keys named", err)
	}
}

func TestKeyLengths(t *testing.T) {
	t.Parallel()
	key1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey("x.test", "s", key1024)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := NewKeys(k)
	if err != nil {
		t.Fatal(err)
	}
	if w := keys.Warnings(time.Now()); len(w) != 1 || !strings.Contains(w[0], "s._domainkey.x.test has 1024 bits") {
		t.Errorf("warnings %q", w)
	}
	short := *key1024
	short.N = short.Primes[0]
	if _, err := NewKey("x.test", "s", &short); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("512 bits: %v", err)
	}
}

// TestKeysRunOut: that no key is in force is said, and two weeks before.
func TestKeysRunOut(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, tt := range []struct {
		name        string
		from, until [2]time.Time
		want        string
	}{
		{"always", [2]time.Time{}, [2]time.Time{}, ""},
		{"one after the other", [2]time.Time{{}, now.Add(3 * day)}, [2]time.Time{now.Add(4 * day), {}}, ""},
		{"a gap soon", [2]time.Time{{}, now.Add(5 * day)}, [2]time.Time{now.Add(4 * day), {}}, "none is in force from 2026-11-26 on; publish the next one now"},
		{"a gap later", [2]time.Time{{}, now.Add(55 * day)}, [2]time.Time{now.Add(54 * day), {}}, ""},
		{"over", [2]time.Time{}, [2]time.Time{now.Add(-day), now}, "none is in force, mail goes out unsigned; give one a time that has come (from, until)"},
		{"not yet", [2]time.Time{now.Add(day), now.Add(day)}, [2]time.Time{}, "none is in force, mail goes out unsigned; give one a time that has come (from, until)"},
	} {
		keys := testKeys(t, "ed25519 a:x.test", "ed25519 b:x.test")
		for i, k := range keys.all {
			k.From, k.Until = tt.from[i], tt.until[i]
		}
		got := strings.Join(keys.Warnings(now), "; ")
		if want := tt.want; want != "" && got != "DKIM keys of x.test: "+want || want == "" && got != "" {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func TestNewKeysRefusesDuplicates(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewKey("x.test", "s", key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKey(".X.test", "s", key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeys(a, b); err == nil || !strings.Contains(err.Error(), "two DKIM keys for domain x.test with selector s") {
		t.Errorf("got %v", err)
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN X-----\n-----END X-----\n-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := ParsePrivateKey(data); (key == nil) == (err == nil) {
			t.Errorf("key %v, error %v", key, err)
		}
	})
}
