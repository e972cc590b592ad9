package filetype

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// MaxName bounds one name; longer ones are cut.
const MaxName = 4096

// maxSpellings bounds the names of one member.
const maxSpellings = 64

// TextName turns a name of an archive into text: UTF-8 if it is, else the
// code page of DOS. Of a very long name the end stays, which decides what a
// program does with the file.
func TextName(raw []byte) string {
	if len(raw) > MaxName {
		raw = raw[len(raw)-MaxName:]
	}
	if utf8.Valid(raw) {
		return string(raw)
	}
	s, err := charmap.CodePage437.NewDecoder().Bytes(raw)
	if err != nil {
		return NameTail(strings.ToValidUTF8(string(raw), "\uFFFD"))
	}
	return NameTail(string(s)) // a character of that page is up to three octets
}

// AddName appends a name that is not yet in the list, and for a name with a
// NUL also what a reader in C makes of it.
func AddName(names []string, name string) []string {
	if name == "" || len(names) >= maxSpellings || slices.Contains(names, name) {
		return names
	}
	names = append(names, name)
	if i := strings.IndexByte(name, 0); i > 0 {
		names = AddName(names, name[:i])
	}
	return names
}

// NameTail cuts what is too long for a name. The end stays: it says what a
// file is.
func NameTail(name string) string { return name[max(0, len(name)-MaxName):] }

// CString returns the text before the first NUL.
func CString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return TextName(b)
}

// Extension returns what follows the last dot of the last path element.
func Extension(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i+1:]
	}
	return ""
}
