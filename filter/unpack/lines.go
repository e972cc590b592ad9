package unpack

import "bytes"

// lines steps through a text.
type lines struct{ rest []byte }

// next returns the next line without its end.
func (l *lines) next() (line []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, false
	}
	i := bytes.IndexByte(l.rest, '\n')
	if i < 0 {
		line, l.rest = l.rest, nil
	} else {
		line, l.rest = l.rest[:i+1], l.rest[i+1:]
	}
	return trimEOL(line), true
}

// lineEnd returns the offset after the line of b that begins at pos.
func lineEnd(b []byte, pos int) int {
	if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(b)
}

// trimEOL removes the end of line, CR CR LF included.
func trimEOL(line []byte) []byte {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
	}
	for n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n]
}
