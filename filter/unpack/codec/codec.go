// Package codec decodes streams: from octets or a reader to a reader or octets,
// without knowing what they are part of. Decoders of compressed data start no
// goroutine, and those whose window the data may choose ask their Host for it
// before they take it. What the decoded data may come to is for who reads it to
// bound.
//
// Start with NewXZ, whose window is asked for, and Base64, of which mail readers
// make different things.
package codec

import (
	"errors"
	"io"
)

// Host is whom decoders ask.
type Host interface {
	// Needs is told how many octets of memory the decoder will take. Its error
	// is that of the decoder.
	Needs(window int64) error
	// Feed returns a reader of in that fails when time is up.
	Feed(in []byte) io.Reader
}

var (
	// ErrDamaged says that data is not as its format wants it.
	ErrDamaged = errors.New("damaged")
	// ErrUnsupported says that there is no decoder for a method.
	ErrUnsupported = errors.New("method is not supported")
)
