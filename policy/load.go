package policy

// Reading the files of a configuration into one Config.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
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
	l.read(path, data)
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
			l.files = append(l.files, p)
			l.mistake(place{file: p}, "this file cannot be read: "+err.Error(), "")
			continue
		}
		l.read(p, data)
	}
	return l.finish()
}

// Parse reads one file that is in memory, without conf.d. name stands in
// messages, and its folder is the one that paths are relative to.
func Parse(name string, data []byte, engines map[string]func() any) (*Config, error) {
	l := newLoader(filepath.Dir(name), engines)
	l.read(name, data)
	return l.finish()
}

// loader collects the files of one configuration.
type loader struct {
	walker
	dir   string
	files []string
}

func newLoader(dir string, engines map[string]func() any) *loader {
	base := &Overlay{Origin: Origin{File: BuiltIn}}
	return &loader{dir: dir, walker: walker{
		cfg: Default(), base: base, engines: engines,
		places: map[string]place{}, bad: map[string]bool{},
	}}
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
			l.files = append(l.files, path)
			l.mistake(place{file: path}, "this file would not be read", `its name must end in ".yaml"`)
		}
	}
	return out, nil
}

// read adds one file of the configuration.
func (l *loader) read(name string, data []byte) {
	l.readInto(name, data, reflect.ValueOf(l.cfg).Elem())
}

// readInto fills root, a struct, from one file.
func (l *loader) readInto(name string, data []byte, root reflect.Value) {
	l.file = name
	l.files = append(l.files, name)
	if at, what := foreignByte(name, data); what != "" {
		l.mistake(at, what, "the file must be plain UTF-8 text")
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.syntax(err, data)
		}
		return
	}
	if err := dec.Decode(&second); err == nil {
		l.wrong(&second, "", "a second document begins here", `one file is one document: remove the line "---" above it`)
	} else if !errors.Is(err, io.EOF) {
		l.syntax(err, data)
	}
	if top := doc.Content[0]; !isNull(top) {
		if top.Kind != yaml.MappingNode {
			hint := `the file is made of lines like "key: value"`
			if m := tightColon.FindStringSubmatch(top.Value); m != nil {
				hint = "write " + quote(m[1]+": "+m[2]) + ", with a blank"
			}
			if strings.Contains(top.Value, ";") {
				hint += "; is this the configuration of another program?"
			}
			l.wrong(top, "", "want a mapping, not "+kindName(top), hint)
			return
		}
		l.structure("", top, root)
	}
}

// foreignByte finds the first byte that no text file of ours holds.
func foreignByte(name string, data []byte) (at place, what string) {
	at = place{name, 1, 1}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return at, fmt.Sprintf("byte 0x%02x is not UTF-8", data[i])
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0 && r != 0x85:
			return at, fmt.Sprintf("control character 0x%02x", r)
		case r == '\n':
			at.line, at.col = at.line+1, 0
		}
		at.col++
		i += n
	}
	return at, ""
}

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	// The YAML package counts lines from 0 in messages of its parser and from
	// 1 in those of its scanner.
	fromParser = regexp.MustCompile(`^did not find expected (<|node|'-'|key|','|'\}'|\]|\})`)
	bareColon  = regexp.MustCompile(`(^|[\s,{-])\[?(\[[0-9A-Fa-f:.]*\][:/]\d|:{1,2}[0-9A-Fa-f/])`)
	tightColon = regexp.MustCompile(`^([a-z_]+):(\S+)`)
	tabIndent  = regexp.MustCompile(`(?m)^ *\t[ \t]*[^ \t\r\n#]`)
)

// yamlHints are what the usual syntax errors mean, by the start of the message.
var yamlHints = []struct{ start, hint string }{
	{"mapping values are not allowed", `a value that holds ": " needs quotes; otherwise see the indentation, and the colon of the line above`},
	{"did not find expected alphabetic", `quote a value that begins with "*" or "&"`},
	{"did not find expected key", "see the indentation here and above"},
	{"did not find expected '-'", "see the indentation here and above"},
	{"did not find expected ','", `see whether a bracket or a comma is missing, a blank after a colon, or quotes around a value that holds ": "`},
	{"did not find expected node content", "see whether a value needs quotes"},
	{"could not find expected ':'", `a line reads "key: value"`},
	{"found character that cannot start", `a value that begins with "@", "%" or a backtick needs quotes`},
	{"found unexpected end of stream", "see whether a quote is missing"},
	{"unknown anchor", `quote a value that begins with "*"`},
}

// syntax reports what the YAML package said.
func (l *loader) syntax(err error, data []byte) {
	if i := tabIndent.FindIndex(data); i != nil {
		line := bytes.Count(data[:i[0]], []byte("\n")) + 1
		col := bytes.IndexByte(data[i[0]:], '\t') + 1
		l.mistake(place{l.file, line, col}, "tab in the indentation", "indent with blanks")
		return
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		m = []string{"", "", err.Error()}
	}
	line, _ := strconv.Atoi(m[1])
	what := m[2]
	if fromParser.MatchString(what) {
		line++
	}
	if name, ok := strings.CutPrefix(what, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		before, _, _ := bytes.Cut(data, []byte("*"+name))
		line = bytes.Count(before, []byte("\n")) + 1
		what = "alias " + quote("*"+name) + " is not read here"
	}
	line = max(line, 1)
	hint := ""
	for _, h := range yamlHints {
		if strings.HasPrefix(m[2], h.start) {
			hint = h.hint
		}
	}
	col := 1
	if lines := bytes.Split(data, []byte("\n")); line <= len(lines) {
		text := lines[line-1]
		// the package notices some only at the next entry, others at the end
		for i, text := range lines[line-1 : min(line+20, len(lines))] {
			if bareColon.Match(text) {
				hint = fmt.Sprintf(`an address that begins with ":" or "[" needs quotes (line %d)`, line+i)
				break
			}
		}
		col += len(text) - len(bytes.TrimLeft(text, " "))
	}
	l.mistake(place{l.file, line, col}, "this is no YAML: "+what, hint)
}

// finish judges the whole and makes it ready for use.
func (l *loader) finish() (*Config, error) {
	c := l.cfg
	builtIn := c.Settings
	c.Settings = *l.base.Over(&builtIn)
	c.places = map[string]place{}
	for key, p := range l.places {
		if !strings.HasPrefix(key, "recipients[") && !strings.HasPrefix(key, "senders[") {
			c.places[key] = p
		}
	}
	l.validate()
	if len(l.mistakes) == 0 {
		if err := c.compile(l.dir); err != nil {
			return nil, err
		}
		return c, nil
	}
	sortMistakes(l.mistakes, l.files)
	return nil, &ConfigError{slices.Compact(l.mistakes)}
}
