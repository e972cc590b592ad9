package document

import "postern/filter/unpack/budget"

// Documents carry other files: a PDF its attachments, RTF its objects in
// hexadecimal, OneNote whatever was dropped on the page.

// readPGP reports an encrypted message.
func readPGP(x *budget.Opener, _ []byte) error {
	x.NoteEncrypted()
	return nil
}

// Readers has the reader of each type of document.
var Readers = map[string]func(*budget.Opener, []byte) error{
	"doc": readOLE, "cdf-ms": readOLE, "tnef": readTNEF,
	"pdf": readPDF, "rtf": readRTF, "one": readOneNote, "pgp.enc": readPGP,
	"xml": readXML, "ics": readCard, "vcf": readCard,
}
