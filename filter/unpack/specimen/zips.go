package specimen

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Zip64Field is the extra field for sizes beyond 4 GiB.
func Zip64Field(sizes ...int) []byte {
	b := AppendLE(nil, 1, 2, 8*len(sizes), 2)
	for _, s := range sizes {
		b = AppendLE(b, s, 8)
	}
	return b
}

// Patched is data with another number behind the last of some signatures.
func Patched(data []byte, signature string, at, value, width int) []byte {
	data = bytes.Clone(data)
	copy(data[bytes.LastIndex(data, []byte(signature))+at:], AppendLE(nil, value, width))
	return data
}

// WithoutSignature is a zip with a data descriptor that has none.
func WithoutSignature(f ZipFile) []byte {
	f.Descriptor = true
	z := Zip(f)
	i := bytes.Index(z, []byte("PK\x07\x08"))
	z = slices.Delete(z, i, i+4)
	at := bytes.LastIndex(z, []byte(zipEnd)) + 16
	binary.LittleEndian.PutUint32(z[at:], binary.LittleEndian.Uint32(z[at:])-4)
	return z
}

// ZipFile is one member as the test wants it written, true or not. What
// starts with central or local is written in that place only.
type ZipFile struct {
	Name, CentralName, LocalName string
	Data                         []byte
	Method                       uint16
	Raw                          []byte // compressed data, if not made from data
	Flags                        uint16
	CentralExtra, LocalExtra     []byte
	Mode                         uint32
	Descriptor                   bool // sizes only after the data
	CentralZero                  bool // sizes 0 in the directory
	Hidden                       bool // not in the directory
	Claim                        *uint32
}

func (f ZipFile) Packed() []byte {
	if f.Raw != nil {
		return f.Raw
	}
	if f.Method == ZipStore {
		return f.Data
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write(f.Data)
	w.Close()
	return b.Bytes()
}

// ZipBody writes the local part; ZipTail the directory and end record for it.
func ZipBody(prefix []byte, files []ZipFile) (body []byte, offsets []int) {
	body = append(body, prefix...)
	for _, f := range files {
		offsets = append(offsets, len(body))
		name := f.Name
		if f.LocalName != "" {
			name = f.LocalName
		}
		packed := f.Packed()
		flags, crc, psize, size := f.Flags, crc32.ChecksumIEEE(f.Data), len(packed), len(f.Data)
		if f.Descriptor {
			flags |= zipFlagDescriptor
			crc, psize, size = 0, 0, 0
		}
		body = append(body, zipLocal...)
		body = AppendLE(body, 20, 2, int(flags), 2, int(f.Method), 2, 0, 4, int(crc), 4, psize, 4, size, 4, len(name), 2, len(f.LocalExtra), 2)
		body = append(append(body, name...), f.LocalExtra...)
		body = append(body, packed...)
		if f.Descriptor {
			body = append(body, "PK\x07\x08"...)
			body = AppendLE(body, int(crc32.ChecksumIEEE(f.Data)), 4, len(packed), 4, len(f.Data), 4)
		}
	}
	return body, offsets
}

// ZipTail writes the directory and the end record for what ZipBody wrote.
func ZipTail(start, shift int, files []ZipFile, offsets []int) (tail []byte) {
	n := 0
	for i, f := range files {
		if f.Hidden {
			continue
		}
		n++
		name := f.Name
		if f.CentralName != "" {
			name = f.CentralName
		}
		psize, size := len(f.Packed()), len(f.Data)
		if f.CentralZero {
			psize, size = 0, 0
		}
		if f.Claim != nil {
			size = int(*f.Claim)
		}
		flags := f.Flags
		if f.Descriptor {
			flags |= zipFlagDescriptor
		}
		tail = append(tail, zipCentral...)
		tail = AppendLE(tail, 3<<8|20, 2, 20, 2, int(flags), 2, int(f.Method), 2, 0, 4, int(crc32.ChecksumIEEE(f.Data)), 4, psize, 4, size, 4,
			len(name), 2, len(f.CentralExtra), 2, 0, 2, 0, 2, 0, 2, int(f.Mode<<16), 4, offsets[i]-shift, 4)
		tail = append(append(tail, name...), f.CentralExtra...)
	}
	length := len(tail)
	tail = append(tail, zipEnd...)
	return AppendLE(tail, 0, 2, 0, 2, n, 2, n, 2, length, 4, start-shift, 4, 0, 2)
}

// AppendLE appends pairs of value and width, little endian.
func AppendLE(b []byte, pairs ...int) []byte {
	var v [8]byte
	for i := 0; i < len(pairs); i += 2 {
		binary.LittleEndian.PutUint64(v[:], uint64(pairs[i]))
		b = append(b, v[:pairs[i+1]]...)
	}
	return b
}

// Zip writes an archive of these files.
func Zip(files ...ZipFile) []byte { return ZipAfter(nil, false, files...) }

// ZipAfter puts a zip behind prefix. With shifted, the offsets in it do not
// count the prefix.
func ZipAfter(prefix []byte, shifted bool, files ...ZipFile) []byte {
	body, offsets := ZipBody(prefix, files)
	shift := 0
	if shifted {
		shift = len(prefix)
	}
	return append(body, ZipTail(len(body), shift, files, offsets)...)
}

// UnicodePath is the extra field of a name in UTF-8.
func UnicodePath(name, path string) []byte {
	b := AppendLE(nil, 0x7075, 2, 5+len(path), 2, 1, 1, int(crc32.ChecksumIEEE([]byte(name))), 4)
	return append(b, path...)
}

// Concat joins octets.
func Concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// ZipWithoutDirectory writes local headers and data only.
func ZipWithoutDirectory(files ...ZipFile) []byte {
	body, _ := ZipBody(nil, files)
	return body
}
