package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"testing"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func TestEvasionArchives(t *testing.T) {
	t.Parallel()
	runTricks(t, archiveTricks())
}

// attachedAs is a message with one attachment of that name.
func attachedAs(name string, data []byte) string {
	return withPart("Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name +
		"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(data))
}

// payloadBzip2 is the payload compressed, since nothing here can write bzip2.
const payloadBzip2 = "QlpoOTFBWSZTWUz3bHYAACbe6OwAJvoGge9n310AAkAAQAAAQAAAoAB0KnqBoaaAaaNAGQyMg1T1DQGgAAaAAxFMpOYwDhAWkslkAEEG" +
	"9VxbmrWjUad9doUkIBxi9oos4eJoZbhwQioEL+jrLywR82OhYAhtLVoILjRuadwJBDjDBYfi7kinChIJnu2OwA=="

// tarPayload writes a tar with the payload behind other headers.
func tarPayload(name string, before ...byte) []byte {
	return specimen.Concat(before, specimen.TarHeader(name, '0', len(specimen.Payload)), specimen.Padded(specimen.Payload, filetype.TarBlock), make([]byte, 2*filetype.TarBlock))
}

// archiveTricks hide the payload in archives and other containers.
func archiveTricks() []trick {
	return append(zipTricks(), containerTricks()...)
}

func zipTricks() []trick {
	exe := specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate}
	txt := specimen.ZipFile{Name: "ok.txt", Data: []byte("nothing to see here"), Method: specimen.ZipDeflate}
	one := func(f specimen.ZipFile) string { return attachedAs("a.zip", specimen.Zip(f)) }
	with := func(change func(*specimen.ZipFile)) string { f := exe; change(&f); return one(f) }
	nest := func(n int) []byte {
		z := specimen.Zip(exe)
		for i := range n - 1 {
			z = specimen.Zip(specimen.ZipFile{Name: fmt.Sprintf("%d.zip", i), Data: z, Method: specimen.ZipDeflate})
		}
		return z
	}
	plain, good := specimen.Zip(exe), specimen.Zip(txt)
	wrongComment := bytes.Clone(plain)
	wrongComment[len(wrongComment)-2] = 200
	body, _ := specimen.ZipBody(nil, []specimen.ZipFile{exe})
	many := make([]specimen.ZipFile, budget.DefaultLimits.Entries, budget.DefaultLimits.Entries+1)
	for i := range many {
		many[i] = specimen.ZipFile{Name: fmt.Sprintf("%d.txt", i), Data: []byte("x")}
	}
	return []trick{
		{"D01", "zip", plainly, attachedAs("a.zip", plain)},
		{"D02", "zip in zip, 4 levels", plainly, attachedAs("a.zip", nest(4))},
		{"D03", "zip in zip, 24 levels", overrun, attachedAs("a.zip", nest(24))},
		{"D06", "zip behind a JPEG header", found, attachedAs("photo.jpg", specimen.ZipAfter([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00"), true, exe))},
		{"D07", "zip followed by 70,000 octets", found, attachedAs("a.zip", specimen.Concat(plain, bytes.Repeat([]byte("junk "), 14000)))},
		{"D08", "harmless name in the directory", ambiguous, with(func(f *specimen.ZipFile) { f.CentralName = "okay.txt" })},
		{"D09", "harmless name before the data", ambiguous, with(func(f *specimen.ZipFile) { f.LocalName = "okay.txt" })},
		{"D10", "no directory", found, attachedAs("a.zip", body)},
		{"D11", "two zips joined, bad one last", found, attachedAs("a.zip", specimen.Concat(good, plain))},
		{"D12", "two zips joined, bad one first", found, attachedAs("a.zip", specimen.Concat(plain, good))},
		{"D13", "comment length wrong", found, attachedAs("a.zip", wrongComment)},
		{"D14", "encryption flag set", either, with(func(f *specimen.ZipFile) { f.Flags = 1 })},
		{"D15", "method 99", either, with(func(f *specimen.ZipFile) { f.Method, f.Raw = 99, specimen.Payload })},
		{"D24", "mail in a zip", found, one(specimen.ZipFile{Name: "mail.eml", Data: []byte(withPart(evilPart())), Method: specimen.ZipDeflate})},
		{"D25", "zip named .jpg in a zip named .dat", found, attachedAs("a.dat", specimen.Zip(specimen.ZipFile{Name: "x.jpg", Data: plain}))},
		{"D28", "sizes zero in the directory", found, with(func(f *specimen.ZipFile) { f.CentralZero = true })},
		{"D29", "path in the name", found, with(func(f *specimen.ZipFile) { f.Name = `..\..\evil.exe` })},
		{"D30", "folder of the same name before the file", found, attachedAs("a.zip", specimen.Zip(specimen.ZipFile{Name: "evil.exe/"}, exe))},
		{"D32", "5,000 files before it", overrun, attachedAs("a.zip", specimen.Zip(append(many, exe)...))},
		{"D33", "another name in the Unicode field", ambiguous, with(func(f *specimen.ZipFile) {
			f.Name = "okay.txt"
			f.CentralExtra = specimen.UnicodePath("okay.txt", "evil.exe")
		})},
		{"D34", "NUL in the name", found, with(func(f *specimen.ZipFile) { f.Name = "evil.exe\x00.txt" })},
		{"D35", "not in the directory", found, attachedAs("a.zip", specimen.Zip(txt, specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate, Hidden: true}))},
		{"D36", "zstd in a zip", found, with(func(f *specimen.ZipFile) { f.Raw, f.Method = specimen.Zstd(specimen.Payload), specimen.ZipZstd })},
		{"D37", "xz in a zip", found, with(func(f *specimen.ZipFile) { f.Raw, f.Method = specimen.XZ(specimen.Payload), specimen.ZipXZ })},
	}
}

func containerTricks() []trick {
	tarred := tarPayload("evil.exe")
	named := func(name string) []byte {
		return specimen.Pack(specimen.Payload, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); z.Name = name; return z })
	}
	zeros := specimen.Gzip(append(make([]byte, 64<<20), specimen.Payload...))
	return []trick{
		{"D16", "gzip", plainly, attachedAs("evil.exe.gz", named("evil.exe"))},
		{"D17", "gzip with two members", found, attachedAs("a.gz", specimen.Concat(specimen.Gzip([]byte("some text\n")), specimen.Gzip(specimen.Payload)))},
		{"D18", "tar", plainly, attachedAs("a.tar", tarred)},
		{"D19", "tar.gz", plainly, attachedAs("a.tar.gz", specimen.Gzip(tarred))},
		{"D20", "another name in the pax header", found, attachedAs("a.tar", tarPayload("ok.txt", specimen.Pax("path=evil.exe")...))},
		{"D21", "bzip2", found, attachedAs("a.bz2", specimen.Must(base64.StdEncoding.DecodeString(payloadBzip2)))},
		{"D22", "xz", found, attachedAs("a.xz", specimen.XZ(specimen.Payload))},
		{"D23", "bare LZMA stream", found, attachedAs("a.lzma", specimen.LZMA(specimen.Payload))},
		{"D27", "data: URI with download attribute", found, withPart("Content-Type: text/html\r\n\r\n<html><a download=\"evil.exe\" href=\"data:application/octet-stream;base64," +
			base64.StdEncoding.EncodeToString(specimen.Payload) + "\">x</a></html>\r\n")},
		{"D31", "64 MB of zeros before it, gzipped", overrun, attachedAs("a.gz", zeros)},
		{"D38", "7-Zip", found, attachedAs("a.7z", specimen.SevenZip("evil.exe", specimen.Payload, false, false))},
		{"D39", "7-Zip with encrypted names", either, attachedAs("a.7z", specimen.SevenZip("evil.exe", specimen.Payload, false, true))},
		{"D40", "RAR", found, attachedAs("a.rar", specimen.RAR5("evil.exe", specimen.Payload, false))},
		{"D41", "RAR with encrypted names", either, attachedAs("a.rar", specimen.RAR5("evil.exe", specimen.Payload, true))},
		{"D42", "cabinet", found, attachedAs("a.cab", specimen.Cab("evil.exe", specimen.Payload, specimen.CabMSZip))},
		{"D43", "ISO image", found, attachedAs("a.iso", specimen.ISO("EVIL.EXE", "", specimen.Payload))},
		{"D44", "ISO image with another name in Joliet", found, attachedAs("a.img", specimen.ISO("OK.TXT", "evil.exe", specimen.Payload))},
		{"D45", "LHA", found, attachedAs("a.lzh", specimen.LHA("evil.exe", "-lh5-", specimen.LH5(specimen.Payload), len(specimen.Payload)))},
		{"D46", "ARJ", found, attachedAs("a.arj", specimen.ARJ("evil.exe", 0, 0, specimen.Payload, len(specimen.Payload)))},
		{"D47", "cpio", found, attachedAs("a.cpio", specimen.Concat(specimen.Newc("evil.exe", 0o100644, specimen.Payload), specimen.Newc("TRAILER!!!", 0, nil)))},
		{"D48", "zstd", found, attachedAs("a.zst", specimen.Zstd(specimen.Payload))},
		{"D49", "compress", found, attachedAs("a.Z", specimen.Compress(specimen.Payload))},
		{"D50", "object in an RTF document", found, attachedAs("a.rtf", specimen.RTF(specimen.Package("evil.exe", specimen.Payload)))},
		{"D51", "attachment of a PDF", found, attachedAs("a.pdf", specimen.PDF("evil.exe", specimen.Payload))},
		{"D52", "file in OneNote", found, attachedAs("a.one", specimen.OneNote(specimen.Payload))},
		{"D53", "object in a compound document", found, attachedAs("a.doc", specimen.OLE("\x01Ole10Native", append(specimen.AppendLE(nil, len(specimen.Package("evil.exe", specimen.Payload)), 4), specimen.Package("evil.exe", specimen.Payload)...)))},
		{"D54", "PDF and zip in one", found, attachedAs("a.pdf", specimen.ZipAfter([]byte("%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"), true, specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate}))},
		{"D55", "tar in which a link comes first", found, attachedAs("a.tar", tarPayload("evil.exe", linkTo("ok.txt")...))},
	}
}

func linkTo(name string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}); err != nil {
		panic(err)
	}
	return b.Bytes()[:filetype.TarBlock]
}
