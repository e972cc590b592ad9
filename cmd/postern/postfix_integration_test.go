//go:build integration

package main

// The commands that postern postfix prints, run with the real postconf on a
// folder of the test.

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"postern/deploy/postfix"
)

// privatePostfix is a configuration folder, with the configuration of Postern
// beside it.
type privatePostfix struct {
	*testing.T
	dir, config string
}

func newPrivatePostfix(t *testing.T, p aPostfix, config string) privatePostfix {
	t.Helper()
	dir := t.TempDir()
	x := privatePostfix{t, filepath.Join(dir, "with a space"), filepath.Join(dir, "postern.yaml")}
	if err := os.Mkdir(x.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// the version is that of the Postfix that is here
	main := with(p.main, "- mail_version\n", mainKey)
	for path, text := range map[string]string{filepath.Join(x.dir, "main.cf"): main, filepath.Join(x.dir, "master.cf"): p.master, x.config: config} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// settle makes the files old: postconf waits two seconds for a file that has
// just been written.
func (x privatePostfix) settle() {
	x.Helper()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"main.cf", "master.cf"} {
		if err := os.Chtimes(filepath.Join(x.dir, name), old, old); err != nil {
			x.Error(err)
		}
	}
}

func (x privatePostfix) check() []postfixFinding {
	x.Helper()
	x.settle()
	var out bytes.Buffer
	err := checkPostfix(x.Context(), &out, x.config, postfixSource{dir: x.dir}, true)
	var report postfixReport
	if jsonErr := json.Unmarshal(out.Bytes(), &report); jsonErr != nil {
		x.Fatalf("%v, %v: %s", err, jsonErr, out.Bytes())
	}
	checkExit(x.T, err, len(report.Findings) > 0)
	if report.Version == "unknown" {
		x.Error("the version is not known")
	}
	return report.Findings
}

func (x privatePostfix) shell(command string) {
	x.Helper()
	x.settle()
	cmd := exec.CommandContext(x.Context(), "sh", "-ec", command)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("unmatched")) {
		x.Errorf("%s: %v\n%s", command, err, out)
	}
}

// mend runs what the findings advise; what then is still found has no command.
func (x privatePostfix) mend() {
	x.Helper()
	for _, f := range x.check() {
		for _, command := range f.Mend {
			x.shell(command)
		}
	}
	for _, f := range x.check() {
		if len(f.Mend) > 0 {
			x.Errorf("still found: %+v", f)
		}
	}
}

// Every case of testdata/postfix is well after one round of mending.
func TestPostfixMend(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/postfix/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases, %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, config := shippedPostfix(t), plainConfig
			for _, f := range archive.Files {
				switch f.Name {
				case "main":
					p.main = with(p.main, string(f.Data), mainKey)
				case "master":
					p.master = with(p.master, string(f.Data), masterKey)
				case "postern.yaml":
					config = string(f.Data)
				}
			}
			newPrivatePostfix(t, p, config).mend()
		})
	}
}

// A Postfix that knows nothing of Postern is well after what check advises,
// and after what show prints.
func TestPostfixFromNothing(t *testing.T) {
	t.Parallel()
	plain := aPostfix{plainMain, strings.NewReplacer(" -o content_filter=amavisfeed:[127.0.0.1]:10024", "",
		" -o content_filter=amavisfeed:[127.0.0.1]:10023 -o local_header_rewrite_clients=static:all", "").Replace(plainMaster)}
	x := newPrivatePostfix(t, plain, plainConfig)
	if found := x.check(); len(found) < 5 {
		t.Errorf("found only %+v", found)
	}
	x.mend()

	shown := map[string]string{"plain": plainConfig}
	cases, _ := filepath.Glob("testdata/postfix/show/*.txtar")
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown[file] = string(archive.Files[0].Data)
	}
	for name, config := range shown {
		x = newPrivatePostfix(t, plain, config)
		facts, err := loadFacts(x.config)
		if err != nil {
			t.Fatal(err)
		}
		commands, _, ok := strings.Cut(postfix.Show(facts, true), "postfix check")
		if !ok {
			t.Fatal("show ends otherwise")
		}
		x.shell(strings.ReplaceAll(commands, "postconf ", "postconf -c '"+x.dir+"' "))
		if found := x.check(); len(found) > 0 {
			t.Errorf("%s: found %+v", name, found)
		}
	}
}
