package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"testing"

	"postern/filter/unpack/filetype"
)

func TestEvasionArchives(t *testing.T) {
	t.Parallel()
	runTricks(t, archiveTricks())
}

// attachedAs is a message with one attachment of that name.
func attachedAs(name string, data []byte) string {
	return withPart("Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name +
		"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap64(data))
}

// payloadBzip2 is the payload compressed, since nothing here can write bzip2.
const payloadBzip2 = "QlpoOTFBWSZTWUz3bHYAACbe6OwAJvoGge9n310AAkAAQAAAQAAAoAB0KnqBoaaAaaNAGQyMg1T1DQGgAAaAAxFMpOYwDhAWkslkAEEG" +
	"9VxbmrWjUad9doUkIBxi9oos4eJoZbhwQioEL+jrLywR82OhYAhtLVoILjRuadwJBDjDBYfi7kinChIJnu2OwA=="

// tarPayload writes a tar with the payload behind other headers.
func tarPayload(name string, before ...byte) []byte {
	return concat(before, tarBlockOf(name, '0', len(payload)), padded(payload, filetype.TarBlock), make([]byte, 2*filetype.TarBlock))
}

// archiveTricks hide the payload in archives and other containers.
func archiveTricks() []trick {
	return append(zipTricks(), containerTricks()...)
}

func zipTricks() []trick {
	exe := zipFile{name: "evil.exe", data: payload, method: zipDeflate}
	txt := zipFile{name: "ok.txt", data: []byte("nothing to see here"), method: zipDeflate}
	one := func(f zipFile) string { return attachedAs("a.zip", zipOf(f)) }
	with := func(change func(*zipFile)) string { f := exe; change(&f); return one(f) }
	nest := func(n int) []byte {
		z := zipOf(exe)
		for i := range n - 1 {
			z = zipOf(zipFile{name: fmt.Sprintf("%d.zip", i), data: z, method: zipDeflate})
		}
		return z
	}
	plain, good := zipOf(exe), zipOf(txt)
	wrongComment := bytes.Clone(plain)
	wrongComment[len(wrongComment)-2] = 200
	body, _ := zipBody(nil, []zipFile{exe})
	many := make([]zipFile, 2000, 2001)
	for i := range many {
		many[i] = zipFile{name: fmt.Sprintf("%d.txt", i), data: []byte("x")}
	}
	return []trick{
		{"D01", "zip", plainly, attachedAs("a.zip", plain)},
		{"D02", "zip in zip, 4 levels", plainly, attachedAs("a.zip", nest(4))},
		{"D03", "zip in zip, 24 levels", overrun, attachedAs("a.zip", nest(24))},
		{"D06", "zip behind a JPEG header", found, attachedAs("photo.jpg", zipAfter([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00"), true, exe))},
		{"D07", "zip followed by 70,000 octets", found, attachedAs("a.zip", concat(plain, bytes.Repeat([]byte("junk "), 14000)))},
		{"D08", "harmless name in the directory", ambiguous, with(func(f *zipFile) { f.centralName = "okay.txt" })},
		{"D09", "harmless name before the data", ambiguous, with(func(f *zipFile) { f.localName = "okay.txt" })},
		{"D10", "no directory", found, attachedAs("a.zip", body)},
		{"D11", "two zips joined, bad one last", found, attachedAs("a.zip", concat(good, plain))},
		{"D12", "two zips joined, bad one first", found, attachedAs("a.zip", concat(plain, good))},
		{"D13", "comment length wrong", found, attachedAs("a.zip", wrongComment)},
		{"D14", "encryption flag set", either, with(func(f *zipFile) { f.flags = 1 })},
		{"D15", "method 99", either, with(func(f *zipFile) { f.method, f.raw = 99, payload })},
		{"D24", "mail in a zip", found, one(zipFile{name: "mail.eml", data: []byte(withPart(evilPart())), method: zipDeflate})},
		{"D25", "zip named .jpg in a zip named .dat", found, attachedAs("a.dat", zipOf(zipFile{name: "x.jpg", data: plain}))},
		{"D28", "sizes zero in the directory", found, with(func(f *zipFile) { f.centralZero = true })},
		{"D29", "path in the name", found, with(func(f *zipFile) { f.name = `..\..\evil.exe` })},
		{"D30", "folder of the same name before the file", found, attachedAs("a.zip", zipOf(zipFile{name: "evil.exe/"}, exe))},
		{"D32", "2,000 files before it", overrun, attachedAs("a.zip", zipOf(append(many, exe)...))},
		{"D33", "another name in the Unicode field", ambiguous, with(func(f *zipFile) {
			f.name = "okay.txt"
			f.centralExtra = unicodePath("okay.txt", "evil.exe")
		})},
		{"D34", "NUL in the name", found, with(func(f *zipFile) { f.name = "evil.exe\x00.txt" })},
		{"D35", "not in the directory", found, attachedAs("a.zip", zipOf(txt, zipFile{name: "evil.exe", data: payload, method: zipDeflate, hidden: true}))},
		{"D36", "zstd in a zip", found, with(func(f *zipFile) { f.raw, f.method = zstdOf(payload), zipZstd })},
		{"D37", "xz in a zip", found, with(func(f *zipFile) { f.raw, f.method = xzOf(payload), zipXZ })},
	}
}

func containerTricks() []trick {
	tarred := tarPayload("evil.exe")
	named := func(name string) []byte {
		return pack(payload, func(w io.Writer) io.WriteCloser { z := gzip.NewWriter(w); z.Name = name; return z })
	}
	zeros := gz(append(make([]byte, 64<<20), payload...))
	return []trick{
		{"D16", "gzip", plainly, attachedAs("evil.exe.gz", named("evil.exe"))},
		{"D17", "gzip with two members", found, attachedAs("a.gz", concat(gz([]byte("some text\n")), gz(payload)))},
		{"D18", "tar", plainly, attachedAs("a.tar", tarred)},
		{"D19", "tar.gz", plainly, attachedAs("a.tar.gz", gz(tarred))},
		{"D20", "another name in the pax header", found, attachedAs("a.tar", tarPayload("ok.txt", paxOf("path=evil.exe")...))},
		{"D21", "bzip2", found, attachedAs("a.bz2", must(base64.StdEncoding.DecodeString(payloadBzip2)))},
		{"D22", "xz", found, attachedAs("a.xz", xzOf(payload))},
		{"D23", "bare LZMA stream", found, attachedAs("a.lzma", lzmaOf(payload))},
		{"D27", "data: URI with download attribute", found, withPart("Content-Type: text/html\r\n\r\n<html><a download=\"evil.exe\" href=\"data:application/octet-stream;base64," +
			base64.StdEncoding.EncodeToString(payload) + "\">x</a></html>\r\n")},
		{"D31", "64 MB of zeros before it, gzipped", overrun, attachedAs("a.gz", zeros)},
		{"D38", "7-Zip", found, attachedAs("a.7z", sevenOf("evil.exe", payload, false, false))},
		{"D39", "7-Zip with encrypted names", either, attachedAs("a.7z", sevenOf("evil.exe", payload, false, true))},
		{"D40", "RAR", found, attachedAs("a.rar", rar5Of("evil.exe", payload, false))},
		{"D41", "RAR with encrypted names", either, attachedAs("a.rar", rar5Of("evil.exe", payload, true))},
		{"D42", "cabinet", found, attachedAs("a.cab", cabOf("evil.exe", payload, cabMSZip))},
		{"D43", "ISO image", found, attachedAs("a.iso", isoOf("EVIL.EXE", "", payload))},
		{"D44", "ISO image with another name in Joliet", found, attachedAs("a.img", isoOf("OK.TXT", "evil.exe", payload))},
		{"D45", "LHA", found, attachedAs("a.lzh", lhaOf("evil.exe", "-lh5-", lh5Of(payload), len(payload)))},
		{"D46", "ARJ", found, attachedAs("a.arj", arjOf("evil.exe", 0, 0, payload, len(payload)))},
		{"D47", "cpio", found, attachedAs("a.cpio", concat(newcOf("evil.exe", 0o100644, payload), newcOf("TRAILER!!!", 0, nil)))},
		{"D48", "zstd", found, attachedAs("a.zst", zstdOf(payload))},
		{"D49", "compress", found, attachedAs("a.Z", compressOf(payload))},
		{"D50", "object in an RTF document", found, attachedAs("a.rtf", rtfOf(packageOf("evil.exe", payload)))},
		{"D51", "attachment of a PDF", found, attachedAs("a.pdf", pdfOf("evil.exe", payload))},
		{"D52", "file in OneNote", found, attachedAs("a.one", oneOf(payload))},
		{"D53", "object in a compound document", found, attachedAs("a.doc", oleOf("\x01Ole10Native", append(appendLE(nil, len(packageOf("evil.exe", payload)), 4), packageOf("evil.exe", payload)...)))},
		{"D54", "PDF and zip in one", found, attachedAs("a.pdf", zipAfter([]byte("%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"), true, zipFile{name: "evil.exe", data: payload, method: zipDeflate}))},
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
