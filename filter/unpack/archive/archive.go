// Package archive reads containers whose purpose is to hold files: archives,
// compressed files, disk images, installers. It neither looks into members nor
// names types. What is in doubt about a container it says to the opener: what
// readers disagree about, what is damaged, encrypted or over the limits.
//
// Start with Readers, the table of formats, and budget.Opener, which each reader
// is given. A new format is one file here and one line in the table.
package archive

import (
	"io/fs"

	"postern/filter/unpack/budget"
)

// Readers has the reader of each short type of archive (see filetype.Of).
var Readers = map[string]budget.Reader{
	"zip": readZip, "docx": readZip, "docm": readZip, "xlsx": readZip, "xlsm": readZip, "xlsb": readZip,
	"pptx": readZip, "pptm": readZip, "vsdx": readZip, "vsdm": readZip,
	"7z": read7z, "rar": readRar,
	"tar": readTar, "cpio": readCpio, "a": readAr, "deb": readAr, "rpm": readRPM,
	"Z": readCompress, "gz": readGzip, "bz2": readBzip2, "xz": readXZ, "lzma": readLZMA, "zst": readZstd,
	"cab": readCab, "lha": readLHA, "arj": readARJ, "iso": readISO, "chm": readCHM,
	"exe": readProgram, "sh": readScript,
}

const (
	modeLink    = fs.ModeSymlink
	modeSpecial = fs.ModeDevice | fs.ModeNamedPipe | fs.ModeSocket | fs.ModeCharDevice | fs.ModeIrregular
)
