package mail

import (
	"fmt"

	"github.com/emersion/go-smtp"
)

// Reply is an SMTP reply (RFC 5321 section 4.2) with its enhanced status code
// (RFC 3463). Text is one line; it never holds an inner error.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

// maxReplyText keeps a reply line below the 512 octets of RFC 5321 section
// 4.5.3.1.5, with room for the code and the recipient that LMTP puts first.
const maxReplyText = 450

// NewReply builds a reply. The class of the enhanced code is taken from code;
// subject and detail are its second and third numbers. Text is made fit for
// one reply line: US-ASCII, whatever was agreed, with \x{202e} for other
// characters and "?" for control characters, and cut at 450 octets.
func NewReply(code, subject, detail int, format string, args ...any) Reply {
	return Reply{
		Code:     code,
		Enhanced: [3]int{code / 100, subject, detail},
		Text:     asciiOnly(fmt.Sprintf(format, args...), maxReplyText),
	}
}

// Class returns the first digit of the code: 2, 4 or 5.
func (r Reply) Class() int { return r.Code / 100 }

// IsZero reports whether no reply was set.
func (r Reply) IsZero() bool { return r.Code == 0 }

// String returns the reply as it goes over the wire: "554 5.7.0 Reject, ...".
func (r Reply) String() string {
	return fmt.Sprintf("%d %s %s", r.Code, r.Status(), r.Text)
}

// Status returns the enhanced status code: "5.7.0".
func (r Reply) Status() string {
	return fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
}

// SMTP returns the form that go-smtp sends. go-smtp looks at the bare type, so
// the value must not be wrapped: a wrapped one becomes a permanent 554.
// A zero or impossible reply becomes 451, never a success.
func (r Reply) SMTP() *smtp.SMTPError {
	if c := r.Class(); c != 2 && c != 4 && c != 5 {
		r = NewReply(451, 3, 0, "Error in processing")
	}
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Enhanced), Message: r.Text}
}
