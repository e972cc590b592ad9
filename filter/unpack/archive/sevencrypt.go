package archive

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"unicode/utf16"

	"github.com/bodgit/sevenzip"

	"postern/filter/unpack/budget"
)

// maxPower7z is the largest number of rounds, as a power of two, that a key
// may take. 7-Zip itself uses 19.
const maxPower7z = 20

func isAES7z(c coder7z) bool { return c.id == aes7z }

// key7z is how a coder makes its key.
type key7z struct {
	power    uint
	salt, iv []byte
}

// parseKey7z reads the properties of an AES coder.
func parseKey7z(p []byte) (k key7z, ok bool) {
	if len(p) < 2 || p[0]&0xc0 == 0 {
		return k, false
	}
	salt, iv := int(p[0]>>7&1+p[1]>>4), int(p[0]>>6&1+p[1]&15)
	if len(p) != 2+salt+iv {
		return k, false
	}
	k = key7z{uint(p[0] & 0x3f), p[2 : 2+salt], make([]byte, aes.BlockSize)}
	copy(k.iv, p[2+salt:])
	return k, k.power <= maxPower7z
}

// decrypt returns in as the password shows it.
func (k key7z) decrypt(in []byte, word string) []byte {
	round := append(bytes.Clone(k.salt), utf16LE(word)...)
	counter := len(round)
	round = append(round, make([]byte, 8)...)
	h := sha256.New()
	for i := range uint64(1) << k.power {
		binary.LittleEndian.PutUint64(round[counter:], i)
		h.Write(round)
	}
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		return nil
	}
	out := make([]byte, len(in)&^(aes.BlockSize-1))
	cipher.NewCBCDecrypter(block, k.iv).CryptBlocks(out, in[:len(out)])
	return out
}

// unlockHeader decrypts an encoded header and decodes it, if it is what 7-Zip
// writes: one coder whose input comes from the AES coder, and a checksum that
// tells a wrong password.
func (w *walk7z) unlockHeader(f folder7z, in []byte, size uint64) ([]byte, error) {
	packed := len(f.coders) == 2
	if len(f.coders) > 2 || packed && !slices.Equal(f.bound, []uint64{1, 0}) || f.coders[0].id != aes7z || !f.hasSum {
		return nil, errEncrypted
	}
	k, ok := parseKey7z(f.coders[0].properties)
	if !ok {
		return nil, errEncrypted
	}
	for word := range w.x.Budget.Tries(1 << k.power) {
		plain := k.decrypt(in, word)
		plain = plain[:min(f.sizes[0], uint64(len(plain)))]
		var err error
		if packed {
			plain, err = w.decodeHeader(f.coders[1], plain, size)
		}
		if errors.Is(err, budget.ErrOverLimits) {
			return nil, err
		}
		if err == nil && crc32.ChecksumIEEE(plain) == f.sum {
			w.x.Budget.Opened(word)
			w.password = word
			w.x.NoteOpened()
			return plain, nil
		}
	}
	return nil, errEncrypted
}

// unlock returns r with a password that opens its smallest encrypted member,
// and whether there is one.
func (w *walk7z) unlock(r *sevenzip.Reader) (*sevenzip.Reader, bool) {
	rounds, ok := w.rounds()
	if !ok {
		return r, false
	}
	if w.password != "" {
		return r, true
	}
	var probes []int
	for i, f := range r.File {
		if f.UncompressedSize > 0 && f.CRC32 != 0 && w.locked(f.Stream) {
			probes = append(probes, i)
		}
	}
	if len(probes) == 0 {
		return r, false
	}
	probe := slices.MinFunc(probes, func(i, j int) int { return cmp.Compare(r.File[i].UncompressedSize, r.File[j].UncompressedSize) })
	open := func(word string) (*sevenzip.Reader, error) {
		return sevenzip.NewReaderWithPassword(w.x.Input(w.data), int64(len(w.data)), word)
	}
	for word := range w.x.Budget.Tries(rounds) {
		p, err := open(word)
		if err != nil {
			continue
		}
		if _, err = w.decode(p.File[probe]); err != nil {
			continue
		}
		w.x.Budget.Opened(word)
		// a new one: with a new key the library writes the password over the
		// initial value that it has kept for the next member
		if p, err = open(word); err == nil {
			return p, true
		}
	}
	return r, false
}

// rounds adds up what the keys of all folders take, and reports whether that is
// sane.
func (w *walk7z) rounds() (n int64, ok bool) {
	seen := map[string]bool{} // one key may do for all
	for _, f := range w.folders {
		locks := 0
		for _, c := range f.coders {
			if c.id != aes7z {
				continue
			}
			k, ok := parseKey7z(c.properties)
			if locks++; !ok || locks > 2 { // the library makes all keys of a folder at once
				return 0, false
			}
			if id := string(rune(k.power)) + string(k.salt); !seen[id] {
				seen[id] = true
				n += 1 << k.power
			}
		}
	}
	return n, n <= budget.MaxRounds
}

// utf16LE returns s in the form that Windows programs make keys of.
func utf16LE(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
