// Package document reads documents that carry files: a PDF its attachments, RTF
// its objects in hexadecimal, OneNote whatever was dropped on the page, compound
// files their streams. It gives those files, not the text of the document, and
// does not look into them.
//
// Start with Readers, the table of formats, and budget.Opener, which each reader
// is given. A new format is one file here and one line in the table.
package document

import "postern/filter/unpack/budget"

// Readers has the reader of each short type of document (see filetype.Of).
var Readers = map[string]budget.Reader{
	"doc": readOLE, "cdf-ms": readOLE, "tnef": readTNEF,
	"pdf": readPDF, "rtf": readRTF, "one": readOneNote, "pgp.enc": readPGP, "pgp.msg": readPGP,
	"xml": readXML, "ics": readCard, "vcf": readCard,
}
