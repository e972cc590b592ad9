package check

import (
	"regexp"
	"slices"

	"postern/filter/mail"
)

// plainID is a message id that all programs read in the same way.
var plainID = regexp.MustCompile(`^<[!-;=?-~]{1,500}>$`)

// sameMessage says whether an answer that names these message ids is about the
// message with that header. One that names none is; so is one about a message
// whose id is not a plain one, since programs differ about those.
func sameMessage(asked mail.Header, named []string) error {
	ids := asked.All("Message-ID")
	if len(ids) != 1 || !plainID.MatchString(ids[0]) || len(named) == 0 || slices.Contains(named, ids[0]) {
		return nil
	}
	return fail(FailedOtherMail, "the answer is about the message %q", clip([]byte(named[0])))
}
