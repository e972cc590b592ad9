package specimen

import "hash/crc32"

// What the formats call their methods and sizes.
const (
	ZipStore     = 0
	ZipDeflate   = 8
	ZipDeflate64 = 9
	ZipBzip2     = 12
	ZipLZMA      = 14
	ZipZstd      = 93
	ZipXZ        = 95
	ZipAES       = 99

	CabStored = 0
	CabMSZip  = 1
	CabLZX    = 3
	CabHeader = 36

	zipLocal   = "PK\x03\x04"
	zipCentral = "PK\x01\x02"
	zipEnd     = "PK\x05\x06"

	zipFlagEncrypted  = 1 << 0
	zipFlagDescriptor = 1 << 3

	tarBlock  = 512
	IsoSector = 2048

	oleMagic = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
	oneMagic = "\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac"
)

var magic7z = []byte("7z\xbc\xaf\x27\x1c")

// zipCipher is the traditional encryption of PKWARE (APPNOTE 6.1).
type zipCipher [3]uint32

func (c *zipCipher) update(b byte) {
	c[0] = crc32.IEEETable[byte(c[0])^b] ^ c[0]>>8
	c[1] = (c[1]+c[0]&0xff)*134775813 + 1
	c[2] = crc32.IEEETable[byte(c[2])^byte(c[1]>>24)] ^ c[2]>>8
}
