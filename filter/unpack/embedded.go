package unpack

import (
	"encoding/binary"
	"hash/crc32"
)

// embedded is an archive that begins inside other data: behind a program that
// unpacks itself, a picture, a document.
type embedded struct {
	kind string // short type
	at   int
}

// maxEmbedded bounds how many archives in one file are followed.
const maxEmbedded = 16

// embeddedMarks maps an octet of a signature to its place there, plus one.
// Two neighbouring octets of each signature are in it, so that it is enough to
// look at every second octet of the data; they are rare in text.
var embeddedMarks = [256]byte{
	0x03: 2 + 1, 0x04: 3 + 1, // PK 3 4
	0x1a: 4 + 1, 0x07: 5 + 1, // Rar! 1a 07
	0xbc: 2 + 1, 0xaf: 3 + 1, // 7z bc af
	'C': 2 + 1, 'F': 3 + 1, // MSCF
}

// findEmbedded returns the archives in data whose headers hold good. One zip
// stands for all: its reader looks at the whole of data.
func findEmbedded(data []byte) (found []embedded) {
	zip := false
	for i := 1; i < len(data); i += 2 {
		back := int(embeddedMarks[data[i]])
		if back == 0 {
			continue
		}
		at := i - back + 1
		if at < 0 || at+32 > len(data) {
			continue
		}
		kind := archiveAt(data[at:])
		if kind == "" || kind == "zip" && zip {
			continue
		}
		zip = zip || kind == "zip"
		if found = append(found, embedded{kind, at}); len(found) == maxEmbedded {
			break
		}
	}
	return found
}

// archiveAt names the archive that begins with b, which is at least 32 octets.
func archiveAt(b []byte) string {
	le := binary.LittleEndian
	switch string(b[:4]) {
	case zipLocal:
		if h, err := parseZipLocal(b, 0); err == nil && b[4] <= 63 && h.method < 100 && len(h.names) > 0 {
			return "zip"
		}
	case "Rar!":
		if string(b[:7]) == "Rar!\x1a\x07\x00" || string(b[:8]) == "Rar!\x1a\x07\x01\x00" {
			return "rar"
		}
	case "7z\xbc\xaf":
		if string(b[4:6]) == "\x27\x1c" && crc32.ChecksumIEEE(b[12:32]) == le.Uint32(b[8:]) {
			return "7z"
		}
	case "MSCF":
		if b[24] <= 3 && b[25] == 1 && le.Uint32(b[16:]) >= cabHeader {
			return "cab"
		}
	}
	return ""
}

// readEmbedded opens the archives inside a program.
func readEmbedded(x *expander, data []byte) error { return x.readInside(data, "") }

// readInside opens the archives of one kind, or all if it is empty, that begin
// inside data.
func (x *expander) readInside(data []byte, kind string) error {
	for _, e := range findEmbedded(data) {
		if kind != "" && e.kind != kind {
			continue
		}
		part := data
		if e.kind != "zip" {
			part = data[e.at:]
		}
		if err := containers[e.kind](x, part); err != nil {
			return err
		}
	}
	return nil
}
