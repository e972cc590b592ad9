package specimen

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// LockedMember encrypts a member as PKZIP does.
func LockedMember(f ZipFile, word string) ZipFile {
	c := zipCipher{0x12345678, 0x23456789, 0x34567890}
	for i := range len(word) {
		c.update(word[i])
	}
	sum := crc32.ChecksumIEEE(f.Data)
	if f.Descriptor {
		sum = 0 // the time
	}
	raw := append(append(make([]byte, 11), byte(sum>>24)), f.Packed()...)
	for i, b := range raw {
		k := uint16(c[2]) | 2
		raw[i] = b ^ byte(k*(k^1)>>8)
		c.update(b)
	}
	f.Raw, f.Flags = raw, f.Flags|zipFlagEncrypted
	return f
}

// ZipLocked is an archive of one file, encrypted as PKZIP does.
func ZipLocked(f ZipFile, word string) []byte { return Zip(LockedMember(f, word)) }

// sealed encrypts data, filled up to whole blocks.
func sealed(key, iv, data []byte) []byte {
	block := Must(aes.NewCipher(key))
	data = Padded(data, aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return data
}

// RAR5Locked writes an encrypted file, with names also the headers.
func RAR5Locked(name string, data []byte, word string, power byte, names bool) []byte {
	salt, iv := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	key := Must(pbkdf2.Key(sha256.New, word, salt, 1<<power, 32))
	long := Must(pbkdf2.Key(sha256.New, word, salt, 1<<power+32, 32))
	check := make([]byte, 8)
	for i, b := range long {
		check[i%8] ^= b
	}
	sum := sha256.Sum256(check)
	check = append(check, sum[:4]...)
	vint := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	lock := false
	block := func(fields ...byte) []byte {
		h := append(vint(len(fields)), fields...)
		h = append(AppendLE(nil, int(crc32.ChecksumIEEE(h)), 4), h...)
		if lock {
			return Concat(iv, sealed(key, iv, h))
		}
		return h
	}
	b := []byte("Rar!\x1a\x07\x01\x00")
	if names {
		b = append(b, block(slices.Concat([]byte{4, 0, 0, 1, power}, salt, check)...)...)
		lock = true
	}
	record := slices.Concat([]byte{1, 0, 1, power}, salt, iv, check)
	record = append(vint(len(record)), record...)
	content := sealed(key, iv, data)
	file := slices.Concat([]byte{2, 3}, vint(len(record)), vint(len(content)), []byte{4}, vint(len(data)), vint(0x20),
		AppendLE(nil, int(crc32.ChecksumIEEE(data)), 4), vint(0), []byte{0}, vint(len(name)), []byte(name), record)
	return Concat(b, block(1, 0, 0), block(file...), content, block(5, 0, 0))
}

// RAR4Locked writes an encrypted file in the format of RAR 3 and 4.
func RAR4Locked(name string, data []byte, word string) []byte {
	salt := []byte("saltsalt")
	h, iv := sha1.New(), make([]byte, 0, 16)
	for i := range 1 << 18 {
		h.Write(slices.Concat(Wide(word)[:2*len(word)], salt, []byte{byte(i), byte(i >> 8), byte(i >> 16)}))
		if i%(1<<14) == 0 {
			iv = append(iv, h.Sum(nil)[19])
		}
	}
	key := h.Sum(nil)[:16]
	for w := range slices.Chunk(key, 4) {
		slices.Reverse(w)
	}
	block := func(kind, flags int, fields []byte) []byte {
		b := append(AppendLE(nil, kind, 1, flags, 2, 7+len(fields), 2), fields...)
		return append(AppendLE(nil, int(crc32.ChecksumIEEE(b)&0xffff), 2), b...)
	}
	content := sealed(key, iv, data)
	file := AppendLE(nil, len(content), 4, len(data), 4, 2, 1, int(crc32.ChecksumIEEE(data)), 4, 0, 4, 29, 1, 0x30, 1, len(name), 2, 0x20, 4)
	return Concat([]byte("Rar!\x1a\x07\x00"), block(0x73, 0, make([]byte, 6)),
		block(0x74, 0x8404, slices.Concat(file, []byte(name), salt)), content, block(0x7b, 0x4000, nil))
}
