package notify

import (
	"testing"
	"time"

	"postern/filter/mail"
)

// What is not sound does not get into the fields for programs.
func TestNDRStatusIsSound(t *testing.T) {
	t.Parallel()
	r := virusReport()
	r.Tx.Received = time.Time{}
	r.Tx.Rcpts[0].ORCPT = "rf c822;a@b.example"
	r.Outcomes[0].Receipt = mail.Receipt{Disposal: mail.Refused, NextHop: "lmtp:unix:/run/x", Reply: mail.Reply{Code: 550, Text: "No"}}
	r.addRcpt("b@x.example", mail.Receipt{Disposal: mail.Refused, Reply: mail.Reply{Code: 452, Enhanced: [3]int{5, 1, 1}, Text: "No"}})
	r.Tx.Rcpts[1].ORCPT = "x400;/G=Jo+2B"
	r.addRcpt("c@x.example", mail.Receipt{Disposal: mail.Refused, Reply: mail.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Yes"}})
	r.Tx.Rcpts[2].ORCPT = ";"
	r.addRcpt("d@x.example", mail.Receipt{Disposal: mail.Relayed, Reply: mail.Reply{Code: 550, Enhanced: [3]int{5, 1000, -1}}})
	_, p := ndr(t, r, 0, 1, 2, 3)
	b := blocks(t, p.parts[1])
	if b[0].Has("Arrival-Date") {
		t.Errorf("a time that nobody knows: %s", b[0].Get("Arrival-Date"))
	}
	for i, want := range [][4]string{
		{"", "failed", "5.0.0", "smtp; 550 5.0.0 No"},
		{"x400;/G=Jo+", "failed", "4.0.0", "smtp; 452 4.0.0 No"},
		{"", "failed", "5.0.0", "smtp; 554 5.0.0 Not delivered"},
		{"", "relayed", "2.0.0", "smtp; 250 2.0.0 Ok"},
	} {
		h := b[i+1]
		if got := [4]string{h.Get("Original-Recipient"), h.Get("Action"), h.Get("Status"), h.Get("Diagnostic-Code")}; got != want {
			t.Errorf("block %d: %q, want %q", i+1, got, want)
		}
	}
}
