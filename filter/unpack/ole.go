package unpack

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"github.com/richardlehane/mscfb"
)

// This file reads OLE compound files: attachments of Outlook messages, and
// objects embedded in documents. It does not take documents apart further:
// their text and macros are for scanners, which get the file.

func init() {
	containers["cdf-ms"] = readOLE
	containers["doc"] = readOLE
}

// maxOLEStream bounds what is read of streams that are only looked at.
const maxOLEStream = 4096

// readOLE hands over attachments, embedded objects and, as a directory, the
// storage of the macros.
func readOLE(x *expander, data []byte) error {
	if !bytes.HasPrefix(data, oleMagic) {
		return nil // an office document that is a zip
	}
	doc, err := mscfb.New(bytes.NewReader(data))
	if err != nil {
		return err
	}
	names := oleNames(doc)
	for _, f := range doc.File {
		if err := x.oleEntry(f, names); err != nil {
			return err
		}
	}
	return nil
}

const (
	msgAttachment = "__attach_version1.0_"
	msgProperty   = "__substg1.0_"
)

// oleNames returns the names of attachments of an Outlook message by storage.
func oleNames(doc *mscfb.Reader) map[string][]string {
	out := map[string][]string{}
	for _, f := range doc.File {
		dir := strings.Join(f.Path, "/")
		if !strings.Contains(dir, msgAttachment) {
			continue
		}
		for _, prop := range []string{"3707", "3704", "3001"} {
			if p, ok := strings.CutPrefix(f.Name, msgProperty+prop); ok && len(out[dir]) < maxReadings {
				v := oleHead(f)
				if p == "001F" {
					out[dir] = addName(out[dir], utf16Name(v))
				} else {
					out[dir] = addName(out[dir], textName(bytes.TrimRight(v, "\x00")))
				}
			}
		}
	}
	return out
}

// oleHead returns the beginning of a stream.
func oleHead(f *mscfb.File) []byte {
	b := make([]byte, min(max(f.Size, 0), maxOLEStream))
	n, _ := io.ReadFull(f, b) // short is as good as it gets
	_, _ = f.Seek(0, io.SeekStart)
	return b[:n]
}

func (x *expander) oleEntry(f *mscfb.File, names map[string][]string) error {
	if err := x.budget.Check(); err != nil {
		return err
	}
	dir := strings.Join(f.Path, "/")
	switch name := f.Name; {
	case strings.EqualFold(name, "VBA") || name == "_VBA_PROJECT_CUR":
		return x.give(member{names: []string{dir + "/" + name}, dir: true})
	case strings.HasPrefix(name, msgProperty+"37010102"):
		return x.giveDecoded(member{names: names[dir]}, f, f.Size)
	case strings.HasPrefix(name, msgProperty+"10130102"):
		return x.giveDecoded(member{}, f, f.Size)
	case strings.EqualFold(strings.TrimLeft(name, "\x01"), "Ole10Native"):
		return x.oleNative(f)
	case name == "Package", name == "CONTENTS":
		return x.giveDecoded(member{}, f, f.Size)
	case name == "EncryptedPackage", name == "WordDocument" && wordEncrypted(oleHead(f)),
		(name == "Workbook" || name == "Book") && excelEncrypted(oleHead(f)), name == "EncryptedSummary":
		return x.give(member{names: []string{name}, size: f.Size, encrypted: true, note: "encrypted document"})
	}
	return nil
}

// wordEncrypted looks at fEncrypted in the FIB ([MS-DOC] section 2.5.2).
func wordEncrypted(b []byte) bool { return len(b) > 11 && b[11]&1 != 0 }

// excelEncrypted looks for FILEPASS after BOF ([MS-XLS] section 2.4.117).
func excelEncrypted(b []byte) bool {
	for n := 0; n < 8 && len(b) >= 4; n++ {
		id, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if id == 0x2f {
			return true
		}
		b = b[min(len(b), 4+size):]
	}
	return false
}

// oleNative hands over the file in a packager object ([MS-OLEDS] section
// 2.3.6): label, file name and path before the data.
func (x *expander) oleNative(f *mscfb.File) error {
	head := oleHead(f)
	var names []string
	at := min(6, len(head)) // size, flags
	for range 2 {
		i := bytes.IndexByte(head[at:], 0)
		if i < 0 {
			break
		}
		names = addName(names, textName(head[at:at+i]))
		at += i + 1
	}
	// flags, then the temporary path with its length
	if at+8 <= len(head) {
		if n := binary.LittleEndian.Uint32(head[at+4:]); at+8+int(n)+4 <= len(head) && n < maxName {
			names = addName(names, textName(bytes.TrimRight(head[at+8:at+8+int(n)], "\x00")))
			at += 8 + int(n) + 4
		}
	}
	if _, err := f.Seek(int64(at), io.SeekStart); err != nil {
		return err
	}
	return x.giveDecoded(member{names: names}, f, f.Size-int64(at))
}
