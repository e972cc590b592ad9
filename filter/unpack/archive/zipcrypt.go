package archive

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"postern/filter/unpack/budget"
)

// unlock decrypts and decodes v with the first password that fits, and reports
// whether there is one. buf has room for the packed data.
func (z *zipReader) unlock(v *zipView, in, buf []byte) (bool, error) {
	const zipCryptoRounds, aesRounds = 64, 4 * 2 * 1000
	rounds := int64(zipCryptoRounds)
	if v.aes != 0 {
		rounds = aesRounds
	}
	for word := range z.x.Budget.Tries(rounds) {
		var plain []byte
		if v.aes != 0 {
			plain = decryptZipAES(buf, in, word, v.aes)
		} else {
			plain = decryptZipCrypto(buf, in, word, v)
		}
		if plain == nil {
			continue
		}
		c := *v
		c.rest, c.packed = plain, int64(len(plain))
		for _, method := range v.methods {
			data, _, err := z.decode(&c, method)
			if errors.Is(err, budget.ErrOverLimits) {
				return false, err
			}
			// AE-2 has a code for the data in place of its checksum
			if err == nil && (v.aes != 0 || v.sumIs(crc32.ChecksumIEEE(data))) {
				z.x.Budget.Opened(word)
				v.out.Data, v.out.Opened = data, true
				return true, nil
			}
		}
	}
	return false, nil
}

// zipCipher is the traditional encryption of PKWARE (APPNOTE 6.1).
type zipCipher [3]uint32

func (c *zipCipher) update(b byte) {
	c[0] = crc32.IEEETable[byte(c[0])^b] ^ c[0]>>8
	c[1] = (c[1]+c[0]&0xff)*134775813 + 1
	c[2] = crc32.IEEETable[byte(c[2])^byte(c[1]>>24)] ^ c[2]>>8
}

func (c *zipCipher) decrypt(out, in []byte) {
	for i, b := range in {
		t := uint16(c[2]) | 2
		out[i] = b ^ byte(t*(t^1)>>8)
		c.update(out[i])
	}
}

// decryptZipCrypto returns what follows the 12 random octets before the data,
// or nil if the last of them does not fit: it is the top of the checksum or,
// where that comes behind the data, of the time.
func decryptZipCrypto(buf, in []byte, word string, v *zipView) []byte {
	const header = 12
	if len(in) < header {
		return nil
	}
	c := zipCipher{0x12345678, 0x23456789, 0x34567890}
	for i := range len(word) {
		c.update(word[i])
	}
	c.decrypt(buf[:header], in[:header])
	check, fits := buf[header-1], false
	for _, sum := range v.sums {
		fits = fits || check == byte(sum>>24)
	}
	for _, time := range v.times {
		fits = fits || check == byte(time>>8)
	}
	if !fits {
		return nil
	}
	c.decrypt(buf[header:], in[header:])
	return buf[header:]
}

// decryptZipAES decrypts what WinZip has encrypted: salt, two octets to check
// the password with, data, authentication code. It returns nil if password or
// code do not fit.
func decryptZipAES(buf, in []byte, word string, strength byte) []byte {
	const check, code, iterations = 2, 10, 1000
	if strength < 1 || strength > 3 {
		return nil
	}
	salt, key := 4+4*int(strength), 8+8*int(strength)
	if len(in) < salt+check+code {
		return nil
	}
	keys, err := pbkdf2.Key(sha1.New, word, in[:salt], iterations, 2*key+check)
	if err != nil || string(keys[2*key:]) != string(in[salt:salt+check]) {
		return nil
	}
	data := in[salt+check : len(in)-code]
	mac := hmac.New(sha1.New, keys[key:2*key])
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil)[:code], in[len(in)-code:]) {
		return nil
	}
	block, err := aes.NewCipher(keys[:key])
	if err != nil {
		return nil
	}
	// counter mode, but the counter is little endian and starts with 1
	var counter, stream [aes.BlockSize]byte
	out := buf[:len(data)]
	for i, b := range data {
		if i%aes.BlockSize == 0 {
			binary.LittleEndian.PutUint64(counter[:], uint64(i/aes.BlockSize+1))
			block.Encrypt(stream[:], counter[:])
		}
		out[i] = b ^ stream[i%aes.BlockSize]
	}
	return out
}
