package policy

// The sample file, the manual page and the schema for editors are written from
// the comments of the struct fields and from the literal in Default:
//
//	go test ./policy -run TestGenerated -update

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/filter/check"
	"postern/filter/mail"
	"postern/policy/strict"
)

// option is one key of the configuration.
type option struct {
	key      string
	doc      string // paragraphs; an indented one is an example
	typ      reflect.Type
	value    reflect.Value // default; for the keys of list entries the zero value
	children []option      // keys of a mapping, or of the entries of a list
	same     string        // path of the same field of the same struct further up, or ""
}

// comments are the doc comments of struct fields by "Type.Field".
type comments struct {
	docs  map[string]string
	paths map[string]string // where the field stood first
}

func readComments(t *testing.T) *comments {
	t.Helper()
	c := &comments{docs: map[string]string{}, paths: map[string]string{}}
	files, err := filepath.Glob("../filter/check/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, "config.go", "keeping.go", "settings.go", "virusname/virusname.go", "senderlist/senderlist.go", "banned/banned.go") {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if decl, ok := n.(*ast.GenDecl); ok && len(decl.Specs) == 1 {
				if spec, ok := decl.Specs[0].(*ast.TypeSpec); ok {
					c.docs[spec.Name.Name] = decl.Doc.Text()
				}
			}
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range st.Fields.List {
					for _, id := range field.Names {
						c.docs[spec.Name.Name+"."+id.Name] = field.Doc.Text()
					}
				}
			}
			return true
		})
	}
	return c
}

func (c *comments) options(t *testing.T, prefix string, v reflect.Value) []option {
	t.Helper()
	var out []option
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, inline := strict.FieldName(f)
		switch {
		case inline:
			out = append(out, c.options(t, prefix, v.Field(i))...)
			continue
		case name == "" || !f.IsExported():
			continue
		}
		id := v.Type().Name() + "." + f.Name
		o := option{key: name, doc: c.docs[id], typ: f.Type, value: v.Field(i), same: c.paths[id]}
		if o.doc == "" {
			t.Errorf("the field %s has no comment", id)
		}
		if o.same == "" {
			c.paths[id] = prefix + name
		}
		switch elem := f.Type; {
		case strict.IsScalar(elem):
		case prefix == "" && name == "engines":
			o.children = c.engines(t)
		case elem.Kind() == reflect.Struct:
			o.children = c.options(t, prefix+name+".", v.Field(i))
		case elem.Kind() == reflect.Slice && elem.Elem().Kind() == reflect.Struct:
			o.children = c.options(t, prefix+name+"[].", reflect.Zero(elem.Elem()))
		}
		out = append(out, o)
	}
	return out
}

// engines are the checks that can be configured, with their options.
func (c *comments) engines(t *testing.T) []option {
	t.Helper()
	kinds := check.Kinds()
	var out []option
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		v := reflect.ValueOf(kinds[name]()).Elem()
		// the first sentence of the comment is for readers of Go
		_, doc, _ := strings.Cut(strings.ReplaceAll(c.docs[v.Type().Name()], "\n", " "), ". ")
		if doc == "" {
			t.Errorf("the comment of the engine %s says nothing to postmasters", name)
		}
		out = append(out, option{
			key: name, doc: doc, typ: v.Type(), value: v,
			children: c.options(t, "engines."+name+".", v),
		})
	}
	return out
}

// paragraphs wraps the text of a comment; examples keep their lines.
func paragraphs(doc string, width int) []string {
	var out []string
	for i, p := range strings.Split(strings.TrimRight(doc, "\n"), "\n\n") {
		if i > 0 {
			out = append(out, "")
		}
		if strings.HasPrefix(p, "\t") {
			for line := range strings.SplitSeq(p, "\n") {
				out = append(out, "  "+strings.TrimPrefix(line, "\t"))
			}
			continue
		}
		line := ""
		for _, w := range strings.Fields(p) {
			if line != "" && len(line)+1+len(w) > width {
				out = append(out, line)
				line = ""
			}
			line = strings.TrimSpace(line + " " + w)
		}
		out = append(out, line)
	}
	return out
}

// example returns the indented paragraph of a comment.
func example(doc string) string {
	var out []string
	for line := range strings.SplitSeq(doc, "\n") {
		if strings.HasPrefix(line, "\t") {
			out = append(out, line[1:])
		}
	}
	return strings.Join(out, "\n")
}

var plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*(:[A-Za-z0-9._/-]+)*$`)

// text returns a value in flow style, as it is written in the file.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		s := x.String()
		for _, zero := range []string{"0s", "0m"} {
			if t := strings.TrimSuffix(s, zero); t != "" && strings.ContainsAny(t[len(t)-1:], "hm") {
				s = t
			}
		}
		return s
	case mail.Size:
		return x.String()
	case fs.FileMode:
		if x == 0 {
			return `""`
		}
		return fmt.Sprintf(`"%04o"`, x)
	case *Overlay:
		var pairs []string
		for _, y := range x.values {
			pairs = append(pairs, settingsLeaves().list[y.leaf].key+": "+text(y.value))
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return text(v.Elem())
	case reflect.String:
		if plainText.MatchString(v.String()) {
			return v.String()
		}
		return strconv.Quote(v.String())
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, text(v.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		var pairs []string
		for i := range v.NumField() {
			if name, _ := strict.FieldName(v.Type().Field(i)); name != "" && !v.Field(i).IsZero() {
				pairs = append(pairs, name+": "+text(v.Field(i)))
			}
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	case reflect.Map:
		if v.Len() == 0 {
			return "{}"
		}
	}
	return fmt.Sprint(v.Interface())
}

// sample writes the file with all keys at their defaults.
func sample(w *bytes.Buffer, indent string, options []option) {
	comment := func(lines []string) {
		for _, line := range lines {
			w.WriteString(strings.TrimRight(indent+"# "+line, " ") + "\n")
		}
	}
	for _, o := range options {
		if indent == "" {
			w.WriteString("\n")
		}
		if o.same == "" {
			comment(paragraphs(o.doc+oneOf(o.typ), 76-len(indent)))
		}
		isList := o.typ.Kind() == reflect.Slice
		if isList && len(o.children) > 0 {
			comment([]string{"", "Keys of an entry:"})
			comment(keys(o.children, 74-len(indent)))
		}
		if o.typ.Kind() == reflect.Map && len(o.children) > 0 {
			comment([]string{"", "Engines and their options:"})
			for _, engine := range o.children {
				lines := paragraphs(engine.key+": "+engine.doc, 74)
				comment([]string{"  " + strings.Join(lines, "\n#     ")})
				for _, c := range engine.children {
					lines := paragraphs(c.key+": "+c.doc+oneOf(c.typ)+" Default "+text(c.value)+".", 72)
					comment([]string{"    " + strings.Join(lines, "\n#       ")})
				}
			}
		}
		w.WriteString(indent + o.key + ":")
		switch {
		case isList && len(o.children) > 0 && o.value.Len() > 0:
			w.WriteString("\n")
			for i := range o.value.Len() {
				w.WriteString(indent + "  - " + text(o.value.Index(i)) + "\n")
			}
		case o.typ.Kind() == reflect.Struct:
			w.WriteString("\n")
			sample(w, indent+"  ", o.children)
		case o.typ.Kind() == reflect.Map && o.value.Len() > 0:
			w.WriteString("\n")
			banks := o.value.Interface().(map[string]*Overlay)
			for _, name := range slices.Sorted(maps.Keys(banks)) {
				w.WriteString(indent + "  " + name + ": " + text(reflect.ValueOf(banks[name])) + "\n")
			}
		default:
			w.WriteString(" " + text(o.value) + "\n")
		}
	}
}

// keys describes the keys of an entry of a list, and the keys below them.
func keys(options []option, width int) []string {
	var out []string
	for _, c := range options {
		for i, line := range paragraphs(c.key+": "+c.doc+oneOf(c.typ), width) {
			if i > 0 {
				line = "  " + line
			}
			out = append(out, "  "+line)
		}
		if c.typ.Kind() == reflect.Struct && len(c.children) > 0 && c.children[0].same == "" {
			for _, line := range keys(c.children, width-2) {
				out = append(out, "  "+line)
			}
		}
	}
	return out
}

// oneOf is the sentence with the words that a value may be.
func oneOf(t reflect.Type) string {
	if list := words[t]; list != nil {
		return "One of " + strings.Join(list, ", ") + "."
	}
	return ""
}

// kind names the type of a value for people.
func kind(t reflect.Type) string {
	if list := words[t]; list != nil {
		return strict.Or(list)
	}
	switch t {
	case reflect.TypeFor[mail.Size]():
		return "size"
	case reflect.TypeFor[time.Duration]():
		return "time"
	case reflect.TypeFor[fs.FileMode]():
		return "octal permissions"
	case reflect.TypeFor[mail.Address]():
		return "address"
	case reflect.TypeFor[*Overlay]():
		return "mapping with the keys of settings"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kind(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map, reflect.Struct:
		return "mapping"
	}
	return "text"
}

// manual writes a definition for each key.
func manual(w *bytes.Buffer, prefix string, options []option) {
	for _, o := range options {
		key := prefix + o.key
		fmt.Fprintf(w, "**%s** (%s", key, kind(o.typ))
		if strict.IsScalar(o.typ) && o.typ.Kind() != reflect.Pointer && !strings.Contains(prefix, "[]") && !o.value.IsZero() {
			fmt.Fprintf(w, ", default `%s`", text(o.value))
		}
		w.WriteString(")\n")
		doc := o.doc
		if o.same != "" {
			doc = "As " + o.same + "."
		}
		for i, line := range paragraphs(doc, 76) {
			switch {
			case i == 0:
				w.WriteString(": " + strings.ReplaceAll(line, "*", `\*`) + "\n")
			case line == "":
				w.WriteString("\n")
			case strings.HasPrefix(line, "  "):
				w.WriteString("  " + line + "\n")
			default:
				w.WriteString("  " + strings.ReplaceAll(line, "*", `\*`) + "\n")
			}
		}
		w.WriteString("\n")
		next := key + "."
		if o.typ.Kind() == reflect.Slice {
			next = key + "[]."
		}
		manual(w, next, o.children)
	}
}

const manualHead = `% POSTERN.YAML(5) Postern | File formats

# NAME

postern.yaml - configuration of postern

# DESCRIPTION

One YAML file, by default /etc/postern/postern.yaml. After it the files
conf.d/\*.yaml beside it are read in the order of their names, each over those
before: mappings merge key by key, scalars replace, lists at the top of a file
are joined, lists further down replace.

An unknown key, a key that is given twice and a value of the wrong kind are
errors. All of them are reported together, with file, line and column; the
program then does not start, or goes on with the configuration that it has.
Anchors, aliases and tags are not read.

Paths are relative to the folder of the main file. Sizes are written 4096,
256KiB, 50MiB or 1GiB; times 500ms, 60s, 5m or 1h30m. Domains may be written in
their own script. A list of one entry may be written without brackets.

# KEYS

`

const manualFoot = `# SEE ALSO

**postern**(1)
`

// schema returns the JSON schema of a type.
func schema(t reflect.Type, children []option) map[string]any {
	switch t {
	case reflect.TypeFor[mail.Size]():
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^(0|[1-9][0-9]*)([KMG]iB)?$`}
	case reflect.TypeFor[time.Duration]():
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`}
	case reflect.TypeFor[fs.FileMode]():
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^0?[0-7]{3}$`}
	case reflect.TypeFor[*Overlay]():
		return map[string]any{"$ref": "#/$defs/settings"}
	case reflect.TypeFor[Settings]():
		return map[string]any{"$ref": "#/$defs/settings"}
	}
	if list := words[t]; list != nil {
		return map[string]any{"enum": list}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem(), nil)
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
		return object(children, nil)
	case reflect.Slice:
		types := []string{"array", "null"}
		if strict.IsScalar(t.Elem()) {
			types = append(types, "string")
		}
		return map[string]any{"type": types, "items": schema(t.Elem(), children)}
	case reflect.Map:
		if len(children) > 0 {
			return object(children, nil)
		}
		values := map[string]any{"type": []string{"object", "null"}}
		if t.Elem() == reflect.TypeFor[*Overlay]() || t.Elem().Kind() == reflect.String {
			values = schema(t.Elem(), nil)
		}
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": values}
	}
	return map[string]any{"type": []string{"string", "number", "null"}}
}

func object(options []option, extra map[string]any) map[string]any {
	props := map[string]any{}
	for _, o := range options {
		p := schema(o.typ, o.children)
		p["description"] = strings.Join(strings.Fields(strings.ReplaceAll(o.doc, "\n\n\t", "\nExample: ")), " ")
		props[o.key] = p
	}
	out := map[string]any{"type": []string{"object", "null"}, "properties": props, "additionalProperties": false}
	maps.Copy(out, extra)
	return out
}

// generated returns the files by their path from the top of the repository.
func generated(t *testing.T) map[string][]byte {
	t.Helper()
	options := readComments(t).options(t, "", reflect.ValueOf(Default()).Elem())
	var yaml, man, editor bytes.Buffer
	yaml.WriteString("# Configuration of postern: every key with its default. See postern.yaml(5).\n" +
		"# yaml-language-server: $schema=postern.schema.json\n")
	sample(&yaml, "", options)
	man.WriteString(manualHead)
	manual(&man, "", options)
	man.WriteString(manualFoot)
	i := slices.IndexFunc(options, func(o option) bool { return o.key == "settings" })
	enc := json.NewEncoder(&editor)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(object(options, map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "postern.yaml",
		"$defs":   map[string]any{"settings": object(options[i].children, nil)},
	})); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"deploy/postern.yaml":          yaml.Bytes(),
		"deploy/man/postern.yaml.5.md": man.Bytes(),
		"deploy/postern.schema.json":   editor.Bytes(),
	}
}

func TestGenerated(t *testing.T) {
	for name, want := range generated(t) {
		path := filepath.Join("..", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not fit the comments and defaults any more (%v): go test ./policy -run TestGenerated -update", name, err)
		}
	}
}

// TestSampleIsDefault loads the sample: it must say what holds without it.
func TestSampleIsDefault(t *testing.T) {
	t.Parallel()
	got, err := Load("../deploy/postern.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("../deploy/postern.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(plainConfig(t, got), "\n"), strings.Split(plainConfig(t, want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("the sample gives %s, the default is %s", g[i], w[i])
		}
	}
	if len(g) != len(w) {
		t.Errorf("the sample gives %d lines, the defaults %d", len(g), len(w))
	}
}

// plainConfig writes a configuration without the places of its values.
func plainConfig(t *testing.T, c *Config) string {
	t.Helper()
	plain := *c
	plain.Listeners = slices.Clone(c.Listeners)
	for i := range plain.Listeners {
		plain.Listeners[i].Origin = Origin{}
	}
	plain.Banks = nil
	out, err := json.MarshalIndent(&plain, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Banks)) {
		over, err := json.Marshal(c.Banks[name].Over(&c.Settings))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("\n%s %v %s", name, c.Banks[name].Keys(), over)...)
	}
	return string(out)
}

// TestExamples loads the examples that stand in the comments.
func TestExamples(t *testing.T) {
	t.Parallel()
	n := 0
	for _, o := range readComments(t).options(t, "", reflect.ValueOf(Default()).Elem()) {
		if ex := example(o.doc); ex != "" {
			n++
			if _, err := Parse("example.yaml", []byte(ex), testEngines()); err != nil || !strings.HasPrefix(ex, o.key+":") {
				t.Errorf("example of %s: %v\n%s", o.key, err, ex)
			}
		}
	}
	if n < 6 {
		t.Errorf("%d examples, want at least 6", n)
	}
}
