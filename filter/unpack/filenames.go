package unpack

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// maxName bounds one name; longer ones are cut.
const maxName = 4096

// maxSpellings bounds the names of one member.
const maxSpellings = 64

// textName turns a name of an archive into text: UTF-8 if it is, else the
// code page of DOS. Of a very long name the end stays, which decides what a
// program does with the file.
func textName(raw []byte) string {
	if len(raw) > maxName {
		raw = raw[len(raw)-maxName:]
	}
	if utf8.Valid(raw) {
		return string(raw)
	}
	s, err := charmap.CodePage437.NewDecoder().Bytes(raw)
	if err != nil {
		return nameTail(strings.ToValidUTF8(string(raw), "\uFFFD"))
	}
	return nameTail(string(s)) // a character of that page is up to three octets
}

// addName appends a name that is not yet in the list, and for a name with a
// NUL also what a reader in C makes of it.
func addName(names []string, name string) []string {
	if name == "" || len(names) >= maxSpellings || slices.Contains(names, name) {
		return names
	}
	names = append(names, name)
	if i := strings.IndexByte(name, 0); i > 0 {
		names = addName(names, name[:i])
	}
	return names
}

// nameTail cuts what is too long for a name. The end stays: it says what a
// file is.
func nameTail(name string) string { return name[max(0, len(name)-maxName):] }

// cString returns the text before the first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return textName(b)
}

// extension returns what follows the last dot of the last path element.
func extension(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i+1:]
	}
	return ""
}
