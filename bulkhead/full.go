package bulkhead

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFull is matched by every [FullError].
var ErrFull = errors.New("bulkhead: full")

// Reason is why a call was refused. It is made for people and for labels.
type Reason string

// The reasons.
const (
	QueueFull     Reason = "full"            // no slot, and no place to wait for one
	WaitedTooLong Reason = "waited too long" // no slot within MaxWait
	TooHeavy      Reason = "too heavy"       // a weight that is not from 1 to MaxConcurrent
)

const reasons = 3

func index(r Reason) int {
	switch r {
	case QueueFull:
		return 0
	case WaitedTooLong:
		return 1
	}
	return 2
}

// FullError is the error of a call that was refused, and not made. It matches
// [ErrFull].
type FullError struct {
	Name   string // Config.Name
	Reason Reason // one of the three

	at    int64
	after time.Duration
}

// Error names the bulkhead and the reason.
func (e *FullError) Error() string {
	return "bulkhead" + quoted(e.Name) + ": " + string(e.Reason)
}

// Is reports whether target is [ErrFull].
func (e *FullError) Is(target error) bool { return target == ErrFull }

// NotAttempted returns true: the call was not made.
func (e *FullError) NotAttempted() bool { return true }

// RetryAfter returns how long the calls that wait will take to get their slots, by the
// rate at which calls have ended since others were refused; or, of a [Queue], how long its
// workers take to make room for one item. It is at most a minute, and 0 if it is not known
// yet.
func (e *FullError) RetryAfter() time.Duration { return e.after }

// Retryable reports false for a call that is too heavy: it will be as heavy next time.
func (e *FullError) Retryable() bool { return e.Reason != TooHeavy }

// refuse counts a refusal and returns its error.
func (b *Bulkhead) refuse(why Reason) *FullError {
	b.refused[index(why)].Add(1)
	if why == TooHeavy { // whether the slots are in use or not: it says nothing of how fast
		return b.drained.tooHeavy(b)
	}
	full := b.drained.full(b, b.clock())
	if why == QueueFull {
		return full
	}
	return &FullError{Name: b.name, Reason: why, after: full.after}
}

// fresh is for how long refusals share an error: a call that is refused should not
// have the garbage collector to pay.
const fresh = int64(10 * time.Millisecond)

// drain keeps the error of refusals, with an estimate made anew from time to time.
type drain struct {
	last  atomic.Pointer[FullError]
	heavy atomic.Pointer[FullError] // that of calls which are too heavy is always the same
	mu    sync.Mutex                // held by the one who makes a new last
	rate  drainRate
}

func (d *drain) tooHeavy(b *Bulkhead) *FullError {
	e := d.heavy.Load()
	if e == nil {
		e = &FullError{Name: b.name, Reason: TooHeavy}
		d.heavy.Store(e)
	}
	return e
}

func (d *drain) full(b *Bulkhead, now int64) *FullError {
	e := d.last.Load()
	if e != nil && now-e.at < fresh {
		return e
	}
	if !d.mu.TryLock() {
		if e == nil || now-e.at > forget { // it is about another time
			return &FullError{Name: b.name, Reason: QueueFull}
		}
		return e
	}
	defer d.mu.Unlock()
	d.rate.refused(now, b.word.Load()/oneCall)
	after := d.rate.after(max(0, b.waiters.Load()) + 1)
	e = &FullError{Name: b.name, Reason: QueueFull, at: now, after: after}
	d.last.Store(e)
	return e
}

// drainRate estimates how fast calls end while others are refused. At other times the
// slots are not all in use, and how often calls end then says how often they begin. So it
// is asked only at refusals, and costs calls that go well nothing.
type drainRate struct {
	started  bool
	since    int64  // of the current measurement
	calls    uint64 // that had ended by then
	last     int64  // refusal
	interval int64  // between the ends of two calls; 0: not known
	stalled  int64  // for how long none has ended
}

const (
	spell  = int64(100 * time.Millisecond) // a measurement is at least so long
	forget = int64(time.Second)            // without a refusal, what was known is forgotten
	atMost = int64(time.Minute)
)

// refused notes a refusal, and how many calls had ended by then.
func (d *drainRate) refused(now int64, calls uint64) {
	if !d.started || now-d.last > forget {
		*d = drainRate{started: true, since: now, calls: calls}
	}
	d.last = now
	const wrap = 1<<64/oneCall - 1
	n, elapsed := int64((calls-d.calls)&wrap), now-d.since
	switch {
	case elapsed < spell:
		d.stalled = 0
	case n == 0:
		d.stalled = elapsed
	default:
		*d = drainRate{true, now, calls, now, elapsed / n, 0}
	}
}

// after returns how long n calls will take to end. When none has ended for longer than
// it took one before, what was before says nothing any more.
func (d *drainRate) after(n int64) time.Duration {
	interval := max(d.interval, d.stalled)
	if interval > atMost/n {
		return time.Duration(atMost)
	}
	return time.Duration(interval * n)
}

// Stats is what a bulkhead knows of itself at one moment.
type Stats struct {
	Name          string // Config.Name
	MaxConcurrent int    // as last resized
	InUse         int    // the weight of the calls under way; above MaxConcurrent after a Resize
	Waiting       int    // calls that wait

	// OldestWait is for how long the first in the queue has waited, 0 if none does.
	OldestWait time.Duration

	// LongestWait is the longest that a call has waited since New, whatever came of it.
	LongestWait time.Duration

	// The others only grow.
	RefusedFull   uint64 // no slot, and no place to wait for one
	RefusedWait   uint64 // no slot within MaxWait
	RefusedWeight uint64 // a weight that is not from 1 to MaxConcurrent
	GaveUp        uint64 // calls whose context had ended before they had a slot
}

// Stats returns a snapshot. It takes the lock that those who wait take.
func (b *Bulkhead) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{
		Name:          b.name,
		MaxConcurrent: int(b.max.Load()),
		InUse:         int(b.word.Load() & inUse),
		Waiting:       b.queue.Len(),
		LongestWait:   b.longest,
		RefusedFull:   b.refused[index(QueueFull)].Load(),
		RefusedWait:   b.refused[index(WaitedTooLong)].Load(),
		RefusedWeight: b.refused[index(TooHeavy)].Load(),
		GaveUp:        b.gaveUp.Load(),
	}
	if e := b.queue.Front(); e != nil {
		s.OldestWait = time.Duration(b.clock() - waiterIn(e).since)
	}
	return s
}
