package filetype

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// A signature names a format by octets at a fixed place. Short types are the
// words of Amavis' map from file(1), the most specific one last; formats that
// it does not know get their usual extension.
type signature struct {
	magic string
	at    int
	short []string
	media string
}

// signatures are tried in order; the first that fits decides.
var signatures = []signature{
	{"\x89PNG\r\n\x1a\n", 0, []string{"image", "png"}, "image/png"},
	{"\xff\xd8\xff", 0, []string{"image", "jpg"}, "image/jpeg"},
	{"GIF87a", 0, []string{"image", "gif"}, "image/gif"},
	{"GIF89a", 0, []string{"image", "gif"}, "image/gif"},
	{"II*\x00", 0, []string{"image", "tif"}, "image/tiff"},
	{"MM\x00*", 0, []string{"image", "tif"}, "image/tiff"},
	{"8BPS", 0, []string{"image", "psd"}, "image/vnd.adobe.photoshop"},
	{"\x00\x00\x01\x00", 0, []string{"image", "ico"}, "image/x-icon"},
	{"\x00\x00\x00\x0cjP  \r\n\x87\n", 0, []string{"image", "jp2"}, "image/jp2"},
	{"\xd7\xcd\xc6\x9a", 0, []string{"wmf"}, "image/wmf"},
	{"ID3", 0, []string{"audio", "mpa", "mp3"}, "audio/mpeg"},
	{"\xff\xfb", 0, []string{"audio", "mpa", "mp3"}, "audio/mpeg"},
	{"\xff\xf3", 0, []string{"audio", "mpa", "mp3"}, "audio/mpeg"},
	{"fLaC", 0, []string{"audio", "flac"}, "audio/flac"},
	{"OggS", 0, []string{"audio", "ogg"}, "application/ogg"},
	{"MThd", 0, []string{"audio", "mid"}, "audio/midi"},
	{"\x1a\x45\xdf\xa3", 0, []string{"movie", "mkv"}, "video/x-matroska"},
	{"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, []string{"movie", "wmv"}, "video/x-ms-asf"},
	{"\x00\x00\x01\xba", 0, []string{"movie", "mpg"}, "video/mpeg"},
	{"\x00\x00\x01\xb3", 0, []string{"movie", "mpv"}, "video/mpeg"},
	{"FLV\x01", 0, []string{"movie", "flv"}, "video/x-flv"},
	{"FWS", 0, []string{"swf"}, "application/x-shockwave-flash"},
	{"CWS", 0, []string{"swf"}, "application/x-shockwave-flash"},
	{"ZWS", 0, []string{"swf"}, "application/x-shockwave-flash"},

	{"\x7fELF", 0, []string{"exe", "exe-unix"}, "application/x-elf"},
	{"\xfe\xed\xfa\xce", 0, []string{"exe", "exe-unix"}, "application/x-mach-binary"},
	{"\xfe\xed\xfa\xcf", 0, []string{"exe", "exe-unix"}, "application/x-mach-binary"},
	{"\xce\xfa\xed\xfe", 0, []string{"exe", "exe-unix"}, "application/x-mach-binary"},
	{"\xcf\xfa\xed\xfe", 0, []string{"exe", "exe-unix"}, "application/x-mach-binary"},
	{"\x4c\x00\x00\x00\x01\x14\x02\x00", 0, []string{"lnk"}, "application/x-ms-shortcut"},
	{"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", 0, []string{"one"}, "application/onenote"},
	{"\x3f\x5f\x03\x00", 0, []string{"hlp"}, "application/winhlp"},
	{`{\rt`, 0, []string{"rtf"}, "text/rtf"}, // with binary data in it
	{"regf", 0, []string{"regf"}, "application/octet-stream"},
	{"\x00\x01\x00\x00Standard ", 0, []string{"mdb"}, "application/x-msaccess"},

	{"\x1f\x8b", 0, []string{"gz"}, "application/gzip"},
	{"BZh", 0, []string{"bz2"}, "application/x-bzip2"},
	{"\xfd7zXZ\x00", 0, []string{"xz"}, "application/x-xz"},
	{"\x28\xb5\x2f\xfd", 0, []string{"zst"}, "application/zstd"},
	{"\x1f\x9d", 0, []string{"Z"}, "application/x-compress"},
	{"\x1f\xa0", 0, []string{"Z"}, "application/x-compress"},
	{"\x1f\x1e", 0, []string{"Z"}, "application/x-compress"}, // pack
	{"\x04\x22\x4d\x18", 0, []string{"lz4"}, "application/x-lz4"},
	{"\x02\x21\x4c\x18", 0, []string{"lz4"}, "application/x-lz4"}, // of its first versions
	{"LZIP", 0, []string{"lz"}, "application/x-lzip"},
	{"\x89LZO\x00\r\n\x1a\n", 0, []string{"lzo"}, "application/x-lzop"},
	{"LRZI", 0, []string{"lrz"}, "application/x-lrzip"},
	{"SZDD\x88\xf0\x27\x33", 0, []string{"szdd"}, "application/x-ms-compress-szdd"},
	{"SZ \x88\xf0\x27\x33\xd1", 0, []string{"szdd"}, "application/x-ms-compress-szdd"},
	{"KWAJ\x88\xf0\x27\xd1", 0, []string{"kwaj"}, "application/x-ms-compress-kwaj"},

	{"PK\x03\x04", 0, []string{"zip"}, "application/zip"},
	{"PK\x05\x06", 0, []string{"zip"}, "application/zip"},
	{"PK\x07\x08PK", 0, []string{"zip"}, "application/zip"},
	{"PK00PK", 0, []string{"zip"}, "application/zip"},
	{"7z\xbc\xaf\x27\x1c", 0, []string{"7z"}, "application/x-7z-compressed"},
	{"Rar!\x1a\x07", 0, []string{"rar"}, "application/x-rar-compressed"},
	{"RE~^", 0, []string{"rar"}, "application/x-rar-compressed"},
	{"ISc(", 0, []string{"installshield"}, "application/x-installshield"},
	{"MSWIM\x00\x00\x00", 0, []string{"wim"}, "application/x-ms-wim"},
	{"ITSF", 0, []string{"chm"}, "application/vnd.ms-htmlhelp"},
	{"conectix", 0, []string{"vhd"}, "application/x-vhd"},
	{"vhdxfile", 0, []string{"vhdx"}, "application/x-vhdx"},
	{"KDMV", 0, []string{"vmdk"}, "application/x-vmdk"},
	{"QFI\xfb", 0, []string{"qcow"}, "application/x-qemu-disk"},
	{"hsqs", 0, []string{"squashfs"}, "application/x-squashfs"},
	{"xar!", 0, []string{"xar"}, "application/x-xar"},
	{"\xed\xab\xee\xdb", 0, []string{"rpm"}, "application/x-rpm"},
	{"!<arch>\ndebian", 0, []string{"deb"}, "application/vnd.debian.binary-package"},
	{"!<arch>\n", 0, []string{"a"}, "application/x-archive"},
	{"!<thin>\n", 0, []string{"a"}, "application/x-archive"},
	{"070701", 0, []string{"cpio"}, "application/x-cpio"},
	{"070702", 0, []string{"cpio"}, "application/x-cpio"},
	{"070707", 0, []string{"cpio"}, "application/x-cpio"},
	{"\xc7\x71", 0, []string{"cpio"}, "application/x-cpio"},
	{"\x71\xc7", 0, []string{"cpio"}, "application/x-cpio"},
	{"\x78\x9f\x3e\x22", 0, []string{"tnef"}, "application/vnd.ms-tnef"},
	{"ZOO ", 0, []string{"zoo"}, "application/x-zoo"},
	{"ALZ\x01", 0, []string{"alz"}, "application/x-alz"},
	{"EGGA", 0, []string{"egg"}, "application/x-egg"},
	{"SIT!", 0, []string{"sit"}, "application/x-stuffit"},
	{"StuffIt!", 0, []string{"sit"}, "application/x-stuffitx"},
	{"ArC\x01", 0, []string{"arc"}, "application/x-freearc"},
	{"StuffIt (c)", 0, []string{"sit"}, "application/x-stuffit"},
	{"-----BEGIN PGP MESSAGE", 0, []string{"pgp", "pgp.enc"}, "application/pgp-encrypted"}, // with other than text behind it

	{"\x19\x04\x00\x10", 8, []string{"sis"}, "application/vnd.symbian.install"},
	{"**ACE**", 7, []string{"ace"}, "application/x-ace-compressed"},
	{"CD001", 0x8001, []string{"iso"}, "application/x-iso9660-image"},
	{"CD001", 0x9311, []string{"iso"}, "application/x-iso9660-image"},
	{"CD001", 0x9319, []string{"iso"}, "application/x-iso9660-image"},
	{"BEA01", 0x8001, []string{"iso", "udf"}, "application/x-udf"},
}

// byFirst lists the signatures at the start of a file by their first octet,
// laterMarks the others.
var byFirst, laterMarks = func() (start [256][]signature, later []signature) {
	for _, s := range signatures {
		s.short = s.short[:len(s.short):len(s.short)] // so that append copies
		if s.at == 0 {
			start[s.magic[0]] = append(start[s.magic[0]], s)
		} else {
			later = append(later, s)
		}
	}
	return start, later
}()

// fits reports whether data has the signature and, where that is short enough
// to stand in a text or in other data by chance, the rest of its header too.
func (s *signature) fits(data []byte) bool {
	if len(data) < s.at+len(s.magic) || string(data[s.at:s.at+len(s.magic)]) != s.magic {
		return false
	}
	if s.magic == "**ACE**" {
		return data[4] == 0 // a main header; it stands before the signature
	}
	more := headers[s.magic]
	return more == nil || more(data[s.at:])
}

// headers are what must follow a signature of few octets, or of printable ones.
// b begins with the signature.
var headers = map[string]func(b []byte) bool{
	"070701":   isCpio,
	"070702":   isCpio,
	"070707":   isCpio,
	"\xc7\x71": func(b []byte) bool { return isOldCpio(b, binary.LittleEndian) },
	"\x71\xc7": func(b []byte) bool { return isOldCpio(b, binary.BigEndian) },
	"BZh": func(b []byte) bool {
		return len(b) < 10 || b[3] >= '0' && b[3] <= '9' && (b[4] == 0x31 || b[4] == 0x17)
	},
	"ZOO ":     func(b []byte) bool { return len(b) >= 24 && binary.LittleEndian.Uint32(b[20:]) == 0xfdc4a7dc },
	"SIT!":     func(b []byte) bool { return len(b) >= 14 && string(b[10:14]) == "rLau" },
	"EGGA":     func(b []byte) bool { return len(b) >= 6 && binary.LittleEndian.Uint16(b[4:]) == 0x100 },
	"LZIP":     func(b []byte) bool { return len(b) >= 6 && b[4] <= 1 },
	"LRZI":     func(b []byte) bool { return len(b) >= 6 && b[4] < 8 },
	"ITSF":     func(b []byte) bool { return len(b) >= 8 && b[4] < ' ' },
	"ISc(":     func(b []byte) bool { return len(b) >= 8 && b[7] < ' ' },
	"KDMV":     func(b []byte) bool { return len(b) >= 8 && binary.LittleEndian.Uint32(b[4:]) < 16 },
	"hsqs":     func(b []byte) bool { return len(b) >= 30 && b[28] < ' ' },
	"xar!":     func(b []byte) bool { return len(b) >= 8 && binary.BigEndian.Uint16(b[6:]) < 16 },
	"RE~^":     func(b []byte) bool { return len(b) >= 7 && binary.LittleEndian.Uint16(b[4:]) < 1<<12 },
	"CD001":    func(b []byte) bool { return len(b) < 6 || b[5] < ' ' },
	"BEA01":    func(b []byte) bool { return len(b) < 6 || b[5] < ' ' },
	"conectix": func(b []byte) bool { return len(b) < 16 || b[12] < ' ' },
}

// isCpio recognises a header of cpio in ASCII: numbers, hexadecimal in the
// newer format and octal in the older one, and no prose.
func isCpio(b []byte) bool {
	n, digits := 110, "0123456789abcdefABCDEF"
	if b[5] == '7' {
		n, digits = 76, "01234567"
	}
	return len(b) >= n && len(bytes.Trim(b[6:n], digits)) == 0
}

// isOldCpio recognises a binary header of cpio: 26 octets and a name of the
// length that they say.
func isOldCpio(b []byte, order binary.ByteOrder) bool {
	const header = 26
	if len(b) < header {
		return false
	}
	n := int(order.Uint16(b[20:]))
	return n > 1 && n <= 1<<12 && len(b) >= header+n && b[header+n-1] == 0 && b[header] != 0
}

// bySignature returns the type of binary data that its first octets tell.
func bySignature(data []byte) ([]string, string) {
	for _, s := range byFirst[data[0]] {
		if s.fits(data) {
			return s.short, s.media
		}
	}
	switch {
	case bytes.HasPrefix(data, []byte("MZ")) || bytes.HasPrefix(data, []byte("ZM")):
		return programType(data)
	case bytes.HasPrefix(data, OLEMagic):
		return oleType(data)
	case bytes.HasPrefix(data, []byte("RIFF")) && len(data) >= 12:
		return riffType(string(data[8:12]))
	case bytes.HasPrefix(data, []byte("\xca\xfe\xba\xbe")) && len(data) >= 8:
		// a Java class has its version where a fat Mach-O has few architectures
		if binary.BigEndian.Uint32(data[4:]) < 40 {
			return []string{"exe", "exe-unix"}, "application/x-mach-binary"
		}
		return []string{"java"}, "application/x-java-applet"
	case len(data) >= 12 && string(data[4:8]) == "ftyp":
		return isoMediaType(string(data[8:12]))
	case bytes.HasPrefix(data, []byte("BM")) && len(data) >= 26 && binary.LittleEndian.Uint32(data[6:]) == 0:
		return []string{"image", "bmp"}, "image/bmp"
	case archiveAt(data) == "cab":
		return []string{"cab"}, "application/vnd.ms-cab-compressed"
	case isLHA(data):
		return []string{"lha"}, "application/x-lzh-compressed"
	case isARJ(data):
		return []string{"arj"}, "application/x-arj"
	case isPGP(data):
		return []string{"pgp", "pgp.enc"}, "application/pgp-encrypted"
	case isSignedPGP(data):
		return []string{"pgp", "pgp.msg"}, "application/pgp"
	}
	return nil, ""
}

// programType tells apart what starts as a program of DOS.
func programType(data []byte) ([]string, string) {
	const media = "application/vnd.microsoft.portable-executable"
	if len(data) >= 0x40 {
		pe := int64(binary.LittleEndian.Uint32(data[0x3c:]))
		if pe+24 <= int64(len(data)) && string(data[pe:pe+4]) == "PE\x00\x00" {
			const dll = 0x2000
			if binary.LittleEndian.Uint16(data[pe+22:])&dll != 0 {
				return []string{"exe", "dll"}, media
			}
		}
	}
	return []string{"exe", "exe-ms"}, media
}

func riffType(form string) ([]string, string) {
	switch form {
	case "WAVE":
		return []string{"audio", "wav"}, "audio/wav"
	case "AVI ":
		return []string{"movie", "avi"}, "video/x-msvideo"
	case "ACON":
		return []string{"movie", "ani"}, "application/x-navi-animation"
	case "WEBP":
		return []string{"image", "webp"}, "image/webp"
	}
	return []string{"dat"}, "application/octet-stream"
}

func isoMediaType(brand string) ([]string, string) {
	switch brand {
	case "M4A ", "M4B ":
		return []string{"audio", "mpa", "m4a"}, "audio/mp4"
	case "heic", "heix", "mif1", "msf1", "avif":
		return []string{"image", "heic"}, "image/heic"
	case "qt  ":
		return []string{"movie", "mov"}, "video/quicktime"
	}
	return []string{"movie", "mp4"}, "video/mp4"
}

func isLHA(data []byte) bool {
	return len(data) > 22 && data[2] == '-' && data[3] == 'l' && (data[4] == 'h' || data[4] == 'z') && data[6] == '-' && data[20] <= 3
}

// isARJ looks for the main header: its length, and its kind.
func isARJ(data []byte) bool {
	if len(data) < 40 || data[0] != 0x60 || data[1] != 0xea {
		return false
	}
	n := binary.LittleEndian.Uint16(data[2:])
	return n >= 30 && n <= 2600 && data[10] == 2
}

// isLZMA recognises an LZMA file, which has no magic, by a header that an
// encoder would write: properties below 225, a dictionary of a round size, a
// size that is open or sane, and the zero octet that starts range coding.
// Properties other than the usual ones count only if the file is named so.
func isLZMA(data []byte, names []string) bool {
	const usual = 0x5d
	if len(data) < 18 || data[0] >= 225 || data[13] != 0 {
		return false
	}
	if data[0] != usual && !slices.ContainsFunc(names, func(n string) bool {
		ext := strings.ToLower(Extension(n))
		return ext == "lzma" || ext == "tlz"
	}) {
		return false
	}
	dict := binary.LittleEndian.Uint32(data[1:])
	if dict < 1<<12 || dict&(dict-1) != 0 && dict&(dict-1)&(dict&(dict-1)-1) != 0 {
		return false
	}
	size := binary.LittleEndian.Uint64(data[5:])
	return size == 1<<64-1 || size > 0 && size < 1<<38
}

// isPGP recognises an encrypted OpenPGP message: a session key packet with a
// sane length and version (RFC 4880 sections 4.2, 5.1, 5.3).
func isPGP(data []byte) bool {
	if len(data) < 20 {
		return false
	}
	length, version := 0, byte(0)
	switch data[0] {
	case 0x84, 0x8c: // old format, one octet of length
		length, version = int(data[1]), data[2]
	case 0x85: // two octets
		length, version = int(binary.BigEndian.Uint16(data[1:])), data[3]
	case 0xc1, 0xc3: // new format
		length, version = int(data[1]), data[2]
		if data[1] >= 192 {
			length, version = (int(data[1])-192)<<8+int(data[2])+192, data[3]
		}
	default:
		return false
	}
	secret := data[0] == 0x8c || data[0] == 0xc3 // symmetric key
	return length > 8 && length < 2200 && (version == 3 && !secret || version == 4 && secret)
}

// isSignedPGP recognises an OpenPGP message that is signed and not encrypted:
// it begins with a one-pass signature (RFC 9580 section 5.4).
func isSignedPGP(data []byte) bool {
	return len(data) > 20 && (data[0] == 0x90 || data[0] == 0xc4) && data[1] == 13 && data[2] == 3 && data[3] < 32
}

// isPackedPGP recognises a compressed OpenPGP message under a name of one: its
// two octets alone say too little.
func isPackedPGP(data []byte, names []string) bool {
	return len(data) > 20 && data[0] == 0xa3 && data[1] >= 1 && data[1] <= 3 && slices.ContainsFunc(names, func(n string) bool {
		ext := strings.ToLower(Extension(n))
		return ext == "gpg" || ext == "pgp"
	})
}

// isOpenPGP reports whether the armour after its first words is that of a
// message which everybody can read: signed, compressed or neither.
func isOpenPGP(armour []byte) bool {
	head := bytes.ReplaceAll(armour, []byte("\r"), nil)
	_, body, ok := bytes.Cut(head, []byte("\n\n"))
	if body = bytes.TrimLeft(body, "\n \t"); !ok || len(body) < 4 {
		return false
	}
	first, err := base64.StdEncoding.DecodeString(string(body[:4]))
	if err != nil || first[0]&0x80 == 0 {
		return false
	}
	tag := first[0] & 0x3f
	if first[0]&0x40 == 0 {
		tag >>= 2
	}
	return tag == 2 || tag == 4 || tag == 8 || tag == 11 // signature, one-pass signature, compressed, literal
}
