package budget

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoom: no more messages at a time than there is memory for, in the order
// in which they came.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(3 * maxMemory)
		var inside, most atomic.Int64
		var order []int
		var mu sync.Mutex // guards order
		for i := range 10 {
			go func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				c, err := r.Claim(context.Background(), 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(time.Second)
				inside.Add(-1)
				c.Keep(0)
			}()
		}
		time.Sleep(time.Minute)
		if most.Load() != 3 {
			t.Errorf("%d at a time, want 3", most.Load())
		}
		for i, n := range order {
			if i != n {
				t.Fatalf("order %v", order)
			}
		}
		synctest.Wait()
		if r.free != r.size || len(order) != 10 {
			t.Errorf("%d of %d octets are free in the end, %d came in", r.free, r.size, len(order))
		}
	})
}

// TestRoomWait: who waits leaves with its deadline and is in nobody's way.
func TestRoomWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(2 * maxMemory)
		first, err := r.Claim(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		const huge = 1 << 40
		small := make(chan error)
		go func() {
			time.Sleep(time.Second)
			_, err := r.Claim(context.Background(), 0)
			small <- err
		}()
		if _, err := r.Claim(ctx, huge); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a message without room: %v", err)
		}
		if err := <-small; err != nil {
			t.Error(err)
		}
		first.Keep(maxMemory / 2)
		first.Keep(maxMemory)
		if r.free != maxMemory/2 || len(r.queue) != 0 {
			t.Errorf("%d octets free, %d wait", r.free, len(r.queue))
		}
		first.Keep(0)
	})
}

// TestRoomAlone: a message that needs more than there is has it alone.
func TestRoomAlone(t *testing.T) {
	r := NewRoom(1)
	c, err := r.Claim(context.Background(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if r.free != 0 {
		t.Errorf("%d octets free", r.free)
	}
	c.Keep(0)
	var none *Claim
	none.Keep(0)
}

// TestMore: one message at a time has more than its share, another waits for it
// or does without.
func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(3 * maxMemory)
		one, err1 := r.Claim(t.Context(), 0)
		two, err2 := r.Claim(t.Context(), 0)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		limits := DefaultLimits
		limits.More = one.More
		b := New(t.Context(), limits, 0)
		if left := b.MemoryLeft(); !b.Hold(left) || !b.Hold(Extra) || b.Hold(1) {
			t.Errorf("%d octets, and not the others", left)
		}
		start := time.Now()
		limits.More = two.More
		b = New(t.Context(), limits, 0)
		if b.Hold(Extra) || time.Since(start) != limits.Time {
			t.Errorf("two messages have more, after %v", time.Since(start))
		}
		go func() {
			time.Sleep(time.Second)
			one.Keep(0)
		}()
		start = time.Now()
		if b = New(t.Context(), limits, 0); !b.Hold(Extra) || time.Since(start) != time.Second {
			t.Errorf("not given on after %v", time.Since(start))
		}
		two.Keep(0)
		if b = New(t.Context(), DefaultLimits, 0); b.Hold(Extra) {
			t.Error("more than was asked for")
		}
	})
}
