package archive

import (
	"bytes"
	"encoding/binary"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readAr gives the members of an ar file, which a Debian package is too. Long
// names are those of BSD (before the data) and of GNU and SysV (in a table).
func readAr(x *budget.Opener, data []byte) error {
	const magic, header = 8, 60
	if bytes.HasPrefix(data, []byte("!<thin>")) {
		return codec.ErrUnsupported
	}
	var table []byte
	for pos := magic; pos < len(data); {
		if pos+header > len(data) || string(data[pos+58:pos+60]) != "`\n" {
			x.Damage("ar: header is broken")
			return x.GiveTail(data[pos:])
		}
		h := data[pos : pos+header]
		size := number(h[48:58], 10)
		if size < 0 {
			return codec.ErrDamaged
		}
		pos += header
		content := data[pos:min(int64(len(data)), int64(pos)+size)]
		if int64(len(content)) < size {
			x.Damage("ar: cut")
		}
		pos += int(min(size+size&1, int64(len(data)-pos)))
		name := strings.TrimRight(string(h[:16]), " ")
		switch {
		case name == "//":
			table = content
			continue
		case strings.HasPrefix(name, "#1/"):
			if n := number([]byte(name[3:]), 10); n >= 0 && n <= int64(len(content)) {
				name, content = string(bytes.TrimRight(content[:n], "\x00")), content[n:]
			}
		case len(name) > 1 && name[0] == '/' && number([]byte(name[1:]), 10) >= 0:
			if n := number([]byte(name[1:]), 10); n < int64(len(table)) {
				long, _, _ := bytes.Cut(table[n:], []byte("\n"))
				long = bytes.TrimSuffix(long, []byte("/"))
				name = string(long[max(0, len(long)-filetype.MaxName):]) // as TextName does, before it is copied
			}
		case len(name) > 1:
			name = strings.TrimSuffix(name, "/")
		}
		if err := x.GiveStored(budget.Member{Names: filetype.AddName(nil, filetype.TextName([]byte(name)))}, content); err != nil {
			return err
		}
	}
	return nil
}

// readRPM gives the payload of a package: a compressed cpio file behind the
// lead of 96 octets and two headers.
func readRPM(x *budget.Opener, data []byte) error {
	pos := 96
	for i := range 2 {
		if pos+16 > len(data) || !bytes.HasPrefix(data[pos:], []byte("\x8e\xad\xe8\x01")) {
			return codec.ErrDamaged
		}
		entries, store := binary.BigEndian.Uint32(data[pos+8:]), binary.BigEndian.Uint32(data[pos+12:])
		length := 16 + 16*int64(entries) + int64(store)
		if i == 0 {
			length = (length + 7) &^ 7
		}
		if length > int64(len(data)-pos) {
			return codec.ErrDamaged
		}
		pos += int(length)
	}
	return x.GiveStored(budget.Member{Note: "payload"}, data[pos:])
}
