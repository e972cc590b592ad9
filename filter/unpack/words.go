package unpack

import (
	"bytes"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// This file decodes the two ways to write other than ASCII in a header:
// RFC 2047 encoded-words, which are not allowed in parameters and stand there
// all the time, and RFC 2231 extended values.

// decodeWords decodes the encoded-words in s as lenient readers do: also
// inside quoted strings, glued to other text, with blanks inside, and without
// the final "?=". It returns s itself if there are none.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var out strings.Builder
	rest := s
	wordBefore := false
	for {
		i := strings.Index(rest, "=?")
		if i < 0 {
			break
		}
		text, n := encodedWord(rest[i:])
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
// length, 0 if there is none.
func encodedWord(s string) (text string, n int) {
	charset, rest, ok := cutNear(s[2:], 100)
	if !ok || charset == "" || strings.ContainsAny(charset, " \t\n=") {
		return "", 0
	}
	charset, _, _ = strings.Cut(charset, "*") // RFC 2231 section 5: language
	code, rest, ok := cutNear(rest, 2)
	if !ok || len(code) != 1 {
		return "", 0
	}
	end := strings.Index(rest[:min(len(rest), maxWord)], "?=")
	n = len(s) - len(rest)
	if end < 0 {
		if len(rest) > maxWord {
			return "", 0
		}
		end = len(rest)
		n += end
	} else {
		n += end + 2
	}
	var raw []byte
	switch code[0] | 0x20 {
	case 'b':
		raw = looseBase64([]byte(rest[:end]))
	case 'q':
		raw = decodeQ(rest[:end])
	default:
		return "", 0
	}
	return toUTF8(charset, raw), n
}

// maxWord bounds the search for the end of an encoded-word. RFC 2047 allows
// 75 octets; names of 900 are seen.
const maxWord = 4096

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
		case s[i] == '=' && i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0:
			out = append(out, byte(hexDigit(s[i+1])<<4|hexDigit(s[i+2])))
			i += 2
		case s[i] == '\n':
		default:
			out = append(out, s[i])
		}
	}
	return out
}

// decodePercent undoes the percent encoding of RFC 2231; what is no hex pair
// stays.
func decodePercent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0 {
			out = append(out, byte(hexDigit(s[i+1])<<4|hexDigit(s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
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
	return toUTF8(charset, decodePercent(text))
}

// toUTF8 converts raw from a charset. Text of an unknown charset stays as it
// is: an extension must not be hidden by a charset that we do not know.
func toUTF8(charset string, raw []byte) string {
	charset = strings.ToLower(strings.TrimSpace(charset))
	switch charset {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return string(raw)
	}
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return string(raw)
	}
	out, err := enc.NewDecoder().Bytes(raw)
	if err != nil || (len(out) == 0 && len(raw) > 0) || bytes.Equal(out, []byte("\uFFFD")) {
		// the htmlindex decodes charsets that it holds dangerous to nothing
		return string(raw)
	}
	return string(out)
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
