package policy

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the files that are generated")

// engineOptions stand for the options of a real engine.
type engineOptions struct {
	Address string        `yaml:"address"`
	Timeout time.Duration `yaml:"timeout"`
	Servers []string      `yaml:"servers"`
	Weight  float64       `yaml:"weight"`
	TLS     struct {
		On *bool `yaml:"on"`
	} `yaml:"tls"`
	Headers map[string]string `yaml:"headers"`
}

func (o *engineOptions) Validate() error {
	if o.Address != "" && !strings.HasPrefix(o.Address, "unix:") {
		return errors.New("address: want unix:PATH")
	}
	return nil
}

func testEngines() map[string]func() any {
	return map[string]func() any{
		"clamav":  func() any { return &engineOptions{Timeout: time.Minute} },
		"builtin": func() any { return &struct{}{} },
	}
}

// unpackFiles writes the files of an archive to a new folder.
func unpackFiles(t *testing.T, files []txtar.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBad reads the corpus of bad configurations: each file is one, with the
// exact messages in its section want.
func TestBad(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(cases) < 60 {
		t.Fatalf("%d bad configurations, want at least 60 (%v)", len(cases), err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			last := len(ar.Files) - 1
			if last < 1 || ar.Files[last].Name != "want" {
				t.Fatal("the last section must be want")
			}
			dir := unpackFiles(t, ar.Files[:last])
			_, err = Load(filepath.Join(dir, "postern.yaml"), testEngines())
			var config *ConfigError
			if !errors.As(err, &config) {
				t.Fatalf("got error %v, want a ConfigError", err)
			}
			got := strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
			if *update {
				ar.Files[last].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(ar.Files[last].Data); got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
			for _, word := range []string{"policy.", "reflect", "unmarshal", "yaml.v3", "yaml: ", "*struct"} {
				if strings.Contains(got, word) {
					t.Errorf("the messages speak of %q:\n%s", word, got)
				}
			}
		})
	}
}
