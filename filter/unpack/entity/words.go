package entity

import (
	"bytes"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"postern/filter/unpack/codec"
)

// This file decodes the two ways to write other than ASCII in a header:
// RFC 2047 encoded-words, which are not allowed in parameters and stand there
// all the time, and RFC 2231 extended values.

// DecodeWords decodes the encoded-words in s as lenient readers do: also
// inside quoted strings, glued to other text, with blanks inside, without the
// final "?=", and once more if words were encoded in words. It returns s itself
// if there are none.
func DecodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	out := decodeWordsOnce(s)
	if out != s && strings.Contains(out, "=?") {
		return decodeWordsOnce(out)
	}
	return out
}

func decodeWordsOnce(s string) string {
	var out strings.Builder
	rest := s
	closing := len(s) // how much of s follows the next "?="
	wordBefore := false
	for {
		i := strings.Index(rest, "=?")
		if i < 0 {
			break
		}
		text, n := encodedWord(rest[i:], &closing)
		if n == 0 {
			out.WriteString(rest[:i+2])
			rest = rest[i+2:]
			wordBefore = false
			continue
		}
		// white space between two encoded-words is not shown
		if !wordBefore || strings.Trim(rest[:i], " \t\r\n") != "" {
			out.WriteString(rest[:i])
		}
		out.WriteString(text)
		rest = rest[i+n:]
		wordBefore = true
	}
	out.WriteString(rest)
	return out.String()
}

// encodedWord decodes the encoded-word at the start of s and returns its
// length, 0 if there is none. What follows the next "?=", counted from the end,
// is kept in closing, so that it is searched for once.
func encodedWord(s string, closing *int) (text string, n int) {
	charset, rest, ok := cutNear(s[2:], 100)
	if !ok || strings.Contains(charset, "=") {
		return "", 0
	}
	charset, _, _ = strings.Cut(charset, "*") // RFC 2231 section 5: language
	code, rest, ok := cutNear(rest, 2)
	if !ok || len(code) != 1 {
		return "", 0
	}
	if *closing > len(rest)-2 {
		*closing = -1
		if end := strings.Index(rest, "?="); end >= 0 {
			*closing = len(rest) - end - 2
		}
	}
	word := rest
	if *closing >= 0 {
		word = rest[:len(rest)-*closing-2]
	}
	n = len(s) - max(*closing, 0)
	if *closing < 0 {
		word = strings.TrimRight(word, "?=")
	}
	var raw []byte
	switch code[0] | 0x20 {
	case 'b':
		raw = codec.LooseBase64([]byte(word))
	case 'q':
		raw = decodeQ(word)
	default:
		return "", 0
	}
	return ToUTF8(charset, raw), n
}

// cutNear is strings.Cut at "?" within the first n+1 octets.
func cutNear(s string, n int) (before, after string, ok bool) {
	i := strings.IndexByte(s[:min(len(s), n+1)], '?')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// decodeQ is the "Q" encoding of RFC 2047 section 4.2.
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			out = append(out, ' ')
		case s[i] == '=' && i+2 < len(s) && codec.HexDigit(s[i+1]) >= 0 && codec.HexDigit(s[i+2]) >= 0:
			out = append(out, byte(codec.HexDigit(s[i+1])<<4|codec.HexDigit(s[i+2])))
			i += 2
		case s[i] == '\n':
		default:
			out = append(out, s[i])
		}
	}
	return out
}

// decodeExtended decodes charset'language'text. Without the two quotes all of
// it is text.
func decodeExtended(s string) string {
	charset, text := "", s
	if a, rest, ok := strings.Cut(s, "'"); ok {
		if _, b, ok := strings.Cut(rest, "'"); ok {
			charset, text = a, b
		}
	}
	return ToUTF8(charset, codec.Percent(text))
}

// ToUTF8 converts raw from a charset. Text of an unknown charset stays as it
// is: an extension must not be hidden by a charset that we do not know.
func ToUTF8(charset string, raw []byte) string {
	charset = strings.ToLower(strings.Join(strings.Fields(charset), ""))
	var enc encoding.Encoding
	switch {
	case charset == "" || charset == "utf-8" || charset == "utf8" || strings.HasSuffix(charset, "ascii"):
		return string(raw)
	case strings.HasSuffix(charset, "utf-7") || charset == "utf7":
		return codec.UTF7(string(raw))
	case strings.HasPrefix(charset, "utf-16") || strings.Contains(charset, "ucs-2"):
		enc = unicode.UTF16(wideOrder(charset, raw), unicode.UseBOM)
	case strings.HasPrefix(charset, "hz"):
		enc = simplifiedchinese.HZGB2312
	default:
		var err error
		if enc, err = htmlindex.Get(charset); err != nil {
			if enc, err = ianaindex.MIME.Encoding(charset); err != nil || enc == nil {
				return string(raw)
			}
		}
	}
	out, err := enc.NewDecoder().Bytes(raw)
	if err != nil || (len(out) == 0 && len(raw) > 0) || bytes.Equal(out, []byte("\uFFFD")) {
		// the htmlindex decodes charsets that it holds dangerous to nothing
		return string(raw)
	}
	return string(out)
}

// wideOrder returns the order of octets in UTF-16. Where the zero octets of
// Latin text stand tells more than the name of the charset.
func wideOrder(charset string, raw []byte) unicode.Endianness {
	zeros := [2]int{}
	for i, c := range raw {
		if c == 0 {
			zeros[i%2]++
		}
	}
	if zeros[0] < zeros[1] || zeros[0] == zeros[1] && strings.HasSuffix(charset, "le") {
		return unicode.LittleEndian
	}
	return unicode.BigEndian
}
