package strict

// From the octets of a file to its tree of nodes, and what the YAML package
// says of files that are none.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Read adds one file to what is in the struct that into points to: a key of
// this file goes over that of an earlier one. name stands in messages.
func (r *Reader) Read(name string, data []byte, into any) {
	r.file = name
	r.files = append(r.files, name)
	if at, what := foreignByte(name, data); what != "" {
		r.Mistake(at, what, "the file must be plain UTF-8 text")
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.syntax(err, data)
		}
		return
	}
	if err := dec.Decode(&second); err == nil {
		r.Wrong(&second, "", "a second document begins here", `one file is one document: remove the line "---" above it`)
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err, data)
	}
	if top := doc.Content[0]; !isNull(top) {
		if top.Kind != yaml.MappingNode {
			hint := `the file is made of lines like "key: value"`
			if m := tightColon.FindStringSubmatch(top.Value); m != nil {
				hint = "write " + Quote(m[1]+": "+m[2]) + ", with a blank"
			}
			if strings.Contains(top.Value, ";") {
				hint += "; is this the configuration of another program?"
			}
			r.Wrong(top, "", "want a mapping, not "+kindName(top), hint)
			return
		}
		r.structure("", top, reflect.ValueOf(into).Elem())
	}
}

// foreignByte finds the first byte that no text file of ours holds.
func foreignByte(name string, data []byte) (at Place, what string) {
	at = Place{name, 1, 1}
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			return at, fmt.Sprintf("byte 0x%02x is not UTF-8", data[i])
		case c < ' ' && c != '\n' && c != '\r' && c != '\t', c >= 0x7f && c < 0xa0 && c != 0x85:
			return at, fmt.Sprintf("control character 0x%02x", c)
		case c == '\n':
			at.Line, at.Column = at.Line+1, 0
		}
		at.Column++
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
func (r *Reader) syntax(err error, data []byte) {
	if i := tabIndent.FindIndex(data); i != nil {
		line := bytes.Count(data[:i[0]], []byte("\n")) + 1
		col := bytes.IndexByte(data[i[0]:], '\t') + 1
		r.Mistake(Place{r.file, line, col}, "tab in the indentation", "indent with blanks")
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
		what = "alias " + Quote("*"+name) + " is not read here"
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
	r.Mistake(Place{r.file, line, col}, "this is no YAML: "+what, hint)
}
