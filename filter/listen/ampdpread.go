package listen

// Requests as they come, and what a check request says.

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"postern/filter/mail"
)

// The bounds of a request. amavisd-milter has room for lines of 64 KiB.
const (
	maxAttribute  = 64 << 10 // octets of a line, its end included
	maxAttributes = 20000    // lines
	maxRequest    = 8 << 20  // octets
	maxBankValues = 20       // policy_bank attributes
)

// ampdpRequest is one request: what it says under the names that we know.
type ampdpRequest struct {
	attrs map[string][]string
	many  bool // more recipients than allowed; those in attrs are the first
	wrong error
}

// ampdpNames are the attributes that we know, and how often each may come:
// 1, or more, or as often as there may be recipients (0).
var ampdpNames = map[string]int{
	"request": 1, "sender": 1, "recipient": 0, "tempdir": 1, "tempdir_removed_by": 1, "mail_file": 1,
	"delivery_care_of": 1, "queue_id": 1, "protocol_name": 1, "helo_name": 1, "client_address": 1,
	"client_port": 1, "client_name": 1, "client_source": 1, "policy_bank": maxBankValues, "mail_id": 1,
}

// readRequest reads lines "name=value" up to an empty one. An error says that
// there is no end of the request to go on from; what is wrong in a request that
// ended is in it.
func readRequest(in *bufio.Reader, recipients int) (*ampdpRequest, error) {
	r := &ampdpRequest{attrs: map[string][]string{}}
	size := 0
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		size += len(line)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line is longer than %d octets", maxAttribute)
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case n >= maxAttributes:
			return nil, fmt.Errorf("more than %d attributes", maxAttributes)
		case size > maxRequest:
			return nil, fmt.Errorf("longer than %d octets", maxRequest)
		}
		line = bytes.TrimSuffix(line[:len(line)-1], cr)
		if len(line) == 0 {
			return r, nil
		}
		if err := r.add(string(line), recipients); err != nil && r.wrong == nil {
			r.wrong = err
		}
	}
}

// add takes one line. One without a value is none: amavisd-milter says so that
// it does not know the address of the client.
func (r *ampdpRequest) add(line string, recipients int) error {
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return nil
	}
	name, err := percentDecoded(line[:i])
	limit, known := ampdpNames[name]
	if err != nil || !known {
		return nil // not ours to judge
	}
	value := line[i+1:]
	if line[i] == ':' {
		value = strings.TrimLeft(value, " \t")
	}
	if value, err = percentDecoded(value); err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	if strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("attribute %s holds a NUL", name)
	}
	have := r.attrs[name]
	switch {
	case limit == 0 && len(have) >= recipients:
		r.many = true
		return nil
	case limit > 0 && len(have) >= limit:
		return fmt.Errorf("attribute %s comes too often", name)
	}
	r.attrs[name] = append(have, value)
	return nil
}

// percentDecoded decodes %XX.
func percentDecoded(s string) (string, error) {
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

// get returns the first value of an attribute, empty if there is none.
func (r *ampdpRequest) get(name string) string {
	if v := r.attrs[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ampdpCheck is what a check request asks.
type ampdpCheck struct {
	tx      *mail.Transaction // without message and way back
	sender  string            // as the client wrote it
	rcpts   []string          // the same, in the order of tx.Rcpts
	helo    string            // the same
	file    string
	tempdir string   // to be removed by us, or empty
	forward bool     // we are to hand the message on, not the client
	ignored []string // banks that it may not name
}

// check reads a check request. allowed are the banks that it may name.
func (r *ampdpRequest) check(listener string, allowed []string) (*ampdpCheck, error) {
	if r.wrong != nil {
		return nil, r.wrong
	}
	sender, ok := r.attrs["sender"]
	if !ok || len(r.attrs["recipient"]) == 0 {
		return nil, errors.New("no sender, or no recipient")
	}
	c := &ampdpCheck{sender: sender[0], rcpts: r.attrs["recipient"], helo: r.get("helo_name")}
	c.tx = &mail.Transaction{Received: time.Now(), Input: mail.InputAMPDP, Listener: listener, Protocol: "ESMTP", Client: r.client()}
	if p := c.tx.Client.Proto; p != "" {
		c.tx.Protocol = strings.ToUpper(p)
	}
	var err error
	if c.tx.From, err = ampdpAddress(c.sender); err != nil {
		return nil, err
	}
	c.tx.FromOpts.UTF8 = !c.tx.From.ASCII()
	for _, raw := range c.rcpts {
		a, err := ampdpAddress(raw)
		if err != nil {
			return nil, err
		}
		if a == "" {
			return nil, errors.New("a recipient is empty")
		}
		c.tx.Rcpts = append(c.tx.Rcpts, mail.Recipient{Address: a})
		c.tx.FromOpts.UTF8 = c.tx.FromOpts.UTF8 || !a.ASCII()
	}
	c.tx.Banks, c.ignored = r.banks(allowed)
	if c.forward, err = r.choice("delivery_care_of", "client", "server"); err != nil {
		return nil, err
	}
	return c, r.files(c)
}

// files sets where the message is, and what is to be removed.
func (r *ampdpRequest) files(c *ampdpCheck) error {
	tempdir := r.get("tempdir")
	byClient, err := r.choice("tempdir_removed_by", "server", "client")
	if err != nil {
		return err
	}
	if !byClient {
		c.tempdir = tempdir
	}
	if c.file = r.get("mail_file"); c.file == "" {
		if tempdir == "" {
			return errors.New("no mail_file, and no tempdir")
		}
		c.file = tempdir + "/email.txt"
	}
	return nil
}

// choice reports whether an attribute has its other value instead of its usual
// one.
func (r *ampdpRequest) choice(name, usual, other string) (bool, error) {
	switch v := strings.ToLower(r.get(name)); v {
	case "", usual:
		return false, nil
	case other:
		return true, nil
	}
	return false, fmt.Errorf("attribute %s is neither %q nor %q", name, usual, other)
}

// ampdpAddress reads an address, in brackets or without.
func ampdpAddress(s string) (mail.Address, error) {
	if s == "" {
		return "", nil
	}
	a, rest, ok := parsePath(s)
	if !ok || rest != "" || control(s) {
		return "", fmt.Errorf("bad address %q", cut(s))
	}
	return a, nil
}

// client returns who the client is. A name that was not verified comes as
// "[address]" or "unknown", and is none. What makes no sense is not known: a
// stranger chooses some of it.
func (r *ampdpRequest) client() mail.Client {
	c := mail.Client{Helo: shown(r.get("helo_name")), Ident: shown(r.get("queue_id"))}
	if n := r.get("client_name"); !strings.HasPrefix(n, "[") && !strings.EqualFold(n, "unknown") {
		c.Name = shown(n)
	}
	// as the milter API gives addresses, or in the brackets of a literal
	addr := strings.TrimSuffix(strings.TrimPrefix(r.get("client_address"), "["), "]")
	for _, a := range [][2]string{
		{"ADDR", addr}, {"PORT", r.get("client_port")}, {"PROTO", r.get("protocol_name")}, {"SOURCE", r.get("client_source")},
	} {
		if !setXforward(&c, a[0], a[1]) {
			setXforward(&c, a[0], "")
		}
	}
	return c
}

// shown bounds a foreign value and makes it printable.
func shown(s string) string {
	if len(s) > maxXforward {
		return ""
	}
	return printable(s)
}

// banks returns the banks that a request names, those that it may name and the
// others.
func (r *ampdpRequest) banks(allowed []string) (named, ignored []string) {
	for _, list := range r.attrs["policy_bank"] {
		for _, name := range strings.Split(list, ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "" || slices.Contains(named, name):
			case slices.Contains(allowed, name):
				named = append(named, name)
			case len(ignored) < maxBankValues:
				ignored = append(ignored, cut(name))
			}
		}
	}
	return named, ignored
}

// mangled reports whether a client has lost what an address was:
// amavisd-milter sends %ff for every octet that is not ASCII.
func mangled(address string) bool { return !utf8.ValidString(address) }

// asMangled returns s as amavisd-milter would send it.
func asMangled(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= 0x80 {
			b[i] = 0xff
		}
	}
	return string(b)
}
