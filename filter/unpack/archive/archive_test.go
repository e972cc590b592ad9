package archive

import (
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
)

// expand opens one container with the readers of this package.
func expand(data []byte, short []string, b *budget.Budget, add func(budget.Member) error) (budget.Outcome, error) {
	x := budget.NewOpener(b, add, search)
	defer x.Free()
	for _, kind := range short {
		if read := Readers[kind]; read != nil {
			if err := x.Run(kind, read, data); err != nil {
				return x.Outcome(), err
			}
		}
	}
	return x.Outcome(), nil
}

// search opens the archives of one kind, or all, that begin inside data.
func search(x *budget.Opener, data []byte, kind string) error {
	for _, e := range filetype.FindEmbedded(data) {
		if kind != "" && e.Kind != kind {
			continue
		}
		part := data
		if e.Kind != "zip" { // its reader looks at all of data
			part = data[e.At:]
		}
		if err := Readers[e.Kind](x, part); err != nil {
			return err
		}
	}
	return nil
}
