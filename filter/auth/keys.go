package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Key is a private key with the place of its public half in the DNS.
type Key struct {
	Domain   string // d=, an A-label name in lower case, without a leading dot
	Selector string // s=
	// The key signs from From, and until Until; zero: always.
	From, Until time.Time

	subdomains bool
	signer     crypto.Signer
}

const (
	minRSABits = 1024 // RFC 8301 section 3.2: verifiers refuse shorter keys
	wantedBits = 2048 // same place: what a signer should use
)

// NewKey makes a signing key of an RSA or Ed25519 private key. A leading dot
// of domain means that the key also signs for all domains below that have no
// key of their own, with d= naming the domain itself.
func NewKey(domain, selector string, signer crypto.Signer) (*Key, error) {
	name, subdomains := strings.CutPrefix(domain, ".")
	d, ok := domainToASCII(name)
	if !ok {
		return nil, fmt.Errorf("%q is not a domain name", domain)
	}
	if !isName(selector) {
		return nil, fmt.Errorf("%q is not a selector: letters, digits, hyphens and dots are allowed", selector)
	}
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		if n := key.N.BitLen(); n < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is too short: verifiers want at least %d, better %d", n, minRSABits, wantedBits)
		}
	case ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("DKIM has no use for a key of type %T: make an RSA or Ed25519 key", signer)
	}
	return &Key{Domain: d, Selector: selector, subdomains: subdomains, signer: signer}, nil
}

// RecordName returns the DNS name of the public key, without a final dot.
func (k *Key) RecordName() string { return k.Selector + "._domainkey." + k.Domain }

// Record returns the text of the TXT record with the public key (RFC 6376
// section 3.6.1, RFC 8463 section 4).
func (k *Key) Record() string {
	algorithm, public := "", []byte(nil)
	switch p := k.signer.Public().(type) {
	case *rsa.PublicKey:
		algorithm = "rsa"
		// no error: it knows the type
		public, _ = x509.MarshalPKIXPublicKey(p)
	case ed25519.PublicKey:
		algorithm, public = "ed25519", p
	}
	return "v=DKIM1; k=" + algorithm + "; p=" + base64.StdEncoding.EncodeToString(public)
}

// Keys are the DKIM keys of a configuration. They do not change; nil is a
// valid value without keys.
type Keys struct {
	all      []*Key
	byDomain map[string][]*Key
}

// NewKeys collects keys. Two with the same domain and selector are an error;
// several for one domain all sign.
func NewKeys(keys ...*Key) (*Keys, error) {
	k := &Keys{all: keys, byDomain: map[string][]*Key{}}
	seen := map[string]bool{}
	for _, key := range keys {
		if name := key.RecordName(); seen[name] {
			return nil, fmt.Errorf("two DKIM keys for domain %s with selector %s", key.Domain, key.Selector)
		} else {
			seen[name] = true
		}
		k.byDomain[key.Domain] = append(k.byDomain[key.Domain], key)
	}
	return k, nil
}

// KeyFile names a file with a private key, and what the key is for.
type KeyFile struct {
	Domain, Selector string    // as [NewKey] takes them
	From, Until      time.Time // when it signs, zero: always
	Path             string
	Where            string // the place in the configuration, "postern.yaml:12"
}

// LoadKeys reads all keys. The error names every file that is missing, not a
// key, or open to others, and where it is configured.
func LoadKeys(files []KeyFile) (*Keys, error) {
	var keys []*Key
	var errs []error
	for _, f := range files {
		key, err := loadKey(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: DKIM key for %s: %w", f.Where, f.Domain, err))
			continue
		}
		key.From, key.Until = f.From, f.Until
		keys = append(keys, key)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return NewKeys(keys...)
}

// maxKeyFile bounds what is read of a key file: 16384 bits of RSA are 13 kB.
const maxKeyFile = 64 << 10

func loadKey(f KeyFile) (*Key, error) {
	data, err := readKeyFile(f.Path)
	if err != nil {
		return nil, err
	}
	signer, err := ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	key, err := NewKey(f.Domain, f.Selector, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return key, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (hint: postern dkim keygen makes one)", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: no regular file", path)
	}
	// the group may read: a key that belongs to root and the daemon's group
	// cannot be changed by the daemon
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%s: mode %04o lets others read or write it (hint: chmod 0640)", path, mode)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// ParsePrivateKey returns the first private key of a PEM file.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("no private key in PEM form (hint: postern dkim keygen makes one)")
		}
		var key any
		var err error
		switch block.Type {
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("the key is encrypted: store it without a passphrase")
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: store it without a passphrase")
		case "EC PRIVATE KEY":
			return nil, errors.New("DKIM has no use for an ECDSA key: make an RSA or Ed25519 key")
		case "PUBLIC KEY", "RSA PUBLIC KEY":
			return nil, errors.New("this is the public key: the private one is needed")
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("DKIM has no use for a key of type %T: make an RSA or Ed25519 key", key)
		}
		return signer, nil
	}
}

// All returns the keys in the order of the configuration.
func (k *Keys) All() []*Key {
	if k == nil {
		return nil
	}
	return k.all
}

// soonOut is how long before the last key of a domain ends that is said: there
// must be time to publish another.
const soonOut = 14 * 24 * time.Hour

// Warnings returns what a postmaster should know about the keys at that time,
// one sentence each.
func (k *Keys) Warnings(now time.Time) []string {
	var out []string
	if k != nil {
		for _, domain := range slices.Sorted(maps.Keys(k.byDomain)) {
			if w := gap(k.byDomain[domain], now); w != "" {
				out = append(out, "DKIM keys of "+domain+": "+w)
			}
		}
	}
	for _, key := range k.All() {
		if p, ok := key.signer.(*rsa.PrivateKey); ok && p.N.BitLen() < wantedBits {
			out = append(out, fmt.Sprintf("the DKIM key %s has %d bits; receivers may ask for %d (RFC 8301)", key.RecordName(), p.N.BitLen(), wantedBits))
		}
	}
	return out
}

// gap says when none of keys is in force, now or soon.
func gap(keys []*Key, now time.Time) string {
	inForce := func(at time.Time) bool {
		return slices.ContainsFunc(keys, func(k *Key) bool { return k.InForce(at) })
	}
	if !inForce(now) {
		return "none is in force, mail goes out unsigned; give one a time that has come (from, until)"
	}
	for _, k := range keys {
		if end := k.Until; !end.IsZero() && end.After(now) && end.Before(now.Add(soonOut)) && !inForce(end) {
			return "none is in force from " + end.Format(time.DateOnly) + " on; publish the next one now"
		}
	}
	return ""
}

// find returns the first domain for which a key is in force, and its keys: its
// own, or those of its nearest parent that signs for its subdomains.
func (k *Keys) find(domains []string, options *SignOptions) (domain string, keys []*Key) {
	fits := func(key *Key) bool {
		return key.InForce(options.Now) && (len(options.Selectors) == 0 || slices.Contains(options.Selectors, key.Selector))
	}
	for _, d := range domains {
		below := false
		for at, ok := d, true; ok; _, at, ok = strings.Cut(at, ".") {
			for _, key := range k.byDomain[at] {
				if (!below || key.subdomains) && fits(key) {
					keys = append(keys, key)
				}
			}
			if len(keys) > 0 {
				return d, keys
			}
			below = true
		}
	}
	return "", nil
}

// InForce reports whether the key signs at that time.
func (key *Key) InForce(now time.Time) bool {
	return !now.Before(key.From) && (key.Until.IsZero() || now.Before(key.Until))
}
