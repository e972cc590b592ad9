// Package mail is the vocabulary of Postern: the words that every other
// package uses for a message on its way.
//
// Start with [Transaction], what a client handed us, and [Message], its bytes.
// A check reports [Finding] values, the policy turns them into a verdict, and
// every change to a message is an [Edit] that is applied while an [Outgoing]
// is written, so a message without edits leaves byte for byte as it came.
// A [Transport] answers with one [Receipt] per recipient; final replies are
// computed from receipts only.
//
// The package holds no policy, opens no connection and logs nothing.
package mail

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/emersion/go-smtp"
)

// Input names the way by which a message came in. The value is also the word
// used for listeners in the configuration.
type Input string

// The inputs.
const (
	InputLMTP   Input = "lmtp"
	InputSMTP   Input = "smtp"
	InputMilter Input = "milter"
	InputAMPDP  Input = "am.pdp"
	InputProxy  Input = "smtp-proxy" // smtpd_proxy_filter
	// InputLocal is mail without a connection that a milter sees: that of
	// sendmail(1) and reports of Postfix' own. It is no protocol of a listener.
	InputLocal Input = "local"
)

// OneReply reports whether the client takes one reply for all recipients
// instead of one for each.
func (in Input) OneReply() bool { return in != InputLMTP }

// AfterQueue reports whether the client is a mail queue: it has already told
// the sender that the message was accepted, and turns a 5xx of ours into a
// non-delivery report of its own.
func (in Input) AfterQueue() bool {
	return in == InputLMTP || in == InputSMTP || in == InputLocal
}

// Client is the SMTP client that brought the message to our mail system, as
// told by XFORWARD, the milter, AM.PDP or the PROXY protocol. It is never the
// peer of the local connection. Unknown values are empty.
type Client struct {
	Name   string     `json:"name,omitempty"`   // XFORWARD NAME, verified host name
	Addr   netip.Addr `json:"addr,omitzero"`    // XFORWARD ADDR, invalid when unknown
	Port   uint16     `json:"port,omitempty"`   // XFORWARD PORT, 0 when unknown
	Proto  string     `json:"proto,omitempty"`  // XFORWARD PROTO, SMTP or ESMTP
	Helo   string     `json:"helo,omitempty"`   // XFORWARD HELO
	Ident  string     `json:"ident,omitempty"`  // XFORWARD IDENT, the queue id of the feeding MTA
	Source string     `json:"source,omitempty"` // XFORWARD SOURCE, LOCAL or REMOTE

	Login    string `json:"login,omitempty"`     // name of a client that has authenticated itself
	AuthType string `json:"auth_type,omitempty"` // and the mechanism, for example PLAIN
	TLS      string `json:"tls,omitempty"`       // version, for example TLSv1.3, empty for plain text
}

// Recipient is one RCPT of the envelope with its DSN parameters (RFC 3461).
type Recipient struct {
	Address Address
	Opts    smtp.RcptOptions // without the original recipient
	ORCPT   ORCPT

	// Was is the address that the client named, where Address is another; else
	// it is empty.
	Was Address
}

// Named returns the address that the client named.
func (r *Recipient) Named() Address { return cmp.Or(r.Was, r.Address) }

// Extended returns r with an extension behind the user name, see
// [Address.WithExtension]. What the client named is the original recipient.
func (r Recipient) Extended(delimiters, extension string) Recipient {
	r.Was, r.Address = r.Address, r.Address.WithExtension(delimiters, extension)
	if r.ORCPT == "" {
		r.ORCPT = OriginalOf(r.Was)
	}
	return r
}

// Transaction is one message in our hands, from MAIL to the final reply.
// It is owned by one goroutine; only Message is safe to share with readers.
type Transaction struct {
	ID       string // log id, for example "08643-02-3"
	MailID   string // 12 characters, for Received, notices and quarantine
	SecretID string // proves the right to release what is kept under MailID
	Received time.Time

	Input     Input
	Protocol  string         // word for "with" in Received: LMTP, ESMTP, UTF8LMTP, ...
	Listener  string         // as configured, for example "127.0.0.1:10023"
	LocalAddr netip.AddrPort // invalid on Unix sockets
	PeerAddr  netip.AddrPort // the feeding MTA, invalid on Unix sockets
	Helo      string         // what the feeding MTA said in LHLO or EHLO

	Client   Client
	Daemon   string   // name of the service that took the mail (milter {daemon_name})
	Banks    []string // banks named by the request (AM.PDP policy_bank)
	From     Address
	FromOpts smtp.MailOptions
	Rcpts    []Recipient
	Message  *Message
	Size     int64 // octets that came; Message has fewer if it could not be taken

	// Back is the way back to a client that still has the message (milter,
	// AM.PDP): it takes what passes as edits of the message in its hands. It
	// can carry one [Copy]. Nil: what passes goes to a next hop.
	Back Transport
}

// Copy is what recipients must share to travel in one transaction. Its message
// need not be the one that came in.
type Copy struct {
	NextHop string // as configured, see [ParseNextHop]
	Message *Message
	Edits   []Edit
	Sign    bool // sign it, over the edits, if there is a key for its author
}

// Equal reports whether c and d are the same mail to the same next hop.
func (c *Copy) Equal(d *Copy) bool {
	return c.NextHop == d.NextHop && c.Message == d.Message && c.Sign == d.Sign && slices.Equal(c.Edits, d.Edits)
}

// Kind says what an [Outgoing] is.
type Kind uint8

// The kinds.
const (
	KindMessage Kind = iota // a copy of the message
	KindReport              // a report to its sender (NDR, or "relayed")
	KindNotice              // a notice to administrators
	KindRelease             // a message from the quarantine
	KindCopy                // a message for an address that collects blocked mail
)

// Outgoing is one transaction for a next hop.
type Outgoing struct {
	Kind     Kind
	Client   Client // handed on by XFORWARD; zero for mail of our own
	From     Address
	FromOpts smtp.MailOptions
	Rcpts    []Recipient
	Message  *Message
	Edits    []Edit

	// AllOrNone asks that a temporary refusal of any recipient stops the
	// transaction before DATA, because the feeding MTA takes one reply for
	// all and would send to the accepted ones again.
	AllOrNone bool
	// RefuseAll asks that a refusal for good of any recipient stops the
	// transaction before DATA as well, and is the answer for all, because
	// nobody could tell the sender about one recipient.
	RefuseAll bool

	// BeforeDot is called right before the final dot of a transaction leaves, with
	// those whom it is for, as indexes into Rcpts: from then on they may have the
	// message. Nil: nobody asks.
	BeforeDot func(rcpts []int)
}

// Transport hands messages on. It returns one receipt per recipient, in the
// order of o.Rcpts, whatever happens; ctx bounds the whole transaction.
type Transport interface {
	Send(ctx context.Context, o *Outgoing) []Receipt
}

// Disposal is what became of one recipient.
type Disposal uint8

// The disposals. The zero value is "not handled", which is never answered
// with 2xx.
const (
	NotHandled  Disposal = iota
	Relayed              // the next hop took responsibility (2xx to the final dot)
	Refused              // the next hop or our policy answers 5xx
	Deferred             // 4xx: the feeding MTA keeps the message
	Quarantined          // a copy is on disk, synced, renamed, folder synced
	Bounced              // a non-delivery report was accepted for the sender
	Discarded            // policy says discard, or a report must not be sent; logged
)

// String returns the word of the ledger and of events.
func (d Disposal) String() string {
	return [...]string{"not handled", "relayed", "refused", "deferred", "quarantined", "bounced", "discarded"}[d]
}

// Receipt is the proof of what became of one recipient. Only receipts may be
// turned into the final reply.
type Receipt struct {
	Disposal Disposal
	Reply    Reply  // the next hop's reply, or the reply of our policy
	QueuedAs string // the next hop's queue id, if its reply named one
	NextHop  string // for example "smtp:[127.0.0.1]:10025", empty if none was asked
	InDoubt  bool   // Deferred, but the final dot was sent and no answer came: the next hop may have it

	// NoDSN is set for Relayed when the sender asked for NOTIFY=SUCCESS and
	// the next hop does not announce DSN, so that a "relayed" report is due
	// (RFC 3461 section 5.2.2).
	NoDSN bool
}
