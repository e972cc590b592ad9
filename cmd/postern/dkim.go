package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/spf13/cobra"

	"postern/filter/auth"
	"postern/filter/mail"
	"postern/policy"
)

func newDKIMCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dkim",
		Short: "Make, show and test the keys that sign mail",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newKeygenCommand(), newShowCommand(), newDKIMTestCommand())
	return cmd
}

func newKeygenCommand() *cobra.Command {
	var domain, selector, kind, out string
	var bits int
	cmd := &cobra.Command{
		Use:   "keygen --domain DOMAIN --selector SELECTOR",
		Short: "Make a key, and print what belongs into the DNS and the configuration",
		Long: `Make a private key in a new file with mode 0600, and print the TXT record for
the DNS and the lines for the configuration. The daemon must be able to read
the file: give it to the daemon's user, or to its group with mode 0640.

RSA is what every receiver understands. An Ed25519 key is small and fast; have
one beside an RSA key, under another selector, and mail is signed with both.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = strings.TrimPrefix(domain, ".") + "." + selector + ".pem"
			}
			signer, err := newPrivateKey(kind, bits)
			if err != nil {
				return exit(exitUsage, err)
			}
			key, err := auth.NewKey(domain, selector, signer)
			if err != nil {
				return exit(exitUsage, err)
			}
			if out, err = filepath.Abs(out); err != nil {
				return exit(exitCantCreate, err)
			}
			if err := writePrivateKey(out, signer); err != nil {
				return exit(exitCantCreate, err)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "; for the DNS zone that holds %s\n%s\n", key.Domain, zoneLine(key))
			fmt.Fprintf(w, "# for postern.yaml\ndkim_keys:\n  - {domain: %s, selector: %s, key: %q}\n", domain, selector, out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&domain, "domain", "", "signing `domain`; with a leading dot the key also signs for all domains below it")
	f.StringVar(&selector, "selector", "", "`name` of the key in the DNS, for example mail2026")
	f.StringVar(&kind, "type", "rsa", "rsa or ed25519")
	f.IntVar(&bits, "bits", 2048, "length of an RSA key, 1024 to 4096")
	f.StringVar(&out, "out", "", "new `file` for the private key (default DOMAIN.SELECTOR.pem)")
	for _, name := range []string{"domain", "selector"} {
		// no error: the flag exists
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func newPrivateKey(kind string, bits int) (crypto.Signer, error) {
	switch kind {
	case "rsa":
		if bits < 1024 || bits > 4096 {
			return nil, fmt.Errorf("--bits %d: verifiers understand 1024 to 4096, 2048 is good", bits)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("--type %q: want rsa or ed25519", kind)
}

// writePrivateKey never replaces a file: a lost key is lost for good.
func writePrivateKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func newShowCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the DNS records of all configured keys",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := configuredKeys(config)
			if err != nil {
				return exit(exitConfig, err)
			}
			w := cmd.OutOrStdout()
			if asJSON {
				rows := []keyRow{}
				for _, k := range keys.All() {
					rows = append(rows, newKeyRow(k))
				}
				return printJSON(w, rows)
			}
			for _, k := range keys.All() {
				fmt.Fprintln(w, zoneLine(k))
			}
			return nil
		},
	}
	addConfigFlag(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// configuredKeys reads the keys of a configuration that has at least one.
func configuredKeys(config string) (*auth.Keys, error) {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return nil, err
	}
	keys, err := loadKeys(cfg)
	if err == nil && len(keys.All()) == 0 {
		err = fmt.Errorf("%s: no dkim_keys (hint: postern dkim keygen makes one)", config)
	}
	return keys, err
}

// keyRow is what show and test say about a key in JSON.
type keyRow struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector"`
	Name     string `json:"name"`   // of the TXT record
	Record   string `json:"record"` // as it should be
	Error    string `json:"error,omitempty"`
	Warning  string `json:"warning,omitempty"`
}

func newKeyRow(k *auth.Key) keyRow {
	return keyRow{Domain: k.Domain, Selector: k.Selector, Name: k.RecordName(), Record: k.Record()}
}

// zoneLine returns the record as a line of a zone file (RFC 1035 section 5.1).
// One string of a TXT record holds 255 octets.
func zoneLine(k *auth.Key) string {
	var b strings.Builder
	b.WriteString(k.RecordName() + ". IN TXT (")
	for part := range slices.Chunk([]byte(k.Record()), 255) {
		fmt.Fprintf(&b, " \"%s\"", part)
	}
	return b.String() + " )"
}

func newDKIMTestCommand() *cobra.Command {
	var config, server, zone string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Check that the DNS has the public half of every configured key",
		Long: `Ask the DNS for the public half of every configured key, and sign and verify a
message with it. The exit code is 0 if all fit, 78 if receivers cannot use a
key, and 75 if the DNS gave no answer, so that nothing is known.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := configuredKeys(config)
			if err != nil {
				return exit(exitConfig, err)
			}
			lookup := dnsLookup(server)
			if zone != "" {
				if lookup, err = zoneLookup(zone); err != nil {
					return exit(exitConfig, err)
				}
			}
			return testKeys(cmd.Context(), cmd.OutOrStdout(), keys, lookup, asJSON)
		},
	}
	addConfigFlag(cmd, &config)
	f := cmd.Flags()
	f.StringVar(&server, "dns", "", "ask this name server, `ADDRESS:PORT`, instead of the system's")
	f.StringVar(&zone, "zone", "", "look into this zone `file`, such as show prints, instead of the DNS")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("dns", "zone")
	return cmd
}

// testKeys checks all keys before it says which are wrong.
func testKeys(ctx context.Context, w io.Writer, keys *auth.Keys, lookup lookupTXT, asJSON bool) error {
	if ctx == nil {
		ctx = context.Background()
	}
	rows := []keyRow{}
	wrong, unknown := 0, 0
	for _, k := range keys.All() {
		row := newKeyRow(k)
		warning, err := testKey(ctx, k, lookup)
		row.Warning = warning
		if err != nil {
			row.Error = err.Error()
			if unanswered(err) {
				unknown++
			} else {
				wrong++
			}
		}
		rows = append(rows, row)
		switch {
		case asJSON:
		case err != nil:
			fmt.Fprintf(w, "%s: %v\n", row.Name, err)
		case warning != "":
			fmt.Fprintf(w, "%s: good, but %s\n", row.Name, warning)
		default:
			fmt.Fprintf(w, "%s: good\n", row.Name)
		}
	}
	if asJSON {
		if err := printJSON(w, rows); err != nil {
			return err
		}
	}
	switch {
	case wrong > 0:
		return exit(exitConfig, fmt.Errorf("%d of %d keys cannot be used by receivers", wrong, len(rows)))
	case unknown > 0:
		return exit(exitTempFail, fmt.Errorf("the DNS gave no answer about %d of %d keys: whether receivers can use them is not known", unknown, len(rows)))
	}
	return nil
}

// unanswered reports whether the DNS could not be asked, which says nothing
// about the key.
func unanswered(err error) bool {
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && !dnsErr.IsNotFound
}

// testKey returns what is wrong with the published half of k, or what a
// postmaster should know although it is not.
func testKey(ctx context.Context, k *auth.Key, lookup lookupTXT) (warning string, err error) {
	records, err := lookup(ctx, k.RecordName())
	switch {
	case unanswered(err):
		return "", fmt.Errorf("the DNS gave no answer: %w (hint: --dns ADDRESS:PORT asks another server)", err)
	case err != nil || len(records) == 0:
		return "", errors.New("there is no TXT record (hint: postern dkim show prints it)")
	case len(records) > 1:
		return "", fmt.Errorf("there are %d TXT records, receivers want exactly one", len(records))
	}
	have, want := recordTags(records[0]), recordTags(k.Record())
	kind := have["k"]
	if kind == "" {
		kind = "rsa" // RFC 6376 section 3.6.1
	}
	p, published := have["p"]
	switch {
	case !published:
		return "", errors.New("the TXT record has no p= tag: it is no DKIM key")
	case p == "":
		return "", errors.New("the key is revoked: p= is empty")
	case kind != want["k"]:
		return "", fmt.Errorf("the DNS has a key of type %q, ours is %q", kind, want["k"])
	}
	if err := verifyProbe(k, records[0]); err != nil {
		if p != want["p"] {
			return "", errors.New("the DNS has another key (hint: postern dkim show prints ours)")
		}
		return "", err
	}
	if slices.Contains(strings.Split(have["t"], ":"), "y") {
		warning = "t=y says that the domain only tests DKIM: receivers ignore the signature"
	}
	return warning, nil
}

// verifyProbe signs a message with k and verifies it as a receiver would that
// finds record.
func verifyProbe(k *auth.Key, record string) error {
	keys, err := auth.NewKeys(k)
	if err != nil {
		return err
	}
	o := &mail.Outgoing{Message: mail.NewMessage([]byte("From: postmaster@" + k.Domain + "\r\nSubject: probe\r\n\r\nprobe\r\n"))}
	if _, err := keys.Sign(o, auth.SignOptions{}); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := o.WriteTo(&b); err != nil {
		return err
	}
	results, err := dkim.VerifyWithOptions(&b, &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
	})
	if err != nil {
		return err
	}
	if len(results) != 1 {
		return errors.New("the probe message was not signed")
	}
	return results[0].Err
}

// recordTags splits a tag-list (RFC 6376 section 3.2). No tag of a key record
// needs its white space.
func recordTags(record string) map[string]string {
	tags := map[string]string{}
	for tag := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	return tags
}

// lookupTXT returns the TXT records of a name, each with its strings joined.
type lookupTXT func(ctx context.Context, name string) ([]string, error)

func dnsLookup(server string) lookupTXT {
	resolver := &net.Resolver{}
	if server != "" {
		resolver.PreferGo = true
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
	}
	return func(ctx context.Context, name string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return resolver.LookupTXT(ctx, name+".")
	}
}

func zoneLookup(path string) (lookupTXT, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	records := zoneRecords(string(data))
	return func(_ context.Context, name string) ([]string, error) { return records[strings.ToLower(name)], nil }, nil
}

// zoneRecords returns the TXT records of a zone file by name. It knows full
// names only, and neither $ORIGIN nor $INCLUDE.
func zoneRecords(zone string) map[string][]string {
	records := map[string][]string{}
	var name, text string
	isTXT := false
	end := func() {
		if isTXT {
			records[name] = append(records[name], text)
		}
		name, text, isTXT = "", "", false
	}
	depth := 0
	for len(zone) > 0 {
		c := zone[0]
		switch {
		case c == '\n' && depth == 0:
			end()
		case c == '(':
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case c == ';':
			_, rest, _ := strings.Cut(zone, "\n")
			zone = "\n" + rest
			continue
		case c == '"':
			part, rest, _ := strings.Cut(zone[1:], `"`)
			text += part
			zone = rest
			continue
		case c > ' ':
			n := strings.IndexAny(zone, " \t\r\n();\"")
			if n < 0 {
				n = len(zone)
			}
			word := zone[:n]
			switch {
			case name == "":
				name = strings.ToLower(strings.TrimSuffix(word, "."))
			case isTXT:
				text += word
			case strings.EqualFold(word, "TXT"):
				isTXT = true
			}
			zone = zone[n:]
			continue
		}
		zone = zone[1:]
	}
	end()
	return records
}
