package reinject

import (
	"testing"

	"postern/filter/mail"
)

// TestAboutUs: what a next hop that is set up wrongly says, in the words of
// Postfix and others, is no reason to bounce mail; what speaks of the mail is.
func TestAboutUs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at    step
		code  int
		lines string
		us    bool
	}{
		{atMail, 530, "5.7.0 Must issue a STARTTLS command first", true},
		{atMail, 530, "Authentication required", true},
		{atMail, 554, "5.7.1 <x[127.0.0.1]>: Client host rejected: Access denied", true},
		{atMail, 550, "5.7.1 Client does not have permissions to send as this sender", true},
		{atMail, 500, "5.5.2 Error: command not recognized", true},
		{atMail, 501, "5.5.4 Syntax: MAIL FROM:<address>", true},
		{atMail, 503, "5.5.1 Error: send HELO/EHLO first", true},
		{atMail, 550, "5.1.8 <a@x.test>: Sender address rejected: Domain not found", false},
		{atMail, 553, "5.1.7 Bad sender address syntax", false},
		{atMail, 550, "no such sender", false},
		{atMail, 552, "5.3.4 Message size exceeds fixed limit", false},
		{atMail, 552, "too big", false},
		{atRcpt, 554, "5.7.1 <b@y.test>: Relay access denied", true},
		{atRcpt, 550, "5.7.1 Unable to relay", true},
		{atRcpt, 530, "5.7.0 Must issue a STARTTLS command first", true},
		{atRcpt, 503, "5.5.1 Error: need MAIL command", true},
		{atRcpt, 554, "no valid recipients", true},
		{atRcpt, 550, "5.1.1 <b@y.test>: Recipient address rejected: User unknown", false},
		{atRcpt, 550, "No such user here", false},
		{atRcpt, 551, "5.7.1 relaying denied", false},
		{atRcpt, 553, "sorry, that mailbox name is not allowed", false},
		{atRcpt, 552, "5.2.2 Mailbox full", false},
		{atRcpt, 554, "5.2.1 Mailbox disabled", false},
		{atData, 554, "5.5.1 Error: no valid recipients", true},
		{atData, 550, "5.7.1 no", true},
		{atData, 552, "5.3.4 too big", false},
		{atDot, 554, "5.7.1 Spam", false},
		{atDot, 550, "no", false},
		{atRcpt, 450, "4.7.1 greylisted", false},
	} {
		r := reply{code: tt.code, lines: tt.lines}
		if got := r.aboutUs(tt.at); got != tt.us {
			t.Errorf("at %d, %d %s: %v", tt.at, tt.code, tt.lines, got)
		}
		if r.us = tt.us; tt.us {
			if rc := r.receipt("hop"); rc.Disposal != mail.Deferred || rc.Reply.Class() != 4 {
				t.Errorf("%d %s: %+v", tt.code, tt.lines, rc)
			}
		}
	}
}
