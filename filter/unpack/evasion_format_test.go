package unpack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func TestEvasionFormats(t *testing.T) {
	t.Parallel()
	runTricks(t, formatTricks())
}

// formatTricks hide the payload in seldom used corners of formats, under a name
// that says nothing wherever the format has names.
func formatTricks() []trick {
	return slices.Concat(zipCorners(), tarCorners(), streamCorners(), packerCorners(), imageCorners(), otherCorners(), rtfCorners(), pdfCorners(), documentCorners(), textCorners(), packedFiles())
}

// packedFiles are those in testdata/archives, made of the payload named a.dat
// with 7-Zip (-m0=bcj2 and so on), xz and lz4.
func packedFiles() (out []trick) {
	list, err := filepath.Glob("testdata/archives/*")
	if err != nil || len(list) < 20 {
		panic(fmt.Sprint(list, err))
	}
	for _, f := range list {
		name := filepath.Base(f)
		out = append(out, trick{"F-" + name, "by other programs", either, attachedAs("a"+filepath.Ext(name), specimen.Must(os.ReadFile(f)))})
	}
	return out
}

// fileTrick is a trick that is one attachment.
func fileTrick(id, what string, want want, name string, data []byte) trick {
	return trick{id, what, want, attachedAs(name, data)}
}

func zipCorners() []trick {
	dat := specimen.ZipFile{Name: "a.dat", Data: specimen.Payload, Method: specimen.ZipDeflate}
	stored := specimen.ZipFile{Name: "a.dat", Data: specimen.Payload}
	as := func(id, what string, want want, data []byte) trick {
		return trick{id, what, want, attachedAs("a.zip", data)}
	}
	with := func(f specimen.ZipFile, change func(*specimen.ZipFile)) []byte { change(&f); return specimen.Zip(f) }
	two := func(a, b specimen.ZipFile) []byte { return specimen.Zip(a, b) }
	ok := specimen.ZipFile{Name: "a.dat", Data: []byte("nothing"), Method: specimen.ZipDeflate}
	plain := specimen.Zip(dat)
	split := func(mark string) []byte { return specimen.Concat([]byte(mark), plain) }
	masked := with(dat, func(f *specimen.ZipFile) {
		f.Flags = filetype.ZipFlagMasked | filetype.ZipFlagEncrypted | filetype.ZipFlagStrong
		f.LocalName = "1"
	})
	i := bytes.Index(masked, []byte(filetype.ZipCentral))
	for j := range masked[i:bytes.LastIndex(masked, []byte(filetype.ZipEnd))] {
		masked[i+j] ^= 0xa5
	}
	return []trick{
		as("E01", "zip64 sizes in the directory that lie", either, specimen.Patched(specimen.Patched(with(stored, func(f *specimen.ZipFile) { f.CentralExtra = specimen.Zip64Field(0, 0) }), filetype.ZipCentral, 20, 0xffffffff, 4), filetype.ZipCentral, 24, 0xffffffff, 4)),
		as("E02", "zip64 sizes in the local header that lie", either, specimen.Patched(specimen.Patched(with(stored, func(f *specimen.ZipFile) { f.LocalExtra = specimen.Zip64Field(7, 7) }), filetype.ZipLocal, 18, 0xffffffff, 4), filetype.ZipLocal, 22, 0xffffffff, 4)),
		as("E03", "data descriptor without signature", either, specimen.WithoutSignature(dat)),
		as("E04", "stored, data descriptor without signature", either, specimen.WithoutSignature(stored)),
		as("E05", "stored, local size 0", either, specimen.Patched(specimen.Patched(specimen.Zip(stored), filetype.ZipLocal, 18, 0, 4), filetype.ZipLocal, 22, 0, 4)),
		as("E06", "stored, local and central size 0", either, specimen.Patched(specimen.Patched(specimen.Patched(specimen.Patched(specimen.Zip(stored), filetype.ZipLocal, 18, 0, 4), filetype.ZipLocal, 22, 0, 4), filetype.ZipCentral, 20, 0, 4), filetype.ZipCentral, 24, 0, 4)),
		as("E07", "mark of a split zip", found, split("PK\x07\x08")),
		as("E08", "mark of a zip that was to be split", found, split("PK00")),
		as("E09", "behind a program", found, specimen.ZipAfter(specimen.Program, true, dat)),
		as("E10", "directory encrypted", either, masked),
		as("E11", "two members of one name", found, two(ok, dat)),
		as("E12", "two entries, one local header", found, func() []byte {
			body, at := specimen.ZipBody(nil, []specimen.ZipFile{dat})
			return append(body, specimen.ZipTail(len(body), 0, []specimen.ZipFile{dat, ok}, append(at, at[0]))...)
		}()),
		as("E13", "backslashes", found, with(dat, func(f *specimen.ZipFile) { f.Name = `x\y\a.dat` })),
		as("E14", "absolute name", found, with(dat, func(f *specimen.ZipFile) { f.Name = `C:\a.dat` })),
		as("E15", "field of AES without encryption", found, with(dat, func(f *specimen.ZipFile) { f.CentralExtra = []byte("\x01\x99\x07\x00\x02\x00AE\x03\x08\x00") })),
		as("E16", "method in the local header says stored", either, specimen.Patched(plain, filetype.ZipLocal, 8, 0, 2)),
		as("E17", "method in the directory says stored", either, specimen.Patched(plain, filetype.ZipCentral, 10, 0, 2)),
		as("E18", "method shrink", either, with(dat, func(f *specimen.ZipFile) { f.Raw, f.Method = specimen.Payload, 1 })),
		as("E19", "method PPMd", either, with(dat, func(f *specimen.ZipFile) { f.Raw, f.Method = specimen.Payload, 98 })),
		as("E20", "method that nobody knows", either, with(dat, func(f *specimen.ZipFile) { f.Raw, f.Method = specimen.Payload, 4711 })),
		as("E21", "version that nobody knows", either, specimen.Patched(specimen.Patched(plain, filetype.ZipLocal, 4, 99, 1), filetype.ZipCentral, 6, 99, 1)),
		as("E22", "version above all", either, specimen.Patched(specimen.Patched(plain, filetype.ZipLocal, 4, 255, 1), filetype.ZipCentral, 6, 255, 1)),
		as("E23", "checksum wrong", either, specimen.Patched(specimen.Patched(plain, filetype.ZipLocal, 14, 1, 4), filetype.ZipCentral, 16, 1, 4)),
		as("E24", "number of disks", either, specimen.Patched(specimen.Patched(plain, filetype.ZipEnd, 4, 1, 2), filetype.ZipEnd, 6, 1, 2)),
		as("E25", "number of entries 0", either, specimen.Patched(specimen.Patched(plain, filetype.ZipEnd, 8, 0, 2), filetype.ZipEnd, 10, 0, 2)),
		as("E26", "end record points nowhere", either, specimen.Patched(plain, filetype.ZipEnd, 16, 0x7fffffff, 4)),
		as("E27", "directory of another size", either, specimen.Patched(plain, filetype.ZipEnd, 12, 0x7fff, 4)),
		as("E28", "local header without its signature", either, specimen.Patched(plain, filetype.ZipLocal, 0, 0, 4)),
		as("E29", "end record without its signature", either, specimen.Patched(plain, filetype.ZipEnd, 0, 0, 4)),
		as("E30", "name of no octets", either, with(dat, func(f *specimen.ZipFile) { f.Name = "" })),
		as("E31", "zip in the comment of a zip", found, func() []byte {
			z := specimen.Zip(ok)
			return specimen.Concat(specimen.Patched(z, filetype.ZipEnd, 20, len(plain), 2), plain)
		}()),
		as("E33", "symbolic link with content", found, with(dat, func(f *specimen.ZipFile) { f.Mode = 0o120777 })),
		as("E34", "device with content", found, with(dat, func(f *specimen.ZipFile) { f.Mode = 0o020666 })),
		as("E35", "deflate in empty blocks", found, with(dat, func(f *specimen.ZipFile) {
			f.Raw = append(bytes.Repeat([]byte("\x00\x00\x00\xff\xff"), 500), dat.Packed()...)
		})),
		as("E36", "octets between members", either, func() []byte {
			body, at := specimen.ZipBody([]byte("PK\x03\x04junk"), []specimen.ZipFile{dat})
			return append(body, specimen.ZipTail(len(body), 0, []specimen.ZipFile{dat}, at)...)
		}()),
		{"E37", "named as a document", found, attachedAs("a.docx", plain)},
		{"E38", "behind a picture, named as one", found, attachedAs("a.png", specimen.ZipAfter([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"), false, dat))},
		{"E39", "mail in a zip in a mail in a zip", found, attachedAs("a.zip", specimen.Zip(specimen.ZipFile{Name: "a.eml", Data: []byte(attachedAs("b.zip", specimen.Zip(specimen.ZipFile{Name: "b.eml", Data: []byte(withPart(strings.ReplaceAll(evilPart(), "evil.exe", "a.dat")))})))}))},
		{"E40", "signature archive with password in the text", found, "" + strings.Replace(attachedAs("a.zip", specimen.ZipLocked(dat, "1234")), "hello", "The password is 1234.", 1)},
		{"E41", "gzip in xz in zip", found, attachedAs("a.zip", specimen.Zip(specimen.ZipFile{Name: "a.xz", Data: specimen.XZ(specimen.Gzip(specimen.Payload))}))},
		{"E42", "Java archive, app and extension", found, attachedAs("a.xpi", specimen.Zip(specimen.ZipFile{Name: "META-INF/MANIFEST.MF", Data: []byte("x")}, dat))},
	}
}
