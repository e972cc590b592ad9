//go:build corpus

package unpack

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// The messages of Apache James Mime4J come with what that parser sees in them:
// for X.msg, X_decoded.xml has the tree and names one file for each decoded
// body. POSTERN_MIME4J names a copy of core/src/test/resources of its source,
// with every octet as it is there. The data is not part of this repository.
//
// Readings are a union, so all that is seen there must be among our parts.

// mime4jDiffers lists the messages with a part that is not found as it is
// expected there, and where its content is to be seen all the same.
var mime4jDiffers = map[string]struct{ why, seen string }{
	"frag":                                 {"base64 ends within a group: those octets are dropped there and kept here", inPart},
	"multi-frag":                           {"base64 with junk that ends within a group: dropped there and kept here", inDoubt},
	"malformedHeader-noheader":             {"no line is a field: all is header there, all is body here", inPart},
	"malformedHeaderStartsBody-noheader":   {"no line is a field: all but the first line is lost there, none here", inPart},
	"malformedHeaderStartsBody-nocrlfcrlf": {"a line that is no field starts the body there, which then lacks the next one; here it is skipped", inText},
}

const (
	inDoubt = "the message is ambiguous"
	inPart  = "a part has it, and more"
	inText  = "plain text, every line as it stands in the message"
)

func TestMime4J(t *testing.T) {
	root := os.Getenv("POSTERN_MIME4J")
	if root == "" {
		t.Fatal("POSTERN_MIME4J names no folder")
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "*.msg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in %s (%v)", root, err)
	}
	same, parts, lost, ambiguous := 0, 0, 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".msg")
		want := expectedBodies(t, strings.TrimSuffix(file, ".msg")+"_decoded.xml")
		parts += len(want)
		msg := readFile(t, file)
		r := Parts(context.Background(), mail.NewMessage(msg), budget.DefaultLimits)
		doubt := hasMinor(r, mail.Ambiguous)
		if doubt {
			ambiguous++
		}
		missing := missingBodies(r, want)
		lost += len(missing)
		known, listed := mime4jDiffers[name]
		switch {
		case len(missing) == 0:
			same++
			if listed {
				t.Errorf("%s: has all parts but is listed as different: %s", name, known.why)
			}
		case !listed:
			t.Errorf("%s: not found as expected: %v\n%s", name, missing, describeTree(r))
		case !slices.ContainsFunc(missing, func(e expected) bool { return !e.seen(known.seen, doubt, r, msg) }):
		default:
			t.Errorf("%s: not so: %s\n%s", name, known.seen, describeTree(r))
		}
	}
	t.Logf("%d of %d messages have the same parts, %d of %d parts are the same, %d messages are ambiguous",
		same, len(files), parts-lost, parts, ambiguous)
	if lost*20 > parts {
		t.Error("fewer than 95 % of the parts are the same")
	}
}

// expected is one decoded body. Chain has the media types from the message to
// the body itself; an empty one is not known.
type expected struct {
	file  string
	chain []string
	data  []byte
}

func (e expected) String() string { return e.file + " " + strings.Join(e.chain, " > ") }

// expectedBodies reads one tree: messages and body-parts, which have a header
// and then a multipart, a message or a body.
func expectedBodies(t *testing.T, file string) []expected {
	t.Helper()
	text, err := charmap.ISO8859_1.NewDecoder().Bytes(readFile(t, file))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' {
			return '?' // XML has no control characters
		}
		return r
	}, text)
	var out []expected
	var chain []string
	field := ""
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "message", "body-part":
				media := textPlain
				if n := len(chain); e.Name.Local == "body-part" && chain[n-1] == "multipart/digest" {
					media = rfc822
				}
				chain = append(chain, media)
			case "field":
				field = ""
			case "text-body", "binary-body":
				name := e.Attr[0].Value
				data := readFile(t, filepath.Join(filepath.Dir(file), name))
				out = append(out, expected{name, slices.Clone(chain), data})
			}
		case xml.CharData:
			field += string(e)
		case xml.EndElement:
			switch e.Name.Local {
			case "message", "body-part":
				chain = chain[:len(chain)-1]
			case "field":
				name, value, _ := strings.Cut(field, ":")
				if media, _, _ := strings.Cut(value, ";"); strings.EqualFold(strings.TrimSpace(name), "Content-Type") {
					chain[len(chain)-1] = strings.ToLower(strings.TrimSpace(media))
				}
			}
		}
	}
}

// missingBodies returns those that are not among the parts of r, each part
// taken once.
func missingBodies(r *Result, want []expected) []expected {
	taken := map[*mail.Part]bool{}
	return slices.DeleteFunc(slices.Clone(want), func(e expected) bool {
		i := slices.IndexFunc(r.Parts, func(p *mail.Part) bool {
			return !taken[p] && sameBody(p.Data, e.data) && sameNesting(p, e.chain)
		})
		if i >= 0 {
			taken[r.Parts[i]] = true
		}
		return i >= 0
	})
}

// seen checks how the content of a missing part is seen all the same.
func (e expected) seen(how string, doubt bool, r *Result, msg []byte) bool {
	switch how {
	case inDoubt:
		return doubt
	case inPart:
		return slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return bytes.Contains(lf(p.Data), lf(e.data)) })
	}
	for line := range bytes.Lines(lf(e.data)) {
		if !bytes.Contains(lf(msg), line) {
			return false
		}
	}
	return e.chain[len(e.chain)-1] == textPlain
}

// sameNesting reports whether p lies in chain. What stands between is only
// another reading of the part above it.
func sameNesting(p *mail.Part, chain []string) bool {
	for i := len(chain) - 1; i >= 0; i-- {
		for p != nil && !slices.Contains(p.Media, chain[i]) {
			if !p.Flags.Is(mail.PartAmbiguous) {
				return false
			}
			p = p.Parent
		}
		if p == nil {
			return false
		}
		p = p.Parent
	}
	for ; p != nil; p = p.Parent {
		if !p.Flags.Is(mail.PartAmbiguous) {
			return false
		}
	}
	return true
}

// sameBody compares but for line ends.
func sameBody(got, want []byte) bool {
	return got != nil && bytes.Equal(lf(got), lf(want)) || got == nil && len(want) == 0
}

func lf(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
