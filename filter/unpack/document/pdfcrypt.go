package document

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strconv"
)

// Many a statement of a bank is a PDF whose printing or copying is restricted:
// encrypted with the empty password, so that readers open it without asking.
// This is the standard security handler of ISO 32000-2, 7.6.4. RC4 and MD5 are
// what PDF up to 1.7 prescribes; nothing is kept secret with them here.

const (
	// pdfRounds is what a key costs: for revision 6 some 300 kB are hashed.
	pdfRounds = 1 << 12
	// maxPDFIDs and maxPDFID bound the identifiers that are tried, and one.
	maxPDFIDs, maxPDFID = 8, 256
	// maxPDFDict bounds an encryption dictionary, maxPDFDicts how many times
	// it may stand there, and maxPDFRefs how many trailers are looked at.
	maxPDFDict, maxPDFDicts, maxPDFRefs = 64 << 10, 64, 4096
)

// pdfKey decrypts the streams and strings of a PDF.
type pdfKey struct {
	key                 []byte // nil if no password was right
	secret              bool   // the password is not the empty one
	stream, file, words string // methods (CFM) for streams, embedded files and strings
	buf                 []byte // for the stream in work
}

// pdfUnlock looks for the key of a PDF. It returns nil if that is not
// encrypted.
func (x *pdfReader) pdfUnlock(data []byte) *pdfKey {
	dict, encrypted := pdfEncryption(data)
	if !encrypted {
		return nil
	}
	k := new(pdfKey)
	k.stream, k.words = pdfMethod(dict, "/StmF"), pdfMethod(dict, "/StrF")
	if k.file = k.stream; dict["/EFF"] != nil {
		k.file = pdfMethod(dict, "/EFF")
	}
	if dict["/Filter"] != "/Standard" || k.stream == "" || k.file == "" || k.words == "" {
		return k
	}
	ids, seen := [][]byte{nil}, 0
	for value := range pdfNamed(data, "/ID") {
		if seen++; seen > maxPDFRefs {
			break
		}
		value = value[:min(len(value), 4*maxPDFID)]
		value = bytes.TrimPrefix(pdfSpace(value), []byte("["))
		id, _ := pdfString(pdfSpace(value[:min(len(value), maxPDFID)]))
		if id != nil && len(ids) < maxPDFIDs && !slices.ContainsFunc(ids, func(o []byte) bool { return bytes.Equal(o, id) }) {
			ids = append(ids, id)
		}
	}
	if k.key = pdfMakeKey(dict, ids, ""); k.key != nil {
		return k
	}
	for word := range x.Budget.Tries(pdfRounds) {
		if k.key = pdfMakeKey(dict, ids, word); k.key != nil {
			k.secret = true
			x.Budget.Opened(word)
			break
		}
	}
	return k
}

// pdfEncryption returns the encryption dictionary, if there is exactly one:
// with more of them, nobody knows which one a reader takes.
func pdfEncryption(data []byte) (dict map[string]any, encrypted bool) {
	var found []byte
	one, of := true, pdfRef{number: -1}
	dicts, refs := 0, 0
	see := func(b []byte) {
		if dicts++; dicts > maxPDFDicts {
			one = false
			return
		}
		b = pdfSpace(b[:min(len(b), maxPDFDict)])
		value, rest := pdfValue(b, 0)
		dict, _ = value.(map[string]any)
		text := b[:len(b)-len(rest)]
		one = one && (found == nil || bytes.Equal(found, text))
		found = text
	}
	for value := range pdfNamed(data, "/Encrypt") {
		encrypted = true
		refs++
		one = one && refs <= maxPDFRefs
		value = value[:min(len(value), maxPDFDict)] // of which a comment takes all
		if value = pdfSpace(value); bytes.HasPrefix(value, []byte("<<")) {
			see(value)
		} else {
			ref, _, _ := bytes.Cut(value[:min(len(value), 24)], []byte("R"))
			before := of
			of = pdfObject(ref)
			one = one && of.number >= 0 && (before.number < 0 || before == of)
		}
		if !one {
			return nil, true
		}
	}
	for at := 0; one && of.number >= 0; at += len("obj") {
		i := bytes.Index(data[at:], []byte("obj"))
		if i < 0 {
			break
		}
		at += i
		if pdfObject(data[:at]) == of {
			see(data[at+len("obj"):])
		}
	}
	if !one {
		return nil, true
	}
	return dict, encrypted
}

// pdfMethod returns the method of the crypt filter that the dictionary has
// under name, or the empty string if it is not known.
func pdfMethod(dict map[string]any, name string) string {
	switch dict["/V"] {
	case "1", "2":
		return "/V2"
	case "4", "5":
	default:
		return ""
	}
	filter, _ := dict[name].(string)
	if filter == "" || filter == "/Identity" {
		return "/Identity"
	}
	filters, _ := dict["/CF"].(map[string]any)
	f, _ := filters[filter].(map[string]any)
	method, _ := f["/CFM"].(string)
	switch {
	case method == "/None":
		return "/Identity"
	case (method == "/V2" || method == "/AESV2") && dict["/V"] == "4", method == "/AESV3" && dict["/V"] == "5":
		return method
	}
	return ""
}

// pdfMakeKey returns the file encryption key if the password fits /U.
func pdfMakeKey(dict map[string]any, ids [][]byte, word string) []byte {
	owner, _ := dict["/O"].([]byte)
	user, _ := dict["/U"].([]byte)
	wrapped, _ := dict["/UE"].([]byte)
	revision, _ := dict["/R"].(string)
	bits, _ := dict["/Length"].(string)
	allowed, _ := dict["/P"].(string)
	permissions, err := strconv.ParseInt(allowed, 10, 64)
	switch {
	case revision == "5" || revision == "6": // algorithm 2.A
		word = word[:min(len(word), 127)]
		if dict["/V"] != "5" || len(user) < 48 || len(wrapped) < 32 || !bytes.Equal(pdfHash(revision, word, user[32:40]), user[:32]) {
			return nil
		}
		block, _ := aes.NewCipher(pdfHash(revision, word, user[40:48]))
		key := make([]byte, 32)
		cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(key, wrapped[:32])
		return key
	case revision < "2" || revision > "4" || len(revision) > 1 || dict["/V"] == "5" || len(owner) < 32 || len(user) < 32 || err != nil:
		return nil
	}
	n, _ := strconv.Atoi(bits)
	for _, n := range []int{n / 8, 5, 16} { // often wrong or missing; the check of /U tells
		if n < 5 || n > 16 {
			continue
		}
		for _, id := range ids {
			if key := pdfOldKey(revision, word, owner, user, id, uint32(permissions), n, dict["/EncryptMetadata"] == "false"); key != nil {
				return key
			}
		}
	}
	return nil
}

// pdfPadding fills passwords up to 32 octets.
const pdfPadding = "\x28\xbf\x4e\x5e\x4e\x75\x8a\x41\x64\x00\x4e\x56\xff\xfa\x01\x08\x2e\x2e\x00\xb6\xd0\x68\x3e\x80\x2f\x0c\xa9\xfe\x64\x53\x69\x7a"

// pdfOldKey makes a key of n octets (algorithm 2) and checks it (6).
func pdfOldKey(revision, word string, owner, user, id []byte, permissions uint32, n int, openMetadata bool) []byte {
	b := append([]byte((word + pdfPadding)[:32]), owner[:32]...)
	b = append(binary.LittleEndian.AppendUint32(b, permissions), id...)
	if revision == "4" && openMetadata {
		b = append(b, "\xff\xff\xff\xff"...)
	}
	sum := md5.Sum(b)
	if revision == "2" {
		if check := pdfRC4(sum[:n], []byte(pdfPadding), nil); !bytes.Equal(check, user[:32]) {
			return nil
		}
		return sum[:n]
	}
	for range 50 {
		sum = md5.Sum(sum[:n])
	}
	check := md5.Sum(append([]byte(pdfPadding), id...))
	turned := make([]byte, n)
	for i := range byte(20) {
		for j := range turned {
			turned[j] = sum[j] ^ i
		}
		pdfRC4(turned, check[:], check[:0])
	}
	if !bytes.Equal(check[:], user[:16]) {
		return nil
	}
	return sum[:n]
}

// pdfHash is SHA-256, from revision 6 on followed by algorithm 2.B.
func pdfHash(revision, word string, salt []byte) []byte {
	sum := sha256.Sum256(append([]byte(word), salt...))
	k := sum[:]
	for i, last := 0, 0; revision == "6" && (i < 64 || last > i-32); i++ {
		e := bytes.Repeat(append([]byte(word), k...), 64)
		block, _ := aes.NewCipher(k[:16])
		cipher.NewCBCEncrypter(block, k[16:32]).CryptBlocks(e, e)
		rest := 0 // of the first 16 octets as a number; 256 leaves 1
		for _, c := range e[:16] {
			rest += int(c)
		}
		switch rest % 3 {
		case 0:
			s := sha256.Sum256(e)
			k = s[:]
		case 1:
			s := sha512.Sum384(e)
			k = s[:]
		case 2:
			s := sha512.Sum512(e)
			k = s[:]
		}
		last = int(e[len(e)-1])
	}
	return k[:32]
}

// method returns how a stream is encrypted.
func (k *pdfKey) method(embedded bool) string {
	switch {
	case k == nil || k.key == nil:
		return "/Identity"
	case embedded:
		return k.file
	}
	return k.stream
}

// decrypt returns a stream or string of an object as it was before encryption.
// The result is in buf, if that has room for it, or is in itself; it is nil if
// in is too short.
func (k *pdfKey) decrypt(method string, of pdfRef, in, buf []byte) []byte {
	key := k.key
	if method == "/V2" || method == "/AESV2" { // algorithm 1
		b := append(bytes.Clone(key), byte(of.number), byte(of.number>>8), byte(of.number>>16), byte(of.generation), byte(of.generation>>8))
		if method == "/AESV2" {
			b = append(b, "sAlT"...)
		}
		sum := md5.Sum(b)
		key = sum[:min(len(key)+5, 16)]
	}
	switch method {
	case "/Identity":
		return in
	case "/V2":
		return pdfRC4(key, in, buf)
	}
	if len(in) < 2*aes.BlockSize {
		return nil
	}
	iv, in := in[:aes.BlockSize], in[aes.BlockSize:]
	in = in[:len(in)&^(aes.BlockSize-1)] // the end of a line may follow
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	out := slices.Grow(buf[:0], len(in))[:len(in)]
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, in)
	if pad := out[len(out)-1]; pad <= aes.BlockSize {
		out = bytes.TrimSuffix(out, bytes.Repeat([]byte{pad}, int(pad)))
	}
	return out
}

func pdfRC4(key, in, buf []byte) []byte {
	out := slices.Grow(buf[:0], len(in))[:len(in)]
	if c, err := rc4.NewCipher(key); err == nil {
		c.XORKeyStream(out, in)
	}
	return out
}
