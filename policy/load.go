package policy

// Reading the files of a configuration into one Config.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/policy/strict"
)

// Load reads the configuration in path and then, in the order of their names,
// the files conf.d/*.yaml beside it. A later file goes over the earlier ones:
// mappings merge key by key, scalars replace, lists at the top of a file
// (listeners, local_domains, recipients, ...) are joined, lists further down
// replace. Paths are relative to the folder of path.
//
// engines has a function for each engine that returns a pointer to a struct of
// its options, filled with their defaults; the entry of the same name in
// Config.Engines is that pointer. If the struct has a method Validate() error,
// it is called.
//
// All mistakes of all files are returned as one [ConfigError].
func Load(path string, engines map[string]func() any) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	l := newLoader(filepath.Dir(path), engines)
	l.Read(path, data, l.cfg)
	dropIns, err := l.dropIns(filepath.Join(l.dir, "conf.d"))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	for _, p := range dropIns {
		data, err := os.ReadFile(p)
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err // the place says which file
		}
		if err != nil {
			l.Unread(p, "this file cannot be read: "+err.Error(), "")
			continue
		}
		l.Read(p, data, l.cfg)
	}
	return l.finish()
}

// Parse reads one file that is in memory, without conf.d. name stands in
// messages, and its folder is the one that paths are relative to.
func Parse(name string, data []byte, engines map[string]func() any) (*Config, error) {
	l := newLoader(filepath.Dir(name), engines)
	l.Read(name, data, l.cfg)
	return l.finish()
}

// loader reads the files of one configuration and judges them.
type loader struct {
	*strict.Reader
	dir     string
	cfg     *Config
	base    *Overlay // the key settings of all files
	engines map[string]func() any

	inSettings bool // a mapping with the keys of settings is being read
}

func newLoader(dir string, engines map[string]func() any) *loader {
	l := &loader{dir: dir, cfg: Default(), base: &Overlay{Origin: Origin{File: BuiltIn}}, engines: engines}
	l.Reader = strict.NewReader(l.dialect())
	return l
}

// dropIns lists conf.d. A file that was meant to be read, but has another
// ending, is a mistake: silence about it would be a trap.
func (l *loader) dropIns(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch ext := filepath.Ext(e.Name()); {
		case e.IsDir() || strings.HasPrefix(e.Name(), "."):
		case ext == ".yaml":
			out = append(out, path)
		case strings.EqualFold(ext, ".yml") || strings.EqualFold(ext, ".yaml"):
			l.Unread(path, "this file would not be read", `its name must end in ".yaml"`)
		}
	}
	return out, nil
}

// finish judges the whole and makes it ready for use.
func (l *loader) finish() (*Config, error) {
	c := l.cfg
	builtIn := c.Settings
	c.Settings = *l.base.Over(&builtIn)
	c.places = map[string]strict.Place{}
	for key, p := range l.Places() {
		if !strings.HasPrefix(key, "recipients[") && !strings.HasPrefix(key, "senders[") {
			c.places[key] = p
		}
	}
	l.validate()
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := c.compile(l.dir); err != nil {
		return nil, err
	}
	return c, nil
}
