package codec

import "bytes"

// QuotedPrintable returns the readings of quoted-printable: blanks after the "=" of a
// soft line break are taken off (RFC 2045 section 6.7, rule 3) or not, a bare
// CR ends a line or not. Other errors stay as they are in all readers.
func QuotedPrintable(src []byte) [][]byte {
	if bytes.IndexByte(src, '=') < 0 {
		return [][]byte{src}
	}
	dst := make([]byte, 0, len(src))
	var literal []byte // the second reading, from the first soft break with blanks on
	rest := src
	for {
		i := bytes.IndexByte(rest, '=')
		if i < 0 {
			break
		}
		dst = append(dst, rest[:i]...)
		if literal != nil {
			literal = append(literal, rest[:i]...)
		}
		rest = rest[i:]
		out, n, blanks := escapeQP(rest)
		if blanks && literal == nil {
			literal = append(make([]byte, 0, len(src)), dst...)
		}
		dst = append(dst, out...)
		if blanks {
			literal = append(literal, rest[:n]...)
		} else if literal != nil {
			literal = append(literal, out...)
		}
		rest = rest[n:]
	}
	dst = append(dst, rest...)
	if literal == nil {
		return [][]byte{dst}
	}
	return [][]byte{dst, append(literal, rest...)}
}

// escapeQP decodes what begins with the "=" at the start of s, n octets.
// blanks says that it is a soft break only to some readers: blanks stand
// before the line end, or it is a bare CR.
func escapeQP(s []byte) (out []byte, n int, blanks bool) {
	if len(s) >= 3 {
		if h, l := HexDigit(s[1]), HexDigit(s[2]); h >= 0 && l >= 0 {
			return qpOctets[h<<4|l : h<<4|l+1], 3, false
		}
	}
	i := 1
	for i < len(s) && s[i] <= ' ' && s[i] != '\r' && s[i] != '\n' && i < 80 {
		i++
	}
	blanks = i > 1
	switch {
	case i == len(s):
		return nil, i, false
	case s[i] == '\n':
		return nil, i + 1, blanks
	case s[i] == '\r':
		for i < len(s) && s[i] == '\r' && i < 80 {
			i++
		}
		if i < len(s) && s[i] == '\n' {
			return nil, i + 1, blanks
		}
		return nil, i, i < len(s)
	}
	return s[:1], 1, false
}

// qpOctets holds every octet at its own value, to be sliced.
var qpOctets = func() []byte {
	out := make([]byte, 256)
	for i := range out {
		out[i] = byte(i)
	}
	return out
}()
