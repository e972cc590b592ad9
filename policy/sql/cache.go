package sql

// What the server has said, bounded by the number of its rows.

import (
	"container/list"
	"time"

	"postern/policy"
)

// answer is all that the server said about one recipient. Nobody writes to it.
type answer struct {
	overlays []*policy.Overlay
	at       time.Time
	weight   int // rows, and one for itself
}

// cache keeps answers, and forgets those that were not asked for the longest. It
// does not guard itself.
type cache struct {
	most, weight int
	byAddress    map[string]*list.Element
	order        *list.List // of kept, the last asked for first
}

type kept struct {
	address string
	*answer
}

func newCache(most int) *cache {
	return &cache{most: most, byAddress: map[string]*list.Element{}, order: list.New()}
}

// get returns the answer about an address, nil if there is none.
func (c *cache) get(address string) *answer {
	e := c.byAddress[address]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(kept).answer
}

// put keeps an answer in the place of an earlier one.
func (c *cache) put(address string, a *answer) {
	if e := c.byAddress[address]; e != nil {
		c.drop(e)
	}
	c.byAddress[address] = c.order.PushFront(kept{address, a})
	c.weight += a.weight
	for c.weight > c.most && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	k := c.order.Remove(e).(kept)
	delete(c.byAddress, k.address)
	c.weight -= k.weight
}
