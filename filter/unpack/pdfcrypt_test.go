package unpack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// openPDFs are encrypted PDFs with the empty user password. Those in
// testdata/pdf hold the payload as evil.exe, but statement.pdf, which is one
// page of text. They were made from a page with an attachment by
//
//	qpdf --add-attachment evil.exe -- page.pdf att.pdf
//	qpdf --static-id --allow-weak-crypto att.pdf rc4-40.pdf --encrypt "" owner 40 --
//
// rc4-128: 128 --use-aes=n; rc4-v4: 128 --use-aes=n --force-V4 --cleartext-metadata;
// aes-128: 128 --use-aes=y; aes-256: 256; aes-256-r5: 256 --force-R5; objects: 256
// and --object-streams=generate; statement: 128 --use-aes=y of the page, with
// --object-streams=generate. In testdata/locked rc4.pdf is rc4-128 and
// aes256.pdf is aes-256 with the user password "infected".
func openPDFs(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	list, err := filepath.Glob("testdata/pdf/*.pdf")
	if err != nil || len(list) < 8 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, f := range list {
		files[strings.TrimSuffix(filepath.Base(f), ".pdf")] = specimen.Must(os.ReadFile(f))
	}
	return files
}

// replaced is data with a text in place of one that it must have once.
func replaced(t testing.TB, data []byte, old, with string) []byte {
	t.Helper()
	if bytes.Count(data, []byte(old)) != 1 {
		t.Fatalf("%d of %q", bytes.Count(data, []byte(old)), old)
	}
	return bytes.Replace(data, []byte(old), []byte(with), 1)
}

// encryptionOf cuts the dictionary and the identifiers out of a fixture.
func encryptionOf(data []byte) (dict, id string) {
	i := bytes.LastIndex(data, []byte("<<"))
	_, rest, _ := strings.Cut(string(data[i:]), "/ID ")
	id, _, _ = strings.Cut(rest, "]")
	_, dict, _ = strings.Cut(string(data), "\n8 0 obj\n")
	dict, _, _ = strings.Cut(dict, "\nendobj")
	return dict, id + "]"
}

func looksAtPDF(data []byte) *Result {
	return Parts(context.Background(), mail.NewMessage([]byte(attachedAs("a.pdf", data))), budget.DefaultLimits)
}

// TestPDFEmptyPassword: what every reader opens without asking is looked into.
// Rules do not see it as encrypted: whoever bans that means secrets.
func TestPDFEmptyPassword(t *testing.T) {
	t.Parallel()
	files := openPDFs(t)
	aes, old := files["aes-128"], files["rc4-128"]
	dict, _ := encryptionOf(old)
	files["escaped name"] = replaced(t, aes, "/Encrypt ", "/Encr#79pt ")
	files["dictionary in the trailer"] = replaced(t, replaced(t, old, "\n8 0 obj\n"+dict, "\n8 0 obj\n<<>>"), "/Encrypt 8 0 R", "/Encrypt"+dict)
	files["embedded files only"] = replaced(t, aes, "/StmF /StdCF", "/StmF /Identity /EFF /StdCF")
	files["no length"] = replaced(t, old, "/Length 128 ", "")
	files["permissions without a sign"] = replaced(t, old, "/P -4", "/P 4294967292")
	for name, data := range files {
		r := looksAtPDF(data)
		i := slices.IndexFunc(r.Parts, func(p *mail.Part) bool { return slices.Contains(p.Types, "pdf") })
		if i < 0 || r.Parts[i].Flags.Is(mail.PartEncrypted) || len(r.Findings) > 0 {
			t.Errorf("%s:\n%s", name, describeTree(r))
			continue
		}
		named := slices.ContainsFunc(r.Parts, func(p *mail.Part) bool {
			return slices.Contains(p.Names, "evil.exe") && bytes.Equal(p.Data, specimen.Payload)
		})
		switch name {
		case "statement":
			if len(r.Parts[i].Children) > 0 {
				t.Errorf("%s:\n%s", name, describeTree(r))
			}
		case "objects":
			if !r.holds(specimen.Payload) {
				t.Errorf("%s:\n%s", name, describeTree(r))
			}
		default:
			if !named {
				t.Errorf("%s:\n%s", name, describeTree(r))
			}
		}
	}
}

// TestPDFDoubt: when it is not certain which key a reader takes, or that it
// takes one, nothing is clean.
func TestPDFDoubt(t *testing.T) {
	t.Parallel()
	files := openPDFs(t)
	old, aes := files["rc4-128"], files["aes-128"]
	dict, id := encryptionOf(old)
	other, _ := encryptionOf(aes)
	plain := func(dictionary string, content []byte) []byte {
		return fmt.Appendf(nil, "%%PDF-1.7\n1 0 obj\n<</Type/Filespec/F(a.js)/EF<</F 2 0 R>>>>\nendobj\n2 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n"+
			"8 0 obj\n%s\nendobj\ntrailer<</Root 1 0 R/Encrypt 8 0 R/ID %s>>\n%%%%EOF\n", dictionary, len(content), content, dict, id)
	}
	script := bytes.Repeat([]byte("WScript.Echo('hello');\n"), 20)
	for name, data := range map[string][]byte{
		"two dictionaries":             append(bytes.Clone(old), "8 0 obj\n"+other+"\nendobj\n"...),
		"two references":               append(bytes.Clone(old), "9 0 obj\n"+dict+"\nendobj\ntrailer<</Encrypt 9 0 R>>\n"...),
		"a reference and a direct one": append(bytes.Clone(old), "trailer<</Encrypt"+other+">>\n"...),
		"no dictionary":                replaced(t, old, "\n8 0 obj\n", "\n9 0 obj\n"),
		"key given twice":              replaced(t, old, "/P -4", "/P -4/P -4"),
		"other handler":                replaced(t, old, "/Standard", "/Adobe.PubSec"),
		"other method":                 replaced(t, aes, "/AESV2", "/AESV9"),
		"unknown version":              replaced(t, old, "/V 2", "/V 3"),
		"other permissions":            replaced(t, old, "/P -4", "/P -8"),
		"other identifier":             replaced(t, old, id[2:12], "0000000000"),
		"script that is not encrypted": plain("/Type/EmbeddedFile", script),
		"script shorter than a block":  replaced(t, plain("/Type/EmbeddedFile", script[:20]), dict, other),
		"objects under a password":     replaced(t, files["statement"], "/P -4", "/P -8"),
		"packed one":                   plain("/Type/EmbeddedFile/Filter/FlateDecode", specimen.Zlib(script)),
		"objects that are not":         plain("/Type/ObjStm/N 1/First 4", []byte("9 0 <</F(a.js)>>")),
		"packed ones":                  plain("/Type/ObjStm/N 1/First 4/Filter/FlateDecode", specimen.Zlib([]byte("9 0 <</F(a.js)>>"))),
		"stream of another object":     replaced(t, old, "\n6 0 obj\n", "\n16 0 obj\n"),
	} {
		if r := looksAtPDF(data); len(r.Findings) == 0 {
			t.Errorf("%s:\n%s", name, describeTree(r))
		}
	}
	for name, data := range map[string][]byte{
		"stored": plain("/Type/EmbeddedFile", specimen.Payload), "no type": plain("", specimen.Payload),
		"packed": plain("/Filter/FlateDecode", specimen.Zlib(specimen.Payload)),
	} {
		if r := looksAtPDF(data); !slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return bytes.HasPrefix(p.Data, specimen.Payload) }) {
			t.Errorf("%s:\n%s", name, describeTree(r))
		}
	}
}

// TestPDFMemory: the copy of an encrypted stream is paid for.
func TestPDFMemory(t *testing.T) {
	t.Parallel()
	data := openPDFs(t)["rc4-128"]
	b := specimen.Budget(len(data))
	before := b.MemoryLeft()
	if got := specimen.LookAs(t, expand, data, b, "pdf"); !got.HasData(specimen.Payload) || b.MemoryLeft() != before {
		t.Errorf("%+v, %d octets kept", got.Outcome, before-b.MemoryLeft())
	}
	b.Hold(before - int64(len(specimen.Payload)) - 50)
	if got := specimen.LookAs(t, expand, data, b, "pdf"); !got.OverLimits {
		t.Errorf("%+v", got.Outcome)
	}
}
