package listen

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"postern/filter/mail"
)

// overrunGrace is how long after its deadline a handler may still answer: a
// receipt that arrives in the last moment must not become a duplicate.
const overrunGrace = 10 * time.Second

// processor runs the handler for all kinds of listeners, under one deadline.
type processor struct {
	handler Handler
	base    context.Context // of all handlers; ends when the listener is closed
	time    time.Duration   // for one message
	grace   time.Duration
	log     *slog.Logger
}

// process returns want replies for a message, whatever the handler does; refusal
// is zero for one that can be taken. late says that the handler still runs; done
// is called when it has returned.
//
// A handler that overruns cannot be stopped, and it may be about to relay the
// message. Then the peer gets 451 and keeps the message: it may come twice,
// but is not lost, and the late result is only logged.
func (p *processor) process(tx *mail.Transaction, want int, refusal mail.Reply, finished func()) (replies []mail.Reply, late bool) {
	ctx, cancel := context.WithTimeout(p.base, p.time)
	done := make(chan []mail.Reply, 1)
	var overran atomic.Bool
	id, message := tx.ID, tx.Message
	go func() {
		defer finished()
		defer cancel()
		defer message.Close()
		replies := p.handle(ctx, tx, want, refusal)
		done <- replies
		if overran.Load() {
			p.log.Error("handler finished after its time, the message may come twice", "id", id, "reply", replies[0].String())
		}
	}()
	timer := time.NewTimer(p.time + p.grace)
	defer timer.Stop()
	select {
	case replies := <-done:
		return replies, false
	case <-timer.C:
		p.log.Error("handler overran its time", "id", id)
	case <-p.base.Done():
	}
	overran.Store(true)
	return repeat(mail.NewReply(451, 4, 2, "Processing took too long"), want), true
}

// handle calls the handler. What it answers wrongly becomes 451.
func (p *processor) handle(ctx context.Context, tx *mail.Transaction, want int, refusal mail.Reply) (replies []mail.Reply) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic in handler", "id", tx.ID, "panic", v, "stack", string(debug.Stack()))
			replies = repeat(inError, want)
		}
	}()
	if refusal.IsZero() {
		replies = p.handler.Process(ctx, tx)
	} else {
		replies = p.handler.Refuse(ctx, tx, refusal)
	}
	if len(replies) != want {
		p.log.Error("handler gave a wrong number of replies", "id", tx.ID, "want", want, "got", len(replies))
		return repeat(inError, want)
	}
	for i, r := range replies {
		if c := r.Class(); c != 2 && c != 4 && c != 5 {
			// mail.Reply.SMTP makes it 451
			p.log.Error("handler gave an impossible reply", "id", tx.ID, "recipient", i, "code", r.Code)
		}
	}
	return replies
}

func repeat(r mail.Reply, n int) []mail.Reply {
	all := make([]mail.Reply, n)
	for i := range all {
		all[i] = r
	}
	return all
}
