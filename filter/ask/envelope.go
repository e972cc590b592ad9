package ask

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
	"postern/policy"
)

// Envelope is a mail as it would come in by a listener, whose protocol decides
// what can be known of it.
type Envelope struct {
	Listener *policy.Listener
	Client   netip.Addr // invalid: unknown
	Login    string     // with which the client has authenticated itself
	Daemon   string     // service of the MTA that took the mail
	Local    bool       // the mail has no connection, see [mail.InputLocal]
	Banks    []string   // that the request names
	From     mail.Address
	To       []mail.Address
}

// Transaction returns it as the listener would hand it over, with a message
// whose author is the sender. An error says what cannot come in that way.
func (e *Envelope) Transaction(cfg *policy.Config) (*mail.Transaction, error) {
	l := e.Listener
	for _, b := range e.Banks {
		if _, err := Bank(cfg, b); err != nil {
			return nil, err
		}
		switch {
		case l.Protocol != mail.InputAMPDP:
			return nil, fmt.Errorf("nobody names banks to listener %s, which is %s: only requests of am.pdp do", l.Address, l.Protocol)
		case !slices.Contains(l.AllowBanks, b):
			return nil, fmt.Errorf("listener %s does not let a request name %s (%s); put it into allow_banks", l.Address, b, l.Origin)
		}
	}
	for _, x := range []struct {
		given bool
		what  string
	}{{e.Login != "", "logins"}, {e.Daemon != "", "the name of a daemon"}, {e.Local, "mail without a connection"}} {
		if x.given && l.Protocol != mail.InputMilter {
			return nil, fmt.Errorf("listener %s, which is %s, does not hear of %s: only a milter does", l.Address, l.Protocol, x.what)
		}
	}
	if e.Local && (e.Client.IsValid() || e.Login != "") {
		return nil, fmt.Errorf("mail without a connection has no client and no login")
	}
	return e.transaction(), nil
}

// transaction is Transaction without the errors: what the listener cannot know
// is left out.
func (e *Envelope) transaction() *mail.Transaction {
	l := e.Listener
	tx := &mail.Transaction{
		ID: "dry-run", Received: time.Now(), Input: l.Protocol, Protocol: "ESMTP", Helo: "localhost",
		Listener: l.Address, Client: mail.Client{Addr: e.Client}, From: e.From,
		Message: mail.NewMessage([]byte("From: " + string(e.From) + "\r\n\r\n")),
	}
	switch l.Protocol {
	case mail.InputLMTP:
		tx.Protocol = "LMTP"
	case mail.InputMilter:
		tx.Client.Login, tx.Daemon = e.Login, e.Daemon
	case mail.InputAMPDP:
		tx.Banks = e.Banks
	}
	switch {
	case !e.Local:
	case l.Protocol != mail.InputMilter:
		tx.Client.Addr = netip.Addr{}
	default:
		tx.Input, tx.Client = mail.InputLocal, mail.Client{Addr: netip.MustParseAddr("127.0.0.1")}
		if l.LocalBank != "" {
			tx.Banks = []string{l.LocalBank}
		}
	}
	if a, err := netip.ParseAddrPort(l.Address); err == nil {
		tx.LocalAddr = a
	}
	for _, r := range e.To {
		tx.Rcpts = append(tx.Rcpts, mail.Recipient{Address: r})
	}
	return tx
}

// Listener finds a listener by its address; empty means the first. The error for
// one that is missing says which there are.
func Listener(cfg *policy.Config, address string) (*policy.Listener, error) {
	if address == "" {
		return &cfg.Listeners[0], nil // the configuration has one at least
	}
	if l := cfg.Listener(address); l != nil {
		return l, nil
	}
	var known []string
	for _, l := range cfg.Listeners {
		known = append(known, l.Address)
	}
	return nil, fmt.Errorf("there is no listener %q; there are %s", address, strings.Join(known, ", "))
}
