package mail

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// TraceKey names one recipient of one message of a feeding queue: whatever else
// differs, the same key is the same mail for him.
type TraceKey [16]byte

// KeyOf makes the key of a recipient. ident is the queue id at the feeding MTA,
// which alone is not enough, since short ones are used again. digest is that of
// the octets of the message. The original recipient counts: Postfix sends a message
// twice to who stands behind two aliases.
func KeyOf(ident string, digest [32]byte, sender Address, rcpt *Recipient) TraceKey {
	h := sha256.New()
	for _, s := range []string{ident, string(digest[:]), string(sender), string(rcpt.Address), string(rcpt.ORCPT)} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return TraceKey(h.Sum(nil)[:16])
}

// Trace is what was done for a recipient, in case the message comes again
// although it was: the answer never arrived.
type Trace struct {
	// Disposal is Relayed, Bounced or Quarantined. NotHandled: it was begun, and
	// the next hop may have it. Deferred: it was begun, and did not succeed.
	Disposal Disposal
	Time     time.Time
	Ident    string // queue id at the feeding MTA
	LogID    string
	Note     string // the answer of the next hop, or where a copy is kept
}
