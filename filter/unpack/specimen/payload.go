// Package specimen writes small files of the formats that unpack reads, and
// texts that carry them, for the tests of all its rooms. They are written from
// the descriptions of the formats and not with the code under test; what
// standard tools must have made lies in testdata. It is no part of the
// program: only tests import it. Evil and Payload are what the files hold;
// Zip, Tar and the like make archives, UU and the like texts.
package specimen

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// eicar is the EICAR test string, in two halves so that scanners leave this
// file alone.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// Evil is the payload of all cases: the start of a Windows program with the
// EICAR string in it.
var Evil = func() []byte {
	b := make([]byte, 400)
	copy(b, "MZ\x90\x00\x03")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00\x4c\x01\x01\x00")
	binary.LittleEndian.PutUint16(b[0x80+20:], 0xe0) // optional header
	binary.LittleEndian.PutUint16(b[0x80+22:], 0x0102)
	copy(b[0x80+24:], "\x0b\x01")
	copy(b[300:], eicar)
	return b
}()

// Payload is a program file too small to run that holds the EICAR test string.
var Payload = func() []byte {
	b := make([]byte, 400)
	copy(b, "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00\xb8")
	b[60] = 0x80
	copy(b[0x80:], "PE\x00\x00\x4c\x01")
	// in two pieces, so that this file is not taken for the test virus
	copy(b[200:], `X5O!P%@AP[4\PZX54(P^)7CC)7}$`+`EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
	return b
}()

// DLLPayload, dosPayload and linkPayload are the payload as a library, with the
// other mark of DOS, and behind the head of a shortcut.
var (
	DLLPayload  = slices.Concat(Payload[:0x80+22], []byte("\x02\x21"), Payload[0x80+24:])
	DosPayload  = append([]byte("ZM"), Payload[2:]...)
	LinkPayload = append([]byte("\x4c\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"), Payload...)
)

// Wrap64 is base64 in lines of 76.
func Wrap64(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}
