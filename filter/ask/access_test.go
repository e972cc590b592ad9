package ask

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/policy"
)

// What the user of the daemon cannot use is found, although root can.
func TestNotAccessible(t *testing.T) {
	t.Parallel()
	who := "nobody"
	if os.Geteuid() != 0 {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		who = me.Username
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"open.sock": 0o777, "closed.sock": 0} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("open.pem", "", 0o644)
	write("closed.pem", "", 0)
	write("locked/key.pem", "", 0o644)
	write("domains", "example.org\n", 0)
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{"locked", 0}, {"open", 0o777}, {"closed", 0o555}} {
		path := filepath.Join(dir, d.name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o755)
	}
	text := `local_domains: [example.org]
listeners:
  - {protocol: lmtp, address: "unix:open/a.sock"}
  - {protocol: lmtp, address: "unix:closed/a.sock"}
spool: {dir: closed}
state: {dir: closed/state}
log: {to: open/mail.log}
dkim_keys:
  - {domain: a.test, selector: s, key: open.pem}
  - {domain: b.test, selector: s, key: closed.pem}
  - {domain: c.test, selector: s, key: locked/key.pem}
  - {domain: d.test, selector: s, key: none.pem}
engines: {clamav: {address: ["unix:` + dir + `/open.sock", "unix:` + dir + `/closed.sock", "unix:/nonexistent/sock"]}}
`
	write("postern.yaml", text, 0o644)
	want := []string{
		"postern.yaml:10: DKIM key for b.test: user " + who + " cannot read DIR/closed.pem: permission denied; give it to that user, or to a group that " + who + " is in",
		"postern.yaml:11: DKIM key for c.test: user " + who + " cannot read DIR/locked/key.pem: permission denied; the folder DIR/locked is closed to that user",
		"postern.yaml:13: engine clamav: user " + who + " cannot connect to DIR/closed.sock: permission denied; give it to that user, or to a group that " + who + " is in",
		"postern.yaml:4: listener unix:DIR/closed/a.sock: user " + who + " cannot write into DIR/closed: permission denied; give it to that user, or to a group that " + who + " is in",
		"postern.yaml:5: spool: user " + who + " cannot write into DIR/closed: permission denied; give it to that user, or to a group that " + who + " is in",
		"postern.yaml:6: state: user " + who + " cannot write into DIR/closed: permission denied; give it to that user, or to a group that " + who + " is in",
	}
	if os.Geteuid() == 0 { // others could not read the list to begin with
		write("postern.yaml", strings.Replace(text, "[example.org]", `["file:domains"]`, 1), 0o644)
		want = append([]string{"domains: configuration: user " + who + " cannot read DIR/domains: permission denied; give it to that user, or to a group that " + who + " is in"}, want...)
	}
	cfg, err := policy.Load(filepath.Join(dir, "postern.yaml"), engines())
	if err != nil {
		t.Fatal(err)
	}
	remarks, err := NotAccessible(cfg, who)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range remarks {
		got = append(got, strings.ReplaceAll(strings.TrimPrefix(r.String(), dir+"/"), dir, "DIR"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := NotAccessible(cfg, "nobody-of-this-name"); err == nil {
		t.Error("a user that is not there was asked about")
	}
	// the program is still who it was
	if f, err := os.Open(filepath.Join(dir, "postern.yaml")); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}
