package document

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readRTF gives the objects of an RTF document.
func readRTF(x *budget.Opener, data []byte) error {
	for {
		i := bytes.Index(data, []byte(`\objdata`))
		if i < 0 {
			return nil
		}
		data = data[i+len(`\objdata`):]
		content := data
		if i := bytes.Index(data, []byte(`\objdata`)); i >= 0 {
			content = data[:i]
		}
		if content = rtfHex(content); len(content) == 0 {
			continue
		}
		if err := x.Budget.Take(int64(len(content))); err != nil {
			return err
		}
		if err := giveObject(x, content); err != nil {
			return err
		}
	}
}

// rtfHex decodes the hexadecimal digits up to the end of the group. What else
// stands there does not count: white space, control words, groups in the group,
// escaped octets; \bin is followed by octets as they are (RTF 1.9.1,
// "Objects").
func rtfHex(b []byte) []byte {
	var out []byte
	half, high, depth := false, byte(0), 0
	for i := 0; i < len(b); i++ {
		v := codec.HexDigit(b[i])
		switch {
		case b[i] == '{':
			depth++
		case b[i] == '}':
			if depth--; depth < 0 {
				return out
			}
		case b[i] == '\\':
			word, number, n := rtfControl(b[i:])
			i += n - 1
			if word == "bin" && number > 0 {
				binary := b[i+1:][:min(number, len(b)-i-1)]
				out = append(out, binary...)
				i += len(binary)
			}
		case v >= 0 && depth == 0:
			if half = !half; half {
				high = byte(v) << 4
			} else {
				out = append(out, high|byte(v))
			}
		}
	}
	return out
}

// rtfControl returns the control word at the start of b with its number, and
// the length of all. An escaped octet has two digits.
func rtfControl(b []byte) (word string, number, n int) {
	n = 1
	for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
		n++
	}
	if n == 1 {
		if len(b) > 1 && b[1] == '\'' {
			return "'", 0, min(4, len(b))
		}
		return "", 0, min(2, len(b))
	}
	word = string(b[1:min(n, 33)])
	digits := n
	for n < len(b) && n < digits+11 && (b[n] >= '0' && b[n] <= '9' || n == digits && b[n] == '-') {
		n++
	}
	number, _ = strconv.Atoi(string(b[digits:n]))
	if n < len(b) && b[n] == ' ' {
		n++
	}
	return word, number, n
}

// giveObject gives what an OLE 1 object holds ([MS-OLEDS] 2.2.5): version,
// format, three strings with their length, and the native data with its length.
func giveObject(x *budget.Opener, b []byte) error {
	rest := b
	number := func() int64 {
		if len(rest) < 4 {
			rest = nil
			return -1
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		return n
	}
	number()
	number()
	class := ""
	for i := range 3 {
		n := number()
		if n < 0 || n > int64(len(rest)) {
			return x.GiveStored(budget.Member{Note: "embedded object"}, b)
		}
		if i == 0 {
			class = filetype.CString(rest[:n])
		}
		rest = rest[n:]
	}
	n := number()
	if n < 0 {
		return x.GiveStored(budget.Member{Note: "embedded object"}, b)
	}
	native := rest[:min(n, int64(len(rest)))]
	if class == "Package" || bytes.HasPrefix(native, []byte("\x02\x00")) {
		return givePackage(x, native, 0)
	}
	return x.GiveStored(budget.Member{Note: "embedded object"}, native)
}
