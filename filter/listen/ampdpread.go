package listen

// What a check request says.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"postern/filter/listen/ampdp"
	"postern/filter/mail"
)

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

// newAMPDPCheck reads a check request. allowed are the banks that it may name.
func newAMPDPCheck(r *ampdp.Request, listener string, allowed []string) (*ampdpCheck, error) {
	if r.Wrong != nil {
		return nil, r.Wrong
	}
	if r.All("sender") == nil || r.All("recipient") == nil {
		return nil, errors.New("no sender, or no recipient")
	}
	c := &ampdpCheck{sender: r.Get("sender"), rcpts: r.All("recipient"), helo: r.Get("helo_name")}
	c.tx = &mail.Transaction{Received: time.Now(), Input: mail.InputAMPDP, Listener: listener, Protocol: "ESMTP", Client: ampdpClient(r)}
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
	c.tx.Banks, c.ignored = ampdpBanks(r, allowed)
	if c.forward, err = r.Choice("delivery_care_of", "client", "server"); err != nil {
		return nil, err
	}
	return c, c.setFiles(r)
}

// setFiles sets where the message is, and what is to be removed.
func (c *ampdpCheck) setFiles(r *ampdp.Request) error {
	tempdir := r.Get("tempdir")
	byClient, err := r.Choice("tempdir_removed_by", "server", "client")
	if err != nil {
		return err
	}
	if !byClient {
		c.tempdir = tempdir
	}
	if c.file = r.Get("mail_file"); c.file == "" {
		if tempdir == "" {
			return errors.New("no mail_file, and no tempdir")
		}
		c.file = tempdir + "/email.txt"
	}
	return nil
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

// ampdpClient returns who the client is. A name that was not verified comes as
// "[address]" or "unknown", and is none. What makes no sense is not known: a
// stranger chooses some of it.
func ampdpClient(r *ampdp.Request) mail.Client {
	c := mail.Client{Helo: shown(r.Get("helo_name")), Ident: shown(r.Get("queue_id"))}
	if n := r.Get("client_name"); !strings.HasPrefix(n, "[") && !strings.EqualFold(n, "unknown") {
		c.Name = shown(n)
	}
	// as the milter API gives addresses, or in the brackets of a literal
	addr := strings.TrimSuffix(strings.TrimPrefix(r.Get("client_address"), "["), "]")
	for _, a := range [][2]string{
		{"ADDR", addr}, {"PORT", r.Get("client_port")}, {"PROTO", r.Get("protocol_name")}, {"SOURCE", r.Get("client_source")},
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

// ampdpBanks returns the banks that a request names, those that it may name and the
// others.
func ampdpBanks(r *ampdp.Request, allowed []string) (named, ignored []string) {
	for _, list := range r.All("policy_bank") {
		for _, name := range strings.Split(list, ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "" || slices.Contains(named, name):
			case slices.Contains(allowed, name):
				named = append(named, name)
			case len(ignored) < ampdp.MaxBankValues:
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
