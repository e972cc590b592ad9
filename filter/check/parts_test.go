package check

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

// node is a part with content "x" unless it has no types.
func node(types, names string, flags mail.PartFlags, children ...*mail.Part) *mail.Part {
	p := &mail.Part{Flags: flags, Children: children, Names: strings.Fields(names), Types: strings.Fields(types)}
	if types != "" {
		p.Data, p.Size = []byte("x"), 1
	}
	return p
}

// place numbers the parts.
func place(p *mail.Part, at string) *mail.Part {
	p.Place = at
	for i, c := range p.Children {
		c.Parent = p
		place(c, fmt.Sprint(at, "/", i+1))
	}
	return p
}

func TestHanded(t *testing.T) {
	t.Parallel()
	text := func() *mail.Part { return node("asc", "", 0) }
	exe := func() *mail.Part { return node("exe exe-ms", "evil.exe", 0) }
	media := func(p *mail.Part, m string) *mail.Part { p.Media = []string{m}; return p }
	deep := node("asc", "a.txt", 0)
	for range trustedNesting + 2 {
		deep = node("zip", "a.zip", 0, deep)
	}
	gone := exe()
	gone.Data = nil
	many := node("", "", 0)
	for range maxHanded + 1 {
		many.Children = append(many.Children, exe())
	}
	for _, tt := range []struct {
		name    string
		root    *mail.Part
		want    string
		missing string
	}{
		{"text", text(), "", ""},
		{"text and page", node("", "", 0, text(), media(node("html", "", 0), "text/html")), "", ""},
		{"text with a name", node("", "", 0, text(), node("asc", "a.txt", 0)), "1/2", ""},
		{"script in place", node("", "", 0, node("asc js", "", 0)), "1/1", ""},
		{"text that is no text", node("", "", 0, media(text(), "application/octet-stream")), "1/1", ""},
		{"attachment", node("", "", 0, text(), exe()), "1/2", ""},
		{"attached message", node("", "", 0, text(), node("", "", 0, node("", "", 0, text(), exe()))), "1/2/1/2", ""},
		{"in a zip", node("", "", 0, text(), node("zip", "a.zip", 0, exe(), node("asc", "a.txt", 0))), "1/2 1/2/1", ""},
		{"in a document", node("", "", 0, node("doc docx", "a.docx", 0, node("xml", "word/document.xml", 0), node("image png", "word/media/1.png", 0))), "1/1", ""},
		{"object in a document", node("", "", 0, node("doc docx", "a.docx", 0, node("xml", "a.xml", 0), node("cdf-ms", "embeddings/1.bin", 0))), "1/1 1/1/2", ""},
		{"picture in a zip that is also a zip", node("", "", 0, node("zip", "a.zip", 0, node("image jpg zip", "a.jpg", 0))), "1/1 1/1/1", ""},
		{"script in a zip", node("", "", 0, node("zip", "a.zip", 0, node("asc js", "a.js", 0))), "1/1 1/1/1", ""},
		{"in a zip in doubt", node("", "", 0, node("zip", "a.zip", mail.PartUndecipherable, exe())), "1/1 1/1/1", ""},
		{"in a zip that is also something else", node("", "", 0, node("image jpg zip", "a.jpg", 0, exe())), "1/1 1/1/1", ""},
		{"in a zip that is also a tar", node("", "", 0, node("zip tar", "a.zip", 0, exe())), "1/1 1/1/1", ""},
		{"in a format that is not trusted", node("", "", 0, node("gz", "a.gz", 0, node("asc", "a.txt", 0))), "1/1 1/1/1", ""},
		{"in text", node("", "", 0, node("asc uue", "", 0, exe())), "1/1 1/1/1", ""},
		{"deep", node("", "", 0, deep), "1/1 1/1/1 1/1/1/1 1/1/1/1/1 1/1/1/1/1/1 1/1/1/1/1/1/1 1/1/1/1/1/1/1/1 1/1/1/1/1/1/1/1/1 1/1/1/1/1/1/1/1/1/1", ""},
		{"ambiguous message", node("", "", 0, text(), node("", "", mail.PartAmbiguous), node("zip", "", 0, exe())), "1/1 1/3 1/3/1", ""},
		{"encrypted", node("", "", 0, node("zip", "", mail.PartUndecipherable, node("", "a.doc", mail.PartEncrypted))), "1/1", ""},
		{"in an archive that a password opened", node("", "", 0, node("zip", "", mail.PartEncrypted, node("asc", "a.txt", mail.PartEncrypted))), "1/1 1/1/1", ""},
		{"content gone", node("", "", 0, gone), "", "too large"},
		{"content gone in a zip", node("", "", 0, node("zip", "", 0, gone)), "1/1", ""},
		{"empty file", node("", "", 0, node("", "a.txt", 0)), "", ""},
	} {
		parts, missing := handed(place(tt.root, "1"))
		var got []string
		for _, p := range parts {
			got = append(got, p.Place)
		}
		if s := strings.Join(got, " "); s != tt.want || (missing == "") != (tt.missing == "") || !strings.Contains(missing, tt.missing) {
			t.Errorf("%s: %q (%s), want %q (%s)", tt.name, s, missing, tt.want, tt.missing)
		}
	}
	if parts, missing := handed(place(many, "1")); len(parts) != maxHanded || !strings.Contains(missing, "more parts") {
		t.Errorf("%d parts, %q", len(parts), missing)
	}
	if parts, missing := handed(nil); parts != nil || missing != "" {
		t.Error("parts of nothing")
	}
}

// threeParts is a message with three attachments, which clamd sees as a, b, c.
func threeParts() *Input {
	in := input("message\r\n")
	a, b, c := node("dat", "a", 0), node("dat", "b", 0), node("dat", "c", 0)
	a.Data, b.Data, c.Data = []byte("a"), []byte("b"), bytes.Repeat([]byte("c"), 1<<20)
	in.Parts = place(node("", "", 0, a, b, c), "1")
	return in
}

// answersFor makes a script: what is answered for a part by its first octet,
// "m" for the message.
func answersFor(answers map[byte]string) script {
	return func(command string, data []byte) string {
		if a, ok := answers[data[0]]; ok {
			return a
		}
		if command == "FILDES" {
			return "fd[9]: OK\x00"
		}
		return "stream: OK\x00"
	}
}

func TestClamdParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		answers map[byte]string
		want    string // "category name part" of the findings
		err     string
	}{
		{"clean", nil, "", ""},
		{"found in a part", map[byte]string{'b': "stream: X FOUND\x00"}, "INFECTED X 1/2 b", ""},
		{"found in the message only", map[byte]string{'m': "stream: X FOUND\x00"}, "INFECTED X ", ""},
		{"found in both", map[byte]string{'c': "stream: X FOUND\x00", 'm': "stream: X FOUND\x00"}, "INFECTED X 1/3 c", ""},
		{"another in the message", map[byte]string{'a': "stream: X FOUND\x00", 'm': "stream: Y FOUND\x00"}, "INFECTED X 1/1 a; INFECTED Y ", ""},
		{"too large, and the next is found", map[byte]string{'a': "INSTREAM size limit exceeded. ERROR\x00", 'b': "stream: X FOUND\x00"},
			"UNCHECKED  1/1 a; INFECTED X 1/2 b", ""},
		{"error after a virus", map[byte]string{'a': "stream: X FOUND\x00", 'b': "stream: no memory ERROR\x00"}, "INFECTED X 1/1 a", "no memory"},
		{"wrong number", map[byte]string{'b': "1: stream: OK\x00"}, "", "part 1/2"},
		{"no answer", map[byte]string{'b': ""}, "", "part 1/2"},
		{"cut answer", map[byte]string{'b': "stream: OK"}, "", "part 1/2"},
		{"long answer", map[byte]string{'b': strings.Repeat("x", 1<<16)}, "", "part 1/2"},
		{"hang", map[byte]string{'c': hang}, "", "part 1/3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if tt.err != "" {
				timeout = 2 * time.Second // some answers leave us waiting for the rest
			}
			f := newFakeClamd(t, "tcp", answersFor(tt.answers))
			answer, err := clamav(t, timeout, f.address).Check(t.Context(), threeParts())
			var got []string
			for _, x := range answer.Findings {
				got = append(got, fmt.Sprintf("%s %s %s", x.Category, x.Name, x.Part))
			}
			if s := strings.Join(got, "; "); s != tt.want {
				t.Errorf("found %q, want %q", s, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestClamdPlainMessage: a message without attachments costs one connection.
func TestClamdPlainMessage(t *testing.T) {
	t.Parallel()
	f := newFakeClamd(t, "unix", answersFor(nil))
	in := input("message\r\n")
	in.Parts = place(node("asc", "", 0), "1")
	if found, err := clamav(t, time.Minute, f.address).Check(t.Context(), in); err != nil || len(found.Findings) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if n := f.asked.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestBuiltinParts: the test scanner looks into what was unpacked.
func TestBuiltinParts(t *testing.T) {
	t.Parallel()
	in := threeParts()
	in.Parts.Children[1].Data = testStrings[0]
	found, err := builtin{}.Check(t.Context(), in)
	if err != nil || !slices.ContainsFunc(found.Findings, func(f mail.Finding) bool { return f.Category == mail.Infected }) {
		t.Errorf("%v, %v", found, err)
	}
}
