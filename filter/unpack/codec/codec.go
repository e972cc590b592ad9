package codec

import "errors"

var (
	ErrDamaged     = errors.New("damaged")
	ErrUnsupported = errors.New("method is not supported")
)
