package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ulikunitz/xz/lzma"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// maxStreams is up to how many joined gzip files are also given one by one.
const maxStreams = 16

// readGzip gives what all gzip members in data decode to together, as gzip
// does, and if there are several also each for itself: other readers stop
// after the first (RFC 1952 section 2.2).
func readGzip(x *budget.Opener, data []byte) error {
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	in := x.Input(data)
	var names []string
	var ends []int
	var all []byte
	rest := data
	r := new(gzip.Reader)
	var fail error
	for fail == nil && bytes.HasPrefix(rest, []byte("\x1f\x8b")) {
		if fail = r.Reset(in); fail != nil {
			break
		}
		r.Multistream(false)
		if r.Name != "" {
			names = filetype.AddName(names, filetype.TextName([]byte(r.Name)))
		}
		all, fail = x.DecodeAfter(len(all), r)
		ends = append(ends, len(all))
		rest = data[len(data)-in.Len():]
	}
	if err := giveStreams(x, names, all, ends, fail); err != nil {
		return err
	}
	if fail != nil {
		return fail
	}
	return x.GiveTail(rest)
}

// giveStreams gives the whole and the parts of it that end at ends.
func giveStreams(x *budget.Opener, names []string, all []byte, ends []int, fail error) error {
	m := budget.Member{Names: names, Data: all}
	if fail != nil {
		m.Note = fail.Error()
	}
	if err := x.Hand(m); err != nil {
		return err
	}
	if len(ends) < 2 || len(ends) > maxStreams {
		return nil
	}
	from := 0
	for _, to := range ends {
		if err := x.Give(budget.Member{Names: names, Data: all[from:to:to], Note: "one of several streams"}); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// readBzip2 gives the content of a bzip2 file, all streams of it.
func readBzip2(x *budget.Opener, data []byte) error {
	in := x.Input(data)
	if err := x.Budget.Entry(); err != nil {
		return err
	}
	all, err := x.Decode(bzip2.NewReader(in), -1)
	m := budget.Member{Data: all}
	const foreign = bzip2.StructuralError("bad magic value in continuation file")
	if errors.Is(err, foreign) {
		if err := x.Hand(m); err != nil {
			return err
		}
		return x.GiveTail(data[max(len(data)-in.Len()-2, 0):])
	}
	if err != nil {
		m.Note = err.Error()
	}
	if herr := x.Hand(m); herr != nil {
		return herr
	}
	return err
}

// readXZ gives the content of an xz file, all streams of it.
func readXZ(x *budget.Opener, data []byte) error {
	r, err := codec.NewXZ(data, x)
	if err != nil {
		return err
	}
	if err := x.GiveDecoded(budget.Member{}, r, -1); err != nil {
		return err
	}
	if x.Damaged() {
		return nil
	}
	return x.GiveTail(r.Rest())
}

// readLZMA gives the content of a file in the older format of xz.
func readLZMA(x *budget.Opener, data []byte) error {
	if len(data) < lzma.HeaderLen {
		return io.ErrUnexpectedEOF
	}
	r, err := codec.NewLZMA(data[:5], int64(binary.LittleEndian.Uint64(data[5:])), data[lzma.HeaderLen:], x)
	if err != nil {
		return err
	}
	return x.GiveDecoded(budget.Member{}, r, -1)
}

// readZstd gives the content of a zstd file, all frames of it.
func readZstd(x *budget.Opener, data []byte) error {
	d, err := codec.NewZstd(data, x)
	if err != nil {
		return err
	}
	defer d.Close()
	return x.GiveDecoded(budget.Member{}, d, -1)
}

// readCompress gives the content of a file of the Unix program compress: LZW
// with codes of 9 up to 16 bits.
func readCompress(x *budget.Opener, data []byte) error {
	if len(data) < 3 || data[1] != 0x9d {
		return codec.ErrUnsupported
	}
	widest := uint(data[2] & 31)
	if widest < 9 || widest > 16 {
		return codec.ErrDamaged
	}
	return x.GiveDecoded(budget.Member{}, codec.NewLZW(data[3:], widest, data[2]&0x80 != 0), -1)
}
