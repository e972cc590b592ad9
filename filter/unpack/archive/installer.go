package archive

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// Programs that install others carry them in ways of their own, behind the
// last section of the program.

// readProgram gives what is inside a program: archives, and what the best known
// installers put there.
func readProgram(x *budget.Opener, data []byte) error {
	if err := x.Inside(data, ""); err != nil {
		return err
	}
	if i := nsisAt(data); i >= 0 {
		return nsis(x, data[i:])
	}
	overlay := overlayOf(data)
	const near = 1024 // debugging data may come first
	if bytes.Contains(overlay[:min(len(overlay), near)], []byte("InstallShield\x00")) {
		return fmt.Errorf("files of InstallShield: %w", codec.ErrUnsupported)
	}
	return setupFiles(x, overlay)
}

// readScript gives the archive that stands behind the lines of a script which
// unpacks itself.
func readScript(x *budget.Opener, data []byte) error {
	if err := x.Inside(data, ""); err != nil {
		return err
	}
	for _, mark := range []string{"\n\x1f\x8b\x08", "\nBZh", "\n\xfd7zXZ\x00", "\n\x28\xb5\x2f\xfd"} {
		if i := bytes.Index(data, []byte(mark)); i >= 0 {
			return x.GiveStored(budget.Member{Note: "behind the script"}, data[i+1:])
		}
	}
	return nil
}

// overlayOf returns what follows the last section of a Windows program.
func overlayOf(data []byte) []byte {
	const header, section = 24, 40
	le := binary.LittleEndian
	if len(data) < 0x40 {
		return nil
	}
	pe := int64(le.Uint32(data[0x3c:]))
	if pe+header > int64(len(data)) || string(data[pe:pe+4]) != "PE\x00\x00" {
		return nil
	}
	table := data[min(pe+header+int64(le.Uint16(data[pe+20:])), int64(len(data))):]
	end := int64(0)
	for range le.Uint16(data[pe+6:]) {
		if len(table) < section {
			return nil
		}
		end = max(end, int64(le.Uint32(table[16:]))+int64(le.Uint32(table[20:])))
		table = table[section:]
	}
	if end == 0 || end >= int64(len(data)) {
		return nil
	}
	return data[end:]
}

// nsisAt finds the header of the Nullsoft installer, which begins at a multiple
// of 512, or returns -1.
func nsisAt(data []byte) int {
	i := bytes.Index(data, []byte("\xef\xbe\xad\xdeNullsoftInst"))
	if i < 4 || (i-4)%512 != 0 {
		return -1
	}
	return i - 4
}

// nsis gives the files of a Nullsoft installer: blocks with their length before
// them, each packed by itself, or one stream with all of them.
func nsis(x *budget.Opener, b []byte) error {
	const header = 28
	if len(b) < header+4 {
		return codec.ErrDamaged
	}
	size := int(binary.LittleEndian.Uint32(b[24:]))
	b = b[header:min(max(size, header), len(b))]
	if isNSISLZMA(b) { // solid
		r, err := nsisDecoder(x, b)
		if err != nil {
			return err
		}
		return x.GiveDecoded(budget.Member{Note: "content of the installer"}, r, -1)
	}
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		packed := n&(1<<31) != 0
		n &^= 1 << 31
		if b = b[4:]; int64(n) > int64(len(b)) {
			if len(b) <= 4 { // the checksum at the end
				return nil
			}
			return codec.ErrDamaged
		}
		content := b[:n]
		b = b[n:]
		m := budget.Member{Note: "block of the installer"}
		var err error
		if !packed {
			err = x.GiveStored(m, content)
		} else if r, derr := nsisDecoder(x, content); derr != nil {
			x.Fail("nsis", derr)
		} else {
			err = x.GiveDecoded(m, r, -1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isNSISLZMA(b []byte) bool {
	return len(b) > 5 && b[0] == 0x5d && b[1] == 0 && b[2] == 0 && b[4] == 0
}

// nsisDecoder returns the decoder of a packed block: LZMA without a length,
// with or without a filter flag before it, or Deflate.
func nsisDecoder(x *budget.Opener, b []byte) (io.Reader, error) {
	if len(b) > 6 && b[0] <= 1 && isNSISLZMA(b[1:]) {
		if b[0] == 1 {
			return nil, codec.ErrUnsupported // x86 filter
		}
		b = b[1:]
	}
	if !isNSISLZMA(b) {
		return flate.NewReader(x.Input(b)), nil
	}
	return codec.NewLZMA(b[:5], -1, b[5:], x)
}

// setupFiles gives the files that InstallShield's setup program has behind it:
// name, path, version and length as strings, then the content.
func setupFiles(x *budget.Opener, b []byte) error {
	for len(b) > 0 {
		var fields [4]string
		for i := range fields {
			end := bytes.IndexByte(b[:min(len(b), 1024)], 0)
			if end <= 0 {
				return nil
			}
			fields[i] = filetype.TextName(b[:end])
			b = b[end+1:]
		}
		n, err := strconv.ParseUint(fields[3], 10, 31)
		if err != nil || n > uint64(len(b)) {
			return nil
		}
		m := budget.Member{Names: filetype.AddName(filetype.AddName(nil, fields[0]), fields[1])}
		if err := x.GiveStored(m, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
