package filetype

import (
	"bytes"
	"encoding/binary"
)

// OLEMagic begins a compound file ([MS-CFB]).
var OLEMagic = []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")

// oleType names a compound file by its root class and the first entries of
// its directory.
func oleType(data []byte) ([]string, string) {
	short, media := []string{"cdf-ms"}, "application/x-ole-storage"
	if len(data) < 512 {
		return short, media
	}
	shift := binary.LittleEndian.Uint16(data[30:])
	at := (int64(binary.LittleEndian.Uint32(data[48:])) + 1) << (shift & 15)
	if at < 0 || at+128 > int64(len(data)) {
		return short, media
	}
	directory := data[at:min(at+8192, int64(len(data)))]
	for _, area := range [][]byte{directory, data} { // the directory may go on anywhere
		for _, k := range oleKinds {
			if bytes.Contains(area, k.mark) {
				return k.short, k.media
			}
		}
	}
	return short, media
}

// oleKinds are marks in the directory of a compound file.
var oleKinds = []struct {
	mark  []byte
	short []string
	media string
}{
	{utf16Text("WordDocument"), []string{"doc"}, "application/msword"},
	{utf16Text("Workbook"), []string{"doc", "xls"}, "application/vnd.ms-excel"},
	{utf16Text("PowerPoint Document"), []string{"doc", "ppt"}, "application/vnd.ms-powerpoint"},
	{utf16Text("VisioDocument"), []string{"doc", "vsd"}, "application/vnd.visio"},
	{utf16Text("__properties_version1.0"), []string{"cdf-ms", "msg"}, "application/vnd.ms-outlook"},
	{utf16Text("__nameid_version1.0"), []string{"cdf-ms", "msg"}, "application/vnd.ms-outlook"},
	{[]byte("\x84\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"), []string{"cdf-ms", "msi"}, "application/x-msi"},
	{utf16Text("EncryptedPackage"), []string{"cdf-ms"}, "application/encrypted"},
	{append([]byte{4, 0}, utf16Text("Book")...), []string{"doc", "xls"}, "application/vnd.ms-excel"},
}

// utf16Text returns s, which is ASCII, as UTF-16 little endian.
func utf16Text(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return b
}
