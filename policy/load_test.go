package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"postern/filter/mail"
)

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse("etc/postern.yaml", []byte(`%YAML 1.1
---
hostname: MAIL.Müller.example
domain: bücher.example
local_domains: [.BÜCHER.example, example.org, .]
own_networks: 192.0.2.0/24
listeners:
  - {protocol: milter, address: "unix:run/m.sock", mode: 0660, owner: postfix:postfix, bank: MYNETS}
  - {protocol: smtp, address: "[::1]:0"}
  - {protocol: lmtp, address: ":10024"}
dkim_keys:
  - {domain: .Example.ORG, selector: 20210807, key: k.pem}
  - {domain: example.org, selector: s._x, key: /etc/k.pem}
quarantine: {dir: q}
spool: {memory: 1MiB}
limits: {idle: 1h30m, message_size: 4096}
log: {to: mail.log, level: debug}
engines:
  clamav: {address: "unix:/c", servers: a, weight: 1.5, tls: {on: true}, headers: {X-A: 1}}
  builtin:
`), testEngines())
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	want := &engineOptions{Address: "unix:/c", Timeout: time.Minute, Servers: []string{"a"}, Weight: 1.5, Headers: map[string]string{"X-A": "1"}}
	want.TLS.On = &yes
	for _, tt := range []struct{ what, got, want any }{
		{"hostname", c.Hostname, "mail.xn--mller-kva.example"},
		{"local_domains", c.LocalDomains, []string{".xn--bcher-kva.example", "example.org", "."}},
		{"own_networks", c.OwnNetworks, []string{"192.0.2.0/24"}},
		{"notify_from", c.NotifyFrom, mail.Address("postmaster@mail.xn--mller-kva.example")},
		{"mode", c.Listeners[0].Mode, fs.FileMode(0o660)},
		{"socket", c.Listeners[0].Address, "unix:etc/run/m.sock"},
		{"selector", c.DKIMKeys[0].Selector, "20210807"},
		{"key domain", c.DKIMKeys[0].Domain, ".example.org"},
		{"key", c.DKIMKeys[0].Key, "etc/k.pem"},
		{"absolute key", c.DKIMKeys[1].Key, "/etc/k.pem"},
		{"quarantine", c.Quarantine.Dir, "etc/q"},
		{"spool", c.Spool.Dir, ""},
		{"memory", c.Spool.Memory, mail.Size(1 << 20)},
		{"idle", c.Limits.Idle, 90 * time.Minute},
		{"size in octets", c.Limits.MessageSize, mail.Size(4096)},
		{"default beside it", c.Limits.Received, 50},
		{"log", c.Log.To, "etc/mail.log"},
		{"engine", c.Engines["clamav"], want},
		{"engine without options", c.Engines["builtin"] != nil, true},
		{"listener", c.Listener(":10024"), &c.Listeners[2]},
		{"no listener", c.Listener("127.0.0.1:10024"), (*Listener)(nil)},
		{"no bank", c.Bank("NONE"), (*Overlay)(nil)},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s is %#v, want %#v", tt.what, tt.got, tt.want)
		}
	}
}

func TestParseNothing(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "# nothing\n", "---\n", "\ufeff", "~\n", "{}\n", "settings:\n", "hostname:\nbanks:\nengines:\nlimits:\nrecipients:\n"} {
		c := mustParse(t, data)
		if c.Hostname == "" || c.Domain == "" || c.NotifyFrom == "" || c.Settings.Virus.Destiny != Reject || len(c.Listeners) == 0 {
			t.Errorf("%q gives %+v", data, c)
		}
		for _, name := range []string{"ORIGINATING", "MYNETS"} {
			if o := c.Bank(name); o == nil || !o.Over(&c.Settings).Originating {
				t.Errorf("%q: bank %s is not originating", data, name)
			}
		}
	}
}

// A bank that exists anyway keeps originating unless the file says otherwise.
func TestBuiltInBanks(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "banks: {MYNETS: {virus: {lover: true}}, ORIGINATING: {originating: false}}")
	if s := c.Bank("MYNETS").Over(&c.Settings); !s.Originating || !s.Virus.Lover {
		t.Errorf("MYNETS gives %+v", s)
	}
	if c.Bank("ORIGINATING").Over(&c.Settings).Originating {
		t.Error("originating: false is not heeded")
	}
}

const confD = `
-- postern.yaml --
hostname: a.example
local_domains: [a.example]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:1"}
settings:
  virus: {destiny: pass, fakes_sender: [one, two]}
banks:
  B: {originating: true, virus: {admin: a@a.example}}
engines:
  clamav: {address: "unix:/a", timeout: 5s, servers: [a, b]}
-- conf.d/20-late.yaml --
hostname: late.example
local_domains: late.example
-- conf.d/10-early.yaml --
hostname: early.example
local_domains: [early.example]
listeners:
  - {protocol: lmtp, address: "127.0.0.1:2"}
settings:
  virus: {fakes_sender: [three]}
banks:
  B: {virus: {admin: ""}}
  C: {}
recipients:
  - {match: "file:vip.txt", settings: {spam: {bypass: true}}}
engines:
  clamav: {servers: [c]}
  builtin: {}
dkim_keys: [{domain: a.example, selector: s, key: k.pem}]
-- conf.d/.hidden.yaml --
nonsense
-- conf.d/10-early.yaml.bak --
nonsense
-- conf.d/sub/x.yaml --
nonsense
-- vip.txt --
boss@a.example
`

func TestConfD(t *testing.T) {
	t.Parallel()
	dir := unpackFiles(t, txtar.Parse([]byte(confD)).Files)
	c, err := Load(filepath.Join(dir, "postern.yaml"), testEngines())
	if err != nil {
		t.Fatal(err)
	}
	b := c.Bank("B").Over(&c.Settings)
	addresses := []string{c.Listeners[0].Address, c.Listeners[1].Address}
	early := filepath.Join(dir, "conf.d", "10-early.yaml")
	for _, tt := range []struct{ what, got, want any }{
		{"scalar", c.Hostname, "late.example"},
		{"list at the top", c.LocalDomains, []string{"a.example", "early.example", "late.example"}},
		{"built-in list", addresses, []string{"127.0.0.1:1", "127.0.0.1:2"}},
		{"setting kept", c.Settings.Virus.Destiny, Pass},
		{"list of settings", c.Settings.Virus.FakesSender, []string{"three"}},
		{"its place", c.Settings.Origin("virus.fakes_sender"), Origin{File: early, Line: 6}},
		{"bank kept", b.Originating, true},
		{"bank changed", b.Virus.Admin, mail.Address("")},
		{"place in the bank", b.Origin("virus.admin"), Origin{"B", early, 8}},
		{"place of the bank", c.Bank("B").Origin, Origin{"B", filepath.Join(dir, "postern.yaml"), 8}},
		{"bank added", c.Bank("C") != nil, true},
		{"engine", c.Engines["clamav"], &engineOptions{Address: "unix:/a", Timeout: 5 * time.Second, Servers: []string{"c"}}},
		{"path", c.DKIMKeys[0].Key, filepath.Join(dir, "k.pem")},
		{"place of a key", c.Origin("hostname"), Origin{File: filepath.Join(dir, "conf.d", "20-late.yaml"), Line: 1}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %#v, want %#v", tt.what, tt.got, tt.want)
		}
	}
}

func TestLoadMissing(t *testing.T) {
	t.Parallel()
	if _, err := Load(filepath.Join(t.TempDir(), "postern.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
}

// A file of conf.d that cannot be read does not keep the mistakes of others
// back.
func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	dir := unpackFiles(t, []txtar.File{{Name: "postern.yaml", Data: []byte("hostnam: x\n")}, {Name: "conf.d/b.yaml", Data: []byte("domian: x\n")}})
	if err := os.Symlink("nowhere", filepath.Join(dir, "conf.d", "a.yaml")); err != nil {
		t.Fatal(err)
	}
	_, err := Load(filepath.Join(dir, "postern.yaml"), nil)
	const want = `postern.yaml:1:1: unknown key "hostnam"; nearest known key is "hostname"
conf.d/a.yaml: this file cannot be read: no such file or directory
conf.d/b.yaml:1:1: unknown key "domian"; nearest known key is "domain"`
	if err == nil || strings.ReplaceAll(err.Error(), dir+"/", "") != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestArticle loads the example that the documentation walks through.
func TestArticle(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../deploy/examples/article.yaml")
	if err != nil {
		t.Fatal(err)
	}
	engines := testEngines()
	engines["spamassassin"] = func() any {
		return &struct {
			Address string `yaml:"address"`
		}{}
	}
	c, err := Parse("/etc/postern/postern.yaml", data, engines)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listeners) != 4 {
		t.Errorf("%d listeners, want 4", len(c.Listeners))
	}
	s := c.Bank("INT-MTA").Over(c.Bank("AM.PDP-SOCK").Over(&c.Settings))
	if !s.DKIM.Sign || s.Virus.Admin != "postmaster@no-uce.de" || !s.Originating {
		t.Errorf("AM.PDP-SOCK/INT-MTA does not sign and notify: %+v", s)
	}
}

// FuzzParse feeds rubbish: the answer is a configuration or mistakes that are
// one line each and name a place in the file.
func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? - a\n: - b\n"))
	f.Add([]byte("settings: {virus: {admin: \"\\\"a b\\\"@example.org\"}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "file:") {
			t.Skip("a list could name any file of this system")
		}
		c, err := Parse("postern.yaml", data, testEngines())
		var config *ConfigError
		switch {
		case err == nil && c == nil:
			t.Fatal("neither configuration nor error")
		case err == nil:
			for _, name := range slices.Sorted(maps.Keys(c.Banks)) {
				c.Bank(name).Over(&c.Settings)
			}
		case !errors.As(err, &config) || len(config.Mistakes) == 0 || c != nil:
			t.Fatalf("want mistakes, got %v", err)
		default:
			for _, m := range config.Mistakes {
				if s := m.String(); m.File != "postern.yaml" || m.Line < 1 || m.Column < 1 || strings.ContainsAny(s, "\n\r\x00\x1b") {
					t.Fatalf("bad mistake %q", s)
				}
			}
		}
	})
}

// TestSafeDefaults holds what must not change by a slip of the pen: failed
// checks keep mail back, no network and no message is ours unasked, and no
// virus name is taken for proof of a forged sender.
func TestSafeDefaults(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "")
	s := &c.Settings
	if s.OnError != OnErrorTempfail || s.Originating || len(c.OwnNetworks)+len(c.LocalDomains) != 0 ||
		len(s.Virus.FakesSender) != 0 || s.Spam.DSNCutoffLevel != 0 || s.Virus.Destiny != Reject {
		t.Errorf("own_networks %v, local_domains %v, settings %+v", c.OwnNetworks, c.LocalDomains, s)
	}
	for _, l := range c.Listeners {
		if !strings.HasPrefix(l.Address, "127.0.0.1:") {
			t.Errorf("listener on %s", l.Address)
		}
	}
	for _, key := range SettingsKeys() {
		if strings.HasSuffix(key, ".bypass") || strings.HasSuffix(key, ".lover") {
			if s.Value(key) != false {
				t.Errorf("%s is on", key)
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var data strings.Builder
	data.WriteString("own_networks:\n")
	for i := range 1000 {
		fmt.Fprintf(&data, "  - 10.%d.%d.0/24\n", i/250, i%250)
	}
	data.WriteString("recipients:\n")
	for i := range 10000 {
		fmt.Fprintf(&data, "  - {match: user%d@example.org, settings: {spam: {kill_level: %d}}}\n", i, i)
	}
	for b.Loop() {
		mustParse(b, data.String())
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
