package entity

import (
	"bytes"

	"postern/filter/unpack/codec"
)

// Mailbox cuts a mailbox (RFC 4155) into its messages. They begin with a line
// "From address date" behind an empty one, and what follows it is the header of
// a mail: people write lines with that word too.
func Mailbox(data []byte) (letters [][]byte) {
	start, empty := -1, true
	for at := 0; at < len(data); {
		end := codec.LineEnd(data, at)
		line := codec.TrimEOL(data[at:end])
		if empty && isFromLine(line) && LooksLikeMail(data[at:]) {
			if start >= 0 {
				letters = append(letters, data[start:at:at])
			} else if at > 0 {
				return nil
			}
			start = at
		}
		if start < 0 && len(line) > 0 {
			return nil // a mailbox begins with such a line
		}
		empty = len(line) == 0
		at = end
	}
	if start >= 0 {
		letters = append(letters, data[start:])
	}
	return letters
}

// isFromLine reports whether line separates messages: a sender and, with colons
// and a year, a date.
func isFromLine(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("From "))
	if !ok || len(rest) > 512 {
		return false
	}
	colon := bytes.IndexByte(rest, ':')
	if colon < 2 || colon+2 >= len(rest) || !isDigit(rest[colon-1]) || !isDigit(rest[colon+1]) {
		return false
	}
	digits := 0
	for _, c := range rest[colon:] {
		if digits++; !isDigit(c) {
			digits = 0
		}
		if digits == 4 {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
