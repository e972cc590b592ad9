package specimen

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// UU is a text with the payload under that name.
func UU(name string) string {
	var out strings.Builder
	out.WriteString("begin 644 " + name + "\r\n")
	char := func(b byte) byte {
		if b == 0 {
			return '`'
		}
		return b + ' '
	}
	for i := 0; i < len(Payload); i += 45 {
		line := Payload[i:min(i+45, len(Payload))]
		out.WriteByte(char(byte(len(line))))
		for j := 0; j < len(line); j += 3 {
			var g [3]byte
			copy(g[:], line[j:])
			out.Write([]byte{char(g[0] >> 2), char(g[0]<<4&0x30 | g[1]>>4), char(g[1]<<2&0x3c | g[2]>>6), char(g[2] & 0x3f)})
		}
		out.WriteString("\r\n")
	}
	return out.String() + "`\r\nend\r\n"
}

// Apple is an AppleSingle or AppleDouble file with a name and one fork.
func Apple(magic uint32, name string, fork byte) string {
	out := binary.BigEndian.AppendUint32(nil, magic)
	out = append(append(out, 0, 2, 0, 0), make([]byte, 16)...)
	out = append(out, 0, 2, 0, 0, 0, 3, 0, 0, 0, 50, 0, 0, 0, byte(len(name)), 0, 0, 0, fork, 0, 0, 0, byte(50+len(name)), 0, 0, 1, 0x90)
	return string(append(append(out, name...), Payload...))
}

// TrimGraves cuts the graves, which stand for zeros, off the ends of lines.
func TrimGraves(text string) string {
	lines := strings.Split(text, "\r\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, "`")
	}
	return strings.Join(lines, "\r\n")
}

// YEnc is a text with the payload under that name.
func YEnc(name string) string {
	return fmt.Sprintf("=ybegin line=128 size=%d name=%s\r\n", len(Payload), name) + yencLines(Payload)
}

// YEncPart is the n-th of two parts of a file.
func YEncPart(n int, data []byte) string {
	return fmt.Sprintf("=ybegin part=%d total=2 line=128 size=%d name=evil.exe\r\n=ypart begin=1 end=2\r\n", n, len(Payload)) + yencLines(data)
}

func yencLines(data []byte) string {
	var out strings.Builder
	for i, c := range data {
		c += 42
		if c == 0 || c == '\r' || c == '\n' || c == '=' {
			out.WriteByte('=')
			c += 64
		}
		out.WriteByte(c)
		if i%128 == 127 {
			out.WriteString("\r\n")
		}
	}
	fmt.Fprintf(&out, "\r\n=yend size=%d\r\n", len(data))
	return out.String()
}

// BinHex is a text with the payload under that name.
func BinHex(name string) string {
	raw := append([]byte{byte(len(name))}, name...)
	raw = append(raw, 0)
	raw = append(raw, "APPLxxxx\x00\x00"...)
	raw = append(raw, 0, 0, byte(len(Payload)>>8), byte(len(Payload)), 0, 0, 0, 0, 0, 0)
	raw = append(append(raw, Payload...), 0, 0, 0, 0)
	var packed []byte
	for _, c := range raw {
		if packed = append(packed, c); c == 0x90 {
			packed = append(packed, 0)
		}
	}
	return BinHexText(packed)
}

// hqxAlphabet is that of RFC 1741.
const hqxAlphabet = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"

// BinHexText writes octets, with their run lengths, as BinHex.
func BinHexText(packed []byte) string {
	var out strings.Builder
	out.WriteString("(This file must be converted with BinHex 4.0)\r\n\r\n:")
	bits, acc, col := 0, uint32(0), 1
	for _, c := range append(packed, 0, 0) {
		acc = acc<<8 | uint32(c)
		for bits += 8; bits >= 6; bits -= 6 {
			out.WriteByte(hqxAlphabet[acc>>(bits-6)&63])
			if col++; col%64 == 0 {
				out.WriteString("\r\n")
			}
		}
	}
	return out.String() + ":\r\n"
}

// TNEF is a winmail.dat with one attachment.
func TNEF(name string, data []byte) []byte {
	out := []byte{0x78, 0x9f, 0x3e, 0x22, 1, 0}
	attr := func(level byte, id uint32, v []byte) {
		out = append(out, level, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
		n := len(v)
		out = append(out, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		sum := 0
		for _, c := range v {
			sum += int(c)
		}
		out = append(append(out, v...), byte(sum), byte(sum>>8))
	}
	attr(1, 0x00089006, []byte{0, 0, 1, 0})
	attr(2, 0x00069002, make([]byte, 14))
	attr(2, 0x00018010, append([]byte(name), 0))
	attr(2, 0x0006800f, data)
	return out
}
