package observe

import (
	"testing"
	"time"

	"postern/filter/mail"
)

// The signatures that came and those that were made stand where Amavis has
// them. The first line is one of Amavis' own.
func TestSignaturesInTheLine(t *testing.T) {
	t.Parallel()
	score := 0.787
	e := &mail.Event{
		LogID: "13672-01", MailID: "l-lKDmN1sSk1", Banks: []string{"AM.PDP-SOCK"}, ClientIP: "209.85.218.44", OriginIP: "209.85.218.44", QueueID: "620DD13FB6D",
		From: "x@gmail.com", MessageID: "<m@mail.gmail.com>", Size: 2521, Score: &score, Actions: []string{"AcceptedInbound"}, Elapsed: 3700 * time.Millisecond,
		Recipients: []mail.RecipientEvent{{Address: "a@ours", Category: "CLEAN"}},
		Verified:   []mail.Signature{{Domain: "gmail.com", Selector: "20161025"}},
	}
	const head = "(13672-01) Passed CLEAN {AcceptedInbound}, AM.PDP-SOCK [209.85.218.44] [209.85.218.44] <x@gmail.com> -> <a@ours>, Queue-ID: 620DD13FB6D, Message-ID: <m@mail.gmail.com>, mail_id: l-lKDmN1sSk1, Hits: 0.787, size: 2521"
	if got := Lines(e); len(got) != 1 || got[0] != head+", dkim_sd=20161025:gmail.com, 3700 ms" {
		t.Errorf("%q", got)
	}
	e.Verified = append(e.Verified, mail.Signature{Domain: "list.test", Selector: "s"})
	e.Signed = []mail.Signature{{Domain: "ours", Selector: "rsa"}, {Domain: "ours", Selector: "ed"}}
	e.Recipients[0].QueuedAs = "41FFA13F95D"
	if got := Lines(e); got[0] != head+", queued_as: 41FFA13F95D, dkim_sd=20161025:gmail.com,s:list.test, dkim_new=rsa:ours,ed:ours, 3700 ms" {
		t.Errorf("%q", got)
	}
}
