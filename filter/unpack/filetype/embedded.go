package filetype

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Embedded is an archive that begins inside other data: behind a program that
// unpacks itself, a picture, a document.
type Embedded struct {
	Kind string // short type
	At   int
}

// maxEmbedded bounds how many archives in one file are followed.
const maxEmbedded = 16

// maxUnnamed bounds the headers of zip files that are read in full and turn out
// to have no name.
const maxUnnamed = 1000

// FindEmbedded returns the archives in data whose headers hold good, in order
// of appearance. One zip stands for all: its reader looks at the whole of data.
func FindEmbedded(data []byte) (found []Embedded) {
	unnamed := 0
	for _, mark := range []string{ZipLocal, "Rar!\x1a\x07", "7z\xbc\xaf\x27\x1c", "MSCF"} {
		for at := 0; len(found) < maxEmbedded; at += len(mark) {
			i := bytes.Index(data[at:], []byte(mark))
			if i < 0 {
				break
			}
			at += i
			kind := archiveAt(data[at:])
			if kind == "" && mark == ZipLocal && couldBeZip(data[at:]) {
				// only a name is missing; what has so many is for the reader
				if unnamed++; unnamed > maxUnnamed {
					kind = "zip"
				}
			}
			if kind == "" {
				continue
			}
			found = append(found, Embedded{kind, at})
			if kind == "zip" {
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b Embedded) int { return a.At - b.At })
	return found
}

// couldBeZip tells from a few octets whether a local header can hold good.
func couldBeZip(b []byte) bool {
	le := binary.LittleEndian
	return len(b) >= ZipLocalLen && b[4] <= 63 && le.Uint16(b[8:]) < 100 && ZipLocalLen+int(le.Uint16(b[26:]))+int(le.Uint16(b[28:])) <= len(b)
}

// archiveAt names the archive that begins with b.
func archiveAt(b []byte) string {
	if len(b) < 32 {
		return ""
	}
	le := binary.LittleEndian
	switch string(b[:4]) {
	case ZipLocal:
		if !couldBeZip(b) {
			return ""
		}
		if h, err := ParseZipLocal(b, 0); err == nil && len(h.Names) > 0 {
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
		const header = 36
		if b[24] <= 3 && b[25] == 1 && le.Uint32(b[16:]) >= header {
			return "cab"
		}
	}
	return ""
}
