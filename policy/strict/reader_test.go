package strict

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// plain is a configuration of which the reader is told nothing.
type plain struct {
	Name  string            `yaml:"name"`
	Wait  time.Duration     `yaml:"wait"`
	Mode  fs.FileMode       `yaml:"mode"`
	Parts []part            `yaml:"parts"`
	Notes map[string]string `yaml:"notes"`
	Level *float64          `yaml:"level"`
	inner `yaml:",inline"`
}

type inner struct {
	Deep bool `yaml:"deep"`
}

type part struct {
	Count uint8    `yaml:"count"`
	Tags  []string `yaml:"tags"`
}

func (p *part) Check() (what, hint string) {
	if p.Count == 0 {
		return "no count", "give one"
	}
	return "", ""
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := NewReader(Dialect{})
	var got plain
	r.Read("a.yaml", []byte("name: 0660\nwait: 5s\nmode: 0660\nparts:\n  - {count: 1, tags: one}\nnotes: {x: y}\n"), &got)
	r.Read("b.yaml", []byte("parts: [{count: 2}]\nnotes: {z: z}\nlevel: 1.5\ndeep: true\n"), &got)
	level := 1.5
	want := plain{Name: "0660", Wait: 5 * time.Second, Mode: 0o660, Parts: []part{{1, []string{"one"}}, {2, nil}},
		Notes: map[string]string{"x": "y", "z": "z"}, Level: &level, inner: inner{true}}
	if err := r.Err(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v (%v)", got, want, err)
	}
	for key, want := range map[string]Place{
		"wait": {"a.yaml", 2, 7}, "parts[0].tags": {"a.yaml", 5, 22}, "parts[1].count": {"b.yaml", 1, 17}, "deep": {"b.yaml", 4, 7},
	} {
		if got := r.Places()[key]; got != want || !r.Given(key) {
			t.Errorf("%s stands at %v, want %v", key, got, want)
		}
	}
}

// All mistakes come in the order of the files, each once, however often one
// asks.
func TestMistakes(t *testing.T) {
	t.Parallel()
	r := NewReader(Dialect{Shared: "write it twice"})
	var got plain
	r.Read("a.yaml", []byte("nam: x\nwait: 5\nparts: [{count: 300}, {tags: a}, ]\nnotes: &n {}\n"), &got)
	r.Read("b.yaml", []byte("a: b: c\n"), &got)
	r.Unread("c.yaml", "not read", "")
	r.At("parts[0].count", "told later", "")
	r.At("parts[0].count", "told later", "")
	const want = `a.yaml:1:1: unknown key "nam"; nearest known key is "name"
a.yaml:2:7: wait: want a time, not "5"; write it with its unit, for example 500ms, 60s, 5m or 1h30m
a.yaml:3:17: parts[0].count: the number "300" is out of range
a.yaml:3:17: parts[0].count: told later
a.yaml:3:23: parts[1]: no count; give one
a.yaml:4:8: notes: anchor "&n" is not read here; quote a value that begins with "&"; write it twice
b.yaml:1:1: this is no YAML: mapping values are not allowed in this context; a value that holds ": " needs quotes; otherwise see the indentation, and the colon of the line above
c.yaml: not read`
	for range 2 {
		err := r.Err()
		if _, ok := errors.AsType[*Error](err); !ok || err.Error() != want {
			t.Errorf("got\n%v\nwant\n%s", err, want)
		}
	}
	if !r.Bad("wait") || r.Bad("parts") || !r.BadBelow("parts") || r.BadBelow("part") {
		t.Error("it is not known which values are wrong")
	}
}

// What Sparse reads is told, and is no place of the file.
func TestSparse(t *testing.T) {
	t.Parallel()
	var keys []string
	var r *Reader
	r = NewReader(Dialect{Value: func(path string, n *yaml.Node, v reflect.Value) bool {
		if path != "only" {
			return false
		}
		r.Sparse(path, n, reflect.TypeFor[plain](), func(key string, _ any, at Place) { keys = append(keys, key) })
		return true
	}})
	var got struct {
		Only plain `yaml:"only"`
	}
	r.Read("a.yaml", []byte("only: {name: x, parts: [{count: 1}], deep: false}\n"), &got)
	if s := strings.Join(keys, " "); r.Err() != nil || s != "name parts[0].count parts deep" || r.Given("only.name") || !r.Given("only") || got.Only.Name != "" {
		t.Errorf("told of %s, read %+v (%v)", s, got, r.Err())
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("name: x\nparts: [{count: 1, tags: [a]}]\n"))
	f.Add([]byte("a: &a [*a]\n? - a\n: - b\n<<: {}\n"))
	f.Add([]byte("notes: {x: !!str y}\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(Dialect{})
		r.Read("a.yaml", data, new(plain))
		err, ok := errors.AsType[*Error](r.Err())
		if !ok {
			return
		}
		for _, m := range err.Mistakes {
			if m.File != "a.yaml" || m.Line < 1 || m.Column < 1 || m.What == "" || strings.ContainsAny(m.String(), "\n\r\x00\x1b") {
				t.Errorf("bad mistake %q", m)
			}
		}
	})
}
