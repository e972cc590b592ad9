// Package ampdp has what an AM.PDP request is: its lines, and the files that it
// names (amavisd-new, README.protocol). What is done with it is for the package
// around.
package ampdp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The bounds of a request. amavisd-milter has room for lines of 64 KiB.
const (
	MaxAttribute  = 64 << 10 // octets of a line, its end included
	MaxAttributes = 20000    // lines
	MaxRequest    = 8 << 20  // octets
	MaxBankValues = 20       // policy_bank attributes
)

// Request is one request: what it says under the names that we know.
type Request struct {
	attrs map[string][]string
	// Many: there are more recipients than allowed. The first ones are here.
	Many bool
	// Wrong is what makes no sense in a request that has an end, or nil.
	Wrong error
}

// names are the attributes that we know, and how often each may come:
// 1, or more, or as often as there may be recipients (0).
var names = map[string]int{
	"request": 1, "sender": 1, "recipient": 0, "tempdir": 1, "tempdir_removed_by": 1, "mail_file": 1,
	"delivery_care_of": 1, "queue_id": 1, "protocol_name": 1, "helo_name": 1, "client_address": 1,
	"client_port": 1, "client_name": 1, "client_source": 1, "policy_bank": MaxBankValues, "mail_id": 1,
	"secret_id": 1, "requested_by": 1,
}

// Read reads lines "name=value" up to an empty one. An error says that
// there is no end of the request to go on from; what is wrong in a request that
// ended is in it.
func Read(in *bufio.Reader, recipients int) (*Request, error) {
	r := &Request{attrs: map[string][]string{}}
	size := 0
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		size += len(line)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line is longer than %d octets", MaxAttribute)
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case n >= MaxAttributes:
			return nil, fmt.Errorf("more than %d attributes", MaxAttributes)
		case size > MaxRequest:
			return nil, fmt.Errorf("longer than %d octets", MaxRequest)
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 {
			return r, nil
		}
		if err := r.add(string(line), recipients); err != nil && r.Wrong == nil {
			r.Wrong = err
		}
	}
}

// add takes one line. One without a value is none: amavisd-milter says so that
// it does not know the address of the client.
func (r *Request) add(line string, recipients int) error {
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return nil
	}
	name, err := Decoded(line[:i])
	limit, known := names[name]
	if err != nil || !known {
		return nil // not ours to judge
	}
	value := line[i+1:]
	if line[i] == ':' {
		value = strings.TrimLeft(value, " \t")
	}
	if value, err = Decoded(value); err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	if strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("attribute %s holds a NUL", name)
	}
	have := r.attrs[name]
	switch {
	case limit == 0 && len(have) >= recipients:
		r.Many = true
		return nil
	case limit > 0 && len(have) >= limit:
		return fmt.Errorf("attribute %s comes too often", name)
	}
	r.attrs[name] = append(have, value)
	return nil
}

// Decoded decodes %XX.
func Decoded(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+3 > len(s) {
			return "", errors.New("% without two hex digits")
		}
		var err error
		if out, err = hex.AppendDecode(out, []byte(s[i+1:i+3])); err != nil {
			return "", errors.New("% without two hex digits")
		}
		i += 2
	}
	return string(out), nil
}

// All returns the values of an attribute, nil if there is none.
func (r *Request) All(name string) []string { return r.attrs[name] }

// Get returns the first value of an attribute, empty if there is none.
func (r *Request) Get(name string) string {
	if v := r.attrs[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Choice reports whether an attribute has its other value instead of its usual
// one.
func (r *Request) Choice(name, usual, other string) (bool, error) {
	switch v := strings.ToLower(r.Get(name)); v {
	case "", usual:
		return false, nil
	case other:
		return true, nil
	}
	return false, fmt.Errorf("attribute %s is neither %q nor %q", name, usual, other)
}
