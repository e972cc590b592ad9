package budget

import (
	"errors"
	"io"
)

// Input is data that a decoder reads, of this house or of a library. Reading
// fails when time is up, so that a decoder ends also where it only reads and
// yields nothing; and what is read for nothing costs as much as what it yields.
type Input struct {
	b     *Budget
	data  []byte
	at    int
	asked int // up to there the budget was asked
}

const (
	// inputStep is how many octets are read between two looks at the budget.
	inputStep = 16 << 10
	// idleFree is what may be read ahead of what is yielded.
	idleFree = 1 << 20
)

// Input returns data as the input of a decoder.
func (x *Opener) Input(data []byte) *Input { return &Input{b: x.Budget, data: data} }

// Feed is Input for those who only read on.
func (x *Opener) Feed(data []byte) io.Reader { return x.Input(data) }

// ask looks at the budget before octets up to end are read.
func (in *Input) ask(end int) error {
	if end <= in.asked {
		return nil
	}
	next := min(max(end, in.asked+inputStep), len(in.data))
	n := next - in.asked
	in.asked = next
	return in.b.fetch(int64(n))
}

// Len is how many octets are left.
func (in *Input) Len() int { return len(in.data) - in.at }

// Read reads on.
func (in *Input) Read(p []byte) (int, error) {
	n, err := in.ReadAt(p, int64(in.at))
	in.at += n
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadByte makes compress/flate take no more than its stream.
func (in *Input) ReadByte() (byte, error) {
	if in.at >= len(in.data) {
		return 0, io.EOF
	}
	if in.at >= in.asked {
		if err := in.ask(in.at + 1); err != nil {
			return 0, err
		}
	}
	in.at++
	return in.data[in.at-1], nil
}

// ReadAt reads anywhere. What was read before costs nothing.
func (in *Input) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(in.data)) {
		return 0, io.EOF
	}
	end := min(int(off)+len(p), len(in.data))
	if err := in.b.Check(); err != nil {
		return 0, err
	}
	if err := in.ask(end); err != nil {
		return 0, err
	}
	n := copy(p, in.data[off:end])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Seek lets a reader skip what it does not want.
func (in *Input) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += int64(in.at)
	case io.SeekEnd:
		offset += int64(len(in.data))
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	in.at = int(min(offset, int64(len(in.data))))
	in.asked = max(in.asked, in.at)
	return offset, in.b.Check()
}
