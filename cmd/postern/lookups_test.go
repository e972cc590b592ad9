package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/policy"
)

// lookupConfig writes a configuration with a database at an address where nobody
// listens, and returns its path and the folder.
func lookupConfig(t *testing.T, kind, more string) (path, dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dsn := "postgres://postern:s3cret@" + addr + "/mail"
	if kind == "mariadb" {
		dsn = "postern:s3cret@tcp(" + addr + ")/mail"
	}
	path = filepath.Join(dir, "postern.yaml")
	text := fmt.Sprintf("hostname: mail.ours.test\nlocal_domains: [ours.test]\nlookups:\n  sql: {type: %s, dsn: 'file:dsn'%s}\n", kind, more)
	for name, data := range map[string]string{path: text, filepath.Join(dir, "dsn"): dsn} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path, dir
}

// A server that does not answer fails the probe and an explanation, and neither
// tells the password.
func TestLookupDown(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgresql", "mariadb"} {
		path, _ := lookupConfig(t, kind, "")
		var out strings.Builder
		err := runCheck(t.Context(), &out, checkOptions{config: path, probe: true}, nil)
		if exitCode(err) != exitUnavailable || !strings.Contains(out.String(), "lookups.sql "+kind+": FAILED: select_policy: ") || strings.Contains(out.String(), "s3cret") {
			t.Errorf("%s: %v\n%s", kind, err, out.String())
		}
		o := explainOptions{config: path}
		o.envelope.from, o.envelope.to = "a@else.test", []string{"b@ours.test"}
		err = explain(t.Context(), nil, &out, o, "")
		if err == nil || !strings.Contains(err.Error(), "looking up settings of <b@ours.test>: lookups.sql: select_policy") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Without the file of the address nothing starts, and check says where.
func TestLookupWithoutAddress(t *testing.T) {
	t.Parallel()
	path, dir := lookupConfig(t, "mariadb", "")
	if err := os.Remove(filepath.Join(dir, "dsn")); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := runCheck(t.Context(), &out, checkOptions{config: path}, nil)
	if exitCode(err) != exitConfig || !strings.Contains(out.String(), path+":4: lookups.sql.dsn: open "+dir+"/dsn: no such file") {
		t.Errorf("%v\n%s", err, out.String())
	}
	cfg, err := policy.Load(path, engines())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newDaemon(cfg, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "lookups.sql.dsn") {
		t.Errorf("the daemon: %v", err)
	}
}

// A reload keeps the source with all that it knows, unless it is another one.
func TestReloadKeepsLookup(t *testing.T) {
	t.Parallel()
	path, dir := lookupConfig(t, "postgresql", "")
	load := func() *policy.Config {
		cfg, err := policy.Load(path, engines())
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	d, err := newDaemon(load(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	first := d.source
	defer first.Close()
	if err := d.reload(load()); err != nil || d.source != first {
		t.Errorf("the same configuration has another source: %v", err)
	}
	// another password
	if err := os.WriteFile(filepath.Join(dir, "dsn"), []byte("postgres://postern:other@127.0.0.1:1/mail"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.reload(load()); err != nil || d.source == first || d.source == nil {
		t.Errorf("another address has the same source: %v", err)
	}
	d.source.Close()
}

// exitCode is the code that an error makes the program exit with.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return 0
}
