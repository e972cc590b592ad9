package document

import (
	"bytes"
	"encoding/binary"

	"postern/filter/unpack/budget"
)

// oneNoteFile begins a FileDataStoreObject ([MS-ONESTORE] 2.6.13): GUID, length,
// 12 octets, content.
var oneNoteFile = []byte("\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac")

// readOneNote gives the files in a OneNote section. Their names are elsewhere
// in it and are not read.
func readOneNote(x *budget.Opener, data []byte) error {
	const header = 36
	for {
		i := bytes.Index(data, oneNoteFile)
		if i < 0 || i+header > len(data) {
			return nil
		}
		size := binary.LittleEndian.Uint64(data[i+16:])
		data = data[i+header:]
		content := data[:min(size, uint64(len(data)))]
		if size > uint64(len(data)) {
			x.Damage("one: embedded file is cut")
		}
		if err := x.GiveStored(budget.Member{Note: "embedded file"}, content); err != nil {
			return err
		}
	}
}
