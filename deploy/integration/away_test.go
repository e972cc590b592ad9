//go:build integration

package integration

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// outage ends both engines with no chance to say goodbye, and starts them again.
type outage struct {
	mu    sync.Mutex // held by who changes something
	s     *site
	spamd *spamd
	there bool
	count int
}

// begin ends the engines, if they are there.
func (o *outage) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.there {
		return
	}
	o.there = false
	o.count++
	_ = o.s.clamd.Process.Signal(syscall.SIGKILL)
	_ = o.s.clamd.Wait()
	o.spamd.stop()
}

// end starts the engines, if they are not there.
func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.there {
		o.there = true
		o.s.startClamd()
		o.spamd.start()
	}
}

// TestEnginesAway: 1,000 mails while clamd and spamd are killed and come back ten
// times. None is lost, none comes twice, none is passed on that both have not
// seen, and no virus passes.
func TestEnginesAway(t *testing.T) {
	const mails, senders, outages = 1000, 4, 10
	spamd := startSpamd(t)
	s := newSiteWith(t, "spam: {tag_level: -999, on_error: tempfail}", addition{engines: fmt.Sprintf("  spamassassin: {address: \"tcp:%s\"}\n", spamd.address)})
	o := &outage{s: s, spamd: spamd, there: true}
	var done, waited atomic.Int32
	t.Run("senders", func(t *testing.T) {
		for sender := range senders {
			t.Run(fmt.Sprint(sender), func(t *testing.T) {
				t.Parallel()
				for n := sender; n < mails; n += senders {
					sendUntilTaken(t, s.gate, n, func(tries int) {
						if waited.Add(1); tries >= 2 {
							o.end()
						}
					})
					if k := done.Add(1); int(k)%(mails/outages) == mails/outages/2 {
						o.begin()
					}
				}
			})
		}
	})
	s.settle()
	if o.count != outages || waited.Load() < outages {
		t.Errorf("%d outages, %d mails had to wait", o.count, waited.Load())
	}
	seen := map[string]int{}
	for _, d := range s.mailboxes.deliveries() {
		seen[d.header("Subject")]++
		if d.header("X-Virus-Scanned") == "" || d.header("X-Spam-Status") == "" {
			t.Errorf("not seen by both: %s", d.data)
		}
		if strings.Contains(string(d.data), "invoice.com") {
			t.Error("a virus passed")
		}
	}
	for n := range mails {
		want := 1
		if isVirus(n) {
			want = 0
		}
		if got := seen[subject(n)]; got != want {
			t.Errorf("mail %d arrived %d times, want %d", n, got, want)
		}
	}
	t.Logf("%d outages, %d mails had to wait, %d arrived", o.count, waited.Load(), len(s.mailboxes.deliveries()))
}

func subject(n int) string { return fmt.Sprintf("mail %d", n) }

// isVirus says that every tenth mail is one.
func isVirus(n int) bool { return n%10 == 3 }

// sendUntilTaken sends mail n until it is taken, or refused for good if it is a
// virus. later is called after each try that is put off.
func sendUntilTaken(t *testing.T, addr string, n int, later func(tries int)) {
	t.Helper()
	text, want := message(world.from, subject(n), "Are we going to meet tomorrow at ten?"), "250 "
	if isVirus(n) {
		text, want = virus(world.from), "554 5.7.0 "
	}
	for tries := 1; ; tries++ {
		reply := offer(t, addr, world, text)
		switch {
		case strings.HasPrefix(reply, want):
			return
		case !strings.HasPrefix(reply, "451 4."):
			t.Fatalf("mail %d: %s", n, reply)
		}
		later(tries)
	}
}
