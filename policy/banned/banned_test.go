package banned

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/policy/strict"
)

// tree builds parts from lines "place|media|types|names|flags or facts", where
// the lists are separated by commas and parents come first.
func tree(lines ...string) *mail.Part {
	byPlace := map[string]*mail.Part{}
	for _, l := range lines {
		f := strings.Split(l+"||||", "|")
		list := func(s string) []string {
			if s == "" {
				return nil
			}
			return strings.Split(s, ",")
		}
		p := &mail.Part{Place: f[0], Media: list(f[1]), Types: list(f[2]), Names: list(f[3])}
		for _, m := range list(f[4]) {
			if flag := markFlags[FileMark(m)]; flag != 0 {
				p.Flags |= flag
			} else {
				p.AddFact(m)
			}
		}
		byPlace[f[0]] = p
		if i := strings.LastIndexByte(f[0], '/'); i > 0 {
			p.Parent = byPlace[f[0][:i]]
			p.Parent.Children = append(p.Parent.Children, p)
		}
	}
	return byPlace["1"]
}

// parseRules reads the entries of a list of rules.
func parseRules(t testing.TB, entries string) []Rule {
	t.Helper()
	r := strict.NewReader(strict.Dialect{Words: map[reflect.Type][]string{reflect.TypeFor[FileMark](): Marks}})
	var file struct {
		Rules []Rule `yaml:"rules"`
	}
	r.Read("rules.yaml", []byte("rules:\n"+entries), &file)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return file.Rules
}

// names tests root by rules in YAML.
func names(t *testing.T, rules string, root *mail.Part) []string {
	t.Helper()
	var out []string
	for _, f := range Files(parseRules(t, rules), root) {
		out = append(out, f.Part.Path()+": "+f.Name())
	}
	return out
}

func TestRules(t *testing.T) {
	t.Parallel()
	zipped := tree("1|multipart/mixed", "1/1|text/plain|asc", "1/2|application/zip|zip|docs.zip",
		"1/2/1||exe,exe-ms|sub/invoice.exe", "1/2/2||pdf|a.pdf")
	locked := tree("1|multipart/mixed", "1/1|application/zip|zip|x.zip|encrypted,undecipherable", "1/1/1|||report.doc|encrypted,undecipherable")
	deep := tree("1|multipart/mixed", "1/1|message/rfc822|asc,mail", "1/1/1|application/zip|zip|a.zip", "1/1/1/1||zip|b.zip", "1/1/1/1/1||txt|c.txt")
	sfx := tree("1|multipart/mixed", "1/1|application/octet-stream|exe,exe-ms,zip|setup.exe", "1/1/1||txt|readme.txt", "1/1/2||txt|license.txt")
	macros := tree("1|multipart/mixed", "1/1|application/msword|doc,docm|a.docm|macros", "1/1/1||dat|word/vbaProject.bin", "1/2|text/html|html||data-uri")
	const exe = "1/2/1 docs.zip/sub/invoice.exe: .exe,.exe-ms,sub/invoice.exe"
	for _, tt := range []struct {
		name  string
		rules string
		root  *mail.Part
		want  []string
	}{
		{"extension", `- block: {name: "*.EXE"}`, zipped, []string{exe}},
		{"glob", `- block: {name: "inv*.e?e"}`, zipped, []string{exe}},
		{"glob is whole", `- block: {name: "voice.exe*"}`, zipped, nil},
		{"path", `- block: {name: "sub/*.exe"}`, zipped, []string{exe}},
		{"other path", `- block: {name: "sup/*.exe"}`, zipped, nil},
		{"regexp on base", `- block: {name: "/^inv/"}`, zipped, []string{exe}},
		{"regexp on path", `- block: {name: "/^sub.inv/"}`, zipped, []string{exe}},
		{"regexp with case", `- block: {name: "/^INV/"}`, zipped, nil},
		{"regexp in any case", `- block: {name: "/^INV/i"}`, zipped, []string{exe}},
		{"type", `- block: {type: .exe-ms}`, zipped, []string{exe}},
		{"container blocks", `- block: {type: zip}`, zipped, []string{"1/2 docs.zip: application/zip,.zip,docs.zip"}},
		{"media", `- block: {media: application/zip}`, zipped, []string{"1/2 docs.zip: application/zip,.zip,docs.zip"}},
		{"media pattern", `- block: {media: "TEXT/*"}`, zipped, []string{"1/1: text/plain,.asc"}},
		{"all keys", `- block: {name: "*.exe", type: pdf}`, zipped, nil},
		{"one of a key", `- block: {name: ["*.foo", "*.exe"], type: [exe-ms, pdf]}`, zipped, []string{exe}},
		{"inside type", `- block: {name: "*.exe", inside: zip}`, zipped, []string{exe}},
		{"inside name", `- block: {name: "*.exe", inside: "docs.*"}`, zipped, []string{exe}},
		{"inside plain name", `- block: {name: "*.exe", inside: docs.zip}`, zipped, []string{exe}},
		{"inside media", `- block: {name: "*.exe", inside: application/zip}`, zipped, []string{exe}},
		{"inside another", `- block: {name: "*.exe", inside: [rar, "*.7z"]}`, zipped, nil},
		{"inside is above", `- block: {name: "*.zip", inside: zip}`, zipped, nil},
		{"comment", `- {block: {type: exe-ms}, comment: programs}`, zipped,
			[]string{"1/2/1 docs.zip/sub/invoice.exe: programs:.exe,.exe-ms,sub/invoice.exe"}},
		{"allow before", "- allow: {name: \"invoice.exe\", inside: zip}\n    - block: {name: \"*.exe\"}", zipped, nil},
		{"allow after", "- block: {name: \"*.exe\"}\n    - allow: {name: \"invoice.exe\"}", zipped, []string{exe}},
		{"allow is for the file only", "- allow: {type: zip}\n    - block: {name: \"*.exe\"}", zipped, []string{exe}},
		{"allow in a container", "- allow: {inside: zip}\n    - built_in: true", zipped, nil},
		{"built in", "- built_in: true", zipped, []string{exe}},
		{"built in among others", "- allow: {name: \"*.pdf\"}\n    - built_in: true\n    - block: {type: pdf}", zipped, []string{exe}},
		{"encrypted", `- block: {is: encrypted}`, locked, []string{"1/1 x.zip: application/zip,.zip,x.zip"}},
		{"encrypted file", `- block: {is: encrypted, inside: zip}`, locked, []string{"1/1/1 x.zip/report.doc: report.doc"}},
		{"depth", `- block: {depth: 2}`, deep, []string{"1/1/1/1/1 a.zip/b.zip/c.txt: .txt,c.txt"}},
		{"not so deep", `- block: {depth: 3}`, deep, nil},
		{"once for a container", "- built_in: true", sfx, []string{"1/1 setup.exe: application/octet-stream,.exe,.exe-ms,.zip,setup.exe"}},
		{"facts", `- block: {is: [macros, data-uri]}`, macros, []string{"1/1 a.docm: application/msword,.doc,.docm,a.docm", "1/2: text/html,.html"}},
		{"macros are allowed", "- built_in: true", macros, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := names(t, "    "+tt.rules+"\n", tt.root); !slices.Equal(got, tt.want) {
				t.Errorf("banned %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAmavis: rules of an Amavis configuration decide as Amavis decides
// (Amavis/Validity: rules outside, values of the whole path inside).
func TestAmavis(t *testing.T) {
	t.Parallel()
	const (
		exeMS    = "    - block: {amavis: '/^[.]exe-ms$/'}\n"
		anyZip   = "    - allow: {amavis: '/^[.]zip$/'}\n"
		ext      = "    - block: {amavis: '/.[.](exe|vbs)$/i'}\n"
		hidden   = "    - block: {amavis: '/^UNDECIPHERABLE$/'}\n"
		download = "    - block: {amavis: '/^application.x-msdownload$/i'}\n"
		allowDoc = "    - allow: {amavis: '/^[.]doc$/'}\n"
	)
	zipped := tree("1|multipart/mixed", "1/1|application/zip|zip|docs.zip", "1/1/1||exe,exe-ms|invoice.exe")
	locked := tree("1|multipart/mixed", "1/1|application/zip|zip|x.zip|encrypted,undecipherable", "1/1/1||doc|report.doc")
	plain := tree("1|application/x-msdownload|asc|read.me")
	for _, tt := range []struct {
		name, rules string
		root        *mail.Part
		banned      int
	}{
		{"type", exeMS, zipped, 1},
		{"name", ext, zipped, 1},
		{"media of the message itself", download, plain, 1},
		{"an early allow lets all in the zip pass", anyZip + ext + exeMS, zipped, 0},
		{"a deny of a member before the allow of its container", ext + anyZip, zipped, 1},
		{"undecipherable container", hidden, locked, 1},
		{"allow of the leaf before the deny of its container", allowDoc + hidden, locked, 0},
		{"allow of the leaf after the deny of its container", hidden + allowDoc, locked, 1},
		{"names are as they are written", "    - block: {amavis: '/[.]EXE$/'}\n", zipped, 0},
	} {
		if got := names(t, tt.rules, tt.root); len(got) != tt.banned {
			t.Errorf("%s: banned %q, want %d", tt.name, got, tt.banned)
		}
	}
}

// TestNames holds the built-in rules to all spellings of a name, and to
// the names of ordinary mail.
func TestNames(t *testing.T) {
	t.Parallel()
	builtIn := func(name string) bool {
		return len(names(t, "    - built_in: true\n", tree("1|text/plain|asc", "1/1|application/octet-stream|dat|"+name))) > 0
	}
	for _, name := range []string{
		"evil.exe", "EVIL.EXE", ".exe", "evil.exe.", "evil.exe . .", "evil.exe\u00a0", "evil.exe\"", "evil.exe?", "<evil.exe>", "evil.exe”", "evil\uff0e\uff45\uff58\uff45",
		"evil.e\u200bxe", "evil.\u202eexe", "evil.e\u00adxe", "evil.ex\ufe0fe", "evil.ex\U000e0041e", "evil.exe\u3164", "\u202etxt.evil.exe",
		"ok.txt\x00.exe", "evil.exe\x00.txt", "ok.txt" + strings.Repeat(" ", 80) + ".exe", "../../tmp/evil.exe", `C:\temp\evil.exe`, "a\uff0fevil.exe",
		"evil.exe:stream", "evil.exe::$DATA", "evil.exe.{00021401-0000-0000-C000-000000000046}", "a.{3050f4d8-98B5-11CF-BB82-00AA00BDCE0B}",
		"evil.pdf.dll", "evil\x01.exe\x02", "evil.exe\r\n", "evil\xff.exe", strings.Repeat("x", 5000) + ".exe", "evil\u2024exe",
		"a.iso", "a.lnk", "a.js", "a.one", "a.ps1", "a.library-ms", "a.url", "a.vhdx", "a.xll", "a.dll", "a.theme", "a.rdp",
	} {
		if !builtIn(name) {
			t.Errorf("%q may pass", name)
		}
	}
	for _, name := range []string{
		"", "report.pdf", "report.docx", "Kalkulation 2026.xlsm", "photo.jpeg", "exe", "exe.txt", "a.exe.txt", "setup.exe.zip", "notes.txt",
		"Re: the .exe file", "archive.tar.gz", "v1.2.3", "https:", "data.json", "index.html", "a.mjs.map", "signature.asc", "smime.p7s", "invite.ics",
		"a.rar", "a.7z", "a.cab", "Angebot Nr. 12.", "日本語.pdf", "{brace}.txt", "www.example.org",
	} {
		if builtIn(name) {
			t.Errorf("%q is blocked", name)
		}
	}
	// what is allowed by one name may have another
	rules := "    - allow: {name: \"*.pdf\"}\n    - block: {name: [\"*.exe\", \"*.pdf\"]}\n"
	for name, banned := range map[string]int{"a.pdf": 0, "a.pdf,a.exe": 1, "a.exe:b.pdf": 1, "a.pdf\x00.exe": 1, "a.pdf,=?utf-8?Q?a=2Epdf?=": 0} {
		if got := names(t, rules, tree("1|text/plain|asc", "1/1||dat|"+name)); len(got) != banned {
			t.Errorf("%q: banned %q, want %d", name, got, banned)
		}
	}
	// a folder is no file
	if got := names(t, "    - built_in: true\n", tree("1|application/zip|zip|a.zip", "1/1|||example.com/|directory")); got != nil {
		t.Errorf("a folder is banned: %q", got)
	}
}

// TestBounds: hostile messages give short and few findings.
func TestBounds(t *testing.T) {
	t.Parallel()
	root := tree("1|multipart/mixed")
	for i := range 20 {
		p := &mail.Part{Place: fmt.Sprint("1/", i+1), Parent: root}
		for j := range 100 {
			p.AddName(strings.Repeat("ä", 1000) + fmt.Sprint(i, j) + ".exe")
		}
		root.Children = append(root.Children, p)
	}
	got := names(t, "    - built_in: true\n", root)
	if len(got) != maxHits {
		t.Errorf("%d findings, want %d", len(got), maxHits)
	}
	for _, f := range Files(builtIn, root) {
		if len(f.Name()) > 1000 || len(f.Short()) > 500 || len(f.Why()) > 500 {
			t.Errorf("names of %d and %d octets, rule of %d", len(f.Name()), len(f.Short()), len(f.Why()))
		}
	}
}

// What people are told has the name once; a second one only where readers see
// another file name and that is why the file is blocked.
func TestShort(t *testing.T) {
	t.Parallel()
	part := func(types string, names ...string) *mail.Part {
		p := &mail.Part{Place: "1", Media: []string{"application/octet-stream"}, Types: strings.Fields(types), Names: names}
		return p
	}
	for _, tt := range []struct {
		rules string
		part  *mail.Part
		want  string
	}{
		{"  - {built_in: true}\n", part("asc", "Rechnung-ü.exe", "=?utf-8?Q?Rechnung-=C3=BC.exe?=", "utf-8''Rechnung-%C3%BC.exe"), "application/octet-stream,.asc,Rechnung-ü.exe"},
		{"  - {built_in: true}\n", part("exe exe-ms", "a.txt", "b.pdf"), "application/octet-stream,.exe,.exe-ms,a.txt"},
		{"  - {built_in: true}\n", part("asc", "a.txt", "a.pdf", "a.exe", "b.exe"), "application/octet-stream,.asc,a.txt,a.exe"},
		{"  - {block: {name: \"*.txt\"}, comment: no texts}\n", part("", "a.txt", "A.TXT"), "no texts:application/octet-stream,a.txt"},
		{"  - {block: {amavis: \"/[.]exe$/\"}}\n", part("", "=?x?=", "a.exe"), "application/octet-stream,=?x?=,a.exe"},
		{"  - {block: {media: \"application/*\"}}\n", part("asc"), "application/octet-stream,.asc"},
	} {
		hits := Files(parseRules(t, tt.rules), tt.part)
		if len(hits) != 1 || hits[0].Short() != tt.want {
			t.Errorf("%q: %+v, want %q", tt.part.Names, hits, tt.want)
		}
	}
}

// TestRuleString: a rule that is shown can be read again.
func TestRuleString(t *testing.T) {
	t.Parallel()
	rules := []string{
		`{block: {name: ["*.exe", "/^a[.]b$/i"], type: [exe-ms, 7z], media: ["image/*"], is: [encrypted, data-uri], inside: [zip, "*.7z"], depth: 2, amavis: ["/\\.exe$/"]}, comment: "a \"b\": c"}`,
		`{allow: {name: ["Setup.pdf"], inside: [zip]}}`,
		`{built_in: true}`,
	}
	for i, r := range parseRules(t, "  - "+strings.Join(rules, "\n  - ")+"\n") {
		if r.String() != rules[i] {
			t.Errorf("%s, want %s", r, rules[i])
		}
	}
	for _, r := range builtIn {
		if again := parseRules(t, "  - "+r.String()+"\n")[0]; again.String() != r.String() {
			t.Errorf("%s is read as %s", r, again)
		}
	}
}

// TestEqual: rules are equal if they say the same.
func TestEqual(t *testing.T) {
	t.Parallel()
	const entries = "  - {block: {name: '*.pdf', is: encrypted}}\n  - {block: {type: pdf}, comment: no pdf}\n"
	one := parseRules(t, entries)
	if !Equal(one, parseRules(t, entries)) || !Equal(one, one) {
		t.Error("the same rules, read twice, are not equal")
	}
	changed := []func(*Rule){
		func(r *Rule) { r.Block.Name = []NamePattern{"*.doc"} },
		func(r *Rule) { r.Block.Type = []FileType{"pdf"} },
		func(r *Rule) { r.Block.Media = []MediaPattern{"text/plain"} },
		func(r *Rule) { r.Block.Is = nil },
		func(r *Rule) { r.Block.Inside = []ContainerPattern{"zip"} },
		func(r *Rule) { r.Block.Depth = 1 },
		func(r *Rule) { r.Block.Amavis = []AmavisPattern{"/x/"} },
		func(r *Rule) { r.Allow, r.Block = r.Block, r.Allow },
		func(r *Rule) { r.BuiltIn = true },
		func(r *Rule) { r.Comment = "x" },
	}
	for i, change := range changed {
		rules := slices.Clone(one)
		change(&rules[0])
		if Equal(rules, one) {
			t.Errorf("change %d: %s counts as %s", i, rules[0], one[0])
		}
	}
	if !Equal(nil, []Rule{}) || Equal(nil, one) {
		t.Error("no rules are not like no rules")
	}
}

func FuzzSpellings(f *testing.F) {
	for _, s := range []string{"a.exe", "a\x00b", `c:\x`, "a.exe:s", "x.{3050f4d8-98B5-11CF-BB82-00AA00BDCE0B}", "\xff", "ｅｘｅ．", "..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, n := range spellings([]string{s}) {
			if n.path == "" || strings.ContainsAny(n.base, "/\\\x00\r\n") || !strings.HasSuffix(n.path, n.base) || n.lower != strings.ToLower(n.base) {
				t.Errorf("%q gives %+v", s, n)
			}
		}
	})
}

func BenchmarkPlainText(b *testing.B) {
	root := tree("1|text/plain|asc")
	b.ReportAllocs()
	for b.Loop() {
		Files(builtIn, root)
	}
}

func BenchmarkAttachments(b *testing.B) {
	root := tree("1|multipart/mixed", "1/1|text/html|html", "1/2|application/pdf|pdf|Rechnung Nr 12 für März.pdf", "1/3|application/zip|zip|a.zip",
		"1/3/1||doc,docx|a.docx", "1/3/2||image,jpg|photo.jpg")
	b.ReportAllocs()
	for b.Loop() {
		Files(builtIn, root)
	}
}

// TestReach: rules for names leave out what no click reaches and what nothing
// runs; rules for content do not, and the name of a container counts for all
// that is in it.
func TestReach(t *testing.T) {
	t.Parallel()
	root := func(container, member, types, fact string) *mail.Part {
		r := tree("1|multipart/mixed", "1/1|application/octet-stream|zip|"+container, "1/1/1||"+types+"|"+member)
		p := r.Children[0].Children[0]
		p.Facts = append(p.Facts, fact)
		return r
	}
	for _, tt := range []struct {
		container, member, types, fact string
		banned                         bool
	}{
		{"a.epub", "a.js", "asc", "in-document", false},
		{"a.epub", "a.js", "asc", "", true},
		{"a.epub", "a.pdf.exe", "dat", "in-document", false},
		{"a.epub", "a.dat", "exe,exe-ms", "in-document", true},
		{"a.epub", "a.dat", "lnk", "in-document", true},
		{"a.exe", "a.js", "asc", "in-document", true},
		{"a.zip", "a@b.com", "image,png", "no-program", false},
		{"a.zip", "a.msc", "asc", "no-program", false},
		{"a.zip", "a.exe", "image,png", "no-program", true},
		{"a.zip", "a.js", "asc", "no-program", true},
	} {
		if got := len(names(t, "    - built_in: true\n", root(tt.container, tt.member, tt.types, tt.fact))) > 0; got != tt.banned {
			t.Errorf("%+v: banned %v", tt, got)
		}
	}
	own := "    - block: {name: \"*.js\"}\n"
	if got := names(t, own, root("a.epub", "a.js", "asc", "in-document")); len(got) != 1 {
		t.Errorf("a rule of the postmaster: %q", got)
	}
}
