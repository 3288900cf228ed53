package bulkhead

import (
	"context"
	"errors"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// entry is an item with what belongs to it.
type entry[T any] struct {
	item  T
	ctx   context.Context //nolint:containedctx // the caller's: its values outlive the call
	since int64           // when it came
	call  *call           // nil: nobody waits
}

// call is a caller that waits: of Put for room, of Do for the result. The queue's lock is
// held around it, but for what is read after done.
type call struct {
	result bool          // it is one of Do
	done   chan struct{} // closed when there is room, or the result
	at     int           // its place in queue or items
	state  callState
	left   bool // of Do, when a worker has the item
	err    error
}

type callState int

const (
	forRoom  callState = iota // in queue
	forItem                   // in items
	forWork                   // a worker has it
	answered                  // err is known
	dropped                   // as answered; the caller is to tell OnDrop
)

// there reports whether somebody waits for the result.
func (c *call) there() bool { return c != nil && c.result && !c.left }

func (c *call) answer(state callState, err error) {
	c.state, c.err = state, err
	close(c.done)
}

// tooLate is for a context that is done when its caller comes.
func (q *Queue[T]) tooLate(ctx context.Context) error {
	q.mu.Lock()
	q.arrived.add(q.clock())
	q.gaveUp++
	q.mu.Unlock()
	return ended.New(ctx, "bulkhead", true)
}

// victim is an item that had to make room for another.
type victim[T any] struct {
	item T
	why  *FullError // nil: there is none
}

// offer takes e, or returns why not. If e has to wait it returns the call to wait for, and
// if another had to make room, that for the caller to drop.
func (q *Queue[T]) offer(e entry[T]) (wait *call, old victim[T], err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.since = q.clock()
	q.arrived.add(e.since)
	switch {
	case q.draining:
		q.late++
		return nil, old, q.closed
	case q.room(): // so nobody waits for it; see admit
		q.accept(e)
	case q.cfg.Overflow == Block:
		if e.call == nil {
			e.call = &call{done: make(chan struct{})}
		}
		e.call.at = q.queue.push(e)
		return e.call, old, nil
	case q.cfg.Overflow == DropOldest:
		old = q.pushOut(e.since)
		q.accept(e)
	default:
		q.rejected++
		return nil, old, q.refusal(e.since)
	}
	return nil, old, nil
}

// depth returns how many items wait. Those that a worker is starting for do not: whether a
// burst fits must not depend on when the scheduler gets to it.
func (q *Queue[T]) depth() int { return max(0, q.items.len-q.starting) }

// room reports whether an item may come in. Where a worker is not running there is room
// whatever the depth: workers end only when there is nothing left.
func (q *Queue[T]) room() bool {
	return q.running < q.cfg.Workers || q.depth() < q.cfg.Capacity
}

// oldest returns the place of the first item that waits, if one does.
func (q *Queue[T]) oldest() int {
	at := q.items.first()
	for range q.starting {
		at = q.items.next(at)
	}
	return at
}

// accept takes e, for which there is room.
func (q *Queue[T]) accept(e entry[T]) {
	at := q.items.push(e)
	if e.call != nil {
		e.call.at, e.call.state = at, forItem
	}
	// A caller of Put that waited may have left; see placed.
	if e.call == nil || e.call.result {
		q.accepted++
	}
	if q.running < q.cfg.Workers {
		q.running++
		q.start()
	}
}

// start begins a worker that is counted as running. Workers are not kept for
// later: then a queue that nobody drains would never be collected.
func (q *Queue[T]) start() {
	q.starting++
	go q.run()
}

// admit gives room to those who wait for it, before anybody else can see that there is
// some. An item gets its place by whoever makes room, not by its own caller: a newcomer
// might be faster.
func (q *Queue[T]) admit() {
	for q.queue.len > 0 && q.room() {
		e := q.queue.remove(q.queue.first())
		q.accept(e)
		if !e.call.result {
			close(e.call.done)
		}
	}
}

// placed ends the wait of a caller of Put, and reports whether that has an answer. If not,
// its context has ended; an item that has its place by now is taken back.
func (q *Queue[T]) placed(c *call, left bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case c.state == forRoom:
		q.queue.remove(c.at)
	case c.state == forItem && left:
		q.items.remove(c.at)
		q.admit()
	case c.state == forItem:
		q.items.at(c.at).call = nil
		q.accepted++
		return true
	default:
		return true
	}
	q.gaveUp++
	return false
}

// end ends the wait of a caller of Do. A result that is there is returned, also if ctx has
// ended meanwhile: the work is done, and nobody else would hear of it.
func (q *Queue[T]) end(ctx context.Context, c *call, item T) error {
	q.mu.Lock()
	was := c.state
	switch was {
	case forRoom:
		q.queue.remove(c.at)
		q.gaveUp++
	case forItem:
		q.items.remove(c.at)
		q.ends[abandoned]++
		q.admit()
	case forWork:
		c.left = true
	}
	q.mu.Unlock()
	if was == answered {
		return c.err
	}
	err := c.err
	if was != dropped {
		err = ended.New(ctx, "bulkhead", was != forWork)
	}
	if (was == forItem || was == dropped) && q.cfg.OnDrop != nil {
		q.cfg.OnDrop(item, err)
	}
	return err
}

// pushOut takes out the oldest item that waits. If its caller waits for it, it is they who
// drop it: what the hook costs is then theirs, and not that of the one who has pushed.
func (q *Queue[T]) pushOut(now int64) victim[T] {
	e := q.items.remove(q.oldest())
	q.ends[pushedOut]++
	why := q.refusal(now)
	if e.call.there() {
		e.call.answer(dropped, why)
		return victim[T]{}
	}
	return victim[T]{e.item, why}
}

// drop tells OnDrop of an item that was pushed out. If that panics, nobody waits any more
// for the item that has pushed, that of c.
func (q *Queue[T]) drop(old victim[T], c *call, item T) {
	if q.cfg.OnDrop == nil {
		return
	}
	returned := false
	defer func() {
		if !returned && c != nil {
			q.orphan(c, item)
		}
	}()
	q.cfg.OnDrop(old.item, old.why)
	returned = true
}

// orphan is for an item of Do whose caller is gone without having asked what became of it:
// if that is known by now, there is nobody else to tell the hooks.
func (q *Queue[T]) orphan(c *call, item T) {
	q.mu.Lock()
	c.left = true
	state, err := c.state, c.err
	q.mu.Unlock()
	hook := q.cfg.OnError
	if state == dropped || errors.Is(err, ErrDraining) {
		hook = q.cfg.OnDrop
	}
	if err != nil && hook != nil {
		hook(item, err)
	}
}

// refusal returns the error of a full queue. Refusals share it for a while, as those of
// a Bulkhead do. They do not share how its RetryAfter is found: while there are refusals
// the workers are never idle, so how often items are done is how fast they can be.
func (q *Queue[T]) refusal(now int64) *FullError {
	if q.full == nil || now-q.full.at >= fresh {
		q.full = &FullError{Name: q.cfg.Name, Reason: QueueFull, at: now}
		if rate := q.completed.rate(now); rate > 0 {
			q.full.after = time.Duration(min(float64(time.Second)/rate, float64(atMost)))
		}
	}
	return q.full
}

// close begins the end, once.
func (q *Queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.draining {
		return
	}
	q.draining = true
	for q.queue.len > 0 {
		q.late++
		q.queue.remove(q.queue.first()).call.answer(answered, q.closed)
	}
	q.overIfIdle()
}

// overIfIdle ends the wait of Drain when there is nothing left. While there are items there
// are workers.
func (q *Queue[T]) overIfIdle() {
	if q.draining && q.running == 0 {
		close(q.over)
	}
}

// rest takes out what no worker has, unless Drain is over. Items of callers that wait go
// back to these: they hear that nothing was attempted, and may see to it themselves, so
// that what Drain returned as well would be done twice.
func (q *Queue[T]) rest() (left []T, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.over:
		return nil, true
	default:
	}
	for q.items.len > 0 {
		e := q.pop()
		q.ends[givenBack]++
		if e.call.there() {
			e.call.answer(answered, q.closed)
			continue
		}
		left = append(left, e.item)
	}
	return left, false
}
