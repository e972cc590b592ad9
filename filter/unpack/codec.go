package unpack

import "errors"

var (
	errDamaged     = errors.New("damaged")
	errUnsupported = errors.New("method is not supported")
)
