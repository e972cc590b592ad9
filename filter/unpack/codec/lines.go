package codec

import "bytes"

// Lines steps through a text.
type Lines struct {
	Rest []byte // what follows the last line
}

// Next returns the next line without its end.
func (l *Lines) Next() (line []byte, ok bool) {
	if len(l.Rest) == 0 {
		return nil, false
	}
	i := bytes.IndexByte(l.Rest, '\n')
	if i < 0 {
		line, l.Rest = l.Rest, nil
	} else {
		line, l.Rest = l.Rest[:i+1], l.Rest[i+1:]
	}
	return TrimEOL(line), true
}

// LineEnd returns the offset after the line of b that begins at pos.
func LineEnd(b []byte, pos int) int {
	if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(b)
}

// TrimEOL removes the end of line, CR CR LF included.
func TrimEOL(line []byte) []byte {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
	}
	for n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n]
}
