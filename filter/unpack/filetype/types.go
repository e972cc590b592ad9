// Package filetype says what octets are: types by signatures, by the look of a
// text and, where content cannot tell, by name; archives that begin inside other
// data; and what names of files are. It opens nothing and pays nothing.
//
// Start with Of, whose short types are the words that the tables of readers and
// banned rules know, and FindEmbedded.
package filetype

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// typeSample is how much of a file is looked at to tell text from other data
// and one kind of text from another.
const typeSample = 4096

// Of says what data is: Amavis' short types without the dot, the most
// specific one last and "dat" if nothing is known, and a media type. A file
// that can be read as more than one format gets the words of all of them.
// Names help only where the content cannot tell.
func Of(data []byte, names []string) (short []string, media string) {
	if len(data) == 0 {
		return []string{"empty"}, "application/x-empty"
	}
	class := classify(data[:min(len(data), typeSample)])
	if class.text() {
		short, media = textTypes(data, class, names)
	} else {
		short, media = binaryTypes(data, names)
	}
	companion := isAppleDouble(data)
	if !IsContainer(short) && !companion && isVolume(names) {
		short = append(short, "volume")
	}
	short = alsoContainers(short, data)
	if short[len(short)-1] == "dat" && !companion && isArchiveName(names) {
		short = append(short, "archive")
	}
	return short, media
}

// containers are the types of files that hold other files, whether there is a
// reader for them or not: one that is only known makes a message unchecked.
var containers = func() map[string]bool {
	known := map[string]bool{}
	for _, word := range strings.Fields(`
		zip docx docm xlsx xlsm xlsb pptx pptm vsdx vsdm 7z rar tar cpio a deb rpm Z gz bz2 xz lzma zst cab lha arj iso chm exe sh
		doc cdf-ms tnef pdf rtf one pgp.enc pgp.msg xml ics vcf
		ace alz arc archive dmg egg img installshield kwaj lrz lz lz4 lzo qcow sis sit squashfs szdd udf vhd vhdx vmdk volume wim xar zoo
	`) {
		known[word] = true
	}
	return known
}()

// IsContainer reports whether one of these types holds other files.
func IsContainer(short []string) bool {
	for _, s := range short {
		if containers[s] {
			return true
		}
	}
	return false
}

// isVolume reports whether the name is that of a further file of an archive in
// several files, which only the first one tells: "x.7z.002", "x.z01", "x.r00".
func isVolume(names []string) bool {
	for _, n := range names {
		ext := strings.ToLower(Extension(n))
		if len(ext) != 3 || !isDigits(ext[1:]) {
			continue
		}
		inner := strings.ToLower(Extension(n[:len(n)-4]))
		switch {
		case ext[0] == 'z' || ext[0] == 'r':
			return true
		case isDigits(ext[:1]) && (inner == "7z" || inner == "zip" || inner == "rar" || inner == "tar" || inner == "gz" || inner == "exe"):
			return true
		}
	}
	return false
}

// isArchiveName reports whether the name is that of an archive. What it holds
// can be read by some program, then, even if nothing here knows the format or
// finds it where it should be.
func isArchiveName(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return archiveNames[strings.ToLower(Extension(strings.TrimRight(n, ". ")))]
	})
}

var archiveNames = func() map[string]bool {
	known := map[string]bool{}
	for _, ext := range strings.Fields(`
		7z ace alz arc arj b1 br bz bz2 cab cpio deb egg gz iso jar lha lz lz4 lzh lzma lzo pea qcow2 rar rpm rz sit sitx sz
		tar tbz tbz2 tgz tlz txz tzst udf uha vdi vhd vhdx vmdk wim xar xpi xz z zip zipx zoo zpaq zst zz
	`) {
		known[ext] = true
	}
	return known
}()

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// binaryTypes names data that is not text.
func binaryTypes(data []byte, names []string) ([]string, string) {
	short, media := bySignature(data)
	switch {
	case short == nil && isLZMA(data, names):
		return []string{"lzma"}, "application/x-lzma"
	case short == nil && isPackedPGP(data, names):
		return []string{"pgp", "pgp.msg"}, "application/pgp"
	case short == nil && bytes.HasPrefix(data, []byte("#!")):
		return []string{"sh"}, "text/x-shellscript"
	case short == nil:
		if i := bytes.Index(data[:min(len(data), 1024)], []byte("%PDF-")); i >= 0 {
			return []string{"pdf"}, "application/pdf"
		}
		return guess(data)
	case short[0] == "zip":
		return zipType(data, short, media)
	}
	return short, media
}

// guess asks the library, which knows many formats that Amavis has no word for.
func guess(data []byte) (short []string, media string) {
	short, media = []string{"dat"}, "application/octet-stream"
	defer func() {
		if recover() != nil {
			short, media = []string{"dat"}, "application/octet-stream"
		}
	}()
	m := mimetype.Detect(data)
	media, _, _ = strings.Cut(m.String(), ";")
	major, _, _ := strings.Cut(media, "/")
	word := strings.TrimPrefix(m.Extension(), ".")
	switch {
	case major == "image", major == "audio":
		return []string{major, word}, media
	case major == "video":
		return []string{"movie", word}, media
	case word != "" && major != "text":
		return []string{word}, media
	}
	return short, media
}

// zipKinds are members that make a zip something else, the first one that is
// there decides.
var zipKinds = []struct {
	member, word, media string
	office              bool
}{
	{"word/document", "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", true},
	{"xl/workbook.bin", "xlsb", "application/vnd.ms-excel.sheet.binary.macroenabled.12", true},
	{"xl/workbook", "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", true},
	{"ppt/presentation", "pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation", true},
	{"visio/document", "vsdx", "application/vnd.ms-visio.drawing", true},
	{"AndroidManifest.xml", "apk", "application/vnd.android.package-archive", false},
	{"AppxManifest.xml", "appx", "application/appx", false},
	{"META-INF/MANIFEST.MF", "jar", "application/java-archive", false},
}

// zipType tells office documents and programs from other zip files. The
// directory at the end has the names, and so have the local headers.
func zipType(data []byte, short []string, media string) ([]string, string) {
	const edge = 64 << 10
	head, tail := data[:min(len(data), edge)], data[max(0, len(data)-edge):]
	has := func(s string) bool { return bytes.Contains(tail, []byte(s)) || bytes.Contains(head, []byte(s)) }
	if kind, ok := strings.CutPrefix(string(head[min(30, len(head)):min(100, len(head))]), "mimetypeapplication/"); ok {
		for mark, word := range map[string]string{"vnd.oasis.opendocument.text": "odt", "vnd.oasis.opendocument.spreadsheet": "ods",
			"vnd.oasis.opendocument.presentation": "odp", "epub+zip": "epub"} {
			if strings.HasPrefix(kind, mark) {
				return append(short, word), "application/" + mark
			}
		}
	}
	office := has("[Content_Types].xml")
	for _, k := range zipKinds {
		if k.office && !office || !has(k.member) {
			continue
		}
		if !k.office {
			return append(short, k.word), k.media
		}
		if bytes.Contains(data, []byte("vbaProject.bin")) && strings.HasSuffix(k.word, "x") {
			return []string{"doc", strings.TrimSuffix(k.word, "x") + "m"}, k.media
		}
		return []string{"doc", k.word}, k.media
	}
	return short, media
}

// alsoContainers adds the containers that data is as well: those with their
// mark at a place of its own, and in data that is no container by itself those
// that begin somewhere inside. A program with an archive in it stays a program,
// so that no rule for the archive can let it through.
func alsoContainers(short []string, data []byte) []string {
	add := func(word string) {
		if !slices.Contains(short, word) {
			short = append(short, word)
		}
	}
	if isTar(data) {
		add("tar")
	}
	for _, s := range laterMarks {
		if s.fits(data) {
			for _, w := range s.short {
				add(w)
			}
		}
	}
	const footer = 512
	if len(data) >= footer {
		switch end := data[len(data)-footer:]; {
		case bytes.HasPrefix(end, []byte("conectix")) && end[12] < ' ': // its version
			add("vhd")
		case bytes.HasPrefix(end, []byte("koly")) && end[4] < ' ':
			add("dmg")
		case isDisk(data):
			add("img")
		}
	}
	if short[0] != "pdf" && short[0] != "rtf" && IsContainer(short) {
		// its reader finds what follows it; a zip that ends the file counts
		// for readers that begin there
		if short[0] != "exe" && !bytes.HasPrefix(data, []byte("PK")) && endsAsZip(data) {
			add("zip")
		}
		return short
	}
	for _, h := range FindEmbedded(data) {
		add(h.Kind)
	}
	if endsAsZip(data) {
		add("zip")
	}
	return short
}

// endsAsZip reports whether the file ends with the end record of a zip whose
// directory is there.
func endsAsZip(data []byte) bool {
	const longest = ZipEndLen + 1<<16
	tail := data[max(0, len(data)-longest):]
	i := bytes.LastIndex(tail, []byte(ZipEnd))
	if i < 0 || len(tail)-i < ZipEndLen || len(tail)-i != ZipEndLen+int(binary.LittleEndian.Uint16(tail[i+20:])) {
		return false
	}
	end := int64(len(data) - len(tail) + i)
	start := end - int64(binary.LittleEndian.Uint32(tail[i+12:]))
	return start >= 0 && start < end && bytes.HasPrefix(data[start:], []byte(ZipCentral))
}

// isDisk recognises a disk image by its boot sector: a jump, a sane sector
// size and the mark, or the partition table of a GPT disk.
func isDisk(data []byte) bool {
	if data[510] != 0x55 || data[511] != 0xaa {
		return false
	}
	sector := binary.LittleEndian.Uint16(data[11:])
	jump := data[0] == 0xeb || data[0] == 0xe9
	gpt := len(data) >= 520 && string(data[512:520]) == "EFI PART"
	return gpt || jump && sector >= 512 && sector&(sector-1) == 0
}

// isTar checks the header sum, which also the oldest format without a magic has.
func isTar(data []byte) bool {
	if len(data) < TarBlock || data[0] == 0 {
		return false
	}
	return TarChecksum(data)
}
