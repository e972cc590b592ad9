package mail

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"time"

	"github.com/emersion/go-smtp"
)

// Kept is what the quarantine knows of a message beside its octets: enough to
// hand it on later to those who did not get it, and to say why they did not.
type Kept struct {
	MailID   string    `json:"mail_id"`
	SecretID string    `json:"secret_id"` // who knows it may have the message released
	LogID    string    `json:"log_id"`
	QueueID  string    `json:"queue_id,omitempty"` // of the feeding MTA
	Time     time.Time `json:"time"`               // when it was kept

	Category string `json:"category"` // key of the settings of what it is kept for: virus, banned, spam, ...; other for what no check found
	Reason   string `json:"reason"`   // in one phrase

	Input       Input    `json:"input"`
	Listener    string   `json:"listener"`
	Client      Client   `json:"client,omitzero"`
	Daemon      string   `json:"daemon,omitempty"`
	NamedBanks  []string `json:"named_banks,omitempty"` // by the request
	Banks       []string `json:"policy_banks,omitempty"`
	Originating bool     `json:"originating"`
	Sign        bool     `json:"sign"` // a copy that passed would have been signed

	From       Address        `json:"mail_from"`
	EnvelopeID string         `json:"envid,omitempty"`
	Return     smtp.DSNReturn `json:"ret,omitempty"`
	UTF8       bool           `json:"smtputf8,omitempty"`
	Rcpts      []KeptRcpt     `json:"recipients"`

	Author    string `json:"author,omitempty"` // From of the header
	Subject   string `json:"subject,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Size      int64  `json:"size"`
	Digest    string `json:"sha256"`

	Score  *float64     `json:"score,omitempty"`
	Tests  []string     `json:"tests,omitempty"`
	Checks []CheckEvent `json:"checks,omitempty"`
}

// Waits reports whether somebody did not get the message yet.
func (k *Kept) Waits() bool {
	return slices.ContainsFunc(k.Rcpts, func(r KeptRcpt) bool { return r.Due && (r.Released == nil || !r.Released.Done) })
}

// KeptRcpt is one recipient of a message in the quarantine.
type KeptRcpt struct {
	Address Address          `json:"rcpt_to"`
	ORCPT   ORCPT            `json:"orcpt,omitempty"`
	Notify  []smtp.DSNNotify `json:"notify,omitempty"`

	Due       bool     `json:"due"` // did not get the message, and is who it is kept for
	Direction string   `json:"direction"`
	Category  string   `json:"category"` // word of the log line
	Destiny   string   `json:"destiny"`
	NoReport  string   `json:"no_report,omitempty"` // why the sender is not told
	Reasons   []string `json:"reasons,omitempty"`
	NextHop   string   `json:"next_hop"` // where a released message goes

	Released *Released `json:"released,omitempty"`
}

// Released is a message of the quarantine that was handed on for a recipient.
type Released struct {
	Time  time.Time `json:"time"`
	By    string    `json:"by,omitempty"`
	Done  bool      `json:"done"`            // the next hop took it; false: nobody knows
	Reply string    `json:"reply,omitempty"` // of the next hop
}

// NewMailID returns 12 characters of base64url that begin and end with a letter or
// digit, as in Amavis, so that they are safe in names and logs, and the secret
// that they are made of.
func NewMailID() (id, secret string) {
	var b [9]byte
	for {
		// crypto/rand.Read never fails (it ends the program instead)
		_, _ = rand.Read(b[:])
		if id = mailIDOf(b[:]); alnum(id[0]) && alnum(id[11]) {
			return id, base64.RawURLEncoding.EncodeToString(b[:])
		}
	}
}

// mailIDOf makes a mail id of a secret (Amavis: generate_mail_id). A sum has to be
// short here, not strong: to find another secret for an id is to search 72 bits.
func mailIDOf(secret []byte) string {
	sum := md5.Sum(secret)
	return base64.URLEncoding.EncodeToString(sum[:])[:12]
}

// SecretFits reports whether secret proves the right to release the message with
// that mail id.
func SecretFits(id, secret string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	return err == nil && len(raw) > 0 && mailIDOf(raw) == id
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
