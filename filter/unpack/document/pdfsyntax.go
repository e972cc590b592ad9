package document

import (
	"bytes"
	"iter"
	"strings"

	"postern/filter/unpack/codec"
)

// This file reads the few objects of a PDF that must be understood, as
// ISO 32000-2, 7.2 and 7.3 write them.

const pdfDelimiters = "/<>[](){}% \t\r\n\f\x00"

// pdfSpace returns b without the white space and comments it starts with.
func pdfSpace(b []byte) []byte {
	for {
		b = bytes.TrimLeft(b, " \t\r\n\f\x00")
		if len(b) == 0 || b[0] != '%' {
			return b
		}
		b = b[max(bytes.IndexAny(b, "\r\n"), 0)+1:]
	}
}

// pdfNamed yields what follows each occurrence of a name, however it is spelt.
func pdfNamed(data []byte, name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			i := bytes.IndexByte(data, '/')
			if i < 0 {
				return
			}
			data = data[i:]
			word := pdfWord(data[:min(len(data), 3*len(name)+1)])
			if string(pdfUnescape(word)) == name && !yield(data[len(word):]) {
				return
			}
			data = data[1:]
		}
	}
}

// pdfWord returns the name, number or other word at the start of b, at least
// one octet.
func pdfWord(b []byte) []byte {
	for i := range b {
		if i == 1 && strings.IndexByte("[]{}>)", b[0]) >= 0 || i > 0 && strings.IndexByte(pdfDelimiters, b[i]) >= 0 {
			return b[:i]
		}
	}
	return b
}

// pdfValue returns the object at the start of b, and what follows it: a
// dictionary as a map, a string as octets, all else as the text of one word.
// It is nil if there is none, or a dictionary that readers disagree about.
func pdfValue(b []byte, depth int) (value any, rest []byte) {
	const maxDepth = 4
	b = pdfSpace(b)
	switch {
	case len(b) == 0 || depth > maxDepth:
		return nil, nil
	case bytes.HasPrefix(b, []byte("<<")):
		dict := make(map[string]any)
		for b = pdfSpace(b[2:]); !bytes.HasPrefix(b, []byte(">>")); b = pdfSpace(b) {
			var v any
			if v, b = pdfValue(b, depth+1); v == nil {
				return nil, nil
			}
			name, ok := v.(string)
			if !ok || name[0] != '/' {
				continue // the end of a reference or array
			}
			if v, b = pdfValue(b, depth+1); v == nil || dict[name] != nil {
				return nil, nil
			}
			dict[name] = v
		}
		return dict, b[2:]
	case b[0] == '(' || b[0] == '<':
		s, rest := pdfString(b)
		if s == nil {
			return nil, nil
		}
		return s, rest
	}
	word := pdfWord(b)
	return string(pdfUnescape(word)), b[len(word):]
}

// pdfString returns the string at the start of b, nil if there is none, and
// what follows it.
func pdfString(b []byte) (s, rest []byte) {
	switch {
	case bytes.HasPrefix(b, []byte("(")):
		return pdfLiteral(b[1:])
	case !bytes.HasPrefix(b, []byte("<")) || bytes.HasPrefix(b, []byte("<<")):
		return nil, nil
	}
	digits, s := 0, []byte{}
	for i, c := range b[1:] {
		if c == '>' {
			return s, b[i+2:]
		}
		d := codec.HexDigit(c)
		if d < 0 {
			continue
		}
		if digits++; digits%2 == 1 {
			s = append(s, byte(d<<4))
		} else {
			s[len(s)-1] |= byte(d)
		}
	}
	return nil, nil
}

// pdfLiteral decodes a string up to its parenthesis.
func pdfLiteral(b []byte) (s, rest []byte) {
	s = []byte{}
	for i, open := 0, 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '(':
			open++
		case c == ')':
			if open--; open < 0 {
				return s, b[i+1:]
			}
		case c == '\\' && i+1 < len(b):
			i++
			c = b[i]
			switch {
			case c == '\n':
				continue
			case c == '\r':
				if i+1 < len(b) && b[i+1] == '\n' {
					i++
				}
				continue
			case '0' <= c && c <= '7':
				c -= '0'
				for n := 0; n < 2 && i+1 < len(b) && '0' <= b[i+1] && b[i+1] <= '7'; n++ {
					i++
					c = c<<3 | (b[i] - '0')
				}
			default:
				if at := strings.IndexByte("nrtbf", c); at >= 0 {
					c = "\n\r\t\b\f"[at]
				}
			}
		case c == '\r': // any end of a line is one octet
			if i+1 < len(b) && b[i+1] == '\n' {
				i++
			}
			c = '\n'
		}
		s = append(s, c)
	}
	return nil, nil
}
