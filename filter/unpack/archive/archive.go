package archive

import (
	"io/fs"

	"postern/filter/unpack/budget"
)

// Readers has the reader of each type of archive.
var Readers = map[string]func(*budget.Opener, []byte) error{
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
